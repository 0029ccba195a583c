/**
 * The rates and daily quotas of tenants, which all gateways share. The true buckets lie in Redis; each
 * gateway takes ahead what it needs for about one lease (`shares.leaseMs`, by its own use) and settles once
 * in a lease (lua/lease.lua), so no request waits for Redis. It settles before its time when most of a lease
 * is used and more is there, since what a tenant may burst shouldn't wait for the clock, and when it owes
 * more than a lease.
 *
 * What can go beyond a rate: what gateways owe until they settle, about one lease each and the requests that
 * were let in while something was left. All of it is paid later. Of a gateway that dies, what it had
 * taken ahead is lost, and what it owed is forgotten. While Redis doesn't answer, each gateway goes on with
 * the whole rate (nothing can be stored anyway) and pays when it is back. Of a settlement whose answer was
 * lost nobody knows whether it was made: it is made again, so one lease and its use may count twice.
 *
 * A tenant without limits is not known here, one that sends nothing costs nothing.
 */
import { Fault } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Settings } from '../config/settings.ts';
import type { TenantSettings } from '../config/tenants.ts';
import type { RedisCommands } from '../redis/client.ts';
import { Lease, type LeaseLimits } from './lease.ts';
import { type Settled, settle } from './lease-script.ts';

export const UNITS = ['items', 'bytes'] as const;
export type Unit = (typeof UNITS)[number];

export interface LeasesOptions {
  readonly redis: RedisCommands;
  readonly logger: Logger;
  /** Monotonic. */
  readonly nowMs: () => number;
  /** 0 to 1. */
  readonly random: () => number;
}

/** Why a tenant has to wait. */
export interface Exhausted {
  readonly reason: 'tenant_rate' | 'tenant_quota';
  readonly unit: Unit;
  /** Per second or per day. */
  readonly limit: number;
  readonly burstSeconds: number;
  readonly waitMs: number;
}

/** Of a tenant with limits. */
interface Holder {
  readonly name: string;
  readonly items: Lease;
  readonly bytes: Lease;
  /** Something of it has come since the last settlement. */
  isAsked: boolean;
  /** Settles when the settlement under way has ended. */
  underWay: Promise<void> | undefined;
  isAlone: boolean;
  /** When the last settlement began, and when the next one is due. */
  begunMs: number;
  dueMs: number;
  dayEndsMs: number;
}

/** Between settlements of one tenant that are made because a lease is low. */
const LOW_MS_MIN = 20;

export class Leases {
  readonly #options: LeasesOptions;
  readonly #holders = new Map<string, Holder>();
  #list: readonly TenantSettings[] = [];
  #leaseMs = 0;
  #gateways = 1;

  constructor(options: LeasesOptions) {
    this.#options = options;
  }

  /** Why the tenant has to wait, if it has to. */
  refusal(tenant: string): Exhausted | undefined {
    const holder = this.#holders.get(tenant);
    if (holder === undefined) return undefined;
    const nowMs = this.#options.nowMs();
    holder.isAsked = true;
    if (nowMs >= holder.dayEndsMs) this.#newDay(holder);
    const found = quotaOf(holder, nowMs) ?? rateOf(holder, this.#gateways, nowMs);
    if (found?.reason !== 'tenant_quota') this.#early(holder, nowMs);
    return found;
  }

  /** What was taken of a request that had been let in. */
  charge(tenant: string, items: number, bytes: number): void {
    const holder = this.#holders.get(tenant);
    if (holder === undefined) return;
    const nowMs = this.#options.nowMs();
    holder.isAsked = true;
    holder.items.charge(items, nowMs);
    holder.bytes.charge(bytes, nowMs);
    this.#early(holder, nowMs);
  }

  /**
   * Takes over the settings and begins the settlements that are due.
   * @param gateways that share the rates, with this one
   */
  tick({ tenants, shares }: Pick<Settings, 'tenants' | 'shares'>, gateways: number): void {
    const nowMs = this.#options.nowMs();
    this.#gateways = gateways;
    if (tenants.list !== this.#list || shares.leaseMs !== this.#leaseMs) {
      this.#list = tenants.list;
      this.#leaseMs = shares.leaseMs;
      this.#takeOver(nowMs);
    }
    for (const holder of this.#holders.values()) {
      if (nowMs >= holder.dayEndsMs) this.#newDay(holder);
      if (nowMs < holder.dueMs || holder.underWay !== undefined) continue;
      if (holder.isAsked || isOpen(holder)) this.#begin(holder, true, nowMs);
    }
  }

  /** Part of the daily quota that is used, for tenants and units with a quota. */
  *quotas(): Generator<{ readonly tenant: string; readonly unit: Unit; readonly used: number }> {
    for (const holder of this.#holders.values()) {
      for (const unit of UNITS) {
        const { perDay } = holder[unit].limits;
        if (perDay > 0) yield { tenant: holder.name, unit, used: holder[unit].usedToday / perDay };
      }
    }
  }

  /** Resolves when no settlement is under way. */
  async idle(): Promise<void> {
    for (;;) {
      const underWay = [...this.#holders.values()].flatMap((holder) => holder.underWay ?? []);
      if (underWay.length === 0) return;
      // When one ends, another one may have begun.
      await Promise.all(underWay);
    }
  }

  /** Pays what is owed and gives back the rest, as far as Redis answers. Nothing is let in afterwards. */
  async giveBack(): Promise<void> {
    await this.idle();
    const nowMs = this.#options.nowMs();
    for (const holder of this.#holders.values()) if (isOpen(holder)) this.#begin(holder, false, nowMs);
    await this.idle();
  }

  #takeOver(nowMs: number): void {
    const limited = new Set<string>();
    for (const tenant of this.#list) {
      if (!isLimited(tenant)) continue;
      limited.add(tenant.name);
      const items = limitsOf(tenant, 'items', this.#leaseMs);
      const bytes = limitsOf(tenant, 'bytes', this.#leaseMs);
      const known = this.#holders.get(tenant.name);
      known?.items.retune(items, nowMs);
      known?.bytes.retune(bytes, nowMs);
      if (known === undefined) this.#holders.set(tenant.name, newHolder(tenant.name, items, bytes, nowMs));
    }
    for (const name of this.#holders.keys()) if (!limited.has(name)) this.#holders.delete(name);
  }

  #newDay(holder: Holder): void {
    holder.items.newDay();
    holder.bytes.newDay();
    holder.dayEndsMs = Number.POSITIVE_INFINITY;
  }

  #early(holder: Holder, nowMs: number): void {
    if (holder.underWay !== undefined || holder.isAlone) return;
    const isLow = nowMs >= holder.begunMs + LOW_MS_MIN && isEither(holder, 'isLow', nowMs);
    if (isLow || isEither(holder, 'isDeep', nowMs)) this.#begin(holder, true, nowMs);
  }

  #begin(holder: Holder, isWanted: boolean, nowMs: number): void {
    const sinceMs = nowMs - holder.begunMs;
    holder.begunMs = nowMs;
    // Not always the same, or a gateway that settles just after another one would find nothing, always.
    holder.dueMs = nowMs + this.#leaseMs * (0.75 + this.#options.random() / 2);
    holder.underWay = this.#settle(holder, sinceMs, isWanted, nowMs).finally(() => {
      holder.underWay = undefined;
      this.#again(holder);
    });
  }

