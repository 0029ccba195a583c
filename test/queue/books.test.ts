/**
 * Goal: accepted = written + waiting + dead, per signal over all shards and after every single step, whatever
 * appends, seals, finishes, burials and repetitions come in whatever order; and the bytes counted are the
 * bytes stored.
 */
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { SealedBatch } from '../../src/model/batch.ts';
import { SIGNALS, TABLES, signalOf } from '../../src/model/signal.ts';
import type { BatchStore } from '../../src/queue/batch-store.ts';
import type { LeanConnection } from '../../src/redis/lean.ts';
import { RedisServer } from '../redis/server.ts';
import { append, bury, fragment, openStore } from './support.ts';

let server: RedisServer;
let redis: LeanConnection;
let stores: BatchStore[];

beforeAll(async () => {
  server = await RedisServer.start();
  redis = await server.connect();
  stores = await Promise.all([
    openStore(server.settings, { rowsMax: 20, bytesMax: 500 }),
    openStore(server.settings, { rowsMax: 7, bytesMax: 200, ageMsMax: 0 }),
  ]);
});
afterAll(async () => {
  for (const store of stores) store.close();
  redis.close();
  await server.remove();
});

const SHARDS = [0, 1, 2] as const;
const shard = fc.constantFrom(...SHARDS);

const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('append' as const),
      who: fc.nat(1),
      table: fc.nat(TABLES.length - 1),
      shard,
      rows: fc.array(fc.integer({ min: 1, max: 15 }), { minLength: 1, maxLength: 4 }),
      bytes: fc.nat(300),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('sealDue' as const), who: fc.nat(1), shard }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constantFrom('finish' as const, 'bury' as const), which: fc.nat() }),
  },
);

interface Model {
  readonly sealed: SealedBatch[];
  readonly accepted: Map<string, number>;
}

async function take(
  model: Model,
  action: typeof step extends fc.Arbitrary<infer T> ? T : never,
): Promise<void> {
  const store = (at: number) => stores[at] as BatchStore;
  if (action.kind === 'append') {
    const table = TABLES[action.table] ?? 'otel_logs';
    const [first, ...others] = action.rows.map((rows) => fragment(rows, action.bytes, table, action.shard));
    if (first === undefined) return;
    model.sealed.push(...(await append(store(action.who), first, ...others)).sealed);
    const signal = signalOf(table);
    model.accepted.set(signal, (model.accepted.get(signal) ?? 0) + action.rows.reduce((a, b) => a + b, 0));
  } else if (action.kind === 'sealDue') {
    model.sealed.push(...(await store(action.who).sealDue(action.shard)).sealed);
  } else {
    // Any batch that was ever sealed: many are gone already, and then nothing may change.
    const batch = model.sealed[action.which % Math.max(1, model.sealed.length)];
    if (batch === undefined) return;
    if (action.kind === 'finish') await store(0).finish(batch);
    else await bury(store(0), batch, 'test', 'of the property');
  }
}

async function check(model: Model): Promise<void> {
  const shards = await Promise.all(SHARDS.map((number) => (stores[0] as BatchStore).counts(number)));
  for (const signal of SIGNALS) {
    for (const { items } of shards) {
      const { accepted, written, waiting, dead } = items[signal];
      expect(written + waiting + dead).toBe(accepted);
      expect(Math.min(written, waiting, dead)).toBeGreaterThanOrEqual(0);
    }
    const sum = shards.reduce((items, counts) => items + counts.items[signal].accepted, 0);
    expect(sum).toBe(model.accepted.get(signal) ?? 0);
  }
}

it('holds after every step', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      await redis.command(['FLUSHALL']);
      const model: Model = { sealed: [], accepted: new Map() };
      for (const action of steps) {
        await take(model, action);
        await check(model);
      }
    }),
    { numRuns: 60 },
  );
});

it('holds at the end when all steps are taken at once', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60 }), async (steps) => {
      await redis.command(['FLUSHALL']);
      const model: Model = { sealed: [], accepted: new Map() };
      await Promise.all(steps.map((action) => take(model, action)));
      await Promise.all(
        [...model.sealed].map((_, which) => take(model, { kind: which % 2 ? 'bury' : 'finish', which })),
      );
      await check(model);
      for (const number of SHARDS) await checkBytes(number, model);
    }),
    { numRuns: 30 },
  );
});

/** When no batch is sealed: what the books say is open and dead is what lies there. */
async function checkBytes(number: number, model: Model): Promise<void> {
  const store = stores[0] as BatchStore;
  const counts = await store.counts(number);
  expect(counts.sealedBatches).toBe(0);
  const open = (await redis.command(['ZRANGE', `{s${number}}:open`, 0, -1])) as string[];
  let waiting = 0;
  for (const name of open)
    waiting += Number(await redis.command(['HGET', `{s${number}}:open:${name}:meta`, 'bytes']));
  expect(counts.queueBytes).toBe(waiting);
  const dead = (await redis.command(['HKEYS', `{s${number}}:dead`])) as string[];
  const buried = model.sealed.filter(({ id }) => dead.includes(id));
  expect(counts.deadBytes).toBe(buried.reduce((sum, { bytes }) => sum + bytes, 0));
  const kept = buried.map(({ id }) => redis.command(['LLEN', `{s${number}}:batch:${id}`]));
  expect(await Promise.all(kept)).toEqual(buried.map(({ fragments }) => fragments));
}
