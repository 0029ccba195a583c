/**
 * Finds what fell through: open batches that nobody sealed in time, and sealed batches without a job, because
 * the process that sealed them died before it added one, or Redis lost it. Every writer sweeps; doing it
 * twice does nothing.
 */
import { sleep } from '../base/clock.ts';
import { Fault } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Settings } from '../config/settings.ts';
import type { Instruments } from '../metrics/instruments.ts';
import type { SealedBatch } from '../model/batch.ts';
import type { AppendResult, Orphans } from './batch-store.ts';

export interface SweepOptions {
  readonly write: Settings['write'];
  readonly shard: number;
  readonly store: {
    sealDue(shard: number): Promise<AppendResult>;
    orphans(
      shard: number,
      ageMsMin: number,
      offset: number,
      limit: number,
      delayMsMax: number,
    ): Promise<Orphans>;
  };
  readonly jobs: {
    add(batches: readonly SealedBatch[]): Promise<void>;
    hasten(ids: readonly string[]): Promise<void>;
  };
  readonly instruments: Pick<Instruments, 'batchesSealed' | 'batchesSwept'>;
  readonly logger: Logger;
}

const PAGE = 1_000;
/** Clocks of writers and of Redis may differ by so much without anybody noticing. */
const CLOCKS_APART_MS_MAX = 5_000;
/** Of one round: the next one goes on where it ended, so that a large backlog costs no more than a small. */
const JOBS_PER_ROUND_MAX = 1_000;
const PAGES_PER_ROUND_MAX = 5;

export class Sweep {
  readonly #options: SweepOptions;
  readonly #stop = new AbortController();
  #ended: Promise<void> = Promise.resolve();
  /**
   * Where the next round begins, counted from the oldest. Batches that are written meanwhile move the others
   * up: those that slip past are seen when it begins at the front again.
   */
  #offset = 0;

  constructor(options: SweepOptions) {
    this.#options = options;
  }

  /** Begins to sweep, the first time at once: what a crash left behind should not wait. */
  start(): void {
    this.#ended = this.#rounds();
  }

  /** Resolves when the round that is under way has ended. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#ended;
  }

  /**
   * One round, which looks at 5,000 sealed batches at most. Resolves with how many batches got a job; rejects
   * with a Fault of Redis.
   */
  async sweep(): Promise<number> {
    const { shard, store, jobs, instruments, logger } = this.#options;
    const { sealed } = await store.sealDue(shard);
    for (const { table } of sealed) instruments.batchesSealed.inc({ table });
    if (sealed.length > 0) await jobs.add(sealed);
    let swept = 0;
    for (let page = 0; page < PAGES_PER_ROUND_MAX && swept < JOBS_PER_ROUND_MAX; page++) {
      const { batches, last } = await this.#page();
      swept += batches;
      if (last) break;
    }
    if (swept > 0) {
      instruments.batchesSwept.inc(swept);
      logger.warn({ shard, batches: swept }, 'sealed batches without a job got one');
    }
    return swept;
  }

  async #page(): Promise<{ batches: number; last: boolean }> {
    const { write, shard, store, jobs, logger } = this.#options;
    // Younger ones may be about to get their job from the process that sealed them.
    const delayMsMax = write.retryMsMax + CLOCKS_APART_MS_MAX;
    const found = await store.orphans(shard, 2 * write.sweepMs, this.#offset, PAGE, delayMsMax);
    const { seen, batches, putOff } = found;
    if (batches.length > 0) await jobs.add(batches);
    if (putOff.length > 0) {
      logger.warn({ shard, jobs: putOff.length }, 'jobs that a wrong clock had put off are tried now');
      await jobs.hasten(putOff);
    }
    const last = seen < PAGE;
    this.#offset = last ? 0 : this.#offset + PAGE;
    return { batches: batches.length, last };
  }

  async #rounds(): Promise<void> {
    const { write, shard, logger } = this.#options;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        await this.sweep();
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        logger.debug({ shard, reason: error.message }, 'could not sweep');
      }
      // Writers that were started together drift apart.
      await sleep(write.sweepMs * (0.9 + Math.random() / 5), signal);
    }
  }
}
