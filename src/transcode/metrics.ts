/** Data points into the five metrics tables. */
import { COUNT_METRIC_WITHOUT_DATA, NESTING_TOO_DEEP } from './codes.ts';
import { ExponentialPoint } from './exponential-point.ts';
import { HistogramPoint } from './histogram-point.ts';
import { GAUGE, HISTOGRAM, Metric, POINT, SUM, SUMMARY } from './metric.ts';
import type { MetricBlock } from './metric-block.ts';
import { NumberPoint } from './number-point.ts';
import { ExponentialHistogramBlock, HistogramBlock, NumberBlock, SummaryBlock } from './point-blocks.ts';
import { SignalBlocks } from './signal-blocks.ts';
import { SummaryPoint } from './summary-point.ts';
import type { TableBlock } from './table-block.ts';
import { beginRecord, count, reject } from './tally.ts';
import { POS, length, readTag, skip } from './wire.ts';

export class Metrics extends SignalBlocks {
  private readonly gauge: NumberBlock = new NumberBlock(false);
  private readonly sum: NumberBlock = new NumberBlock(true);
  private readonly histogram: HistogramBlock = new HistogramBlock();
  private readonly exponential: ExponentialHistogramBlock = new ExponentialHistogramBlock();
  private readonly summary: SummaryBlock = new SummaryBlock();
  private readonly metric: Metric = new Metric();
  private readonly numberPoint: NumberPoint = new NumberPoint();
  private readonly histogramPoint: HistogramPoint = new HistogramPoint();
  private readonly exponentialPoint: ExponentialPoint = new ExponentialPoint();
  private readonly summaryPoint: SummaryPoint = new SummaryPoint();

  constructor(nestingMax: u32) {
    super(nestingMax, true);
  }

  override tableCount(): u32 {
    return 5;
  }

  override table(i: u32): TableBlock {
    switch (i) {
      case 0:
        return this.gauge;
      case 1:
        return this.sum;
      case 2:
        return this.histogram;
      case 3:
        return this.exponential;
      default:
        return this.summary;
    }
  }

  protected override readRecord(start: u32, end: u32): void {
    const metric = this.metric;
    metric.read(start, end);
    if (metric.kind === 0) {
      count(COUNT_METRIC_WITHOUT_DATA);
      return;
    }
    const dataEnd = metric.dataEnd;
    let p = metric.data;
    while (p < dataEnd) {
      const tag = readTag(p, dataEnd);
      p = POS;
      if (tag === POINT) {
        const n = length(p, dataEnd);
        p = POS + n;
        beginRecord();
        if (this.unfit) reject(NESTING_TOO_DEEP);
        this.readPoint(p - n, p);
      } else {
        p = skip(p, dataEnd, tag);
      }
    }
  }

  private readPoint(p: u32, end: u32): void {
    switch (this.metric.kind) {
      case GAUGE:
        if (this.numberPoint.read(p, end, this.gauge)) this.endPoint(this.gauge, p);
        break;
      case SUM:
        if (this.numberPoint.read(p, end, this.sum)) this.endPoint(this.sum, p);
        break;
      case HISTOGRAM:
        if (this.histogramPoint.read(p, end, this.histogram)) this.endPoint(this.histogram, p);
        break;
      case SUMMARY:
        if (this.summaryPoint.read(p, end, this.summary)) this.endPoint(this.summary, p);
        break;
      default:
        if (this.exponentialPoint.read(p, end, this.exponential)) this.endPoint(this.exponential, p);
    }
  }

  private endPoint(block: MetricBlock, p: u32): void {
    block.endPoint(this.resource, this.scope, this.metric, p);
  }
}
