/**
 * Walks messages that are read but not stored: members of a oneof that a later one replaces, values of keys
 * that come again, values nested too deep. A request with an error in them is malformed all the same. Without
 * recursion: how deep they are nested is up to the sender.
 */
import { Bytes } from './bytes.ts';
import { PACKED_UNEVEN } from './codes.ts';
import { load32 } from './memory.ts';
import { POS, length, malformed, readTag, skip, varintWithin } from './wire.ts';

// Kinds of messages, as far as they hold others; 0 is any field without a message in it.
export const ANY_VALUE: u32 = 1;
export const ARRAY_VALUE: u32 = 2;
export const KEY_VALUE_LIST: u32 = 3;
const KEY_VALUE: u32 = 4;
export const NUMBER_DATA: u32 = 5;
export const HISTOGRAM_DATA: u32 = 6;
export const EXPONENTIAL_DATA: u32 = 7;
export const SUMMARY_DATA: u32 = 8;
const NUMBER_POINT: u32 = 9;
const HISTOGRAM_POINT: u32 = 10;
const EXPONENTIAL_POINT: u32 = 11;
const SUMMARY_POINT: u32 = 12;
const EXEMPLAR: u32 = 13;
const BUCKETS: u32 = 14;
const QUANTILE: u32 = 15;
const PACKED_FIXED64: u32 = 16;
const PACKED_VARINT: u32 = 17;

/** The messages that are open around the current one: the end and the kind of each. */
const open = new Bytes(1024);

/** Fails where the message of a kind at [start, end) is malformed. */
export function check(start: u32, end: u32, kind: u32): void {
  open.clear();
  let p = start;
  let stop = end;
  let inside = kind;
  for (;;) {
    while (p < stop) {
      const tag = readTag(p, stop);
      p = POS;
      const inner = kindWithin(inside, tag);
      if (inner === 0) {
        p = skip(p, stop, tag);
        continue;
      }
      const n = length(p, stop);
      p = POS;
      if (inner >= PACKED_FIXED64) {
        checkPacked(p, p + n, inner);
        p += n;
        continue;
      }
      open.put32(stop);
      open.put32(inside);
      stop = p + n;
      inside = inner;
    }
    if (open.size() === 0) return;
    open.cut(open.size() - 8);
    stop = load32(open.at);
    inside = load32(open.at + 4);
  }
}

function checkPacked(p: u32, end: u32, kind: u32): void {
  if (kind === PACKED_FIXED64) {
    if (((end - p) & 7) !== 0) malformed(PACKED_UNEVEN, p);
    return;
  }
  while (p < end) {
    varintWithin(p, end);
    p = POS;
  }
}

/** What the field with a tag holds in a message of a kind. */
function kindWithin(kind: u32, tag: u32): u32 {
  switch (kind) {
    case ANY_VALUE:
      if (tag === 42) return ARRAY_VALUE;
      return tag === 50 ? KEY_VALUE_LIST : 0;
    case ARRAY_VALUE:
      return tag === 10 ? ANY_VALUE : 0;
    case KEY_VALUE_LIST:
      return tag === 10 ? KEY_VALUE : 0;
    case KEY_VALUE:
      return tag === 18 ? ANY_VALUE : 0;
    case NUMBER_DATA:
    case HISTOGRAM_DATA:
    case EXPONENTIAL_DATA:
    case SUMMARY_DATA:
      return tag === 10 ? kind - NUMBER_DATA + NUMBER_POINT : 0;
    case NUMBER_POINT:
      if (tag === 42) return EXEMPLAR;
      return tag === 58 ? KEY_VALUE : 0;
    case HISTOGRAM_POINT:
      if (tag === 50 || tag === 58) return PACKED_FIXED64;
      if (tag === 66) return EXEMPLAR;
      return tag === 74 ? KEY_VALUE : 0;
    case EXPONENTIAL_POINT:
      if (tag === 66 || tag === 74) return BUCKETS;
      if (tag === 90) return EXEMPLAR;
      return tag === 10 ? KEY_VALUE : 0;
    case SUMMARY_POINT:
      if (tag === 50) return QUANTILE;
      return tag === 58 ? KEY_VALUE : 0;
    case EXEMPLAR:
      return tag === 58 ? KEY_VALUE : 0;
    case BUCKETS:
      return tag === 18 ? PACKED_VARINT : 0;
    default:
      return 0;
  }
}
