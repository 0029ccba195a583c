/**
 * One LogRecord of opentelemetry.proto.logs.v1, read: where its fields are. Its attributes go into the block
 * at once.
 */
import { putAttribute } from './attributes.ts';
import { TIME_OUT_OF_RANGE } from './codes.ts';
import { isTimeInRange } from './ids.ts';
import type { LogBlock } from './log-block.ts';
import { isZero } from './memory.ts';
import { reject } from './tally.ts';
import { ZERO } from './texts.ts';
import { POS, fixed32, fixed64, gather, length, readTag, skip, varintWithin } from './wire.ts';

// Tags: field number << 3 | wire type.
const BODY: u32 = 42;
const ATTRIBUTE: u32 = 50;

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
      case 74:
        this.traceId = at;
        this.traceIdLength = n;
        break;
      case 82:
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
      case 89:
        this.observedTime = fixed64(p, end);
        return POS;
      default:
        return skip(p, end, tag);
    }
  }
}
