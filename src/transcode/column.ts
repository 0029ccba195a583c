/**
 * Columns whose values differ from row to row. Plain ones (String, DateTime64, UInt64…) are just Bytes; these
 * are the ones with an inner structure. `keep` and `restore` bring back the state before a request, `begin`
 * and `cancel` the one before a record.
 */
import { Bytes, Column } from './bytes.ts';
import { Dictionary } from './dictionary.ts';
import { equal } from './memory.ts';

/** LowCardinality(String). */
export class LowColumn extends Column {
  readonly dictionary: Dictionary = new Dictionary();
  readonly ids: Bytes = new Bytes(1024);

  putText(p: u32, n: u32): void {
    this.ids.put32(this.dictionary.id(p, n));
  }

  override size(): u32 {
    return this.dictionary.keys.size() + this.ids.size();
  }

  override keep(): void {
    this.dictionary.keep();
    this.ids.keep();
  }

  override restore(): void {
    this.dictionary.restore();
    this.ids.restore();
  }

  override clear(): void {
    this.dictionary.clear();
    this.ids.clear();
  }
}

/** Map(LowCardinality(String), String). */
export class MapColumn extends Column {
  readonly ends: Bytes = new Bytes(1024);
  readonly keys: Dictionary = new Dictionary();
  readonly ids: Bytes = new Bytes(4096);
  readonly values: Bytes = new Bytes(4096);
  private begunEnds: u32 = 0;
  private begunKeys: u32 = 0;
  private begunIds: u32 = 0;
  private begunValues: u32 = 0;

  /** The key of the next pair; its value has to be appended to `values`. */
  // @inline
  putKey(p: u32, n: u32): void {
    this.ids.put32(this.keys.idOfNext(p, n));
  }

  /** How many pairs there are. */
  count(): u32 {
    return this.ids.size() >>> 2;
  }

  /** How many pairs have come since `begin`, and how many rows have ended. */
  addedPairs(): u32 {
    return (this.ids.size() - this.begunIds) >>> 2;
  }

  addedRows(): u32 {
    return (this.ends.size() - this.begunEnds) >>> 3;
  }

  /** Whether the last `n` pairs have the same keys as the `n` before them, which there are. */
  repeatsKeys(n: u32): boolean {
    return equal(this.ids.at - (n << 3), this.ids.at - (n << 2), n << 2);
  }

  endRow(): void {
    this.ends.putCount(this.ids.size() >>> 2);
    this.keys.previous = 0;
  }

  begin(): void {
    this.begunEnds = this.ends.size();
    this.begunKeys = this.keys.count;
    this.begunIds = this.ids.size();
    this.begunValues = this.values.size();
  }

  cancel(): void {
    this.ends.cut(this.begunEnds);
    this.keys.cut(this.begunKeys);
    this.ids.cut(this.begunIds);
    this.values.cut(this.begunValues);
  }

  override size(): u32 {
    return this.ends.size() + this.keys.keys.size() + this.ids.size() + this.values.size();
  }

  override keep(): void {
    this.ends.keep();
    this.keys.keep();
    this.ids.keep();
    this.values.keep();
  }

  override restore(): void {
    this.ends.restore();
    this.keys.restore();
    this.ids.restore();
    this.values.restore();
  }

  override clear(): void {
    this.ends.clear();
    this.keys.clear();
    this.ids.clear();
    this.values.clear();
  }
}

/** Array of numbers with 8 bytes each. */
export class NumbersColumn extends Column {
  readonly ends: Bytes = new Bytes(1024);
  readonly items: Bytes = new Bytes(1024);
  private begunItems: u32 = 0;

  /** How many numbers the current row has so far. */
  count(): u32 {
    return (this.items.size() - this.begunItems) >>> 3;
  }

  endRow(): void {
    this.ends.putCount(this.items.size() >>> 3);
  }

  begin(): void {
    this.begunItems = this.items.size();
  }

  /** Where the current row's numbers begin: until the next one is appended. */
  begun(): u32 {
    return this.items.base + this.begunItems;
  }

  cancel(): void {
    this.items.cut(this.begunItems);
  }

  override size(): u32 {
    return this.ends.size() + this.items.size();
  }

  override keep(): void {
    this.ends.keep();
    this.items.keep();
  }

  override restore(): void {
    this.ends.restore();
    this.items.restore();
  }

  override clear(): void {
    this.ends.clear();
    this.items.clear();
  }
}
