/**
 * The arena of the plain engine, and every operation on it whose meaning differs between JavaScript and
 * WebAssembly: loads and stores, 64-bit numbers, copies, comparisons, hashes. memory.as.ts is the same list
 * for the wasm engine; scripts/build-wasm.ts puts it in the place of this file. The two must make the same
 * bytes.
 *
 * Every region has SLACK bytes behind it: `copy`, `equal`, `hash` and the decoders may read that far beyond
 * an end, and `copy`, `hexId` and `narrow` may write that far. Nothing is ever given back to the system.
 */
import { MEMORY_EXHAUSTED } from './codes.ts';
import { doubleText, raise } from './host.ts';

const SLACK = 64;
const REGION_MAX = 2 ** 30;
const ARENA_MAX = 2 ** 31;
/** Below this many bytes words in a loop beat copyWithin. */
const SHORT_COPY = 96;

let bytes = new Uint8Array(4 << 20);
let view = new DataView(bytes.buffer);
let top = SLACK;
const free: number[][] = Array.from({ length: 32 }, () => []);

/** The whole arena, for the host: gone stale after the next `alloc`. */
export function arena(): Uint8Array {
  return bytes;
}

function growArena(needed: number): void {
  let size = bytes.length * 2;
  while (size < needed) size *= 2;
  const grown = new Uint8Array(Math.min(size, ARENA_MAX));
  grown.set(bytes.subarray(0, top));
  bytes = grown;
  view = new DataView(grown.buffer);
}

const classOf = (n: number) => 32 - Math.clz32(n - 1);

/** A region of at least `n` bytes (the next power of two), not cleared. */
export function alloc(n: u32): u32 {
  if (n > REGION_MAX) return raise(MEMORY_EXHAUSTED, 0);
  const size = classOf(n);
  const used = free[size]?.pop();
  if (used !== undefined) return used;
  // Not 2 ** size: that is a double to V8, and every address that comes of it would be computed as one.
  const end = top + (1 << size) + SLACK;
  if (end > ARENA_MAX) return raise(MEMORY_EXHAUSTED, 0);
  if (end > bytes.length) growArena(end);
  const region = top;
  top = end;
  return region;
}

/** Gives back a region that was asked for with this `n`. */
export function release(region: u32, n: u32): void {
  free[classOf(n)]?.push(region);
}

/** Ends the reading of this request: never returns, whatever the type says. */
export function fail(code: u32, byteOffset: u32): u32 {
  return raise(code, byteOffset);
}

export function load8(p: u32): u32 {
  return bytes[p] as number;
}

export function load32(p: u32): u32 {
  return view.getUint32(p, true);
}

export function loadDouble(p: u32): f64 {
  return view.getFloat64(p, true);
}

export function store8(p: u32, value: u32): void {
  bytes[p] = value;
}

export function store32(p: u32, value: u32): void {
  view.setUint32(p, value, true);
}

export function storeDouble(p: u32, value: f64): void {
  view.setFloat64(p, value, true);
}

/** A 64-bit number from its two halves. */
export function store64(p: u32, low: u32, high: u32): void {
  view.setUint32(p, low, true);
  view.setUint32(p + 4, high, true);
}

/** Moves a 64-bit number without looking at it. */
export function copy64(to: u32, from: u32): void {
  view.setInt32(to, view.getInt32(from, true), true);
  view.setInt32(to + 4, view.getInt32(from + 4, true), true);
}

/** Copies `n` bytes between regions that don't overlap, and perhaps some more within the slack. */
export function copy(to: u32, from: u32, n: u32): void {
  if (n > SHORT_COPY) {
    bytes.copyWithin(to, from, from + n);
    return;
  }
  const v = view;
  for (let i = 0; i < n; i += 4) v.setInt32(to + i, v.getInt32(from + i, true), true);
}

/** Copies exactly `n` bytes; the regions may overlap. */
export function move(to: u32, from: u32, n: u32): void {
  bytes.copyWithin(to, from, from + n);
}

export function zero(p: u32, n: u32): void {
  bytes.fill(0, p, p + n);
}

export function least(a: u32, b: u32): u32 {
  return Math.min(a, b);
}

export function isZero(p: u32, n: u32): boolean {
  const v = view;
  while (n >= 4) {
    if (v.getInt32(p, true) !== 0) return false;
    p += 4;
    n -= 4;
  }
  return n === 0 || v.getInt32(p, true) << (32 - (n << 3)) === 0;
}

