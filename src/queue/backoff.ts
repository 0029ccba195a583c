/** Delays between the tries of a batch. */

/**
 * Exponential with full jitter: anything between `msMin` and the step, which doubles from `msMin` to `msMax`
 * with the tries that were made (from 1). So writers that failed together don't come back together.
 * Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
 */
export function backoffMs(attemptsMade: number, msMin: number, msMax: number, random = Math.random): number {
  const step = Math.min(msMax, msMin * 2 ** Math.min(attemptsMade, 30));
  return Math.round(msMin + random() * Math.max(0, step - msMin));
}
