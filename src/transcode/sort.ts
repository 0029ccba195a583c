/**
 * Sorts pairs of keys and values by key: stable, n log n whatever a client sends, without moving the texts.
 */
import type { Bytes } from './bytes.ts';
import { copy64, least, load32, load8, move, store32 } from './memory.ts';

/** A pair in memory: the key's address and length, the value's address and end, 4 bytes each. */
export const PAIR_SIZE: u32 = 16;

export function putPair(to: Bytes, key: u32, keyLength: u32, value: u32, valueEnd: u32): void {
  to.need(PAIR_SIZE);
  store32(to.at, key);
  store32(to.at + 4, keyLength);
  store32(to.at + 8, value);
  store32(to.at + 12, valueEnd);
  to.at += PAIR_SIZE;
}

/** The order of two pairs' keys, byte by byte: 0 less, 1 equal, 2 greater. */
export function compareKeys(a: u32, b: u32): u32 {
  const aKey = load32(a);
  const bKey = load32(b);
  const aLength = load32(a + 4);
  const bLength = load32(b + 4);
  const shared = least(aLength, bLength);
  for (let i: u32 = 0; i < shared; i++) {
    const x: u32 = load8(aKey + i);
    const y: u32 = load8(bKey + i);
    if (x !== y) return x < y ? 0 : 2;
  }
  if (aLength === bLength) return 1;
  return aLength < bLength ? 0 : 2;
}

/** Sorts the pairs from the size `from` of `pairs` to its end; as much room again is used behind them. */
export function sortPairs(pairs: Bytes, from: u32): void {
  const size = pairs.size() - from;
  if (isSorted(pairs.base + from, size)) return;
  pairs.need(size);
  const area = pairs.base + from;
  let source = area;
  let target = area + size;
  for (let width: u32 = PAIR_SIZE; width < size; width = width * 2) {
    for (let start: u32 = 0; start < size; start += width * 2) {
      const middle = least(start + width, size);
      const end = least(middle + width, size);
      merge(source, target, start, middle, end);
    }
    const swapped = source;
    source = target;
    target = swapped;
  }
  if (source !== area) move(area, source, size);
}

function isSorted(area: u32, size: u32): boolean {
  for (let i: u32 = PAIR_SIZE; i < size; i += PAIR_SIZE) {
    if (compareKeys(area + i - PAIR_SIZE, area + i) === 2) return false;
  }
  return true;
}

function merge(source: u32, target: u32, start: u32, middle: u32, end: u32): void {
  let left = start;
  let right = middle;
  for (let to = start; to < end; to += PAIR_SIZE) {
    let from: u32 = 0;
    if (right === end || (left < middle && compareKeys(source + left, source + right) !== 2)) {
      from = source + left;
      left += PAIR_SIZE;
    } else {
      from = source + right;
      right += PAIR_SIZE;
    }
    copy64(target + to, from);
    copy64(target + to + 8, from + 8);
  }
}
