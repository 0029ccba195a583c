/**
 * The numbers by which rows are shared out, and the shard that each falls to. The same numbers as SQL, and
 * why they are made so: sharding.ts.
 */
import { Bytes } from './bytes.ts';
import { SHARDS_MAX } from './codes.ts';
import { alloc, load32, load8, store32 } from './memory.ts';

/** The key of a trace: the last 4 of the 16 bytes at `id` as one number, the first byte the most. */
export function traceKey(id: u32): u32 {
  return ((load8(id + 12) << 24) | (load8(id + 13) << 16) | (load8(id + 14) << 8) | load8(id + 15)) >>> 0;
}

/** The polynomial of CRC-32 (IEEE 802.3, zlib), its lowest bit first. */
const POLYNOMIAL: u32 = 0xedb88320;

/**
 * What 8 bytes do to a checksum is looked up byte by byte, in a table for each place of a byte among them
 * ("slicing by 8"): the checksum of a byte that many zeros follow.
 */
const TABLE_SIZE: u32 = 1024;
const TABLES: u32 = alloc(8 * TABLE_SIZE);

function fillTables(): void {
  for (let byte: u32 = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit: u32 = 0; bit < 8; bit++) crc = (crc & 1) === 0 ? crc >>> 1 : (crc >>> 1) ^ POLYNOMIAL;
    store32(TABLES + (byte << 2), crc);
  }
  for (let at = TABLES + TABLE_SIZE; at < TABLES + 8 * TABLE_SIZE; at += 4) {
    const before = load32(at - TABLE_SIZE);
    store32(at, (before >>> 8) ^ load32(TABLES + ((before & 255) << 2)));
  }
}
fillTables();

// @inline
function effect(zeros: u32, byte: u32): u32 {
  return load32(TABLES + zeros * TABLE_SIZE + (byte << 2));
}

/** The CRC-32 (zlib's) of `n` bytes. */
export function crc32(p: u32, n: u32): u32 {
  let crc: u32 = 0xffffffff;
  while (n >= 8) {
    const low = crc ^ load32(p);
    const high = load32(p + 4);
    crc = effect(7, low & 255) ^ effect(6, (low >>> 8) & 255)
      ^ effect(5, (low >>> 16) & 255) ^ effect(4, low >>> 24)
      ^ effect(3, high & 255) ^ effect(2, (high >>> 8) & 255)
      ^ effect(1, (high >>> 16) & 255) ^ effect(0, high >>> 24);
    p += 8;
    n -= 8;
  }
  if (n >= 4) {
    const word = crc ^ load32(p);
    crc = effect(3, word & 255) ^ effect(2, (word >>> 8) & 255)
      ^ effect(1, (word >>> 16) & 255) ^ effect(0, word >>> 24);
    p += 4;
    n -= 4;
  }
  for (; n !== 0; n--) crc = (crc >>> 8) ^ effect(0, (crc & 255) ^ load8(p++));
  return ~crc >>> 0;
}

/** So many remainders have their shard in a table. */
const SLOTS_MAX: u32 = 65536;

/** Knows the shards by their weights. */
export class Router {
  /** With one there is nothing to compute. */
  shards: u32 = 1;
  private sum: u32 = 1;
  /** Where each shard's interval ends, 4 bytes: the sum of the weights so far. */
  private readonly ends: u32 = alloc(SHARDS_MAX * 4);
  /** The shard of each remainder, 1 byte, if there are few enough. */
  private readonly slots: Bytes = new Bytes(64);

  /** Where the ends of the shards' intervals have to be put, before `begin`. */
  open(): u32 {
    return this.ends;
  }

  begin(shards: u32): void {
    this.shards = shards;
    this.sum = load32(this.ends + ((shards - 1) << 2));
    if (this.sum > SLOTS_MAX) return;
    this.slots.clear();
    for (let rest: u32 = 0; rest < this.sum; rest++) this.slots.put8(this.search(rest));
  }

  /** The shard whose interval the key's remainder falls into, as in topology/route.ts. */
  // @inline
  shardOf(key: u32): u32 {
    const rest = key % this.sum;
    return this.sum > SLOTS_MAX ? this.search(rest) : load8(this.slots.base + rest);
  }

  private search(rest: u32): u32 {
    let low: u32 = 0;
    let high = this.shards - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (rest < load32(this.ends + (middle << 2))) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
