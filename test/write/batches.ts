/**
 * Batches for the tests of this room: Native blocks of a small table, made by hand, and a queue that lives in
 * memory. The writer's own interfaces are all it needs; ClickHouse is the real one.
 */
import { zstdCompressSync } from 'node:zlib';
import type { Layout, SealedBatch } from '../../src/model/batch.ts';
import { TABLES, type Table } from '../../src/model/signal.ts';
import type { Columns, InsertOptions } from '../../src/write/inserter.ts';
import type { DeadLetterDraft, PartState } from '../../src/model/dead-letter.ts';
import type { BatchSource, DeadLetterSink } from '../../src/write/source.ts';

export const DATABASE = 'written';
export const TABLE: Table = 'otel_logs';
/** Every table of the tests is the same small one. */
export const COLUMNS = Object.fromEntries(
  TABLES.map((table) => [table, [{ name: 'Id' }, { name: 'Body' }]]),
) as unknown as Columns;

/** What every insert of the tests has in common. */
export const INSERT_OPTIONS: InsertOptions = {
  database: DATABASE, tableName: (table) => table, columns: COLUMNS, insertQuorum: 0, insertTimeoutMs: 20_000,
  partitionsPerInsertMax: 10,
};

/** The table that blocks go into; the window makes tokens work on a MergeTree that isn't replicated. */
export function createTable(table: Table = TABLE, more = ''): string {
  return `CREATE TABLE ${DATABASE}.${table} (Id UInt64, Body String) ENGINE = MergeTree ${more} ORDER BY Id
    SETTINGS non_replicated_deduplication_window = 1000`;
}

/** A Native block as it stands in an HTTP body: `Id UInt64, Body String`, or what the second claims to be. */
export function nativeBlock(
  firstId: number, rows: number, body: (id: number) => string, type = 'String', column = 'Body',
): Uint8Array {
  const ids = Buffer.alloc(rows * 8);
  const bodies: Buffer[] = [];
  for (let row = 0; row < rows; row += 1) {
    ids.writeBigUInt64LE(BigInt(firstId + row), row * 8);
    bodies.push(text(body(firstId + row)));
  }
  return Buffer.concat([
    varint(2), varint(rows), text('Id'), text('UInt64'), ids, text(column), text(type), ...bodies,
  ]);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([varint(bytes.length), bytes]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 0x80) return Buffer.from([...bytes, rest]);
    bytes.push((rest & 0x7f) | 0x80);
  }
}

export interface TestBatch {
  readonly batch: SealedBatch;
  readonly fragments: readonly Uint8Array[];
}

let batches = 0;

/** A batch of fragments of `rows` rows each, with ids from 0. */
export function makeBatch(
  { fragments = 4, rows = 100, layout = 'z1' as Layout, body = (id: number) => `row ${id}` } = {},
): TestBatch {
  const bytes = Array.from({ length: fragments }, (_, index) => {
    const block = nativeBlock(index * rows, rows, body);
    return layout === 'z1' ? zstdCompressSync(block) : block;
  });
  return sealed(bytes, fragments * rows, layout);
}

/** A batch of any bytes. */
export function sealed(fragments: readonly Uint8Array[], rows: number, layout: Layout = 'z1'): TestBatch {
  batches += 1;
  const bytes = fragments.reduce((sum, fragment) => sum + fragment.length, 0);
  const id = `test${process.pid}-${batches}`;
  const counts = { rows, bytes, fragments: fragments.length };
  const times = { sealedAtMs: Date.now(), newestAtMs: Date.now() };
  return { batch: { id, shard: 0, table: TABLE, layout, ...counts, ...times }, fragments };
}

/** The bytes of a batch; `before` runs before each fragment is given out and may wait or throw. */
export async function* chunksOf(
  { fragments }: TestBatch, before: (index: number) => Promise<void> | void = () => {},
): AsyncGenerator<Uint8Array, void, undefined> {
  for (const [index, fragment] of fragments.entries()) {
    await before(index);
    yield fragment;
  }
}

/** What the queue offers a writer, with what it was told. */
export class MemorySource implements BatchSource, DeadLetterSink {
  readonly finished: string[] = [];
  /** What was set aside, in order. */
  readonly aside: { readonly id: string; readonly rowsStored: number; readonly letters: readonly DeadLetterDraft[] }[] = [];
  /** By batch and range. */
  readonly notes = new Map<string, Map<string, PartState>>();
  readonly #batches = new Map<string, TestBatch>();
  /** Runs before each fragment is read. */
  before: (index: number) => Promise<void> | void = () => {};

  add(test: TestBatch): SealedBatch {
    this.#batches.set(test.batch.id, test);
    return test.batch;
  }

  async *fragments(batch: SealedBatch): AsyncGenerator<Uint8Array, void, undefined> {
    const test = this.#batches.get(batch.id);
    if (test !== undefined) yield* chunksOf(test, this.before);
  }

  async finish(batch: SealedBatch): Promise<boolean> {
    const was = this.#batches.delete(batch.id);
    if (was) this.finished.push(batch.id);
    return was;
  }

  async fragmentList(batch: SealedBatch): Promise<readonly Uint8Array[]> {
    return this.#batches.get(batch.id)?.fragments ?? [];
  }

  async division(batch: SealedBatch): Promise<ReadonlyMap<string, PartState>> {
    return new Map(this.notes.get(batch.id));
  }

  async note(batch: SealedBatch, range: string, state: PartState): Promise<void> {
    const notes = this.notes.get(batch.id) ?? new Map<string, PartState>();
    this.notes.set(batch.id, notes);
    const before = notes.get(range) ?? state;
    if (before !== state) throw new Error(`${range} of ${batch.id} was ${before} and is ${state}`);
    notes.set(range, state);
  }

  /** The rules of src/queue/drafts.ts, which this room doesn't know. */
  async setAside(
    batch: SealedBatch, rowsStored: number, letters: readonly DeadLetterDraft[],
  ): Promise<'aside' | 'gone'> {
    const rows = letters.reduce((sum, letter) => sum + letter.rows, rowsStored);
    if (rows !== batch.rows) throw new Error(`${rows} rows of ${batch.rows}`);
    for (const { id, rows: count, fragments } of letters) {
      const fits = fragments === undefined ? id === batch.id && letters.length === 1 : id !== batch.id;
      if (!fits || count < 1 || !/^[A-Za-z0-9.-]+$/.test(id)) throw new Error(`a letter ${id} of ${count} rows`);
    }
    if (!this.#batches.delete(batch.id)) return 'gone';
    this.aside.push({ id: batch.id, rowsStored, letters });
    return 'aside';
  }
}
