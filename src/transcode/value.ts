/**
 * The text of an AnyValue, as the collector's exporter writes it: strings as they are, `true` and `false`,
 * integers in decimal, doubles in the shortest form that reads back, bytes as standard base64, arrays and
 * key-value lists as JSON (nested-json.ts), an empty value as the empty string.
 */
import {
  BOOL, BYTES, DOUBLE, INT, MEMBER, MEMBER_AT, MEMBER_END, STRING, isTrue, readMember,
} from './any-value.ts';
import { SHORT_END, boundValue } from './bounds.ts';
import { Bytes } from './bytes.ts';
import { TEXT_FALSE, TEXT_TRUE } from './codes.ts';
import { writeBase64, writeNested } from './nested-json.ts';
import { copy, decimalDouble, decimalInt64, load8, store8 } from './memory.ts';
import { textAt, textLength } from './texts.ts';
import { HIGH, POS, varint, varintWithin } from './wire.ts';

/** The JSON text of one value: its length has to be known before it is appended. */
const json = new Bytes(1024);

/** Appends the text of the AnyValue at [p, end) as a String of ClickHouse. */
// @inline
export function putValue(p: u32, end: u32, out: Bytes): void {
  const n: u32 = load8(p + 1);
  if (n < SHORT_END && p + 2 + n === end && load8(p) === STRING) {
    // A short string and nothing else, by far the usual value: its length byte is copied with the text.
    out.need(n + 1);
    copy(out.at, p + 1, n + 1);
    out.at += n + 1;
    return;
  }
  putOther(p, end, out);
}

function putOther(p: u32, end: u32, out: Bytes): void {
  if (p < end && load8(p) === INT) {
    const low = varintWithin(p + 1, end);
    if (POS === end) {
      putInt(low, HIGH, out);
      return;
    }
  }
  readMember(p, end);
  const at = MEMBER_AT;
  const n = MEMBER_END - at;
  switch (MEMBER) {
    case 0:
      out.put8(0);
      break;
    case STRING:
      putBound(at, n, out);
      break;
    case BOOL:
      putWord(isTrue(at) ? TEXT_TRUE : TEXT_FALSE, out);
      break;
    case INT: {
      const low = varint(at);
      putInt(low, HIGH, out);
      break;
    }
    case DOUBLE:
      putDouble(at, out);
      break;
    default:
      json.clear();
      if (MEMBER === BYTES) writeBase64(at, n, json);
      else writeNested(MEMBER, at, MEMBER_END, 1, json);
      putBound(json.base, json.size(), out);
  }
}

function putBound(at: u32, n: u32, out: Bytes): void {
  boundValue(n);
  out.putText(at, n);
}

function putInt(low: u32, high: u32, out: Bytes): void {
  out.need(24);
  const n = decimalInt64(out.at + 1, low, high);
  boundValue(n);
  store8(out.at, n);
  out.at += n + 1;
}

function putDouble(p: u32, out: Bytes): void {
  out.need(32);
  const n = decimalDouble(out.at + 1, p);
  boundValue(n);
  store8(out.at, n);
  out.at += n + 1;
}

function putWord(slot: u32, out: Bytes): void {
  putBound(textAt(slot), textLength(slot), out);
}
