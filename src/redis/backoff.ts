/** How fast a Redis that is away is looked for again. */

const RECONNECT_MS_MIN = 25;
/** Small: a failover takes two or three seconds, and every look costs Redis next to nothing. */
const RECONNECT_MS_MAX = 500;

/**
 * How long to wait before connecting again, ms: exponential, bounded, with jitter between half and all of the
 * step.
 */
export function reconnectDelayMs(attempts: number): number {
  const step = Math.min(RECONNECT_MS_MAX, RECONNECT_MS_MIN * 2 ** Math.min(attempts, 16));
  return step * (0.5 + Math.random() / 2);
}
