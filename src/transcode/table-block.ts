/** What the open blocks of all tables have in common. */
import type { Bytes, Column } from './bytes.ts';
import { ROWS_TOO_LARGE } from './codes.ts';
import type { LowColumn, MapColumn } from './column.ts';
import { Heads, putAll, putLow, putMap } from './native.ts';
import { malformed } from './wire.ts';

/**
 * What is sent once for many records is stored once per row: by how many bytes one request may make a block
 * grow in this way. 32 MiB of resource and a million records of two bytes each would else fill any memory.
 */
const REPEATED_BYTES_MAX: u32 = 1 << 29;

export abstract class TableBlock {
  readonly heads: Heads = new Heads();
  rows: u32 = 0;
  /** Where `writeTo` put the block, as a part of the output, and how many rows it had. */
  writtenAt: u32 = 0;
  writtenBytes: u32 = 0;
  writtenRows: u32 = 0;
  private readonly columns: Column[] = [];
  /** Bytes of the rows so far that columns keep once per run. */
  private repeated: u32 = 0;
  private keptRows: u32 = 0;
  private keptRepeated: u32 = 0;

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
    if (this.repeated - this.keptRepeated > REPEATED_BYTES_MAX) malformed(ROWS_TOO_LARGE, record);
  }

  keep(): void {
    this.keptRows = this.rows;
    this.keptRepeated = this.repeated;
    for (let i: i32 = 0; i < this.columns.length; i++) this.column(i).keep();
  }

  restore(): void {
    this.rows = this.keptRows;
    this.repeated = this.keptRepeated;
    for (let i: i32 = 0; i < this.columns.length; i++) this.column(i).restore();
    this.leaveLevels();
  }

  clear(): void {
    this.rows = 0;
    this.repeated = 0;
    for (let i: i32 = 0; i < this.columns.length; i++) this.column(i).clear();
    this.leaveLevels();
  }

  /** Forgets which resource and scope were entered last: their runs are gone. */
  protected abstract leaveLevels(): void;

  bytes(): u32 {
    let sum: u32 = this.repeated + (this.rows === 0 ? 0 : this.heads.area.size());
    for (let i: i32 = 0; i < this.columns.length; i++) sum += this.column(i).size();
    return sum;
  }

  /** Appends the block to `out`. */
  writeTo(out: Bytes): void {
    this.writtenAt = out.size();
    this.writtenRows = this.rows;
    if (this.rows !== 0) this.writeColumns(out);
    this.writtenBytes = out.size() - this.writtenAt;
  }

  /** Appends the columns in the order of COLUMNS in tables.ts. */
  protected abstract writeColumns(out: Bytes): void;

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
