/**
 * Goal: in a cluster every command finds the master of its key, also after slots have moved and masters were
 * killed, demoted or stood still; a slot that is being moved refuses and loses nothing.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Settings } from '../../src/config/settings.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import { RedisClient } from '../../src/redis/client.ts';
import { Script } from '../../src/redis/scripts.ts';
import { slotOf } from '../../src/redis/slots.ts';
import { inspectRedis, judgeRedis } from '../../src/redis/check.ts';
import { type FarmNode, type RedisCluster, startRedisCluster } from '../support/redis-farm.ts';
import { Load } from './load.ts';
import { connected, eventually, silent } from './server.ts';

/** Of four shards; they lie on all three masters. */
const KEYS = ['{s0}:set', '{s1}:set', '{s2}:set', '{s3}:set'];
let cluster: RedisCluster;
const endings: (() => unknown)[] = [];

beforeAll(async () => {
  cluster = await startRedisCluster({ password: 'secret' });
});
afterEach(async () => {
  for (const end of endings.splice(0).reverse()) await end();
});
afterAll(() => cluster?.stop());

async function connect(changes: Partial<Settings['redis']> = {}): Promise<RedisClient> {
  const redis = cluster.settings(changes);
  const client = new RedisClient({ redis, logger: silent, instruments: createInstruments() });
  endings.push(() => client.close());
  await connected(client);
  return client;
}

/** All nodes run, and every master has its replica. */
async function whole(): Promise<void> {
  for (const node of cluster.nodes) if (!node.running()) await node.start();
  const followed = async (node: FarmNode) =>
    String(await node.ask('INFO', 'replication')).includes('state=online');
  const all = async () => (await Promise.all((await cluster.masters()).map(followed))).every(Boolean);
  await eventually(all, 'every master has its replica', 30_000);
}

describe('keys', () => {
  it('are in the slots that Redis says', async () => {
    const client = await connect();
    for (const key of [
      '',
      'a',
      '123456789',
      '{s0}:counts',
      'x{s1}y',
      '{}x',
      'a{}b{c}',
      '{a',
      'ä{ö}',
      '}{x}',
    ]) {
      expect([key, slotOf(key)]).toEqual([key, await client.command(['CLUSTER', 'KEYSLOT', key])]);
    }
  });

  it('are found at their masters, with streams and scripts', async () => {
    const client = await connect();
    expect(client.ready).toBe(true);
    expect(client.masters).toHaveLength(3);
    const script = new Script("return redis.call('RPUSH', KEYS[1], ARGV[1], ARGV[2])");
    for (let shard = 0; shard < 8; shard++) {
      const key = `{s${shard}}:list`;
      expect(await script.run(client, [key], ['ab', Buffer.from('cd')])).toBe(2);
      expect(client.homeOf(key)?.port).toBe((await cluster.master(key)).port);
      const reader = await client.takeReader(key);
      const views: Buffer[] = [];
      for await (const view of reader.stream(['LRANGE', key, 0, -1])) views.push(view);
      expect(Buffer.concat(views).toString()).toBe('abcd');
      client.giveReader(reader);
    }
    expect(new Set(KEYS.map((key) => client.homeOf(key)?.port)).size).toBe(3);
  });

  it('are found without being named, by asking once more', async () => {
    const client = await connect();
    for (let i = 0; i < 20; i++) expect(await client.command(['SET', `key${i}`, i])).toBe('OK');
    for (let i = 0; i < 20; i++) expect(await client.command(['GET', `key${i}`])).toBe(String(i));
  });
});

it('is looked at master by master', async () => {
  const client = await connect();
  const settings = cluster.settings({ durability: 'replicated', replicas: 2 });
  const facts = await Promise.all(client.masters.map(inspectRedis));
  expect(facts.map(({ clusterState, replicas }) => [clusterState, replicas])).toEqual(
    Array.from({ length: 3 }, () => ['ok', 1]),
  );
  const found = judgeRedis(facts, settings).filter(({ level }) => level === 'wait');
  const names = client.masters.map(({ endpoint }) => `${endpoint?.host}:${endpoint?.port}`);
  expect(found.map(({ message }) => message.split(': ')[0])).toEqual(names);
});

it('refuses a URL that leads to no cluster, and one with a wrong password', async () => {
  const { url } = cluster;
  for (const [wrong, code] of [
    [url.replace('secret', 'other'), 'redis_auth'],
    ['redis+cluster://127.0.0.1:1', 'redis_unavailable'],
  ] as const) {
    const client = new RedisClient({ redis: cluster.settings({ url: wrong }), logger: silent });
    endings.push(() => client.close());
    await expect(client.connect()).rejects.toMatchObject({ code });
    expect(client.ready).toBe(false);
    await expect(client.command(['GET', 'x'], 'x')).rejects.toMatchObject({ code: 'redis_unavailable' });
  }
});

