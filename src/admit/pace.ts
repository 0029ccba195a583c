/**
 * How fast, while clients are slowed: rates as they were measured, what may come in, and when those that are
 * refused come back. Pure, time comes in as monotonic milliseconds.
 */
import type { Level } from './pressure.ts';

/** How fast a figure changes, over a window of time. */
export class Trend {
  readonly #windowMs: number;
  readonly #samples: { readonly atMs: number; readonly value: number }[] = [];

  /** @param windowMs holds as many samples as are added in it */
  constructor(windowMs: number) {
    this.#windowMs = windowMs;
  }

  add(atMs: number, value: number): void {
    this.#samples.push({ atMs, value });
    // What lies before the window stays as its beginning, as long as it reaches back to there.
    while ((this.#samples[1]?.atMs ?? Number.POSITIVE_INFINITY) <= atMs - this.#windowMs) {
      this.#samples.shift();
    }
  }

  /** The same for a count that only grows: one that became less was begun anew. */
  addCount(atMs: number, count: number): void {
    const last = this.#samples.at(-1);
    if (last !== undefined && count < last.value) this.#samples.length = 0;
    this.add(atMs, count);
  }

  /** Undefined while what was seen is shorter than a fifth of the window. */
  get perSecond(): number | undefined {
    const [first] = this.#samples;
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined) return undefined;
    const ms = last.atMs - first.atMs;
    return ms < this.#windowMs / 5 ? undefined : ((last.value - first.value) * 1000) / ms;
  }
}

/**
 * What may come into the queue, stored bytes per second: as much as leaves it, and of the room that is left
 * so much that the horizon is never reached. So the queue comes close to its limit without hitting it, and
 * with ClickHouse away it still fills, ever slower.
 */
export function queueCapacity(
  drainBytesPerSecond: number, roomBytes: number, horizonSeconds: number,
): number {
  return Math.max(0, drainBytesPerSecond) + Math.max(0, roomBytes) / horizonSeconds;
}

/** What a round of the pace takes off, and gives back (of the rate at which it began). */
const DECREASE = 0.15;
const INCREASE = 0.1;
/** Of the rate at which it began: never less, or nobody would find out that it has become better. */
const RATE_MIN = 0.02;
/** Of the same: from here on there is no limit any more. */
const RATE_FREE = 1.5;

/**
 * What may come in while something other than the queue runs short, of which nobody can tell how much would
 * be right: less by a part for as long as it doesn't get better, more by a constant once it is over (AIMD).
 * One round a second, since the readings are that old.
 */
export class Pace {
  #limit: number | undefined;
  #base = 0;
  #ratio = 0;

  /** Undefined: no limit. The unit is that of the accepted rate. */
  get limit(): number | undefined {
    return this.#limit;
  }

  /**
   * @param level of the strongest reason. At 2 nothing comes in: what was found so far stays.
   * @param ratio of the same
   * @param acceptedPerSecond what comes in now
   */
  round(level: Level, ratio: number, acceptedPerSecond: number): void {
    const better = ratio < this.#ratio;
    this.#ratio = level === 0 ? 0 : ratio;
    if (level === 1) this.#slow(better, acceptedPerSecond);
    else if (level === 0) this.#recover();
  }

  #slow(better: boolean, acceptedPerSecond: number): void {
    // Before anything comes in there is nothing to take a part of.
    if (this.#limit === undefined && acceptedPerSecond <= 0) return;
    if (this.#limit === undefined) {
      this.#base = acceptedPerSecond;
      this.#limit = acceptedPerSecond * (1 - DECREASE);
    } else if (!better) {
      this.#limit = Math.max(this.#base * RATE_MIN, this.#limit * (1 - DECREASE));
    }
  }

  #recover(): void {
    if (this.#limit === undefined) return;
    this.#limit += this.#base * INCREASE;
    if (this.#limit >= this.#base * RATE_FREE) this.#limit = undefined;
  }
}

/** So many refused clients may come back in a second; of more, the delays are drawn from a wider range. */
const RETURNS_PER_SECOND = 200;

export interface RetryBounds {
  readonly retryMsMin: number;
  readonly retryMsMax: number;
}

/**
 * When a refused client should come back: within half to one and a half times the time that is needed, so
 * that a crowd doesn't return as one; the larger the crowd, the wider.
 * @param neededMs until there is room, as it goes now; Infinity where nothing drains
 * @param refusalsPerSecond of this process
 * @param random 0 to 1
 * @returns within the bounds; where they contradict each other, the lower one
 */
export function retryAfterMs(
  neededMs: number, refusalsPerSecond: number, { retryMsMin, retryMsMax }: RetryBounds, random: number,
): number {
  const crowdMs = (refusalsPerSecond / RETURNS_PER_SECOND) * 1_000;
  const base = Math.max(retryMsMin, Math.min(retryMsMax, neededMs));
  const from = Math.max(retryMsMin, Math.min(retryMsMax, base / 2));
  const to = Math.max(from, Math.min(retryMsMax, base * 1.5 + crowdMs));
  return from + (to - from) * random;
}
