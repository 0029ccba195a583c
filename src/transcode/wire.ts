/**
 * The wire form of protobuf, read from memory by address. Readers return what was read and leave in POS where
 * they ended. Reading a few bytes beyond an end is harmless (memory.ts: slack) and noticed afterwards: every
 * position is compared with the end of its message before anything depends on it. Source: protobuf's encoding
 * page; a field with another wire type than its own counts as an unknown one.
 */
import type { Bytes } from './bytes.ts';
import {
  CUT_SHORT, FIELD_NUMBER_INVALID, GROUPS_TOO_DEEP, GROUP_UNMATCHED, LENGTH_TOO_LARGE, PACKED_UNEVEN,
  TOO_MANY_PIECES, VARINT_TOO_LONG, WIRE_TYPE_UNKNOWN,
} from './codes.ts';
import { alloc, copy, fail, load32, load8, release, store32, zero } from './memory.ts';

const VARINT_BYTES_MAX: u32 = 10;
const LENGTH_MAX: u32 = 0x7fffffff;
/** Unknown groups within unknown groups: the depth that protobuf's own readers allow. */
const GROUP_DEPTH_MAX: u32 = 100;

/** Where the last reader ended. */
export let POS: u32 = 0;
/** The upper half of the last varint; `varint` returns the lower one. */
export let HIGH: u32 = 0;

// The request, for offsets in errors, and the item of it that is being read, for those in merged copies.
let requestStart: u32 = 0;
let requestEnd: u32 = 0;
let itemStart: u32 = 0;

/** Begins the reading of a request at `start`; the bytes behind its end must belong to the same region. */
export function beginRequest(start: u32, end: u32): void {
  requestStart = start;
  requestEnd = end;
  itemStart = start;
  zero(end, 16);
  copiedBytes = 0;
}

/** Notes the item that is read from now on, unless it lies in a merged copy. */
export function beginItem(p: u32): void {
  if (p >= requestStart && p <= requestEnd) itemStart = p;
}

/** Ends the reading with an exception; never returns, whatever the type says. */
export function malformed(code: u32, p: u32): u32 {
  const place = p >= requestStart && p <= requestEnd ? p : itemStart;
  return fail(code, place - requestStart);
}

/** A varint of up to 10 bytes, overlong ones too: the lower half; the upper one is in HIGH. */
// @inline
export function varint(p: u32): u32 {
  const first: u32 = load8(p);
  if (first > 127) return longVarint(p);
  HIGH = 0;
  POS = p + 1;
  return first;
}

function longVarint(p: u32): u32 {
  const second: u32 = load8(p + 1);
  if (second < 128) {
    HIGH = 0;
    POS = p + 2;
    return (load8(p) & 127) | (second << 7);
  }
  let low: u32 = 0;
  let high: u32 = 0;
  let shift: u32 = 0;
  for (let i: u32 = 0; i < VARINT_BYTES_MAX; i++) {
    const byte: u32 = load8(p + i);
    const bits = byte & 127;
    if (shift < 28) low = low | (bits << shift);
    else if (shift === 28) {
      low = (low | (bits << 28)) >>> 0;
      high = bits >>> 4;
    } else high = (high | (bits << (shift - 32))) >>> 0;
    if (byte < 128) {
      HIGH = high;
      POS = p + i + 1;
      return low;
    }
    shift += 7;
  }
  return malformed(VARINT_TOO_LONG, p);
}

/** The length of a length-delimited field, proved to fit; POS is where its content begins. */
// @inline
export function length(p: u32, end: u32): u32 {
  const n: u32 = load8(p);
  if (n > 127 || p + 1 + n > end) return longLength(p, end);
  POS = p + 1;
  return n;
}

function longLength(p: u32, end: u32): u32 {
  const n = varint(p);
  if (HIGH !== 0 || n > LENGTH_MAX) return malformed(LENGTH_TOO_LARGE, p);
  if (POS + n > end) return malformed(CUT_SHORT, p);
  return n;
}

/** The address of a fixed64 or double, proved to fit; POS is where it ends. */
// @inline
export function fixed64(p: u32, end: u32): u32 {
  POS = p + 8;
  if (p + 8 > end) return malformed(CUT_SHORT, p);
  return p;
}

export function fixed32(p: u32, end: u32): u32 {
  POS = p + 4;
  if (p + 4 > end) return malformed(CUT_SHORT, p);
  return load32(p);
}

/** The lower half of a varint within a message. */
export function varintWithin(p: u32, end: u32): u32 {
  const value = varint(p);
  if (POS > end) return malformed(CUT_SHORT, p);
  return value;
}

