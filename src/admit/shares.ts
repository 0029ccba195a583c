/**
 * What each tenant may send: its own rates and quotas (leases.ts), and under pressure its fair part of what
 * can be taken (fair.ts). A gateway asks before the body of a request is read and says afterwards what it has
 * taken. Gateways tell each other what tenants ask them for, on the board of pressure; from that each one
 * works out the same shares, and lets in of them the part that it is asked for.
 */
import { sleep, tickMs } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import type { Settings } from '../config/settings.ts';
import type { Instruments } from '../metrics/instruments.ts';
import { type LaterReason, type ShareReason, type Verdict, later } from '../model/outcome.ts';
import { SIGNALS, type Signal } from '../model/signal.ts';
import type { RedisCommands } from '../redis/client.ts';
import { Bucket } from './bucket.ts';
import { Demands } from './demand.ts';
import { type SignalClass, type SignalDemand, demandOf, fairLevel, shareClasses } from './fair.ts';
import { type Exhausted, Leases } from './leases.ts';
import { TenantMetrics } from './tenant-metrics.ts';

/** What a gateway tells the others: what tenants ask it for, bytes per second over the wire. */
export interface BoardEntry {
  /** Of the gateway. */
  readonly id: string;
  readonly tenants: Readonly<Record<string, SignalDemand>>;
}

export interface SharesOptions {
  /** As they are now. */
  readonly settings: () => Pick<Settings, 'tenants' | 'shares' | 'pressure'>;
  readonly redis: RedisCommands;
  readonly instruments: Pick<
    Instruments,
    'tenantItems' | 'tenantBytes' | 'tenantRefused' | 'tenantQuotaUsed' | 'admittedShare'
  >;
  readonly logger: Logger;
  /** What all gateways together may let in, bytes per second over the wire; undefined: anything. */
  readonly capacity: () => number | undefined;
  /** What is on the board; this gateway's own entry, if it is there, doesn't count. */
  readonly others: () => readonly BoardEntry[];
  readonly id: string;
  /** Monotonic. */
  readonly nowMs?: () => number;
  /** 0 to 1. */
  readonly random?: () => number;
}

/** What was taken of a request. */
export interface Taken {
  readonly items: number;
  /** After decompression. */
  readonly bytes: number;
  /** As they came over the wire: requests whose clients don't say count as usual ones of their tenant. */
  readonly wireBytes: number;
}

/** Of a tenant, for one class of signals, while that is short. */
interface Portion {
  readonly bucket: Bucket;
  readonly signals: readonly Signal[];
  /** Of all gateways together. */
  readonly offered: number;
  readonly allowed: number;
  /** It asks for more than its part of the whole, and isn't the only one. */
  readonly isOver: boolean;
  readonly shortage: SignalClass;
}

type Portions = Partial<Record<Signal, Portion>>;
type Demand = Map<string, SignalDemand>;

const TICK_MS = 250;
/** Between two updates of their gauge. */
const QUOTAS_MS = 1_000;
/** Under pressure: what collects for a tenant that is quiet, in seconds of its part. */
const BURST_SECONDS = 1;
/** Delays are this much longer at most, so that not all come back at once. */
const SPREAD = 0.5;

export class Shares {
  readonly #options: SharesOptions;
  readonly #nowMs: () => number;
  readonly #random: () => number;
  readonly #leases: Leases;
  readonly #metrics: TenantMetrics;
  readonly #demands = new Demands();
  readonly #stop = new AbortController();
  #portions = new Map<string, Portions>();
  #tickedMs: number;
  #quotasDueMs = 0;

  constructor(options: SharesOptions) {
    this.#options = options;
    this.#nowMs = options.nowMs ?? tickMs;
    this.#random = options.random ?? Math.random;
    const { redis, logger, instruments } = options;
    this.#leases = new Leases({ redis, logger, nowMs: this.#nowMs, random: this.#random });
    this.#metrics = new TenantMetrics(instruments);
    this.#tickedMs = this.#nowMs();
  }