  /** What was used while a settlement was under way may be a lot, too. */
  #again(holder: Holder): void {
    const isKnown = this.#holders.get(holder.name) === holder;
    const nowMs = this.#options.nowMs();
    if (isKnown && !holder.isAlone && isEither(holder, 'isDeep', nowMs)) this.#begin(holder, true, nowMs);
  }

  async #settle(holder: Holder, sinceMs: number, isWanted: boolean, nowMs: number): Promise<void> {
    const { items, bytes, isAsked } = holder;
    holder.isAsked = false;
    const wanted = isWanted && isAsked;
    const asked = { items: items.ask(sinceMs, wanted, nowMs), bytes: bytes.ask(sinceMs, wanted, nowMs) };
    let found: Settled;
    try {
      found = await settle(this.#options.redis, holder.name, asked.items, asked.bytes);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      holder.isAlone = true;
      this.#options.logger.debug({ tenant: holder.name, reason: error.message }, 'shares were not settled');
      return;
    }
    holder.isAlone = false;
    // As of the question: the answer may have taken a while, and what came in meanwhile comes on top.
    holder.dayEndsMs = nowMs + found.dayEndsInMs;
    items.settled(asked.items, found.items, nowMs);
    bytes.settled(asked.bytes, found.bytes, nowMs);
  }
}

function newHolder(name: string, items: LeaseLimits, bytes: LeaseLimits, nowMs: number): Holder {
  return {
    name,
    items: new Lease(items, nowMs),
    bytes: new Lease(bytes, nowMs),
    isAsked: false,
    underWay: undefined,
    isAlone: false,
    begunMs: Number.NEGATIVE_INFINITY,
    dueMs: nowMs,
    dayEndsMs: Number.POSITIVE_INFINITY,
  };
}

function isLimited(tenant: TenantSettings): boolean {
  const { itemsPerSecond, bytesPerSecond, itemsPerDay, bytesPerDay } = tenant;
  return itemsPerSecond > 0 || bytesPerSecond > 0 || itemsPerDay > 0 || bytesPerDay > 0;
}

function isOpen({ items, bytes }: Holder): boolean {
  return items.isOpen || bytes.isOpen;
}

function isEither({ items, bytes }: Holder, what: 'isLow' | 'isDeep', nowMs: number): boolean {
  return items[what](nowMs) || bytes[what](nowMs);
}

function limitsOf(tenant: TenantSettings, unit: Unit, leaseMs: number): LeaseLimits {
  const perSecond = unit === 'items' ? tenant.itemsPerSecond : tenant.bytesPerSecond;
  const perDay = unit === 'items' ? tenant.itemsPerDay : tenant.bytesPerDay;
  return { perSecond, perDay, burstSeconds: tenant.burstSeconds, leaseMs };
}

function quotaOf(holder: Holder, nowMs: number): Exhausted | undefined {
  const unit = UNITS.find((name) => holder[name].isQuotaUsed);
  if (unit === undefined) return undefined;
  const { perDay, burstSeconds } = holder[unit].limits;
  const waitMs = holder.dayEndsMs - nowMs;
  return { reason: 'tenant_quota', unit, limit: perDay, burstSeconds, waitMs };
}

function rateOf(holder: Holder, gateways: number, nowMs: number): Exhausted | undefined {
  let longest: Exhausted | undefined;
  for (const unit of UNITS) {
    const waitMs = holder[unit].refusalMs(nowMs, holder.isAlone ? 0 : gateways);
    if (waitMs <= (longest?.waitMs ?? 0)) continue;
    const { perSecond, burstSeconds } = holder[unit].limits;
    longest = { reason: 'tenant_rate', unit, limit: perSecond, burstSeconds, waitMs };
  }
  return longest;
}
