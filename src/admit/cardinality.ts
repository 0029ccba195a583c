/**
 * How many time series each metric of each tenant has, and which points are of series beyond
 * `limits.seriesMax`. In: the hashes of a request's points. Out: which of them are beyond, nearly always
 * none.
 *
 * A series is known from its first point until half a window has gone by without one; those that are known
 * are never beyond, also when the limit is lowered. Everything here is in memory and decided at once: the
 * exchange with other gateways (series-exchange.ts) goes on behind. Bounded: `limits.seriesMetricsMax`
 * metrics, each with at most twice its limit of series, 11 to 22 bytes each, and 256 KiB.
 */
import { randomInt } from 'node:crypto';
import { nowMs as wallMs, sleep } from '../base/clock.ts';
import { Fault } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Settings } from '../config/settings.ts';
import type { Instruments } from '../metrics/instruments.ts';
import { WORDS_OF_POINT } from '../model/block.ts';
import type { RedisCommands } from '../redis/client.ts';
import { SeriesExchange } from './series-exchange.ts';
import { fingerprintOf } from './series-filter.ts';
import type { Half } from './series-log.ts';
import { SeriesMetric } from './series-metric.ts';
import { SeriesRuns } from './series-runs.ts';

const EVERY_MS_DEFAULT = 1_000;

export interface CardinalityOptions {
  /** They may change at any time. */
  readonly settings: () => Settings['limits'];
  readonly redis: RedisCommands;
  readonly instruments: Pick<Instruments, 'seriesMetrics' | 'seriesOverflow'>;
  readonly logger: Logger;
  /** Under which name a tenant is counted; a metric can't have one for each of them. */
  readonly labelOf?: (tenant: string) => string;
  readonly everyMs?: number;
  /** Wall clock: halves of the window begin at the same time for all gateways. */
  readonly nowMs?: () => number;
}

/** What is beyond the limit of one request's points. */
export interface Beyond {
  /** By a point's place in what was checked, from 0. */
  readonly isBeyond: (ordinal: number) => boolean;
  readonly points: number;
  /** Hashes of metrics whose names aren't known yet: whoever reads the request can `learn` them. */
  readonly unnamed: ReadonlySet<number>;
}

/** A metric as the admin port shows it. Figures are of the window, of what this gateway knows. */
export interface SeriesReport {
  readonly tenant: string;
  /** Its name, or # and the hash of it. */
  readonly metric: string;
  /** Series that are let in; those of other gateways where they tell each other. */
  readonly series: number;
  /** About how many were sent. */
  readonly offered: number;
  readonly limit: number;
  readonly pointsBeyond: number;
}

/** Points of one metric beside each other: the words from `at` to `end` of `series`. */
interface Run {
  readonly series: Uint32Array;
  readonly at: number;
  readonly end: number;
}

/** One tenant's. */
interface TenantMetrics {
  /** By the hash of their names. */
  readonly metrics: Map<number, SeriesMetric>;
  /** Keeps its series apart from those of others that look the same: 32 bits. */
  readonly salt: number;
}

export class Cardinality {
  readonly #options: CardinalityOptions;
  readonly #nowMs: () => number;
  readonly #exchange: SeriesExchange;
  readonly #stop = new AbortController();
  readonly #tenants = new Map<string, TenantMetrics>();
  /** Those that came in this half of the window, nothing beyond: there is nothing to note of them. */
  readonly #runs = new SeriesRuns();
  #metrics = 0;
  #half: Half = { turn: 0, startSeconds: 0, seconds: 0 };
  #saidFull = false;

  constructor(options: CardinalityOptions) {
    this.#options = options;
    this.#nowMs = options.nowMs ?? wallMs;
    const { redis, logger } = options;
    this.#exchange = new SeriesExchange({ redis, logger, seriesMax: () => options.settings().seriesMax });
  }

