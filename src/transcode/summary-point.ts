/** SummaryDataPoint. */
import { Point } from './point.ts';
import type { SummaryBlock } from './point-blocks.ts';
import { ZERO } from './texts.ts';
import { POS, fixed64, length, readTag, skip, varintWithin } from './wire.ts';

export class SummaryPoint extends Point {
  /** Reads the point at [start, end): true when its row is begun. */
  read(start: u32, end: u32, block: SummaryBlock): boolean {
    let count = ZERO;
    let sum = ZERO;
    this.begin();
    block.begin();
    let p = start;
    while (p < end) {
      const tag = readTag(p, end);
      p = POS;
      switch (tag) {
        case 33:
          count = fixed64(p, end);
          p = POS;
          break;
        case 41:
          sum = fixed64(p, end);
          p = POS;
          break;
        case 50: {
          const n = length(p, end);
          p = POS + n;
          readQuantile(p - n, p, block);
          break;
        }
        case 58:
          p = this.readAttribute(p, end);
          break;
        case 64:
          this.flags = varintWithin(p, end);
          p = POS;
          break;
        default:
          p = this.readTime(tag, p, end);
      }
    }
    if (!this.accept(block)) return false;
    block.count.put64(count);
    block.sum.put64(sum);
    block.quantiles.endRow();
    block.values.endRow();
    return true;
  }
}

function readQuantile(start: u32, end: u32, block: SummaryBlock): void {
  let quantile = ZERO;
  let value = ZERO;
  let p = start;
  while (p < end) {
    const tag = readTag(p, end);
    p = POS;
    if (tag === 9) {
      quantile = fixed64(p, end);
      p = POS;
    } else if (tag === 17) {
      value = fixed64(p, end);
      p = POS;
    } else {
      p = skip(p, end, tag);
    }
  }
  block.quantiles.items.put64(quantile);
  block.values.items.put64(value);
}
