/**
 * The flow through the queue, as pressure needs it: how full it is, how fast it grows and drains, and how
 * many stored bytes a byte on the wire becomes. In: the books as they are read, and the queue's bytes as they
 * come with every commit. Out: readings and rates.
 */
import { Trend } from '../admit/pace.ts';
import { type Reading, secondsUntil } from '../admit/pressure.ts';
import type { Settings } from '../config/settings.ts';
import { SIGNALS } from '../model/signal.ts';
import type { ShardCounts } from '../queue/counts.ts';

/** Long enough to see through inserts, which take away much at once; short enough to see a flood. */
const GROWTH_MS = 5_000;
const DRAIN_MS = 5_000;
/** Of the gauge. */
const DRAIN_SHOWN_MS = 10_000;

export class Flow {
  readonly #growth = new Trend(GROWTH_MS);
  readonly #drained = new Trend(DRAIN_MS);
  readonly #drainedShown = new Trend(DRAIN_SHOWN_MS);
  #oldestAgeMs = 0;
  #queueBytes = 0;
  /** Before, the queue's bytes begin at 0 whatever waits, and would seem to grow at once to what they are. */
  #isRead = false;
  /** Of what waits, or of what waited last. */
  #bytesPerItem: number | undefined;
  /** Stored for one that came over the wire; 1 until it was measured. */
  #storedPerWire = 1;

  /** The books of all shards, as they were read now. */
  read(atMs: number, shards: readonly ShardCounts[]): void {
    const items = shards.flatMap((counts) => SIGNALS.map((signal) => counts.items[signal]));
    const written = sum(items.map((of) => of.written));
    const waiting = sum(items.map((of) => of.waiting));
    const bytes = sum(shards.map(({ queueBytes }) => queueBytes));
    this.#isRead = true;
    this.#drained.addCount(atMs, written);
    this.#drainedShown.addCount(atMs, written);
    if (waiting > 0 && bytes > 0) this.#bytesPerItem = bytes / waiting;
    this.#oldestAgeMs = Math.max(0, ...shards.map(({ oldestSealedAgeMs }) => oldestSealedAgeMs ?? 0));
  }

  /** The queue's bytes as they are known now, a few times a second. */
  sample(atMs: number, queueBytes: number): void {
    this.#queueBytes = queueBytes;
    if (this.#isRead) this.#growth.add(atMs, queueBytes);
  }

  /** What all gateways together have accepted in the last seconds. */
  accepted(itemsPerSecond: number, wireBytesPerSecond: number): void {
    if (itemsPerSecond <= 0 || wireBytesPerSecond <= 0 || this.#bytesPerItem === undefined) return;
    this.#storedPerWire = (itemsPerSecond * this.#bytesPerItem) / wireBytesPerSecond;
  }

  get drainItemsPerSecond(): number {
    return Math.max(0, this.#drainedShown.perSecond ?? 0);
  }

  get drainBytesPerSecond(): number {
    return Math.max(0, this.#drained.perSecond ?? 0) * (this.#bytesPerItem ?? 0);
  }

  get storedPerWire(): number {
    return this.#storedPerWire;
  }

  readings(bytesMax: number, { queueAgeSecondsMax }: Settings['pressure']): Reading[] {
    const full: Reading = {
      reason: 'queue_full',
      value: this.#queueBytes,
      limit: bytesMax,
      ratio: this.#queueBytes / bytesMax,
      inSeconds: secondsUntil(this.#queueBytes, bytesMax, this.#growth.perSecond),
    };
    // Before Redis has said how much room it has.
    const readings = Number.isFinite(bytesMax) ? [full] : [];
    if (queueAgeSecondsMax === 0) return readings;
    const value = this.#oldestAgeMs / 1_000;
    const ratio = value / queueAgeSecondsMax;
    return [...readings, { reason: 'queue_old', value, limit: queueAgeSecondsMax, ratio }];
  }
}

function sum(figures: readonly number[]): number {
  return figures.reduce((total, figure) => total + figure, 0);
}
