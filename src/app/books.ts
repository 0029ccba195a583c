/**
 * The books of the queue, as gauges and as the answer to "may more come in?". Redis keeps them, shard by
 * shard (every script books what it does); here they are read once a second, and before a scrape.
 */
import { Fault } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Instruments } from '../metrics/instruments.ts';
import { type Verdict, later } from '../model/outcome.ts';
import { SIGNALS } from '../model/signal.ts';
import type { BatchStore } from '../queue/batch-store.ts';
import type { ShardCounts } from '../queue/counts.ts';

const READ_EVERY_MS = 1_000;
/** A scrape reads again only when the last reading is older than this. */
const FRESH_MS = 250;
/** Refused clients come back after this long, up to three times as long. */
const RETRY_AFTER_MS = 2_000;

export class Books {
  readonly #store: BatchStore;
  readonly #shards: () => number;
  readonly #instruments: Instruments;
  readonly #logger: Logger;
  readonly #timer: NodeJS.Timeout;
  #bytesMax = Number.POSITIVE_INFINITY;
  #readAtMs = Number.NEGATIVE_INFINITY;
  #refusing = false;

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

  close(): void {
    clearInterval(this.#timer);
  }

  /** Never rejects: gauges keep their last values while Redis is away, and /ready says that it is. */
  async refresh(): Promise<void> {
    const now = performance.now();
    const count = this.#shards();
    if (count === 0 || now - this.#readAtMs < FRESH_MS || !this.#store.redis.ready) return;
    this.#readAtMs = now;
    try {
      const shards = Array.from({ length: count }, (_, shard) => this.#store.counts(shard));
      this.#show(await Promise.all(shards));
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#logger.debug({ reason: error.message }, 'the books could not be read');
    }
    this.pressure();
  }

  /** Why no more may come in now, if so. Costs nothing: the figure comes with every commit. */
  pressure(): Verdict | undefined {
    const bytes = this.#store.queueBytes;
    const refusing = bytes >= this.#bytesMax;
    if (refusing !== this.#refusing) this.#turn(refusing, bytes);
    if (!refusing) return undefined;
    const limit = `the limit is ${this.#bytesMax} (SLUICE_QUEUE_BYTES_MAX)`;
    const message = `${bytes} bytes wait to be written, ${limit}; come back later`;
    return later('queue_full', message, RETRY_AFTER_MS * (1 + 2 * Math.random()));
  }

  #turn(refusing: boolean, bytes: number): void {
    this.#refusing = refusing;
    this.#instruments.backpressureLevel.set(refusing ? 2 : 0);
    this.#instruments.backpressureReason.set({ reason: 'queue_full' }, refusing ? 1 : 0);
    const figures = { queueBytes: bytes, queueBytesMax: this.#bytesMax };
    if (refusing)
      this.#logger.warn(figures, 'the queue is full: clients are pushed back (SLUICE_QUEUE_BYTES_MAX)');
    else this.#logger.info(figures, 'the queue has room again');
  }

  #show(shards: readonly ShardCounts[]): void {
    const { queueItems, queueBytes, queueOldestAge, freshness } = this.#instruments;
    for (const [number, counts] of shards.entries()) {
      const shard = String(number);
      queueBytes.set({ shard }, counts.queueBytes);
      queueOldestAge.set({ shard }, (counts.oldestSealedAgeMs ?? 0) / 1000);
    }
    for (const signal of SIGNALS) {
      queueItems.set({ signal }, sum(shards.map(({ items }) => items[signal].waiting)));
      // The newest item wherever it is: a shard that gets no rows, or takes none, has gauges of its own.
      const agesMs = shards.flatMap(({ nowMs, items }) => {
        const { newestWrittenAtMs } = items[signal];
        return newestWrittenAtMs === undefined ? [] : [nowMs - newestWrittenAtMs];
      });
      if (agesMs.length > 0) freshness.set({ signal }, Math.min(...agesMs) / 1000);
    }
  }
}

function sum(figures: readonly number[]): number {
  return figures.reduce((total, figure) => total + figure, 0);
}
