/**
 * What operators let in of a request: limits and rules, between decoding and the commit.
 *
 * While there are no rules the transcoder itself looks out for records beyond a limit, which costs next to
 * nothing; only a request that has one goes through the screen (screen/), is written anew and transcoded once
 * more. With rules every request of their signals does.
 */
import type { Cardinality } from '../admit/cardinality.ts';
import type { Settings } from '../config/settings.ts';
import type { Instruments } from '../metrics/instruments.ts';
import { NO_BOUNDS, WORDS_OF_POINT } from '../model/block.ts';
import { NOTHING, type Outcome, sumOutcomes } from '../model/outcome.ts';
import type { Signal } from '../model/signal.ts';
import type { GroupCommit, Placing, Resendable, Within } from '../queue/commit.ts';
import { type Screen, type Screened, compileScreen } from '../screen/screen.ts';
import type { Overflow } from '../screen/walk.ts';

export type ScreenSettings = Pick<Settings, 'limits' | 'rules' | 'receive' | 'tenants'>;
type ScreenInstruments = Pick<
  Instruments,
  'itemsTrimmed' | 'itemsOverLimit' | 'itemsFiltered' | 'itemsRedacted'
>;

export interface ScreeningOptions {
  readonly cardinality: Pick<Cardinality, 'check' | 'learn' | 'top'>;
  readonly instruments: ScreenInstruments;
}

/** A request on its way into the queue. */
export interface Submission {
  readonly signal: Signal;
  readonly tenant: string;
  /** Protobuf; only read during the call. */
  readonly bytes: Uint8Array;
  readonly resend: Resendable | undefined;
  /** Where its rows belong if it was stored in part before the shards changed. */
  readonly placing: Placing | undefined;
}

/** A request with more records than one may have. Not a Fault: no retry will help. */
export class TooManyItems extends Error {
  constructor(items: number, itemsMax: number) {
    const limit = `${itemsMax} are allowed (SLUICE_LIMITS_ITEMS_PER_REQUEST_MAX)`;
    super(`the request has ${items} records, ${limit}; send smaller batches`);
    this.name = 'TooManyItems';
  }
}

/** Metrics, where those with most time series are shown. */
const SERIES_SHOWN = 100;

export class Screening {
  readonly #options: ScreeningOptions;
  #screen: Screen;
  #settings: ScreenSettings;

  constructor(settings: ScreenSettings, options: ScreeningOptions) {
    this.#options = options;
    this.#settings = screenSettings(settings);
    this.#screen = compileScreen(settings);
  }

  /** Holds for requests from now on. */
  update(settings: ScreenSettings): void {
    this.#screen = compileScreen(settings);
    this.#settings = screenSettings(settings);
  }

  /** Whether data points are counted by time series. */
  seriesWanted(signal: Signal): boolean {
    return signal === 'metrics' && this.#settings.limits.seriesMax > 0;
  }

  /** Data points, by their place, whose time series are beyond the limit; undefined for none. */
  overflowOf(tenant: string, series: Uint32Array): ReadonlySet<number> | undefined {
    const beyond = series.length > 0 ? this.#options.cardinality.check(tenant, series) : undefined;
    if (beyond === undefined) return undefined;
    const points = Array.from({ length: series.length / WORDS_OF_POINT }, (_, ordinal) => ordinal);
    return new Set(points.filter(beyond.isBeyond));
  }

