/**
 * Pressure is one number with reasons: 0 open, 1 slowing, 2 refusing. In: readings, each a value against its
 * limit as a ratio (1 is "refuse"), and in how many seconds it gets there as it goes now. Out: a level for
 * each reason, and the highest of them. Pure, time comes in as monotonic milliseconds.
 *
 * Nothing flaps: a level is left further down than it is entered, and at the earliest after a second. Up it
 * goes at once.
 */
import type { LaterReason } from '../model/outcome.ts';

/**
 * What all gateways run short of together: what one process knows of it counts for all, so that each of them
 * reckons the same level.
 */
export const SHARED_REASONS = [
  'queue_full',
  'queue_old',
  'redis_memory',
  'clickhouse_parts',
  'clickhouse_disk',
  'replication_delay',
] as const satisfies readonly LaterReason[];

/**
 * What one process runs short of. It counts for itself only: a neighbour that is stuck must not turn data
 * away here, where there is room for it.
 */
export const OWN_REASONS = [
  'commit_slow',
  'event_loop',
  'memory',
  'requests_in_flight',
  'bytes_in_flight',
] as const satisfies readonly LaterReason[];

export type SharedReason = (typeof SHARED_REASONS)[number];
export type PressureReason = SharedReason | (typeof OWN_REASONS)[number];
export type Level = 0 | 1 | 2;

export interface Reading {
  readonly reason: PressureReason;
  readonly value: number;
  readonly limit: number;
  /** 1 is at the limit. Of what must not become less, it isn't `value / limit` but the other way round. */
  readonly ratio: number;
  /** Until the limit is reached, as it goes now; undefined: never, or not known. */
  readonly inSeconds?: number | undefined;
}

/** A reason, and what it does. */
export interface Held {
  readonly reading: Reading;
  readonly level: Level;
  /** Since when it has this level. */
  readonly sinceMs: number;
}

const REFUSE_FROM = 1;
const REFUSE_UNTIL = 0.9;
const SLOW_FROM = 0.85;
const SLOW_UNTIL = 0.7;
/** A queue takes bursts, that is what it is for: nothing is foretold while more than half of it is empty. */
const FORETOLD_FROM = 0.5;
/** Pacing keeps what is foretold at the horizon itself: it is over when it is clearly further away. */
const FORETOLD_UNTIL_HORIZONS = 1.5;
/** At a level, before it falls. */
const HOLD_MS = 1_000;
/** The door counts these exactly and refuses by itself: here they are a warning. */
const COUNTED_BY_DOOR: readonly PressureReason[] = ['requests_in_flight', 'bytes_in_flight'];

/** @param level that the reason has now. Without regard to how long it has had it. */
export function nextLevel(level: Level, reading: Reading, horizonSeconds: number): Level {
  const { ratio, inSeconds, reason } = reading;
  const most: Level = COUNTED_BY_DOOR.includes(reason) ? 1 : 2;
  if (ratio >= (level === 2 ? REFUSE_UNTIL : REFUSE_FROM)) return most;
  if (ratio >= (level === 0 ? SLOW_FROM : SLOW_UNTIL)) return 1;
  const horizon = level === 0 ? horizonSeconds : horizonSeconds * FORETOLD_UNTIL_HORIZONS;
  const soon = inSeconds !== undefined && inSeconds < horizon;
  return soon && ratio >= FORETOLD_FROM ? 1 : 0;
}

/** As it goes now; undefined for never. @param perSecond undefined while it is not known */
export function secondsUntil(
  value: number, limit: number, perSecond: number | undefined,
): number | undefined {
  if (value >= limit) return 0;
  return perSecond === undefined || perSecond <= 0 ? undefined : (limit - value) / perSecond;
}

/**
 * One reading for each reason: where several processes have one, the strictest, and the soonest of what they
 * foretell.
 */
export function strictest(readings: readonly Reading[]): Reading[] {
  const found = new Map<PressureReason, Reading>();
  for (const reading of readings) {
    const before = found.get(reading.reason);
    if (before === undefined) {
      found.set(reading.reason, reading);
      continue;
    }
    const worst = reading.ratio > before.ratio ? reading : before;
    found.set(reading.reason, { ...worst, inSeconds: soonest(reading.inSeconds, before.inSeconds) });
  }
  return [...found.values()];
}

function higher(one: Level, other: Level): Level {
  if (one > other) return one;
  return other;
}

function soonest(one: number | undefined, other: number | undefined): number | undefined {
  return one === undefined || other === undefined ? (one ?? other) : Math.min(one, other);
}

/** The levels of one process. */
export class Levels {
  readonly #held = new Map<PressureReason, Held>();

  /** The highest of all. */
  get level(): Level {
    let level: Level = 0;
    for (const held of this.#held.values()) if (held.level > level) level = held.level;
    return level;
  }

  /** Those above 0, the strongest first. */
  get reasons(): Held[] {
    return [...this.#held.values()]
      .filter(({ level }) => level > 0)
      .sort((a, b) => b.level - a.level || b.reading.ratio - a.reading.ratio);
  }

  levelOf(reason: PressureReason): Level {
    return this.#held.get(reason)?.level ?? 0;
  }

  /**
   * Takes readings over, one of each reason (`strictest`). A reason without one falls as if it were 0: what
   * nobody knows is no reason to refuse.
   * @param elsewhere levels that other processes hold: where a reading lies between two levels, all of them
   *   stay on the same one, also who has only just begun
   * @returns the reasons whose level has changed
   */
  reckon(
    readings: readonly Reading[],
    horizonSeconds: number,
    atMs: number,
    elsewhere: ReadonlyMap<PressureReason, Level> = new Map(),
  ): Held[] {
    const missing = [...this.#held.values()]
      .filter(({ reading: { reason } }) => !readings.some((reading) => reading.reason === reason))
      .map(({ reading }) => ({ ...reading, value: 0, ratio: 0, inSeconds: undefined }));
    const changed: Held[] = [];
    for (const reading of [...readings, ...missing]) {
      const { reason } = reading;
      const before = this.#held.get(reason);
      const own = before?.level ?? 0;
      const theirs = elsewhere.get(reason) ?? 0;
      const wanted = nextLevel(higher(own, theirs), reading, horizonSeconds);
      const early = before !== undefined && wanted < own && atMs - before.sinceMs < HOLD_MS;
      const level = early ? own : wanted;
      const held = { reading, level, sinceMs: level === own ? (before?.sinceMs ?? atMs) : atMs };
      if (level !== own) changed.push(held);
      if (level === 0) this.#held.delete(reason);
      else this.#held.set(reason, held);
    }
    return changed;
  }
}
