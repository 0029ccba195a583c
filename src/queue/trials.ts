/**
 * Which batch is tried while a breaker is open. One that fails may be broken alone, or its table: so each
 * table has its trial first, at once, and then the batches by turns. Every second one goes to the oldest.
 */
import type { SealedBatch } from '../model/batch.ts';
import type { Table } from '../model/signal.ts';

export class Trials {
  /** How many of the oldest and of the newest batches are looked at. */
  static readonly LOOK = 64;

  readonly #tables = new Set<Table>();
  #turn = 0;

  /** The breaker opens. */
  begin(): void {
    this.#tables.clear();
    this.#turn = 0;
  }

  /** Whether a batch waits whose table had no trial yet. */
  hasNews(waiting: readonly SealedBatch[]): boolean {
    return waiting.some(({ table }) => !this.#tables.has(table));
  }

  /** @param waiting batches, the oldest first; undefined if there are none */
  choose(waiting: readonly SealedBatch[]): SealedBatch | undefined {
    const untried = waiting.find(({ table }) => !this.#tables.has(table));
    this.#turn += 1;
    const place = this.#turn % 2 === 0 ? this.#turn / 2 : 0;
    const batch = untried ?? waiting[place % Math.max(1, waiting.length)];
    if (batch !== undefined) this.#tables.add(batch.table);
    return batch;
  }
}
