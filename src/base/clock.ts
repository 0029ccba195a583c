/** Time, in one place. Wall clock for what leaves the process, monotonic for durations. */
export function nowMs(): number {
  return Date.now();
}

/** Monotonic milliseconds with a fraction, since some moment before the start. */
export function tickMs(): number {
  return performance.now();
}

/** Resolves after `ms`, or at once when `signal` is aborted; never rejects. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', done, { once: true });
  });
}
