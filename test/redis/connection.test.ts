/**
 * Goal: ioredis connections fail fast or wait as promised, and a Redis that is away is looked for again at a
 * bounded pace.
 */
import { once } from 'node:events';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { reconnectDelayMs } from '../../src/redis/backoff.ts';
import { connectRedis, connectRedisForWorker } from '../../src/redis/connection.ts';
import { RedisServer, silent } from './server.ts';

describe('reconnectDelayMs', () => {
  it('doubles, is bounded and has jitter', () => {
    for (const [attempts, step] of [
      [0, 25],
      [1, 50],
      [4, 400],
      [5, 500],
      [1_000_000, 500],
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
    expect(patient instanceof Redis && patient.options.maxRetriesPerRequest).toBeNull();
    fast.disconnect();
    patient.disconnect();
  });
});
