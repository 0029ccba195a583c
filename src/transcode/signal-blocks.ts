/**
 * Reads an Export<Signal>ServiceRequest down to its records. The three signals share this shape: request { 1:
 * resource level { 1: resource, 2: scope level { 1: scope, 2: record, 3: schema URL }, 3: schema URL } }.
 * Fields may come in any order, so each level is walked twice: for what holds for all of its records, then
 * for them.
 */
import { EXCEEDED, beginBounds } from './bounds.ts';
import { Bytes } from './bytes.ts';
import { CLOSED_BLOCK, CLOSED_HEAD, NESTING_TOO_DEEP } from './codes.ts';
import { Resource, Scope } from './levels.ts';
import { store32 } from './memory.ts';
import type { Heads } from './native.ts';
import { beginTexts } from './nested-json.ts';
import { RecordQueue } from './record-queue.ts';
import { ShardBlocks } from './shard-blocks.ts';
import { Router } from './shard-key.ts';
import type { TableBlock } from './table-block.ts';
import { beginRows } from './table-block.ts';
import { beginCounts, beginRecord, reject } from './tally.ts';
import { POS, beginItem, beginRequest, gather, length, readTag, releaseCopies, skip } from './wire.ts';

/** The resource in a resource level, the scope in a scope level; the resource levels in a request. */
const COMMON: u32 = 10;
/** The scope levels in a resource level, the records in a scope level. */
const ITEM: u32 = 18;
const SCHEMA_URL: u32 = 26;

/** The slack that decoders may read behind the end of the input. */
const INPUT_SLACK: u32 = 64;

export abstract class SignalBlocks {
  readonly resource: Resource = new Resource();
  readonly scope: Scope = new Scope();
  readonly router: Router = new Router();
  readonly blocks: ShardBlocks;
  /** 12 bytes for each data point of the request at hand, where series are wanted. */
  readonly series: Bytes = new Bytes(64);
  protected readonly queue: RecordQueue = new RecordQueue();
  private readonly input: Bytes = new Bytes(65536);
  private readonly out: Bytes = new Bytes(65536);
  private readonly index: Bytes = new Bytes(1024);
  /** Something is nested too deep in the resource or the scope: no record of them can be stored. */
  private unfit: boolean = false;
  private readonly nestingMax: u32;
  private readonly storesScopeAttributes: boolean;

  // What `walkLevel` found.
  private common: u32 = 0;
  private commonEnd: u32 = 0;
  private schemaUrl: u32 = 0;
  private schemaUrlLength: u32 = 0;

  constructor(tableCount: u32, nestingMax: u32, storesScopeAttributes: boolean) {
    this.blocks = new ShardBlocks(tableCount);
    this.nestingMax = nestingMax;
    this.storesScopeAttributes = storesScopeAttributes;
  }

  /** A new block for one of the signal's tables. */
  protected abstract newBlock(table: u32, heads: Heads): TableBlock;

  /**
   * Reads the record (a span, a log record, a metric) at [p, end) into its block, or refuses it; or puts it
   * into the queue.
   */
  protected abstract readRecord(p: u32, end: u32): void;

  /** Reads a record of the queue: into the block of this shard, if the id that it was chosen by is right. */
  protected readRouted(_p: u32, _end: u32, _traceId: u32, _shard: u32): void {}

  /** Before what is stored as a row, or refused. */
  protected begin(): void {
    beginRecord();
    if (this.unfit) reject(NESTING_TOO_DEEP);
  }

  /** The block for rows of this request that belong to a shard. */
  // @inline
  protected block(shard: u32, table: u32): TableBlock {
    if (!this.blocks.has(shard, table)) this.addBlock(shard, table);
    return this.blocks.use(shard, table);
  }

  private addBlock(shard: u32, table: u32): void {
    this.blocks.add(shard, table, this.newBlock(table, this.blocks.headsOf(table)));
  }

  /** Where the host has to put a request of `n` bytes: until the next call. */
  inputFor(n: u32): u32 {
    this.input.clear();
    this.input.need(n + INPUT_SLACK);
    return this.input.base;
  }

  /** Where the host has to put the name of whose the requests are from now on: `n` bytes, 0 for nobody's. */
  tenantFor(n: u32): u32 {
    const tenant = this.resource.tenant;
    tenant.clear();
    tenant.need(n);
    tenant.at += n;
    return tenant.base;
  }

