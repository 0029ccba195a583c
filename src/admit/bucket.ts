/**
 * A token bucket that is charged afterwards: what a request costs is known only once it was decoded, so it is
 * let in while there is anything left, and then taken from the bucket, below 0 if need be. What is owed comes
 * back at the same rate before the next one is let in, so the rate holds over any longer time, whatever the
 * size of the requests.
 *
 * Pure: time comes in as monotonic milliseconds. One that goes back is taken for one that stands still.
 */
export class Bucket {
  #perSecond: number;
  #capacity: number;
  #level: number;
  #atMs: number;

  /** Full. @param capacity the most that collects in a time without use */
  constructor(perSecond: number, capacity: number, nowMs: number) {
    this.#perSecond = perSecond;
    this.#capacity = capacity;
    this.#level = capacity;
    this.#atMs = nowMs;
  }

  get perSecond(): number {
    return this.#perSecond;
  }

  /** What is left; below 0 what is owed. */
  level(nowMs: number): number {
    if (nowMs > this.#atMs) {
      const refilled = this.#level + ((nowMs - this.#atMs) / 1000) * this.#perSecond;
      this.#level = Math.min(this.#capacity, refilled);
      this.#atMs = nowMs;
    }
    return this.#level;
  }

  take(amount: number, nowMs: number): void {
    this.#level = this.level(nowMs) - amount;
  }

  /** How long until something is left: 0 when it is, Infinity when nothing comes in. */
  refusalMs(nowMs: number): number {
    const level = this.level(nowMs);
    if (level > 0) return 0;
    if (this.#perSecond === 0) return Number.POSITIVE_INFINITY;
    // At exactly 0 the next moment is enough, which is no time to wait for.
    return Math.max(1, (-level / this.#perSecond) * 1000);
  }

  /** Another rate from now on. What was owed still is; what doesn't fit any more is lost. */
  retune(perSecond: number, capacity: number, nowMs: number): void {
    this.#level = Math.min(capacity, this.level(nowMs));
    this.#perSecond = perSecond;
    this.#capacity = capacity;
  }

  /** Somebody who knows better says what is left. */
  set(level: number, nowMs: number): void {
    this.#level = Math.min(this.#capacity, level);
    this.#atMs = nowMs;
  }
}