  /**
   * Why a request can't come in now, before its body is read. Without a refusal it is counted as let in.
   * @param declaredBytes what the client says it will send, 0 when it doesn't say
   */
  refusal(tenant: string, signal: Signal, declaredBytes: number): Verdict | undefined {
    const exhausted = this.#leases.refusal(tenant);
    // What its own limits keep out is not asked of the others: it wouldn't use a part that it got for it.
    if (exhausted !== undefined)
      return this.#refuse(tenant, exhausted.reason, exhaustedMessage(tenant, exhausted), exhausted.waitMs);
    const bytes = this.#demands.ask(tenant, signal, declaredBytes);
    const portion = this.#portions.get(tenant)?.[signal];
    if (portion !== undefined) {
      const nowMs = this.#nowMs();
      const waitMs = portion.bucket.refusalMs(nowMs);
      if (waitMs > 0) return this.#short(tenant, portion, waitMs);
      portion.bucket.take(bytes, nowMs);
    }
    this.#demands.admitted(bytes);
    return undefined;
  }

  /** A request that nobody can be let in with now: its tenant wants its part all the same. */
  asked(tenant: string, signal: Signal, declaredBytes: number): void {
    this.#demands.ask(tenant, signal, declaredBytes);
  }

  /** What was taken of a request that had been let in, once that is known. */
  charge(tenant: string, signal: Signal, { items, bytes, wireBytes }: Taken): void {
    this.#leases.charge(tenant, items, bytes);
    this.#demands.measured(tenant, signal, wireBytes);
    this.#metrics.taken(tenant, signal, items, bytes);
  }

  /** Under which name a tenant is counted: not all have one of their own. */
  nameOf(tenant: string): string {
    return this.#metrics.nameOf(tenant);
  }

  /** What tenants ask this gateway for, for the board; of a bounded number of tenants. */
  demand(): Record<string, SignalDemand> {
    return this.#demands.told();
  }

  /** Brings leases, shares and gauges up to date, with the settings as they are now. */
  tick(): void {
    const { settings, instruments } = this.#options;
    const now = settings();
    const nowMs = this.#nowMs();
    this.#demands.tick(nowMs - this.#tickedMs);
    this.#tickedMs = nowMs;
    this.#leases.tick(now, 1 + this.#others().length);
    this.#allocate(now, nowMs);
    this.#metrics.refresh(now.tenants);
    if (nowMs >= this.#quotasDueMs) {
      this.#quotasDueMs = nowMs + QUOTAS_MS;
      this.#metrics.quotas(this.#leases.quotas());
    }
    instruments.admittedShare.set(this.#demands.admittedShare);
  }

  /** Ticks at once and from now on. Before, nobody has limits. */
  start(): void {
    this.tick();
    void this.#keepUp();
  }

  /** Resolves when what was taken ahead is given back, as far as Redis answers. Never rejects. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#leases.giveBack();
  }

  async #keepUp(): Promise<void> {
    const { signal } = this.#stop;
    for (;;) {
      await sleep(Math.min(TICK_MS, this.#options.settings().shares.leaseMs), signal);
      if (signal.aborted) return;
      this.tick();
    }
  }

  #allocate({ tenants, shares }: Pick<Settings, 'tenants' | 'shares'>, nowMs: number): void {
    const capacity = this.#options.capacity();
    const before = this.#portions;
    this.#portions = new Map();
    if (capacity === undefined) return;
    const own: Demand = new Map(this.#demands.entries());
    const all = this.#everybody(own);
    const weights = new Map(tenants.list.map(({ name, weight }) => [name, weight]));
    const weightOf = (tenant: string) => weights.get(tenant) ?? 1;
    const totals = [...all].map(([tenant, demand]) => {
      return { demand: demandOf(demand, SIGNALS), weight: weightOf(tenant) };
    });
    const level = fairLevel(totals, capacity);
    const isAlone = totals.filter(({ demand }) => demand > 0).length < 2;
    const short = shareClasses(all, weightOf, capacity, shares.slowFirst).filter(isShort);
    if (short.length === 0) return;
    for (const [tenant, asked] of own) {
      const everywhere = all.get(tenant) ?? asked;
      const weight = weightOf(tenant);
      const isOver = !isAlone && demandOf(everywhere, SIGNALS) > level * weight;
      const portions: Portions = {};
      for (const shortage of short) {
        const { signals } = shortage;
        const here = demandOf(asked, signals);
        if (here <= 0) continue;
        const offered = demandOf(everywhere, signals);
        const allowed = shortage.level * weight;
        const rate = (allowed * here) / offered;
        const bucket = bucketOf(before.get(tenant), signals, rate, nowMs);
        for (const signal of signals)
          portions[signal] = { bucket, signals, offered, allowed, isOver, shortage };
      }
      this.#portions.set(tenant, portions);
    }
  }

  /** What is asked of all gateways together. */
  #everybody(own: Demand): Demand {
    const all: Demand = new Map(own);
    for (const { tenants } of this.#others())
      for (const [tenant, demand] of Object.entries(tenants)) all.set(tenant, added(all.get(tenant), demand));
    return all;
  }

  #others(): readonly BoardEntry[] {
    return this.#options.others().filter(({ id }) => id !== this.#options.id);
  }