  /**
   * Appends the request of `n` bytes in the input; false when it wasn't, since a record exceeds a bound. When
   * it fails (an exception of the host), call `restore`.
   */
  append(n: u32): boolean {
    this.blocks.beginRequest();
    this.series.clear();
    beginBounds();
    const end = this.input.base + n;
    beginRequest(this.input.base, end);
    beginTexts(this.nestingMax);
    beginCounts();
    beginRows();
    let p = this.input.base;
    while (p < end) {
      const tag = readTag(p, end);
      p = POS;
      if (tag === COMMON) {
        const size = length(p, end);
        p = POS + size;
        this.readResourceLevel(p - size, p);
      } else {
        p = skip(p, end, tag);
      }
    }
    if (EXCEEDED) {
      this.restore();
      return false;
    }
    releaseCopies(0);
    this.blocks.endRequest();
    return true;
  }

  /** Brings back the blocks as they were before the last `append`, whether it has failed or not. */
  restore(): void {
    this.blocks.restore();
    this.queue.clear();
    releaseCopies(0);
  }

  private readResourceLevel(start: u32, end: u32): void {
    beginItem(start);
    this.walkLevel(start, end);
    this.resource.schemaUrl = this.schemaUrl;
    this.resource.schemaUrlLength = this.schemaUrlLength;
    this.resource.read(this.common, this.commonEnd);
    let p = start;
    while (p < end) {
      const tag = readTag(p, end);
      p = POS;
      if (tag === ITEM) {
        const n = length(p, end);
        p = POS + n;
        this.readScopeLevel(p - n, p);
      } else {
        p = skip(p, end, tag);
      }
    }
  }

  private readScopeLevel(start: u32, end: u32): void {
    this.walkLevel(start, end);
    this.scope.schemaUrl = this.schemaUrl;
    this.scope.schemaUrlLength = this.schemaUrlLength;
    this.scope.read(this.common, this.commonEnd);
    this.unfit = this.resource.tooDeep || (this.storesScopeAttributes && this.scope.tooDeep);
    let p = start;
    while (p < end) {
      const tag = readTag(p, end);
      p = POS;
      if (tag === ITEM) {
        const n = length(p, end);
        p = POS + n;
        this.readRecord(p - n, p);
      } else {
        p = skip(p, end, tag);
      }
    }
    if (this.queue.count() !== 0) this.readQueue();
  }

  /** What of the scope's records waits for its shard's turn. */
  private readQueue(): void {
    const queue = this.queue;
    for (let i: u32 = 0; i < queue.count(); i++) {
      const shard = queue.shard(i);
      for (let entry = queue.first(shard); entry !== 0; entry = queue.next(entry)) {
        this.readRouted(queue.record(entry), queue.recordEnd(entry), queue.traceId(entry), shard);
      }
    }
    queue.clear();
  }

  /** Finds what a level has beside its items. */
  private walkLevel(start: u32, end: u32): void {
    let common = start;
    let commonEnd = start;
    let pieces: u32 = 0;
    this.schemaUrlLength = 0;
    let p = start;
    while (p < end) {
      const tag = readTag(p, end);
      p = POS;
      if (tag === ITEM) {
        const n = length(p, end);
        p = POS + n;
      } else if (tag === COMMON) {
        const n = length(p, end);
        common = POS;
        commonEnd = common + n;
        p = commonEnd;
        pieces++;
      } else if (tag === SCHEMA_URL) {
        this.schemaUrlLength = length(p, end);
        this.schemaUrl = POS;
        p = this.schemaUrl + this.schemaUrlLength;
      } else {
        p = skip(p, end, tag);
      }
    }
    if (pieces > 1) {
      common = gather(start, end, COMMON);
      commonEnd = POS;
    }
    this.common = common;
    this.commonEnd = commonEnd;
  }

  /**
   * Writes all blocks one after another and begins new ones. The address of what tells about them, until the
   * next call: `close` in entry.ts.
   */
  close(): u32 {
    this.out.clear();
    this.index.clear();
    this.index.put32(0);
    this.index.put32(0);
    this.blocks.close(this.out, this.index);
    store32(this.index.base, this.out.base);
    store32(this.index.base + 4, (this.index.size() / 4 - CLOSED_HEAD) / CLOSED_BLOCK);
    return this.index.base;
  }
}
