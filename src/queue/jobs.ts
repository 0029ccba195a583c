/**
 * A BullMQ job per sealed batch: BullMQ spreads them over the writers, brings back those of a writer that
 * died and delays those that failed. A job holds the batch's description, never its payload, and its id is
 * the batch's: adding it twice adds it once. Losing a job loses nothing, the sweep adds it again.
 */
import { type Job, Queue, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import { sleep } from '../base/clock.ts';
import { Fault, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Settings } from '../config/settings.ts';
import { LAYOUTS, type SealedBatch } from '../model/batch.ts';
import { isTable } from '../model/signal.ts';
import { faultOfReply, unavailable } from '../redis/faults.ts';
import { backoffMs } from './backoff.ts';
import { QUEUE_NAME, shardTag } from './keys.ts';

/** A job is tried until its batch is written or buried: there is no last attempt. */
const ATTEMPTS_MAX = Number.MAX_SAFE_INTEGER;
/**
 * A writer that is alive renews its locks at half this time. One that died is noticed after at most this and
 * one check for stalled jobs: its batches are with another writer after 11 s at the latest.
 */
const LOCK_MS = 8_000;
const STALLED_CHECK_MS = 3_000;
/** How long a worker keeps off after it failed to fetch a job. */
const FETCH_RETRY_MS = 1_000;
/** BullMQ's log of what happened to jobs, which nobody reads. */
const EVENTS_MAX = 100;

const JOB_OPTIONS = {
  attempts: ATTEMPTS_MAX,
  backoff: { type: 'custom' },
  removeOnComplete: true,
  removeOnFail: true,
} as const;

export interface JobQueueOptions {
  /** Of `connectRedis`. All shards share it; it stays the caller's, who ends it after the last `close`. */
  readonly redis: Redis;
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
  readonly redis: Redis;
  readonly write: Settings['write'];
  readonly shard: number;
  /**
   * Writes one batch. Its promise settles when the job is over: resolved, it is removed; rejected, whatever
   * the error, the batch comes again after a delay. May be called for a batch that was written before, or is
   * just being written by another writer.
   */
  readonly handle: (batch: SealedBatch) => Promise<unknown>;
  /** Where batches are found while Redis is too full to give out jobs; without it, that is waited out. */
  readonly store?: { oldest(shard: number, limit: number): Promise<readonly SealedBatch[]> };
  readonly logger: Logger;
}

/** Takes a shard's jobs, up to `write.insertsInFlightMax` at once, from its construction on. */
export class JobWorker {
  readonly #options: JobWorkerOptions;
  readonly #worker: Worker<SealedBatch>;
  /** Ids of the batches that are being written here. */
  readonly #active = new Set<string>();
  readonly #closing = new AbortController();
  #resting = false;

  constructor(options: JobWorkerOptions) {
    const { redis, write, shard, logger } = options;
    this.#options = options;
    this.#worker = new Worker<SealedBatch>(QUEUE_NAME, (job: Job<unknown>) => this.#handle(batchOfJob(job)), {
      connection: redis,
      prefix: shardTag(shard),
      concurrency: write.insertsInFlightMax,
      lockDuration: LOCK_MS,
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
      const { id, attemptsMade } = job ?? {};
      logger.debug({ shard, batch: id, attemptsMade, reason: error.message }, 'a batch comes again');
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

  async #handle(batch: SealedBatch): Promise<void> {
    this.#active.add(batch.id);
    try {
      await this.#options.handle(batch);
    } finally {
      this.#active.delete(batch.id);
    }
  }

  /**
   * After Redis refused to give out a job (full, loading, read-only, busy): BullMQ would ask again at once
   * and for ever, so it has to be held back. A full Redis refuses until somebody empties it, which only
   * writers do: therefore they take the oldest batches without a job then.
   */
  async #rest(error: Error): Promise<void> {
    const { code } = faultOfReply(error.message);
    if (code === 'redis_error' || this.#resting || this.#closing.signal.aborted) return;
    this.#resting = true;
    try {
      await this.#worker.pause(true);
      const wrote = code === 'redis_full' && (await this.#writeOldest());
      if (!wrote) await sleep(FETCH_RETRY_MS, this.#closing.signal);
      if (!this.#closing.signal.aborted) await this.#worker.resume();
    } finally {
      this.#resting = false;
    }
  }

  /** Resolves with whether there is more room now. */
  async #writeOldest(): Promise<boolean> {
    const { store, shard, write, logger } = this.#options;
    try {
      const limit = write.insertsInFlightMax + this.#active.size;
      const oldest = (await store?.oldest(shard, limit)) ?? [];
      const batches = oldest.filter(({ id }) => !this.#active.has(id));
      const count = batches.length;
      if (count > 0) logger.warn({ shard, batches: count }, 'Redis is full: writing without jobs');
      const written = await Promise.allSettled(batches.map((batch) => this.#handle(batch)));
      return written.some(({ status }) => status === 'fulfilled');
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      logger.debug({ shard, reason: error.message }, 'could not look for the oldest batches');
      return false;
    }
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
