/** What is left of a record, a resource or a scope that is beyond a limit. */
import type { ScanBounds, TimeWindow } from './bounds.ts';
import {
  ARRAY,
  ATTRIBUTE,
  ATTRIBUTE_TAGS,
  BODY,
  BOOL,
  BYTES,
  DROPPED,
  DROPPED_EVENTS,
  DROPPED_EVENTS_TAG,
  DROPPED_LINKS,
  DROPPED_LINKS_TAG,
  DROPPED_TAGS,
  EVENT,
  ITEM,
  KEY,
  LINK,
  LIST,
  LOG,
  OTHER_TIME,
  OTHER_TIME_TAGS,
  ROLES,
  SPAN,
  STRING,
  SUBMESSAGE_MAX,
  TIME,
  TIME_TAGS,
  VALUE,
} from './shapes.ts';
import type { Sink } from './sink.ts';
import {
  KEY_AT,
  KEY_END,
  MEMBER,
  MEMBER_AT,
  MEMBER_END,
  VALUE_AT,
  VALUE_END,
  readAny,
  readPair,
} from './values.ts';
import { POS, loadBigInt, readLength, readTag, skip, varint } from './wire.ts';

const DROPPED_MAX = 0xffffffff;
const TOO_DEEP_TEXT = '[nested too deep]';
/** The attribute of a data point whose own ones are too many (OpenTelemetry's SDK, cardinality limits). */
const OVERFLOW_KEY = Buffer.from('otel.metric.overflow');

/** What of one message has to be counted and put at its end. */
interface Rest {
  attributes: number;
  events: number;
  links: number;
  dropped: number;
  droppedEvents: number;
  droppedLinks: number;
  time: bigint;
  otherTime: bigint | undefined;
}

export class Trimmer {
  readonly #bytes: Buffer;
  readonly #sink: Sink;
  readonly #bounds: ScanBounds;

  constructor(bytes: Buffer, sink: Sink, bounds: ScanBounds) {
    this.#bytes = bytes;
    this.#sink = sink;
    this.#bounds = bounds;
  }

