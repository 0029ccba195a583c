/**
 * The Redis behind a role: connected, looked at, and found good enough for what an acknowledgement promises.
 */
import { sleep, tickMs } from '../base/clock.ts';
import { ConfigurationError, Fault } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Settings } from '../config/settings.ts';
import type { BatchStore } from '../queue/batch-store.ts';
import { type RedisFacts, inspectRedis, judgeRedis } from '../redis/check.ts';
import { describeRedis } from '../redis/url.ts';

const SAY_EVERY_MS = 10_000;
const POLL_MS = 100;
const QUEUE_BYTES_WITHOUT_MAXMEMORY = 2 ** 30;
const QUEUE_SHARE_OF_MAXMEMORY = 0.8;

/**
 * Resolves with what each of its masters is when Redis answers, and has the replicas that are promised; waits
 * for that as long as it takes, saying so.
 * @throws ConfigurationError when it refuses the credentials, can't keep what the configuration promises, or
 *   is not what its URL says
 */
export async function awaitRedis(
  store: BatchStore,
  settings: Settings['redis'],
  logger: Logger,
  stopped: () => boolean,
): Promise<readonly RedisFacts[] | undefined> {
  const where = describeRedis(settings.url);
  try {
    await store.connect();
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    const why = `${where}: ${error.message}`;
    if (error.retry === 'never') throw new ConfigurationError(`SLUICE_REDIS_URL: ${why}`);
  }
  let saidAtMs = Number.NEGATIVE_INFINITY;
  while (!stopped()) {
    const looked = await look(store, settings);
    if (typeof looked !== 'string') {
      for (const warning of looked.warnings) logger.warn(warning);
      return looked.masters;
    }
    if (tickMs() - saidAtMs > SAY_EVERY_MS) {
      logger.warn({ reason: `${where}: ${looked}` }, 'waiting for Redis (SLUICE_REDIS_URL)');
      saidAtMs = tickMs();
    }
    await sleep(POLL_MS);
  }
  return undefined;
}

interface Looked {
  readonly masters: readonly RedisFacts[];
  readonly warnings: readonly string[];
}

/** Why it has to be waited for, if so: it may be away again, or about to get its replicas. */
async function look({ redis }: BatchStore, settings: Settings['redis']): Promise<Looked | string> {
  if (!redis.ready) return 'not connected';
  try {
    const masters = await Promise.all(redis.masters.map(inspectRedis));
    const findings = judgeRedis(masters, settings);
    const refused = findings.find(({ level }) => level === 'refuse');
    if (refused !== undefined) throw new ConfigurationError(refused.message);
    const awaited = findings.find(({ level }) => level === 'wait');
    return awaited?.message ?? { masters, warnings: findings.map(({ message }) => message) };
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    return error.message;
  }
}

/**
 * The bound of the queue: what the settings say, or what this Redis has room for.
 *
 * The queue's bytes are those of all shards together, and a shard lies on one master of a cluster, whole. So
 * the sum of all masters would promise memory of masters that have no shard; what counts is when the first of
 * them is full, if rows are shared out alike.
 * @param homes the node of each shard. Where that is unknown, one master has to hold everything.
 */
export function queueBytesMax(
  setting: number | 'auto',
  masters: readonly RedisFacts[],
  homes: readonly (string | undefined)[] = [],
): number {
  if (setting !== 'auto') return setting;
  const bounded = masters.filter(({ maxmemoryBytes }) => maxmemoryBytes > 0);
  if (bounded.length === 0) return QUEUE_BYTES_WITHOUT_MAXMEMORY;
  const smallest = Math.min(...bounded.map(({ maxmemoryBytes }) => maxmemoryBytes));
  const known = homes.length > 0 && homes.every((home) => masters.some(({ node }) => node === home));
  const perShard = bounded
    .map(({ node, maxmemoryBytes }) => maxmemoryBytes / homes.filter((home) => home === node).length)
    .filter(Number.isFinite);
  const bytes = known && perShard.length > 0 ? Math.min(...perShard) * homes.length : smallest;
  return Math.floor(bytes * QUEUE_SHARE_OF_MAXMEMORY);
}
