/**
 * What the queue's tests share: stores on a real Redis and one whose answers the test gives, fragments with
 * recognisable bytes, and simple open blocks.
 */
import { Fault } from '../../src/base/errors.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import { type AppendResult, BatchStore, type Items, type RequestMemo } from '../../src/queue/batch-store.ts';
import { DeadLetters } from '../../src/queue/dead-letters.ts';
import { GroupCommit, type GroupCommitOptions, type Placing } from '../../src/queue/commit.ts';
import type { Fragment, SealedBatch } from '../../src/model/batch.ts';
import { type Block, Malformed, type OpenBlocks, type RecordBounds } from '../../src/model/block.ts';
import { NOTHING, type Outcome } from '../../src/model/outcome.ts';
import { type Signal, type Table, TABLES, signalOf } from '../../src/model/signal.ts';
import type { RedisSettings } from '../../src/redis/connection.ts';
import { connected, silent } from '../redis/server.ts';
import { settingsOf, writeSettings } from '../support/settings.ts';

export const NEVER_MS = 1_000_000_000;
export const LIMITS = { rowsMax: 1_000, bytesMax: 1_000_000, ageMsMax: NEVER_MS };
export const WRITE = writeSettings({ insertsInFlightMax: 2, retryMsMin: 5, retryMsMax: 20, sweepMs: 50 });

export async function openStore(
  redis: RedisSettings,
  limits: Partial<typeof LIMITS> = {},
): Promise<BatchStore> {
  const { queue, resend } = settingsOf();
  const batch = { ...LIMITS, ...limits };
  const store = new BatchStore({ redis, batch, queue, resend, logger: silent });
  await connected(store.redis);
  return store;
}

export function fragment(
  rows: number,
  bytes: number | Uint8Array = 10,
  table: Table = 'otel_traces',
  shard = 0,
): Fragment {
  return {
    shard,
    table,
    layout: 'z1',
    rows,
    bytes: typeof bytes === 'number' ? Buffer.alloc(bytes, rows & 0xff) : bytes,
  };
}

/** Makes a dead letter of a whole batch. Resolves with false when it was ended before. */
export async function bury(store: BatchStore, batch: SealedBatch, reason = 'test', message = ''): Promise<boolean> {
  const { deadLetters } = settingsOf();
  const instruments = createInstruments();
  const letters = new DeadLetters({ redis: store.redis, deadLetters, instruments, logger: silent });
  const { id, rows } = batch;
  const why = { reason, message, replica: '', batch: id, range: 'all' };
  return (await letters.setAside(batch, 0, [{ id, rows, fragments: undefined, ...why }])) === 'aside';
}

/** Appends fragments of one signal and shard. */
export function append(store: BatchStore, ...fragments: [Fragment, ...Fragment[]]): Promise<AppendResult> {
  const accepted = fragments.reduce((sum, { rows }) => sum + rows, 0);
  return store.append(fragments[0].shard, fragments, items(signalOf(fragments[0].table), accepted));
}

/** Of an append without requests that would be remembered, before any routing. */
export function items(signal: Signal, accepted: number, requests: readonly RequestMemo[] = []): Items {
  return { signal, accepted, generation: 0, requests };
}

/** What an append answers that has stored its fragments and sealed nothing. */
export const STORED: AppendResult = {
  known: [], forgotten: 0, batches: [], sealed: [], openAgeMsMax: undefined, queueBytes: 0,
};

export async function bytesOf(store: BatchStore, batch: SealedBatch): Promise<Buffer> {
  const views: Uint8Array[] = [];
  for await (const view of store.fragments(batch)) views.push(view);
  return Buffer.concat(views);
}

export function outcome(accepted: number): Outcome {
  return { ...NOTHING, accepted };
}

/**
 * Open blocks whose requests are text: `<table number>:<row>,<row>…`, or `malformed`. A block is its rows,
 * each ended by a line feed, so that every acknowledged row can be found again. The number at the end of a
 * row is its sharding key.
 */
export class TextBlocks implements OpenBlocks {
  /** By `<shard>:<table>`. */
  #rows = new Map<string, string[]>();
  #before = new Map<string, string[]>();
  #weights: readonly number[] = [1];

