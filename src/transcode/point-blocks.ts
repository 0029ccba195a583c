/** The open blocks of the five metrics tables: what each has beside the columns of MetricBlock. */
import { Bytes } from './bytes.ts';
import { NumbersColumn } from './column.ts';
import { ExemplarColumns } from './exemplars.ts';
import { MetricBlock } from './metric-block.ts';
import type { Heads } from './native.ts';

/** otel_metrics_gauge and otel_metrics_sum. */
export class NumberBlock extends MetricBlock {
  readonly exemplars: ExemplarColumns = new ExemplarColumns();
  readonly value: Bytes = new Bytes(1024);
  private readonly isSum: boolean;

  constructor(heads: Heads, isSum: boolean) {
    super(heads, isSum ? 23 : 21);
    this.isSum = isSum;
    this.own(this.exemplars);
    this.own(this.value);
  }

  override begin(): void {
    super.begin();
    this.exemplars.begin();
  }

  override cancel(): void {
    super.cancel();
    this.exemplars.cancel();
  }

  protected override writeOwnColumns(out: Bytes): void {
    this.exemplars.write(out, this.heads);
    this.putPlain(out, this.value);
    if (!this.isSum) return;
    this.writeTemporality(out);
    this.heads.put(out);
    this.monotonic.write(out, this.metrics, this.rows);
  }
}

/** otel_metrics_histogram. */
export class HistogramBlock extends MetricBlock {
  readonly exemplars: ExemplarColumns = new ExemplarColumns();
  readonly count: Bytes = new Bytes(1024);
  readonly sum: Bytes = new Bytes(1024);
  readonly bucketCounts: NumbersColumn = new NumbersColumn();
  readonly bounds: NumbersColumn = new NumbersColumn();
  readonly min: Bytes = new Bytes(1024);
  readonly max: Bytes = new Bytes(1024);

  constructor(heads: Heads) {
    super(heads, 27);
    this.own(this.exemplars);
    this.own(this.count);
    this.own(this.sum);
    this.own(this.bucketCounts);
    this.own(this.bounds);
    this.own(this.min);
    this.own(this.max);
  }

  override begin(): void {
    super.begin();
    this.exemplars.begin();
    this.bucketCounts.begin();
    this.bounds.begin();
  }

  override cancel(): void {
    super.cancel();
    this.exemplars.cancel();
    this.bucketCounts.cancel();
    this.bounds.cancel();
  }

  protected override writeOwnColumns(out: Bytes): void {
    this.exemplars.write(out, this.heads);
    this.putPlain(out, this.count);
    this.putPlain(out, this.sum);
    this.putPlainArrays(out, this.bucketCounts.ends, this.bucketCounts.items);
    this.putPlainArrays(out, this.bounds.ends, this.bounds.items);
    this.putPlain(out, this.min);
    this.putPlain(out, this.max);
    this.writeTemporality(out);
  }
}

/** otel_metrics_exponential_histogram. */
export class ExponentialHistogramBlock extends MetricBlock {
  readonly exemplars: ExemplarColumns = new ExemplarColumns();
  readonly count: Bytes = new Bytes(1024);
  readonly sum: Bytes = new Bytes(1024);
  readonly scale: Bytes = new Bytes(1024);
  readonly zeroCount: Bytes = new Bytes(1024);
  readonly positiveOffset: Bytes = new Bytes(1024);
  readonly positiveCounts: NumbersColumn = new NumbersColumn();
  readonly negativeOffset: Bytes = new Bytes(1024);
  readonly negativeCounts: NumbersColumn = new NumbersColumn();
  readonly min: Bytes = new Bytes(1024);
  readonly max: Bytes = new Bytes(1024);

  constructor(heads: Heads) {
    super(heads, 31);
    this.own(this.exemplars);
    this.own(this.count);
    this.own(this.sum);
    this.own(this.scale);
    this.own(this.zeroCount);
    this.own(this.positiveOffset);
    this.own(this.positiveCounts);
    this.own(this.negativeOffset);
    this.own(this.negativeCounts);
    this.own(this.min);
    this.own(this.max);
  }

  override begin(): void {
    super.begin();
    this.exemplars.begin();
    this.positiveCounts.begin();
    this.negativeCounts.begin();
  }

  override cancel(): void {
    super.cancel();
    this.exemplars.cancel();
    this.positiveCounts.cancel();
    this.negativeCounts.cancel();
  }

  protected override writeOwnColumns(out: Bytes): void {
    this.exemplars.write(out, this.heads);
    this.putPlain(out, this.count);
    this.putPlain(out, this.sum);
    this.putPlain(out, this.scale);
    this.putPlain(out, this.zeroCount);
    this.putPlain(out, this.positiveOffset);
    this.putPlainArrays(out, this.positiveCounts.ends, this.positiveCounts.items);
    this.putPlain(out, this.negativeOffset);
    this.putPlainArrays(out, this.negativeCounts.ends, this.negativeCounts.items);
    this.putPlain(out, this.min);
    this.putPlain(out, this.max);
    this.writeTemporality(out);
  }
}

/** otel_metrics_summary. */
export class SummaryBlock extends MetricBlock {
  readonly count: Bytes = new Bytes(1024);
  readonly sum: Bytes = new Bytes(1024);
  readonly quantiles: NumbersColumn = new NumbersColumn();
  readonly values: NumbersColumn = new NumbersColumn();

  constructor(heads: Heads) {
    super(heads, 19);
    this.own(this.count);
    this.own(this.sum);
    this.own(this.quantiles);
    this.own(this.values);
  }

  override begin(): void {
    super.begin();
    this.quantiles.begin();
    this.values.begin();
  }

  override cancel(): void {
    super.cancel();
    this.quantiles.cancel();
    this.values.cancel();
  }

  protected override writeOwnColumns(out: Bytes): void {
    this.putPlain(out, this.count);
    this.putPlain(out, this.sum);
    this.putPlainArrays(out, this.quantiles.ends, this.quantiles.items);
    this.putPlainArrays(out, this.values.ends, this.values.items);
  }
}
