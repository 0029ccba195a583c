/**
 * The small tables of the chaos tests, of types that the oldest server knows, under the names of the real
 * ones; and their rows, which carry a number each, as blocks.
 */
import type { Block, OpenBlocks } from '../../src/model/block.ts';
import { NOTHING, type Outcome } from '../../src/model/outcome.ts';
import { TABLES, type Table } from '../../src/model/signal.ts';
import { shardOf } from '../../src/topology/route.ts';
import type { Columns } from '../../src/write/inserter.ts';

/** The one that rows are written to. */
export const TABLE: Table = 'otel_logs';
export const COLUMNS = Object.fromEntries(
  TABLES.map((table) => [table, [{ name: 'Id' }, { name: 'TraceId' }]]),
) as unknown as Columns;
/** The last 8 hex digits of the trace id as a number, in words that 18.16 knows. */
export const KEY = 'reinterpretAsUInt32(reverse(unhex(substring(TraceId, 25, 8))))';

/** Every table that rows are written to, under its real name, each with its Distributed face. */
export function migrations(): Record<string, string> {
  const local = (table: string) => `-- @step local instant
CREATE TABLE IF NOT EXISTS {local:${table}} {on_cluster} (Id UInt64, TraceId String)
ENGINE = {engine:MergeTree} ORDER BY Id SETTINGS index_granularity = 8192 {deduplication}
`;
  const face = (table: string) => `-- @step distributed instant
CREATE TABLE IF NOT EXISTS {table:${table}} {on_cluster} AS {local:${table}}
ENGINE = {distributed:${table}:${KEY}}
`;
  return { '0001_small.sql': [...TABLES.map(local), ...TABLES.map(face)].join('\n') };
}

/** Open blocks whose requests are a number: so many rows, each with the next Id. */
export class NumberedBlocks implements OpenBlocks {
  /** The highest Id so far; the first is 1. */
  drawn = 0;
  readonly drawnOf: number[] = [];
  /** By shard. */
  readonly #open = new Map<number, number[]>();
  #rows = 0;
  #weights: readonly number[] = [1];

  get rows(): number {
    return this.#rows;
  }

  get bytes(): number {
    return this.#rows * 41;
  }

  route(weights: readonly number[]): void {
    this.#weights = weights;
  }

  append(request: Uint8Array): Outcome {
    const count = Number(Buffer.from(request).toString());
    const shards = this.#weights.map((weight, shard) => ({ shard, weight, name: '', replicas: [] }));
    for (let row = 0; row < count; row++) {
      this.drawn += 1;
      const shard = shardOf({ cluster: '', shards }, keyOf(this.drawn));
      this.#open.set(shard, [...(this.#open.get(shard) ?? []), this.drawn]);
      this.drawnOf[shard] = (this.drawnOf[shard] ?? 0) + 1;
    }
    this.#rows += count;
    return { ...NOTHING, accepted: count };
  }

  appendWithin(request: Uint8Array): Outcome {
    return this.append(request);
  }

  undo(): void {
    throw new Error('these rows have no limits');
  }

  series(): Uint32Array {
    return new Uint32Array(0);
  }

  close(): readonly Block[] {
    const open = [...this.#open].sort(([one], [other]) => one - other);
    const blocks = open.map(([shard, ids]) => ({
      shard,
      table: TABLE,
      rows: ids.length,
      bytes: encode(ids),
    }));
    this.#open.clear();
    this.#rows = 0;
    return blocks;
  }
}

/** Spread over all 32 bits, and the same in every run. */
function keyOf(id: number): number {
  return Math.imul(id, 0x9e3779b1) >>> 0;
}

const traceIdOf = (id: number) => keyOf(id).toString(16).padStart(32, '0');

/** A Native block, as it stands in an HTTP body. */
function encode(ids: readonly number[]): Buffer {
  const numbers = Buffer.alloc(ids.length * 8);
  for (const [row, id] of ids.entries()) numbers.writeBigUInt64LE(BigInt(id), row * 8);
  const traces = ids.map((id) => text(traceIdOf(id)));
  return Buffer.concat([
    varint(2),
    varint(ids.length),
    text('Id'),
    text('UInt64'),
    numbers,
    text('TraceId'),
    text('String'),
    ...traces,
  ]);
}

/** The Ids in the blocks of a batch. */
export function decode(bytes: Buffer): number[] {
  const ids: number[] = [];
  const head = text('Id').length + text('UInt64').length;
  const between = text('TraceId').length + text('String').length;
  for (let at = 0; at < bytes.length; ) {
    let rows = 0;
    at += 1;
    for (let shift = 0, more = true; more; shift += 7) {
      const byte = bytes.readUInt8(at++);
      rows += (byte & 0x7f) << shift;
      more = byte >= 0x80;
    }
    at += head;
    for (let row = 0; row < rows; row++) ids.push(Number(bytes.readBigUInt64LE(at + row * 8)));
    at += rows * (8 + 33) + between;
  }
  return ids;
}

function text(value: string): Buffer {
  return Buffer.concat([varint(value.length), Buffer.from(value)]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  return Buffer.from([...bytes, rest]);
}
