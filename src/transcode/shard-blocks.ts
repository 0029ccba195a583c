/**
 * The open blocks of a signal, one for each table and shard, made when it gets its first row. A request that
 * fails takes back what it has appended to any of them.
 */
import { Bytes } from './bytes.ts';
import { SHARDS_MAX } from './codes.ts';
import { alloc, load32, store32, zero } from './memory.ts';
import { Heads } from './native.ts';
import type { TableBlock } from './table-block.ts';

export class ShardBlocks {
  /** Rows, and about the bytes that `close` would write: of the requests that have ended. */
  rows: u32 = 0;
  bytes: u32 = 0;
  private readonly tableCount: u32;
  private readonly heads: Heads[] = [];
  private readonly made: TableBlock[] = [];
  /** By shard and table: 1 + the block's place in `made`, 4 bytes; 0 where there is none yet. */
  private readonly numbers: u32;
  private shardCount: u32 = 0;
  /** The request at hand, and the places of the blocks that it has appended to, 4 bytes each. */
  private request: u32 = 0;
  private readonly touched: Bytes = new Bytes(1024);
  private keptRows: u32 = 0;
  private keptBytes: u32 = 0;

  constructor(tableCount: u32) {
    this.tableCount = tableCount;
    const size = SHARDS_MAX * tableCount * 4;
    this.numbers = alloc(size);
    zero(this.numbers, size);
    for (let table: u32 = 0; table < tableCount; table++) this.heads.push(new Heads());
  }

  /** The heads of a table's columns, which its blocks share. */
  headsOf(table: u32): Heads {
    return this.heads[table] as Heads;
  }

  // @inline
  private slot(shard: u32, table: u32): u32 {
    return this.numbers + ((shard * this.tableCount + table) << 2);
  }

  // @inline
  has(shard: u32, table: u32): boolean {
    return load32(this.slot(shard, table)) !== 0;
  }

  add(shard: u32, table: u32, block: TableBlock): void {
    this.made.push(block);
    store32(this.slot(shard, table), this.made.length);
    if (shard >= this.shardCount) this.shardCount = shard + 1;
  }

  /** A block that there is, for a row of the request at hand. */
  // @inline
  use(shard: u32, table: u32): TableBlock {
    const place = load32(this.slot(shard, table)) - 1;
    const block = this.at(place);
    if (block.request !== this.request) this.touch(block, place);
    return block;
  }

  // @inline
  private at(place: u32): TableBlock {
    return this.made[place] as TableBlock;
  }

  private touch(block: TableBlock, place: u32): void {
    block.request = this.request;
    if (block.rows !== 0) block.keep();
    this.touched.put32(place);
  }

  beginRequest(): void {
    this.request += 1;
    this.keptRows = this.rows;
    this.keptBytes = this.bytes;
    this.touched.clear();
  }

  endRequest(): void {
    for (let p = this.touched.base; p < this.touched.at; p += 4) {
      const block = this.at(load32(p));
      this.rows += block.addedRows();
      this.bytes += block.addedBytes();
    }
  }

  /** Brings back the blocks as they were before the request, whether it has ended or not. */
  restore(): void {
    for (let p = this.touched.base; p < this.touched.at; p += 4) this.at(load32(p)).restore();
    this.touched.clear();
    this.rows = this.keptRows;
    this.bytes = this.keptBytes;
  }

  /**
   * Writes all blocks that have rows one after another into `out`, by shard and table, and empties them. What
   * each is, CLOSED_BLOCK numbers of 4 bytes in `index` say (entry.ts).
   */
  close(out: Bytes, index: Bytes): void {
    out.need(this.bytes + 4096);
    for (let shard: u32 = 0; shard < this.shardCount; shard++) {
      for (let table: u32 = 0; table < this.tableCount; table++) {
        const number = load32(this.slot(shard, table));
        if (number === 0) continue;
        const block = this.at(number - 1);
        if (block.rows === 0) continue;
        const start = out.size();
        block.writeColumns(out);
        index.put32(shard);
        index.put32(table);
        index.put32(block.rows);
        index.put32(start);
        index.put32(out.size() - start);
      }
    }
    this.clear();
  }

  private clear(): void {
    for (let i: i32 = 0; i < this.made.length; i++) {
      const block = this.at(i);
      // One without rows is empty in all of its columns: what was cancelled or restored left nothing.
      if (block.rows !== 0) block.clear();
    }
    this.rows = 0;
    this.bytes = 0;
  }
}
