/** Log records into otel_logs. */
import { COUNT_LOG_SPAN_ID_DROPPED, COUNT_LOG_TRACE_ID_DROPPED } from './codes.ts';
import { SPAN_ID_SIZE, TRACE_ID_SIZE, isPossibleId, putId } from './ids.ts';
import { LogBlock } from './log-block.ts';
import { LogRecord, guessTraceId } from './log-record.ts';
import type { Heads } from './native.ts';
import { traceKey } from './shard-key.ts';
import { SignalBlocks } from './signal-blocks.ts';
import type { TableBlock } from './table-block.ts';
import { REJECTION, count, endRecord } from './tally.ts';
import { putValue } from './value.ts';
import { newestCopy, releaseCopies } from './wire.ts';

const SEVERITY_NUMBER_MAX: u32 = 255;

export class Logs extends SignalBlocks {
  private readonly log: LogRecord = new LogRecord();

  constructor(nestingMax: u32) {
    super(1, nestingMax, true);
  }

  protected override newBlock(_table: u32, heads: Heads): TableBlock {
    return new LogBlock(heads);
  }

  protected override readRecord(p: u32, end: u32): void {
    if (this.router.shards === 1) {
      this.end(this.read(0, p, end), p);
      return;
    }
    const id = guessTraceId(p, end);
    this.queue.add(this.shardOf(id), p, end, id);
  }

  /** As for spans: when the guess was wrong, the record is taken back and read again. */
  protected override readRouted(p: u32, end: u32, traceId: u32, shard: u32): void {
    const copy = newestCopy();
    let block = this.read(shard, p, end);
    const id = this.log.storedTraceId();
    if (id !== traceId && REJECTION === 0 && this.shardOf(id) !== shard) {
      block.cancel();
      releaseCopies(copy);
      block = this.read(this.shardOf(id), p, end);
    }
    this.end(block, p);
  }

  /** The shard of a record with this trace id; 0: with none. */
  // @inline
  private shardOf(traceId: u32): u32 {
    return this.router.shardOf(traceId === 0 ? this.resource.key() : traceKey(traceId));
  }

  private read(shard: u32, p: u32, end: u32): LogBlock {
    const block = this.block(shard, 0) as LogBlock;
    this.begin();
    block.begin();
    this.log.read(p, end, block);
    return block;
  }

  private end(block: LogBlock, p: u32): void {
    putValue(this.log.body, this.log.bodyEnd, block.body);
    if (endRecord()) this.store(block, p);
    else block.cancel();
  }

  /**
   * Appends a row, but for the body, which is there. An id of a wrong length is left out and counted
   * (logs.proto).
   */
  private store(block: LogBlock, p: u32): void {
    const log = this.log;
    if (!isPossibleId(log.traceIdLength, TRACE_ID_SIZE)) {
      count(COUNT_LOG_TRACE_ID_DROPPED);
      log.traceIdLength = 0;
    }
    if (!isPossibleId(log.spanIdLength, SPAN_ID_SIZE)) {
      count(COUNT_LOG_SPAN_ID_DROPPED);
      log.spanIdLength = 0;
    }
    block.timestamp.put64(log.time);
    putId(block.traceId, log.traceId, log.traceIdLength);
    putId(block.spanId, log.spanId, log.spanIdLength);
    block.traceFlags.put8(log.flags & 0xff);
    block.severityText.putText(log.severityText, log.severityTextLength);
    block.severityNumber.put8(log.severityNumber > SEVERITY_NUMBER_MAX ? 0 : log.severityNumber);
    block.eventName.putText(log.eventName, log.eventNameLength);
    block.endRecord(this.resource, this.scope, p);
  }
}
