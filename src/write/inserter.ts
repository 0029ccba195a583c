/**
 * One insert: a sealed batch goes into one table of one server, as the bytes that the gateways made. In: a
 * batch and its bytes. Out: stored, gone, or why not. Nothing is decoded, copied or collected on the way: a
 * chunk is asked of the store when the socket has room for it, so memory is a chunk or two however large the
 * batch.
 */
import { Readable } from 'node:stream';
import type { ClickHouseSettings } from '@clickhouse/client';
import { Fault } from '../base/errors.ts';
import { type ClickHouse, type ServerInfo, bounded } from '../clickhouse/client.ts';
import { quoteName } from '../clickhouse/quote.ts';
import { classify } from '../clickhouse/codes.ts';
import {
  type Quorum,
  type ReplicaCounts,
  insertSettings,
  quorumSettings,
  tokenSetting,
} from '../clickhouse/insert-settings.ts';
import type { Layout, SealedBatch } from '../model/batch.ts';
import type { Table } from '../model/signal.ts';
import { Body } from './body.ts';

/** The columns of a table's blocks, in their order. */
export type Columns = Readonly<Record<Table, readonly { readonly name: string }[]>>;

/** `insertTimeoutMs` is from the first byte to the answer. */
export interface InsertOptions extends Quorum {
  readonly database: string;
  /** Where the rows of a table lie: `<table>_local` on a cluster, else the table itself. */
  readonly tableName: (table: Table) => string;
  readonly columns: Columns;
  readonly partitionsPerInsertMax: number;
}

/** A server, and how many replicas its shard has. */
export interface Target extends ReplicaCounts {
  readonly server: ClickHouse;
  readonly info: ServerInfo;
}

export type InsertResult =
  /** The rows are in the table, now or since an earlier try. */
  | { readonly kind: 'stored' }
  /** The store has no bytes of this batch any more. */
  | { readonly kind: 'gone' }
  /**
   * The server, or the way to it, didn't take the insert. If it was sent to its end it may be stored all the
   * same: answers get lost.
   */
  | { readonly kind: 'refused'; readonly fault: Fault; readonly sent: boolean };

/** How the bytes of a layout are announced. Frames one after another are one valid zstd body. */
const ENCODING_HEADERS: Readonly<Record<Layout, Record<string, string>>> = {
  z1: { 'Content-Encoding': 'zstd' },
  r1: {},
};
/** Held between store and socket, on top of the chunk at hand. */
const BUFFER_BYTES = 64 * 1024;
/** The answer to an insert is empty; of anything else this much is read, for the message. */
const ANSWER_LENGTH_MAX = 4096;

/**
 * Inserts a batch under its id as deduplication token: however often it is tried, its rows are stored once.
 * An insert that is broken off stores nothing, or of a batch that the server cuts into several blocks the
 * first ones; the next try, under the same token, adds the rest.
 * @param chunks the bytes of the batch; each chunk belongs to this call once it is yielded
 * @param stop breaks the insert off; if its last byte was sent already, it may be stored nevertheless
 * @throws only what `chunks` throws, and Fault `batch_incomplete` if they are more or fewer bytes than were
 *   sealed: the insert was broken off then
 */
export async function insertBatch(
  target: Target,
  options: InsertOptions,
  batch: SealedBatch,
  chunks: AsyncIterable<Uint8Array>,
  stop: AbortSignal,
): Promise<InsertResult> {
  const body = new Body(batch, chunks);
  try {
    if (!(await body.begin())) return { kind: 'gone' };
    const rowsWritten = await bounded(target.server, options.insertTimeoutMs, stop, (signal) =>
      send(target, options, batch, body, signal),
    );
    if (rowsWritten === undefined || rowsWritten >= batch.rows) return { kind: 'stored' };
    return { kind: 'refused', fault: rowsMissing(target.server.host, batch, rowsWritten), sent: true };
  } catch (error) {
    // The server's complaint about a body that was broken off here says nothing: the cause does.
    if (body.failure) throw body.failure.error;
    if (error instanceof Fault) return { kind: 'refused', fault: error, sent: body.ended };
    throw error;
  } finally {
    await body.close();
  }
}

/**
 * ClickHouse takes a body whose last zstd frame or block is cut off as if it ended before: without an error,
 * and without those rows. Only the counts tell. What it did write stays; the batch is kept whole, under its
 * token.
 */
function rowsMissing(host: string, batch: SealedBatch, rowsWritten: number): Fault {
  const message = `ClickHouse at ${host} found ${rowsWritten} of the ${batch.rows} rows of batch ${batch.id}`;
  return new Fault('rows_missing', 'never', `${message}: a fragment is cut off`);
}

/** @returns rows written, as the server counts them with those of views; undefined where it doesn't say */
async function send(
  target: Target,
  options: InsertOptions,
  batch: SealedBatch,
  body: Body,
  abort_signal: AbortSignal,
): Promise<number | undefined> {
  const { server, info } = target;
  const values = Readable.from(body.chunks(), { objectMode: false, highWaterMark: BUFFER_BYTES });
  try {
    const settings: ClickHouseSettings = {
      ...insertSettings(info, options.partitionsPerInsertMax),
      ...quorumSettings(info, options, target),
      ...tokenSetting(info, batch.id),
    };
    const { stream, summary } = await server.client.exec({
      query: insertStatement(options, batch.table),
      values,
      http_headers: ENCODING_HEADERS[batch.layout],
      clickhouse_settings: settings,
      abort_signal,
    });
    const answer = await read(stream);
    if (answer !== '') throw classify(new Error(answer), server.host);
    return summary === undefined ? undefined : Number(summary.written_rows);
  } finally {
    // An answer may come before the body has ended, if it is a refusal.
    values.destroy();
  }
}

function insertStatement({ database, tableName, columns }: InsertOptions, table: Table): string {
  const names = columns[table].map((column) => quoteName(column.name)).join(', ');
  return `INSERT INTO ${quoteName(database)}.${quoteName(tableName(table))} (${names}) FORMAT Native`;
}

/** To the end, which must come: a connection lost before it is an error, where draining calls it done. */
async function read(stream: AsyncIterable<Buffer | string>): Promise<string> {
  let text = '';
  for await (const chunk of stream) {
    if (text.length < ANSWER_LENGTH_MAX) text += chunk.toString();
  }
  return text.trim();
}