  #short(tenant: string, portion: Portion, waitMs: number): Verdict {
    const { offered, allowed, isOver, signals, shortage } = portion;
    const what = signals.join(', ');
    if (isOver) {
      const said = `tenant ${tenant} sends ${rateText(offered)} of ${what}`;
      const part = `its part is ${rateText(allowed)} now (weight in tenants.list)`;
      return this.#refuse(tenant, 'tenant_share', `${said}, ${part}`, waitMs);
    }
    const said = `of ${what} all clients send ${rateText(shortage.demand)}`;
    const taken = `${rateText(shortage.capacity)} can be taken now (SLUICE_SHARES_SLOW_FIRST)`;
    return this.#refuse(tenant, 'slowing', `${said}, ${taken}`, waitMs);
  }

  #refuse(tenant: string, reason: ShareReason | LaterReason, message: string, waitMs: number): Verdict {
    if (isShareReason(reason)) this.#metrics.refused(tenant, reason);
    const { retryMsMin, retryMsMax } = this.#options.settings().pressure;
    // Spread out also where all would have to wait for longer than the longest delay.
    const base = Math.max(retryMsMin, Math.min(waitMs, retryMsMax / (1 + SPREAD)));
    const delayMs = Math.min(retryMsMax, base * (1 + this.#random() * SPREAD));
    return later(reason, `${message}; send it again`, delayMs);
  }
}

function isShort({ level }: SignalClass): boolean {
  return level < Number.POSITIVE_INFINITY;
}

function isShareReason(reason: ShareReason | LaterReason): reason is ShareReason {
  return reason.startsWith('tenant_');
}

/** The one that the tenant had, so that what it owes is not forgotten. */
function bucketOf(
  before: Portions | undefined, signals: readonly Signal[], perSecond: number, nowMs: number,
): Bucket {
  const [first] = signals;
  const known = first && before?.[first]?.bucket;
  if (known === undefined) return new Bucket(perSecond, perSecond * BURST_SECONDS, nowMs);
  known.retune(perSecond, perSecond * BURST_SECONDS, nowMs);
  return known;
}

function added(one: SignalDemand | undefined, other: SignalDemand): SignalDemand {
  const { traces = 0, metrics = 0, logs = 0 } = one ?? {};
  return {
    traces: traces + (other.traces ?? 0),
    metrics: metrics + (other.metrics ?? 0),
    logs: logs + (other.logs ?? 0),
  };
}

function exhaustedMessage(tenant: string, { reason, unit, limit, burstSeconds }: Exhausted): string {
  const key = `${unit}${reason === 'tenant_rate' ? 'PerSecond' : 'PerDay'} in tenants.list`;
  if (reason === 'tenant_quota')
    return `tenant ${tenant} has used its ${limit} ${unit} of today, until midnight UTC (${key})`;
  const burst = `after a burst of ${burstSeconds} s`;
  return `tenant ${tenant} sends more than its ${limit} ${unit} per second ${burst} (${key})`;
}

function rateText(bytesPerSecond: number): string {
  return `${Math.round(bytesPerSecond)} bytes/s`;
}