  get rows(): number {
    return [...this.#rows.values()].reduce((sum, rows) => sum + rows.length, 0);
  }

  get bytes(): number {
    return [...this.#rows.values()].flat().reduce((sum, row) => sum + row.length + 1, 0);
  }

  route(weights: readonly number[]): void {
    this.#weights = weights;
  }

  append(request: Uint8Array): Outcome {
    const [table = '', rows = ''] = Buffer.from(request).toString().split(':');
    if (table === 'malformed') throw new Malformed('no request', 0);
    const added = rows.split(',').filter((row) => row !== '');
    this.#before = new Map(this.#rows);
    for (const row of added) {
      const place = `${shardOfRow(row, this.#weights)}:${TABLES[Number(table)] ?? 'otel_traces'}`;
      this.#rows.set(place, [...(this.#rows.get(place) ?? []), row]);
    }
    return outcome(added.length);
  }

  /** The bound on values is one on the length of rows here. */
  appendWithin(request: Uint8Array, { valueBytesMax }: RecordBounds): Outcome | undefined {
    const outcome = this.append(request);
    const isLong = [...this.#rows.values()].flat().some((row) => row.length > valueBytesMax);
    if (!isLong || valueBytesMax === 0) return outcome;
    this.undo();
    return undefined;
  }

  undo(): void {
    this.#rows = this.#before;
  }

  series(): Uint32Array {
    return new Uint32Array(0);
  }

  close(): readonly Block[] {
    const shards = [...new Set([...this.#rows.keys()].map((place) => Number.parseInt(place, 10)))].sort();
    const blocks = shards.flatMap((shard) =>
      TABLES.flatMap((table) => {
        const rows = this.#rows.get(`${shard}:${table}`);
        const bytes = Buffer.from((rows ?? []).map((row) => `${row}\n`).join(''));
        return rows === undefined ? [] : [{ shard, table, rows: rows.length, bytes }];
      }),
    );
    this.#rows.clear();
    return blocks;
  }
}

export function shardOfRow(row: string, weights: readonly number[]): number {
  const key = Number(/\d+$/.exec(row)?.[0] ?? 0);
  let rest = key % weights.reduce((sum, weight) => sum + weight, 0);
  for (const [shard, weight] of weights.entries()) {
    if (rest < weight) return shard;
    rest -= weight;
  }
  throw new Error('unreachable');
}

export const plainCompressor = { layout: 'r1', compress: (block: Uint8Array) => Buffer.from(block) } as const;

/** How rows are placed by the first routing with these weights. */
export function placed(weights: readonly number[], generation = 0): Placing {
  return { generation, weights };
}

export const ONE = placed([1]);

/** A store whose appends end when the test says so. */
export class SlowStore {
  readonly appends: {
    shard: number;
    items: Items;
    tables: string[];
    text: string;
    /** Without an answer: it is stored. */
    resolve: (result?: AppendResult) => void;
    reject: (fault: Fault) => void;
  }[] = [];

  append(shard: number, fragments: readonly Fragment[], items: Items): Promise<AppendResult> {
    return new Promise((resolve, reject) => {
      this.appends.push({
        shard,
        items,
        tables: fragments.map(({ table }) => table),
        text: Buffer.concat(fragments.map(({ bytes }) => bytes)).toString(),
        resolve: (result = STORED) => resolve(result),
        reject,
      });
    });
  }
}

export const LOST = new Fault('redis_unavailable', 'here', 'made up');

/** A group commit of its own, whose requests are text. */
export function startCommit(
  store: GroupCommitOptions['store'],
  fragmentBytesMax = 1_000_000,
  onStored: (shard: number, result: AppendResult) => void = () => {},
) {
  const blocks = new TextBlocks();
  const instruments = createInstruments();
  const options = {
    signal: 'metrics',
    blocks,
    spareBlocks: async () => new TextBlocks(),
    compressor: plainCompressor,
    store,
    fragmentBytesMax,
  } as const;
  let overtaken = 0;
  const onOvertaken = () => {
    overtaken += 1;
  };
  const commit = new GroupCommit({ ...options, onStored, onOvertaken, instruments, logger: silent });
  return { commit, instruments, overtaken: () => overtaken, submit: (text: string) => commit.submit(Buffer.from(text)) };
}
