/**
 * The wire form of protobuf, read from a Uint8Array by position. Readers return what was read and leave in
 * POS where they ended; none reads beyond `end` or without bound. Apart from the transcoder's on purpose:
 * that one reads the engine's memory. Source: protobuf's encoding page; a field with another wire type than
 * its own counts as an unknown one.
 */

const VARINT_BYTES_MAX = 10;
/** Unknown groups within unknown groups: what the transcoder allows. */
const GROUP_DEPTH_MAX = 100;
const LENGTH_MAX = 0x7fffffff;

/** Thrown where bytes are no message; what it says is of no use, the transcoder tells clients. */
export const MALFORMED = new Error('malformed');
/** Thrown where a message is valid but not in its usual form (normalise.ts). */
export const UNUSUAL = new Error('unusual');

/** Where the last reader ended. */
export let POS = 0;
/** The upper half of the last varint that `varint` read; it returns the lower one. */
export let HIGH = 0;

export function malformed(): never {
  throw MALFORMED;
}

/** A varint of up to 10 bytes, overlong ones too: the lower half, unsigned. */
export function varint(bytes: Uint8Array, start: number, end: number): number {
  let low = 0;
  let high = 0;
  let shift = 0;
  const stop = Math.min(end, start + VARINT_BYTES_MAX);
  for (let p = start; p < stop; p++) {
    const byte = bytes[p] as number;
    const bits = byte & 127;
    if (shift < 28) low |= bits << shift;
    else if (shift === 28) {
      low |= bits << 28;
      high = bits >>> 4;
    } else high |= bits << (shift - 32);
    if (byte < 128) {
      HIGH = high >>> 0;
      POS = p + 1;
      return low >>> 0;
    }
    shift += 7;
  }
  return malformed();
}

/** Field number and wire type. */
export function readTag(bytes: Uint8Array, p: number, end: number): number {
  const first = bytes[p] as number;
  if (first < 128 && first > 7 && p < end) {
    POS = p + 1;
    return first;
  }
  const second = bytes[p + 1] as number;
  if (first > 127 && second < 128 && second > 0 && p + 1 < end) {
    POS = p + 2;
    return (second << 7) | (first & 127);
  }
  const tag = varint(bytes, p, end);
  if (HIGH !== 0 || tag < 8) malformed();
  return tag;
}

/** The length of a length-delimited field, proved to fit; POS is where its content begins. */
export function readLength(bytes: Uint8Array, p: number, end: number): number {
  const first = bytes[p] as number;
  if (first < 128 && p + 1 + first <= end) {
    POS = p + 1;
    return first;
  }
  const second = bytes[p + 1] as number;
  const both = (second << 7) | (first & 127);
  if (first > 127 && second < 128 && p + 2 + both <= end) {
    POS = p + 2;
    return both;
  }
  const n = varint(bytes, p, end);
  if (HIGH !== 0 || n > LENGTH_MAX || POS + n > end) malformed();
  return n;
}

/** The end of the content of a field whose tag ended at `p`. */
export function skip(bytes: Uint8Array, p: number, end: number, tag: number): number {
  const wire = tag & 7;
  // The usual ones; what else there is, and what is broken, below.
  if (wire === 1 && p + 8 <= end) return p + 8;
  if (wire === 0 && (bytes[p] as number) < 128 && p < end) return p + 1;
  if (wire === 5 && p + 4 <= end) return p + 4;
  return skipWithin(bytes, p, end, tag, 0);
}

function skipWithin(bytes: Uint8Array, p: number, end: number, tag: number, depth: number): number {
  let next = p;
  switch (tag & 7) {
    case 0:
      varint(bytes, p, end);
      return POS;
    case 1:
      next = p + 8;
      break;
    case 2:
      next = readLength(bytes, p, end);
      return POS + next;
    case 3:
      return skipGroup(bytes, p, end, tag, depth + 1);
    case 5:
      next = p + 4;
      break;
    default:
      malformed();
  }
  if (next > end) malformed();
  return next;
}

function skipGroup(bytes: Uint8Array, start: number, end: number, groupTag: number, depth: number): number {
  if (depth > GROUP_DEPTH_MAX) malformed();
  let p = start;
  while (p < end) {
    const tag = readTag(bytes, p, end);
    // The end of a group is its own tag with wire type 4 in the place of 3.
    if (tag === groupTag + 1) return POS;
    p = skipWithin(bytes, POS, end, tag, depth);
  }
  return malformed();
}

/**
 * Gives the fields with a length at [start, end) one after another: tag, where the field begins, and where
 * its content is.
 */
export function eachField(
  bytes: Uint8Array,
  start: number,
  end: number,
  each: (tag: number, field: number, at: number, to: number) => void,
): void {
  let p = start;
  while (p < end) {
    const field = p;
    const tag = readTag(bytes, p, end);
    p = POS;
    if ((tag & 7) !== 2) {
      p = skip(bytes, p, end, tag);
      continue;
    }
    const n = readLength(bytes, p, end);
    const at = POS;
    p = at + n;
    each(tag, field, at, p);
  }
}

/** A little-endian number of 32 bits. */
export function load32(bytes: Uint8Array, p: number): number {
  const upper = ((bytes[p + 2] as number) << 16) | ((bytes[p + 3] as number) << 24);
  return ((bytes[p] as number) | ((bytes[p + 1] as number) << 8) | upper) >>> 0;
}

export function loadBigInt(bytes: Uint8Array, p: number): bigint {
  return (BigInt(load32(bytes, p + 4)) << 32n) | BigInt(load32(bytes, p));
}

export function sameBytes(bytes: Uint8Array, p: number, wanted: Uint8Array): boolean {
  for (let i = 0; i < wanted.length; i++) if (bytes[p + i] !== wanted[i]) return false;
  return true;
}
