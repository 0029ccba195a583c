/**
 * Goal: with sentinels, their own password and TLS, the master is found and found again whatever takes it
 * away (a kill, a demotion, a standstill), without a restart, and nothing is lost that replicas have
 * confirmed.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Settings } from '../../src/config/settings.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import { RedisClient } from '../../src/redis/client.ts';
import { type SentinelTrio, startSentinelTrio } from '../support/redis-farm.ts';
import { Load } from './load.ts';
import { eventually, silent } from './server.ts';

let trio: SentinelTrio;
const endings: (() => unknown)[] = [];

beforeAll(async () => {
  trio = await startSentinelTrio({ password: 'p@ss/word', sentinelPassword: 'guarded', tls: true });
});
afterEach(async () => {
  for (const end of endings.splice(0).reverse()) await end();
});
afterAll(() => trio?.stop());

function create(changes: Partial<Settings['redis']> = {}, instruments = createInstruments()): RedisClient {
  const client = new RedisClient({ redis: trio.settings(changes), logger: silent, instruments });
  endings.push(() => client.close());
  return client;
}

/** All servers run, and whoever is no master follows the one that is. */
async function whole(): Promise<void> {
  for (const node of trio.nodes) if (!node.running()) await node.start();
  const { port } = await eventually(() => trio.master(), 'a master');
  for (const node of trio.nodes) {
    const role = await node.ask('ROLE');
    const strays = Array.isArray(role) && role[0] === 'master' && node.port !== port;
    // The sentinels would say so too, after ten seconds.
    if (strays) await node.ask('REPLICAOF', '127.0.0.1', port);
  }
  const replicas = async () => {
    const master = await trio.master();
    const facts = String(await master.ask('INFO', 'replication'));
    return [...facts.matchAll(/state=online/g)].length === trio.nodes.length - 1;
  };
  await eventually(replicas, 'both replicas follow');
}

describe('the sentinels', () => {
  it('lead to the master, over TLS and with the passwords of both', async () => {
    const client = create();
    await client.connect();
    const { port } = await trio.master();
    expect(client.masters.map(({ endpoint }) => endpoint?.port)).toEqual([port]);
    expect(client.homeOf('any')).toMatchObject({ host: '127.0.0.1', port });
    expect(await client.command(['ROLE'])).toMatchObject({ 0: 'master' });
  });

  it.each([
    ['a wrong password of the sentinels', { sentinelPassword: 'no' }, 'redis_auth', 'sentinels refuse us'],
    ['none of the sentinels', { sentinelPassword: '' }, 'redis_auth', 'sentinels refuse us'],
    ['no authority', { tlsCaFile: '' }, 'redis_unavailable', 'no sentinel can be asked'],
    ['no TLS to the sentinels', { sentinelTls: 'off' }, 'redis_unavailable', 'no sentinel can be asked'],
  ] as const)('refuse: %s', async (_, changes, code, message) => {
    const fault = await create(changes)
      .connect()
      .catch((error) => error);
    expect(fault).toMatchObject({ code, message: expect.stringContaining(message) });
  });

  it.each([
    ['a wrong password', 'rediss+sentinel://:no@', '', 'redis_auth', 'WRONGPASS'],
    ['an unknown name', 'rediss+sentinel://', 'x', 'redis_error', 'know no master named mymasterx'],
  ])('lead nowhere with %s', async (_, scheme, suffix, code, message) => {
    const url = `${trio.url.replace(/^.*@/, scheme)}${suffix}`;
    const fault = await create({ url })
      .connect()
      .catch((error) => error);
    expect(fault).toMatchObject({ code, retry: 'never', message: expect.stringContaining(message) });
  });

  it('may miss one of them', async () => {
    await trio.sentinels[0]?.kill();
    const client = create();
    await client.connect();
    expect(await client.command(['PING'])).toBe('PONG');
    await trio.sentinels[0]?.start();
  });
});

describe('a master that goes', () => {
  it('by SIGKILL in the middle of the pipeline: what was confirmed is there, and it goes on', async () => {
    await whole();
    const instruments = createInstruments();
    const client = create({ durability: 'replicated', replicas: 1 }, instruments);
    await client.connect();
    const up = async () => (await instruments.redisUp.get()).values[0]?.value;
    expect(await up()).toBe(1);
    const load = new Load(client, ['{s0}:set', '{s1}:set']);
    await load.flows();
    const master = await trio.master();
    await master.kill();
    await eventually(async () => (await up()) === 0, 'it is noticed');
    await expect(client.command(['PING'])).rejects.toMatchObject({ code: 'redis_unavailable' });
    await load.flows();
    await load.stop();
    expect(load.faults.length).toBeGreaterThan(0);
    expect(await up()).toBe(1);
    expect((await instruments.redisReconnects.get()).values[0]?.value).toBeGreaterThan(0);
    expect((await trio.master()).port).not.toBe(master.port);
  });

  it('by being demoted: the new one is found', async () => {
    await whole();
    const client = create();
    await client.connect();
    const before = await trio.master();
    await trio.failover();
    const moved = async () => {
      await client.command(['SET', 'x', 'y']);
      return client.homeOf('x')?.port !== before.port;
    };
    await eventually(moved, 'writes go to another server');
    // The sentinels themselves take ten seconds to demote it.
    expect(await before.ask('ROLE')).toMatchObject({ 0: 'master' });
  });

  it('by standing still: commands end in time, and the next master is found', async () => {
    await whole();
    const client = create({ timeoutMs: 1_000 });
    await client.connect();
    const master = await trio.master();
    const reader = await client.takeReader('x');
    master.signal('SIGSTOP');
    try {
      const codes = await Promise.all(
        Array.from({ length: 50 }, () => client.command(['PING']).catch((error) => error.code)),
      );
      expect(new Set(codes)).toEqual(new Set(['redis_unavailable']));
      await eventually(() => client.command(['SET', 'x', 'y']), 'another master', 30_000);
      expect(client.homeOf('x')?.port).not.toBe(master.port);
    } finally {
      master.signal('SIGCONT');
    }
    // It is of the time before: nobody gets it again.
    client.giveReader(reader);
    const next = await client.takeReader('x');
    expect(next.endpoint?.port).toBe(client.homeOf('x')?.port);
    client.giveReader(next);
  });
});
