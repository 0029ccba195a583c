/** Spans into otel_traces. */
import { putId } from './ids.ts';
import { difference64 } from './memory.ts';
import { SignalBlocks } from './signal-blocks.ts';
import { Span } from './span.ts';
import type { TableBlock } from './table-block.ts';
import { endRecord } from './tally.ts';
import { TraceBlock } from './trace-block.ts';

const KIND_MAX: u32 = 5;
const STATUS_CODE_MAX: u32 = 2;

export class Traces extends SignalBlocks {
  private readonly block: TraceBlock = new TraceBlock();
  private readonly span: Span = new Span();

  constructor(nestingMax: u32) {
    super(nestingMax, false);
  }

  override tableCount(): u32 {
    return 1;
  }

  override table(_i: u32): TableBlock {
    return this.block;
  }

  /** The block that a span belongs to: chosen before it is read, by what may be looked at ahead of it. */
  private blockOf(_p: u32, _end: u32): TraceBlock {
    return this.block;
  }

  protected override readRecord(p: u32, end: u32): void {
    const block = this.blockOf(p, end);
    block.begin();
    this.span.read(p, end, block);
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
