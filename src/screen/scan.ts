/**
 * One walk over a record, a resource or a scope that finds what limits and rules want to know of it: where
 * the fields are that conditions ask for, whether a value is to be replaced, and which limits it is beyond.
 * The hot path of the screen: no object per record, and what nobody asks for is passed over by its length.
 */
import { LIMITS, type Limit } from '../model/outcome.ts';
import type { KeyTable } from './keys.ts';
import {
  ARRAY,
  ATTRIBUTE,
  BODY,
  BOOL,
  BYTES,
  DOUBLE,
  EVENT,
  EXEMPLAR,
  INT,
  ITEM,
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
  readAny,
  readPair,
} from './values.ts';
import { POS, UNUSUAL, load32, malformed, readLength, readTag, skip, varint } from './wire.ts';

/** Bounds as numbers: what isn't bounded is Infinity. */
export interface ScanBounds {
  readonly attributesMax: number;
  readonly valueBytesMax: number;
  readonly eventsMax: number;
  readonly linksMax: number;
  readonly nestingMax: number;
  /** Whether deeper nesting counts as beyond; the transcoder refuses it otherwise. */
  readonly judgesNesting: boolean;
}

/** The times that are let in, ns, and the same in halves. */
export interface TimeWindow {
  readonly min: bigint;
  readonly max: bigint;
  readonly minHigh: number;
  readonly minLow: number;
  readonly maxHigh: number;
  readonly maxLow: number;
}

/** The bit of a limit in `over`. */
export function bitOf(limit: Limit): number {
  return 1 << LIMITS.indexOf(limit);
}
const TOO_MANY_ATTRIBUTES = bitOf('attributes');
const TOO_LONG = bitOf('value_bytes');
const TOO_MANY_EVENTS = bitOf('events');
const TOO_MANY_LINKS = bitOf('links');
const TOO_DEEP = bitOf('nesting');
const TOO_OLD = bitOf('time_past');
const TOO_FAR_AHEAD = bitOf('time_future');

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
        tag = readTag(bytes, p - 1, end);
        p = POS;
      }
      const role = tag < 128 ? (roles[first + tag] as number) : 0;
      const wire = tag & 7;
      if (wire !== 2) {
        if (wire === 1) {
          if (role === TIME) this.#timeAt = p;
          else if (role === OTHER_TIME) this.#otherTimeAt = p;
          p += 8;
          if (p > end) malformed();
        } else if (wire === 0) {
          const value = bytes[p] as number;
          if (value < 128 && p < end) {
            p++;
            if (role !== 0) this.#number(role, value);
          } else {
            const long = varint(bytes, p, end) | 0;
            p = POS;
            if (role !== 0) this.#number(role, long);
          }
        } else p = skip(bytes, p, end, tag);
        continue;
      }
      let n = bytes[p] as number;
      if (n < 128 && p + 1 + n <= end) p++;
      else {
        n = readLength(bytes, p, end);
        p = POS;
      }
      const at = p;
      p += n;
      if (role === ATTRIBUTE) {
        attributes++;
        if (asks) this.#attribute(at, p, isTop);
      } else if (role !== 0) this.#field(role, shape, at, p);
    }
    if (attributes > this.#bounds.attributesMax) this.over |= TOO_MANY_ATTRIBUTES;
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

  #number(role: number, value: number): void {
    if (role === KIND) this.kind = value;
    else if (role === STATUS_CODE) this.status = value;
    else if (role === SEVERITY) this.severity = value;
  }

  #attribute(p: number, end: number, isTop: boolean): void {
    const bytes = this.bytes;
    // The usual form, looked at first: key and value, each once, in this order, both shorter than 128 bytes.
    const keyLength = bytes[p + 1] as number;
    let key = p + 2;
    let keyEnd = key + keyLength;
    let value = keyEnd + 2;
    const isUsual =
      bytes[p] === 10 &&
      keyLength < 128 &&
      value <= end &&
      bytes[keyEnd] === 18 &&
      (bytes[keyEnd + 1] as number) < 128 &&
      value + (bytes[keyEnd + 1] as number) === end;
    if (!isUsual) {
      readPair(bytes, p, end);
      key = KEY_AT;
      keyEnd = KEY_END;
      value = VALUE_AT;
      end = VALUE_END;
    }
    if (this.#asksKeys && (isTop || this.#redacts)) {
      const last = bytes[keyEnd - 1] as number;
      if (this.#keys.mayHave(keyEnd - key, last)) this.#key(key, keyEnd, value, end, isTop);
    }
    if (!this.#looksInto) return;
    // A short text and nothing else, or a number: by far the usual values.
    const member = bytes[value] as number;
    const size = end - value;
    if (member === STRING && size < 130 && size === 2 + (bytes[value + 1] as number)) {
      if (size - 2 > this.#valueBytesMax) this.over |= TOO_LONG;
    } else if (!isNumber(bytes, member, value + 1, end)) this.#value(value, end, 0);
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

/** Whether a number of the member fills [start, end). */
function isNumber(bytes: Uint8Array, member: number, start: number, end: number): boolean {
  if (member === DOUBLE) return end - start === 8;
  if ((member !== INT && member !== BOOL) || end <= start || end - start > 10) return false;
  let p = start;
  while (p < end - 1 && (bytes[p] as number) > 127) p++;
  return p === end - 1 && (bytes[p] as number) < 128;
}
