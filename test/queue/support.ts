/**
 * What the queue's tests share: stores on a real Redis, fragments with recognisable bytes, and simple open
 * blocks.
 */
import { BatchStore } from '../../src/queue/batch-store.ts';
import type { Fragment, SealedBatch } from '../../src/model/batch.ts';
import { type Block, Malformed, type OpenBlocks } from '../../src/model/block.ts';
import { NOTHING, type Outcome } from '../../src/model/outcome.ts';
import { type Table, TABLES, signalOf } from '../../src/model/signal.ts';
import type { AppendResult } from '../../src/queue/batch-store.ts';
import type { RedisSettings } from '../../src/redis/connection.ts';
import { silent } from '../redis/server.ts';

export const NEVER_MS = 1_000_000_000;
export const LIMITS = { rowsMax: 1_000, bytesMax: 1_000_000, ageMsMax: NEVER_MS };
export const WRITE = { insertsInFlightMax: 2, retryMsMin: 5, retryMsMax: 20, sweepMs: 50 };

export async function openStore(
  redis: RedisSettings,
  limits: Partial<typeof LIMITS> = {},
): Promise<BatchStore> {
  const store = new BatchStore({ redis, batch: { ...LIMITS, ...limits }, logger: silent });
  await store.connect();
  return store;
}

export function fragment(
  rows: number,
  bytes: number | Uint8Array = 10,
  table: Table = 'otel_traces',
): Fragment {
  return {
    table,
    layout: 'z1',
    rows,
    bytes: typeof bytes === 'number' ? Buffer.alloc(bytes, rows & 0xff) : bytes,
  };
}

/** Appends fragments of one signal. */
export function append(store: BatchStore, ...fragments: [Fragment, ...Fragment[]]): Promise<AppendResult> {
  const accepted = fragments.reduce((sum, { rows }) => sum + rows, 0);
  return store.append(0, fragments, { signal: signalOf(fragments[0].table), accepted });
}

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
 * each ended by a line feed, so that every acknowledged row can be found again.
 */
export class TextBlocks implements OpenBlocks {
  readonly #rows = new Map<Table, string[]>();

  get rows(): number {
    return [...this.#rows.values()].reduce((sum, rows) => sum + rows.length, 0);
  }

  get bytes(): number {
    return [...this.#rows.values()].flat().reduce((sum, row) => sum + row.length + 1, 0);
  }

  append(request: Uint8Array): Outcome {
    const [table = '', rows = ''] = Buffer.from(request).toString().split(':');
    if (table === 'malformed') throw new Malformed('no request', 0);
    const added = rows.split(',').filter((row) => row !== '');
    const name = TABLES[Number(table)] ?? 'otel_traces';
    if (added.length > 0) this.#rows.set(name, [...(this.#rows.get(name) ?? []), ...added]);
    return outcome(added.length);
  }

  close(): readonly Block[] {
    const blocks = TABLES.flatMap((table) => {
      const rows = this.#rows.get(table);
      return rows === undefined
        ? []
        : [{ table, rows: rows.length, bytes: Buffer.from(rows.map((row) => `${row}\n`).join('')) }];
    });
    this.#rows.clear();
    return blocks;
  }
}

export const plainCompressor = { layout: 'r1', compress: (block: Uint8Array) => Buffer.from(block) } as const;
