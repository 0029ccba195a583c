/** Log records into otel_logs. */
import { COUNT_LOG_SPAN_ID_DROPPED, COUNT_LOG_TRACE_ID_DROPPED } from './codes.ts';
import { SPAN_ID_SIZE, TRACE_ID_SIZE, isPossibleId, putId } from './ids.ts';
import { LogBlock } from './log-block.ts';
import { LogRecord } from './log-record.ts';
import { SignalBlocks } from './signal-blocks.ts';
import type { TableBlock } from './table-block.ts';
import { count, endRecord } from './tally.ts';
import { putValue } from './value.ts';

const SEVERITY_NUMBER_MAX: u32 = 255;

export class Logs extends SignalBlocks {
  private readonly block: LogBlock = new LogBlock();
  private readonly log: LogRecord = new LogRecord();

  constructor(nestingMax: u32) {
    super(nestingMax, true);
  }

  override tableCount(): u32 {
    return 1;
  }

  override table(_i: u32): TableBlock {
    return this.block;
  }

  /** The block that a record belongs to: chosen before it is read, by what may be looked at ahead of it. */
  private blockOf(_p: u32, _end: u32): LogBlock {
    return this.block;
  }

  protected override readRecord(p: u32, end: u32): void {
    const block = this.blockOf(p, end);
    const log = this.log;
    block.begin();
    log.read(p, end, block);
    putValue(log.body, log.bodyEnd, block.body);
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
