/**
 * One Span of opentelemetry.proto.trace.v1, read: where its fields are. Its lists go into the block at once.
 */
import { putAttribute } from './attributes.ts';
import { EVENTS_MAX, LINKS_MAX, boundAttributes, boundEnd, boundTime, exceed } from './bounds.ts';
import {
  LINK_ID_INVALID, PARENT_SPAN_ID_INVALID, SPAN_ID_INVALID, TIME_OUT_OF_RANGE, TRACE_ID_INVALID,
} from './codes.ts';
import { SPAN_ID_SIZE, TRACE_ID_SIZE, isPossibleId, isTimeInRange, isValidId, putId } from './ids.ts';
import { load8 } from './memory.ts';
import { reject } from './tally.ts';
import { ZERO } from './texts.ts';
import type { EventColumns, LinkColumns, TraceBlock } from './trace-block.ts';
import { POS, findLast, fixed64, gather, length, readTag, skip, varintWithin } from './wire.ts';

// Tags: field number << 3 | wire type.
const TRACE_ID: u32 = 10;
const ATTRIBUTE: u32 = 74;
const EVENT: u32 = 90;
const LINK: u32 = 106;
const STATUS: u32 = 122;

/** Where the trace id of the span at [p, end) is, if it is sent once: 0 for nowhere. */
export function guessTraceId(p: u32, end: u32): u32 {
  // Nearly everybody sends it first.
  if (load8(p) === TRACE_ID && load8(p + 1) === TRACE_ID_SIZE && end - p > TRACE_ID_SIZE + 1) return p + 2;
  return findLast(p, end, TRACE_ID, TRACE_ID_SIZE);
}

export class Span {
  traceId: u32 = 0;
  traceIdLength: u32 = 0;
  spanId: u32 = 0;
  spanIdLength: u32 = 0;
  parentId: u32 = 0;
  parentIdLength: u32 = 0;
  traceState: u32 = 0;
  traceStateLength: u32 = 0;
  name: u32 = 0;
  nameLength: u32 = 0;
  kind: u32 = 0;
  /** Addresses of the times. */
  startTime: u32 = 0;
  endTime: u32 = 0;
  statusCode: u32 = 0;
  statusMessage: u32 = 0;
  statusMessageLength: u32 = 0;
  private status: u32 = 0;
  private statusEnd: u32 = 0;
  private statusPieces: u32 = 0;

  private begin(): void {
    this.traceIdLength = 0;
    this.spanIdLength = 0;
    this.parentIdLength = 0;
    this.traceStateLength = 0;
    this.nameLength = 0;
    this.kind = 0;
    this.startTime = ZERO;
    this.endTime = ZERO;
    this.statusCode = 0;
    this.statusMessageLength = 0;
    this.status = 0;
    this.statusEnd = 0;
    this.statusPieces = 0;
  }

  /** Reads the span at [start, end); refuses it where OTLP does. */
  read(start: u32, end: u32, block: TraceBlock): void {
    this.begin();
    let p = start;
    while (p < end) {
      const tag = readTag(p, end);
      p = POS;
      if (tag === ATTRIBUTE) {
        const n = length(p, end);
        p = POS + n;
        putAttribute(p - n, p, block.attributes);
      } else {
        p = this.readField(tag, p, end, block);
      }
    }
    if (this.statusPieces > 1) {
      this.status = gather(start, end, STATUS);
      this.statusEnd = POS;
    }
    this.readStatus(this.status, this.statusEnd);
    this.check();
    this.bound(block);
  }

  private bound(block: TraceBlock): void {
    boundAttributes(block.attributes.addedPairs());
    if (block.events.attributes.addedRows() > EVENTS_MAX) exceed();
    if (block.links.attributes.addedRows() > LINKS_MAX) exceed();
    boundTime(this.startTime);
    boundEnd(this.endTime);
  }

