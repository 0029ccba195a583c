/**
 * Goal: dead letters are found by what an operator asks for, and replayed or dropped once, whoever else is at it.
 */
import { beforeEach, describe, expect, it } from 'vitest';
import type { SealedBatch } from '../../src/model/batch.ts';
import type { KeptLetter, LetterFilter } from '../../src/queue/letters.ts';
import { RoutingStore } from '../../src/queue/routing.ts';
import { eventually } from '../redis/server.ts';
import {
  books,
  clock,
  only,
  open,
  part,
  payloadOf,
  redis,
  sealedOne,
  server,
  store,
  useLetters,
  whole,
  WHY,
} from './letters.ts';
import { bytesOf, fragment, items, openStore } from './support.ts';

useLetters();

describe('replay', () => {
  it('makes a sealed batch of a letter again, under its own id', async () => {
    const { letters } = open();
    const batch = await sealedOne(1_000);
    const draft = part(batch, '0:3-3', 1, 300);
    await letters.setAside(batch, 9, [draft]);
    expect(await letters.replay({}, { dryRun: true })).toMatchObject([{ letters: 1, rows: 1, bytes: 300 }]);
    expect(await store.sealedIds(0, 10)).toEqual([]);
    expect(await letters.replay({})).toMatchObject([{ letters: 1, rows: 1, bytes: 300 }]);
    expect(await letters.replay({})).toEqual([]);
    expect(await letters.list({}, 10)).toEqual({ letters: [], groups: [] });
    expect(await books()).toMatchObject({ written: 9, waiting: 1, dead: 0, queueBytes: 300, deadBytes: 0 });

    // What a sweep finds has all that a writer needs.
    const { batches } = await store.orphans(0, 0, 0, 10);
    expect(batches).toMatchObject([{ ...batch, id: draft.id, rows: 1, bytes: 300 }]);
    const revived = batches[0] as SealedBatch;
    expect((await bytesOf(store, revived)).equals(Buffer.concat(draft.fragments ?? []))).toBe(true);
    expect(await letters.division(revived)).toEqual(new Map());
    expect(await store.finish(revived)).toBe(true);
    expect(await books()).toMatchObject({ accepted: 10, written: 10 });
    expect(await redis.command(['KEYS', '{s0}:batch:*'])).toEqual([]);
  });

  it('that fails again: the same letter, with its new reason, its first time and its origin', async () => {
    const { letters } = open();
    const batch = await sealedOne();
    const draft = part(batch, '0:3-3', 1, 300);
    await letters.setAside(batch, 9, [draft]);
    const first = await only(letters);
    for (const replays of [1, 2]) {
      await eventually(async () => (await clock()) > first.buriedAtMs, 'a later time');
      await letters.replay({});
      const [revived] = (await store.orphans(0, 0, 0, 10)).batches as [SealedBatch];
      await letters.setAside(revived, 0, [
        whole(revived, { reason: 'TYPE_MISMATCH', message: `try ${replays}` }),
      ]);
      const again = await only(letters);
      const { buriedAtMs } = again;
      const why = { reason: 'TYPE_MISMATCH', message: `try ${replays}`, replays, buriedAtMs };
      expect(again).toEqual({ ...first, ...why });
      expect(buriedAtMs).toBeGreaterThan(first.buriedAtMs);
    }
    // Narrowed down further, it is a part of the letter.
    await letters.replay({});
    const [revived] = (await store.orphans(0, 0, 0, 10)).batches as [SealedBatch];
    await letters.setAside(revived, 0, [{ ...part(revived, '0:0-0', 1, 10) }]);
    expect(await only(letters)).toMatchObject({
      id: `${draft.id}.0.0-0`,
      batch: draft.id,
      range: '0:0-0',
      replays: 3,
      firstBuriedAtMs: first.buriedAtMs,
    });
    expect(await books()).toMatchObject({ written: 9, dead: 1, deadBytes: 10 });
  });

  it('by several at once, while others drop: each letter once, and the books sum up', async () => {
    const { letters } = open();
    const batch = await sealedOne();
    const many = Array.from({ length: 10 }, (_, i) => part(batch, `0:${i}-${i}`, 1, 10));
    await letters.setAside(batch, 0, many);
    for (let i = 0; i < 30; i++) {
      const each = await sealedOne();
      await letters.setAside(
        each,
        0,
        Array.from({ length: 10 }, (_, row) => part(each, `0:${row}-${row}`, 1, 10)),
      );
    }
    const others = open();
    const results = await Promise.all([
      letters.replay({}),
      others.letters.drop({}),
      open().letters.replay({}),
      letters.drop({ batch: batch.id }),
    ]);
    const [replayed, dropped] = [
      [0, 2],
      [1, 3],
    ].map((which) =>
      which.flatMap((i) => results[i] ?? []).reduce((sum, group) => sum + group.letters, 0),
    ) as [number, number];
    expect(replayed + dropped).toBe(310);
    expect(replayed).toBeGreaterThan(0);
    expect(dropped).toBeGreaterThan(0);
    expect(await books()).toMatchObject({ accepted: 310, waiting: replayed, dropped, dead: 0, deadBytes: 0 });
    expect(await store.sealedIds(0, 1_000)).toHaveLength(replayed);
    expect(await redis.command(['KEYS', '{s0}:batch:*'])).toHaveLength(replayed);
  });
});

