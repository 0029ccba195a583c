/**
 * The Redis behind a role: connected, looked at, and found good enough for what an acknowledgement promises.
 */
import { sleep } from '../base/clock.ts';
import { ConfigurationError, Fault } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Settings } from '../config/settings.ts';
import type { BatchStore } from '../queue/batch-store.ts';
import { type RedisFacts, inspectRedis, judgeRedis } from '../redis/check.ts';
import { parseRedisUrl } from '../redis/connection.ts';

const SAY_EVERY_MS = 10_000;
const POLL_MS = 100;
const QUEUE_BYTES_WITHOUT_MAXMEMORY = 2 ** 30;
const QUEUE_SHARE_OF_MAXMEMORY = 0.8;

/**
 * Resolves when Redis answers and has been looked at; waits for it as long as it takes, saying so.
 * @throws ConfigurationError when it refuses the credentials, or can't keep what the configuration promises
 */
export async function awaitRedis(
  store: BatchStore,
  settings: Settings['redis'],
  logger: Logger,
  stopped: () => boolean,
): Promise<RedisFacts | undefined> {
  const { host, port } = parseRedisUrl(settings.url);
  try {
    await store.connect();
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    if (error.code === 'redis_auth')
      throw new ConfigurationError(`SLUICE_REDIS_URL: ${host}:${port}: ${error.message}`);
    await waitFor(store, `${host}:${port}: ${error.message}`, logger, stopped);
  }
  if (stopped()) return undefined;
  const facts = await inspectRedis(store.redis);
  for (const { level, message } of judgeRedis(facts, settings.durability)) {
    if (level === 'refuse') throw new ConfigurationError(message);
    logger.warn(message);
  }
  return facts;
}

async function waitFor(
  store: BatchStore,
  why: string,
  logger: Logger,
  stopped: () => boolean,
): Promise<void> {
  let saidAt = Number.NEGATIVE_INFINITY;
  while (!store.redis.ready && !stopped()) {
    if (performance.now() - saidAt > SAY_EVERY_MS) {
      logger.warn({ reason: why }, 'waiting for Redis (SLUICE_REDIS_URL)');
      saidAt = performance.now();
    }
    await sleep(POLL_MS);
  }
}

/** The bound of the queue: what the settings say, or what this Redis has room for. */
export function queueBytesMax(setting: number | 'auto', facts: RedisFacts): number {
  if (setting !== 'auto') return setting;
  if (facts.maxmemoryBytes === 0) return QUEUE_BYTES_WITHOUT_MAXMEMORY;
  return Math.floor(facts.maxmemoryBytes * QUEUE_SHARE_OF_MAXMEMORY);
}
