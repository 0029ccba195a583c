/** A growing run of bytes in the arena: what every column is made of. */
import { MEMORY_EXHAUSTED } from './codes.ts';
import { alloc, copy, copy64, fail, move, release, store32, store64, store8 } from './memory.ts';

/**
 * What every column can do. `keep` notes the state before a request, `restore` brings it back; after `clear`
 * the state that is noted is the empty one.
 */
export abstract class Column {
  abstract keep(): void;
  abstract restore(): void;
  abstract clear(): void;
  /** About how many bytes the column will have in the block. */
  abstract size(): u32;
}

const SIZE_MAX: u32 = 1 << 30;

/**
 * `at` is where the next byte goes. Addresses move when the run grows: across a `need`, keep sizes, not
 * addresses.
 */
export class Bytes extends Column {
  base: u32 = 0;
  at: u32 = 0;
  limit: u32 = 0;
  /** The size at the last `keep`. */
  kept: u32 = 0;

  constructor(capacity: u32) {
    super();
    this.base = alloc(capacity);
    this.at = this.base;
    this.limit = this.base + capacity;
  }

  override size(): u32 {
    return this.at - this.base;
  }

  override clear(): void {
    this.at = this.base;
    this.kept = 0;
  }

  cut(size: u32): void {
    this.at = this.base + size;
  }

  override keep(): void {
    this.kept = this.at - this.base;
  }

  override restore(): void {
    this.at = this.base + this.kept;
  }

  /** Makes room for `n` more bytes. */
  // @inline
  need(n: u32): void {
    if (this.at + n > this.limit) this.grow(n);
  }

  private grow(n: u32): void {
    const used = this.at - this.base;
    const before = this.limit - this.base;
    if (n > SIZE_MAX - used) fail(MEMORY_EXHAUSTED, 0);
    let capacity = before * 2;
    while (capacity < used + n) capacity = capacity * 2;
    const base = alloc(capacity);
    move(base, this.base, used);
    release(this.base, before);
    this.base = base;
    this.at = base + used;
    this.limit = base + capacity;
  }

  // @inline
  put8(value: u32): void {
    this.need(1);
    store8(this.at, value);
    this.at += 1;
  }

  // @inline
  put32(value: u32): void {
    this.need(4);
    store32(this.at, value);
    this.at += 4;
  }

  /** A count as UInt64. */
  // @inline
  putCount(value: u32): void {
    this.need(8);
    store64(this.at, value, 0);
    this.at += 8;
  }

  /** The 64-bit number at `from`, whatever it means. */
  // @inline
  put64(from: u32): void {
    this.need(8);
    copy64(this.at, from);
    this.at += 8;
  }

  putVarint(value: u32): void {
    this.need(5);
    let at = this.at;
    while (value > 127) {
      store8(at++, (value & 127) | 128);
      value = value >>> 7;
    }
    store8(at++, value);
    this.at = at;
  }

  putRaw(from: u32, n: u32): void {
    this.need(n);
    copy(this.at, from, n);
    this.at += n;
  }

  /** A String of ClickHouse, the same as a string of protobuf: varint length, then the bytes as they are. */
  putText(from: u32, n: u32): void {
    this.need(n + 5);
    if (n < 128) {
      store8(this.at, n);
      this.at += 1;
    } else {
      this.putVarint(n);
    }
    copy(this.at, from, n);
    this.at += n;
  }
}