  /**
   * Notes the series of a request's points.
   * @param series three words a point (`WORDS_OF_POINT`), only read during the call
   * @returns which points are beyond the limit; undefined when none is
   */
  check(tenant: string, series: Uint32Array): Beyond | undefined {
    const { seriesMax } = this.#options.settings();
    if (seriesMax === 0) return undefined;
    this.#turnOver();
    const { metrics, salt } = this.#metricsOf(tenant);
    let beyond: PointsBeyond | undefined;
    for (let at = 0, end = 0; at < series.length; at = end) {
      end = this.#runs.read(series, at, salt);
      if (this.#runs.isKnown) continue;
      const hash = (series[at] ?? 0) | 0;
      const metric = metrics.get(hash) ?? this.#track(metrics, tenant, hash);
      if (metric === undefined) continue;
      const before = beyond?.points;
      beyond = this.#checkRun(metric, { series, at, end }, beyond);
      if (beyond?.points === before) this.#runs.add();
    }
    if (beyond === undefined) return undefined;
    const label = this.#options.labelOf?.(tenant) ?? tenant;
    this.#options.instruments.seriesOverflow.inc({ tenant: label }, beyond.points);
    return beyond;
  }

  /** Notes the points of a run. @returns those beyond the limit, with those `beyond` before it */
  #checkRun(metric: SeriesMetric, { series, at, end }: Run, beyond: PointsBeyond | undefined) {
    const { seriesMax } = this.#options.settings();
    if (metric.seenTurn !== this.#half.turn) metric.see(this.#half.turn);
    let all = beyond;
    for (let point = at; point < end; point += WORDS_OF_POINT) {
      const low = series[point + 1] ?? 0;
      const fingerprint = fingerprintOf(low);
      const seen = metric.filter.see(fingerprint, seriesMax);
      if (seen === 'added') this.#added(metric, fingerprint);
      if (seen !== 'beyond') continue;
      metric.noteBeyond(low, series[point + 2] ?? 0);
      all ??= new PointsBeyond(series.length / WORDS_OF_POINT);
      all.add(point / WORDS_OF_POINT, metric);
    }
    return all;
  }

  /** The name of a metric that `check` knows only by the hash of it. */
  learn(tenant: string, hash: number, name: string): void {
    const metric = this.#tenants.get(tenant)?.metrics.get(hash | 0);
    if (metric !== undefined) metric.name = name;
  }

  /** The metrics with most series sent, at most so many of them. */
  top(count: number): SeriesReport[] {
    const { seriesMax } = this.#options.settings();
    this.#turnOver();
    const reports: SeriesReport[] = [];
    for (const { metrics } of this.#tenants.values()) {
      for (const metric of metrics.values()) {
        metric.turnTo(this.#half.turn);
        const { tenant, name, offered, pointsBeyond, filter } = metric;
        const series = filter.count;
        reports.push({ tenant, metric: name, series, offered, limit: seriesMax, pointsBeyond });
      }
    }
    return reports.sort((a, b) => b.offered - a.offered).slice(0, count);
  }

  /** Tells other gateways from now on, and learns from them. Without Redis each goes on by itself. */
  start(): void {
    void this.#keepUp();
  }

  /** An exchange that is under way ends by itself. */
  stop(): void {
    this.#stop.abort();
  }

  /** One exchange with other gateways. @throws Fault of Redis */
  async exchange(): Promise<void> {
    if (this.#options.settings().seriesMax === 0) {
      this.#forget(() => true);
      return;
    }
    this.#turnOver();
    await this.#exchange.run(this.#half, this.#nowMs() / 1000);
  }

  async #keepUp(): Promise<void> {
    const { signal } = this.#stop;
    for (;;) {
      await sleep(this.#options.everyMs ?? EVERY_MS_DEFAULT, signal);
      if (signal.aborted) return;
      try {
        await this.exchange();
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        this.#options.logger.debug({ reason: error.message }, 'time series are not exchanged');
      }
    }
  }

  #metricsOf(tenant: string): TenantMetrics {
    const known = this.#tenants.get(tenant);
    if (known !== undefined) return known;
    const made = { metrics: new Map<number, SeriesMetric>(), salt: randomInt(2 ** 32) };
    this.#tenants.set(tenant, made);
    return made;
  }

  #track(metrics: Map<number, SeriesMetric>, tenant: string, hash: number): SeriesMetric | undefined {
    const { seriesMetricsMax } = this.#options.settings();
    if (this.#metrics >= seriesMetricsMax) {
      if (this.#saidFull) return undefined;
      this.#saidFull = true;
      const message =
        'so many metrics have been sent within the window: the series of further ones are not limited ' +
        '(SLUICE_LIMITS_SERIES_METRICS_MAX)';
      this.#options.logger.warn({ seriesMetricsMax, tenant }, message);
      return undefined;
    }
    const metric = new SeriesMetric(tenant, hash, this.#half.turn);
    metrics.set(hash, metric);
    this.#count(1);
    return metric;
  }

  #added(metric: SeriesMetric, fingerprint: number): void {
    if (metric.log === undefined) this.#exchange.consider(metric, this.#half);
    else metric.log.note(fingerprint);
  }

  /** Begins the next half of the window when it is time. */
  #turnOver(): void {
    const seconds = this.#options.settings().seriesWindowMinutes * 30;
    const startSeconds = Math.floor(this.#nowMs() / 1000 / seconds) * seconds;
    const before = this.#half;
    let { turn } = before;
    if (seconds === before.seconds) {
      const halves = (startSeconds - before.startSeconds) / seconds;
      // A clock that goes back by a little at the very start of a half: that half has begun all the same.
      if (halves === 0 || halves === -1) return;
      turn += Math.min(2, Math.max(0, halves));
    }
    // With another window, or a clock that went back, what is known stays so and grows old from here on.
    this.#half = { turn, startSeconds, seconds };
    this.#forget(({ seenTurn }) => seenTurn < turn - 1);
  }

  #forget(isOld: (metric: SeriesMetric) => boolean): void {
    this.#runs.clear();
    for (const [tenant, { metrics }] of this.#tenants) {
      for (const [hash, metric] of metrics) {
        if (!isOld(metric)) continue;
        metrics.delete(hash);
        this.#exchange.remove(metric);
        this.#count(-1);
      }
      if (metrics.size === 0) this.#tenants.delete(tenant);
    }
  }

  #count(change: 1 | -1): void {
    this.#metrics += change;
    this.#options.instruments.seriesMetrics.set(this.#metrics);
  }
}

class PointsBeyond implements Beyond {
  readonly unnamed = new Set<number>();
  readonly #marked: Uint8Array;
  points = 0;

  /** @param count of all points of the request */
  constructor(count: number) {
    this.#marked = new Uint8Array(count);
  }

  readonly isBeyond = (ordinal: number): boolean => this.#marked[ordinal] === 1;

  add(ordinal: number, { hasName, hash }: SeriesMetric): void {
    this.#marked[ordinal] = 1;
    this.points += 1;
    if (!hasName) this.unnamed.add(hash >>> 0);
  }
}
