/**
 * Columns whose values stay the same for a run of rows: those of a resource, a scope or a metric. Each value
 * is kept once per run, and repeated when the block is written. A run ends where the next one begins.
 */
import { Bytes, Column } from './bytes.ts';
import { Dictionary } from './dictionary.ts';
import { load32, store64 } from './memory.ts';
import { fillIds, putDictionary, putIds, repeat } from './native.ts';

/** Where the runs of one level begin: the row of each. */
export class Runs extends Column {
  readonly starts: Bytes = new Bytes(1024);

  begin(row: u32): void {
    this.starts.put32(row);
  }

  count(): u32 {
    return this.starts.size() >>> 2;
  }

  override size(): u32 {
    return 0;
  }

  override keep(): void {
    this.starts.keep();
  }

  override restore(): void {
    this.starts.restore();
  }

  override clear(): void {
    this.starts.clear();
  }

  /** How many of the block's `rows` are in a run. */
  length(run: u32, rows: u32): u32 {
    const at = this.starts.base + (run << 2);
    const end = at + 4 < this.starts.at ? load32(at + 4) : rows;
    return end - load32(at);
  }
}

/** String. */
export class TextRuns extends Column {
  readonly texts: Bytes = new Bytes(1024);
  readonly ends: Bytes = new Bytes(1024);

  /** Appends the value of a new run; how many bytes it takes in each row. */
  put(p: u32, n: u32): u32 {
    const before = this.texts.size();
    this.texts.putText(p, n);
    this.ends.put32(this.texts.size());
    return this.texts.size() - before;
  }

  write(out: Bytes, runs: Runs, rows: u32): void {
    putRepeated(out, runs, rows, this.texts, this.ends);
  }

  override size(): u32 {
    return this.texts.size();
  }

  override keep(): void {
    this.texts.keep();
    this.ends.keep();
  }

  override restore(): void {
    this.texts.restore();
    this.ends.restore();
  }

  override clear(): void {
    this.texts.clear();
    this.ends.clear();
  }
}

/** Every run's part of `values` (up to its end in `ends`) as many times as it has rows. */
function putRepeated(out: Bytes, runs: Runs, rows: u32, values: Bytes, ends: Bytes): void {
  let from: u32 = 0;
  for (let run: u32 = 0; run < runs.count(); run++) {
    const end = load32(ends.base + (run << 2));
    const times = runs.length(run, rows);
    if (times !== 0 && end > from) {
      out.need((end - from) * times);
      out.putRaw(values.base + from, end - from);
      repeat(out, end - from, times);
    }
    from = end;
  }
}

/** LowCardinality(String). */
export class LowRuns extends Column {
  readonly dictionary: Dictionary = new Dictionary();
  readonly ids: Bytes = new Bytes(1024);

  put(p: u32, n: u32): u32 {
    this.ids.put32(this.dictionary.id(p, n));
    return 4;
  }

  write(out: Bytes, runs: Runs, rows: u32): void {
    if (rows === 0) return;
    putDictionary(out, this.dictionary, rows);
    const width = this.dictionary.width();
    for (let run: u32 = 0; run < runs.count(); run++) {
      const times = runs.length(run, rows);
      if (times !== 0) fillIds(out, load32(this.ids.base + (run << 2)), times, width);
    }
  }

  override size(): u32 {
    return this.dictionary.keys.size();
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

/** A number of 1 or 4 bytes: UInt8, Bool, UInt32, Int32. */
export class NumberRuns extends Column {
  readonly values: Bytes = new Bytes(1024);
  readonly width: u32;

  /** @param width of a value: 0 for 1 byte, 2 for 4. */
  constructor(width: u32) {
    super();
    this.width = width;
  }

  put(value: u32): u32 {
    this.values.put32(value);
    return 4;
  }

  write(out: Bytes, runs: Runs, rows: u32): void {
    for (let run: u32 = 0; run < runs.count(); run++) {
      const times = runs.length(run, rows);
      if (times !== 0) fillIds(out, load32(this.values.base + (run << 2)), times, this.width);
    }
  }

  override size(): u32 {
    return 0;
  }

  override keep(): void {
    this.values.keep();
  }

  override restore(): void {
    this.values.restore();
  }

  override clear(): void {
    this.values.clear();
  }
}

/** Map(LowCardinality(String), String). */
export class MapRuns extends Column {
  readonly keys: Dictionary = new Dictionary();
  readonly ids: Bytes = new Bytes(1024);
  readonly idEnds: Bytes = new Bytes(1024);
  readonly values: Bytes = new Bytes(1024);
  readonly valueEnds: Bytes = new Bytes(1024);

  putKey(p: u32, n: u32): void {
    this.ids.put32(this.keys.idOfNext(p, n));
  }

  /** Ends the run's pairs: the keys by `putKey`, their values as given. How many bytes a row takes. */
  endRun(values: u32, n: u32): u32 {
    const before = this.lastEnd();
    this.values.putRaw(values, n);
    this.valueEnds.put32(this.values.size());
    this.idEnds.put32(this.ids.size());
    this.keys.previous = 0;
    return 8 + n + this.ids.size() - before;
  }

  private lastEnd(): u32 {
    return this.idEnds.size() === 0 ? 0 : load32(this.idEnds.at - 4);
  }

  write(out: Bytes, runs: Runs, rows: u32): void {
    const pairs = this.writeEnds(out, runs, rows);
    if (pairs === 0) return;
    putDictionary(out, this.keys, pairs);
    const width = this.keys.width();
    let from: u32 = 0;
    for (let run: u32 = 0; run < runs.count(); run++) {
      const end = load32(this.idEnds.base + (run << 2));
      const n = (end - from) >>> 2;
      const times = runs.length(run, rows);
      if (times !== 0 && n !== 0) {
        out.need((n << width) * times);
        putIds(out, this.ids.base + from, n, width);
        repeat(out, n << width, times);
      }
      from = end;
    }
    putRepeated(out, runs, rows, this.values, this.valueEnds);
  }

  /** The offsets of the rows' maps; how many pairs there are in all. */
  private writeEnds(out: Bytes, runs: Runs, rows: u32): u32 {
    out.need(rows << 3);
    let at = out.at;
    let pairs: u32 = 0;
    let from: u32 = 0;
    for (let run: u32 = 0; run < runs.count(); run++) {
      const end = load32(this.idEnds.base + (run << 2));
      const n = (end - from) >>> 2;
      for (let row = runs.length(run, rows); row !== 0; row--) {
        pairs += n;
        store64(at, pairs, 0);
        at += 8;
      }
      from = end;
    }
    out.at = at;
    return pairs;
  }

  override size(): u32 {
    return this.keys.keys.size();
  }

  override keep(): void {
    this.keys.keep();
    this.ids.keep();
    this.idEnds.keep();
    this.values.keep();
    this.valueEnds.keep();
  }

  override restore(): void {
    this.keys.restore();
    this.ids.restore();
    this.idEnds.restore();
    this.values.restore();
    this.valueEnds.restore();
  }

  override clear(): void {
    this.keys.clear();
    this.ids.clear();
    this.idEnds.clear();
    this.values.clear();
    this.valueEnds.clear();
  }
}
