/**
 * One LogRecord of opentelemetry.proto.logs.v1, read: where its fields are. Its attributes go into the block
 * at once.
 */
import { putAttribute } from './attributes.ts';
import { boundAttributes, boundTime } from './bounds.ts';
import { TIME_OUT_OF_RANGE } from './codes.ts';
import { SPAN_ID_SIZE, TRACE_ID_SIZE, isTimeInRange, isValidId } from './ids.ts';
import type { LogBlock } from './log-block.ts';
import { isZero, load8 } from './memory.ts';
import { reject } from './tally.ts';
import { ZERO } from './texts.ts';
import { POS, findLast, fixed32, fixed64, gather, length, readTag, skip, varintWithin } from './wire.ts';

// Tags: field number << 3 | wire type.
const BODY: u32 = 42;
const ATTRIBUTE: u32 = 50;
const TRACE_ID: u32 = 74;
const SPAN_ID: u32 = 82;
const OBSERVED_TIME: u32 = 89;

/** Where the trace id of the record at [start, end) is, if it is sent once and is stored: 0 for none. */
export function guessTraceId(start: u32, end: u32): u32 {
  // Fields are usually sent in the order of their numbers: then the ids and the time of observation, each
  // with a known size or not there, are the end of the record.
  let at = end;
  if (at - start >= 9 && load8(at - 9) === OBSERVED_TIME) at -= 9;
  if (at - start >= 10 && load8(at - 10) === SPAN_ID && load8(at - 9) === SPAN_ID_SIZE) at -= 10;
  const isThere = at - start >= 18 && load8(at - 18) === TRACE_ID && load8(at - 17) === TRACE_ID_SIZE;
  const id = isThere ? at - TRACE_ID_SIZE : findLast(start, end, TRACE_ID, TRACE_ID_SIZE);
  return id === 0 || isZero(id, TRACE_ID_SIZE) ? 0 : id;
}

export class LogRecord {
  /** The address of the time: when it happened, or when it was observed if that isn't known. */
  time: u32 = 0;
  severityNumber: u32 = 0;
  severityText: u32 = 0;
  severityTextLength: u32 = 0;
  body: u32 = 0;
  bodyEnd: u32 = 0;
  flags: u32 = 0;
  traceId: u32 = 0;
  traceIdLength: u32 = 0;
  spanId: u32 = 0;
  spanIdLength: u32 = 0;
  eventName: u32 = 0;
  eventNameLength: u32 = 0;
  private observedTime: u32 = 0;
  private bodyPieces: u32 = 0;

  private begin(): void {
    this.time = ZERO;
    this.severityNumber = 0;
    this.severityTextLength = 0;
    this.body = 0;
    this.bodyEnd = 0;
    this.flags = 0;
    this.traceIdLength = 0;
    this.spanIdLength = 0;
    this.eventNameLength = 0;
    this.observedTime = ZERO;
    this.bodyPieces = 0;
  }

  /** Reads the record at [start, end); refuses it where OTLP does. */
  read(start: u32, end: u32, block: LogBlock): void {
    this.begin();
    let p = start;
    while (p < end) {
      const tag = readTag(p, end);
      p = POS;
      if ((tag & 7) !== 2) {
        p = this.readNumber(tag, p, end);
        continue;
      }
      const n = length(p, end);
      const at = POS;
      p = at + n;
      if (tag === ATTRIBUTE) putAttribute(at, p, block.attributes);
      else this.readText(tag, at, n);
    }
    if (this.bodyPieces > 1) {
      this.body = gather(start, end, BODY);
      this.bodyEnd = POS;
    }
    if (isZero(this.time, 8)) this.time = this.observedTime;
    if (!isTimeInRange(this.time)) reject(TIME_OUT_OF_RANGE);
    boundTime(this.time);
    boundAttributes(block.attributes.addedPairs());
  }

  /** Where the trace id is that will be stored; 0 for none. */
  storedTraceId(): u32 {
    return isValidId(this.traceId, this.traceIdLength, TRACE_ID_SIZE) ? this.traceId : 0;
  }

  private readText(tag: u32, at: u32, n: u32): void {
    switch (tag) {
      case 26:
        this.severityText = at;
        this.severityTextLength = n;
        break;
      case BODY:
        this.body = at;
        this.bodyEnd = at + n;
        this.bodyPieces++;
        break;
      case TRACE_ID:
        this.traceId = at;
        this.traceIdLength = n;
        break;
      case SPAN_ID:
        this.spanId = at;
        this.spanIdLength = n;
        break;
      case 98:
        this.eventName = at;
        this.eventNameLength = n;
        break;
      default:
        break;
    }
  }

  private readNumber(tag: u32, p: u32, end: u32): u32 {
    switch (tag) {
      case 9:
        this.time = fixed64(p, end);
        return POS;
      case 16:
        this.severityNumber = varintWithin(p, end);
        return POS;
      case 69:
        this.flags = fixed32(p, end);
        return POS;
      case OBSERVED_TIME:
        this.observedTime = fixed64(p, end);
        return POS;
      default:
        return skip(p, end, tag);
    }
  }
}
