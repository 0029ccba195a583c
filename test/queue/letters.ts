/** What the tests of dead letters share: a Redis, batches that were just sealed, letters, and the books. */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, expect } from 'vitest';
import { pino } from 'pino';
import type { Settings } from '../../src/config/settings.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import type { SealedBatch } from '../../src/model/batch.ts';
import type { DeadLetterDraft } from '../../src/model/dead-letter.ts';
import { SIGNALS, type Table } from '../../src/model/signal.ts';
import type { BatchStore } from '../../src/queue/batch-store.ts';
import { DeadLetters } from '../../src/queue/dead-letters.ts';
import type { KeptLetter } from '../../src/queue/letters.ts';
import type { LeanConnection } from '../../src/redis/lean.ts';
import { RedisServer } from '../redis/server.ts';
import { append, fragment, openStore } from './support.ts';

export let server: RedisServer;
export let redis: LeanConnection;
export let store: BatchStore;

/** One Redis for all tests of the file, empty before each of them. */
export function useLetters(): void {
  beforeAll(async () => {
    server = await RedisServer.start('--enable-debug-command', 'local');
    redis = await server.connect();
    store = await openStore(server.settings, { rowsMax: 10 });
  });
  beforeEach(async () => {
    await redis.command(['FLUSHALL']);
  });
  afterAll(async () => {
    store.close();
    redis.close();
    await server.remove();
  });
}

/** With what it logs, and the counter of what it throws away. */
export function open(changes: Partial<Settings['deadLetters']> = {}, of: BatchStore = store) {
  const log: Record<string, unknown>[] = [];
  const logger = pino({ level: 'warn' }, { write: (line) => void log.push(JSON.parse(line)) });
  const instruments = createInstruments();
  const deadLetters = { bytesMax: 1_000_000, whenFull: 'wait', ...changes } as const;
  const letters = new DeadLetters({ redis: of.redis, deadLetters, instruments, logger });
  const dropped = async () =>
    (await instruments.itemsDropped.get()).values.map(({ labels, value }) => [labels, value]);
  return { letters, log, dropped };
}

/** A batch of 10 rows that was just sealed. */
export async function sealedOne(bytes: number | Uint8Array = 100, table: Table = 'otel_traces', shard = 0) {
  const { sealed } = await append(store, fragment(10, bytes, table, shard));
  return sealed[0] as SealedBatch;
}

export const WHY = {
  reason: 'VIOLATED_CONSTRAINT',
  message: 'Constraint `c` is violated: "ä"',
  replica: 'ch-1:8123',
};

export function whole(batch: SealedBatch, why: Partial<typeof WHY> = {}): DeadLetterDraft {
  return {
    ...WHY,
    ...why,
    id: batch.id,
    batch: batch.id,
    range: 'all',
    rows: batch.rows,
    fragments: undefined,
  };
}

export function part(
  batch: SealedBatch,
  range: string,
  rows: number,
  ...bytes: (number | Uint8Array)[]
): DeadLetterDraft {
  const id = `${batch.id}.${range.replace(':', '.')}`;
  const fragments = bytes.map((each) => (typeof each === 'number' ? randomBytes(each) : each));
  return { ...WHY, id, batch: batch.id, range, rows, fragments };
}

export async function payloadOf(letters: DeadLetters, letter: KeptLetter): Promise<Buffer> {
  const views: Uint8Array[] = [];
  for await (const view of letters.payload(letter)) views.push(view);
  return Buffer.concat(views);
}

export async function only(letters: DeadLetters): Promise<KeptLetter> {
  const { letters: all } = await letters.list({}, 10);
  expect(all).toHaveLength(1);
  return all[0] as KeptLetter;
}

/** Books, letters and bytes agree; resolves with the books of the traces. */
export async function books(of: BatchStore = store, shard = 0) {
  const counts = await of.counts(shard);
  for (const signal of SIGNALS) {
    const { accepted, written, waiting, dead, dropped } = counts.items[signal];
    expect(written + waiting + dead + dropped).toBe(accepted);
    expect(Math.min(written, waiting, dead, dropped)).toBeGreaterThanOrEqual(0);
  }
  const { letters } = await open({}, of).letters.list({ shard }, 100_000);
  expect(counts.deadLetters).toBe(letters.length);
  expect(counts.deadBytes).toBe(letters.reduce((sum, { bytes }) => sum + bytes, 0));
  const { accepted, written, waiting, dead, dropped } = counts.items.traces;
  return {
    accepted,
    written,
    waiting,
    dead,
    dropped,
    queueBytes: counts.queueBytes,
    deadBytes: counts.deadBytes,
  };
}

/** Redis' own, ms. */
export async function clock(): Promise<number> {
  const [seconds, micros] = (await redis.command(['TIME'])) as string[];
  return Number(seconds) * 1_000 + Math.floor(Number(micros) / 1_000);
}
