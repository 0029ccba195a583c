/**
 * The screen: limits and rules of operators, applied to the protobuf bytes of a request before it is stored.
 * Bytes go in, bytes come out, with counts of what was done. Nothing is decoded into objects; what doesn't
 * change is copied as it is, and a request of which nothing changes comes out itself.
 */
import type { Rule } from '../config/rules.ts';
import type { Settings } from '../config/settings.ts';
import type { RecordBounds } from '../model/block.ts';
import { LIMITS, type Limit, type RejectReason } from '../model/outcome.ts';
import type { Signal } from '../model/signal.ts';
import { type TimeWindow, bitOf } from './bounds.ts';
import { normalise } from './normalise.ts';
import { type Plan, planOf } from './plan.ts';
import { type Scans, scansOf } from './shared.ts';
import { byLimit, byReason } from './tally.ts';
import { type Overflow, type Limits, Walk, type WalkContext } from './walk.ts';
import { MALFORMED, UNUSUAL } from './wire.ts';

const HOUR_MS = 3_600_000;
const NS_PER_MS = 1_000_000n;
const TIME_MAX = 2n ** 64n - 1n;

export type ScreenSettings = Pick<Settings, 'limits' | 'rules' | 'receive'>;

export interface ScreenContext {
  readonly tenant: string;
  readonly nowMs: number;
  /**
   * Whether the time series of a data point is beyond the limit; points count from 0 in the order in which
   * they are sent.
   */
  readonly overflow?: Overflow | undefined;
}

export interface Screened {
  /** The request itself when nothing changed; else newly allocated, the caller's. */
  readonly bytes: Uint8Array;
  readonly rejected: ReadonlyMap<RejectReason, number>;
  /** Records of which something was cut off or moved, by limit. */
  readonly trimmed: ReadonlyMap<Limit, number>;
  /** In a dry run: records beyond a limit, stored as they are. */
  readonly over: ReadonlyMap<Limit, number>;
  /** By rule: records dropped or not sampled. */
  readonly filtered: ReadonlyMap<string, number>;
  /** By rule: records that are stored with something replaced. */
  readonly redacted: ReadonlyMap<string, number>;
}

export interface Screen {
  /** Whether any rule is for the signal and the tenant. */
  readonly hasRules: (signal: Signal, tenant: string) => boolean;
  /** What the transcoder has to look out for; undefined when no limit is set. */
  readonly bounds: (signal: Signal, nowMs: number) => RecordBounds | undefined;
  /**
   * Applies rules and limits to one Export<Signal>ServiceRequest, which is only read during the call.
   * Bytes that are no such message come back as they are: the transcoder refuses them.
   */
  apply(signal: Signal, request: Uint8Array, context: ScreenContext): Screened;
}

/** Compiles limits and rules, once for the settings. Settings that were structured-cloned are fine. */
export function compileScreen(settings: ScreenSettings): Screen {
  const limits = limitsOf(settings);
  const plans = new Plans(settings.rules, limits);
  const bounds = (signal: Signal, nowMs: number) => recordBounds(settings, signal, nowMs);
  return {
    hasRules: (signal, tenant) => plans.get(signal, tenant).plan.rules.length > 0,
    bounds,
    apply: (signal, request, { tenant, nowMs, overflow }) => {
      const compiled = plans.get(signal, tenant);
      const window = windowOf(bounds(signal, nowMs));
      const areSet = limits.areSet || window !== undefined;
      const context: WalkContext = { signal, ...compiled, limits: { ...limits, areSet }, window, overflow };
      return applied(request, context);
    },
  };
}

interface Compiled {
  readonly plan: Plan;
  readonly scans: Scans;
}

interface OfSignal {
  readonly others: Compiled;
  readonly named: ReadonlyMap<string, Compiled>;
}

/** The rules of each signal and tenant; tenants that no rule names have the same ones. */
class Plans {
  readonly #plans: Readonly<Record<Signal, OfSignal>>;

  constructor(rules: readonly Rule[], { bounds }: Limits) {
    const names = new Set(rules.flatMap(({ tenants }) => tenants));
    const ofSignal = (signal: Signal): OfSignal => {
      const own = rules.filter(({ signals }) => signals.length === 0 || signals.includes(signal));
      const of = (tenant: string): Compiled => {
        const plan = planOf(
          own.filter(({ tenants }) => tenants.length === 0 || tenants.includes(tenant)),
          signal,
        );
        return { plan, scans: scansOf(plan, bounds) };
      };
      return { others: of(''), named: new Map([...names].map((name) => [name, of(name)] as const)) };
    };
    this.#plans = { traces: ofSignal('traces'), metrics: ofSignal('metrics'), logs: ofSignal('logs') };
  }

