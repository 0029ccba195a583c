/**
 * Goal: batches are sealed exactly at their bounds, keep their bytes and order, get ids that never repeat,
 * and are finished or buried once; what Redis lost is a Fault and never an empty insert.
 */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { SealedBatch } from '../../src/model/batch.ts';
import { TABLES, signalOf } from '../../src/model/signal.ts';
import type { BatchStore } from '../../src/queue/batch-store.ts';
import { parseDescription } from '../../src/queue/keys.ts';
import type { LeanConnection } from '../../src/redis/lean.ts';
import { RedisServer } from '../redis/server.ts';
import { append, bury, bytesOf, fragment, items, type LIMITS, openStore } from './support.ts';

let server: RedisServer;
let redis: LeanConnection;
const stores: BatchStore[] = [];

beforeAll(async () => {
  server = await RedisServer.start();
  redis = await server.connect();
});
beforeEach(async () => {
  for (const store of stores.splice(0)) store.close();
  await redis.command(['FLUSHALL']);
});
afterAll(async () => {
  for (const store of stores) store.close();
  redis.close();
  await server.remove();
});

async function open(limits: Partial<typeof LIMITS> = {}): Promise<BatchStore> {
  const store = await openStore(server.settings, limits);
  stores.push(store);
  return store;
}

/** A batch that was just sealed. */
async function sealedOne(
  store: BatchStore,
  ...fragments: Parameters<typeof append> extends [unknown, ...infer F] ? F : never
) {
  const { sealed } = await append(store, ...fragments);
  expect(sealed).toHaveLength(1);
  return sealed[0] as SealedBatch;
}

describe('bounds', () => {
  // Each row: the bounds, fragments as [rows, bytes], and the batches that are sealed, as numbers of
  // fragments.
  it.each([
    ['below rows', { rowsMax: 10 }, [[9, 1]], []],
    [
      'rows reached',
      { rowsMax: 10 },
      [
        [9, 1],
        [1, 1],
      ],
      [2],
    ],
    [
      'rows exceeded: sealed before',
      { rowsMax: 10 },
      [
        [9, 1],
        [2, 1],
      ],
      [1],
    ],
    ['one fragment of exactly the rows', { rowsMax: 10 }, [[10, 1]], [1]],
    ['one larger fragment is a batch', { rowsMax: 10 }, [[11, 1]], [1]],
    [
      'a larger fragment after others: two batches',
      { rowsMax: 10 },
      [
        [1, 1],
        [1, 1],
        [99, 1],
      ],
      [2, 1],
    ],
    [
      'one more begins a new one',
      { rowsMax: 10 },
      [
        [10, 1],
        [1, 1],
      ],
      [1],
    ],
    ['below bytes', { bytesMax: 100 }, [[1, 99]], []],
    [
      'bytes reached',
      { bytesMax: 100 },
      [
        [1, 99],
        [1, 1],
      ],
      [2],
    ],
    [
      'bytes exceeded: sealed before',
      { bytesMax: 100 },
      [
        [1, 99],
        [1, 2],
      ],
      [1],
    ],
    ['one larger in bytes', { bytesMax: 100 }, [[1, 101]], [1]],
    [
      'age 0: every append',
      { ageMsMax: 0 },
      [
        [1, 1],
        [1, 1],
      ],
      [1, 1],
    ],
    [
      'one row each',
      { rowsMax: 1 },
      [
        [1, 1],
        [1, 1],
        [1, 1],
      ],
      [1, 1, 1],
    ],
  ] as const)('%s', async (_, limits, fragments, sealed) => {
    const each = await open(limits);
    const batches: SealedBatch[] = [];
    for (const [rows, bytes] of fragments)
      batches.push(...(await append(each, fragment(rows, bytes))).sealed);
    expect(batches.map((batch) => batch.fragments)).toEqual(sealed);

    await redis.command(['FLUSHALL']);
    const [first, ...others] = fragments.map(([rows, bytes]) => fragment(rows, bytes));
    const together = first === undefined ? [] : (await append(each, first, ...others)).sealed;
    expect(together.map((batch) => batch.fragments)).toEqual(sealed);
    expect(together.map(({ rows, bytes }) => [rows, bytes])).toEqual(
      batches.map(({ rows, bytes }) => [rows, bytes]),
    );
  });

  it('of age count from the first fragment and seal with the next append or the next look', async () => {
    const store = await open({ ageMsMax: 600_000 });
    // Redis' clock goes on meanwhile, however long: so the batch is made older instead.
    const older = (ms: number) => redis.command(['ZINCRBY', '{s0}:open', -ms, 'otel_traces:z1']);
    await append(store, fragment(1));
    await older(500_000);
    expect((await store.sealDue(0)).sealed).toEqual([]);
    expect((await append(store, fragment(1))).sealed).toEqual([]);
    await older(100_000);
    const withAppend = await append(store, fragment(1));
    expect(withAppend.sealed.map(({ rows }) => rows)).toEqual([3]);
    expect(withAppend.openAgeMsMax).toBeUndefined();

    await append(store, fragment(4));
    await older(600_000);
    const [one, two] = await Promise.all([store.sealDue(0), store.sealDue(0)]);
    expect([...one.sealed, ...two.sealed].map(({ rows }) => rows)).toEqual([4]);
    expect(one.openAgeMsMax).toBeUndefined();
  });

  it('are those of each table and layout by itself', async () => {
    const store = await open({ rowsMax: 3 });
    const metrics = TABLES.filter((table) => signalOf(table) === 'metrics');
    const [first, ...others] = metrics.map((table, i) => fragment(i + 1, 10, table));
    const { sealed, openAgeMsMax } = await append(store, first ?? fragment(1), ...others);
    expect(sealed.map(({ table, rows }) => [table, rows])).toEqual(
      metrics.slice(2).map((table, i) => [table, i + 3]),
    );
    expect(openAgeMsMax).toBeDefined();
    const other = await append(store, { ...fragment(2, 10, metrics[1]), layout: 'r1' });
    expect(other.sealed).toEqual([]);
    expect(new Set(sealed.map(({ id }) => id)).size).toBe(sealed.length);
  });
});