describe('drop', () => {
  it('counts and logs each letter, and leaves nothing', async () => {
    const { letters, log, dropped } = open();
    const batch = await sealedOne();
    await letters.setAside(batch, 0, [whole(batch)]);
    expect(await letters.drop({}, { dryRun: true })).toMatchObject([{ letters: 1, rows: 10, bytes: 100 }]);
    expect(log).toEqual([]);
    expect(await letters.drop({})).toMatchObject([{ letters: 1, rows: 10, bytes: 100 }]);
    expect(await letters.drop({})).toEqual([]);
    expect(log).toMatchObject([{ letter: batch.id, rows: 10, code: WHY.reason, reason: WHY.message }]);
    expect(await dropped()).toEqual([[{ signal: 'traces', reason: 'operator' }, 10]]);
    expect(await books()).toMatchObject({ accepted: 10, dropped: 10 });
    expect(await redis.command(['KEYS', '*'])).toEqual(['{s0}:counts']);
  });
});

describe('filters', () => {
  const kept: Record<string, KeptLetter> = {};
  beforeEach(async () => {
    await new RoutingStore(store.redis).publish(0, {
      cluster: 'c',
      generation: 1,
      shards: [
        { name: '', weight: 1 },
        { name: '', weight: 0 },
      ],
    });
    const { letters } = open();
    const rows = [
      ['a', 'otel_traces', 0, 'TYPE_MISMATCH'],
      ['b', 'otel_logs', 0, 'TYPE_MISMATCH'],
      ['c', 'otel_metrics_sum', 1, 'TYPE_OTHER'],
      ['d', 'otel_metrics_gauge', 0, 'too_many_partitions'],
    ] as const;
    for (const [name, table, shard, reason] of rows) {
      const batch = await sealedOne(100, table, shard);
      await letters.setAside(batch, 0, [whole(batch, { reason })]);
      const letter = (await letters.read(batch.id)) as KeptLetter;
      kept[name] = letter;
      await eventually(async () => (await clock()) > letter.buriedAtMs, 'a later time');
    }
  });
  const at = (name: string) => kept[name]?.buriedAtMs ?? 0;
  const cases: [string, () => LetterFilter, string][] = [
    ['nothing', () => ({}), 'abcd'],
    ['a signal', () => ({ signal: 'metrics' }), 'cd'],
    ['a table', () => ({ table: 'otel_metrics_sum' }), 'c'],
    ['a reason', () => ({ reason: 'TYPE_MISMATCH' }), 'ab'],
    ['a beginning of a reason, without the star', () => ({ reason: 'TYPE_' }), ''],
    ['a beginning of a reason', () => ({ reason: 'TYPE_*' }), 'abc'],
    ['any reason', () => ({ reason: '*' }), 'abcd'],
    ['a shard', () => ({ shard: 1 }), 'c'],
    ['a shard that is not there', () => ({ shard: 2 }), ''],
    ['an id', () => ({ id: kept.c?.id }), 'c'],
    ['an id of another signal', () => ({ id: kept.c?.id, signal: 'logs' }), ''],
    ['a batch', () => ({ batch: kept.b?.id }), 'b'],
    ['since', () => ({ sinceMs: at('b') }), 'bcd'],
    ['since, a moment later', () => ({ sinceMs: at('b') + 1 }), 'cd'],
    ['until', () => ({ untilMs: at('c') }), 'abc'],
    ['until, a moment earlier', () => ({ untilMs: at('c') - 1 }), 'ab'],
    ['several', () => ({ signal: 'traces', reason: 'TYPE_*', sinceMs: at('a') }), 'a'],
  ];
  it.each(cases)('%s', async (_, filter, wanted) => {
    const { letters } = open();
    const found = await letters.list(filter(), 10);
    expect(found.letters).toEqual([...wanted].map((name) => kept[name]));
    expect(found.groups.reduce((sum, group) => sum + group.letters, 0)).toBe(wanted.length);
    const replayed = await letters.replay(filter());
    expect(replayed).toEqual(found.groups);
    expect((await letters.list({}, 10)).letters).toHaveLength(4 - wanted.length);
  });

  it('with a limit the oldest are taken, and all are counted', async () => {
    const { letters } = open();
    const { letters: found, groups } = await letters.list({}, 2);
    expect(found).toEqual([kept.a, kept.b]);
    expect(groups.reduce((sum, group) => sum + group.letters, 0)).toBe(4);
    await letters.drop({ reason: 'TYPE_*' }, { limit: 2 });
    expect((await letters.list({}, 10)).letters).toEqual([kept.c, kept.d]);
    expect((await letters.replay({}, { limit: 1 })).map(({ table }) => table)).toEqual(['otel_metrics_sum']);
    await books(store, 0);
    await books(store, 1);
  });
});

