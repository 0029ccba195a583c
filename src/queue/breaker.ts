/**
 * The circuit breaker of a shard. In: how its inserts end. Out: whether jobs are taken. Closed, they are.
 * When no replica takes inserts, it opens: no job is taken until health checks find a replica that answers,
 * or for a delay that grows. Then one batch is tried, and one that works closes it: full speed at once.
 */
import { sleep, tickMs } from '../base/clock.ts';
import { Fault } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Settings } from '../config/settings.ts';
import type { Instruments } from '../metrics/instruments.ts';
import { backoffMs } from './backoff.ts';

/** Whether any replica of the shard is likely to take an insert, as health checks see it. */
export interface Reachable {
  now(): boolean;
  /** Resolves when it is again, or when aborted; never rejects. */
  again(signal: AbortSignal): Promise<void>;
}

export interface BreakerOptions {
  readonly shard: number;
  readonly write: Pick<Settings['write'], 'retryMsMin' | 'retryMsMax'>;
  /** Without it, it always is. */
  readonly reachable: Reachable | undefined;
  /** Takes no further jobs; at once, running ones go on. */
  readonly pause: () => Promise<void>;
  readonly resume: () => Promise<void>;
  /** Writes one batch of those that wait. `none`: there is none. */
  readonly trial: () => Promise<'worked' | 'failed' | 'none'>;
  /** Whether a batch waits that promises more than those that were tried; asked now and then. */
  readonly news: () => Promise<boolean>;
  /** How many sealed batches wait, for the log; undefined where nobody knows. */
  readonly waiting: () => Promise<number | undefined>;
  readonly instruments: Pick<Instruments, 'writesPaused'> | undefined;
  readonly logger: Logger;
  /** Ends the waiting for good. */
  readonly signal: AbortSignal;
}

/**
 * What `elsewhere` doesn't say already (all replicas have been tried then): no other batch of the shard would
 * pass now either. A list of our own names and ClickHouse's.
 */
const OF_THE_SHARD: readonly string[] = [
  'CANNOT_ALLOCATE_MEMORY',
  'MEMORY_LIMIT_EXCEEDED',
  'QUOTA_EXCEEDED',
  'TOO_FEW_LIVE_REPLICAS',
  'UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE',
  'UNKNOWN_USER',
  'WRONG_PASSWORD',
  'REQUIRED_PASSWORD',
  'IP_ADDRESS_NOT_ALLOWED',
  'AUTHENTICATION_FAILED',
  'clickhouse_timeout',
  'clickhouse_answer_unknown',
  'quorum_pending',
  'shard_unknown',
  'shard_unreachable',
  'topology_unknown',
];
/** The writer is stopping: nothing is wrong with the shard or the batch, another writer takes it. */
const STOPPING = 'stopping';
/** Not ClickHouse's: BullMQ is told the same by Redis. */
const OF_THE_QUEUE = /^(redis|batch)_/;

/**
 * Faults of a table (too many parts, a missing column) leave the others alone, which share its queue. They
 * open the breaker only when nothing works any more: so many batches in a row, and no success for so long.
 */
const FAILED_IN_A_ROW = 3;
const QUIET_MS = 2_000;
/** How often news are asked for. */
const NEWS_MS = 1_000;
/** Writers that hear of a return at the same moment don't come at the same moment. */
const SPREAD_MS = 200;
/** Batches that were handed back; beyond it all are forgotten, and handed back once more at most. */
const SUSPECTS_MAX = 1_000;

export class Breaker {
  readonly #options: BreakerOptions;
  #open = false;
  /** Batches that failed since the last insert that worked; only that many are kept. */
  readonly #failed = new Set<string>();
  #workedAtMs = tickMs();
  /** Trials that failed since the last insert that worked. */
  #failedTrials = 0;
  /** Batches that were handed back for the shard's fault: with a second one it may be theirs. */
  readonly #suspects = new Set<string>();

  constructor(options: BreakerOptions) {
    this.#options = options;
    options.instruments?.writesPaused.set({ shard: String(options.shard) }, 0);
  }

  /** No job may be begun. */
  get isOpen(): boolean {
    return this.#open;
  }

  /** An insert worked. */
  worked(id: string): void {
    this.#failed.clear();
    this.#failedTrials = 0;
    this.#workedAtMs = tickMs();
    this.#suspects.delete(id);
  }

  /**
   * An insert failed. Opens the breaker if that lies with the shard.
   * @returns `front`: the batch is not to blame, and keeps its place in the queue; `later`: others go first
   */
  failed(id: string, error: unknown): 'front' | 'later' {
    // Anything but a fault is our own mistake, and no reason to doubt a server.
    if (!(error instanceof Fault) || OF_THE_QUEUE.test(error.code)) return 'later';
    if (error.code === STOPPING) return 'front';
    if (this.#failed.size < FAILED_IN_A_ROW) this.#failed.add(id);
    const ofTheShard = error.retry === 'elsewhere' || OF_THE_SHARD.includes(error.code);
    // What fails although everything around it works is not the shard, whatever the code says.
    const suspected = this.#suspects.has(id) && this.#reachable;
    const nothingWorks =
      this.#failed.size >= FAILED_IN_A_ROW && tickMs() - this.#workedAtMs >= QUIET_MS;
    if ((ofTheShard && !suspected) || !this.#reachable || nothingWorks) this.#trip(error);
    if (suspected || !(ofTheShard || !this.#reachable)) return 'later';
    if (this.#suspects.size >= SUSPECTS_MAX) this.#suspects.clear();
    this.#suspects.add(id);
    return 'front';
  }

  get #reachable(): boolean {
    return this.#options.reachable?.now() ?? true;
  }

  #trip(fault: Fault): void {
    if (this.#open || this.#options.signal.aborted) return;
    this.#open = true;
    void this.#hold(fault);
  }

  async #hold({ code, message }: Fault): Promise<void> {
    const { shard, instruments, logger, signal, pause, resume, trial, waiting } = this.#options;
    const sinceMs = tickMs();
    instruments?.writesPaused.set({ shard: String(shard) }, 1);
    logger.warn({ shard, code, reason: message }, 'no replica takes inserts: batches wait');
    await pause();
    for (let over = false; !over && !signal.aborted; ) {
      await this.#wait();
      if (signal.aborted || !this.#reachable) continue;
      over = (await trial()) !== 'failed';
      if (!over) this.#failedTrials += 1;
    }
    this.#open = false;
    instruments?.writesPaused.set({ shard: String(shard) }, 0);
    if (signal.aborted) return;
    await resume();
    const forMs = Math.round(tickMs() - sinceMs);
    logger.info({ shard, forMs, batches: await waiting() }, 'inserts go on');
  }

  /** Until a trial makes sense: replicas that are away say it by coming back, others don't say it at all. */
  async #wait(): Promise<void> {
    const { reachable, write, news, signal } = this.#options;
    if (reachable !== undefined && !reachable.now()) {
      await reachable.again(signal);
      return sleep(Math.random() * SPREAD_MS, signal);
    }
    let restMs = backoffMs(this.#failedTrials + 1, write.retryMsMin, write.retryMsMax);
    for (; restMs > 0 && !signal.aborted; restMs -= NEWS_MS) {
      await sleep(Math.min(restMs, NEWS_MS), signal);
      if (restMs > NEWS_MS && (await news())) return;
    }
  }
}
