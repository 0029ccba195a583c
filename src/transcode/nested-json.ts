/**
 * Arrays and key-value lists as JSON text, in the form of the exporter (Go's encoding/json without its HTML
 * escapes): no spaces, keys sorted byte by byte, of equal keys the last one, int64 with all digits, bytes as
 * base64, an empty value as null. JSON has no NaN and no infinities: they become strings. Strings that are no
 * UTF-8 stay as they are.
 */
import {
  ARRAY, BOOL, BYTES, DOUBLE, INT, LIST, MEMBER, MEMBER_AT, MEMBER_END, STRING, checkNested, isTrue,
  readMember,
} from './any-value.ts';
import { boundNesting } from './bounds.ts';
import { Bytes } from './bytes.ts';
import { ANY_VALUE, check } from './check.ts';
import { NESTING_TOO_DEEP, TEXT_BASE64, TEXT_FALSE, TEXT_HEX, TEXT_NULL, TEXT_TRUE } from './codes.ts';
import { KEY, KEY_LENGTH, VALUE, VALUE_END, readKeyValue } from './key-value.ts';
import { decimalDouble, decimalInt64, load32, load8, loadDouble, store8 } from './memory.ts';
import { PAIR_SIZE, compareKeys, putPair, sortPairs } from './sort.ts';
import { reject } from './tally.ts';
import { textAt, textLength } from './texts.ts';
import { HIGH, POS, length, readTag, skip, varint } from './wire.ts';

const COMMA: u32 = 44;
const QUOTE: u32 = 34;
const BACKSLASH: u32 = 92;

/** The tag of the repeated field in an ArrayValue and in a KeyValueList. */
const ITEM: u32 = 10;

let nestingMax: u32 = 64;

/** The pairs of the lists that are being written, the innermost last. */
const pairs = new Bytes(1024);

/** Begins a request: what was left of a malformed one before it is forgotten. */
export function beginTexts(levels: u32): void {
  nestingMax = levels;
  pairs.clear();
}

/**
 * Appends the JSON text of the array or list whose items are at [p, end); `depth` is its own level, from 1.
 */
export function writeNested(member: u32, p: u32, end: u32, depth: u32, out: Bytes): void {
  if (depth > nestingMax) {
    reject(NESTING_TOO_DEEP);
    boundNesting();
    checkNested(member, p, end);
    return;
  }
  if (member === ARRAY) writeArray(p, end, depth, out);
  else writeList(p, end, depth, out);
}

function writeArray(start: u32, end: u32, depth: u32, out: Bytes): void {
  out.put8(91);
  let p = start;
  let first = true;
  while (p < end) {
    const tag = readTag(p, end);
    p = POS;
    if (tag !== ITEM) {
      p = skip(p, end, tag);
      continue;
    }
    const n = length(p, end);
    const item = POS;
    p = item + n;
    if (!first) out.put8(COMMA);
    first = false;
    writeValue(item, p, depth, out);
  }
  out.put8(93);
}

function writeList(start: u32, end: u32, depth: u32, out: Bytes): void {
  const from = pairs.size();
  let p = start;
  while (p < end) {
    const tag = readTag(p, end);
    p = POS;
    if (tag !== ITEM) {
      p = skip(p, end, tag);
      continue;
    }
    const n = length(p, end);
    const item = POS;
    p = item + n;
    readKeyValue(item, p);
    putPair(pairs, KEY, KEY_LENGTH, VALUE, VALUE_END);
  }
  sortPairs(pairs, from);
  const to = pairs.size();
  out.put8(123);
  let first = true;
  for (let i = from; i < to; i += PAIR_SIZE) {
    const pair = pairs.base + i;
    if (i + PAIR_SIZE < to && compareKeys(pair, pair + PAIR_SIZE) === 1) {
      check(load32(pair + 8), load32(pair + 12), ANY_VALUE);
      continue;
    }
    if (!first) out.put8(COMMA);
    first = false;
    writeString(load32(pair), load32(pair + 4), out);
    out.put8(58);
    writeValue(load32(pair + 8), load32(pair + 12), depth, out);
  }
  out.put8(125);
  pairs.cut(from);
}

