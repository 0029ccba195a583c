/**
 * The memory of the wasm engine: the same operations as memory.ts (see there for their meaning) on linear
 * memory, in AssemblyScript. scripts/build-wasm.ts puts this file in the place of memory.ts; `tsc` doesn't
 * read it.
 */
import { MEMORY_EXHAUSTED } from './codes.ts';

// From the host: see engine.ts.
// @external('host', 'fail')
declare function hostFail(code: u32, byteOffset: u32): void;
// @external('host', 'double')
declare function hostDouble(to: u32, value: f64): u32;

const SLACK: u32 = 64;
const REGION_MAX: u32 = 1 << 30;
// Heads of the lists of free regions, by the power of two of their size. A free region holds the next one's
// address.
const FREE: usize = memory.data(4 * 32, 16);

// @inline
function classOf(n: u32): u32 {
  return n < 5 ? 2 : 32 - clz<u32>(n - 1);
}

export function alloc(n: u32): u32 {
  if (n > REGION_MAX) return fail(MEMORY_EXHAUSTED, 0);
  const head = FREE + (<usize>classOf(n) << 2);
  const used = load<u32>(head);
  if (used) {
    store<u32>(head, load<u32>(used));
    return used;
  }
  const size = (<u32>1 << classOf(n)) + SLACK;
  if (!growMemory(size)) return fail(MEMORY_EXHAUSTED, 0);
  const region = <u32>heap.alloc(size);
  top = region + size;
  return region;
}

// Where the last region ends; a few small objects of AssemblyScript's own may follow.
let top: u32 = <u32>__heap_base;
const OBJECTS_PAGES: i32 = 1;

/**
 * heap.alloc would double the memory, and trap where it ends: so the memory is made large enough before, in
 * smaller steps.
 */
function growMemory(size: u32): bool {
  const pages = memory.size();
  const needed = <i32>((<u64>top + size + 65535) >> 16) + OBJECTS_PAGES;
  if (needed <= pages) return true;
  const ahead = max(needed - pages, pages >> 3);
  return memory.grow(ahead) >= 0 || memory.grow(needed - pages) >= 0;
}

export function release(region: u32, n: u32): void {
  const head = FREE + (<usize>classOf(n) << 2);
  store<u32>(region, load<u32>(head));
  store<u32>(head, region);
}

export function fail(code: u32, byteOffset: u32): u32 {
  hostFail(code, byteOffset);
  return unreachable();
}

// @inline
export function load8(p: u32): u32 {
  return load<u8>(p);
}

// @inline
export function load32(p: u32): u32 {
  return load<u32>(p);
}

// @inline
export function loadDouble(p: u32): f64 {
  return load<f64>(p);
}

// @inline
export function store8(p: u32, value: u32): void {
  store<u8>(p, value);
}

// @inline
export function store32(p: u32, value: u32): void {
  store<u32>(p, value);
}

// @inline
export function storeDouble(p: u32, value: f64): void {
  store<f64>(p, value);
}

// @inline
export function copy64(to: u32, from: u32): void {
  store<u64>(to, load<u64>(from));
}

// @inline
export function store64(p: u32, low: u32, high: u32): void {
  store<u64>(p, join(low, high));
}

// @inline
function join(low: u32, high: u32): u64 {
  return (<u64>high << 32) | <u64>low;
}

// @inline
export function copy(to: u32, from: u32, n: u32): void {
  if (n > 64) {
    memory.copy(to, from, n);
    return;
  }
  v128.store(to, v128.load(from));
  if (n > 16) {
    v128.store(to, v128.load(from, 16), 16);
    if (n > 32) {
      v128.store(to, v128.load(from, 32), 32);
      v128.store(to, v128.load(from, 48), 48);
    }
  }
}

// @inline
export function least(a: u32, b: u32): u32 {
  return min<u32>(a, b);
}

// @inline
export function move(to: u32, from: u32, n: u32): void {
  memory.copy(to, from, n);
}

// @inline
export function zero(p: u32, n: u32): void {
  memory.fill(p, 0, n);
}

export function isZero(p: u32, n: u32): boolean {
  let bits: u64 = 0;
  while (n >= 8) {
    bits |= load<u64>(p);
    p += 8;
    n -= 8;
  }
  while (n > 0) {
    bits |= load<u8>(p++);
    n--;
  }
  return bits === 0;
}

// @inline
export function equal(a: u32, b: u32, n: u32): boolean {
  while (n >= 8) {
    if (load<u64>(a) !== load<u64>(b)) return false;
    a += 8;
    b += 8;
    n -= 8;
  }
  return n === 0 || ((load<u64>(a) ^ load<u64>(b)) << (64 - (<u64>n << 3))) === 0;
}

// Odd constants without a pattern: golden ratio, and those of MurmurHash3's 64-bit finalizer.
const HASH_LENGTH: u64 = (<u64>0x9e3779b9 << 32) | 0x7f4a7c15;
const HASH_WORD: u64 = (<u64>0xff51afd7 << 32) | 0xed558ccd;
const HASH_END: u64 = (<u64>0xc4ceb9fe << 32) | 0x1a85ec53;

export function hash(p: u32, n: u32): u32 {
  let h: u64 = <u64>n * HASH_LENGTH;
  while (n >= 8) {
    h = (h ^ load<u64>(p)) * HASH_WORD;
    h ^= h >> 32;
    p += 8;
    n -= 8;
  }
  if (n) {
    h = (h ^ (load<u64>(p) << (64 - (<u64>n << 3)))) * HASH_WORD;
    h ^= h >> 32;
  }
  return <u32>((h * HASH_END) >> 33);
}

