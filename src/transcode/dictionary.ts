/**
 * The dictionary of a LowCardinality column: its keys in order of appearance, and a hash table that finds
 * their ids. An entry has 16 bytes: where its text begins in `keys`, its length, its hash, and the number of
 * the entry that came next the last time (a guess: maps of one sender repeat their keys in the same order).
 * Entries are numbered from 1, so that 0 means none; entry 0 only holds the guess for the first key of a map.
 * The id in the block is the number less 1.
 */
import { Bytes } from './bytes.ts';
import { alloc, equal, hash, load32, move, release, store32, zero } from './memory.ts';

/**
 * Where so many places in a row are taken, a new key is not put into the table: who chooses keys that collide
 * gets longer blocks (ClickHouse takes a dictionary with equal keys), not a slow gateway.
 */
const PROBES_MAX: u32 = 64;
const SLOTS_MIN: u32 = 256;

export class Dictionary {
  readonly keys: Bytes = new Bytes(2048);
  count: u32 = 0;
  kept: u32 = 0;
  /** The number of the map's key before: 0 at its beginning. */
  previous: u32 = 0;
  private slots: u32 = SLOTS_MIN;
  private table: u32 = 0;
  private entries: u32 = 0;

  constructor() {
    this.table = alloc(SLOTS_MIN * 4);
    this.entries = alloc(SLOTS_MIN * 8);
    zero(this.table, SLOTS_MIN * 4);
    store32(this.entries + 12, 0);
  }

  /** The id of a text; new ones are appended. */
  id(p: u32, n: u32): u32 {
    const h = hash(p, n);
    const mask = this.slots - 1;
    let slot = h & mask;
    for (let probes: u32 = 0; probes < PROBES_MAX; probes++) {
      const number = load32(this.table + (slot << 2));
      if (number === 0) break;
      const entry = this.entries + (number << 4);
      if (load32(entry + 8) === h && load32(entry + 4) === n && equal(this.keys.base + load32(entry), p, n)) {
        return number - 1;
      }
      slot = (slot + 1) & mask;
    }
    return this.add(p, n, h);
  }

  /**
   * The same for a key of a map, which is tried first as the one that followed the key before the last time.
   */
  // @inline
  idOfNext(p: u32, n: u32): u32 {
    const guess = load32(this.entries + (this.previous << 4) + 12);
    if (guess !== 0 && guess <= this.count) {
      const entry = this.entries + (guess << 4);
      if (load32(entry + 4) === n && equal(this.keys.base + load32(entry), p, n)) {
        this.previous = guess;
        return guess - 1;
      }
    }
    return this.idOfOther(p, n);
  }

  private idOfOther(p: u32, n: u32): u32 {
    const number = this.id(p, n) + 1;
    store32(this.entries + (this.previous << 4) + 12, number);
    this.previous = number;
    return number - 1;
  }

  private add(p: u32, n: u32, h: u32): u32 {
    if ((this.count + 2) * 2 > this.slots) this.grow();
    this.keys.putText(p, n);
    this.count += 1;
    const entry = this.entries + (this.count << 4);
    store32(entry, this.keys.size() - n);
    store32(entry + 4, n);
    store32(entry + 8, h);
    store32(entry + 12, 0);
    this.place(this.count, h);
    return this.count - 1;
  }

  private place(number: u32, h: u32): void {
    const mask = this.slots - 1;
    let slot = h & mask;
    for (let probes: u32 = 0; probes < PROBES_MAX; probes++) {
      if (load32(this.table + (slot << 2)) === 0) {
        store32(this.table + (slot << 2), number);
        return;
      }
      slot = (slot + 1) & mask;
    }
  }

  private grow(): void {
    const before = this.slots;
    const entries = alloc(before * 16);
    move(entries, this.entries, (this.count + 1) << 4);
    release(this.entries, before * 8);
    this.entries = entries;
    const table = alloc(before * 8);
    release(this.table, before * 4);
    this.table = table;
    this.slots = before * 2;
    this.placeAll();
  }

  private placeAll(): void {
    zero(this.table, this.slots * 4);
    for (let number: u32 = 1; number <= this.count; number++) {
      this.place(number, load32(this.entries + (number << 4) + 8));
    }
  }

  /**
   * Forgets every key but the first `count`. Taken out in the reverse order of their coming, entries leave
   * the table as it was before them; guesses that point to them are seen through by `idOfNext`.
   */
  cut(count: u32): void {
    const mask = this.slots - 1;
    for (let number = this.count; number > count; number--) {
      let slot = load32(this.entries + (number << 4) + 8) & mask;
      for (let probes: u32 = 0; probes < PROBES_MAX; probes++) {
        if (load32(this.table + (slot << 2)) === number) {
          store32(this.table + (slot << 2), 0);
          break;
        }
        slot = (slot + 1) & mask;
      }
    }
    this.count = count;
    this.previous = 0;
    const last = this.entries + (count << 4);
    this.keys.cut(count === 0 ? 0 : load32(last) + load32(last + 4));
  }

  clear(): void {
    this.kept = 0;
    if (this.count * 8 < this.slots) {
      this.cut(0);
      return;
    }
    zero(this.table, this.slots * 4);
    this.count = 0;
    this.previous = 0;
    this.keys.clear();
  }

  keep(): void {
    this.kept = this.count;
  }

  restore(): void {
    this.cut(this.kept);
  }

  /** The width of an id in a block, as a power of two of bytes. */
  width(): u32 {
    if (this.count <= 256) return 0;
    return this.count <= 65536 ? 1 : 2;
  }
}
