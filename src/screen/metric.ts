/** A metric, read as far as it is around its points: its name, and where its data is. */
import type { Scan } from './scan.ts';
import { KEY, METRIC_KINDS } from './shapes.ts';
import { POS, UNUSUAL, readLength, readTag, skip } from './wire.ts';

/** What `readMetric` found: the field with the points, its tag 0 without one. */
export let DATA_TAG = 0;
export let DATA_FIELD = 0;
export let DATA_AT = 0;
export let DATA_END = 0;

/** By tag: the shape of the points, 0 for other fields. */
const POINTS = new Uint8Array(128);
for (const [tag, { point }] of METRIC_KINDS) POINTS[tag] = point;

/**
 * Notes the name of the metric at [start, end) in the scan.
 * @throws MALFORMED, UNUSUAL where data stands there twice
 */
export function readMetric(scan: Scan, bytes: Buffer, start: number, end: number): void {
  scan.bytes = bytes;
  scan.nameEnd = scan.nameAt;
  DATA_TAG = 0;
  // The loop of `eachField`, written out: through a function each metric costs noticeably more.
  let p = start;
  while (p < end) {
    const field = p;
    const tag = readTag(bytes, p, end);
    p = POS;
    if ((tag & 7) !== 2) {
      p = skip(bytes, p, end, tag);
      continue;
    }
    const n = readLength(bytes, p, end);
    const at = POS;
    p = at + n;
    if (tag === KEY) {
      scan.nameAt = at;
      scan.nameEnd = p;
    } else if (tag < 128 && POINTS[tag] !== 0) {
      if (DATA_TAG !== 0) throw UNUSUAL;
      DATA_TAG = tag;
      DATA_FIELD = field;
      DATA_AT = at;
      DATA_END = p;
    }
  }
}
