/** Spans into otel_traces. */
import { putId } from './ids.ts';
import { difference64 } from './memory.ts';
import type { Heads } from './native.ts';
import { traceKey } from './shard-key.ts';
import { SignalBlocks } from './signal-blocks.ts';
import { Span, guessTraceId } from './span.ts';
import type { TableBlock } from './table-block.ts';
import { REJECTION, endRecord } from './tally.ts';
import { TraceBlock } from './trace-block.ts';
import { newestCopy, releaseCopies } from './wire.ts';

const KIND_MAX: u32 = 5;
const STATUS_CODE_MAX: u32 = 2;

export class Traces extends SignalBlocks {
  private readonly span: Span = new Span();

  constructor(nestingMax: u32) {
    super(1, nestingMax, false);
  }

  protected override newBlock(_table: u32, heads: Heads): TableBlock {
    return new TraceBlock(heads);
  }

  protected override readRecord(p: u32, end: u32): void {
    if (this.router.shards === 1) {
      this.end(this.read(0, p, end), p);
      return;
    }
    const id = guessTraceId(p, end);
    this.queue.add(id === 0 ? 0 : this.shardOf(id), p, end, id);
  }

  /**
   * A span's lists go into a block before it is known which of its ids counts (the last one): when the guess
   * was wrong, the span is taken back and read again.
   */
  protected override readRouted(p: u32, end: u32, traceId: u32, shard: u32): void {
    const copy = newestCopy();
    let block = this.read(shard, p, end);
    const id = this.span.traceId;
    if (id !== traceId && REJECTION === 0 && this.shardOf(id) !== shard) {
      block.cancel();
      releaseCopies(copy);
      block = this.read(this.shardOf(id), p, end);
    }
    this.end(block, p);
  }

  // @inline
  private shardOf(traceId: u32): u32 {
    return this.router.shardOf(traceKey(traceId));
  }

  private read(shard: u32, p: u32, end: u32): TraceBlock {
    const block = this.block(shard, 0) as TraceBlock;
    this.begin();
    block.begin();
    this.span.read(p, end, block);
    return block;
  }

  private end(block: TraceBlock, p: u32): void {
    if (endRecord()) this.store(block, p);
    else block.cancel();
  }

  /** Appends a row; values of enums that are newer than this code count as unspecified. */
  private store(block: TraceBlock, p: u32): void {
    const span = this.span;
    block.timestamp.put64(span.startTime);
    putId(block.traceId, span.traceId, span.traceIdLength);
    putId(block.spanId, span.spanId, span.spanIdLength);
    putId(block.parentSpanId, span.parentId, span.parentIdLength);
    block.traceState.putText(span.traceState, span.traceStateLength);
    block.name.putText(span.name, span.nameLength);
    block.kind.put(span.kind > KIND_MAX ? 0 : span.kind);
    block.duration.need(8);
    difference64(block.duration.at, span.endTime, span.startTime);
    block.duration.at += 8;
    block.statusCode.put(span.statusCode > STATUS_CODE_MAX ? 0 : span.statusCode);
    block.statusMessage.putText(span.statusMessage, span.statusMessageLength);
    block.endSpan(this.resource, this.scope, p);
  }
}
