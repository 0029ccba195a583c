/**
 * How this process itself is: delay of its event loop, memory, time of its commits, what is inside of it. In:
 * a tick four times a second. Out: readings, each smoothed over about a second.
 */
import { totalmem } from 'node:os';
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import type { Settings } from '../config/settings.ts';
import type { PressureReason, Reading } from './pressure.ts';

const RESOLUTION_MS = 20;
const PERCENTILE = 90;
/**
 * Not after each tick: the histogram forgets with its figures when it was last called, and of a loop that
 * turns slower than it is asked it would never see a turn.
 */
const TICKS_PER_HISTOGRAM = 4;
/**
 * A tick counts by so much, however long it took, and by no more than so many times its limit: so a single
 * turn that takes seconds doesn't refuse anything, and four in a row do.
 */
const WEIGHT = 0.25;
const RATIO_MAX = 2;
/** Of a tick without a commit, in the time of commits: it fades within seconds. */
const WEIGHT_OF_NOTHING = 0.05;
/** Below, a reading that fades is over. */
const RATIO_MIN = 0.001;
const AUTO_MEMORY_SHARE = 0.85;

type Bounds = Settings['pressure'];

export interface Inside {
  readonly requests: number;
  readonly requestsMax: number;
  readonly bytes: number;
  readonly bytesMax: number;
}

export class Vitals {
  readonly #inside: () => Inside | undefined;
  readonly #delays: IntervalHistogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  readonly #readings = new Map<PressureReason, Reading>();
  #ticks = 0;
  #commits = 0;
  #commitMs = 0;

  /** Measures from now on, until `stop`. @param inside what the door counts; undefined before there is one */
  constructor(inside: () => Inside | undefined) {
    this.#inside = inside;
    this.#delays.enable();
  }

  stop(): void {
    this.#delays.disable();
  }

  /** Commits to Redis that have ended since, and how long they took together. */
  committed(ms: number, commits = 1): void {
    this.#commits += commits;
    this.#commitMs += ms;
  }

  /** Smoothed; those that are off, or of which nothing is known, are not among them. */
  get readings(): readonly Reading[] {
    return [...this.#readings.values()];
  }

  tick(bounds: Bounds): void {
    this.#take('event_loop', this.#loopDelayMs(), bounds.eventLoopMsMax);
    this.#take('memory', process.memoryUsage.rss(), memoryBytesMax(bounds.memoryBytesMax));
    this.#takeCommits(bounds.commitMsMax);
    const inside = this.#inside();
    this.#take('requests_in_flight', inside?.requests ?? 0, inside?.requestsMax ?? 0);
    this.#take('bytes_in_flight', inside?.bytes ?? 0, inside?.bytesMax ?? 0);
  }

  #loopDelayMs(): number {
    const { count } = this.#delays;
    const intervalMs = count === 0 ? 0 : this.#delays.percentile(PERCENTILE) / 1e6;
    this.#ticks += 1;
    if (this.#ticks % TICKS_PER_HISTOGRAM === 0) this.#delays.reset();
    return Math.max(0, intervalMs - RESOLUTION_MS);
  }

  /** Between two slow commits there are ticks without one: they say little. */
  #takeCommits(limit: number): void {
    const meanMs = this.#commits === 0 ? 0 : this.#commitMs / this.#commits;
    this.#take('commit_slow', meanMs, limit, this.#commits === 0 ? WEIGHT_OF_NOTHING : WEIGHT);
    this.#commits = 0;
    this.#commitMs = 0;
  }

  /** @param limit 0 is none */
  #take(reason: PressureReason, value: number, limit: number, weight = WEIGHT): void {
    if (limit <= 0) {
      this.#readings.delete(reason);
      return;
    }
    const before = this.#readings.get(reason)?.ratio ?? 0;
    const smoothed = before + weight * (Math.min(value / limit, RATIO_MAX) - before);
    const ratio = value === 0 && smoothed < RATIO_MIN ? 0 : smoothed;
    this.#readings.set(reason, { reason, value: Math.round(ratio * limit), limit, ratio });
  }
}

/**
 * Bytes of memory from which clients are pushed back; 0 is none.
 * @param allowed what the process may have, as process.constrainedMemory() says: 0, or more than there is,
 *   where it isn't limited
 */
export function memoryBytesMax(
  setting: number | 'auto', allowed = process.constrainedMemory(), installed = totalmem(),
): number {
  if (setting !== 'auto') return setting;
  return allowed > 0 && allowed < installed ? Math.floor(allowed * AUTO_MEMORY_SHARE) : 0;
}
