/** Where Redis is, read from its URL, and ioredis connections for what is not on the hot path (BullMQ). */
import { Redis, type RedisOptions } from 'ioredis';
import { ConfigurationError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Settings } from '../config/settings.ts';

export type RedisSettings = Settings['redis'];

/** One standalone Redis. */
export interface RedisEndpoint {
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
  readonly username?: string;
  readonly password?: string;
  readonly db: number;
}

const EXAMPLE = 'redis://user:password@127.0.0.1:6379/0';
const PORT_DEFAULT = 6379;
const RECONNECT_MS_MIN = 25;
const RECONNECT_MS_MAX = 2_000;

/**
 * Reads `redis://` and `rediss://` (TLS), with optional user, password, port and database number.
 * @throws ConfigurationError for everything else; its message never repeats the password.
 */
export function parseRedisUrl(url: string): RedisEndpoint {
  const scheme = /^([a-z][a-z+]*):\/\//i.exec(url)?.[1]?.toLowerCase();
  if (scheme === 'redis+sentinel' || scheme === 'redis+cluster') {
    throw new ConfigurationError(
      `the Redis URL's scheme is ${scheme}, but this version knows a standalone Redis only: ` +
        `wanted is redis:// or rediss://, for example ${EXAMPLE}`,
    );
  }
  if (scheme !== 'redis' && scheme !== 'rediss') {
    throw new ConfigurationError(
      `the Redis URL has no known scheme: wanted is redis:// or rediss://, e.g. ${EXAMPLE}`,
    );
  }
  if (!URL.canParse(url)) {
    throw new ConfigurationError(`the Redis URL can't be read: wanted is one like ${EXAMPLE}`);
  }
  const parsed = new URL(url);
  if (parsed.hostname === '') {
    throw new ConfigurationError(`the Redis URL names no host: wanted is one like ${EXAMPLE}`);
  }
  return {
    host: parsed.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: parsed.port === '' ? PORT_DEFAULT : Number(parsed.port),
    tls: scheme === 'rediss',
    db: databaseOf(parsed.pathname),
    ...(parsed.username === '' ? {} : { username: decoded(parsed.username) }),
    ...(parsed.password === '' ? {} : { password: decoded(parsed.password) }),
  };
}

function databaseOf(path: string): number {
  const text = path.replace(/^\//, '');
  if (text === '') return 0;
  if (!/^\d{1,4}$/.test(text)) {
    throw new ConfigurationError(`the Redis URL's database is ${text}: wanted is a number, e.g. ${EXAMPLE}`);
  }
  return Number(text);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    if (!(cause instanceof URIError)) throw cause;
    throw new ConfigurationError('user or password in the Redis URL is not percent-encoded: write % as %25');
  }
}

/**
 * An ioredis connection that fails fast: without a connection its commands reject at once, and each is tried
 * again at most once. The caller waits for `ready` before the first command, and ends it with `disconnect()`.
 */
export function connectRedis(settings: RedisSettings, logger: Logger): Redis {
  return create(settings, logger, {
    enableOfflineQueue: false,
    maxRetriesPerRequest: 1,
    commandTimeout: settings.timeoutMs,
  });
}

/** An ioredis connection for a BullMQ Worker, which wants to wait for Redis as long as it takes. */
export function connectRedisForWorker(settings: RedisSettings, logger: Logger): Redis {
  return create(settings, logger, { maxRetriesPerRequest: null });
}

type Patience = Pick<RedisOptions, 'enableOfflineQueue' | 'maxRetriesPerRequest' | 'commandTimeout'>;

function create(settings: RedisSettings, logger: Logger, patience: Patience): Redis {
  const { tls, ...endpoint } = parseRedisUrl(settings.url);
  const redis = new Redis({
    ...endpoint,
    ...(tls ? { tls: {} } : {}),
    connectTimeout: settings.timeoutMs,
    retryStrategy: reconnectDelayMs,
    ...patience,
  });
  // Without a listener an error event would end the process. Reconnecting is ioredis' own business.
  redis.on('error', (error) => logger.debug({ reason: error.message }, 'Redis connection'));
  return redis;
}

/**
 * How long to wait before connecting again, ms: exponential, bounded, with jitter between half and all of the
 * step.
 */
export function reconnectDelayMs(attempts: number): number {
  const step = Math.min(RECONNECT_MS_MAX, RECONNECT_MS_MIN * 2 ** Math.min(attempts, 16));
  return step * (0.5 + Math.random() / 2);
}
