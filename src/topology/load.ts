/**
 * How busy one replica is. In: the inserts that this process sends there, and what the server says of itself
 * in a health check, which is also how other writers are noticed. Out: a figure that is only ever compared
 * with those of the other replicas of its shard. Pure, time comes in as monotonic milliseconds.
 */
import type { ReplicaFacts } from './health.ts';

/** An insert under way. */
export interface Running {
  readonly units: number;
  readonly sinceMs: number;
}

/** How much work an insert is: its bytes in MiB, and one for what every insert costs. */
export function unitsOf(bytes: number): number {
  return 1 + bytes / 2 ** 20;
}

/** The weight of the newest insert in the mean. Single latencies scatter widely. */
const PACE_WEIGHT = 0.1;
/** An insert that takes so many times as long as the mean counts before it has ended: it may be stuck. */
const STUCK = 3;
/** Added to every pace, so that two idle servers of 1 and 3 ms don't count as loaded differently. */
const PACE_MS_FLOOR = 5;
/** An error is forgotten by half in this time. */
const ERROR_HALF_LIFE_MS = 30_000;
/** Of these the server's load counts twice as much. */
const PARTS = 300;
const DELAY_SECONDS = 60;
const QUEUE_SIZE = 500;
const INSERTS_RUNNING = 16;
/** Below this it counts more and more. */
const DISK_FREE = 0.1;
const DISK_FULL_WEIGHT = 4;

export class Load {
  readonly #running = new Set<Running>();
  #inserts = 0;
  #paceMs = 0;
  #errors = { count: 0, atMs: 0 };
  #server = 1;

  get inFlight(): number {
    return this.#running.size;
  }

  get unitsInFlight(): number {
    let units = 0;
    for (const running of this.#running) units += running.units;
    return units;
  }

  begin(units: number, atMs: number): Running {
    const running = { units, sinceMs: atMs };
    this.#running.add(running);
    return running;
  }

  /** @param worked undefined where the end says nothing of the server */
  end(running: Running, atMs: number, worked: boolean | undefined): void {
    this.#running.delete(running);
    if (worked === false) this.#errors = { count: this.#errorsAt(atMs) + 1, atMs };
    if (worked !== true) return;
    this.#inserts += 1;
    const weight = Math.max(PACE_WEIGHT, 1 / this.#inserts);
    this.#paceMs += weight * (paceOf(running, atMs) - this.#paceMs);
  }

  heard(facts: ReplicaFacts): void {
    const { partsMax = 0, delaySeconds = 0, queueSize = 0, insertsRunning = 0, diskFree = 1 } = facts;
    const others = Math.max(0, insertsRunning - this.inFlight);
    this.#server =
      (1 + partsMax / PARTS) *
      (1 + delaySeconds / DELAY_SECONDS) *
      (1 + queueSize / QUEUE_SIZE) *
      (1 + others / INSERTS_RUNNING) *
      (1 + DISK_FULL_WEIGHT * Math.max(0, 1 - diskFree / DISK_FREE));
  }

  /**
   * Milliseconds for a unit of work: the mean of the recent inserts, or what one takes already that is far
   * above it. Undefined before the first insert has ended.
   */
  paceMs(atMs: number): number | undefined {
    if (this.#inserts === 0) return undefined;
    let pace = this.#paceMs;
    for (const running of this.#running) {
      const sofar = paceOf(running, atMs);
      if (sofar > STUCK * (this.#paceMs + PACE_MS_FLOOR)) pace = Math.max(pace, sofar);
    }
    return pace + PACE_MS_FLOOR;
  }

  /** Everything but the pace, 1 where nothing is wrong. */
  strain(atMs: number): number {
    return this.#server * (1 + this.#errorsAt(atMs));
  }

  #errorsAt(atMs: number): number {
    return this.#errors.count * 0.5 ** ((atMs - this.#errors.atMs) / ERROR_HALF_LIFE_MS);
  }
}

/** The loads of the replicas of a shard, to be compared; one whose pace isn't known yet counts as average. */
export function loadsOf(replicas: readonly Load[], atMs: number): number[] {
  const paces = replicas.map((load) => load.paceMs(atMs));
  const known = paces.filter((pace) => pace !== undefined);
  const mean = known.reduce((sum, pace) => sum + pace, 0) / known.length;
  return replicas.map((load, index) => {
    const pace = paces[index] ?? mean;
    return (known.length === 0 ? 1 : pace / mean) * load.strain(atMs);
  });
}

function paceOf({ units, sinceMs }: Running, atMs: number): number {
  return (atMs - sinceMs) / units;
}
