/**
 * A BullMQ job per sealed batch: BullMQ spreads them over the writers, brings back those of a writer that
 * died and delays those that failed. A job holds the batch's description, never its payload, and its id is
 * the batch's: adding it twice adds it once. Losing a job loses nothing, the sweep adds it again.
 */
import { type Job, Queue, WaitingError, Worker } from 'bullmq';
import { sleep } from '../base/clock.ts';
import { Fault, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Settings } from '../config/settings.ts';
import type { Instruments } from '../metrics/instruments.ts';
import { LAYOUTS, type SealedBatch } from '../model/batch.ts';
import { isTable } from '../model/signal.ts';
import type { BullConnection } from '../redis/connection.ts';
import { faultOfReply, unavailable } from '../redis/faults.ts';
import { backoffMs } from './backoff.ts';
import { Breaker, type Reachable } from './breaker.ts';
import { FreshTurns } from './fresh.ts';
import { QUEUE_NAME, shardTag } from './keys.ts';
import { Trials } from './trials.ts';

/** A job is tried until its batch is written or buried: there is no last attempt. */
const ATTEMPTS_MAX = Number.MAX_SAFE_INTEGER;
/**
 * A writer that is alive renews its locks before they are `LOCK_RENEW_MS` old: it may be busy for 3 s without
 * losing one. One that died is noticed after at most `LOCK_MS` and one check for stalled jobs: its batches
 * are with another writer after 5 s and a bit.
 */
const LOCK_MS = 4_000;
const LOCK_RENEW_MS = 1_000;
const STALLED_CHECK_MS = 1_000;
/** How long a worker keeps off after it failed to fetch a job. */
const FETCH_RETRY_MS = 1_000;
/** BullMQ's log of what happened to jobs, which nobody reads. */
const EVENTS_MAX = 100;

const JOB_OPTIONS = {
  attempts: ATTEMPTS_MAX,
  backoff: { type: 'custom' },
  removeOnComplete: true,
  removeOnFail: true,
  // One of each try would be kept in Redis, without bound.
  stackTraceLimit: 0,
} as const;

export interface JobQueueOptions {
  /** Of `connectRedis`. All shards share it; it stays the caller's, who ends it after the last `close`. */
  readonly redis: BullConnection;
  readonly shard: number;
  readonly logger: Logger;
}

/** Where jobs are added: one per shard, in gateways and (for the sweep) in writers. */
export class JobQueue {
  readonly #queue: Queue<SealedBatch>;
  readonly #options: JobQueueOptions;
  readonly #adding = new Set<Promise<void>>();

