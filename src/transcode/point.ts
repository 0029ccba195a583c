/** What the data points of all kinds have in common (opentelemetry.proto.metrics.v1). */
import { SortedAttributes } from './attributes.ts';
import { boundTime } from './bounds.ts';
import { TIME_OUT_OF_RANGE } from './codes.ts';
import { isTimeInRange } from './ids.ts';
import type { MetricBlock } from './metric-block.ts';
import { endRecord, reject } from './tally.ts';
import { ZERO } from './texts.ts';
import { POS, fixed64, length, skip } from './wire.ts';

/**
 * Reads points one after another; 64-bit fields are kept as addresses. The kinds are below: number-point.ts
 * and others.
 */
export abstract class Point {
  private readonly attributes: SortedAttributes = new SortedAttributes();
  private startTime: u32 = 0;
  private time: u32 = 0;
  protected flags: u32 = 0;

  protected begin(): void {
    this.attributes.begin();
    this.startTime = ZERO;
    this.time = ZERO;
    this.flags = 0;
  }

  /** Reads the attribute whose tag ended at `p`; where it ends. */
  protected readAttribute(p: u32, end: u32): u32 {
    const n = length(p, end);
    const next = POS + n;
    this.attributes.put(next - n, next);
    return next;
  }

  /** Reads a time, which all kinds have under the same numbers, or skips the field; where it ends. */
  protected readTime(tag: u32, p: u32, end: u32): u32 {
    switch (tag) {
      case 17:
        this.startTime = fixed64(p, end);
        return POS;
      case 25:
        this.time = fixed64(p, end);
        return POS;
      default:
        return skip(p, end, tag);
    }
  }

  /** Ends the reading of a point: true when its row is begun, false when it is refused and taken back. */
  protected accept(block: MetricBlock): boolean {
    this.attributes.write(block.attributes);
    if (!isTimeInRange(this.startTime) || !isTimeInRange(this.time)) reject(TIME_OUT_OF_RANGE);
    boundTime(this.time);
    if (!endRecord()) {
      block.cancel();
      return false;
    }
    block.startTime.put64(this.startTime);
    block.time.put64(this.time);
    block.flags.put32(this.flags);
    return true;
  }
}