describe('a sealed batch', () => {
  it('has its bytes in order, its figures and its times', async () => {
    const store = await open({ rowsMax: 6 });
    const parts = [randomBytes(70_000), randomBytes(1), randomBytes(250_000)];
    await append(store, fragment(1, parts[0]), fragment(2, parts[1]));
    const batch = await sealedOne(store, fragment(3, parts[2]));
    expect(batch).toMatchObject({
      shard: 0,
      table: 'otel_traces',
      layout: 'z1',
      rows: 6,
      bytes: 320_001,
      fragments: 3,
    });
    expect(batch.newestAtMs).toBe(batch.sealedAtMs);
    expect((await bytesOf(store, batch)).equals(Buffer.concat(parts))).toBe(true);
    expect(await store.sealedIds(0, 10)).toEqual([batch.id]);
    expect(await store.isSealed(batch)).toBe(true);
    expect(
      parseDescription(0, batch.id, String(await redis.command(['HGET', '{s0}:meta', batch.id]))),
    ).toEqual(batch);
  });

  it('is read in pieces, whatever the sizes of its fragments', async () => {
    const store = await open({ rowsMax: 300, bytesMax: 100_000_000 });
    const parts = Array.from({ length: 300 }, (_, i) => randomBytes(i % 50 === 0 ? 400_000 : i * 20));
    const fragments = parts.map((bytes) => fragment(1, bytes));
    const batch = await sealedOne(store, fragments[0] ?? fragment(1), ...fragments.slice(1));
    expect((await bytesOf(store, batch)).equals(Buffer.concat(parts))).toBe(true);
  });

  it('has an id that no other process, restart or emptied Redis gives again', async () => {
    const ids = new Set<string>();
    for (let round = 0; round < 5; round++) {
      const store = await open({ rowsMax: 1 });
      for (let i = 0; i < 20; i++) ids.add((await sealedOne(store, fragment(1))).id);
      await redis.command(['FLUSHALL']);
    }
    expect(ids.size).toBe(100);
    for (const id of ids) expect(id).toMatch(/^[0-9a-f]{24}-\d+-\d+\.[0-9a-f]{24}-\d+-\d+$/);
  });

  it('is finished once', async () => {
    const store = await open({ rowsMax: 5 });
    const batch = await sealedOne(store, fragment(5, 100));
    expect(await store.finish(batch)).toBe(true);
    const after = await store.counts(0);
    expect(after.items.traces).toEqual({
      accepted: 5,
      written: 5,
      dropped: 0,
      waiting: 0,
      dead: 0,
      newestWrittenAtMs: batch.newestAtMs,
    });
    expect(after).toMatchObject({ queueBytes: 0, deadBytes: 0, sealedBatches: 0 });
    expect(await store.finish(batch)).toBe(false);
    expect(await bury(store, batch, 'late', 'too late')).toBe(false);
    expect((await store.counts(0)).items).toEqual(after.items);
    const keys = (await redis.command(['KEYS', '*'])) as string[];
    expect(keys.sort()).toEqual(['{s0}:counts', '{s0}:trail', '{s0}:trail:order']);
  });

  it('is buried once, with its bytes and its reason', async () => {
    const store = await open({ rowsMax: 5 });
    const batch = await sealedOne(store, fragment(5, 100));
    expect(await bury(store, batch, 'schema', 'no such column: ä')).toBe(true);
    expect(await bury(store, batch, 'schema', 'again')).toBe(false);
    expect(await store.finish(batch)).toBe(false);
    const counts = await store.counts(0);
    expect(counts.items.traces).toMatchObject({ accepted: 5, written: 0, waiting: 0, dead: 5 });
    expect(counts).toMatchObject({ queueBytes: 0, deadBytes: 100, sealedBatches: 0 });
    expect(await store.sealedIds(0, 10)).toEqual([]);
    const why = JSON.parse(String(await redis.command(['HGET', '{s0}:dead', batch.id])));
    expect(why).toMatchObject({ reason: 'schema', message: 'no such column: ä' });
    expect(await redis.command(['LLEN', `{s0}:batch:${batch.id}`])).toBe(1);
    expect(await redis.command(['HEXISTS', '{s0}:meta', batch.id])).toBe(1);
  });

  it('gives no bytes when it was finished meanwhile', async () => {
    const store = await open({ rowsMax: 1 });
    const batch = await sealedOne(store, fragment(1));
    await store.finish(batch);
    expect(await bytesOf(store, batch)).toHaveLength(0);
  });

  it.each([
    ['the list is gone', ['DEL']],
    ['a fragment is gone', ['LPOP']],
  ])('is a Fault when %s', async (_, command) => {
    const store = await open({ rowsMax: 2 });
    const batch = await sealedOne(store, fragment(1), fragment(1));
    await redis.command([...command, `{s0}:batch:${batch.id}`]);
    await expect(bytesOf(store, batch)).rejects.toMatchObject({ code: 'batch_incomplete', retry: 'never' });
  });

  it('is a Fault at its end when bytes are missing', async () => {
    const store = await open({ rowsMax: 2 });
    const batch = await sealedOne(store, fragment(1), fragment(1));
    await redis.command(['LSET', `{s0}:batch:${batch.id}`, 1, 'short']);
    await expect(bytesOf(store, batch)).rejects.toMatchObject({ code: 'batch_incomplete', retry: 'never' });
  });

  it('is sealed even when somebody deleted its list, so that its rows stay in the books', async () => {
    const store = await open({ ageMsMax: 1 });
    await redis.command([
      'HSET',
      '{s0}:open:otel_logs:z1:meta',
      'rows',
      3,
      'bytes',
      30,
      'fragments',
      1,
      'newest',
      5,
    ]);
    await redis.command(['ZADD', '{s0}:open', 1, 'otel_logs:z1']);
    const { sealed } = await store.sealDue(0);
    expect(sealed).toMatchObject([{ table: 'otel_logs', rows: 3, fragments: 1 }]);
    await expect(bytesOf(store, sealed[0] as SealedBatch)).rejects.toMatchObject({
      code: 'batch_incomplete',
    });
  });

  it('of another version is left alone', async () => {
    const store = await open({ ageMsMax: 1 });
    await redis.command([
      'HSET',
      '{s0}:open:otel_profiles:z9:meta',
      'rows',
      3,
      'bytes',
      30,
      'fragments',
      1,
      'newest',
      5,
    ]);
    await redis.command(['ZADD', '{s0}:open', 1, 'otel_profiles:z9']);
    expect((await store.sealDue(0)).sealed).toEqual([]);
    expect(await store.sealedIds(0, 10)).toHaveLength(1);
    expect(await store.orphans(0, 0, 0, 10)).toEqual({ seen: 1, putOff: [], batches: [] });
  });
});

