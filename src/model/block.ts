/**
 * The open blocks of a signal: where requests are transcoded into, and what is taken out of them for a
 * commit. The interface stands here because the queue closes what the transcoder fills; `app` hands one to
 * the other.
 */
import type { Outcome } from './outcome.ts';
import type { Table } from './signal.ts';

/** One finished ClickHouse Native block. */
export interface Block {
  /** Where its rows belong: a number from 0, 0 where there is one shard. */
  readonly shard: number;
  readonly table: Table;
  readonly rows: number;
  /** A view into the transcoder's memory: valid until the next call of `append` or `close`. */
  readonly bytes: Uint8Array;
}

/** The key under which a resource's attributes say whose it is. */
export const TENANT_ATTRIBUTE = 'sluice.tenant';

/** What no record may exceed; 0: no bound. */
export interface RecordBounds {
  /** Of a record, its resource, its scope; also of an event, a link, an exemplar. */
  readonly attributesMax: number;
  /** Of the text under which an attribute's value or a log's body is stored. */
  readonly valueBytesMax: number;
  /** Of a span. */
  readonly eventsMax: number;
  readonly linksMax: number;
  /**
   * Times, ms since 1970: of a span its start, and its end which is only bounded from above; of a log record
   * the time that is stored; of a data point its time.
   */
  readonly timeMinMs: number;
  readonly timeMaxMs: number;
  /** Whether a value nested too deep counts as exceeding, instead of refusing its record. */
  readonly nesting: boolean;
  /** Whether the time series of data points are wanted (`series`). */
  readonly series: boolean;
}

/** Of a point in `OpenBlocks.series`: hash of the metric's name, low and high half of the series' hash. */
export const WORDS_OF_POINT = 3;

/** Everything is within them. */
export const NO_BOUNDS: RecordBounds = {
  attributesMax: 0,
  valueBytesMax: 0,
  eventsMax: 0,
  linksMax: 0,
  timeMinMs: 0,
  timeMaxMs: 0,
  nesting: false,
  series: false,
};

export interface OpenBlocks {
  /** Rows in the open blocks, all tables. */
  readonly rows: number;
  /** About the size of the blocks that `close` would give, bytes. */
  readonly bytes: number;
  /**
   * Shares the rows of later requests out: row by row to the shard whose interval its sharding key falls
   * into (`shardOf` in topology/route.ts; docs/clusters.md has the keys). One weight is one shard, without
   * any cost; before the first call there is one. Rows in the open blocks stay with their shard.
   */
  route(weights: readonly number[]): void;
  /**
   * Appends every record of one Export<Signal>ServiceRequest in protobuf form. The request is only read
   * during the call.
   * @param tenant stands in the attributes of every resource (TENANT_ATTRIBUTE), behind all others and in the
   *   place of what the request itself says there; empty or not given: they stay as they are
   * @throws Malformed when the bytes are no such message; the open blocks are then as they were before.
   */
  append(request: Uint8Array, tenant?: string): Outcome;
  /**
   * The same, but where a record exceeds a bound nothing is appended, and undefined is the answer. A false
   * alarm is possible: for times up to 5 s within a bound, for resources and scopes without records, for a
   * trace's scope, which isn't stored, and for what a request says of its tenant.
   */
  appendWithin(request: Uint8Array, bounds: RecordBounds, tenant?: string): Outcome | undefined;
  /**
   * Takes back what the last `append` or `appendWithin` added. Once, and only before anything but `rows`,
   * `bytes` and `series` is called.
   */
  undo(): void;
  /**
   * Which time series the data points belong to that the last call appended, if that was `appendWithin` with
   * `series`; empty otherwise. Three numbers for each point, in the order in which they stand in the request,
   * with those that were rejected: the hash of the metric's name, and the low and the high half of that of
   * the series. A view: valid until the next call.
   */
  series(): Uint32Array;
  /** Ends the open blocks, by shard and in the order of TABLES, without empty ones, and begins new ones. */
  close(): readonly Block[];
}

/** A request whose bytes can't be decoded. Not a Fault: no retry will help. */
export class Malformed extends Error {
  /** Where in the (decompressed) request the reader gave up, bytes from its start. */
  readonly byteOffset: number;
  /** What is wrong, without the place. */
  readonly reason: string;
  constructor(reason: string, byteOffset: number) {
    super(`${reason} at byte ${byteOffset}`);
    this.name = 'Malformed';
    this.reason = reason;
    this.byteOffset = byteOffset;
  }
}
