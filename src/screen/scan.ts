/**
 * One walk over a record, a resource or a scope that finds what limits and rules want to know of it: where
 * the fields are that conditions ask for, whether a value is to be replaced, and which limits it is beyond.
 * The hot path of the screen: no object per record, and what nobody asks for is passed over by its length.
 */
import {
  type ScanBounds,
  TOO_DEEP,
  TOO_FAR_AHEAD,
  TOO_LONG,
  TOO_MANY_ATTRIBUTES,
  TOO_MANY_EVENTS,
  TOO_MANY_LINKS,
  TOO_OLD,
  type TimeWindow,
} from './bounds.ts';
import { type KeyTable, NO_MARKS, markOf } from './keys.ts';
import {
  ARRAY,
  ATTRIBUTE,
  BODY,
  BYTES,
  EVENT,
  EXEMPLAR,
  ITEM,
  KEY,
  KIND,
  LINK,
  LIST,
  LOG,
  NAME,
  OTHER_TIME,
  SEVERITY,
  SEVERITY_TEXT,
  STATUS,
  STATUS_CODE,
  STRING,
  TIME,
  TITLE,
  TRACE_ID,
  VALUE,
  rolesFor,
} from './shapes.ts';
import {
  KEY_AT,
  KEY_END,
  MEMBER,
  MEMBER_AT,
  MEMBER_END,
  VALUE_AT,
  VALUE_END,
  isNumber,
  readAny,
  readPair,
  textStart,
} from './values.ts';
import { POS, UNUSUAL, load32, malformed, readLength, readTag, skip, varint } from './wire.ts';

const TRACE_ID_SIZE = 16;
const NO_BYTES = Buffer.alloc(0);

export class Scan {
  bytes: Buffer = NO_BYTES;
  /** The limits that it is beyond, a bit for each. */
  over = 0;
  /** Whether a key was met whose value a rule replaces. */
  hasRedacted = false;
  /** By slot of the key table: where the AnyValue is, -1 for nowhere. Of equal keys the first counts. */
  readonly slotAt: Int32Array;
  readonly slotEnd: Int32Array;
  nameAt = 0;
  nameEnd = 0;
  kind = 0;
  status = 0;
  severity = 0;
  severityTextAt = 0;
  severityTextEnd = 0;
  bodyAt = -1;
  bodyEnd = -1;
  /** -1 without one of the right size. */
  traceIdAt = -1;
  metricKind = '';
  readonly #bounds: ScanBounds;
  readonly #keys: KeyTable;
  /** Whether attributes of events, links, exemplars and inside of values matter. */
  #looksBelow = false;
  #looksInto = false;
  readonly #redacts: boolean;
  readonly #roles: Uint8Array;
  /** As an integer also where there is no bound: the comparison is a hot one. */
  readonly #valueBytesMax: number;
  #asksKeys = false;
  /** Marks of the keys that are asked for now, and of those that matter below the message's own. */
  #marks = NO_MARKS;
  #marksBelow = NO_MARKS;
  /** How many attributes `#attributes` has read. */
  #run = 0;
  window: TimeWindow | undefined = undefined;
  #timeAt = -1;
  #otherTimeAt = -1;
  #events = 0;
  #links = 0;
  #hasStatus = false;

  /**
   * @param redacts whether values under keys are replaced
   * @param asked the roles that conditions and sampling ask for
   */
  constructor(bounds: ScanBounds, keys: KeyTable, redacts: boolean, asked: ReadonlySet<number>) {
    this.#bounds = bounds;
    this.#keys = keys;
    this.#redacts = redacts;
    this.#roles = rolesFor(asked);
    this.#valueBytesMax = Math.min(bounds.valueBytesMax, 0x7fffffff);
    this.askKeys(true);
    this.slotAt = new Int32Array(keys.slots);
    this.slotEnd = new Int32Array(keys.slots);
  }

  /** Says whether anybody wants to know of keys from now on. */
  askKeys(asks: boolean): void {
    const { judgesNesting, valueBytesMax, attributesMax } = this.#bounds;
    this.#asksKeys = asks;
    this.#marks = asks ? this.#keys.marks : NO_MARKS;
    this.#marksBelow = asks && this.#redacts ? this.#keys.redactedMarks : NO_MARKS;
    this.#looksInto = (asks && this.#redacts) || judgesNesting || valueBytesMax < Infinity;
    this.#looksBelow = this.#looksInto || attributesMax < Infinity;
  }

