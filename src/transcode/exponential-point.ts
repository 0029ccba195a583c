/** ExponentialHistogramDataPoint. */
import type { Bytes } from './bytes.ts';
import { store64 } from './memory.ts';
import { Point } from './point.ts';
import type { ExponentialHistogramBlock } from './point-blocks.ts';
import { ZERO } from './texts.ts';
import { HIGH, POS, fixed64, gather, length, readTag, skip, varintWithin } from './wire.ts';

const POSITIVE: u32 = 66;
const NEGATIVE: u32 = 74;

export class ExponentialPoint extends Point {
  private count: u32 = 0;
  private sum: u32 = 0;
  private scale: u32 = 0;
  private zeroCount: u32 = 0;
  private min: u32 = 0;
  private max: u32 = 0;
  private positive: u32 = 0;
  private positiveEnd: u32 = 0;
  private positivePieces: u32 = 0;
  private negative: u32 = 0;
  private negativeEnd: u32 = 0;
  private negativePieces: u32 = 0;

  private beginOwn(): void {
    this.count = ZERO;
    this.sum = ZERO;
    this.scale = 0;
    this.zeroCount = ZERO;
    this.min = ZERO;
    this.max = ZERO;
    this.positive = 0;
    this.positiveEnd = 0;
    this.positivePieces = 0;
    this.negative = 0;
    this.negativeEnd = 0;
    this.negativePieces = 0;
  }

  /** Reads the point at [start, end): true when its row is begun. */
  read(start: u32, end: u32, block: ExponentialHistogramBlock): boolean {
    this.begin();
    this.beginOwn();
    block.begin();
    let p = start;
    while (p < end) {
      const tag = readTag(p, end);
      p = this.readField(tag, POS, end, block);
    }
    if (this.positivePieces > 1) {
      this.positive = gather(start, end, POSITIVE);
      this.positiveEnd = POS;
    }
    if (this.negativePieces > 1) {
      this.negative = gather(start, end, NEGATIVE);
      this.negativeEnd = POS;
    }
    const positiveOffset = readBuckets(this.positive, this.positiveEnd, block.positiveCounts.items);
    const negativeOffset = readBuckets(this.negative, this.negativeEnd, block.negativeCounts.items);
    if (!this.accept(block)) return false;
    block.exemplars.endPoint();
    block.count.put64(this.count);
    block.sum.put64(this.sum);
    block.scale.put32(this.scale);
    block.zeroCount.put64(this.zeroCount);
    block.positiveOffset.put32(positiveOffset);
    block.positiveCounts.endRow();
    block.negativeOffset.put32(negativeOffset);
    block.negativeCounts.endRow();
    block.min.put64(this.min);
    block.max.put64(this.max);
    return true;
  }

  /** Reads a field whose tag ended at `p`; where it ends. */
  private readField(tag: u32, p: u32, end: u32, block: ExponentialHistogramBlock): u32 {
    if ((tag & 7) === 2) return this.readMessage(tag, p, end, block);
    switch (tag) {
      case 33:
        this.count = fixed64(p, end);
        return POS;
      case 41:
        this.sum = fixed64(p, end);
        return POS;
      case 48:
        this.scale = zigzag(varintWithin(p, end));
        return POS;
      case 57:
        this.zeroCount = fixed64(p, end);
        return POS;
      case 80:
        this.flags = varintWithin(p, end);
        return POS;
      case 97:
        this.min = fixed64(p, end);
        return POS;
      case 105:
        this.max = fixed64(p, end);
        return POS;
      default:
        return this.readTime(tag, p, end);
    }
  }

  private readMessage(tag: u32, p: u32, end: u32, block: ExponentialHistogramBlock): u32 {
    if (tag === 10) return this.readAttribute(p, end);
    const n = length(p, end);
    const at = POS;
    if (tag === POSITIVE) {
      this.positive = at;
      this.positiveEnd = at + n;
      this.positivePieces++;
    } else if (tag === NEGATIVE) {
      this.negative = at;
      this.negativeEnd = at + n;
      this.negativePieces++;
    } else if (tag === 90) {
      block.exemplars.read(at, at + n);
    }
    return at + n;
  }
}

/** sint32: the sign is in the lowest bit. */
function zigzag(value: u32): u32 {
  return ((value >>> 1) ^ ((value & 1) === 0 ? 0 : 0xffffffff)) >>> 0;
}

/** Reads Buckets, appends the counts (packed or not); the offset. */
function readBuckets(start: u32, end: u32, counts: Bytes): u32 {
  let offset: u32 = 0;
  let p = start;
  while (p < end) {
    const tag = readTag(p, end);
    p = POS;
    switch (tag) {
      case 8:
        offset = zigzag(varintWithin(p, end));
        p = POS;
        break;
      case 16:
        p = putCount(p, end, counts);
        break;
      case 18: {
        const n = length(p, end);
        const last = POS + n;
        p = POS;
        while (p < last) p = putCount(p, last, counts);
        break;
      }
      default:
        p = skip(p, end, tag);
    }
  }
  return offset;
}

function putCount(p: u32, end: u32, counts: Bytes): u32 {
  const low = varintWithin(p, end);
  counts.need(8);
  store64(counts.at, low, HIGH);
  counts.at += 8;
  return POS;
}
