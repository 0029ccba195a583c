/**
 * What becomes of the records of the request at hand: the counters that the host reads, and the current
 * record's fate.
 */
import { COUNTERS, COUNT_ACCEPTED } from './codes.ts';
import { alloc, load32, store32, zero } from './memory.ts';

/** COUNTERS numbers of 4 bytes, in the order of codes.ts. */
export const COUNTS: u32 = alloc(COUNTERS * 4);
zero(COUNTS, COUNTERS * 4);

/**
 * Why the record that is being read will be refused: 0 while there is no reason, else the first one found.
 */
export let REJECTION: u32 = 0;

export function beginCounts(): void {
  zero(COUNTS, COUNTERS * 4);
}

export function beginRecord(): void {
  REJECTION = 0;
}

/**
 * Refuses the record that is being read. It is read to its end nevertheless: the request may yet be
 * malformed.
 */
export function reject(reason: u32): void {
  if (REJECTION === 0) REJECTION = reason;
}

export function count(counter: u32): void {
  store32(COUNTS + (counter << 2), load32(COUNTS + (counter << 2)) + 1);
}

/** Ends the record: true when it is to be stored. */
export function endRecord(): boolean {
  count(REJECTION === 0 ? COUNT_ACCEPTED : REJECTION);
  return REJECTION === 0;
}