const MIX: u64 = (<u64>0x74743c1b << 32) | 0x53c5ca59;

// @inline
function mixed(hash: u64): u64 {
  return ((hash & 0xffffffff) * (hash >> 32)) ^ MIX;
}

// @inline
function mixAll(hash: u64, p: u32, n: u32): u64 {
  hash ^= <u64>n;
  while (n >= 8) {
    hash = mixed(hash ^ load<u64>(p));
    p += 8;
    n -= 8;
  }
  return mixed(n ? hash ^ (load<u64>(p) << (64 - (<u64>n << 3))) : hash);
}

export function mixText(to: u32, from: u32, p: u32, n: u32): void {
  store<u64>(to, mixAll(load<u64>(from), p, n));
}

export function addMixed(sum: u32, from: u32, p: u32, n: u32): void {
  store<u64>(sum, load<u64>(sum) + mixed(mixAll(load<u64>(from), p, n)));
}

export function scatter(to: u32, from: u32): void {
  let low = load<u32>(from);
  let high = load<u32>(from, 4);
  low = (low ^ (high >> 15)) * 0x85ebca6b;
  high = (high ^ (low >> 13)) * 0xc2b2ae35;
  low = (low ^ (high >> 16)) * 0x27d4eb2f;
  store<u32>(to, low);
  store<u32>(to, high ^ (low >> 15), 4);
}

// @inline
function hexDigits(nibbles: v128): v128 {
  return i8x16.swizzle(i8x16(48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 97, 98, 99, 100, 101, 102), nibbles);
}

export function hexId(to: u32, from: u32, n: u32): void {
  const id = v128.load(from);
  const upper = v128.shr<u8>(id, 4);
  const lower = v128.and(id, i8x16.splat(15));
  v128.store(to, hexDigits(
    i8x16.shuffle(upper, lower, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)));
  if (n === 16) {
    v128.store(to, hexDigits(
      i8x16.shuffle(upper, lower, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)), 16);
  }
}

export function narrow(to: u32, from: u32, n: u32, width: u32): void {
  if (width === 0) {
    for (let i: u32 = 0; i < n; i += 16) {
      const first = v128.narrow<i32>(v128.load(from), v128.load(from, 16));
      const second = v128.narrow<i32>(v128.load(from, 32), v128.load(from, 48));
      // Unsigned in this step, or ids from 128 on would end at 127.
      v128.store(to + i, v128.narrow<u16>(first, second));
      from += 64;
    }
  } else if (width === 1) {
    for (let i: u32 = 0; i < n; i++) store<u16>(to + (i << 1), <u16>load<u32>(from + (i << 2)));
  } else {
    memory.copy(to, from, n << 2);
  }
}

export function difference64(to: u32, end: u32, start: u32): void {
  const a = load<u64>(end);
  const b = load<u64>(start);
  store<u64>(to, a > b ? a - b : 0);
}

// @inline
export function doubleOfInt64(low: u32, high: u32): f64 {
  return <f64><i64>join(low, high);
}

export function decimalInt64(to: u32, low: u32, high: u32): u32 {
  return decimal(to, <i64>join(low, high));
}

/** Digits from the last to the first, in 32-bit steps as soon as the rest fits. */
function decimal(to: u32, value: i64): u32 {
  let at = to;
  let rest: u64 = value;
  if (value < 0) {
    store<u8>(at++, 45);
    rest = -value;
  }
  let count: u32 = 1;
  let bound: u64 = 10;
  while (count < 20 && rest >= bound) {
    count++;
    bound = count === 20 ? u64.MAX_VALUE : bound * 10;
  }
  let digit = at + count;
  while (rest > 0xffffffff) {
    const tenth = rest / 10;
    store<u8>(--digit, 48 + <u32>(rest - tenth * 10));
    rest = tenth;
  }
  let small = <u32>rest;
  do {
    const tenth = small / 10;
    store<u8>(--digit, 48 + small - tenth * 10);
    small = tenth;
  } while (small);
  return at + count - to;
}

export function decimalDouble(to: u32, p: u32): u32 {
  const value = load<f64>(p);
  const whole = abs(value) <= 9007199254740991 && value === trunc(value);
  if (whole && load<u64>(p) !== 0x8000000000000000) return decimal(to, <i64>value);
  if (abs(value) >= 1e-6) {
    const micros = nearest(value * 1e6);
    if (abs(micros) < 1e15 && micros / 1e6 === value) return fraction(to, <i64>micros, 1000000, 6);
    const picos = nearest(value * 1e12);
    if (abs(picos) < 1e15 && picos / 1e12 === value) return fraction(to, <i64>picos, 1000000000000, 12);
  }
  return hostDouble(to, value);
}

/** The text of scaled / scale, the scale being the power of ten with `places`. */
function fraction(to: u32, scaled: i64, scale: u64, places: u32): u32 {
  let at = to;
  let rest: u64 = scaled;
  if (scaled < 0) {
    store<u8>(at++, 45);
    rest = -scaled;
  }
  const whole = rest / scale;
  rest -= whole * scale;
  at += decimal(at, whole);
  store<u8>(at, 46);
  let end = at + places + 1;
  for (let digit = at + places; digit > at; digit--) {
    const tenth = rest / 10;
    store<u8>(digit, 48 + <u32>(rest - tenth * 10));
    rest = tenth;
  }
  while (load<u8>(end - 1) === 48) end--;
  return end - to;
}
