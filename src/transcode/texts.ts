/** The few words that the shared text needs, and other constants in memory. */
import { TEXTS_COUNT, TEXT_SLOT } from './codes.ts';
import { alloc, load8, zero } from './memory.ts';

/** Slots of TEXT_SLOT bytes, filled by the host before anything else (TEXTS in engine.ts). */
export const TEXTS: u32 = alloc(TEXTS_COUNT * TEXT_SLOT);

/** Eight bytes of 0: the value of a 64-bit field that isn't there. */
export const ZERO: u32 = alloc(64);
zero(ZERO, 64);

export function textAt(slot: u32): u32 {
  return TEXTS + slot * TEXT_SLOT + 1;
}

export function textLength(slot: u32): u32 {
  return load8(TEXTS + slot * TEXT_SLOT);
}