describe('a slot that moves', () => {
  it('refuses while it moves, and is found where it went', async () => {
    const client = await connect();
    const key = '{moving}:list';
    const slot = slotOf(key);
    const from = await cluster.master(key);
    const to = (await cluster.masters()).find((node) => node !== from) as FarmNode;
    const [fromId, toId] = [
      String(await from.ask('CLUSTER', 'MYID')),
      String(await to.ask('CLUSTER', 'MYID')),
    ];
    // The only key of our scripts is a prefix, which is never there itself.
    const script = new Script("return redis.call('RPUSH', KEYS[1] .. 'list', ARGV[1])");
    const push = (text: string) => script.run(client, ['{moving}:'], [Buffer.from(text)]);
    expect(await push('one')).toBe(1);
    const reader = await client.takeReader(key);

    await to.ask('CLUSTER', 'SETSLOT', slot, 'IMPORTING', fromId);
    await from.ask('CLUSTER', 'SETSLOT', slot, 'MIGRATING', toId);
    await expect(push('two')).rejects.toMatchObject({
      code: 'redis_unavailable',
      retry: 'here',
      message: expect.stringContaining('is being moved'),
    });
    await from.ask('MIGRATE', '127.0.0.1', to.port, key, 0, 5_000, 'AUTH', 'secret');
    await expect(push('two')).rejects.toMatchObject({ code: 'redis_unavailable' });
    for (const node of [to, from]) await node.ask('CLUSTER', 'SETSLOT', slot, 'NODE', toId);

    expect(await push('two')).toBe(2);
    expect(client.homeOf(key)?.port).toBe(to.port);
    await expect(reader.command(['LLEN', key])).rejects.toMatchObject({ code: 'redis_unavailable' });
    client.giveReader(reader);
    const next = await client.takeReader(key);
    expect(await next.command(['LRANGE', key, 0, -1])).toEqual(['one', 'two']);
    client.giveReader(next);
  });

  it('is found by a reader that comes too late, too', async () => {
    const client = await connect();
    const key = '{late}:list';
    const slot = slotOf(key);
    const from = await cluster.master(key);
    const to = (await cluster.masters()).find((node) => node !== from) as FarmNode;
    await client.command(['PING'], key);
    const [fromId, toId] = [String(await from.ask('CLUSTER', 'MYID')), String(await to.ask('CLUSTER', 'MYID'))];
    // Who imports a slot gets a newer epoch with it: else the others would take it back from a lower one.
    await to.ask('CLUSTER', 'SETSLOT', slot, 'IMPORTING', fromId);
    for (const node of [to, from]) await node.ask('CLUSTER', 'SETSLOT', slot, 'NODE', toId);
    const reader = await client.takeReader(key);
    await expect(reader.command(['LLEN', key])).rejects.toMatchObject({ code: 'redis_unavailable' });
    client.giveReader(reader);
    const next = await client.takeReader(key);
    expect(await next.command(['LLEN', key])).toBe(0);
    client.giveReader(next);
  });
});

describe('a master that goes', { timeout: 240_000 }, () => {
  it('by SIGKILL in the middle of the pipeline: what was confirmed is there, and it goes on', async () => {
    await whole();
    const client = await connect({ durability: 'replicated', replicas: 1 });
    const load = new Load(client, KEYS);
    await load.flows();
    const master = await cluster.master(KEYS[0]);
    await master.kill();
    await eventually(() => !client.ready, 'it is noticed');
    const unreplicated = () => load.faults.some(({ code }) => code === 'replicas_missing');
    await eventually(unreplicated, 'its heir takes writes, and has no replica to confirm them', 30_000);
    const isReplaced = async () => (await cluster.master(KEYS[0])).port !== master.port;
    await eventually(isReplaced, 'all know the heir');
    await master.start();
    await load.flows();
    await load.stop();
    await eventually(() => client.ready, 'it is whole again');
  });

  it('by being demoted: nobody gets to see more than a moment of it', async () => {
    await whole();
    const client = await connect();
    const load = new Load(client, KEYS);
    await load.flows();
    const master = await cluster.master(KEYS[0]);
    const id = String(await master.ask('CLUSTER', 'MYID'));
    const heirs = await Promise.all(
      cluster.nodes.map(async (node) => ({
        node,
        role: await node.ask('CLUSTER', 'REPLICAS', id).catch(() => []),
      })),
    );
    const line = String(heirs.flatMap(({ role }) => (Array.isArray(role) ? role : []))[0]);
    const heir = cluster.nodes.find(({ name }) => line.includes(`${name}@`)) as FarmNode;
    const moved = () => client.homeOf(KEYS[0] ?? '')?.port === heir.port;
    await eventually(async () => {
      // One that takes more than five seconds is given up, and has to be asked for again.
      await heir.ask('CLUSTER', 'FAILOVER').catch(() => undefined);
      return eventually(moved, 'writes go to the heir', 7_000);
    }, 'writes go to the heir', 30_000);
    await load.flows();
    await load.stop();
  });

  it('by standing still: commands end in time, and it goes on', async () => {
    await whole();
    const client = await connect({ timeoutMs: 2_000 });
    const master = await cluster.master(KEYS[0]);
    // What it had not passed on when it stood still is lost: nobody promised more for one server's word.
    const homes = await Promise.all(KEYS.map((key) => cluster.master(key)));
    const load = new Load(client, KEYS.filter((_, i) => homes[i] !== master));
    await load.flows();
    master.signal('SIGSTOP');
    try {
      const code = await client.command(['GET', 'x'], KEYS[0]).catch((error) => error.code);
      expect(code).toBe('redis_unavailable');
      await eventually(() => client.command(['SET', KEYS[0] ?? '', 'y'], KEYS[0]), 'the heir', 30_000);
      await load.flows();
    } finally {
      master.signal('SIGCONT');
    }
    await load.stop();
  });
});