  /** Which points are beyond; who asks for one tells what its metric is called. */
  #beyond(tenant: string, series: Uint32Array): Overflow | undefined {
    const { cardinality } = this.#options;
    const beyond = cardinality.check(tenant, series);
    if (beyond === undefined) return undefined;
    const { isBeyond, unnamed } = beyond;
    if (unnamed.size === 0) return isBeyond;
    const words = series.slice();
    const named = new Set<number>();
    return (ordinal, metric) => {
      const isOver = isBeyond(ordinal);
      const hash = words[WORDS_OF_POINT * ordinal] ?? 0;
      if (isOver && !named.has(hash)) cardinality.learn(tenant, hash, metric());
      if (isOver) named.add(hash);
      return isOver;
    };
  }

  get settings(): ScreenSettings {
    return this.#settings;
  }

  /** The metrics with most time series, for who looks after them. */
  series(): object {
    const { seriesMax, seriesWindowMinutes } = this.#settings.limits;
    return { seriesMax, seriesWindowMinutes, metrics: this.#options.cardinality.top(SERIES_SHOWN) };
  }

  /** What is written into a tenant's rows. */
  markOf(tenant: string): string | undefined {
    return this.#settings.tenants.column ? tenant : undefined;
  }

  /**
   * Stores what is left of the request. Resolves and rejects as `GroupCommit.submit`, also with TooManyItems.
   */
  async store(commit: GroupCommit, submission: Submission): Promise<Outcome> {
    const { signal, tenant, placing } = submission;
    const hasRules = this.#screen.hasRules(signal, tenant);
    const bounds = this.#screen.bounds(signal, Date.now());
    const { itemsPerRequestMax } = this.#settings.limits;
    if (!hasRules && bounds === undefined && itemsPerRequestMax === 0)
      return this.#submit(commit, submission);
    // Bytes that lay elsewhere before are not to be kept here: that is for the screened ones.
    if (placing !== undefined) return this.#storeScreened(commit, submission, undefined, 0);
    let overflow: Overflow | undefined;
    let counted = 0;
    if (!hasRules || bounds?.series) {
      const takes = (outcome: Outcome, series: Uint32Array) => {
        counted = this.countItems(signal, outcome.accepted + outcome.rejected);
        overflow = this.#beyond(tenant, series);
        return !hasRules && overflow === undefined;
      };
      const looked = hasRules ? { ...NO_BOUNDS, series: true } : (bounds ?? NO_BOUNDS);
      const stored = this.#submitWithin(commit, submission, { bounds: looked, takes });
      if (stored !== undefined) return stored;
    }
    return this.#storeScreened(commit, submission, overflow, counted);
  }

  /** @param counted the records of the request, if they were held against the limit already */
  async #storeScreened(
    commit: GroupCommit,
    submission: Submission,
    overflow: Overflow | undefined,
    counted: number,
  ): Promise<Outcome> {
    const { signal, tenant, bytes, resend, placing } = submission;
    const screened = this.#screen.apply(signal, bytes, { tenant, nowMs: Date.now(), overflow });
    const changed = screened.bytes !== bytes;
    const again = resend && changed ? { ...resend, again: () => screened.bytes } : resend;
    const left = { ...submission, bytes: screened.bytes, resend: again };
    const gone = sum(screened.rejected) + sum(screened.filtered);
    const takes = ({ accepted, rejected }: Outcome) => {
      if (counted === 0) this.countItems(signal, accepted + rejected + gone);
      return true;
    };
    const stored =
      placing === undefined ? this.#submitWithin(commit, left, { bounds: NO_BOUNDS, takes }) : undefined;
    const outcome = await (stored ?? this.#submit(commit, left));
    this.count(signal, screened);
    return withRejected(outcome, screened);
  }

  #submit(commit: GroupCommit, { bytes, tenant, resend, placing }: Submission): Promise<Outcome> {
    const mark = this.markOf(tenant);
    if (placing === undefined || resend === undefined) return commit.submit(bytes, resend, mark);
    return commit.submitPlaced(bytes, resend, placing, mark);
  }

  #submitWithin(
    commit: GroupCommit,
    { bytes, tenant, resend }: Submission,
    within: Within,
  ): Promise<Outcome> | undefined {
    return commit.submitWithin(bytes, within, resend, this.markOf(tenant));
  }

  /** Holds the records of a request against the limit. @returns them. @throws TooManyItems */
  countItems(signal: Signal, items: number): number {
    const { itemsPerRequestMax, mode } = this.#settings.limits;
    if (itemsPerRequestMax === 0 || items <= itemsPerRequestMax) return items;
    if (mode === 'enforce') throw new TooManyItems(items, itemsPerRequestMax);
    this.#options.instruments.itemsOverLimit.inc({ signal, limit: 'items_per_request' }, items);
    return items;
  }

  /** What the screen did to a request that is stored now. */
  count(signal: Signal, { trimmed, over, filtered, redacted }: Omit<Screened, 'bytes'>): void {
    const { itemsTrimmed, itemsOverLimit, itemsFiltered, itemsRedacted } = this.#options.instruments;
    for (const [limit, count] of trimmed) itemsTrimmed.inc({ signal, limit }, count);
    for (const [limit, count] of over) itemsOverLimit.inc({ signal, limit }, count);
    for (const [rule, count] of filtered) itemsFiltered.inc({ signal, rule }, count);
    for (const [rule, count] of redacted) itemsRedacted.inc({ signal, rule }, count);
  }
}

/** No more than what is handed on, to the thread for large requests too. */
function screenSettings({ limits, rules, receive, tenants }: ScreenSettings): ScreenSettings {
  return { limits, rules, receive, tenants };
}

/** The outcome of what was left, with the records that the screen had refused. */
export function withRejected(outcome: Outcome, { rejected }: Pick<Screened, 'rejected'>): Outcome {
  if (rejected.size === 0) return outcome;
  return sumOutcomes([outcome, { ...NOTHING, rejected: sum(rejected), reasons: rejected }]);
}

export function sum(counts: ReadonlyMap<string, number>): number {
  let total = 0;
  for (const count of counts.values()) total += count;
  return total;
}