  /** Reads a field whose tag ended at `p`; where the field ends. */
  private readField(tag: u32, p: u32, end: u32, block: TraceBlock): u32 {
    if ((tag & 7) !== 2) return this.readNumber(tag, p, end);
    const n = length(p, end);
    const at = POS;
    switch (tag) {
      case TRACE_ID:
        this.traceId = at;
        this.traceIdLength = n;
        break;
      case 18:
        this.spanId = at;
        this.spanIdLength = n;
        break;
      case 26:
        this.traceState = at;
        this.traceStateLength = n;
        break;
      case 34:
        this.parentId = at;
        this.parentIdLength = n;
        break;
      case 42:
        this.name = at;
        this.nameLength = n;
        break;
      case EVENT:
        readEvent(at, at + n, block.events);
        break;
      case LINK:
        readLink(at, at + n, block.links);
        break;
      case STATUS:
        this.status = at;
        this.statusEnd = at + n;
        this.statusPieces++;
        break;
      default:
        break;
    }
    return at + n;
  }

  private readNumber(tag: u32, p: u32, end: u32): u32 {
    switch (tag) {
      case 48:
        this.kind = varintWithin(p, end);
        return POS;
      case 57:
        this.startTime = fixed64(p, end);
        return POS;
      case 65:
        this.endTime = fixed64(p, end);
        return POS;
      default:
        return skip(p, end, tag);
    }
  }

  private readStatus(start: u32, end: u32): void {
    let p = start;
    while (p < end) {
      const tag = readTag(p, end);
      p = POS;
      if (tag === 18) {
        this.statusMessageLength = length(p, end);
        this.statusMessage = POS;
        p = POS + this.statusMessageLength;
      } else if (tag === 24) {
        this.statusCode = varintWithin(p, end);
        p = POS;
      } else {
        p = skip(p, end, tag);
      }
    }
  }

  private check(): void {
    if (!isValidId(this.traceId, this.traceIdLength, TRACE_ID_SIZE)) reject(TRACE_ID_INVALID);
    if (!isValidId(this.spanId, this.spanIdLength, SPAN_ID_SIZE)) reject(SPAN_ID_INVALID);
    if (!isPossibleId(this.parentIdLength, SPAN_ID_SIZE)) reject(PARENT_SPAN_ID_INVALID);
    if (!isTimeInRange(this.startTime)) reject(TIME_OUT_OF_RANGE);
  }
}

function readEvent(start: u32, end: u32, events: EventColumns): void {
  const pairsBefore = events.attributes.count();
  let time = ZERO;
  let name = start;
  let nameLength: u32 = 0;
  let p = start;
  while (p < end) {
    const tag = readTag(p, end);
    p = POS;
    switch (tag) {
      case 9:
        time = fixed64(p, end);
        p = POS;
        break;
      case 18:
        nameLength = length(p, end);
        name = POS;
        p = name + nameLength;
        break;
      case 26: {
        const n = length(p, end);
        p = POS + n;
        putAttribute(p - n, p, events.attributes);
        break;
      }
      default:
        p = skip(p, end, tag);
    }
  }
  if (!isTimeInRange(time)) reject(TIME_OUT_OF_RANGE);
  events.time.put64(time);
  events.name.putText(name, nameLength);
  boundAttributes(events.attributes.count() - pairsBefore);
  events.attributes.endRow();
}

function readLink(start: u32, end: u32, links: LinkColumns): void {
  const pairsBefore = links.attributes.count();
  let traceId = start;
  let traceIdLength: u32 = 0;
  let spanId = start;
  let spanIdLength: u32 = 0;
  let traceState = start;
  let traceStateLength: u32 = 0;
  let p = start;
  while (p < end) {
    const tag = readTag(p, end);
    p = POS;
    if ((tag & 7) !== 2) {
      p = skip(p, end, tag);
      continue;
    }
    const n = length(p, end);
    const at = POS;
    p = at + n;
    switch (tag) {
      case 10:
        traceId = at;
        traceIdLength = n;
        break;
      case 18:
        spanId = at;
        spanIdLength = n;
        break;
      case 26:
        traceState = at;
        traceStateLength = n;
        break;
      case 34:
        putAttribute(at, p, links.attributes);
        break;
      default:
        break;
    }
  }
  const possible = isPossibleId(traceIdLength, TRACE_ID_SIZE) && isPossibleId(spanIdLength, SPAN_ID_SIZE);
  if (!possible) {
    reject(LINK_ID_INVALID);
    traceIdLength = 0;
    spanIdLength = 0;
  }
  putId(links.traceId, traceId, traceIdLength);
  putId(links.spanId, spanId, spanIdLength);
  links.traceState.putText(traceState, traceStateLength);
  boundAttributes(links.attributes.count() - pairsBefore);
  links.attributes.endRow();
}
