/**
 * Fresh batches among a backlog. Jobs come oldest first, so what is sealed after an outage would wait until
 * all that it left is written. Therefore, while a job at hand is backlog (sealed longer than
 * `write.backlogMs` ago), every `write.freshEvery`-th insert takes the newest batch, table by table.
 *
 * The bound: a table's newest batch waits for at most `write.freshEvery` inserts of this writer for each
 * table that has fresh batches. One that is no longer its table's newest when the turn comes is backlog like
 * the rest; the turn goes to what is newer. The backlog keeps the other inserts: all but one of `freshEvery`,
 * half of them where that is 1.
 */
import { nowMs } from '../base/clock.ts';
import type { Settings } from '../config/settings.ts';
import type { SealedBatch } from '../model/batch.ts';

export class FreshTurns {
  /** How many of the newest batches are looked at for one of each table. */
  static readonly LOOK = 64;

  readonly #write: Pick<Settings['write'], 'backlogMs' | 'freshEvery'>;
  /** Inserts since the last turn, that of the job at hand included. */
  #inserts = 0;
  /** Tables by when they had their turn, the longest ago first. */
  readonly #served = new Set<string>();

  constructor(write: Pick<Settings['write'], 'backlogMs' | 'freshEvery'>) {
    this.#write = write;
  }

  /** Whether a fresh batch has its turn before this job. To be asked once for each job, in their order. */
  isDue(job: SealedBatch): boolean {
    const { freshEvery } = this.#write;
    if (freshEvery === 0) return false;
    if (!this.#isBacklog(job)) {
      this.#inserts = 0;
      return false;
    }
    this.#inserts += 1;
    if (this.#inserts < freshEvery) return false;
    this.#inserts = 1;
    return true;
  }

  /** @param newest batches, the newest first @returns the one whose turn it is; none if all are backlog */
  choose(newest: readonly SealedBatch[]): SealedBatch | undefined {
    const fresh = newest.filter((batch) => !this.#isBacklog(batch));
    const tables = new Set(fresh.map(({ table }) => table));
    const waited = [...this.#served].filter((table) => tables.has(table as SealedBatch['table']));
    const next = [...tables].find((table) => !this.#served.has(table)) ?? waited[0];
    if (next === undefined) return undefined;
    this.#served.delete(next);
    this.#served.add(next);
    return fresh.find(({ table }) => table === next);
  }

  /** By this machine's clock and Redis': both are kept by NTP, and `backlogMs` is seconds. */
  #isBacklog({ sealedAtMs }: SealedBatch): boolean {
    return nowMs() - sealedAtMs > this.#write.backlogMs;
  }
}