function writeValue(p: u32, end: u32, depth: u32, out: Bytes): void {
  readMember(p, end);
  const at = MEMBER_AT;
  const to = MEMBER_END;
  switch (MEMBER) {
    case STRING:
      writeString(at, to - at, out);
      break;
    case BOOL:
      writeWord(isTrue(at) ? TEXT_TRUE : TEXT_FALSE, out);
      break;
    case INT: {
      const low = varint(at);
      out.need(24);
      out.at += decimalInt64(out.at, low, HIGH);
      break;
    }
    case DOUBLE:
      writeDouble(at, out);
      break;
    case BYTES:
      out.put8(QUOTE);
      writeBase64(at, to - at, out);
      out.put8(QUOTE);
      break;
    case ARRAY:
    case LIST:
      writeNested(MEMBER, at, to, depth + 1, out);
      break;
    default:
      writeWord(TEXT_NULL, out);
  }
}

function writeWord(slot: u32, out: Bytes): void {
  out.putRaw(textAt(slot), textLength(slot));
}

function writeDouble(p: u32, out: Bytes): void {
  const value = loadDouble(p);
  const finite = value - value === 0.0;
  if (!finite) out.put8(QUOTE);
  out.need(32);
  out.at += decimalDouble(out.at, p);
  if (!finite) out.put8(QUOTE);
}

function writeString(p: u32, n: u32, out: Bytes): void {
  out.put8(QUOTE);
  const end = p + n;
  let plain = p;
  while (p < end) {
    const byte: u32 = load8(p);
    if (!isSpecial(byte) && !(byte === 0xe2 && isLineSeparator(p, end))) {
      p++;
      continue;
    }
    out.putRaw(plain, p - plain);
    p += writeEscape(p, byte, out);
    plain = p;
  }
  out.putRaw(plain, end - plain);
  out.put8(QUOTE);
}

function isSpecial(byte: u32): boolean {
  return byte < 32 || byte === QUOTE || byte === BACKSLASH;
}

/** U+2028 or U+2029, which end a line in JavaScript: e2 80 a8, e2 80 a9. */
function isLineSeparator(p: u32, end: u32): boolean {
  return p + 2 < end && load8(p + 1) === 0x80 && (load8(p + 2) & 0xfe) === 0xa8;
}

/** Appends the escape of the character at `p`; how many bytes the character has. */
function writeEscape(p: u32, byte: u32, out: Bytes): u32 {
  out.put8(BACKSLASH);
  if (byte === 0xe2) {
    writeCode(0x20, load8(p + 2) & 0x7f, out);
    return 3;
  }
  switch (byte) {
    case 8:
      out.put8(98);
      break;
    case 9:
      out.put8(116);
      break;
    case 10:
      out.put8(110);
      break;
    case 12:
      out.put8(102);
      break;
    case 13:
      out.put8(114);
      break;
    case QUOTE:
    case BACKSLASH:
      out.put8(byte);
      break;
    default:
      writeCode(0, byte, out);
  }
  return 1;
}

function writeCode(upper: u32, lower: u32, out: Bytes): void {
  const hex = textAt(TEXT_HEX);
  out.put8(117);
  out.put8(load8(hex + (upper >>> 4)));
  out.put8(load8(hex + (upper & 15)));
  out.put8(load8(hex + (lower >>> 4)));
  out.put8(load8(hex + (lower & 15)));
}

export function writeBase64(p: u32, n: u32, out: Bytes): void {
  out.need((n >>> 1) * 3 + 8);
  const digit = textAt(TEXT_BASE64);
  const end = p + n;
  let at = out.at;
  while (p < end) {
    const left = end - p;
    const a: u32 = load8(p);
    const b: u32 = left > 1 ? load8(p + 1) : 0;
    const c: u32 = left > 2 ? load8(p + 2) : 0;
    store8(at, load8(digit + (a >>> 2)));
    store8(at + 1, load8(digit + (((a & 3) << 4) | (b >>> 4))));
    store8(at + 2, left > 1 ? load8(digit + (((b & 15) << 2) | (c >>> 6))) : 61);
    store8(at + 3, left > 2 ? load8(digit + (c & 63)) : 61);
    at += 4;
    p += 3;
  }
  out.at = at;
}