  get(signal: Signal, tenant: string): Compiled {
    const { others, named } = this.#plans[signal];
    return named.get(tenant) ?? others;
  }
}

const unbounded = (value: number) => (value === 0 ? Infinity : value);

function limitsOf({ limits, receive }: ScreenSettings): Limits {
  const judgesNesting = !limits.refuse.has('nesting');
  const bounds = {
    attributesMax: unbounded(limits.attributesMax),
    valueBytesMax: unbounded(limits.valueBytesMax),
    eventsMax: unbounded(limits.eventsMax),
    linksMax: unbounded(limits.linksMax),
    nestingMax: receive.nestingMax,
    judgesNesting,
  };
  const { attributesMax, valueBytesMax, eventsMax, linksMax } = bounds;
  return {
    bounds,
    areSet: judgesNesting || Math.min(attributesMax, valueBytesMax, eventsMax, linksMax) < Infinity,
    refuse: LIMITS.filter((limit) => limits.refuse.has(limit)).reduce(
      (bits, limit) => bits | bitOf(limit),
      0,
    ),
    isDryRun: limits.mode === 'dry_run',
  };
}

function recordBounds({ limits }: ScreenSettings, signal: Signal, nowMs: number): RecordBounds | undefined {
  const { attributesMax, valueBytesMax } = limits;
  const eventsMax = signal === 'traces' ? limits.eventsMax : 0;
  const linksMax = signal === 'traces' ? limits.linksMax : 0;
  const past = limits.timePastBySignal.get(signal) ?? limits.timePastMaxHours;
  const future = limits.timeFutureBySignal.get(signal) ?? limits.timeFutureMaxHours;
  const now = Math.floor(nowMs);
  const timeMinMs = past === 0 ? 0 : Math.max(0, now - past * HOUR_MS);
  const timeMaxMs = future === 0 ? 0 : now + future * HOUR_MS;
  const nesting = !limits.refuse.has('nesting');
  const series = signal === 'metrics' && limits.seriesMax > 0;
  const numbers = [attributesMax, valueBytesMax, eventsMax, linksMax, timeMinMs, timeMaxMs];
  if (!nesting && !series && numbers.every((bound) => bound === 0)) return undefined;
  return { attributesMax, valueBytesMax, eventsMax, linksMax, timeMinMs, timeMaxMs, nesting, series };
}

function windowOf(bounds: RecordBounds | undefined): TimeWindow | undefined {
  if (bounds === undefined || (bounds.timeMinMs === 0 && bounds.timeMaxMs === 0)) return undefined;
  const min = BigInt(bounds.timeMinMs) * NS_PER_MS;
  const max = bounds.timeMaxMs === 0 ? TIME_MAX : BigInt(bounds.timeMaxMs) * NS_PER_MS;
  const low = (time: bigint) => Number(time & 0xffffffffn);
  const high = (time: bigint) => Number(time >> 32n);
  return { min, max, minHigh: high(min), minLow: low(min), maxHigh: high(max), maxLow: low(max) };
}

function applied(request: Uint8Array, context: WalkContext): Screened {
  const bytes = Buffer.from(request.buffer, request.byteOffset, request.length);
  try {
    const walk = new Walk(bytes, context);
    const result = run(walk, bytes, context);
    return screened(result.bytes === bytes ? request : result.bytes, result.walk, context);
  } catch (error) {
    if (error === MALFORMED) return screened(request, undefined, context);
    throw error;
  }
}

interface Ran {
  readonly walk: Walk;
  readonly bytes: Uint8Array;
}

/** Requests in unusual forms are brought into the usual one and gone through again. */
function run(walk: Walk, bytes: Buffer, context: WalkContext): Ran {
  try {
    return { walk, bytes: walk.run() };
  } catch (error) {
    if (error !== UNUSUAL) throw error;
  }
  const usual = Buffer.from(normalise(context.signal, bytes, context.limits.bounds.nestingMax));
  const again = new Walk(usual, context);
  const result = again.run();
  return { walk: again, bytes: result === usual ? bytes : result };
}

function screened(bytes: Uint8Array, walk: Walk | undefined, { plan }: WalkContext): Screened {
  const tally = walk?.tally;
  const none = new Int32Array();
  const byRule = (counts: Int32Array) => {
    const found = plan.rules.filter(({ index }) => (counts[index] ?? 0) > 0);
    return new Map(found.map(({ name, index }) => [name, counts[index] ?? 0]));
  };
  return {
    bytes,
    rejected: byReason(tally?.rejected ?? none),
    trimmed: byLimit(tally?.trimmed ?? none),
    over: byLimit(tally?.over ?? none),
    filtered: byRule(tally?.filtered ?? none),
    redacted: byRule(tally?.redacted ?? none),
  };
}
