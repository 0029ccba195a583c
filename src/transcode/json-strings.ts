/**
 * JSON strings as they are stored in protobuf: text, ids in hexadecimal, base64.
 *
 * Text is scanned and copied four bytes at a time. Bytes that aren't UTF-8 are stored as they were sent; what
 * can't be told in UTF-8 (half a surrogate pair, written as an escape) becomes U+FFFD.
 */
import { BACKSLASH, type JsonCursor, QUOTE } from './json-cursor.ts';
import type { ProtobufWriter } from './json-writer.ts';

const ONES = 0x01010101;
const HIGHS = 0x80808080 | 0;
const QUOTES = 0x22222222;
const BACKSLASHES = 0x5c5c5c5c;
const SPACES = 0x20202020;
const LOWER_U = 0x75;
const REPLACEMENT = 0xfffd;

/** What stands behind a backslash → what it means; 0 is no escape. */
const ESCAPES = new Uint8Array(256);
for (const [letter, meaning] of ['""', '\\\\', '//', 'b\b', 'f\f', 'n\n', 'r\r', 't\t']) {
  ESCAPES[letter?.charCodeAt(0) ?? 0] = meaning?.charCodeAt(0) ?? 0;
}

/** Hexadecimal digit → its value; -1 is none. */
const HEX = new Int8Array(256).fill(-1);
for (let value = 0; value < 16; value++) {
  HEX[value.toString(16).charCodeAt(0)] = value;
  HEX[value.toString(16).toUpperCase().charCodeAt(0)] = value;
}

/** Letter of the standard or the URL-safe alphabet of RFC 4648 → its value; -1 is none. */
const BASE64 = new Int8Array(256).fill(-1);
for (const alphabet of ['+/', '-_']) {
  const letters = `ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789${alphabet}`;
  for (let value = 0; value < 64; value++) BASE64[letters.charCodeAt(value)] = value;
}
const PAD = 0x3d;

/** Writes the string that begins at the cursor's quote, with its length before it. */
export function copyString(cursor: JsonCursor, writer: ProtobufWriter): void {
  const start = writer.open(1);
  copyText(cursor, writer);
  writer.close(start, 1);
}

/** Writes the text of the string that begins at the cursor's quote, unescaped, and steps behind it. */
export function copyText(cursor: JsonCursor, writer: ProtobufWriter): void {
  const source = cursor.view;
  const target = writer.view;
  let from = cursor.at + 1;
  let to = writer.at;
  for (;;) {
    const word = source.getInt32(from, true);
    const quote = word ^ QUOTES;
    const backslash = word ^ BACKSLASHES;
    // Each term has the high bit of the first byte that is a quote, a backslash or a control character.
    const stop =
      (((quote - ONES) & ~quote) | ((backslash - ONES) & ~backslash) | ((word - SPACES) & ~word)) & HIGHS;
    target.setInt32(to, word, true);
    if (stop === 0) {
      from += 4;
      to += 4;
      continue;
    }
    const plain = (31 - Math.clz32(stop & -stop)) >> 3;
    from += plain;
    to += plain;
    const byte = cursor.bytes[from];
    cursor.at = from;
    writer.at = to;
    if (byte === QUOTE) {
      cursor.at++;
      return;
    }
    if (byte !== BACKSLASH) cursor.unexpected('the closing quote of a string');
    copyEscape(cursor, writer);
    from = cursor.at;
    to = writer.at;
  }
}

function copyEscape(cursor: JsonCursor, writer: ProtobufWriter): void {
  const letter = cursor.bytes[cursor.at + 1] as number;
  if (letter === LOWER_U) {
    writeUtf8(writer, readCodePoint(cursor));
    return;
  }
  const meaning = ESCAPES[letter] as number;
  cursor.at++;
  if (meaning === 0) cursor.unexpected('an escape');
  cursor.at++;
  writer.bytes[writer.at++] = meaning;
}

/** The code point of one `\uXXXX`, or of two that are a surrogate pair. */
function readCodePoint(cursor: JsonCursor): number {
  const unit = readUnit(cursor);
  if (unit < 0xd800 || unit > 0xdfff) return unit;
  const { bytes, at } = cursor;
  if (unit > 0xdbff || bytes[at] !== BACKSLASH || bytes[at + 1] !== LOWER_U) return REPLACEMENT;
  const second = readUnit(cursor);
  if (second >= 0xdc00 && second <= 0xdfff) return 0x10000 + ((unit - 0xd800) << 10) + (second - 0xdc00);
  // The first is alone; the second begins anew and may be a pair with what follows.
  cursor.at = at;
  return REPLACEMENT;
}

