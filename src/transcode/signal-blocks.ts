/**
 * Reads an Export<Signal>ServiceRequest down to its records. The three signals share this shape: request { 1:
 * resource level { 1: resource, 2: scope level { 1: scope, 2: record, 3: schema URL }, 3: schema URL } }.
 * Fields may come in any order, so each level is walked twice: for what holds for all of its records, then
 * for them.
 */
import { Bytes } from './bytes.ts';
import { NESTING_TOO_DEEP } from './codes.ts';
import { beginTexts } from './nested-json.ts';
import { Resource, Scope } from './levels.ts';
import type { TableBlock } from './table-block.ts';
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
  private readonly input: Bytes = new Bytes(65536);
  private readonly out: Bytes = new Bytes(65536);
  /** Something is nested too deep in the resource or the scope: no record of them can be stored. */
  protected unfit: boolean = false;
  private readonly nestingMax: u32;
  private readonly storesScopeAttributes: boolean;

  // What `walkLevel` found.
  private common: u32 = 0;
  private commonEnd: u32 = 0;
  private schemaUrl: u32 = 0;
  private schemaUrlLength: u32 = 0;

  constructor(nestingMax: u32, storesScopeAttributes: boolean) {
    this.nestingMax = nestingMax;
    this.storesScopeAttributes = storesScopeAttributes;
  }

  abstract tableCount(): u32;
  abstract table(i: u32): TableBlock;

  /** Reads the record (a span, a log record, a metric) at [p, end) into its block, or refuses it. */
  protected abstract readRecord(p: u32, end: u32): void;

  /** Where the host has to put a request of `n` bytes: until the next call. */
  inputFor(n: u32): u32 {
    this.input.clear();
    this.input.need(n + INPUT_SLACK);
    return this.input.base;
  }

  /**
   * Appends the request of `n` bytes in the input. When it fails (an exception of the host), call `restore`.
   */
  append(n: u32): void {
    for (let i: u32 = 0; i < this.tableCount(); i++) this.table(i).keep();
    const end = this.input.base + n;
    beginRequest(this.input.base, end);
    beginTexts(this.nestingMax);
    beginCounts();
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
    releaseCopies();
  }

  /** Brings back the blocks as they were before the last `append`. */
  restore(): void {
    for (let i: u32 = 0; i < this.tableCount(); i++) this.table(i).restore();
    releaseCopies();
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
        beginRecord();
        if (this.unfit) reject(NESTING_TOO_DEEP);
        this.readRecord(p - n, p);
      } else {
        p = skip(p, end, tag);
      }
    }
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

  rows(): u32 {
    let sum: u32 = 0;
    for (let i: u32 = 0; i < this.tableCount(); i++) sum += this.table(i).rows;
    return sum;
  }

  bytes(): u32 {
    let sum: u32 = 0;
    for (let i: u32 = 0; i < this.tableCount(); i++) sum += this.table(i).bytes();
    return sum;
  }

  /**
   * Writes all blocks one after another and begins new ones: the address of the first, until the next
   * `close`.
   */
  close(): u32 {
    this.out.clear();
    this.out.need(this.bytes() + 4096);
    for (let i: u32 = 0; i < this.tableCount(); i++) this.table(i).writeTo(this.out);
    for (let i: u32 = 0; i < this.tableCount(); i++) this.table(i).clear();
    return this.out.base;
  }
}
