/**
 * A BullMQ job per sealed batch: BullMQ spreads them over the writers, brings back those of a writer that died and
 * delays those that failed. A job holds the batch's description, never its payload, and its id is the batch's: adding
 * it twice adds it once. Losing a job loses nothing, the sweep adds it again.
 */
import { type Job, Queue, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import { sleep } from '../base/clock.ts';
import { Fault, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Settings } from '../config/settings.ts';
import { LAYOUTS, type SealedBatch } from '../model/batch.ts';
import { isTable } from '../model/signal.ts';
import { connectRedis, connectRedisForWorker } from '../redis/connection.ts';
import { unavailable } from '../redis/faults.ts';
import { backoffMs } from './backoff.ts';
import { QUEUE_NAME, shardTag } from './keys.ts';

/** A job is tried until its batch is written or buried: there is no last attempt. */
const ATTEMPTS_MAX = Number.MAX_SAFE_INTEGER;
/**
 * A writer that is alive renews its locks at half this time. One that died is noticed after at most this and one
 * check for stalled jobs: its batches are with another writer after 11 s at the latest.
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
  readonly redis: Settings['redis'];
  readonly shard: number;
  readonly logger: Logger;
}

/** Where jobs are added: one per shard, in gateways and (for the sweep) in writers. */
export class JobQueue {
  readonly #redis: Redis;
  readonly #queue: Queue<SealedBatch>;
  readonly #options: JobQueueOptions;
  readonly #adding = new Set<Promise<void>>();

  constructor(options: JobQueueOptions) {
    this.#options = options;
    this.#redis = connectRedis(options.redis, options.logger);
    this.#queue = new Queue(QUEUE_NAME, {
      connection: this.#redis,
      prefix: shardTag(options.shard),
      defaultJobOptions: JOB_OPTIONS,
      streams: { events: { maxLen: EVENTS_MAX } },
    });
    this.#queue.on('error', (error) => options.logger.debug({ reason: error.message }, 'job queue'));
  }

  /** Adds a job for each batch that has none yet. Rejects with Fault `redis_unavailable`: the sweep will add them. */
  async add(batches: readonly SealedBatch[]): Promise<void> {
    try {
      await this.#queue.addBulk(batches.map((data) => ({ name: data.table, data, opts: { jobId: data.id } })));
    } catch (error) {
      throw unavailable(`could not add jobs: ${messageOf(error)}`, error);
    }
  }

  /** Adds jobs without making anybody wait; what fails is left to the sweep. */
  offer(batches: readonly SealedBatch[]): void {
    const { shard, logger } = this.#options;
    const adding = this.add(batches)
      .catch((error) => {
        logger.warn({ shard, batches: batches.length, reason: messageOf(error) }, 'jobs are left to the sweep');
      })
      .finally(() => this.#adding.delete(adding));
    this.#adding.add(adding);
  }

  /** Waits for what was offered, at most `msMax`, and ends the connection. */
  async close(msMax: number): Promise<void> {
    await within(msMax, Promise.allSettled(this.#adding));
    await within(msMax, this.#queue.close());
    this.#redis.disconnect();
  }
}

export interface JobWorkerOptions {
  readonly redis: Settings['redis'];
  readonly write: Settings['write'];
  readonly shard: number;
  /**
   * Writes one batch. Its promise settles when the job is over: resolved, it is removed; rejected, whatever the error,
   * the batch comes again after a delay. May be called for a batch that was written before.
   */
  readonly handle: (batch: SealedBatch) => Promise<unknown>;
  readonly logger: Logger;
}

/** Takes a shard's jobs, up to `write.insertsInFlightMax` at once, from its construction on. */
export class JobWorker {
  readonly #redis: Redis;
  readonly #worker: Worker<SealedBatch>;

  constructor(options: JobWorkerOptions) {
    const { redis, write, shard, handle, logger } = options;
    this.#redis = connectRedisForWorker(redis, logger);
    this.#worker = new Worker<SealedBatch>(QUEUE_NAME, (job: Job<unknown>) => handle(batchOfJob(job)).then(() => null), {
      connection: this.#redis,
      prefix: shardTag(shard),
      concurrency: write.insertsInFlightMax,
      lockDuration: LOCK_MS,
      stalledInterval: STALLED_CHECK_MS,
      maxStalledCount: ATTEMPTS_MAX,
      runRetryDelay: FETCH_RETRY_MS,
      settings: { backoffStrategy: (made?: number) => backoffMs(made ?? 1, write.retryMsMin, write.retryMsMax) },
    });
    this.#worker.on('error', (error) => logger.debug({ shard, reason: error.message }, 'job worker'));
    this.#worker.on('failed', (job, error) => {
      logger.debug({ shard, batch: job?.id, attempts: job?.attemptsMade, reason: error.message }, 'a batch comes again');
    });
    this.#worker.on('stalled', (id) => logger.info({ shard, batch: id }, "took over a dead writer's batch"));
  }

  /**
   * Takes no further jobs and waits for the running ones, at most `msMax`. Jobs that run longer are let go: another
   * writer takes them when their locks run out. To hand them back sooner, let the handler reject.
   */
  async close(msMax: number): Promise<void> {
    const ended = await within(msMax, this.#worker.close());
    if (!ended) await within(msMax, this.#worker.disconnect());
    this.#redis.disconnect();
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