  constructor(options: JobQueueOptions) {
    this.#options = options;
    this.#queue = new Queue(QUEUE_NAME, {
      connection: options.redis,
      prefix: shardTag(options.shard),
      defaultJobOptions: JOB_OPTIONS,
      streams: { events: { maxLen: EVENTS_MAX } },
    });
    this.#queue.on('error', (error) => options.logger.debug({ reason: error.message }, 'job queue'));
  }

  /** Adds a job for each batch that has none. Rejects with Fault `redis_unavailable`; the sweep mends it. */
  async add(batches: readonly SealedBatch[]): Promise<void> {
    try {
      const jobs = batches.map((data) => ({ name: data.table, data, opts: { jobId: data.id } }));
      await this.#queue.addBulk(jobs);
    } catch (error) {
      throw unavailable(`could not add jobs: ${messageOf(error)}`, error);
    }
  }

  /** Jobs that wait for their time have it now. Those that don't wait any more are left alone. */
  async hasten(ids: readonly string[]): Promise<void> {
    const { shard, logger } = this.#options;
    for (const id of ids) {
      try {
        await (await this.#queue.getJob(id))?.promote();
      } catch (error) {
        logger.debug({ shard, batch: id, reason: messageOf(error) }, 'a job was not hastened');
      }
    }
  }

  /** Adds jobs without making anybody wait; what fails is left to the sweep. */
  offer(batches: readonly SealedBatch[]): void {
    const { shard, logger } = this.#options;
    const adding = this.add(batches)
      .catch((error) => {
        const reason = messageOf(error);
        logger.warn({ shard, batches: batches.length, reason }, 'jobs are left to the sweep');
      })
      .finally(() => this.#adding.delete(adding));
    this.#adding.add(adding);
  }

  /** Waits for what was offered, at most `msMax`. */
  async close(msMax: number): Promise<void> {
    await within(msMax, Promise.allSettled(this.#adding));
    await within(msMax, this.#queue.close());
  }
}

export interface JobWorkerOptions {
  /**
   * Of `connectRedisForWorker`. All shards share it; it stays the caller's, who ends it after the last
   * `close`. Each worker has a second one of its own, on which it waits for jobs.
   */
  readonly redis: BullConnection;
  readonly write: Settings['write'];
  readonly shard: number;
  /**
   * Writes one batch. Its promise settles when the job is over: resolved, it is removed; rejected, whatever
   * the error, the batch comes again. May be called for a batch that was written before, or is just being
   * written by another writer.
   */
  readonly handle: (batch: SealedBatch) => Promise<unknown>;
  /**
   * Where batches are found without their jobs: the oldest while Redis is too full to give out jobs and for
   * trials, the newest so that fresh data is not starved by a backlog. Without it, all that is waited out.
   */
  readonly store?: Waiting;
  /** Without it, the shard always is. */
  readonly reachable?: Reachable;
  readonly instruments?: Pick<Instruments, 'writesPaused'>;
  readonly logger: Logger;
}

/** The sealed batches of a shard; all of it rejects with Faults of Redis. */
export interface Waiting {
  oldest(shard: number, limit: number): Promise<readonly SealedBatch[]>;
  newest(shard: number, limit: number): Promise<readonly SealedBatch[]>;
  counts(shard: number): Promise<{ readonly sealedBatches: number }>;
}

/**
 * Takes a shard's jobs, up to `write.insertsInFlightMax` at once, from its construction on: in the order in
 * which their batches were sealed, but for those that failed alone, which come after the others. While there
 * is backlog, fresh batches have their turns (fresh.ts). While no replica takes inserts, none is taken, and
 * those at hand go back to the front, untried (breaker.ts).
 */
export class JobWorker {
  readonly #options: JobWorkerOptions;
  readonly #worker: Worker<SealedBatch>;
  readonly #breaker: Breaker;
  readonly #fresh: FreshTurns;
  /** Ids of the batches that are being written here. */
  readonly #active = new Set<string>();
  readonly #closing = new AbortController();
  /** Why no jobs are taken now. */
  readonly #pauses = new Set<'breaker' | 'redis'>();
  readonly #trials = new Trials();

  constructor(options: JobWorkerOptions) {
    const { redis, write, shard, logger } = options;
    this.#options = options;
    this.#breaker = this.#makeBreaker();
    this.#fresh = new FreshTurns(write);
    this.#worker = new Worker<SealedBatch>(QUEUE_NAME, (job: Job<unknown>, token) => this.#take(job, token), {
      connection: redis,
      prefix: shardTag(shard),
      concurrency: write.insertsInFlightMax,
      lockDuration: LOCK_MS,
      lockRenewTime: LOCK_RENEW_MS,
      stalledInterval: STALLED_CHECK_MS,
      maxStalledCount: ATTEMPTS_MAX,
      runRetryDelay: FETCH_RETRY_MS,
      settings: {
        backoffStrategy: (made?: number) => backoffMs(made ?? 1, write.retryMsMin, write.retryMsMax),
      },
    });
    this.#worker.on('error', (error) => {
      logger.debug({ shard, reason: error.message }, 'job worker');
      void this.#rest(error);
    });
    this.#worker.on('failed', (job, error) => {
      const about = { shard, batch: job?.id, attemptsMade: job?.attemptsMade };
      if (error instanceof Fault) logger.debug({ ...about, reason: error.message }, 'a batch comes again');
      else logger.error({ ...about, err: error }, 'a mistake of this program: a batch comes again');
    });
    this.#worker.on('stalled', (id) => logger.info({ shard, batch: id }, "took over a dead writer's batch"));
  }

  /**
   * Takes no further jobs and waits for the running ones, at most `msMax`. Jobs that run longer are let go:
   * another writer takes them when their locks run out. To hand them back sooner, let the handler reject.
   */
  async close(msMax: number): Promise<void> {
    this.#closing.abort();
    const ended = await within(msMax, this.#worker.close());
    // Takes the shared connection along: by now the others have had their time too.
    if (!ended) await within(msMax, this.#worker.disconnect());
  }

  #makeBreaker(): Breaker {
    const { shard, write, store, reachable, instruments, logger } = this.#options;
    return new Breaker({
      shard,
      write,
      reachable,
      pause: () => {
        this.#trials.begin();
        return this.#pause('breaker');
      },
      resume: () => this.#resume('breaker'),
      trial: () => this.#tryOne(),
      news: async () => this.#trials.hasNews((await this.#idle()) ?? []),
      waiting: async () => (await known(store?.counts(shard)))?.sealedBatches,
      instruments,
      logger,
      signal: this.#closing.signal,
    });
  }

  /** One job. */
  async #take(job: Job<unknown>, token: string | undefined): Promise<void> {
    const batch = batchOfJob(job);
    // BullMQ may still have been fetching it when it was told to pause.
    if (this.#breaker.isOpen) return handBack(job, token);
    if (this.#fresh.isDue(batch)) await this.#writeFresh();
    if (this.#breaker.isOpen) return handBack(job, token);
    const result = await this.#handle(batch);
    if (result === 'front') return handBack(job, token);
    if (result !== 'worked') throw result.error;
  }

  /** Writes one batch. `front`: it failed, and is not to blame. */
  async #handle(batch: SealedBatch): Promise<'worked' | 'front' | { readonly error: unknown }> {
    this.#active.add(batch.id);
    try {
      await this.#options.handle(batch);
      this.#breaker.worked(batch.id);
      return 'worked';
    } catch (error) {
      return this.#breaker.failed(batch.id, error) === 'front' ? 'front' : { error };
    } finally {
      this.#active.delete(batch.id);
    }
  }

  /** The newest batch of the table whose turn it is. Its own job finds it gone later. */
  async #writeFresh(): Promise<void> {
    const { store, shard } = this.#options;
    const newest = (await known(store?.newest(shard, FreshTurns.LOOK))) ?? [];
    const batch = this.#fresh.choose(newest.filter(({ id }) => !this.#active.has(id)));
    if (batch !== undefined) await this.#handle(batch);
  }

  /** The trial of the breaker. */
  async #tryOne(): Promise<'worked' | 'failed' | 'none'> {
    const idle = await this.#idle();
    if (idle === undefined) return 'failed';
    const batch = this.#trials.choose(idle);
    if (batch === undefined) return 'none';
    return (await this.#handle(batch)) === 'worked' ? 'worked' : 'failed';
  }

  /** Some of those that wait and aren't written here, the oldest first; undefined where Redis is away. */
  async #idle(): Promise<readonly SealedBatch[] | undefined> {
    const { store, shard } = this.#options;
    const oldest = await known(store?.oldest(shard, Trials.LOOK));
    const newest = await known(store?.newest(shard, Trials.LOOK));
    if (store !== undefined && (oldest === undefined || newest === undefined)) return undefined;
    const both = [...(oldest ?? []), ...(newest ?? []).toReversed()];
    const byId = new Map(both.map((batch) => [batch.id, batch]));
    return [...byId.values()].filter(({ id }) => !this.#active.has(id));
  }

  /** Running jobs go on. */
  async #pause(why: 'breaker' | 'redis'): Promise<void> {
    this.#pauses.add(why);
    await this.#worker.pause(true);
  }

  async #resume(why: 'breaker' | 'redis'): Promise<void> {
    this.#pauses.delete(why);
    if (this.#pauses.size === 0 && !this.#closing.signal.aborted) await this.#worker.resume();
  }

  /**
   * After Redis refused to give out a job (full, loading, read-only, busy): BullMQ would ask again at once
   * and for ever, so it has to be held back. A full Redis refuses until somebody empties it, which only
   * writers do: therefore they take the oldest batches without a job then.
   */
  async #rest(error: Error): Promise<void> {
    const { code } = faultOfReply(error.message);
    if (code === 'redis_error' || this.#pauses.has('redis') || this.#closing.signal.aborted) return;
    await this.#pause('redis');
    const wrote = code === 'redis_full' && (await this.#writeOldest());
    if (!wrote) await sleep(FETCH_RETRY_MS, this.#closing.signal);
    await this.#resume('redis');
  }

  /** Resolves with whether there is more room now. */
  async #writeOldest(): Promise<boolean> {
    const { store, shard, write, logger } = this.#options;
    // Its trials take the oldest batches too, one at a time.
    if (this.#breaker.isOpen) return false;
    const oldest = (await known(store?.oldest(shard, write.insertsInFlightMax + this.#active.size))) ?? [];
    const batches = oldest.filter(({ id }) => !this.#active.has(id));
    const count = batches.length;
    if (count > 0) logger.warn({ shard, batches: count }, 'Redis is full: writing without jobs');
    const results = await Promise.all(batches.map((batch) => this.#handle(batch)));
    return results.includes('worked');
  }
}

/** Puts the job back where it came from; that is no attempt, and it waits for no delay. */
async function handBack(job: Job<unknown>, token: string | undefined): Promise<never> {
  await job.moveToWait(token);
  throw new WaitingError();
}

/** What Redis says, or undefined where it doesn't: all of this is done again. */
async function known<T>(answer: Promise<T> | undefined): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    return undefined;
  }
}

/** Reads a job's data: written by this program, though maybe by another version of it. */
function batchOfJob(job: Job<unknown>): SealedBatch {
  const data = job.data as Partial<SealedBatch> | undefined;
  const { id, shard, table, layout, rows, bytes, fragments, sealedAtMs, newestAtMs } = data ?? {};
  const figures = [shard, rows, bytes, fragments, sealedAtMs, newestAtMs];
  const known = typeof table === 'string' && isTable(table) && LAYOUTS.some((name) => name === layout);
  if (!known || typeof id !== 'string' || !figures.every((figure) => Number.isSafeInteger(figure))) {
    throw new Fault('batch_unreadable', 'elsewhere', `job ${job.id} is of another version`);
  }
  return data as SealedBatch;
}

/** Resolves with whether the work ended in time; an error counts as an end. */
async function within(msMax: number, work: Promise<unknown>): Promise<boolean> {
  const ended = new AbortController();
  const settled = work.then(
    () => ended.abort(),
    () => ended.abort(),
  );
  await Promise.race([settled, sleep(msMax, ended.signal)]);
  return ended.signal.aborted;
}
