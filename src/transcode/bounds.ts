/**
 * What no record of the request at hand may exceed. Here a record is only found to exceed: nothing of its
 * request is appended then (SignalBlocks), and who asked looks at its records one by one. So what is seen
 * here may err on the side of too much, never of too little.
 *
 * Counts and lengths are compared exactly; times by their upper halves alone, which are 4.3 s apart.
 */
import { load32 } from './memory.ts';

/** Beyond any count and any length here; both engines compare it as a small integer. */
const UNBOUNDED: u32 = 0x7fffffff;

/** Texts below this length are copied in one go, their length in one byte before them. */
const SHORT: u32 = 128;

export let ATTRIBUTES_MAX: u32 = UNBOUNDED;
export let EVENTS_MAX: u32 = UNBOUNDED;
export let LINKS_MAX: u32 = UNBOUNDED;
let valueBytesMax: u32 = UNBOUNDED;

/** Texts of values below this length need no look, whatever is bounded: 128 at most. */
export let SHORT_END: u32 = SHORT;

// Upper halves of times, the first and the last that are surely within the bounds.
let timeFirst: u32 = 0;
let timeLast: u32 = 0xffffffff;

/** A value nested too deep counts as exceeding. */
let boundsNesting: boolean = false;

/** Whether a record of the request at hand exceeds a bound. */
export let EXCEEDED: boolean = false;

/** Counts and lengths of 0 bound nothing. */
export function setCounts(attributes: u32, valueBytes: u32, events: u32, links: u32): void {
  ATTRIBUTES_MAX = orUnbounded(attributes);
  valueBytesMax = orUnbounded(valueBytes);
  EVENTS_MAX = orUnbounded(events);
  LINKS_MAX = orUnbounded(links);
  SHORT_END = valueBytesMax < SHORT ? valueBytesMax + 1 : SHORT;
}

function orUnbounded(most: u32): u32 {
  return most === 0 || most > UNBOUNDED ? UNBOUNDED : most;
}

export function setTimes(first: u32, last: u32, nesting: boolean): void {
  timeFirst = first;
  timeLast = last;
  boundsNesting = nesting;
}

export function beginBounds(): void {
  EXCEEDED = false;
}

export function exceed(): void {
  EXCEEDED = true;
}

/** A record, or what it belongs to, has so many attributes. */
// @inline
export function boundAttributes(n: u32): void {
  if (n > ATTRIBUTES_MAX) exceed();
}

/** A value's text has so many bytes. */
// @inline
export function boundValue(n: u32): void {
  if (n > valueBytesMax) exceed();
}

/** A value is nested too deep. */
export function boundNesting(): void {
  if (boundsNesting) exceed();
}

/** A record is of the time at `p`. */
// @inline
export function boundTime(p: u32): void {
  const upper = load32(p + 4);
  if (upper < timeFirst || upper > timeLast) exceed();
}

/** A record ends at the time at `p`, which may be long ago or not be known at all. */
// @inline
export function boundEnd(p: u32): void {
  if (load32(p + 4) > timeLast) exceed();
}
