/** Data points into the five metrics tables. */
import { COUNT_METRIC_WITHOUT_DATA } from './codes.ts';
import { ExponentialPoint } from './exponential-point.ts';
import { HistogramPoint } from './histogram-point.ts';
import { GAUGE, HISTOGRAM, Metric, POINT, SUM, SUMMARY } from './metric.ts';
import type { MetricBlock } from './metric-block.ts';
import type { Heads } from './native.ts';
import { NumberPoint } from './number-point.ts';
import { ExponentialHistogramBlock, HistogramBlock, NumberBlock, SummaryBlock } from './point-blocks.ts';
import { NAMES_SERIES, enterMetric, enterScope, putSeries } from './series.ts';
import { crc32 } from './shard-key.ts';
import { SignalBlocks } from './signal-blocks.ts';
import { SummaryPoint } from './summary-point.ts';
import type { TableBlock } from './table-block.ts';
import { count } from './tally.ts';
import { POS, length, readTag, skip } from './wire.ts';

// Where the signal's tables stand in SIGNAL_TABLES (tables.ts).
const GAUGE_TABLE: u32 = 0;
const SUM_TABLE: u32 = 1;
const HISTOGRAM_TABLE: u32 = 2;
const EXPONENTIAL_TABLE: u32 = 3;
const SUMMARY_TABLE: u32 = 4;

/** The table of a kind of metric. */
function tableOf(kind: u32): u32 {
  switch (kind) {
    case GAUGE:
      return GAUGE_TABLE;
    case SUM:
      return SUM_TABLE;
    case HISTOGRAM:
      return HISTOGRAM_TABLE;
    case SUMMARY:
      return SUMMARY_TABLE;
    default:
      return EXPONENTIAL_TABLE;
  }
}

export class Metrics extends SignalBlocks {
  private readonly metric: Metric = new Metric();
  private readonly numberPoint: NumberPoint = new NumberPoint();
  private readonly histogramPoint: HistogramPoint = new HistogramPoint();
  private readonly exponentialPoint: ExponentialPoint = new ExponentialPoint();
  private readonly summaryPoint: SummaryPoint = new SummaryPoint();
  /** The scope whose series are at hand. */
  private seriesScope: u32 = 0;

  constructor(nestingMax: u32) {
    super(5, nestingMax, true);
  }

  protected override newBlock(table: u32, heads: Heads): TableBlock {
    switch (table) {
      case GAUGE_TABLE:
        return new NumberBlock(heads, false);
      case SUM_TABLE:
        return new NumberBlock(heads, true);
      case HISTOGRAM_TABLE:
        return new HistogramBlock(heads);
      case EXPONENTIAL_TABLE:
        return new ExponentialHistogramBlock(heads);
      default:
        return new SummaryBlock(heads);
    }
  }

  protected override readRecord(start: u32, end: u32): void {
    const metric = this.metric;
    metric.read(start, end);
    if (metric.kind === 0) {
      count(COUNT_METRIC_WITHOUT_DATA);
      return;
    }
    if (NAMES_SERIES) this.enterSeries();
    const block = this.block(this.shard(), tableOf(metric.kind)) as MetricBlock;
    const dataEnd = metric.dataEnd;
    let p = metric.data;
    while (p < dataEnd) {
      const tag = readTag(p, dataEnd);
      p = POS;
      if (tag === POINT) {
        const n = length(p, dataEnd);
        p = POS + n;
        this.begin();
        const isStored = this.readPoint(p - n, p, block);
        if (isStored) block.endPoint(this.resource, this.scope, metric, p - n);
        if (NAMES_SERIES) putSeries(this.series, isStored);
      } else {
        p = skip(p, dataEnd, tag);
      }
    }
  }

  /** What the series of all points of the metric have in common. */
  private enterSeries(): void {
    const scope = this.scope;
    if (this.seriesScope !== scope.generation) {
      this.seriesScope = scope.generation;
      enterScope(this.resource.sum(), scope.name, scope.nameLength);
    }
    enterMetric(this.metric.name, this.metric.nameLength);
  }

  /** The shard of all points of the metric. */
  private shard(): u32 {
    if (this.router.shards === 1) return 0;
    const name = crc32(this.metric.name, this.metric.nameLength);
    return this.router.shardOf((name + this.resource.key()) >>> 0);
  }

  /** Whether the point's row is begun. */
  private readPoint(p: u32, end: u32, block: MetricBlock): boolean {
    switch (this.metric.kind) {
      case GAUGE:
      case SUM:
        return this.numberPoint.read(p, end, block as NumberBlock);
      case HISTOGRAM:
        return this.histogramPoint.read(p, end, block as HistogramBlock);
      case SUMMARY:
        return this.summaryPoint.read(p, end, block as SummaryBlock);
      default:
        return this.exponentialPoint.read(p, end, block as ExponentialHistogramBlock);
    }
  }
}
