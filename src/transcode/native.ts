/**
 * Writes columns as a ClickHouse Native block, over HTTP (client revision 0): varint columns, varint rows,
 * and for each column its head (name, type and, where a LowCardinality is in it, UInt64 1) and its data. A
 * LowCardinality's data is, only where there are values: UInt64 flags with the ids' width, UInt64 keys, the
 * keys, UInt64 values, the ids.
 */
import { Bytes } from './bytes.ts';
import type { LowColumn, MapColumn } from './column.ts';
import type { Dictionary } from './dictionary.ts';
import { copy, least, load32, narrow, store8, store32, zero } from './memory.ts';

/**
 * The heads of a table's columns, written by the host (open-blocks.ts): for each its length in 4 bytes, then
 * itself.
 */
export class Heads {
  readonly area: Bytes = new Bytes(1024);
  private next: u32 = 0;

  /** Room for `n` bytes of heads; the address for the host. */
  open(n: u32): u32 {
    this.area.clear();
    this.area.need(n);
    this.area.at += n;
    return this.area.base;
  }

  begin(out: Bytes, columns: u32, rows: u32): void {
    this.next = 0;
    out.putVarint(columns);
    out.putVarint(rows);
  }

  /** The head of the next column; its data has to follow. */
  put(out: Bytes): void {
    const head = this.area.base + this.next;
    const n = load32(head);
    out.putRaw(head + 4, n);
    this.next += 4 + n;
  }
}

export function putAll(out: Bytes, column: Bytes): void {
  out.putRaw(column.base, column.size());
}

/**
 * LowCardinality flags: the keys are in the block (0x200), not in a shared dictionary, which they replace
 * (0x400).
 */
const KEYS_HERE: u32 = 0x600;

/** What stands before the ids of `n` values. */
export function putDictionary(out: Bytes, dictionary: Dictionary, n: u32): void {
  out.putCount(KEYS_HERE | dictionary.width());
  out.putCount(dictionary.count);
  putAll(out, dictionary.keys);
  out.putCount(n);
}

export function putIds(out: Bytes, ids: u32, n: u32, width: u32): void {
  out.need(n << width);
  narrow(out.at, ids, n, width);
  out.at += n << width;
}

/** `n` times the same id. */
export function fillIds(out: Bytes, id: u32, n: u32, width: u32): void {
  const size: u32 = 1 << width;
  out.need(n * size);
  if (width === 0) store8(out.at, id);
  else store32(out.at, id);
  out.at += size;
  repeat(out, size, n);
}

/** Repeats the last `n` bytes until they stand there `times` times; room for them must have been made. */
export function repeat(out: Bytes, n: u32, times: u32): void {
  const first = out.at - n;
  const total = n * times;
  let done = n;
  while (done < total) {
    const step = least(total - done, done);
    copy(first + done, first, step);
    done += step;
  }
  out.at = first + total;
}

export function putLow(out: Bytes, column: LowColumn): void {
  const n = column.ids.size() >>> 2;
  if (n === 0) return;
  putDictionary(out, column.dictionary, n);
  putIds(out, column.ids.base, n, column.dictionary.width());
}

export function putMap(out: Bytes, column: MapColumn): void {
  putAll(out, column.ends);
  const n = column.count();
  if (n === 0) return;
  putDictionary(out, column.keys, n);
  putIds(out, column.ids.base, n, column.keys.width());
  putAll(out, column.values);
}

/** `n` numbers of 8 bytes that are 0. */
export function putZeros(out: Bytes, n: u32): void {
  out.need(n << 3);
  zero(out.at, n << 3);
  out.at += n << 3;
}
