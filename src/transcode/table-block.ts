/** What the open blocks of all tables have in common. */
import { EXCEEDED } from './bounds.ts';
import type { Bytes, Column } from './bytes.ts';
import { BOUND_EXCEEDED, ROWS_TOO_LARGE } from './codes.ts';
import type { LowColumn, MapColumn } from './column.ts';
import type { Heads } from './native.ts';
import { putAll, putLow, putMap } from './native.ts';
import { malformed } from './wire.ts';

/**
 * What is sent once for many records is stored once per row: by how many bytes one request may make the
 * blocks grow in this way. 32 MiB of resource and a million records of two bytes each would else fill any
 * memory.
 */
const REPEATED_BYTES_MAX: u32 = 1 << 29;

/**
 * The block of each shard has a copy of the resources and scopes of its rows: how many bytes of them one
 * request may bring into all blocks.
 */
const COPIED_BYTES_MAX: u32 = 1 << 28;

/** What the request at hand takes of these so far, in all blocks. */
let repeatedByRequest: u32 = 0;
let copiedByRequest: u32 = 0;

export function beginRows(): void {
  repeatedByRequest = 0;
  copiedByRequest = 0;
}

/** Within the bounds the rows may not be too large: what was exceeded so far is known then. */
function tooLarge(p: u32): void {
  malformed(EXCEEDED ? BOUND_EXCEEDED : ROWS_TOO_LARGE, p);
}

export abstract class TableBlock {
  rows: u32 = 0;
  /** The last request that appended to the block (ShardBlocks). */
  request: u32 = 0;
  protected readonly heads: Heads;
  private readonly columns: Column[] = [];
  /** Bytes of the rows so far that columns keep once per run. */
  private repeated: u32 = 0;
  private keptRows: u32 = 0;
  private keptRepeated: u32 = 0;
  private countedBytes: u32 = 0;
  private keptCountedBytes: u32 = 0;

  constructor(heads: Heads) {
    this.heads = heads;
  }

  /** Columns that are known here are kept, restored, cleared and counted together. */
  protected own(column: Column): void {
    this.columns.push(column);
  }

  private column(i: i32): Column {
    return this.columns[i] as Column;
  }

  /** Ends a row; `repeated` is what it takes in the columns that are kept once per run. */
  protected addRow(repeated: u32, record: u32): void {
    this.rows += 1;
    this.repeated += repeated;
    repeatedByRequest += repeated;
    if (repeatedByRequest > REPEATED_BYTES_MAX) tooLarge(record);
  }

  /** Begins a run that takes so many bytes, which are given back. */
  protected addRun(bytes: u32): u32 {
    copiedByRequest += bytes;
    if (copiedByRequest > COPIED_BYTES_MAX) tooLarge(0);
    return bytes;
  }

  keep(): void {
    this.keptRows = this.rows;
    this.keptRepeated = this.repeated;
    this.keptCountedBytes = this.countedBytes;
    for (let i: i32 = 0; i < this.columns.length; i++) this.column(i).keep();
  }

  restore(): void {
    this.rows = this.keptRows;
    this.repeated = this.keptRepeated;
    this.countedBytes = this.keptCountedBytes;
    for (let i: i32 = 0; i < this.columns.length; i++) this.column(i).restore();
    this.leaveLevels();
  }

  clear(): void {
    this.rows = 0;
    this.repeated = 0;
    this.keptRows = 0;
    this.keptRepeated = 0;
    this.countedBytes = 0;
    this.keptCountedBytes = 0;
    for (let i: i32 = 0; i < this.columns.length; i++) this.column(i).clear();
    this.leaveLevels();
  }

  /** Forgets which resource and scope were entered last: their runs are gone. */
  protected abstract leaveLevels(): void;

  /** Rows since the last `keep`. */
  addedRows(): u32 {
    return this.rows - this.keptRows;
  }

  /** About by how many bytes the block has grown since this was asked last. */
  addedBytes(): u32 {
    const before = this.countedBytes;
    let sum: u32 = this.repeated + (this.rows === 0 ? 0 : this.heads.area.size());
    for (let i: i32 = 0; i < this.columns.length; i++) sum += this.column(i).size();
    this.countedBytes = sum;
    return sum - before;
  }

  /** Appends the block to `out`: the columns in the order of COLUMNS in tables.ts. */
  abstract writeColumns(out: Bytes): void;

  protected putPlain(out: Bytes, column: Bytes): void {
    this.heads.put(out);
    putAll(out, column);
  }

  protected putLowCardinality(out: Bytes, column: LowColumn): void {
    this.heads.put(out);
    putLow(out, column);
  }

  protected putMaps(out: Bytes, column: MapColumn): void {
    this.heads.put(out);
    putMap(out, column);
  }

  /** Arrays whose items stand in a column of their own. */
  protected putPlainArrays(out: Bytes, ends: Bytes, items: Bytes): void {
    this.putPlain(out, ends);
    putAll(out, items);
  }
}