describe('appends', () => {
  it('of many processes at once lose and double nothing', async () => {
    const writers = await Promise.all(Array.from({ length: 4 }, () => open({ rowsMax: 50 })));
    const results = await Promise.all(
      writers.flatMap((store, w) =>
        Array.from({ length: 100 }, (_, i) =>
          append(store, fragment(1 + (i % 3), Buffer.from(`${w}-${i};`))),
        ),
      ),
    );
    const sealed = results.flatMap((result) => result.sealed);
    const store = writers[0] as BatchStore;
    for (const batch of sealed) expect(batch.rows).toBeGreaterThanOrEqual(48);
    for (const batch of sealed) expect(batch.rows).toBeLessThanOrEqual(50);
    const left = await redis.command(['LRANGE', '{s0}:open:otel_traces:z1', 0, -1]);
    const stored =
      (await Promise.all(sealed.map((batch) => bytesOf(store, batch)))).join('') +
      (left as string[]).join('');
    const expected = writers.flatMap((_, w) => Array.from({ length: 100 }, (_, i) => `${w}-${i}`));
    expect(stored.split(';').slice(0, -1).sort()).toEqual(expected.sort());
  });

  it('of one shard leave the others alone', async () => {
    const store = await open();
    await store.append(7, [fragment(2, 10, 'otel_traces', 7)], items('traces', 2));
    expect((await store.counts(7)).items.traces.accepted).toBe(2);
    expect((await store.counts(0)).items.traces.accepted).toBe(0);
    expect(store.queueBytes).toBe(10);
    await append(store, fragment(1, 5));
    await append(store, fragment(1, 20, 'otel_traces', 7));
    expect(store.queueBytes).toBe(35);
  });

  it('that are mistakes of ours change nothing', async () => {
    const store = await open();
    await expect(store.append(0, [], items('traces', 0))).rejects.toThrow('assertion failed');
    await expect(store.append(0, [fragment(2)], items('traces', 3))).rejects.toThrow(
      'assertion failed',
    );
    await expect(store.append(0, [fragment(2)], items('logs', 2))).rejects.toThrow(
      'assertion failed',
    );
    await expect(store.append(1, [fragment(2)], items('traces', 2))).rejects.toThrow(
      'assertion failed',
    );
    expect(await redis.command(['DBSIZE'])).toBe(0);
  });

  it('remember how full the queue is', async () => {
    const store = await open({ rowsMax: 2 });
    expect(store.queueBytes).toBe(0);
    expect((await append(store, fragment(1, 100))).queueBytes).toBe(100);
    const batch = await sealedOne(store, fragment(1, 50));
    expect(store.queueBytes).toBe(150);
    await bury(store, batch, 'x', 'dead letters take room too');
    expect((await append(store, fragment(1, 1))).queueBytes).toBe(151);
  });
});

describe('parseDescription', () => {
  it.each([
    '',
    'otel_traces z1 1 2 3 4',
    'otel_traces z1 1 2 3 4 x',
    'nope z1 1 2 3 4 5',
    'otel_logs z9 1 2 3 4 5',
  ])('refuses %j', (text) => {
    expect(() => parseDescription(0, 'id', text)).toThrow(
      expect.objectContaining({ code: 'batch_unreadable' }),
    );
  });
});
