/**
 * One migrator at a time for a whole cluster: a lease in Redis with a fencing number. It lives `lockMs`, is
 * renewed at a third of that, and is looked at before every statement: a migrator that stood still for longer
 * than its lease (a paused machine, a Redis that went away) stops, instead of going on beside the next one.
 *
 * Enters: where Redis is and who asks. Leaves: a lock, a Fault `migrate_locked` with the owner's name, or a
 * ConfigurationError where Redis can't be used.
 */
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { nowMs, sleep, tickMs } from '../base/clock.ts';
import { ConfigurationError, Fault, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { RedisSettings } from '../redis/access.ts';
import { RedisClient } from '../redis/client.ts';
import { Script } from '../redis/scripts.ts';
import { describeRedis } from '../redis/url.ts';
import type { MigrateContext } from './context.ts';

/**
 * Takes the lock if it is free. KEYS: 1 lock, 2 counter of the fencing numbers. ARGV: 1 token, 2 owner,
 * 3 lease in ms. Answers the fencing number, or the value of the lock that somebody else holds.
 */
const ACQUIRE = new Script(`
local held = redis.call('GET', KEYS[1])
if held then return held end
local fence = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. fence .. ' ' .. ARGV[2], 'NX', 'PX', ARGV[3])
return fence`);

/**
 * Renews the lock or gives it back. KEYS: 1 lock. ARGV: 1 token, 2 lease in ms, 0 to give it back. Answers 1
 * if it was ours.
 */
const RENEW = new Script(`
local held = redis.call('GET', KEYS[1])
if not held or string.sub(held, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then redis.call('DEL', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1`);

/** Renewed when a third of the lease is over; with less than a quarter left no statement is begun. */
const RENEW_SHARE = 1 / 3;
const MARGIN_SHARE = 1 / 4;
const POLL_MS = 250;
const SAY_EVERY_MS = 10_000;

/** The code of the Fault that a check rejects with. */
export const LOCK_LOST = 'migrate_lock_lost';

/** Redis can't be used for the lock; nobody holds it because of that. */
export class LockUnavailable extends ConfigurationError {}

/** Of repair and adopt, which go on after other faults: this one ends everything, whatever is being tried. */
export class LockLost extends Fault {}

/**
 * Asks the guard of a context before a statement that changes something.
 * @throws LockLost with the words of whatever the guard rejects with
 */
export async function guarded({ guard }: Pick<MigrateContext, 'guard'>): Promise<void> {
  try {
    await guard?.();
  } catch (cause) {
    if (!(cause instanceof Fault)) throw cause;
    throw new LockLost(cause.code, cause.retry, cause.message, { cause });
  }
}

export interface LockOptions {
  readonly redis: RedisSettings;
  /** What is migrated: the cluster's name, or the server's. */
  readonly target: string;
  readonly database: string;
  readonly lockMs: number;
  /** How long the lock of another migrator is waited for; 0 leaves at once. */
  readonly waitMsMax: number;
  /** Of this program, for the owner's name. */
  readonly version: string;
  readonly logger: Logger;
}

export function lockKey({ target, database }: Pick<LockOptions, 'target' | 'database'>): string {
  return `sluice:migrate:lock:${target}:${database}`;
}

/**
 * Runs `body` under the lock and gives it back afterwards, whatever happens.
 * @param body gets the check to be made before every statement; it rejects with `migrate_lock_lost`
 * @throws LockUnavailable where Redis can't be used, Fault `migrate_locked` where another one holds it
 */
export async function withLock<T>(
  options: LockOptions,
  body: (guard: () => Promise<void>) => Promise<T>,
): Promise<T> {
  const lock = await MigrationLock.acquire(options);
  try {
    return await body(() => lock.check());
  } finally {
    await lock.release();
  }
}

export class MigrationLock {
  /** Higher than that of every migrator that held the lock before. */
  readonly fence: number;
  readonly #options: LockOptions;
  readonly #redis: RedisClient;
  readonly #token: string;
  readonly #timer: NodeJS.Timeout;
  /** On the monotonic clock: until then nobody else can have it. */
  #untilMs: number;
  /** Why it is ours no more. */
  #lost: string | undefined;

  private constructor(
    options: LockOptions,
    redis: RedisClient,
    taken: { readonly fence: number; readonly token: string; readonly sinceMs: number },
  ) {
    this.#options = options;
    this.#redis = redis;
    this.#token = taken.token;
    this.fence = taken.fence;
    this.#untilMs = taken.sinceMs + options.lockMs;
    this.#timer = setInterval(() => void this.#renewQuietly(), options.lockMs * RENEW_SHARE);
    this.#timer.unref();
  }

  /** @throws as withLock */
  static async acquire(options: LockOptions): Promise<MigrationLock> {
    const redis = await connect(options);
    try {
      return await take(options, redis, (taken) => new MigrationLock(options, redis, taken));
    } catch (error) {
      redis.close();
      throw error;
    }
  }

  /**
   * Resolves while the lock is ours with time to spare, having renewed it.
   * @throws Fault `migrate_lock_lost`
   */
  async check(): Promise<void> {
    let why = 'it was not renewed in time';
    try {
      await this.#renew();
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      why = error.message;
    }
    const leftMs = this.#untilMs - tickMs();
    if (this.#lost === undefined && leftMs > this.#options.lockMs * MARGIN_SHARE) return;
    throw new Fault(
      LOCK_LOST,
      'here',
      `the lock of the migrator was lost (${this.#lost ?? why}): stopped before the next statement; run ` +
        'the command again, it goes on where this one stopped',
    );
  }

  /** Gives it back to the next one; where Redis is away it ends by itself. Never rejects. */
  async release(): Promise<void> {
    clearInterval(this.#timer);
    try {
      await RENEW.run(this.#redis, [lockKey(this.#options)], [this.#token, '0']);
    } catch (error) {
      const { lockMs, logger } = this.#options;
      logger.warn({ reason: messageOf(error) }, `the lock could not be given back: it ends in ${lockMs} ms`);
    } finally {
      this.#redis.close();
    }
  }

  async #renew(): Promise<void> {
    const { lockMs } = this.#options;
    const askedMs = tickMs();
    const answer = await RENEW.run(this.#redis, [lockKey(this.#options)], [this.#token, String(lockMs)]);
    if (answer === 1) this.#untilMs = Math.max(this.#untilMs, askedMs + lockMs);
    else this.#lost ??= `fencing number ${this.fence} is no longer the newest, or the key was removed`;
  }

  async #renewQuietly(): Promise<void> {
    try {
      await this.#renew();
    } catch (error) {
      this.#options.logger.warn(
        { reason: messageOf(error) },
        'the lock of the migrator could not be renewed',
      );
    }
  }
}

async function connect({ redis, logger }: LockOptions): Promise<RedisClient> {
  const connection = new RedisClient({ redis, logger });
  try {
    await connection.connect();
    return connection;
  } catch (error) {
    connection.close();
    throw cantLock(describeRedis(redis.url), error);
  }
}

function cantLock(where: string, error: unknown): LockUnavailable {
  return new LockUnavailable(
    `the lock of the migrator is kept in Redis, and that of ${where} can't be used ` +
      `(${messageOf(error)}): set SLUICE_REDIS_URL to one that answers, or give --no-lock when nobody else ` +
      'migrates',
  );
}

interface Taken {
  readonly fence: number;
  readonly token: string;
  readonly sinceMs: number;
}

async function take<T>(options: LockOptions, redis: RedisClient, finish: (taken: Taken) => T): Promise<T> {
  const { lockMs, waitMsMax, version, logger } = options;
  const key = lockKey(options);
  // The braces put both keys into one slot of a Redis cluster.
  const keys = [key, `{${key}}:fence`];
  const deadlineMs = tickMs() + waitMsMax;
  let saidMs = Number.NEGATIVE_INFINITY;
  for (;;) {
    const token = randomUUID();
    const since = new Date(nowMs()).toISOString();
    const owner = `${hostname()}, pid ${process.pid}, sluice ${version}, since ${since}`;
    const sinceMs = tickMs();
    const answer = await ask(redis, keys, [token, owner, String(lockMs)]);
    if (typeof answer === 'number') return finish({ fence: answer, token, sinceMs });
    const holder = ownerIn(answer);
    if (tickMs() >= deadlineMs) throw locked(holder, options);
    if (tickMs() - saidMs > SAY_EVERY_MS) {
      logger.info({ owner: holder, waitMsMax }, 'waiting for another migrator');
      saidMs = tickMs();
    }
    await sleep(POLL_MS);
  }
}

async function ask(redis: RedisClient, keys: string[], args: string[]): Promise<number | string> {
  try {
    const answer = await ACQUIRE.run(redis, keys, args);
    return typeof answer === 'number' ? answer : String(answer);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    throw cantLock('SLUICE_REDIS_URL', error);
  }
}

function locked(owner: string, { waitMsMax }: LockOptions): Fault {
  const advice =
    waitMsMax === 0
      ? 'wait for its end, or give --wait to do so'
      : `it was waited for ${waitMsMax} ms (SLUICE_MIGRATIONS_WAIT_MS_MAX)`;
  return new Fault('migrate_locked', 'here', `another migrator is at work (${owner}): ${advice}`);
}

/** Token and fencing number stand before it. */
function ownerIn(value: string): string {
  const [, , ...words] = value.split(' ');
  return words.join(' ');
}
