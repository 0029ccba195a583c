/** ioredis connections for what is not on the hot path (BullMQ), to whatever the settings' URL names. */
import { Cluster, Redis } from 'ioredis';
import type { Logger } from '../base/log.ts';
export type { RedisSettings } from './access.ts';
import { type RedisAccess, type RedisSettings, accessOf, sentinelAccessOf, tlsOptions } from './access.ts';
import { reconnectDelayMs } from './backoff.ts';
import { meansDemoted } from './faults.ts';
import { type RedisTarget, parseRedisUrl } from './url.ts';

/** What BullMQ is given. */
export type BullConnection = Redis | Cluster;

/** Of one sentinel, or one node of a cluster, that is asked where things are. */
const ANSWER_MS_MAX = 1_000;

/**
 * An ioredis connection that fails fast: without a connection its commands reject at once, and each is tried
 * again at most once. The caller waits for `ready` before the first command, and ends it with `disconnect()`.
 * @throws ConfigurationError where the URL or a TLS file of the settings is of no use
 */
export function connectRedis(settings: RedisSettings, logger: Logger): BullConnection {
  return create(settings, logger, {
    enableOfflineQueue: false,
    maxRetriesPerRequest: 1,
    commandTimeout: settings.timeoutMs,
  });
}

/**
 * An ioredis connection for a BullMQ Worker, which wants to wait for Redis as long as it takes.
 * @throws as connectRedis
 */
export function connectRedisForWorker(settings: RedisSettings, logger: Logger): BullConnection {
  return create(settings, logger, { enableOfflineQueue: true, maxRetriesPerRequest: null });
}

interface Patience {
  readonly enableOfflineQueue: boolean;
  readonly maxRetriesPerRequest: number | null;
  readonly commandTimeout?: number;
}

function create(settings: RedisSettings, logger: Logger, patience: Patience): BullConnection {
  const target = parseRedisUrl(settings.url);
  const access = accessOf(settings, target);
  const redis: BullConnection =
    target.kind === 'cluster'
      ? new Cluster([...target.nodes], clusterOptions(settings, access, patience))
      : new Redis({
          ...credentials(access),
          ...patience,
          db: access.db,
          connectTimeout: settings.timeoutMs,
          retryStrategy: reconnectDelayMs,
          // A server that became a replica keeps the connection; the master is elsewhere by then.
          reconnectOnError: (error: Error) => meansDemoted(error.message),
          ...placeOf(settings, target, access),
        });
  // Without a listener an error event would end the process. Reconnecting is ioredis' own business.
  redis.on('error', (error: Error) => logger.debug({ reason: error.message }, 'Redis connection'));
  return redis;
}

function placeOf(
  settings: RedisSettings,
  target: Exclude<RedisTarget, { kind: 'cluster' }>,
  access: RedisAccess,
) {
  if (target.kind === 'standalone') return { ...target.address, ...secured(access) };
  const ofSentinels = sentinelAccessOf(settings, target);
  const { username, password } = ofSentinels;
  const sentinelTLS = tlsOptions(ofSentinels);
  return {
    sentinels: [...target.sentinels],
    name: target.name,
    // Those of the URL are all that is known here, so also with other addresses inside of a network.
    updateSentinels: false,
    sentinelRetryStrategy: reconnectDelayMs,
    sentinelCommandTimeout: Math.min(settings.timeoutMs, ANSWER_MS_MAX),
    ...secured(access),
    enableTLSForSentinelMode: access.tls !== false,
    ...(sentinelTLS === undefined ? {} : { sentinelTLS }),
    ...(username === undefined ? {} : { sentinelUsername: username }),
    ...(password === undefined ? {} : { sentinelPassword: password }),
  };
}

function clusterOptions(
  settings: RedisSettings,
  access: RedisAccess,
  { enableOfflineQueue, ...patience }: Patience,
) {
  return {
    enableOfflineQueue,
    clusterRetryStrategy: reconnectDelayMs,
    slotsRefreshTimeout: ANSWER_MS_MAX,
    // A certificate is for a name, and a name is resolved anew with each connection.
    dnsLookup: (name: string, callback: (error: null, address: string) => void) => callback(null, name),
    redisOptions: {
      ...credentials(access),
      ...patience,
      ...secured(access),
      connectTimeout: settings.timeoutMs,
    },
  };
}

function credentials({ username, password }: RedisAccess) {
  return {
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
  };
}

function secured(access: RedisAccess) {
  const tls = tlsOptions(access);
  return tls === undefined ? {} : { tls };
}