/** The tag (field number and wire type) at `p`, which must be before `end`. */
// @inline
export function readTag(p: u32, end: u32): u32 {
  const tag: u32 = load8(p);
  if (tag > 127 || tag < 8) return longTag(p, end);
  POS = p + 1;
  return tag;
}

function longTag(p: u32, end: u32): u32 {
  const tag = varint(p);
  if (POS > end) return malformed(CUT_SHORT, p);
  if (HIGH !== 0 || tag < 8) return malformed(FIELD_NUMBER_INVALID, p);
  return tag;
}

/** The end of an unknown field whose tag ended at `p`. */
export function skip(p: u32, end: u32, tag: u32): u32 {
  return skipWithin(p, end, tag, 0);
}

function skipWithin(p: u32, end: u32, tag: u32, depth: u32): u32 {
  if (tag < 8) return malformed(FIELD_NUMBER_INVALID, p);
  switch (tag & 7) {
    case 0:
      varintWithin(p, end);
      return POS;
    case 1:
      fixed64(p, end);
      return POS;
    case 2: {
      const n = length(p, end);
      return POS + n;
    }
    case 3:
      return skipGroup(p, end, tag, depth + 1);
    case 4:
      return malformed(GROUP_UNMATCHED, p);
    case 5:
      fixed32(p, end);
      return POS;
    default:
      return malformed(WIRE_TYPE_UNKNOWN, p);
  }
}

function skipGroup(p: u32, end: u32, groupTag: u32, depth: u32): u32 {
  if (depth > GROUP_DEPTH_MAX) return malformed(GROUPS_TOO_DEEP, p);
  while (p < end) {
    const tag = readTag(p, end);
    p = POS;
    // The end of a group is its own tag with wire type 4 in the place of 3.
    if (tag === groupTag + 1) return p;
    p = skipWithin(p, end, tag, depth);
  }
  return malformed(CUT_SHORT, p);
}

/** A chunk of packed numbers with 8 bytes each, or one of them unpacked; POS is where the field ends. */
export function putFixed64s(p: u32, end: u32, packed: boolean, to: Bytes): void {
  if (!packed) {
    to.put64(fixed64(p, end));
    return;
  }
  const n = length(p, end);
  if ((n & 7) !== 0) malformed(PACKED_UNEVEN, p);
  to.putRaw(POS, n);
  POS = POS + n;
}

// Regions of merged copies, linked by their first word; the second is the size.
let copies: u32 = 0;
let copiedBytes: u32 = 0;
const COPY_HEAD: u32 = 8;

/**
 * A submessage that is sent in pieces means the merge of them, and that is what the concatenation of the
 * pieces says (protobuf: "Last One Wins", embedded messages). Concatenates every field `tag` of the message
 * at [start, end). Rare: no exporter sends them. Bounded: copies of one request together stay below four
 * times its size. Returns the address, POS is where the copy ends; it lives until `releaseCopies`.
 */
export function gather(start: u32, end: u32, tag: u32): u32 {
  const size = COPY_HEAD + (end - start) + 16;
  copiedBytes += size;
  if (copiedBytes > 4 * (requestEnd - requestStart) + 4096) return malformed(TOO_MANY_PIECES, start);
  const region = alloc(size);
  store32(region, copies);
  store32(region + 4, size);
  copies = region;
  const first = region + COPY_HEAD;
  let to = first;
  let p = start;
  while (p < end) {
    const found = readTag(p, end);
    p = POS;
    if (found === tag) {
      const n = length(p, end);
      p = POS;
      skipAll(p, p + n);
      copy(to, p, n);
      to += n;
      p += n;
    } else {
      p = skip(p, end, found);
    }
  }
  zero(to, 16);
  POS = to;
  return first;
}

/** Proves that fields fill a message: a piece must not end within a field that the next one continues. */
function skipAll(p: u32, end: u32): void {
  while (p < end) {
    const tag = readTag(p, end);
    p = skip(POS, end, tag);
  }
}

/** The newest merged copy, 0 for none. */
export function newestCopy(): u32 {
  return copies;
}

/** Frees every merged copy that was made after `newest`; 0 for all of the request. */
export function releaseCopies(newest: u32): void {
  while (copies !== newest) {
    const region = copies;
    copies = load32(region);
    copiedBytes -= load32(region + 4);
    release(region, load32(region + 4));
  }
}

/** The content of the last field `tag` (with a length) of a message if it has `n` bytes, 0 otherwise. */
export function findLast(start: u32, end: u32, tag: u32, n: u32): u32 {
  let at: u32 = 0;
  let p = start;
  while (p < end) {
    const found = readTag(p, end);
    p = POS;
    if (found === tag) {
      const size = length(p, end);
      at = size === n ? POS : 0;
      p = POS + size;
    } else {
      p = skip(p, end, found);
    }
  }
  return at;
}
