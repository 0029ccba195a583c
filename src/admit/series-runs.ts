/**
 * Runs of points that came lately: those of one metric that stand beside each other in a request, each of a
 * series that is known. Clients send the same runs again and again, so one look here is nearly always enough
 * for all points of a run. (A look at each point's own place costs five times as much: after a request was
 * transcoded none of these places is in the processor's caches.)
 *
 * Each run has one place, which the next one that falls there takes. A run is taken for another when place
 * and 32 bits beside it agree: of n remembered ones that happens to a new one with a probability of n / 2^48,
 * and nobody can aim at it, since hashes of series hang on a secret.
 */
import { WORDS_OF_POINT } from '../model/block.ts';

/** 256 KiB. */
const PLACES = 2 ** 16;
/** Odd: the golden ratio, and a prime of xxHash. */
const LOW_FACTOR = 0x9e3779b1;
const HIGH_FACTOR = 0x85ebca77;

export class SeriesRuns {
  /** By the low half of a run's mark: the high half. 0 is free. */
  #places = new Uint32Array(PLACES);
  #low = 0;
  #high = 0;

  /**
   * Goes over the run that begins at `at`.
   * @param series as `Cardinality.check` has it
   * @param salt of the sender: runs of others that look the same are others
   * @returns where it ends
   */
  read(series: Uint32Array, at: number, salt: number): number {
    const metric = series[at] as number;
    let low = salt ^ metric;
    let high = salt;
    let end = at;
    do {
      low = Math.imul(low, LOW_FACTOR) ^ (series[end + 1] as number);
      high = Math.imul(high, HIGH_FACTOR) ^ (series[end + 2] as number);
      end += WORDS_OF_POINT;
    } while (end < series.length && series[end] === metric);
    this.#low = (low ^ (low >>> 16)) & (PLACES - 1);
    this.#high = (high ^ low) >>> 0 || 1;
    return end;
  }

  /** Whether the run that was read last is remembered. */
  get isKnown(): boolean {
    return this.#places[this.#low] === this.#high;
  }

  /** Remembers it. */
  add(): void {
    this.#places[this.#low] = this.#high;
  }

  clear(): void {
    this.#places.fill(0);
  }
}
