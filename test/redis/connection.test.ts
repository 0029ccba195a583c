/**
 * Goal: every form of the Redis URL is read or refused in words, and ioredis connections fail fast or wait as
 * promised.
 */
import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ConfigurationError } from '../../src/base/errors.ts';
import {
  connectRedis,
  connectRedisForWorker,
  parseRedisUrl,
  reconnectDelayMs,
} from '../../src/redis/connection.ts';
import { RedisServer, silent } from './server.ts';

describe('parseRedisUrl', () => {
  it.each([
    ['redis://127.0.0.1:6379/0', { host: '127.0.0.1', port: 6379, tls: false, db: 0 }],
    ['redis://cache', { host: 'cache', port: 6379, tls: false, db: 0 }],
    ['redis://cache/', { host: 'cache', port: 6379, tls: false, db: 0 }],
    ['rediss://cache:6380/15', { host: 'cache', port: 6380, tls: true, db: 15 }],
    ['redis://[::1]:7000/2', { host: '::1', port: 7000, tls: false, db: 2 }],
    ['redis://:secret@cache', { host: 'cache', port: 6379, tls: false, db: 0, password: 'secret' }],
    [
      'REDIS://us%40er:p%3A%2Fw@cache:1',
      { host: 'cache', port: 1, tls: false, db: 0, username: 'us@er', password: 'p:/w' },
    ],
  ])('%s', (url, endpoint) => {
    expect(parseRedisUrl(url)).toEqual(endpoint);
  });

  it.each([
    ['', 'no known scheme'],
    ['127.0.0.1:6379', 'no known scheme'],
    ['http://127.0.0.1:6379', 'no known scheme'],
    ['redis+sentinel://:secret@h1:26379,h2:26379/name', 'standalone Redis only'],
    ['redis+cluster://h1:6379,h2:6379', 'standalone Redis only'],
    ['redis://:secret@cache:99999', "can't be read"],
    ['redis:///0', 'names no host'],
    ['redis://cache/otel', 'wanted is a number'],
    ['redis://cache/0/1', 'wanted is a number'],
    ['redis://:secret%@cache', 'not percent-encoded'],
  ])('refuses %s', (url, reason) => {
    expect(() => parseRedisUrl(url)).toThrow(ConfigurationError);
    expect(() => parseRedisUrl(url)).toThrow(reason);
    expect(() => parseRedisUrl(url)).not.toThrow(/secret/);
  });
});

describe('reconnectDelayMs', () => {
  it('doubles, is bounded and has jitter', () => {
    for (const [attempts, step] of [
      [0, 25],
      [1, 50],
      [6, 1_600],
      [7, 2_000],
      [1_000_000, 2_000],
    ] as const) {
      const delays = Array.from({ length: 50 }, () => reconnectDelayMs(attempts));
      expect(Math.min(...delays)).toBeGreaterThanOrEqual(step / 2);
      expect(Math.max(...delays)).toBeLessThanOrEqual(step);
      expect(new Set(delays).size).toBeGreaterThan(1);
    }
  });
});

describe('ioredis connections', () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await RedisServer.start('--requirepass', 's3cret');
  });
  afterAll(() => server.remove());

  it('take password and database from the URL', async () => {
    const url = `redis://:s3cret@127.0.0.1:${server.port}/3`;
    const redis = connectRedis({ ...server.settings, url }, silent);
    await once(redis, 'ready');
    expect(String(await redis.client('INFO'))).toMatch(/ db=3 /);
    redis.disconnect();
  });

  it('reject commands at once without a connection or wait for it, without an error event', async () => {
    const settings = { ...server.settings, url: 'redis://127.0.0.1:1' };
    const fast = connectRedis(settings, silent);
    await expect(fast.ping()).rejects.toThrow();
    const patient = connectRedisForWorker(settings, silent);
    expect(patient.options.maxRetriesPerRequest).toBeNull();
    fast.disconnect();
    patient.disconnect();
  });
});
