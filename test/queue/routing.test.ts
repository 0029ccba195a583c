/**
 * Goal: a routing changes one step at a time whoever publishes, never loses a shard or moves one, and gives
 * rows only to shards that have their tables.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Routing, RoutingStore, nextRouting, parseRouting } from '../../src/queue/routing.ts';
import type { LeanConnection } from '../../src/redis/lean.ts';
import type { Topology } from '../../src/topology/topology.ts';
import { RedisServer } from '../redis/server.ts';

type Given = readonly (readonly [name: string, weight: number])[];

function routing(shards: Given, generation = 1, cluster = 'main'): Routing {
  return { cluster, generation, shards: shards.map(([name, weight]) => ({ name, weight })) };
}

function topology(shards: Given, cluster = 'main'): Topology {
  return {
    cluster,
    shards: shards.map(([name, weight], shard) => ({ shard, name, weight, replicas: [] })),
  };
}

describe('the next routing', () => {
  const all = [0, 1, 2, 3];
  // What is known, the definition, the shards that are ready, and the shards of the routing that follows.
  it.each<[string, Given | undefined, Given, number[], Given | 'same']>([
    ['the first', undefined, [['a', 1], ['b', 2]], all, [['a', 1], ['b', 2]]],
    ['the first, one shard has no tables', undefined, [['a', 1], ['b', 1]], [0], [['a', 1], ['b', 0]]],
    ['the first, one shard is drained', undefined, [['a', 0], ['b', 1]], all, [['a', 0], ['b', 1]]],
    ['nothing new', [['a', 1], ['b', 2]], [['a', 1], ['b', 2]], all, 'same'],
    ['nothing new, and nobody can be asked', [['a', 1], ['b', 2]], [['a', 1], ['b', 2]], [], 'same'],
    ['a shard more that has no tables', [['a', 1]], [['a', 1], ['b', 1]], [0], [['a', 1], ['b', 0]]],
    ['still none', [['a', 1], ['b', 0]], [['a', 1], ['b', 1]], [0], 'same'],
    ['now it has them', [['a', 1], ['b', 0]], [['a', 1], ['b', 1]], [0, 1], [['a', 1], ['b', 1]]],
    ['other weights', [['a', 1], ['b', 1]], [['a', 3], ['b', 2]], [], [['a', 3], ['b', 2]]],
    ['one is drained', [['a', 1], ['b', 1]], [['a', 0], ['b', 1]], all, [['a', 0], ['b', 1]]],
    ['it comes back', [['a', 0], ['b', 1]], [['a', 1], ['b', 1]], all, [['a', 1], ['b', 1]]],
    ['the last one left', [['a', 1], ['b', 1]], [['a', 1]], all, [['a', 1], ['b', 0]]],
    ['it is still away', [['a', 1], ['b', 0]], [['a', 1]], all, 'same'],
    ['it is back without its tables', [['a', 1], ['b', 0]], [['a', 1], ['b', 1]], [0], 'same'],
    ['a name is learnt', [['', 1]], [['a', 1]], all, [['a', 1]]],
    ['a name is not known now', [['a', 1], ['b', 1]], [['a', 1], ['', 1]], all, 'same'],
    ['shards without names', [['', 1], ['', 1]], [['', 1], ['', 2]], all, [['', 1], ['', 2]]],
  ])('%s', (_, known, definition, ready, expected) => {
    const current = known === undefined ? undefined : routing(known, 7);
    const next = nextRouting(current, topology(definition), (shard) => ready.includes(shard));
    if (expected === 'same') expect(next).toEqual({ kind: 'same' });
    else expect(next).toEqual({ kind: 'changed', routing: routing(expected, known === undefined ? 1 : 8) });
  });

  it.each<[string, Given | undefined, Given, number[], RegExp]>([
    ['names swapped', [['a', 1], ['b', 1]], [['b', 1], ['a', 1]], all, /1 was "a" and is now "b" and .*"b" and is now "a"/],
    ['one in front', [['a', 1]], [['b', 1], ['a', 1]], all, /1 was "a" and is now "b"/],
    ['one taken out', [['a', 1], ['b', 1], ['c', 1]], [['a', 1], ['c', 1]], all, /2 was "b" and is now "c"/],
    ['one in front that cannot be asked', [['a', 1]], [['', 1], ['a', 1]], all, /2 was another and is now "a"/],
    ['nobody is ready', undefined, [['a', 1], ['b', 0]], [], /\(1\) none has a replica with all tables/],
    ['no weight at all', [['a', 1]], [['a', 0]], all, /every shard of the cluster "main" has weight 0/],
    ['only a new one has weight', [['a', 1]], [['a', 0], ['b', 1]], [0], /\(2\) none has a replica/],
  ])('is refused: %s', (_, known, definition, ready, message) => {
    const current = known === undefined ? undefined : routing(known);
    const next = nextRouting(current, topology(definition), (shard) => ready.includes(shard));
    expect(next).toEqual({ kind: 'refused', message: expect.stringMatching(message) });
  });

  it('is refused for another cluster', () => {
    const next = nextRouting(routing([['a', 1]]), topology([['a', 1]], 'other'), () => true);
    expect(next).toEqual({ kind: 'refused', message: expect.stringMatching(/cluster "main", but .* "other"/) });
  });
});

describe('in Redis', () => {
  let server: RedisServer;
  let redis: LeanConnection;
  let others: LeanConnection[];
  let store: RoutingStore;

  beforeAll(async () => {
    server = await RedisServer.start();
    redis = await server.connect();
    others = await Promise.all(Array.from({ length: 5 }, () => server.connect()));
    store = new RoutingStore(redis);
  });
  beforeEach(async () => {
    await redis.command(['FLUSHALL']);
  });
  afterAll(async () => {
    for (const connection of [redis, ...others]) connection.close();
    await server.remove();
  });

  it('is none at first, then what was published', async () => {
    expect(await store.read()).toBeUndefined();
    expect(await store.publish(0, routing([['a', 1]], 1))).toBe('published');
    expect(await store.read()).toEqual(routing([['a', 1]], 1));
    expect(await store.publish(1, routing([['a', 1], ['b', 0]], 2))).toBe('published');
    const second = { ...routing([['a', 1], ['b', 0]], 2), before: [{ generation: 1, weights: [1] }] };
    expect(await store.read()).toMatchObject(second);
  });

  it.each<[string, number, Routing, string]>([
    ['first again', 0, routing([['a', 2], ['b', 1]], 1), 'overtaken'],
    ['from a later one', 3, routing([['a', 2], ['b', 1]], 4), 'overtaken'],
    ['with a shard less', 2, routing([['a', 1]], 3), 'fewer'],
    ['with names that moved', 2, routing([['b', 1], ['a', 1]], 3), 'moved'],
    ['with a name forgotten', 2, routing([['a', 1], ['', 1]], 3), 'moved'],
    ['of another cluster', 2, routing([['a', 1], ['b', 1]], 3, 'other'), 'cluster'],
  ])('is not replaced by one %s', async (_, previous, next, answer) => {
    await store.publish(0, routing([['a', 1]], 1));
    await store.publish(1, routing([['a', 1], ['b', 1]], 2));
    expect(await store.publish(previous, next)).toBe(answer);
    expect(await store.read()).toMatchObject(routing([['a', 1], ['b', 1]], 2));
  });

  it('keeps the last ones in mind, and when they ended', async () => {
    const startedMs = Date.now();
    for (let i = 0; i < 20; i++) await store.publish(i, routing([['a', i + 1]], i + 1));
    const before = (await store.read())?.before ?? [];
    expect(before.map(({ generation }) => generation)).toEqual(Array.from({ length: 16 }, (_, i) => 19 - i));
    for (const { generation, weights, untilMs } of before) {
      expect(weights).toEqual([generation]);
      // Redis says so in whole seconds.
      expect(untilMs).toBeGreaterThan(startedMs - 2_000);
      expect(untilMs).toBeLessThan(Date.now() + 2_000);
    }
  });

  it('changes once for each generation, however many publish', async () => {
    await store.publish(0, routing([['a', 1]], 1));
    const won: number[] = [];
    const publisher = async (connection: LeanConnection, name: number) => {
      const own = new RoutingStore(connection);
      for (let tries = 0; tries < 20; tries++) {
        const current = (await own.read()) as Routing;
        const next = routing([['a', name * 100 + tries + 1]], current.generation + 1);
        if ((await own.publish(current.generation, next)) === 'published') won.push(next.generation);
      }
    };
    await Promise.all(others.map(publisher));
    const last = (await store.read()) as Routing;
    expect(won.sort((a, b) => a - b)).toEqual(Array.from({ length: last.generation - 1 }, (_, i) => i + 2));
    expect(won.length).toBeGreaterThanOrEqual(20);
  });

  it.each([
    'no JSON',
    '[]',
    '{"cluster":"main","generation":1}',
    '{"cluster":"main","generation":1,"shards":[]}',
    '{"cluster":"main","generation":0,"shards":[{"name":"a","weight":1}]}',
    '{"cluster":"main","generation":1,"shards":[{"name":"a","weight":-1}]}',
    '{"cluster":"main","generation":1,"shards":[{"name":"a","weight":0}]}',
  ])('is a Fault where somebody else wrote %j', async (text) => {
    await redis.command(['SET', 'sluice:routing', text]);
    await expect(store.read()).rejects.toMatchObject({ code: 'routing_unreadable', retry: 'elsewhere' });
  });

  it('may have more in it than this version knows', () => {
    const text = '{"cluster":"main","generation":1,"shards":[{"name":"a","weight":1,"zone":"x"}],"by":"y"}';
    expect(parseRouting(text)).toEqual(routing([['a', 1]]));
  });
});
