/**
 * The records of a scope in the order in which they are read where there are several shards: shard after
 * shard, those of one as they were sent. One here and the next one there would chase the columns of several
 * blocks through the processor's nearest caches.
 */
import { Bytes } from './bytes.ts';
import { SHARDS_MAX } from './codes.ts';
import { alloc, load32, store32, zero } from './memory.ts';

/** A record's address, its end, its trace id's address or 0, and 1 + where the next entry is, or 0. */
const ENTRY_SIZE: u32 = 16;

export class RecordQueue {
  private readonly entries: Bytes = new Bytes(4096);
  /** By shard, 4 bytes each: 1 + where its first entry is, or 0; 1 + where its last one is. */
  private readonly ends: u32 = alloc(SHARDS_MAX * 8);
  /** The shards that have entries, 4 bytes each. */
  private readonly shards: Bytes = new Bytes(SHARDS_MAX * 4);

  constructor() {
    zero(this.ends, SHARDS_MAX * 8);
  }

  add(shard: u32, p: u32, end: u32, traceId: u32): void {
    this.entries.need(ENTRY_SIZE);
    const entry = this.entries.at;
    this.entries.at += ENTRY_SIZE;
    store32(entry, p);
    store32(entry + 4, end);
    store32(entry + 8, traceId);
    store32(entry + 12, 0);
    const place = entry - this.entries.base + 1;
    const ends = this.ends + (shard << 3);
    if (load32(ends) === 0) {
      store32(ends, place);
      this.shards.put32(shard);
    } else {
      store32(this.entryAt(load32(ends + 4)) + 12, place);
    }
    store32(ends + 4, place);
  }

  private entryAt(place: u32): u32 {
    return this.entries.base + place - 1;
  }

  /** How many shards have entries. */
  count(): u32 {
    return this.shards.size() >>> 2;
  }

  /** The i-th of them, in the order of their first entries. */
  shard(i: u32): u32 {
    return load32(this.shards.base + (i << 2));
  }

  /** The first entry of a shard that has one: an address, until the next `add`. */
  first(shard: u32): u32 {
    return this.entryAt(load32(this.ends + (shard << 3)));
  }

  /** The shard's next entry, 0 after the last. */
  next(entry: u32): u32 {
    const place = load32(entry + 12);
    return place === 0 ? 0 : this.entryAt(place);
  }

  /** Where the record is, where it ends, and where its trace id is. */
  record(entry: u32): u32 {
    return load32(entry);
  }

  recordEnd(entry: u32): u32 {
    return load32(entry + 4);
  }

  traceId(entry: u32): u32 {
    return load32(entry + 8);
  }

  clear(): void {
    for (let p = this.shards.base; p < this.shards.at; p += 4) store32(this.ends + (load32(p) << 3), 0);
    this.shards.clear();
    this.entries.clear();
  }
}