function readUnit(cursor: JsonCursor): number {
  cursor.at += 2;
  let unit = 0;
  for (let digit = 0; digit < 4; digit++, cursor.at++) {
    const value = HEX[cursor.bytes[cursor.at] as number] as number;
    if (value < 0) cursor.unexpected('four hexadecimal digits');
    unit = (unit << 4) | value;
  }
  return unit;
}

function writeUtf8(writer: ProtobufWriter, codePoint: number): void {
  const { bytes } = writer;
  if (codePoint < 0x80) {
    bytes[writer.at++] = codePoint;
    return;
  }
  if (codePoint < 0x800) {
    bytes[writer.at++] = 0xc0 | (codePoint >> 6);
  } else {
    if (codePoint < 0x10000) {
      bytes[writer.at++] = 0xe0 | (codePoint >> 12);
    } else {
      bytes[writer.at++] = 0xf0 | (codePoint >> 18);
      bytes[writer.at++] = 0x80 | ((codePoint >> 12) & 0x3f);
    }
    bytes[writer.at++] = 0x80 | ((codePoint >> 6) & 0x3f);
  }
  bytes[writer.at++] = 0x80 | (codePoint & 0x3f);
}

/**
 * The text of the string that begins at the cursor's quote. For what is rare: it makes a JavaScript string.
 */
export function readText(cursor: JsonCursor, writer: ProtobufWriter): string {
  const start = writer.at;
  copyText(cursor, writer);
  const text = new TextDecoder().decode(writer.bytes.subarray(start, writer.at));
  writer.at = start;
  return text;
}

/** Steps over a string, checking it. Its text is written where the next value overwrites it. */
export function skipString(cursor: JsonCursor, writer: ProtobufWriter): void {
  const start = writer.at;
  copyText(cursor, writer);
  writer.at = start;
}

/**
 * Writes the bytes of an id that is given in hexadecimal digits of either case, with their length before
 * them.
 */
export function copyHex(cursor: JsonCursor, writer: ProtobufWriter, name: string): void {
  const textAt = cursor.at;
  const start = writer.open(1);
  const { bytes } = cursor;
  let from = textAt + 1;
  for (;;) {
    const pair = ((HEX[bytes[from] as number] as number) << 4) | (HEX[bytes[from + 1] as number] as number);
    if (pair < 0) break;
    writer.bytes[writer.at++] = pair;
    from += 2;
  }
  if (bytes[from] === QUOTE) {
    cursor.at = from + 1;
  } else {
    writer.at = start + 1;
    copyEscapedHex(cursor, writer, name, textAt);
  }
  writer.close(start, 1);
}

/** The same for a string that isn't just pairs of digits: it may still be some, written as escapes. */
function copyEscapedHex(cursor: JsonCursor, writer: ProtobufWriter, name: string, textAt: number): void {
  const textStart = writer.at;
  copyText(cursor, writer);
  const { bytes, at: textEnd } = writer;
  writer.at = textStart;
  for (let from = textStart; from < textEnd; from += 2) {
    const pair = ((HEX[bytes[from] as number] as number) << 4) | (HEX[bytes[from + 1] as number] as number);
    const isPair = pair >= 0 && from + 1 < textEnd;
    if (!isPair) cursor.refuse(`${name} must be pairs of hexadecimal digits`, textAt);
    bytes[writer.at++] = pair;
  }
}

/** Writes the bytes of a base64 string, with their length before them: either alphabet, padded or not. */
export function copyBase64(cursor: JsonCursor, writer: ProtobufWriter, name: string): void {
  const textAt = cursor.at;
  const start = writer.open(1);
  const textStart = writer.at;
  copyText(cursor, writer);
  const { bytes } = writer;
  let textEnd = writer.at;
  while (textEnd > textStart && writer.at - textEnd < 2 && bytes[textEnd - 1] === PAD) textEnd--;
  const isPadded = textEnd !== writer.at;
  const isWhole = isPadded ? (writer.at - textStart) % 4 === 0 : (textEnd - textStart) % 4 !== 1;
  if (!isWhole) cursor.refuse(`${name} must be base64`, textAt);
  writer.at = textStart;
  let bits = 0;
  let bitCount = 0;
  for (let from = textStart; from < textEnd; from++) {
    const value = BASE64[bytes[from] as number] as number;
    if (value < 0) cursor.refuse(`${name} must be base64`, textAt);
    bits = ((bits << 6) | value) & 0xffff;
    bitCount += 6;
    if (bitCount >= 8) {
      bitCount -= 8;
      bytes[writer.at++] = bits >> bitCount;
    }
  }
  writer.close(start, 1);
}
