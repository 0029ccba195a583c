/**
 * Goal: `replicated` acknowledges what replicas have and nothing else, or says that it does not; and a client
 * goes on after its server forgot its scripts, was full, or was a replica for a while.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Settings } from '../../src/config/settings.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import { RedisClient } from '../../src/redis/client.ts';
import type { LeanConnection } from '../../src/redis/lean.ts';
import { Script } from '../../src/redis/scripts.ts';
import { Load } from './load.ts';
import { RedisServer, connected, eventually, silent } from './server.ts';

const ADD = new Script("return redis.call('SADD', KEYS[1], ARGV[1])");
let master: RedisServer;
let replica: RedisServer;
let admin: LeanConnection;
const endings: (() => unknown)[] = [];

beforeAll(async () => {
  const quick = ['--repl-diskless-sync-delay', '0'];
  [master, replica] = await Promise.all([RedisServer.start(...quick), RedisServer.start(...quick)]);
  admin = await master.connect();
});
beforeEach(async () => {
  await tell(replica, 'REPLICAOF', '127.0.0.1', master.port);
  const follows = async () => /state=online/.test(String(await admin.command(['INFO', 'replication'])));
  await eventually(follows, 'the replica follows');
});
afterEach(async () => {
  for (const end of endings.splice(0).reverse()) await end();
});
afterAll(async () => {
  admin?.close();
  await Promise.all([master?.remove(), replica?.remove()]);
});

async function tell(server: RedisServer, ...parts: (string | number)[]): Promise<unknown> {
  const connection = await server.connect();
  try {
    return await connection.command(parts);
  } finally {
    connection.close();
  }
}

async function connect(changes: Partial<Settings['redis']>, instruments = createInstruments()) {
  const redis = { ...master.settings, ...changes };
  const client = new RedisClient({ redis, logger: silent, instruments });
  endings.push(() => client.close());
  await connected(client);
  return client;
}

/** As long as it takes: whether the replica is quick is no question here. */
const PATIENT = { replicaWaitMs: 20_000 };

const missing = async (instruments: ReturnType<typeof createInstruments>) =>
  (await instruments.replicasMissing.get()).values.map(({ labels, value }) => [labels.outcome, value]);

describe('replicated', () => {
  it('is acknowledged when the replica has it', async () => {
    const client = await connect({ durability: 'replicated', ...PATIENT });
    await client.command(['SCRIPT', 'FLUSH']);
    expect(await ADD.runDurably(client, ['confirmed'], ['a'])).toBe(1);
    expect(await tell(replica, 'SMEMBERS', 'confirmed')).toEqual(['a']);
  });

  it.each([
    ['one that stands still', 'SIGSTOP'],
    ['one that left', 'REPLICAOF'],
  ] as const)('is refused without a replica: %s', async (name, how) => {
    const instruments = createInstruments();
    const client = await connect({ durability: 'replicated', replicaWaitMs: 300 }, instruments);
    const patient = await connect({ durability: 'replicated', ...PATIENT });
    await ADD.runDurably(patient, [name], ['before']);
    if (how === 'SIGSTOP') replica.signal(how);
    else await tell(replica, how, 'NO', 'ONE');
    try {
      const waiting = ADD.runDurably(patient, [name], ['patient']).then(
        () => 'acknowledged',
        () => 'refused',
      );
      // Who waits for replicas holds up nobody else.
      expect(await Promise.race([waiting, patient.command(['PING'])])).toBe('PONG');
      await expect(ADD.runDurably(client, [name], ['a'])).rejects.toMatchObject({
        code: 'replicas_missing',
        retry: 'here',
        message: expect.stringMatching(/0 of 1 replicas .*SLUICE_REDIS_REPLICAS.*WHEN_REPLICAS_MISSING/),
      });
      expect(await missing(instruments)).toEqual([['refused', 1]]);
      // It is on the master, so that a repetition can find it.
      expect(await client.command(['SISMEMBER', name, 'a'])).toBe(1);
      // A client that does not ask for replicas is not concerned.
      const carefree = await connect({ durability: 'everysec' });
      expect(await ADD.runDurably(carefree, [name], ['b'])).toBe(1);
    } finally {
      if (how === 'SIGSTOP') replica.signal('SIGCONT');
    }
  });

  it('counts as many replicas as are wanted', async () => {
    const client = await connect({ durability: 'replicated', replicas: 2, replicaWaitMs: 100 });
    await expect(ADD.runDurably(client, ['two'], ['a'])).rejects.toMatchObject({ code: 'replicas_missing' });
  });

  it('is acknowledged with a warning where that is wanted', async () => {
    const instruments = createInstruments();
    const warn = { durability: 'replicated', replicaWaitMs: 100, whenReplicasMissing: 'warn' } as const;
    const client = await connect(warn, instruments);
    await tell(replica, 'REPLICAOF', 'NO', 'ONE');
    expect(await ADD.runDurably(client, ['warned'], ['a'])).toBe(1);
    expect(await ADD.runDurably(client, ['warned'], ['b'])).toBe(1);
    expect(await missing(instruments)).toEqual([['warned', 2]]);
  });

  it('waits longer than an answer may take, if that is set so', async () => {
    const client = await connect({ durability: 'replicated', timeoutMs: 2_000, replicaWaitMs: 2_200 });
    await tell(replica, 'REPLICAOF', 'NO', 'ONE');
    await expect(ADD.runDurably(client, ['long'], ['a'])).rejects.toMatchObject({ code: 'replicas_missing' });
    expect(client.ready).toBe(true);
  });
});

describe.each(['everysec', 'replicated'] as const)('a server that changes, under %s', (durability) => {
  it('forgets its scripts under load: nobody notices', async () => {
    const client = await connect({ durability, ...PATIENT });
    const load = new Load(client, ['{s0}:flushed', '{s1}:flushed']);
    for (let i = 0; i < 20; i++) {
      await load.flows(20);
      await admin.command(['SCRIPT', 'FLUSH', i % 2 === 0 ? 'SYNC' : 'ASYNC']);
    }
    await load.flows();
    await load.stop();
    expect(load.faults).toEqual([]);
  });

  it('is full: refuses, and takes more when there is room', async () => {
    const client = await connect({ durability, ...PATIENT });
    await admin.command(['CONFIG', 'SET', 'maxmemory', 1]);
    try {
      const full = { code: 'redis_full', retry: 'here' };
      await expect(ADD.runDurably(client, ['full'], [durability])).rejects.toMatchObject(full);
    } finally {
      await admin.command(['CONFIG', 'SET', 'maxmemory', 0]);
    }
    expect(await ADD.runDurably(client, ['full'], [durability])).toBe(1);
  });

  it('says READONLY: it is away until it is a master again', async () => {
    const client = await connect({ durability });
    const reader = await client.takeReader('x');
    client.giveReader(reader);
    await tell(replica, 'REPLICAOF', 'NO', 'ONE');
    await admin.command(['REPLICAOF', '127.0.0.1', replica.port]);
    try {
      const away = { code: 'redis_unavailable', retry: 'here' };
      await expect(ADD.runDurably(client, ['role'], [durability])).rejects.toMatchObject(away);
      expect(client.ready).toBe(false);
      await expect(client.takeReader('x')).rejects.toMatchObject(away);
      await expect(client.command(['PING'])).rejects.toMatchObject({
        ...away,
        message: expect.stringMatching(/no master any more|is a replica/),
      });
    } finally {
      await admin.command(['REPLICAOF', 'NO', 'ONE']);
    }
    await eventually(() => client.ready, 'it is used again');
    expect(await client.command(['SADD', 'role', `${durability} again`])).toBe(1);
  });
});
