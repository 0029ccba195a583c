/** The exemplars of data points: their columns, and how one is read. */
import { putAttribute } from './attributes.ts';
import { boundAttributes } from './bounds.ts';
import { Bytes, Column } from './bytes.ts';
import { TIME_OUT_OF_RANGE } from './codes.ts';
import { MapColumn } from './column.ts';
import { isTimeInRange, putId } from './ids.ts';
import { doubleOfInt64, load32, storeDouble } from './memory.ts';
import type { Heads } from './native.ts';
import { putAll, putMap } from './native.ts';
import { reject } from './tally.ts';
import { ZERO } from './texts.ts';
import { POS, fixed64, length, readTag, skip } from './wire.ts';

/** Appends the number of a point or exemplar: the double, or the sfixed64 as the double nearest to it. */
export function putNumber(out: Bytes, at: u32, isInteger: boolean): void {
  if (!isInteger) {
    out.put64(at);
    return;
  }
  out.need(8);
  storeDouble(out.at, doubleOfInt64(load32(at), load32(at + 4)));
  out.at += 8;
}

export class ExemplarColumns extends Column {
  private readonly ends: Bytes = new Bytes(1024);
  private readonly attributes: MapColumn = new MapColumn();
  private readonly time: Bytes = new Bytes(1024);
  private readonly value: Bytes = new Bytes(1024);
  private readonly spanId: Bytes = new Bytes(1024);
  private readonly traceId: Bytes = new Bytes(1024);
  private begunSpanIds: u32 = 0;
  private begunTraceIds: u32 = 0;

  begin(): void {
    this.attributes.begin();
    this.begunSpanIds = this.spanId.size();
    this.begunTraceIds = this.traceId.size();
  }

  cancel(): void {
    this.attributes.cancel();
    const count = this.attributes.ends.size() >>> 3;
    this.time.cut(count << 3);
    this.value.cut(count << 3);
    this.spanId.cut(this.begunSpanIds);
    this.traceId.cut(this.begunTraceIds);
  }

  endPoint(): void {
    this.ends.putCount(this.attributes.ends.size() >>> 3);
  }

  /** Reads the Exemplar at [start, end). */
  read(start: u32, end: u32): void {
    const pairsBefore = this.attributes.count();
    let time = ZERO;
    let value = ZERO;
    let isInteger = false;
    let spanId = start;
    let spanIdLength: u32 = 0;
    let traceId = start;
    let traceIdLength: u32 = 0;
    let p = start;
    while (p < end) {
      const tag = readTag(p, end);
      p = POS;
      switch (tag) {
        case 17:
          time = fixed64(p, end);
          p = POS;
          break;
        case 25:
        case 49:
          value = fixed64(p, end);
          isInteger = tag === 49;
          p = POS;
          break;
        case 34:
          spanIdLength = length(p, end);
          spanId = POS;
          p = spanId + spanIdLength;
          break;
        case 42:
          traceIdLength = length(p, end);
          traceId = POS;
          p = traceId + traceIdLength;
          break;
        case 58: {
          const n = length(p, end);
          p = POS + n;
          putAttribute(p - n, p, this.attributes);
          break;
        }
        default:
          p = skip(p, end, tag);
      }
    }
    if (!isTimeInRange(time)) reject(TIME_OUT_OF_RANGE);
    boundAttributes(this.attributes.count() - pairsBefore);
    this.attributes.endRow();
    this.time.put64(time);
    putNumber(this.value, value, isInteger);
    putId(this.spanId, spanId, spanIdLength);
    putId(this.traceId, traceId, traceIdLength);
  }

  write(out: Bytes, heads: Heads): void {
    this.writeEnds(out, heads);
    putMap(out, this.attributes);
    this.writeEnds(out, heads);
    putAll(out, this.time);
    this.writeEnds(out, heads);
    putAll(out, this.value);
    this.writeEnds(out, heads);
    putAll(out, this.spanId);
    this.writeEnds(out, heads);
    putAll(out, this.traceId);
  }

  private writeEnds(out: Bytes, heads: Heads): void {
    heads.put(out);
    putAll(out, this.ends);
  }

  override size(): u32 {
    return this.ends.size() * 5 + this.attributes.size() + this.time.size() + this.value.size()
      + this.spanId.size() + this.traceId.size();
  }

  override keep(): void {
    this.ends.keep();
    this.attributes.keep();
    this.time.keep();
    this.value.keep();
    this.spanId.keep();
    this.traceId.keep();
  }

  override restore(): void {
    this.ends.restore();
    this.attributes.restore();
    this.time.restore();
    this.value.restore();
    this.spanId.restore();
    this.traceId.restore();
  }

  override clear(): void {
    this.ends.clear();
    this.attributes.clear();
    this.time.clear();
    this.value.clear();
    this.spanId.clear();
    this.traceId.clear();
  }
}
