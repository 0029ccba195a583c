/**
 * JSON numbers, and strings that hold one, as integers of 64 bits and as doubles.
 *
 * Usual numbers are read from the bytes digit by digit, with all 64 bits; whatever else the grammar allows
 * (fractions, exponents, many digits, escapes inside the string) goes through text. Proto3's JSON mapping
 * lets integers be written as numbers or strings, also with a fraction or exponent as long as the value is an
 * integer in range.
 */
import { isDigit, type JsonCursor, MINUS, QUOTE } from './json-cursor.ts';
import { readText } from './json-strings.ts';
import type { ProtobufWriter } from './json-writer.ts';

const ZERO = 0x30;
const POINT = 0x2e;
const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;
const NOT_FINITE: ReadonlySet<string> = new Set(['NaN', 'Infinity', '-Infinity']);
const POWERS_OF_TEN = Array.from({ length: 23 }, (_, exponent) => Number(`1e${exponent}`));
/** Decimals of so many digits are exact in a double. */
const EXACT_DIGITS_MAX = 15;
const UINT64_DIGITS_MAX = 20;
const LOWEST_WORD = 0x80000000 | 0;

/** The integer that was read last: its two's complement as words, and whether it was below 0. */
export class Integer {
  low = 0;
  high = 0;
  negative = false;
}

/** What integers of a kind may be, for the check and the message. */
export interface IntegerRange {
  readonly signed: boolean;
  readonly bits: 32 | 64;
}
export const UINT32: IntegerRange = { signed: false, bits: 32 };
export const INT32: IntegerRange = { signed: true, bits: 32 };
export const UINT64: IntegerRange = { signed: false, bits: 64 };
export const INT64: IntegerRange = { signed: true, bits: 64 };

/**
 * Reads the number or string at the cursor as an integer.
 * @throws Malformed where it isn't one, or out of range.
 */
export function readInteger(
  cursor: JsonCursor,
  writer: ProtobufWriter,
  name: string,
  range: IntegerRange,
  integer: Integer,
): void {
  const start = cursor.at;
  const quoted = cursor.bytes[start] === QUOTE;
  if (quoted) cursor.at++;
  const isPlain = readPlainInteger(cursor, integer) && (!quoted || cursor.bytes[cursor.at] === QUOTE);
  if (isPlain) {
    if (quoted) cursor.at++;
    if (!fits(integer, range)) refuseRange(cursor, name, range, start);
    if (integer.negative) negate(integer);
    return;
  }
  cursor.at = start;
  readUnusualInteger(cursor, writer, name, range, integer);
}

/** Reads digits behind an optional minus into the magnitude; false where more than that stands there. */
function readPlainInteger(cursor: JsonCursor, integer: Integer): boolean {
  const { bytes } = cursor;
  let at = cursor.at;
  integer.negative = bytes[at] === MINUS;
  if (integer.negative) at++;
  const first = at;
  while (isDigit(bytes[at] as number)) at++;
  const digits = at - first;
  const next = bytes[at] as number;
  cursor.at = at;
  if (digits === 0 || digits > UINT64_DIGITS_MAX || next === POINT || (next | 0x20) === 0x65) return false;
  if (bytes[first] === ZERO && digits > 1) return false;
  // The last 9 digits, and the 11 at most before them, are each exact in a double.
  const headEnd = digits <= 9 ? first : at - 9;
  let head = 0;
  for (let i = first; i < headEnd; i++) head = head * 10 + ((bytes[i] as number) - ZERO);
  let tail = 0;
  for (let i = headEnd; i < at; i++) tail = tail * 10 + ((bytes[i] as number) - ZERO);
  if (head !== 0) return setWords(integer, head, tail);
  integer.low = tail;
  integer.high = 0;
  return true;
}

/** head × 10^9 + tail as words, by way of 16 bits so that each step is exact; false above 64 bits. */
function setWords(integer: Integer, head: number, tail: number): boolean {
  const headHigh = Math.floor(head / 0x10000);
  const lower = (head - headHigh * 0x10000) * 1e9 + tail;
  const carry = Math.floor(lower / 0x10000);
  const upper = headHigh * 1e9 + carry;
  const high = Math.floor(upper / 0x10000);
  integer.low = ((upper - high * 0x10000) * 0x10000 + (lower - carry * 0x10000)) | 0;
  integer.high = high | 0;
  return high <= 0xffffffff;
}

/** Whether the magnitude in `integer`, whose words are read as signed, is in range with its sign. -0 is 0. */
function fits({ low, high, negative }: Integer, { signed, bits }: IntegerRange): boolean {
  if (!signed) return (bits === 64 || high === 0) && (!negative || (low === 0 && high === 0));
  if (bits === 32) return high === 0 && (low >= 0 || (negative && low === LOWEST_WORD));
  return high >= 0 || (negative && high === LOWEST_WORD && low === 0);
}

