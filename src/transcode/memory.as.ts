/**
 * The memory of the wasm engine: the same operations as memory.ts (see there for their meaning) on linear memory, in
 * AssemblyScript. scripts/build-wasm.ts puts this file in the place of memory.ts; `tsc` doesn't read it.
 */
import { MEMORY_EXHAUSTED } from './codes.ts';

// From the host: see engine.ts.
@external('host', 'fail')
declare function hostFail(code: u32, byteOffset: u32): void;
@external('host', 'double')
declare function hostDouble(to: u32, value: f64): u32;

const SLACK: u32 = 64;
const REGION_MAX: u32 = 1 << 30;
// Heads of the lists of free regions, by the power of two of their size. A free region holds the next one's address.
const FREE: usize = memory.data(4 * 32, 16);

@inline
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
  // heap.alloc traps where memory ends; asking first leaves by the ordinary way.
  const size = (<u32>1 << classOf(n)) + SLACK;
  const pages = <i32>((size >> 16) + 2);
  if (memory.grow(0) + pages > 65536) return fail(MEMORY_EXHAUSTED, 0);
  return <u32>heap.alloc(size);
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

@inline export function load8(p: u32): u32 { return load<u8>(p); }
@inline export function load32(p: u32): u32 { return load<u32>(p); }
@inline export function loadDouble(p: u32): f64 { return load<f64>(p); }
@inline export function store8(p: u32, value: u32): void { store<u8>(p, value); }
@inline export function store32(p: u32, value: u32): void { store<u32>(p, value); }
@inline export function storeDouble(p: u32, value: f64): void { store<f64>(p, value); }
@inline export function copy64(to: u32, from: u32): void { store<u64>(to, load<u64>(from)); }
@inline export function store64(p: u32, low: u32, high: u32): void { store<u64>(p, join(low, high)); }
@inline function join(low: u32, high: u32): u64 { return (<u64>high << 32) | <u64>low; }

@inline
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

@inline export function move(to: u32, from: u32, n: u32): void { memory.copy(to, from, n); }
@inline export function zero(p: u32, n: u32): void { memory.fill(p, 0, n); }

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
  return bits == 0;
}

@inline
export function equal(a: u32, b: u32, n: u32): boolean {
  while (n >= 8) {
    if (load<u64>(a) != load<u64>(b)) return false;
    a += 8;
    b += 8;
    n -= 8;
  }
  return n == 0 || ((load<u64>(a) ^ load<u64>(b)) << (64 - (<u64>n << 3))) == 0;
}

export function hash(p: u32, n: u32): u32 {
  let h: u64 = <u64>n * 0x9e3779b97f4a7c15;
  while (n >= 8) {
    h = (h ^ load<u64>(p)) * 0xff51afd7ed558ccd;
    h ^= h >> 32;
    p += 8;
    n -= 8;
  }
  if (n) {
    h = (h ^ (load<u64>(p) << (64 - (<u64>n << 3)))) * 0xff51afd7ed558ccd;
    h ^= h >> 32;
  }
  return <u32>(h ^ (h >> 29)) & 0x7fffffff;
}

@inline
function hexDigits(nibbles: v128): v128 {
  return i8x16.swizzle(i8x16(48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 97, 98, 99, 100, 101, 102), nibbles);
}

export function hexId(to: u32, from: u32, n: u32): void {
  const id = v128.load(from);
  const upper = v128.shr<u8>(id, 4);
  const lower = v128.and(id, i8x16.splat(15));
  v128.store(to, hexDigits(
    i8x16.shuffle(upper, lower, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)));
  if (n == 16) {
    v128.store(to, hexDigits(
      i8x16.shuffle(upper, lower, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)), 16);
  }
}

export function narrow(to: u32, from: u32, n: u32, width: u32): void {
  if (width == 0) {
    for (let i: u32 = 0; i < n; i += 16) {
      const first = v128.narrow<i32>(v128.load(from), v128.load(from, 16));
      const second = v128.narrow<i32>(v128.load(from, 32), v128.load(from, 48));
      v128.store(to + i, v128.narrow<i16>(first, second));
      from += 64;
    }
  } else if (width == 1) {
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

@inline
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
    bound = count == 20 ? u64.MAX_VALUE : bound * 10;
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
  const whole = abs(value) <= 9007199254740991 && value == trunc(value);
  if (whole && load<u64>(p) != 0x8000000000000000) return decimal(to, <i64>value);
  return hostDouble(to, value);
}
