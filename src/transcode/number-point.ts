/** NumberDataPoint: a gauge's or a sum's. */
import { putNumber } from './exemplars.ts';
import { Point } from './point.ts';
import type { NumberBlock } from './point-blocks.ts';
import { ZERO } from './texts.ts';
import { POS, fixed64, length, readTag, varintWithin } from './wire.ts';

export class NumberPoint extends Point {
  /** Reads the point at [start, end): true when its row is begun. A point without a value has the value 0. */
  read(start: u32, end: u32, block: NumberBlock): boolean {
    let value = ZERO;
    let isInteger = false;
    this.begin();
    block.begin();
    let p = start;
    while (p < end) {
      const tag = readTag(p, end);
      p = POS;
      switch (tag) {
        case 33:
        case 49:
          value = fixed64(p, end);
          isInteger = tag === 49;
          p = POS;
          break;
        case 42: {
          const n = length(p, end);
          p = POS + n;
          block.exemplars.read(p - n, p);
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
    block.exemplars.endPoint();
    putNumber(block.value, value, isInteger);
    return true;
  }
}
