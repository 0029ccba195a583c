/** KeyValues and AnyValues in their usual form: where key and value are, and which member is set. */
import { ARRAY, BOOL, BYTES, DOUBLE, INT, KEY, LIST, STRING, VALUE } from './shapes.ts';
import { HIGH, POS, UNUSUAL, malformed, readLength, readTag, skip, varint } from './wire.ts';

/** What `readPair` found; a missing key or value is empty. */
export let KEY_AT = 0;
export let KEY_END = 0;
export let VALUE_AT = 0;
export let VALUE_END = 0;

/** @throws UNUSUAL when the value is in pieces. */
export function readPair(bytes: Uint8Array, start: number, end: number): void {
  KEY_AT = start;
  KEY_END = start;
  VALUE_AT = end;
  VALUE_END = end;
  let hasValue = false;
  let p = start;
  while (p < end) {
    const tag = readTag(bytes, p, end);
    p = POS;
    if (tag !== KEY && tag !== VALUE) {
      p = skip(bytes, p, end, tag);
      continue;
    }
    const n = readLength(bytes, p, end);
    p = POS + n;
    if (tag === KEY) {
      KEY_AT = POS;
      KEY_END = p;
    } else {
      if (hasValue) throw UNUSUAL;
      hasValue = true;
      VALUE_AT = POS;
      VALUE_END = p;
    }
  }
}

/** The tag of the member that `readAny` found, 0 for an empty value; where its content is. */
export let MEMBER = 0;
export let MEMBER_AT = 0;
export let MEMBER_END = 0;

/** @throws UNUSUAL when members stand there that don't count, or one is in pieces. */
export function readAny(bytes: Uint8Array, start: number, end: number): void {
  MEMBER = 0;
  MEMBER_AT = start;
  MEMBER_END = start;
  let p = start;
  while (p < end) {
    const tag = readTag(bytes, p, end);
    p = POS;
    let next = 0;
    let at = p;
    switch (tag) {
      case STRING:
      case ARRAY:
      case LIST:
      case BYTES:
        next = readLength(bytes, p, end);
        at = POS;
        next += at;
        break;
      case BOOL:
      case INT:
      case DOUBLE:
        next = skip(bytes, p, end, tag);
        break;
      default:
        p = skip(bytes, p, end, tag);
        continue;
    }
    if (MEMBER !== 0) throw UNUSUAL;
    MEMBER = tag;
    MEMBER_AT = at;
    MEMBER_END = next;
    p = next;
  }
}

/** The number of the INT, DOUBLE or BOOL that `readAny` found; integers beyond 2^53 are rounded. */
export function numberOf(bytes: Uint8Array, member: number, at: number, end: number): number {
  if (member === DOUBLE) {
    if (at + 8 > end) malformed();
    return new DataView(bytes.buffer, bytes.byteOffset + at, 8).getFloat64(0, true);
  }
  const low = varint(bytes, at, end);
  return (HIGH | 0) * 2 ** 32 + low;
}

/** Where the text begins that is all of the AnyValue at [start, end); 0 for none, or for 16 KiB and more. */
export function textStart(bytes: Uint8Array, start: number, end: number): number {
  if (bytes[start] !== STRING) return 0;
  const first = bytes[start + 1] as number;
  if (first < 128) return start + 2 + first === end ? start + 2 : 0;
  const second = bytes[start + 2] as number;
  return second < 128 && start + 3 + ((second << 7) | (first & 127)) === end ? start + 3 : 0;
}

/** Whether a number of the member fills [start, end). */
export function isNumber(bytes: Uint8Array, member: number, start: number, end: number): boolean {
  if (member === DOUBLE) return end - start === 8;
  if ((member !== INT && member !== BOOL) || end <= start || end - start > 10) return false;
  let p = start;
  while (p < end - 1 && (bytes[p] as number) > 127) p++;
  return p === end - 1 && (bytes[p] as number) < 128;
}
