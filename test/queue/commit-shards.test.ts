/**
 * Goal: a group that spans shards is appended to all of them, acknowledged after the last and refused as a
 * whole when one fails; rows stay with the shard they were meant for, and groups gather where that pays.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { BatchStore } from '../../src/queue/batch-store.ts';
import { eventually, RedisServer } from '../redis/server.ts';
import { LOST, openStore, outcome, placed, shardOfRow, SlowStore, startCommit as start } from './support.ts';

describe('a group of several shards', () => {
  let store: SlowStore;
  beforeEach(() => {
    store = new SlowStore();
  });

  it('is appended to each of its shards at once, with the rows of each', async () => {
    const { commit, submit } = start(store);
    commit.route(placed([1, 2, 1]));
    const answers = [submit('2:a0,b1,c2'), submit('3:d3,e4')];
    await turn();
    expect(store.appends).toMatchObject([
      {
        shard: 0,
        text: 'a0\ne4\n',
        tables: ['otel_metrics_gauge', 'otel_metrics_sum'],
        items: { accepted: 2 },
      },
      { shard: 1, text: 'b1\nc2\n', tables: ['otel_metrics_gauge'], items: { accepted: 2 } },
      { shard: 2, text: 'd3\n', tables: ['otel_metrics_sum'], items: { accepted: 1 } },
    ]);
    for (const { resolve } of store.appends) resolve();
    expect(await Promise.all(answers)).toEqual([outcome(3), outcome(2)]);
  });

  it('is acknowledged after the last of its shards, and the next one waits for that', async () => {
    const { commit, submit } = start(store);
    commit.route(placed([1, 1]));
    let told = 0;
    const answers = [submit('2:a0'), submit('2:b1')].map((answer) => answer.finally(() => told++));
    await turn();
    const next = submit('2:c0');
    store.appends[1]?.resolve();
    await turn();
    await turn();
    expect([told, store.appends.length]).toEqual([0, 2]);
    store.appends[0]?.resolve();
    await Promise.all(answers);
    await eventually(() => store.appends[2]?.text === 'c0\n', 'the next one');
    store.appends[2]?.resolve();
    await next;
  });

  it('fails for all its requests when one shard fails, and what the others sealed goes on', async () => {
    const stored: number[] = [];
    const { commit, submit, instruments } = start(store, 1_000_000, (shard) => stored.push(shard));
    commit.route(placed([1, 1, 1]));
    const answers = [submit('2:a0'), submit('2:b1'), submit('2:c2')];
    await turn();
    store.appends[1]?.reject(LOST);
    store.appends[0]?.resolve();
    store.appends[2]?.resolve();
    expect(await Promise.allSettled(answers)).toMatchObject([
      { reason: LOST },
      { reason: LOST },
      { reason: LOST },
    ]);
    expect(stored.sort()).toEqual([0, 2]);
    const { values } = await instruments.commits.get();
    expect(values.map(({ labels, value }) => [labels.outcome, value])).toEqual([['failed', 1]]);
    const later = submit('2:d1');
    await eventually(() => store.appends.length === 4, 'the next one');
    store.appends[3]?.resolve();
    expect(await later).toEqual(outcome(1));
  });

  it('leaves rows that are open with their shard when the weights change', async () => {
    const { commit, submit } = start(store);
    commit.route(placed([1, 1]));
    const answers = [submit('2:a1')];
    commit.route(placed([1, 0], 2));
    answers.push(submit('2:b1'));
    commit.route(placed([0, 0, 1], 3));
    answers.push(submit('2:c1'));
    for (const [number, answer] of answers.entries()) {
      await eventually(() => store.appends.length === number + 1, 'one group after the other');
      store.appends[number]?.resolve();
      await answer;
    }
    expect(store.appends.map(({ shard, text, items }) => [shard, text, items.generation])).toEqual([
      [1, 'a1\n', 0],
      [0, 'b1\n', 2],
      [2, 'c1\n', 3],
    ]);
  });
});

describe('a group of several shards gathers', () => {
  const WEIGHTS = Array<number>(8).fill(1);
  const SPACING_MS = WEIGHTS.length - 1;

  it('for at most so long, where requests are small', async () => {
    const store = new SlowStore();
    const { commit, submit } = start(store);
    commit.route(placed(WEIGHTS));
    let answered = 0;
    const startedAtMs = performance.now();
    const client = async () => {
      for (let i = 0; i < 50; i++) {
        await submit('2:a0');
        answered += 1;
      }
    };
    const clients = Promise.all([client(), client(), client(), client()]);
    let stored = 0;
    while (answered < 200) {
      for (const { resolve } of store.appends.slice(stored)) resolve();
      stored = store.appends.length;
      await turn();
    }
    await clients;
    // A timer may ring a little early.
    const groupsMax = (performance.now() - startedAtMs) / (SPACING_MS - 1) + 2;
    expect(store.appends.length).toBeLessThan(groupsMax);
  });

  it('not when nothing came before it, nor when it is large', async () => {
    const store = new SlowStore();
    const { commit, submit } = start(store, 100_000_000);
    commit.route(placed(WEIGHTS));
    const answers = [submit('2:a0')];
    await turn();
    expect(store.appends).toHaveLength(1);
    store.appends[0]?.resolve();
    await turn();
    answers.push(submit('2:b0'), submit(`2:${'y'.repeat(131_072 * WEIGHTS.length)}0`));
    await turn();
    expect(store.appends).toHaveLength(2);
    expect(store.appends[1]?.items.accepted).toBe(2);
    store.appends[1]?.resolve();
    await Promise.all([...answers, commit.drain()]);
  });
});

describe('on a real Redis with shards that come and go', () => {
  let server: RedisServer;
  let store: BatchStore;
  beforeAll(async () => {
    server = await RedisServer.start();
    store = await openStore(server.settings);
  });
  afterAll(async () => {
    store.close();
    await server.remove();
  });

  /** Every row that lies in Redis, by shard. */
  async function rowsIn(shard: number): Promise<string[]> {
    const redis = await server.connect();
    const open = (await redis.command(['ZRANGE', `{s${shard}}:open`, 0, -1])) as string[];
    const lists = await Promise.all(
      open.map((name) => redis.command(['LRANGE', `{s${shard}}:open:${name}`, 0, -1])),
    );
    redis.close();
    return lists.flat().join('').split('\n').filter(Boolean);
  }

  it('stores every acknowledged row once, on a shard that it could belong to', async () => {
    const { commit, submit } = start(store, 400);
    const routings = [
      [1, 1],
      [1, 1, 2],
      [1, 0, 2],
      [3, 1, 1, 1],
    ];
    const acknowledged: string[] = [];
    let sending = true;
    const client = async (name: number) => {
      for (let i = 0; sending; i++) {
        const rows = Array.from({ length: 3 }, (_, n) => `${name}-${i}-x${n + i}`);
        await submit(`${2 + (i % 5)}:${rows.join(',')}`);
        acknowledged.push(...rows);
      }
    };
    commit.route(placed(routings[0] ?? []));
    const clients = Array.from({ length: 16 }, (_, name) => client(name));
    for (const weights of [...routings, ...routings]) {
      const before = acknowledged.length;
      commit.route(placed(weights));
      while (acknowledged.length < before + 300) await turn();
    }
    sending = false;
    await Promise.all(clients);
    await commit.drain();
    const shards = await Promise.all([0, 1, 2, 3].map(rowsIn));
    expect(shards.flat().sort()).toEqual(acknowledged.sort());
    for (const [shard, rows] of shards.entries()) {
      const fits = (row: string) => routings.some((weights) => shardOfRow(row, weights) === shard);
      expect(rows.filter((row) => !fits(row))).toEqual([]);
      expect((await store.counts(shard)).items.metrics).toMatchObject({ accepted: rows.length });
    }
  });

  it('may be half stored when a shard refuses, and nobody is told that it is stored', async () => {
    const { commit, submit } = start(store);
    commit.route(placed([0, 0, 0, 0, 1, 1]));
    const redis = await server.connect();
    await redis.command(['SET', '{s5}:counts', 'not a hash']);
    const both = await Promise.allSettled([submit('2:a0'), submit('2:b1')]);
    expect(both).toMatchObject([{ reason: { code: 'redis_error' } }, { reason: { code: 'redis_error' } }]);
    expect(await rowsIn(4)).toEqual(['a0']);
    expect((await store.counts(4)).items.metrics).toMatchObject({ accepted: 1, waiting: 1 });
    expect(await rowsIn(5)).toEqual([]);
    await redis.command(['DEL', '{s5}:counts']);
    redis.close();
    await Promise.all([submit('2:c0'), submit('2:d1')]);
    expect([await rowsIn(4), await rowsIn(5)]).toEqual([['a0', 'c0'], ['d1']]);
  });
});