export function equal(a: u32, b: u32, n: u32): boolean {
  const v = view;
  while (n >= 4) {
    if (v.getInt32(a, true) !== v.getInt32(b, true)) return false;
    a += 4;
    b += 4;
    n -= 4;
  }
  return n === 0 || ((v.getInt32(a, true) ^ v.getInt32(b, true)) << (32 - (n << 3))) === 0;
}

/** A hash of a text for the tables of dictionaries: 31 bits, so that it stays a small integer here. */
export function hash(p: u32, n: u32): u32 {
  const v = view;
  let h = n | 0;
  let left = n;
  while (left >= 4) {
    h = Math.imul(h ^ v.getInt32(p, true), 0x85ebca6b);
    h ^= h >>> 15;
    p += 4;
    left -= 4;
  }
  if (left !== 0) {
    h = Math.imul(h ^ (v.getInt32(p, true) << (32 - (left << 3))), 0x85ebca6b);
    h ^= h >>> 15;
  }
  h = Math.imul(h, 0xc2b2ae35);
  return (h ^ (h >>> 14)) & 0x7fffffff;
}

const HEX = new Uint16Array(256);
for (let i = 0; i < 256; i++) {
  const digits = i.toString(16).padStart(2, '0');
  HEX[i] = digits.charCodeAt(0) | (digits.charCodeAt(1) << 8);
}

/** Lower-case hex of an id of 8 or 16 bytes. */
export function hexId(to: u32, from: u32, n: u32): void {
  const v = view;
  for (let i = 0; i < n; i += 2) {
    const word = v.getUint16(from + i, true);
    v.setInt32(to + 2 * i, (HEX[word & 255] as number) | ((HEX[word >>> 8] as number) << 16), true);
  }
}

// Odd constants without a pattern, for the hashes of series (series.ts).
const MIX_LOW = 0x53c5ca59;
const MIX_HIGH = 0x74743c1b;

let mixedLow = 0;
let mixedHigh = 0;

/** One step of a hash: the product of its halves, each with the bits of a word turned over. */
function mixWord(wordLow: number, wordHigh: number): void {
  const a = (mixedLow ^ wordLow) >>> 0;
  const b = (mixedHigh ^ wordHigh) >>> 0;
  // The upper half of a product of 64 bits, by way of numbers below 2^49.
  const upper = (a >>> 16) * b + Math.floor(((a & 0xffff) * b) / 0x10000);
  mixedLow = Math.imul(a, b) ^ MIX_LOW;
  mixedHigh = Math.floor(upper / 0x10000) ^ MIX_HIGH;
}

function mixAll(from: number, p: number, n: number): void {
  const v = view;
  mixedLow = v.getInt32(from, true) ^ n;
  mixedHigh = v.getInt32(from + 4, true);
  while (n >= 8) {
    mixWord(v.getInt32(p, true), v.getInt32(p + 4, true));
    p += 8;
    n -= 8;
  }
  // The last bytes stand at the upper end of their word.
  if (n === 0) mixWord(0, 0);
  else if (n <= 4) mixWord(0, v.getInt32(p, true) << (32 - (n << 3)));
  else {
    const shift = 64 - (n << 3);
    const low = v.getInt32(p, true);
    const lower = shift === 0 ? low : low << shift;
    const carried = shift === 0 ? 0 : low >>> (32 - shift);
    mixWord(lower, (v.getInt32(p + 4, true) << shift) | carried);
  }
}

/** The hash of 8 bytes at `to` is the one at `from`, continued with `n` bytes at `p`. */
export function mixText(to: u32, from: u32, p: u32, n: u32): void {
  mixAll(from, p, n);
  store64(to, mixedLow, mixedHigh);
}

/** Adds the hash at `from`, continued with `n` bytes at `p`, to the 64-bit number at `sum`. */
export function addMixed(sum: u32, from: u32, p: u32, n: u32): void {
  mixAll(from, p, n);
  mixWord(0, 0);
  const low = view.getUint32(sum, true) + (mixedLow >>> 0);
  store64(sum, low, view.getUint32(sum + 4, true) + mixedHigh + (low >= 2 ** 32 ? 1 : 0));
}

/** Spreads every bit of a hash over all 64: a one-to-one map. */
export function scatter(to: u32, from: u32): void {
  let low = view.getInt32(from, true);
  let high = view.getInt32(from + 4, true);
  low = Math.imul(low ^ (high >>> 15), 0x85ebca6b);
  high = Math.imul(high ^ (low >>> 13), 0xc2b2ae35);
  low = Math.imul(low ^ (high >>> 16), 0x27d4eb2f);
  store64(to, low, high ^ (low >>> 15));
}

