/** The limits as scans and what trims by them need them, and which of them something is beyond, as bits. */
import { LIMITS, type Limit } from '../model/outcome.ts';

/** Bounds as numbers: what isn't bounded is Infinity. */
export interface ScanBounds {
  readonly attributesMax: number;
  readonly valueBytesMax: number;
  readonly eventsMax: number;
  readonly linksMax: number;
  readonly nestingMax: number;
  /** Whether deeper nesting counts as beyond; the transcoder refuses it otherwise. */
  readonly judgesNesting: boolean;
}

/** The times that are let in, ns, and the same in halves. */
export interface TimeWindow {
  readonly min: bigint;
  readonly max: bigint;
  readonly minHigh: number;
  readonly minLow: number;
  readonly maxHigh: number;
  readonly maxLow: number;
}

/** The bit of a limit in `over`. */
export function bitOf(limit: Limit): number {
  return 1 << LIMITS.indexOf(limit);
}
export const TOO_MANY_ATTRIBUTES = bitOf('attributes');
export const TOO_LONG = bitOf('value_bytes');
export const TOO_MANY_EVENTS = bitOf('events');
export const TOO_MANY_LINKS = bitOf('links');
export const TOO_DEEP = bitOf('nesting');
export const TOO_OLD = bitOf('time_past');
export const TOO_FAR_AHEAD = bitOf('time_future');
