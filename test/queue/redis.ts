/** A Redis for all tests of a file, empty before each of them. */
import { afterAll, beforeAll, beforeEach } from 'vitest';
import type { LeanConnection } from '../../src/redis/lean.ts';
import { RedisServer } from '../redis/server.ts';

/** There while tests run. */
export let server: RedisServer;
/** For the test's own questions. */
export let redis: LeanConnection;

export function useEmptyRedis(): void {
  beforeAll(async () => {
    server = await RedisServer.start();
    redis = await server.connect();
  });
  beforeEach(async () => {
    await redis.command(['FLUSHALL']);
  });
  afterAll(async () => {
    redis.close();
    await server.remove();
  });
}
