/**
 * The books of the queue, as gauges and for whoever decides whether more may come in (pressure.ts). Redis
 * keeps them, shard by shard (every script books what it does); here they are read once a second, and before
 * a scrape.
 */
import { tickMs } from '../base/clock.ts';
import { Fault } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Instruments } from '../metrics/instruments.ts';
import { SIGNALS, type Signal } from '../model/signal.ts';
import type { BatchStore } from '../queue/batch-store.ts';
import type { ItemCounts, ShardCounts } from '../queue/counts.ts';

const READ_EVERY_MS = 1_000;
/** A scrape reads again only when the last reading is older than this. */
const FRESH_MS = 250;

const STATES = ['accepted', 'written', 'waiting', 'dead', 'dropped'] as const satisfies (keyof ItemCounts)[];

export class Books {
  readonly #store: BatchStore;
  readonly #shards: () => number;
  readonly #instruments: Instruments;
  readonly #logger: Logger;
  readonly #timer: NodeJS.Timeout;
  readonly #listeners: ((shards: readonly ShardCounts[]) => void)[] = [];
  #bytesMax = Number.POSITIVE_INFINITY;
  #readAtMs = Number.NEGATIVE_INFINITY;
  /** When the newest item of a signal that is in ClickHouse had been acknowledged, by our own clock. */
  readonly #newestAtTicks = new Map<Signal, number>();

  /** @param shards how many there are now; 0 while that is not known */
  constructor(store: BatchStore, shards: () => number, instruments: Instruments, logger: Logger) {
    this.#store = store;
    this.#shards = shards;
    this.#instruments = instruments;
    this.#logger = logger;
    this.#timer = setInterval(() => void this.refresh(), READ_EVERY_MS);
  }

  /** From here on clients are pushed back, bytes in Redis. */
  set bytesMax(bytes: number) {
    this.#bytesMax = bytes;
  }

  get bytesMax(): number {
    return this.#bytesMax;
  }

  /** Of all shards. */
  get queueBytes(): number {
    return this.#store.queueBytes;
  }

  /** Called with the books of all shards, each time that they were read. */
  onRead(listener: (shards: readonly ShardCounts[]) => void): void {
    this.#listeners.push(listener);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /**
   * Never rejects: gauges keep their last values while Redis is away (but freshness, which grows), and /ready
   * says that it is.
   */
  async refresh(): Promise<void> {
    await this.#read();
    this.#showFreshness();
  }

  async #read(): Promise<void> {
    const now = tickMs();
    const count = this.#shards();
    if (count === 0 || now - this.#readAtMs < FRESH_MS || !this.#store.redis.ready) return;
    this.#readAtMs = now;
    try {
      const reading = Array.from({ length: count }, (_, shard) => this.#store.counts(shard));
      const shards = await Promise.all(reading);
      this.#show(shards);
      for (const listener of this.#listeners) listener(shards);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#logger.debug({ reason: error.message }, 'the books could not be read');
    }
  }

  #show(shards: readonly ShardCounts[]): void {
    const { queueItems, queueBytes, queueOldestAge, ledgerItems } = this.#instruments;
    const { deadLetters, deadLetterBytes, resendRemembered } = this.#instruments;
    for (const [number, counts] of shards.entries()) {
      const shard = String(number);
      queueBytes.set({ shard }, counts.queueBytes);
      queueOldestAge.set({ shard }, (counts.oldestSealedAgeMs ?? 0) / 1000);
      deadLetters.set({ shard }, counts.deadLetters);
      deadLetterBytes.set({ shard }, counts.deadBytes);
      resendRemembered.set({ shard }, counts.remembered);
    }
    for (const signal of SIGNALS) {
      for (const state of STATES)
        ledgerItems.set({ signal, state }, sum(shards.map(({ items }) => items[signal][state])));
      queueItems.set({ signal }, sum(shards.map(({ items }) => items[signal].waiting)));
      // The newest item wherever it is: a shard that gets no rows, or takes none, has gauges of its own.
      const agesMs = shards.flatMap(({ nowMs, items }) => {
        const { newestWrittenAtMs } = items[signal];
        return newestWrittenAtMs === undefined ? [] : [nowMs - newestWrittenAtMs];
      });
      if (agesMs.length > 0) this.#newestAtTicks.set(signal, tickMs() - Math.max(0, Math.min(...agesMs)));
    }
  }

  /** Nothing was written for long, or the books can't be read: it goes on growing, as it should. */
  #showFreshness(): void {
    for (const [signal, atTick] of this.#newestAtTicks)
      this.#instruments.freshness.set({ signal }, (tickMs() - atTick) / 1000);
  }
}

function sum(figures: readonly number[]): number {
  return figures.reduce((total, figure) => total + figure, 0);
}
