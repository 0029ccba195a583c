/** Trace and span ids, and times: what is valid, and how it is stored. */
import type { Bytes } from './bytes.ts';
import { TEXT_HEX } from './codes.ts';
import { hexId, isZero, load8, store8 } from './memory.ts';
import { textAt } from './texts.ts';

export const TRACE_ID_SIZE: u32 = 16;
export const SPAN_ID_SIZE: u32 = 8;

/** An id that a span must have: of the right length, not all zero (trace.proto). */
export function isValidId(p: u32, n: u32, size: u32): boolean {
  return n === size && !isZero(p, n);
}

/** An id that may be missing: of the right length or empty. */
export function isPossibleId(n: u32, size: u32): boolean {
  return n === 0 || n === size;
}

/** Appends an id as lower-case hex; all zero is as good as none: the empty string. */
export function putId(out: Bytes, p: u32, n: u32): void {
  if (isZero(p, n)) {
    out.put8(0);
    return;
  }
  out.putVarint(n * 2);
  out.need(n * 2);
  if (n === TRACE_ID_SIZE || n === SPAN_ID_SIZE) hexId(out.at, p, n);
  else hexOther(out.at, p, n);
  out.at += n * 2;
}

/** Ids of other lengths are only stored for exemplars, where OTLP asks for nothing. */
function hexOther(to: u32, p: u32, n: u32): void {
  const digits = textAt(TEXT_HEX);
  for (let i: u32 = 0; i < n; i++) {
    const byte: u32 = load8(p + i);
    store8(to + 2 * i, load8(digits + (byte >>> 4)));
    store8(to + 2 * i + 1, load8(digits + (byte & 15)));
  }
}

/** DateTime64(9) is a signed count of nanoseconds: from 2^63 on (the year 2262) a time can't be stored. */
export function isTimeInRange(p: u32): boolean {
  return load8(p + 7) < 128;
}