  /**
   * Reads the message of a shape at [start, end).
   * @throws MALFORMED, UNUSUAL
   */
  read(shape: number, bytes: Buffer, start: number, end: number): void {
    this.bytes = bytes;
    this.over = 0;
    this.hasRedacted = false;
    for (let i = 0; i < this.slotAt.length; i++) this.slotAt[i] = -1;
    this.nameAt = 0;
    this.nameEnd = 0;
    this.kind = 0;
    this.status = 0;
    this.severity = 0;
    this.severityTextAt = 0;
    this.severityTextEnd = 0;
    this.bodyAt = -1;
    this.traceIdAt = -1;
    this.#timeAt = -1;
    this.#otherTimeAt = -1;
    this.#events = 0;
    this.#links = 0;
    this.#hasStatus = false;
    this.#message(shape, start, end, true);
    if (this.#events > this.#bounds.eventsMax) this.over |= TOO_MANY_EVENTS;
    if (this.#links > this.#bounds.linksMax) this.over |= TOO_MANY_LINKS;
    if (this.window !== undefined) this.#judgeTime(this.window, shape);
  }

  // Varints of one and two bytes are read where they stand: calls would cost a third more per record.
  #message(shape: number, start: number, end: number, isTop: boolean): void {
    const bytes = this.bytes;
    const roles = this.#roles;
    const first = shape << 7;
    const asks = this.#looksInto || (isTop && this.#asksKeys);
    let attributes = 0;
    let p = start;
    while (p < end) {
      let tag = bytes[p++] as number;
      if (tag > 127 || tag < 8) {
        const second = bytes[p] as number;
        if (tag > 127 && second < 128 && second > 0) {
          tag = (tag & 127) | (second << 7);
          p++;
        } else {
          tag = readTag(bytes, p - 1, end);
          p = POS;
        }
      }
      const role = tag < 128 ? (roles[first + tag] as number) : 0;
      const wire = tag & 7;
      if (wire !== 2) {
        if (role !== 0) p = this.#number(role, p, end, tag);
        else if (wire === 1) p += 8;
        else if (wire === 0 && (bytes[p] as number) < 128) p++;
        else p = skip(bytes, p, end, tag);
        if (p > end) malformed();
        continue;
      }
      let n = bytes[p++] as number;
      if (n > 127) {
        const second = bytes[p] as number;
        if (second < 128) {
          n = (n & 127) | (second << 7);
          p++;
        } else {
          n = readLength(bytes, p - 1, end);
          p = POS;
        }
      }
      const at = p;
      p += n;
      // NaN where the bytes end before the length.
      if (!(p <= end)) malformed();
      if (role === 0) continue;
      if (role !== ATTRIBUTE) this.#field(role, shape, at, p);
      else if (asks) {
        p = this.#attributes(tag, at, p, end, isTop);
        attributes += this.#run;
      } else attributes++;
    }
    if (attributes > this.#bounds.attributesMax) this.over |= TOO_MANY_ATTRIBUTES;
  }

  /**
   * Reads the attribute at [at, stop) and those that follow it directly. Quickly those in the usual form:
   * key and value, each once, in this order, both shorter than 128 bytes.
   * @returns where they end
   */
  #attributes(tag: number, at: number, stop: number, end: number, isTop: boolean): number {
    const bytes = this.bytes;
    const marks = isTop ? this.#marks : this.#marksBelow;
    const looksInto = this.#looksInto;
    const valueBytesMax = this.#valueBytesMax;
    let run = 0;
    for (;;) {
      run++;
      const keyLength = bytes[at + 1] as number;
      const keyEnd = at + 2 + keyLength;
      const size = bytes[keyEnd + 1] as number;
      const value = keyEnd + 2;
      const areShort = keyLength < 128 && size < 128;
      if (bytes[at] === KEY && value + size === stop && bytes[keyEnd] === VALUE && areShort) {
        if (marks[markOf(keyLength, bytes[keyEnd - 1] as number)] !== 0)
          this.#key(at + 2, keyEnd, value, stop, isTop);
        if (looksInto) {
          // A text and nothing else, or a number: by far the usual values.
          const member = bytes[value];
          if (member === STRING && size === 2 + (bytes[value + 1] as number)) {
            if (size - 2 > valueBytesMax) this.over |= TOO_LONG;
          } else if (!isNumber(bytes, member as number, value + 1, stop)) this.#value(value, stop, 0);
        }
      } else this.#attribute(at, stop, isTop);
      if (stop >= end || bytes[stop] !== tag) break;
      at = stop + 2;
      const n = bytes[stop + 1] as number;
      stop = at + n;
      if (!(n < 128 && stop <= end)) {
        stop = readLength(bytes, at - 1, end);
        at = POS;
        stop += at;
      }
    }
    this.#run = run;
    return stop;
  }

  #field(role: number, shape: number, at: number, end: number): void {
    switch (role) {
      case NAME:
      case TITLE:
        if (shape === EVENT || shape === STATUS) break;
        this.nameAt = at;
        this.nameEnd = end;
        break;
      case BODY:
        if (this.bodyAt >= 0) throw UNUSUAL;
        this.bodyAt = at;
        this.bodyEnd = end;
        if (this.#looksInto) this.#value(at, end, 0);
        break;
      case TRACE_ID:
        this.traceIdAt = end - at === TRACE_ID_SIZE ? at : -1;
        break;
      case EVENT:
        this.#events++;
        if (this.#looksBelow) this.#message(EVENT, at, end, false);
        break;
      case LINK:
        this.#links++;
        if (this.#looksBelow) this.#message(LINK, at, end, false);
        break;
      case EXEMPLAR:
        if (this.#looksBelow) this.#message(EXEMPLAR, at, end, false);
        break;
      case STATUS:
        if (this.#hasStatus) throw UNUSUAL;
        this.#hasStatus = true;
        this.#message(STATUS, at, end, false);
        break;
      case SEVERITY_TEXT:
        this.severityTextAt = at;
        this.severityTextEnd = end;
        break;
    }
  }

  /** Notes what isn't in a length-delimited field. @returns where it ends */
  #number(role: number, p: number, end: number, tag: number): number {
    const next = skip(this.bytes, p, end, tag);
    const wire = tag & 7;
    if (wire === 1) {
      if (role === TIME) this.#timeAt = p;
      else if (role === OTHER_TIME) this.#otherTimeAt = p;
    } else if (wire === 0) {
      const value = varint(this.bytes, p, end) | 0;
      if (role === KIND) this.kind = value;
      else if (role === STATUS_CODE) this.status = value;
      else if (role === SEVERITY) this.severity = value;
    }
    return next;
  }

  #attribute(start: number, end: number, isTop: boolean): void {
    readPair(this.bytes, start, end);
    const value = VALUE_AT;
    const valueEnd = VALUE_END;
    if (this.#asksKeys && (isTop || this.#redacts)) this.#key(KEY_AT, KEY_END, value, valueEnd, isTop);
    if (this.#looksInto) this.#value(value, valueEnd, 0);
  }

  #key(key: number, keyEnd: number, value: number, valueEnd: number, isTop: boolean): void {
    const entry = this.#keys.find(this.bytes, key, keyEnd);
    if (entry === undefined) return;
    if (entry.isRedacted) this.hasRedacted = true;
    const { slot } = entry;
    if (!isTop || slot < 0 || (this.slotAt[slot] as number) >= 0) return;
    this.slotAt[slot] = value;
    this.slotEnd[slot] = valueEnd;
  }

  /** Looks into an AnyValue that `depth` arrays and lists are around. */
  #value(start: number, end: number, depth: number): void {
    const textAt = textStart(this.bytes, start, end);
    if (textAt > 0) {
      if (end - textAt > this.#valueBytesMax) this.over |= TOO_LONG;
      return;
    }
    readAny(this.bytes, start, end);
    const member = MEMBER;
    const at = MEMBER_AT;
    const to = MEMBER_END;
    if (member === STRING || member === BYTES) {
      if (to - at > this.#valueBytesMax) this.over |= TOO_LONG;
      return;
    }
    if (member !== ARRAY && member !== LIST) return;
    if (depth >= this.#bounds.nestingMax) {
      if (this.#bounds.judgesNesting) this.over |= TOO_DEEP;
      return;
    }
    let p = at;
    while (p < to) {
      const tag = readTag(this.bytes, p, to);
      p = POS;
      if (tag !== ITEM) {
        p = skip(this.bytes, p, to, tag);
        continue;
      }
      const n = readLength(this.bytes, p, to);
      p = POS + n;
      if (member === ARRAY) this.#value(p - n, p, depth + 1);
      else {
        readPair(this.bytes, p - n, p);
        const value = VALUE_AT;
        const valueEnd = VALUE_END;
        if (this.#redacts && this.#asksKeys) this.#key(KEY_AT, KEY_END, value, valueEnd, false);
        this.#value(value, valueEnd, depth + 1);
      }
    }
  }

  /** A record's time: that of a log is when it was observed if it isn't known when it happened. */
  #judgeTime(window: TimeWindow, shape: number): void {
    let low = 0;
    let high = 0;
    if (this.#timeAt >= 0) {
      low = load32(this.bytes, this.#timeAt);
      high = load32(this.bytes, this.#timeAt + 4);
    }
    if (shape === LOG && (low | high) === 0 && this.#otherTimeAt >= 0) {
      low = load32(this.bytes, this.#otherTimeAt);
      high = load32(this.bytes, this.#otherTimeAt + 4);
    }
    const { minHigh, minLow, maxHigh, maxLow } = window;
    if (high < minHigh || (high === minHigh && low < minLow)) this.over |= TOO_OLD;
    if (high > maxHigh || (high === maxHigh && low > maxLow)) this.over |= TOO_FAR_AHEAD;
  }
}