it('lists 6,000 letters page by page, while Redis answers others', async () => {
  const { letters } = open({ bytesMax: 100_000_000 });
  const large = await openStore(server.settings, { rowsMax: 1_000 });
  for (let i = 0; i < 6; i++) {
    const { sealed } = await large.append(0, [fragment(1_000, 10)], items('traces', 1_000));
    const batch = sealed[0] as SealedBatch;
    const each = Array.from({ length: 1_000 }, (_, row) => part(batch, `0:${row}-${row}`, 1, 20));
    await letters.setAside(batch, 0, each);
  }
  large.close();
  await redis.command(['CONFIG', 'RESETSTAT']);
  const { letters: first, groups } = await letters.list({}, 100);
  expect(groups).toMatchObject([{ letters: 6_000, rows: 6_000, bytes: 120_000 }]);
  expect(first).toHaveLength(100);
  const calls = /cmdstat_evalsha:calls=(\d+)/.exec(String(await redis.command(['INFO', 'commandstats'])));
  expect(Number(calls?.[1])).toBeGreaterThan(25);
  const ids = new Set<string>();
  for await (const { id } of letters.letters({})) ids.add(id);
  expect(ids.size).toBe(6_000);
  // Letters that go while somebody looks don't hide the others.
  const seen: string[] = [];
  for await (const { id } of letters.letters({})) {
    seen.push(id);
    if (seen.length % 20 === 0) await letters.drop({ id });
  }
  expect(new Set(seen).size).toBe(6_000);
  expect((await books()).dropped).toBe(300);
});

describe('letters of other versions', () => {
  it('that were whole batches with a date are read, replayed and dropped like others', async () => {
    const { letters } = open();
    const batch = await sealedOne();
    const older = { reason: 'TYPE_MISMATCH', message: 'no', buriedAt: '2026-01-02T03:04:05.678Z' };
    await redis.command(['ZREM', '{s0}:sealed', batch.id]);
    await redis.command(['HSET', '{s0}:dead', batch.id, JSON.stringify(older)]);
    for (const [field, by] of [
      ['waiting:traces', -10],
      ['dead:traces', 10],
      ['bytes', -100],
      ['deadBytes', 100],
    ]) {
      await redis.command(['HINCRBY', '{s0}:counts', field as string, by as number]);
    }
    expect(await only(letters)).toMatchObject({
      ...batch,
      reason: 'TYPE_MISMATCH',
      batch: batch.id,
      range: 'all',
      replays: 0,
      buriedAtMs: Date.parse(older.buriedAt),
    });
    await letters.replay({});
    expect(await books()).toMatchObject({ waiting: 10, dead: 0 });
    await letters.setAside(batch, 0, [whole(batch)]);
    expect(await only(letters)).toMatchObject({ replays: 1, firstBuriedAtMs: Date.parse(older.buriedAt) });
  });

  it('that make no sense here are left alone', async () => {
    const { letters, log } = open();
    const [one, two] = [await sealedOne(), await sealedOne()];
    for (const batch of [one, two]) await letters.setAside(batch, 0, [whole(batch)]);
    await redis.command(['HSET', '{s0}:dead', one.id, '{"because":1}']);
    await redis.command(['HSET', '{s0}:meta', two.id, 'otel_profiles z9 1 2 3 4 5']);
    expect((await letters.list({}, 10)).letters).toEqual([]);
    expect(await letters.drop({})).toEqual([]);
    expect(log.length).toBe(4);
    expect(await redis.command(['HLEN', '{s0}:dead'])).toBe(2);
  });
});

it('gives what is there of a letter that has lost bytes', async () => {
  const { letters } = open();
  const batch = await sealedOne();
  await letters.setAside(batch, 9, [part(batch, '0:1-1', 1, Buffer.from('one'), Buffer.from('two'))]);
  const letter = await only(letters);
  expect((await payloadOf(letters, letter)).toString()).toBe('onetwo');
  await redis.command(['RPOP', `{s0}:batch:${letter.id}`]);
  expect((await payloadOf(letters, letter)).toString()).toBe('one');
  await redis.command(['DEL', `{s0}:batch:${letter.id}`]);
  expect(await payloadOf(letters, letter)).toHaveLength(0);
});