/** Writes `n` ids of 4 bytes as ids of 1 << width bytes. */
export function narrow(to: u32, from: u32, n: u32, width: u32): void {
  const v = view;
  if (width === 0) {
    for (let i = 0; i < n; i++) bytes[to + i] = bytes[from + 4 * i] as number;
  } else if (width === 1) {
    for (let i = 0; i < n; i++) v.setUint16(to + 2 * i, v.getUint16(from + 4 * i, true), true);
  } else {
    bytes.copyWithin(to, from, from + 4 * n);
  }
}

/** end - start of two unsigned 64-bit numbers, 0 where end is before start. */
export function difference64(to: u32, end: u32, start: u32): void {
  let low = view.getUint32(end, true) - view.getUint32(start, true);
  let high = view.getUint32(end + 4, true) - view.getUint32(start + 4, true);
  if (low < 0) {
    low += 2 ** 32;
    high--;
  }
  if (high < 0) {
    low = 0;
    high = 0;
  }
  store64(to, low, high);
}

/** The double nearest to a signed 64-bit number: one rounding only, in the last addition. */
export function doubleOfInt64(low: u32, high: u32): f64 {
  return (high | 0) * 2 ** 32 + low;
}

/** Digits of an integer below 2^53; how many there are. */
function digits(to: number, value: number): number {
  let at = to;
  if (value >= 1e9) {
    const upper = Math.floor(value / 1e9);
    at += digits(to, upper);
    let lower = value - upper * 1e9;
    for (let i = at + 8; i >= at; i--) {
      const rest = (lower / 10) >>> 0;
      bytes[i] = 48 + lower - rest * 10;
      lower = rest;
    }
    return at + 9 - to;
  }
  let count = 1;
  for (let bound = 10; value >= bound; bound *= 10) count++;
  for (let i = to + count - 1; i >= to; i--) {
    const rest = (value / 10) >>> 0;
    bytes[i] = 48 + value - rest * 10;
    value = rest;
  }
  return count;
}

/** The decimal text of a signed 64-bit number, at most 20 bytes; how many there are. */
export function decimalInt64(to: u32, low: u32, high: u32): u32 {
  if (high === 0) return digits(to, low);
  const value = (high | 0) * 2 ** 32 + low;
  if (Number.isSafeInteger(value)) return decimal(to, value);
  return ascii(to, BigInt.asIntN(64, (BigInt(high) << 32n) | BigInt(low)).toString());
}

function decimal(to: number, value: number): number {
  if (value >= 0) return digits(to, value);
  bytes[to] = 45;
  return 1 + digits(to + 1, -value);
}

function ascii(to: number, string: string): number {
  for (let i = 0; i < string.length; i++) bytes[to + i] = string.charCodeAt(i);
  return string.length;
}

/**
 * The text of the double at `p` (doubleText in host.ts), at most 26 bytes; how many there are. A double that
 * is the nearest one to a decimal of at most 15 digits has that as its shortest text: no search is needed.
 */
export function decimalDouble(to: u32, p: u32): u32 {
  const value = view.getFloat64(p, true);
  if (Number.isSafeInteger(value) && !Object.is(value, -0)) return decimal(to, value);
  if (Math.abs(value) >= 1e-6) {
    const micros = Math.round(value * 1e6);
    if (Math.abs(micros) < 1e15 && micros / 1e6 === value) return fraction(to, micros, 1e6, 6);
    const picos = Math.round(value * 1e12);
    if (Math.abs(picos) < 1e15 && picos / 1e12 === value) return fraction(to, picos, 1e12, 12);
  }
  return ascii(to, doubleText(value));
}

/** The text of scaled / scale, the scale being the power of ten with `places`. */
function fraction(to: number, scaled: number, scale: number, places: number): number {
  let at = to;
  let rest = Math.abs(scaled);
  if (scaled < 0) bytes[at++] = 45;
  const whole = Math.floor(rest / scale);
  rest -= whole * scale;
  at += digits(at, whole);
  // The digits after the point, with a 1 before them that keeps the zeros they begin with, until the point
  // takes its place.
  digits(at, rest + scale);
  bytes[at] = 46;
  let end = at + places + 1;
  while (bytes[end - 1] === 48) end--;
  return end - to;
}
