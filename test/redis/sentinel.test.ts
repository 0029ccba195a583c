/**
 * Goal: with sentinels, their own password and TLS, the master is found and found again whatever takes it
 * away (a kill, a demotion, a standstill), without a restart, and nothing is lost that replicas have
 * confirmed.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Settings } from '../../src/config/settings.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import { RedisClient } from '../../src/redis/client.ts';
import { FAILOVER_MS_MAX, type SentinelTrio, startSentinelTrio } from '../support/redis-farm.ts';
import { Load } from './load.ts';
import { connected, eventually, silent } from './server.ts';

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
  const follow = async () => {
    const master = await trio.master();
    for (const node of trio.nodes.filter((one) => one !== master)) {
      const role = await node.ask('ROLE');
      const [what, , of] = Array.isArray(role) ? role : [];
      // The sentinels would say so too, after ten seconds.
      if (what === 'master' || of !== master.port) await node.ask('REPLICAOF', '127.0.0.1', master.port);
    }
    const facts = String(await master.ask('INFO', 'replication'));
    return [...facts.matchAll(/state=online/g)].length === trio.nodes.length - 1;
  };
  await eventually(follow, 'both replicas follow', 30_000);
}

/** What a client of its own is refused with. A sentinel that takes more than a second counts as away. */
function refusal(code: string, changes: Partial<Settings['redis']>): Promise<Error> {
  return eventually(async () => {
    const fault = await create(changes)
      .connect()
      .catch((error) => error);
    return fault?.code === code ? fault : undefined;
  }, `a refusal: ${code}`);
}

async function connect(changes: Partial<Settings['redis']> = {}, instruments = createInstruments()) {
  const client = create(changes, instruments);
  await connected(client);
  return client;
}

describe('the sentinels', () => {
  it('lead to the master, over TLS and with the passwords of both', async () => {
    const client = await connect();
    const { port } = await eventually(() => trio.master(), 'a master');
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
    const fault = await refusal(code, changes);
    expect(fault).toMatchObject({ code, message: expect.stringContaining(message) });
  });

  it.each([
    ['a wrong password', 'rediss+sentinel://:no@', '', 'redis_auth', 'WRONGPASS'],
    ['an unknown name', 'rediss+sentinel://', 'x', 'redis_error', 'know no master named mymasterx'],
  ])('lead nowhere with %s', async (_, scheme, suffix, code, message) => {
    const url = `${trio.url.replace(/^.*@/, scheme)}${suffix}`;
    const fault = await refusal(code, { url });
    expect(fault).toMatchObject({ code, retry: 'never', message: expect.stringContaining(message) });
  });

  it('may miss one of them', async () => {
    await trio.sentinels[0]?.kill();
    const client = await connect();
    expect(await client.command(['PING'])).toBe('PONG');
    await trio.sentinels[0]?.start();
  });
});

describe('a master that goes', { timeout: 240_000 }, () => {
  it('by SIGKILL in the middle of the pipeline: what was confirmed is there, and it goes on', async () => {
    await whole();
    const instruments = createInstruments();
    const client = await connect({ durability: 'replicated', replicas: 1 }, instruments);
    const up = async () => (await instruments.redisUp.get()).values[0]?.value;
    expect(await up()).toBe(1);
    const load = new Load(client, ['{s0}:set', '{s1}:set']);
    await load.flows();
    const master = await eventually(() => trio.master(), 'a master');
    await master.kill();
    await eventually(async () => (await up()) === 0, 'it is noticed');
    await expect(client.command(['PING'])).rejects.toMatchObject({ code: 'redis_unavailable' });
    await load.flows();
    await load.stop();
    expect(load.faults.length).toBeGreaterThan(0);
    await eventually(async () => (await up()) === 1, 'it is up');
    expect((await instruments.redisReconnects.get()).values[0]?.value).toBeGreaterThan(0);
    expect((await eventually(() => trio.master(), 'a master')).port).not.toBe(master.port);
  });

  it('by being demoted: the new one is found', async () => {
    await whole();
    const client = await connect();
    const before = await eventually(() => trio.master(), 'a master');
    const sinceMs = performance.now();
    await trio.failover();
    const moved = async () => {
      await client.command(['SET', 'x', 'y']);
      return client.homeOf('x')?.port !== before.port;
    };
    await eventually(moved, 'writes go to another server');
    // The sentinels themselves take ten seconds to demote it.
    const role = await before.ask('ROLE');
    if (performance.now() - sinceMs < 7_000) expect(role).toMatchObject({ 0: 'master' });
  });

  it('by standing still: commands end in time, and the next master is found', async () => {
    await whole();
    const client = await connect({ timeoutMs: 2_000 });
    const master = await eventually(() => trio.master(), 'a master');
    const reader = await client.takeReader('x');
    master.signal('SIGSTOP');
    try {
      const codes = await Promise.all(
        Array.from({ length: 50 }, () => client.command(['PING']).catch((error) => error.code)),
      );
      expect(new Set(codes)).toEqual(new Set(['redis_unavailable']));
      await eventually(() => client.command(['SET', 'x', 'y']), 'another master', FAILOVER_MS_MAX);
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
