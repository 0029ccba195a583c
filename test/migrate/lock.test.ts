// Goal: of several migrators one holds the lock, for as long as it lives and not longer; who comes second
// learns who is first; who lost it stops before the next statement; Redis away is refused with a way out.
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ConfigurationError, Fault } from '../../src/base/errors.ts';
import { type LockOptions, MigrationLock, lockKey, withLock } from '../../src/migrate/lock.ts';
import type { LeanConnection } from '../../src/redis/lean.ts';
import { RedisServer, freePort, silent } from '../redis/server.ts';
import { eventually } from '../support/services.ts';
import { refusalOf } from './fixture.ts';

let redis: RedisServer;
let connection: LeanConnection;
beforeAll(async () => {
  redis = await RedisServer.start();
  connection = await redis.connect();
});
afterAll(async () => {
  connection.close();
  await redis.remove();
});

function optionsFor(target: string, more: Partial<LockOptions> = {}): LockOptions {
  return {
    redis: { ...redis.settings, timeoutMs: 30_000 },
    target,
    database: 'otel',
    lockMs: 20_000,
    waitMsMax: 0,
    version: '1.2.3',
    logger: silent,
    ...more,
  };
}

test('a second migrator leaves at once with the name of the first, and gets the lock after it', async () => {
  const options = optionsFor('second');
  const first = await MigrationLock.acquire(options);
  const words = await refusalOf(MigrationLock.acquire(options));
  expect(words).toMatch(
    new RegExp(
      `another migrator is at work \\(.+, pid ${process.pid}, sluice 1\\.2\\.3, since 20\\d\\d-.*Z\\).*--wait`,
    ),
  );
  await first.release();
  const second = await MigrationLock.acquire(options);
  expect(second.fence).toBe(first.fence + 1);
  await second.release();
});

test('other clusters and databases have locks of their own', async () => {
  const lock = await MigrationLock.acquire(optionsFor('one'));
  for (const more of [{ target: 'two' }, { database: 'other' }]) {
    const other = await MigrationLock.acquire(optionsFor('one', more));
    await other.release();
  }
  await lock.release();
});

test('six that wait have it one after the other, each with a higher number', async () => {
  const options = optionsFor('six', { waitMsMax: 100_000 });
  let inside = 0;
  const fences: number[] = [];
  const one = async () => {
    const lock = await MigrationLock.acquire(options);
    inside += 1;
    expect(inside).toBe(1);
    fences.push(lock.fence);
    await delay(20);
    inside -= 1;
    await lock.release();
  };
  await Promise.all(Array.from({ length: 6 }, one));
  expect(fences).toEqual([...fences].sort((a, b) => a - b));
  expect(new Set(fences).size).toBe(6);
});

test('waiting has a bound, which is named', async () => {
  const lock = await MigrationLock.acquire(optionsFor('bound'));
  expect(await refusalOf(MigrationLock.acquire(optionsFor('bound', { waitMsMax: 300 })))).toMatch(
    /waited for 300 ms \(SLUICE_MIGRATIONS_WAIT_MS_MAX\)/,
  );
  await lock.release();
});

test('one that lives keeps it beyond its lease, one that died loses it with its lease', async () => {
  // Renewed every 3 s; so nobody may stand still for longer than 6.
  const options = optionsFor('lease', { lockMs: 9_000 });
  const leftMs = async () => Number(await connection.command(['PTTL', lockKey(options)]));
  await withLock(options, async (guard) => {
    let before = await leftMs();
    expect(before).toBeLessThanOrEqual(9_000);
    await eventually('it is renewed by itself', async () => {
      const last = before;
      before = await leftMs();
      return before > last;
    });
    await guard();
    await expect(MigrationLock.acquire(options)).rejects.toBeInstanceOf(Fault);
  });
  // What a migrator leaves that was killed.
  await connection.command(['SET', lockKey(options), 'token 7 a host, pid 1']);
  expect(await refusalOf(MigrationLock.acquire(options))).toContain('(a host, pid 1)');
  const waiting = MigrationLock.acquire({ ...options, waitMsMax: 60_000 });
  await connection.command(['PEXPIRE', lockKey(options), 500]);
  const next = await waiting;
  await next.release();
});

test('a lock that was taken away stops the migrator before its next statement, and is not given back', async () => {
  const options = optionsFor('taken');
  const lock = await MigrationLock.acquire(options);
  await lock.check();
  await connection.command(['SET', lockKey(options), 'token 8 somebody else']);
  expect(await refusalOf(lock.check())).toMatch(/lock of the migrator was lost.*before the next statement/);
  await lock.release();
  expect(await connection.command(['GET', lockKey(options)])).toBe('token 8 somebody else');
});

test('a Redis that stands still: the lock holds for its lease, with a margin, and not longer', async () => {
  const options = optionsFor('still', { lockMs: 4_000, redis: { ...redis.settings, timeoutMs: 1_000 } });
  let sinceMs = performance.now();
  const lock = await eventually('the lock', () => {
    sinceMs = performance.now();
    return MigrationLock.acquire(options).catch(() => undefined);
  });
  redis.signal('SIGSTOP');
  try {
    const words = await eventually('its end', () =>
      lock.check().then(
        () => undefined,
        (error: Fault) => error.code,
      ),
    );
    expect(words).toBe('migrate_lock_lost');
    // With a quarter of the lease left.
    expect(performance.now() - sinceMs).toBeGreaterThanOrEqual(3_000);
  } finally {
    redis.signal('SIGCONT');
  }
  await lock.release();
});

test('without Redis it is refused, naming the setting and the way without a lock', async () => {
  const url = `redis://127.0.0.1:${await freePort()}/0`;
  const options = optionsFor('away', { redis: { ...redis.settings, url } });
  await expect(MigrationLock.acquire(options)).rejects.toBeInstanceOf(ConfigurationError);
  expect(await refusalOf(MigrationLock.acquire(options))).toMatch(
    /ECONNREFUSED.*SLUICE_REDIS_URL.*--no-lock/s,
  );
});

test('the lock is given back whatever happens under it', async () => {
  const options = optionsFor('thrown');
  await expect(withLock(options, () => Promise.reject(new Error('statement failed')))).rejects.toThrow(
    'statement failed',
  );
  const next = await MigrationLock.acquire(options);
  await next.release();
});