function negate(integer: Integer): void {
  integer.low = -integer.low | 0;
  integer.high = (~integer.high + (integer.low === 0 ? 1 : 0)) | 0;
}

function readUnusualInteger(
  cursor: JsonCursor,
  writer: ProtobufWriter,
  name: string,
  range: IntegerRange,
  integer: Integer,
): void {
  const start = cursor.at;
  const value = integerOf(readNumberText(cursor, writer));
  if (value === undefined) cursor.refuse(`${name} must be an integer`, start);
  const lowest = range.signed ? -(1n << BigInt(range.bits - 1)) : 0n;
  const highest = (1n << BigInt(range.signed ? range.bits - 1 : range.bits)) - 1n;
  if (value < lowest || value > highest) refuseRange(cursor, name, range, start);
  integer.negative = value < 0n;
  integer.low = Number(BigInt.asIntN(32, value));
  integer.high = Number(BigInt.asIntN(32, value >> 32n));
}

/** The integer that a number in JSON's grammar stands for; undefined where it is none. */
function integerOf(text: string): bigint | undefined {
  if (!NUMBER.test(text)) return undefined;
  const [mantissa = '', exponent = '0'] = text.toLowerCase().split('e');
  const [whole = '', fraction = ''] = mantissa.replace('-', '').split('.');
  const digits = (whole + fraction).replace(/^0+/, '');
  if (digits === '') return 0n;
  // Not by a regular expression: one that ends in `0+$` takes quadratic time for zeros in the middle.
  let significant = digits.length;
  while (digits[significant - 1] === '0') significant--;
  const zeros = digits.length - significant - fraction.length + Number(exponent);
  if (zeros < 0) return undefined;
  // An exponent may be anything: what has too many digits is not computed, any number out of range stands for
  // it.
  const isHuge = significant + zeros > UINT64_DIGITS_MAX;
  const magnitude = BigInt(isHuge ? '9'.repeat(30) : digits.slice(0, significant) + '0'.repeat(zeros));
  return text.startsWith('-') ? -magnitude : magnitude;
}

function refuseRange(cursor: JsonCursor, name: string, { signed, bits }: IntegerRange, at: number): never {
  const type = `${signed ? 'a signed' : 'an unsigned'} integer of ${bits} bits`;
  cursor.refuse(`${name} is out of the range of ${type}`, at);
}

/** The text of the number or string at the cursor; of a number its grammar is checked. */
function readNumberText(cursor: JsonCursor, writer: ProtobufWriter): string {
  const { bytes, at: start } = cursor;
  if (bytes[start] === QUOTE) return readText(cursor, writer);
  cursor.skipNumber();
  return Buffer.from(bytes.buffer, start, cursor.at - start).toString('latin1');
}

/**
 * Reads the number or string at the cursor as the double next to it. `NaN` and infinities are strings.
 * @throws Malformed where it isn't one, or larger than doubles are.
 */
export function readDouble(cursor: JsonCursor, writer: ProtobufWriter, name: string): number {
  const { bytes, at: start } = cursor;
  const plain = readPlainDouble(cursor);
  if (plain !== undefined) return plain;
  cursor.at = start;
  const text = readNumberText(cursor, writer);
  if (bytes[start] === QUOTE && NOT_FINITE.has(text)) return Number(text);
  if (!NUMBER.test(text)) cursor.refuse(`${name} must be a number`, start);
  const value = Number(text);
  if (!Number.isFinite(value)) cursor.refuse(`${name} is larger than a double can be`, start);
  return value;
}

/** Decimals of few digits without exponent: digits and power of ten are exact, so their quotient is right. */
function readPlainDouble(cursor: JsonCursor): number | undefined {
  const { bytes } = cursor;
  let at = cursor.at;
  const negative = bytes[at] === MINUS;
  if (negative) at++;
  const first = at;
  let value = 0;
  while (isDigit(bytes[at] as number)) value = value * 10 + ((bytes[at++] as number) - ZERO);
  const wholeDigits = at - first;
  if (wholeDigits === 0 || wholeDigits > EXACT_DIGITS_MAX) return undefined;
  if (wholeDigits > 1 && bytes[first] === ZERO) return undefined;
  let fractionDigits = 0;
  if (bytes[at] === POINT) {
    const fraction = ++at;
    while (isDigit(bytes[at] as number)) value = value * 10 + ((bytes[at++] as number) - ZERO);
    fractionDigits = at - fraction;
    if (fractionDigits === 0 || wholeDigits + fractionDigits > EXACT_DIGITS_MAX) return undefined;
  }
  if (((bytes[at] as number) | 0x20) === 0x65) return undefined;
  cursor.at = at;
  const magnitude = fractionDigits === 0 ? value : value / (POWERS_OF_TEN[fractionDigits] as number);
  return negative ? -magnitude : magnitude;
}
