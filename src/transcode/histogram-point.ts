/** HistogramDataPoint. */
import { HISTOGRAM_BOUNDS_UNSORTED, HISTOGRAM_BUCKETS_MISMATCH } from './codes.ts';
import type { NumbersColumn } from './column.ts';
import { loadDouble } from './memory.ts';
import { Point } from './point.ts';
import type { HistogramBlock } from './point-blocks.ts';
import { reject } from './tally.ts';
import { ZERO } from './texts.ts';
import { POS, fixed64, length, putFixed64s, readTag, varintWithin } from './wire.ts';

export class HistogramPoint extends Point {
  private count: u32 = 0;
  private sum: u32 = 0;
  private min: u32 = 0;
  private max: u32 = 0;

  /**
   * Reads the point at [start, end): true when its row is begun. Sum, min and max are 0 where they aren't
   * sent.
   */
  read(start: u32, end: u32, block: HistogramBlock): boolean {
    this.begin();
    this.count = ZERO;
    this.sum = ZERO;
    this.min = ZERO;
    this.max = ZERO;
    block.begin();
    let p = start;
    while (p < end) {
      const tag = readTag(p, end);
      p = this.readField(tag, POS, end, block);
    }
    checkBuckets(block.bucketCounts.count(), block.bounds);
    if (!this.accept(block)) return false;
    block.exemplars.endPoint();
    block.count.put64(this.count);
    block.sum.put64(this.sum);
    block.bucketCounts.endRow();
    block.bounds.endRow();
    block.min.put64(this.min);
    block.max.put64(this.max);
    return true;
  }

  /** Reads a field whose tag ended at `p`; where it ends. Repeated numbers come packed or one by one. */
  private readField(tag: u32, p: u32, end: u32, block: HistogramBlock): u32 {
    switch (tag) {
      case 33:
        this.count = fixed64(p, end);
        return POS;
      case 41:
        this.sum = fixed64(p, end);
        return POS;
      case 49:
      case 50:
        putFixed64s(p, end, tag === 50, block.bucketCounts.items);
        return POS;
      case 57:
      case 58:
        putFixed64s(p, end, tag === 58, block.bounds.items);
        return POS;
      case 66: {
        const n = length(p, end);
        const next = POS + n;
        block.exemplars.read(next - n, next);
        return next;
      }
      case 74:
        return this.readAttribute(p, end);
      case 80:
        this.flags = varintWithin(p, end);
        return POS;
      case 89:
        this.min = fixed64(p, end);
        return POS;
      case 97:
        this.max = fixed64(p, end);
        return POS;
      default:
        return this.readTime(tag, p, end);
    }
  }
}

/** metrics.proto: one bucket more than bounds, or neither; bounds strictly rise (NaN doesn't). */
function checkBuckets(counts: u32, bounds: NumbersColumn): void {
  const n = bounds.count();
  if (counts !== n + 1 && (counts !== 0 || n !== 0)) reject(HISTOGRAM_BUCKETS_MISMATCH);
  const first = bounds.begun();
  for (let i: u32 = 0; i < n; i++) {
    const bound = loadDouble(first + (i << 3));
    const rises = i === 0 ? bound >= -Infinity : bound > loadDouble(first + ((i - 1) << 3));
    if (!rises) reject(HISTOGRAM_BOUNDS_UNSORTED);
  }
}
