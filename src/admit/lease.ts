/**
 * What one gateway holds of one figure (items or bytes) of a tenant: what it took ahead of the rate that all
 * gateways share, and what it used beyond that. Nothing here talks to Redis; leases.ts does.
 *
 * A request is let in while something that was taken ahead is left. Without it, one is let in on credit as
 * long as there should be something left in Redis, by what was left at the last settlement and what has come
 * in since: up to one lease, and where the settlement was a moment ago up to half of what this gateway could
 * have of it if all came at once. So neither a first request nor a burst waits for Redis.
 */
import { Bucket } from './bucket.ts';
import type { SettledUnit, SettleUnit } from './lease-script.ts';

export interface LeaseLimits {
  /** 0: no limit. */
  readonly perSecond: number;
  readonly burstSeconds: number;
  /** 0: no limit. */
  readonly perDay: number;
  /** How far ahead is taken. */
  readonly leaseMs: number;
}

/** Of a lease at the rate of the tenant: what is wanted at least, so that its next request is let in. */
const WANTED_MIN = 0.1;
/** Of what was taken ahead: with less left it is time for more. */
const LOW = 0.25;
/** So long after a settlement other gateways haven't changed much about what was left. */
const FRESH_MS = 50;

export class Lease {
  #limits: LeaseLimits;
  #ahead = 0;
  /** The last grant, of which `#ahead` is the rest. */
  #granted = 0;
  /** What should be left in Redis… */
  readonly #left: Bucket;
  /** …and once this gateway has paid. Debts fade where Redis would be full: a bucket doesn't count longer. */
  readonly #net: Bucket;
  /** Use of about one lease: a sum that fades with it. */
  #recent = 0;
  /** Used since the last settlement was begun. */
  #fresh = 0;
  /** Used and not told to Redis yet. */
  #untold = 0;
  #usedToday = 0;
  #settledMs = Number.NEGATIVE_INFINITY;

  constructor(limits: LeaseLimits, nowMs: number) {
    this.#limits = limits;
    this.#left = new Bucket(limits.perSecond, capacityOf(limits), nowMs);
    this.#net = new Bucket(limits.perSecond, capacityOf(limits), nowMs);
  }

  get limits(): LeaseLimits {
    return this.#limits;
  }

  /** By all gateways, as far as it is known. */
  get usedToday(): number {
    return this.#usedToday + this.#untold;
  }

  get isQuotaUsed(): boolean {
    return this.#limits.perDay > 0 && this.usedToday >= this.#limits.perDay;
  }

  /** Whether Redis has something to hear. */
  get isOpen(): boolean {
    return this.#untold > 0 || this.#ahead > 0;
  }

  retune(limits: LeaseLimits, nowMs: number): void {
    const wasLimited = this.#limits.perSecond > 0;
    this.#limits = limits;
    if (limits.perSecond === 0) this.#ahead = 0;
    const capacity = capacityOf(limits);
    for (const bucket of [this.#left, this.#net]) {
      bucket.retune(limits.perSecond, capacity, nowMs);
      // What was used without a limit is not owed.
      if (!wasLimited) bucket.set(capacity, nowMs);
    }
  }

  /**
   * 0 when a request may go in, otherwise how long until one may.
   * @param gateways that share the rate; 0 while Redis doesn't answer: then all of it counts as this one's
   */
  refusalMs(nowMs: number, gateways: number): number {
    const { perSecond, leaseMs } = this.#limits;
    if (perSecond === 0 || this.#ahead > 0) return 0;
    const waitMs = this.#net.refusalMs(nowMs);
    if (waitMs > 0) return waitMs;
    // Otherwise it is there, but has to be asked for first.
    return gateways === 0 || this.#owed(nowMs) < this.#credit(nowMs, gateways) ? 0 : leaseMs;
  }

  /** Whether most of what was taken ahead is used, and there should be more. */
  isLow(nowMs: number): boolean {
    if (this.#limits.perSecond === 0 || this.#ahead > this.#granted * LOW) return false;
    return this.#net.level(nowMs) > 0;
  }

  /** Whether more is owed than one lease: Redis should hear of it soon. */
  isDeep(nowMs: number): boolean {
    return this.#limits.perSecond > 0 && this.#owed(nowMs) >= this.#leaseOfRate();
  }

  charge(amount: number, nowMs: number): void {
    this.#untold += amount;
    this.#fresh += amount;
    if (this.#limits.perSecond === 0) return;
    const taken = Math.min(this.#ahead, amount);
    this.#ahead -= taken;
    this.#net.take(amount - taken, nowMs);
  }

  /**
   * Begins a settlement: what to tell Redis.
   * @param sinceMs since the last one was begun
   * @param isWanted whether more is taken ahead
   */
  ask(sinceMs: number, isWanted: boolean, nowMs: number): SettleUnit {
    const { perSecond, leaseMs } = this.#limits;
    this.#recent = this.#recent * Math.exp(-sinceMs / leaseMs) + this.#fresh;
    this.#fresh = 0;
    const wanted = isWanted ? Math.max(this.#recent, this.#leaseOfRate() * WANTED_MIN) : 0;
    const back = this.#ahead - this.#owed(nowMs);
    return { perSecond, capacity: capacityOf(this.#limits), back, wanted, used: this.#untold };
  }

  /** Ends it. What was used meanwhile is taken from the grant. */
  settled(asked: SettleUnit, { granted, left, usedToday }: SettledUnit, nowMs: number): void {
    this.#untold -= asked.used;
    this.#usedToday = usedToday;
    this.#settledMs = nowMs;
    if (asked.perSecond === 0 || this.#limits.perSecond === 0) return;
    this.#granted = granted;
    this.#ahead = Math.max(0, granted - this.#fresh);
    this.#left.set(left, nowMs);
    this.#net.set(left, nowMs);
    this.#net.take(Math.max(0, this.#fresh - granted), nowMs);
  }

  /** It is midnight. */
  newDay(): void {
    this.#usedToday = 0;
  }

  #credit(nowMs: number, gateways: number): number {
    const isFresh = nowMs - this.#settledMs <= FRESH_MS;
    return Math.max(this.#leaseOfRate(), isFresh ? this.#net.level(nowMs) / (2 * gateways) : 0);
  }

  #owed(nowMs: number): number {
    return Math.max(0, this.#left.level(nowMs) - this.#net.level(nowMs));
  }

  /** What comes in during one lease. */
  #leaseOfRate(): number {
    return (this.#limits.perSecond * this.#limits.leaseMs) / 1000;
  }
}

function capacityOf({ perSecond, burstSeconds }: LeaseLimits): number {
  return perSecond * burstSeconds;
}