  /**
   * Writes the message of a shape at [start, end) into the sink, within the bounds.
   * @param window its times are moved into this, if given
   * @param overflows its attributes are those of a time series beyond the limit
   * @throws MALFORMED, UNUSUAL
   */
  message(shape: number, start: number, end: number, window?: TimeWindow, overflows = false): void {
    const bytes = this.#bytes;
    const rest: Rest = {
      attributes: 0,
      events: 0,
      links: 0,
      dropped: 0,
      droppedEvents: 0,
      droppedLinks: 0,
      time: 0n,
      otherTime: undefined,
    };
    let p = start;
    while (p < end) {
      const field = p;
      const tag = readTag(bytes, p, end);
      const role = tag < 128 ? (ROLES[(shape << 7) + tag] as number) : 0;
      p = POS;
      if ((tag & 7) !== 2) {
        const next = skip(bytes, p, end, tag);
        if (!this.#noted(rest, role, p, next, window)) this.#sink.raw(bytes, field, next);
        p = next;
        continue;
      }
      const n = readLength(bytes, p, end);
      const at = POS;
      p = at + n;
      if (role === ATTRIBUTE && overflows) continue;
      if (this.#isBeyond(rest, role)) continue;
      this.#field(tag, role, field, at, p);
    }
    this.#end(shape, rest, window, overflows);
  }

  /** Whether the number is written at the end of the message, or not at all. */
  #noted(rest: Rest, role: number, p: number, end: number, window: TimeWindow | undefined): boolean {
    switch (role) {
      case DROPPED:
        rest.dropped = varint(this.#bytes, p, end);
        return true;
      case DROPPED_EVENTS:
        rest.droppedEvents = varint(this.#bytes, p, end);
        return true;
      case DROPPED_LINKS:
        rest.droppedLinks = varint(this.#bytes, p, end);
        return true;
      case TIME:
        rest.time = loadBigInt(this.#bytes, p);
        return window !== undefined;
      case OTHER_TIME:
        rest.otherTime = loadBigInt(this.#bytes, p);
        return window !== undefined;
      default:
        return false;
    }
  }

  #isBeyond(rest: Rest, role: number): boolean {
    const { attributesMax, eventsMax, linksMax } = this.#bounds;
    if (role === ATTRIBUTE) return ++rest.attributes > attributesMax;
    if (role === EVENT) return ++rest.events > eventsMax;
    return role === LINK && ++rest.links > linksMax;
  }

  #field(tag: number, role: number, field: number, at: number, end: number): void {
    if (role === ATTRIBUTE) this.#within(tag, () => this.#pair(at, end, 0));
    else if (role === BODY) this.#within(tag, () => this.#value(at, end, 0));
    else if (role !== 0 && role < SUBMESSAGE_MAX) this.#within(tag, () => this.message(role, at, end));
    else this.#sink.raw(this.#bytes, field, end);
  }

  #within(tag: number, write: () => void): void {
    const content = this.#sink.open(tag);
    write();
    this.#sink.close(content);
  }

  #end(shape: number, rest: Rest, window: TimeWindow | undefined, overflows: boolean): void {
    const { attributesMax, eventsMax, linksMax } = this.#bounds;
    const { attributes, events, links } = rest;
    this.#count(DROPPED_TAGS[shape] as number, rest.dropped, attributes - attributesMax);
    if (shape === SPAN) {
      this.#count(DROPPED_EVENTS_TAG, rest.droppedEvents, events - eventsMax);
      this.#count(DROPPED_LINKS_TAG, rest.droppedLinks, links - linksMax);
    }
    if (window !== undefined) this.#times(shape, rest, window);
    if (!overflows) return;
    this.#within(ATTRIBUTE_TAGS[shape] as number, () => {
      this.#sink.field(KEY, OVERFLOW_KEY, 0, OVERFLOW_KEY.length);
      this.#within(VALUE, () => {
        this.#sink.varint(BOOL);
        this.#sink.varint(1);
      });
    });
  }

  #count(tag: number, before: number, beyond: number): void {
    const count = Math.min(DROPPED_MAX, before + Math.max(0, beyond));
    if (tag === 0 || count === 0) return;
    this.#sink.varint(tag);
    this.#sink.varint(count);
  }

  #times(shape: number, rest: Rest, window: TimeWindow): void {
    const { time, otherTime } = rest;
    const isObserved = shape === LOG && time === 0n;
    const counted = isObserved ? (otherTime ?? 0n) : time;
    const moved = counted < window.min ? window.min : counted > window.max ? window.max : counted;
    // A log record without any time gets one.
    const isOther = isObserved && otherTime !== undefined;
    if (!isOther) this.#time(TIME_TAGS[shape] as number, moved);
    if (otherTime === undefined) return;
    this.#time(
      OTHER_TIME_TAGS[shape] as number,
      isOther ? moved : otherTimeOf(shape, time, otherTime, moved),
    );
  }

  #time(tag: number, time: bigint): void {
    this.#sink.varint(tag);
    this.#sink.fixed64(time);
  }

  #pair(start: number, end: number, depth: number): void {
    readPair(this.#bytes, start, end);
    const [value, valueEnd] = [VALUE_AT, VALUE_END];
    this.#sink.field(KEY, this.#bytes, KEY_AT, KEY_END);
    this.#within(VALUE, () => this.#value(value, valueEnd, depth));
  }

  #value(start: number, end: number, depth: number): void {
    readAny(this.#bytes, start, end);
    const [member, at, to] = [MEMBER, MEMBER_AT, MEMBER_END];
    const { valueBytesMax, nestingMax, judgesNesting } = this.#bounds;
    if (member === STRING) this.#cut(at, to);
    else if (member === BYTES) this.#sink.field(BYTES, this.#bytes, at, Math.min(to, at + valueBytesMax));
    else if ((member !== ARRAY && member !== LIST) || (depth >= nestingMax && !judgesNesting)) {
      this.#sink.raw(this.#bytes, start, end);
    } else if (depth >= nestingMax) this.#sink.text(STRING, TOO_DEEP_TEXT);
    else this.#within(member, () => this.#items(member, at, to, depth + 1));
  }

  #items(member: number, start: number, end: number, depth: number): void {
    let p = start;
    while (p < end) {
      const tag = readTag(this.#bytes, p, end);
      p = POS;
      if (tag !== ITEM) {
        p = skip(this.#bytes, p, end, tag);
        continue;
      }
      const n = readLength(this.#bytes, p, end);
      const at = POS;
      p = at + n;
      if (member === ARRAY) this.#within(ITEM, () => this.#value(at, p, depth));
      else this.#within(ITEM, () => this.#pair(at, p, depth));
    }
  }

  /** Writes a text: what fits of it, whole characters, and a mark that says how many bytes are missing. */
  #cut(at: number, end: number): void {
    const max = this.#bounds.valueBytesMax;
    const room = max - Buffer.byteLength(markOf(end - at));
    if (end - at <= max || room < 0) {
      this.#sink.field(STRING, this.#bytes, at, end - at <= max ? end : this.#characterEnd(at, at + max));
      return;
    }
    const stop = this.#characterEnd(at, at + room);
    const mark = Buffer.from(markOf(end - stop));
    this.#sink.varint(STRING);
    this.#sink.varint(stop - at + mark.length);
    this.#sink.raw(this.#bytes, at, stop);
    this.#sink.raw(mark, 0, mark.length);
  }

  /** The end of the last character of UTF-8 that ends at or before `p`. */
  #characterEnd(at: number, p: number): number {
    for (let stop = p; stop > at && stop > p - 4; stop--) {
      if (((this.#bytes[stop] as number) & 0xc0) !== 0x80) return stop;
    }
    // No UTF-8: any place is as good.
    return p - at < 4 && ((this.#bytes[at] as number) & 0xc0) !== 0x80 ? at : p;
  }
}

function markOf(bytes: number): string {
  return `…[truncated ${bytes} bytes]`;
}

/** Spans keep their duration; points don't begin after their time; logs were observed when they were. */
function otherTimeOf(shape: number, time: bigint, otherTime: bigint, moved: bigint): bigint {
  if (shape === SPAN) return otherTime > time ? moved + (otherTime - time) : moved;
  if (shape === LOG) return otherTime;
  return otherTime > moved ? moved : otherTime;
}
