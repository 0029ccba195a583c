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
    orphans(shard: number, ageMsMin: number, offset: number, limit: number): Promise<Orphans>;
  };
  readonly jobs: { add(batches: readonly SealedBatch[]): Promise<void> };
  readonly instruments: Pick<Instruments, 'batchesSealed' | 'batchesSwept'>;
  readonly logger: Logger;
}

const PAGE = 1_000;
/** Of one round; the next one goes on from the front, where those that got jobs don't count any more. */
const JOBS_PER_ROUND_MAX = 1_000;
const PAGES_PER_ROUND_MAX = 100;

export class Sweep {
  readonly #options: SweepOptions;
  readonly #stop = new AbortController();
  #ended: Promise<void> = Promise.resolve();

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

  /** One round. Resolves with how many batches got a job; rejects with a Fault of Redis. */
  async sweep(): Promise<number> {
    const { write, shard, store, jobs, instruments, logger } = this.#options;
    const { sealed } = await store.sealDue(shard);
    for (const { table } of sealed) instruments.batchesSealed.inc({ table });
    if (sealed.length > 0) await jobs.add(sealed);
    let swept = 0;
    for (let page = 0; page < PAGES_PER_ROUND_MAX && swept < JOBS_PER_ROUND_MAX; page++) {
      // Younger ones may be about to get their job from the process that sealed them.
      const { seen, batches } = await store.orphans(shard, 2 * write.sweepMs, page * PAGE, PAGE);
      if (batches.length > 0) await jobs.add(batches);
      swept += batches.length;
      if (seen < PAGE) break;
    }
    if (swept > 0) {
      instruments.batchesSwept.inc(swept);
      logger.warn({ shard, batches: swept }, 'sealed batches without a job got one');
    }
    return swept;
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
