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
   * @throws Malformed when the bytes are no such message; the open blocks are then as they were before.
   */
  append(request: Uint8Array): Outcome;
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
