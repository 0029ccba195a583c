/** Distributions of durations: an HDR histogram, microseconds inside, milliseconds outside. */
import { build, type Histogram } from 'hdr-histogram-js';

export interface LatencyMs {
  readonly count: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
}

const HOUR_US = 3_600_000_000;

export class Latency {
  readonly #histogram: Histogram = build({
    lowestDiscernibleValue: 1,
    highestTrackableValue: HOUR_US,
    numberOfSignificantValueDigits: 3,
  });

  /** All of them together. */
  static of(parts: readonly Latency[]): Latency {
    const whole = new Latency();
    for (const part of parts) whole.#histogram.add(part.#histogram);
    return whole;
  }

  /** Longer than an hour counts as an hour. */
  record(ms: number): void {
    this.#histogram.recordValue(Math.min(Math.max(0, Math.round(ms * 1000)), HOUR_US));
  }

  reset(): void {
    this.#histogram.reset();
  }

  summary(): LatencyMs {
    const at = (percentile: number): number => this.#histogram.getValueAtPercentile(percentile) / 1000;
    const max = this.#histogram.maxValue / 1000;
    return { count: this.#histogram.totalCount, p50: at(50), p90: at(90), p99: at(99), max };
  }
}
