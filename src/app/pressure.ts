/**
 * Whether more may come in, and how much: one level with reasons, the same on every gateway. What is known
 * here (queue, Redis, ClickHouse by the writers, this process itself) goes to the board in Redis, and what
 * all others know comes from there. docs/pressure.md tells operators of it.
 *
 * Everything is reckoned four times a second, and at once when the queue's bytes, which come with every
 * commit, reach their limit: so a flood between two ticks doesn't overshoot, and asking costs nothing.
 */
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { Pace, Trend, queueCapacity, retryAfterMs } from '../admit/pace.ts';
import {
  type Demand, type Entry, type EntryReading, type Posted, PressureBoard,
} from '../admit/pressure-board.ts';
import {
  type Held, type Level, Levels, OWN_REASONS, type PressureReason, type Reading, SHARED_REASONS, strictest,
} from '../admit/pressure.ts';
import { type Inside, Vitals } from '../admit/vitals.ts';
import { tickMs } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import type { Settings } from '../config/settings.ts';
import type { Instruments } from '../metrics/instruments.ts';
import { type LaterReason, type Verdict, later } from '../model/outcome.ts';
import type { BatchStore } from '../queue/batch-store.ts';
import type { StrainReading } from '../write/strain.ts';
import type { Books } from './books.ts';
import { Flow } from './pressure-flow.ts';
import { RedisMemory } from './pressure-redis.ts';
import { PressureTeller } from './pressure-tell.ts';
import { refusalOf } from './pressure-words.ts';
import type { Role } from './roles.ts';

const TICK_MS = 250;
/** Of what is asked, and paced, once a second. */
const TICKS_PER_SECOND = 4;
/** Of what is accepted and refused: as long as the readings are smoothed. */
const RATE_MS = 2_000;
/** A Redis that restarts or fails over is back within seconds. Up to twice as long. */
const REDIS_RETRY_AFTER_MS = 1_000;
const REDIS_AWAY = 'Redis is away and nothing can be stored; send it again';
/** Of the queue's limit: where clients are let in again. */
const RELEASE_RATIO = 0.9;
/** A gateway that takes nothing itself is not told that it may take everything. */
const SHARE_MIN = 0.01;

const isShared = ({ reason }: Reading) => (SHARED_REASONS as readonly PressureReason[]).includes(reason);
const isOwn = ({ reason }: Reading) => (OWN_REASONS as readonly PressureReason[]).includes(reason);
/** The queue's capacity is reckoned, and the door counts for itself; all others are paced by trial. */
const UNPACED: readonly PressureReason[] = ['queue_full', 'requests_in_flight', 'bytes_in_flight'];

export interface PressureOptions {
  readonly store: BatchStore;
  readonly books: Books;
  /** Those in force: they may change while this runs. */
  readonly settings: () => Settings;
  readonly role: Role;
  readonly instruments: Instruments;
  readonly logger: Logger;
  /** Where ClickHouse is asked: what it runs short of. */
  readonly strain?: { readonly readings: readonly StrainReading[] };
}

export class Pressure {
  /** Of this process on the board. */
  readonly id: string;
  readonly #options: PressureOptions;
  readonly #levels = new Levels();
  readonly #flow = new Flow();
  readonly #redisMemory: RedisMemory;
  readonly #vitals: Vitals | undefined;
  readonly #board: PressureBoard;
  readonly #teller: PressureTeller;
  readonly #sharedPace = new Pace();
  readonly #ownPace = new Pace();
  readonly #items = new Trend(RATE_MS);
  readonly #wireBytes = new Trend(RATE_MS);
  readonly #refusals = new Trend(RATE_MS);
  #itemCount = 0;
  #wireByteCount = 0;
  #refusalCount = 0;
  #commits = { count: 0, seconds: 0 };
  #inside: (() => Inside) | undefined;
  #demand: (() => Demand) | undefined;
  #timer: NodeJS.Timeout | undefined;
  #ticks = 0;
  /** What this process knows by itself, and what of it counts here together with all others' readings. */
  #known: readonly Reading[] = [];
  #counted: readonly Reading[] = [];
  #away = false;
  #full = false;
  #refusal: { readonly reason: LaterReason; readonly message: string } | undefined;
  #neededMs = 0;
  #refusalsPerSecond = 0;
  #capacity: number | undefined;

  constructor(options: PressureOptions) {
    this.#options = options;
    const { role, store, books, instruments, logger } = options;
    this.id = `${role}-${hostname()}-${process.pid}-${randomBytes(3).toString('hex')}`;
    this.#redisMemory = new RedisMemory(store.redis);
    this.#teller = new PressureTeller(instruments, logger);
    // Only who takes requests can push them back.
    if (role !== 'writer') this.#vitals = new Vitals(() => this.#inside?.());
    const entry = () => this.#entry();
    const onRead = () => this.refresh();
    this.#board = new PressureBoard({ redis: store.redis, id: this.id, entry, onRead, logger });
    books.onRead((shards) => this.#flow.read(tickMs(), shards));
  }

  /** What the door counts, once there is one. */
  set inside(inside: () => Inside) {
    this.#inside = inside;
  }

  /** What this gateway is asked for: all others get to know it. */
  set demand(demand: () => Demand) {
    this.#demand = demand;
  }

  /** Redis is there. */
  start(): void {
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS);
    this.#board.start();
    void this.#redisMemory.ask();
  }

  /** While Redis is still there: others are told that this process is gone. Never rejects. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#vitals?.stop();
    await this.#board.stop();
  }

  get level(): Level {
    return this.#away ? 2 : this.#levels.level;
  }

  /** Those above level 0, the strongest first. */
  get reasons(): readonly LaterReason[] {
    const reasons: LaterReason[] = this.#levels.reasons.map(({ reading }) => reading.reason);
    return this.#away ? ['redis_unavailable', ...reasons] : reasons;
  }

  /** Why this process refuses while others needn't: clients should go to those. */
  get alone(): PressureReason | undefined {
    return this.#levels.reasons.find(({ level, reading }) => level === 2 && isOwn(reading))?.reading.reason;
  }

  /** Everybody's newest entry, this process' own among them. */
  get board(): readonly Posted[] {
    return this.#board.entries;
  }

  /**
   * What all gateways together may take in now, bytes per second as they come over the wire; undefined for
   * whatever comes. Where this process alone is in need, so much that its usual share of it is what it can
   * bear.
   */
  capacity(): number | undefined {
    return this.#capacity;
  }

  /** What was accepted. */
  note({ items, wireBytes }: { readonly items: number; readonly wireBytes: number }): void {
    this.#itemCount += items;
    this.#wireByteCount += wireBytes;
  }

  /**
   * Why nothing may come in now, if so. Asked before anything of a request is read: a request that can't be
   * stored isn't read in vain.
   */
  verdict(): Verdict | undefined {
    const { store, books } = this.#options;
    const away = !store.redis.ready;
    const flooded = !this.#full && books.queueBytes >= books.bytesMax;
    if (away !== this.#away || flooded) this.refresh();
    if (away) {
      this.#refusalCount += 1;
      return later('redis_unavailable', REDIS_AWAY, REDIS_RETRY_AFTER_MS * (1 + Math.random()));
    }
    if (this.#refusal === undefined) return undefined;
    const { reason, message } = this.#refusal;
    return later(reason, message, this.retryAfterMs());
  }

  /** When a client that is refused now should come back; each call counts as a refusal. */
  retryAfterMs(): number {
    this.#refusalCount += 1;
    const bounds = this.#options.settings().pressure;
    return retryAfterMs(this.#neededMs, this.#refusalsPerSecond, bounds, Math.random());
  }

  /** Reckons anew from what is known now; done often enough by itself once it has started. */
  refresh(): void {
    const { store, books, settings, strain, role } = this.#options;
    const { pressure } = settings();
    const atMs = tickMs();
    this.#away = !store.redis.ready;
    this.#flow.sample(atMs, books.queueBytes);
    const queue = this.#flow.readings(books.bytesMax, pressure);
    const memory = this.#redisMemory.readings(pressure.redisMemoryPercentMax);
    const clickhouse = strain?.readings ?? [];
    const own = this.#vitals?.readings ?? [];
    const shared = [...queue, ...memory, ...clickhouse];
    // Who only writes pushes nobody back, and needn't have been told how far the gateways go.
    this.#known = role === 'writer' ? clickhouse : [...shared, ...own];
    const theirs = this.#board.entries
      .filter(({ id }) => id !== this.id)
      .flatMap(({ readings }) => readings.filter(isShared));
    this.#counted = strictest([...shared, ...own, ...theirs]);
    const held = highest(theirs);
    const changed = this.#levels.reckon(this.#counted, pressure.horizonSeconds, atMs, held);
    this.#full = this.#levels.levelOf('queue_full') === 2;
    const { reasons } = this.#levels;
    const [strongest] = reasons;
    this.#refusal =
      strongest?.level === 2
        ? { reason: strongest.reading.reason, message: refusalOf(strongest.reading) }
        : undefined;
    this.#neededMs = this.#neededFor(reasons, atMs);
    this.#capacity = this.#reckonCapacity(reasons, pressure.horizonSeconds);
    this.#teller.tell({ away: this.#away, level: this.level, changed, readings: this.#counted });
    const full = this.#counted.find(({ reason }) => reason === 'queue_full');
    this.#teller.show({ queue: full, drainItemsPerSecond: this.#flow.drainItemsPerSecond });
  }

  /** For people and programs, as JSON. */
  status() {
    const atMs = tickMs();
    const reasons = this.#levels.reasons.map(({ reading, level, sinceMs }) => ({
      ...reading,
      level,
      forSeconds: Math.round((atMs - sinceMs) / 1_000),
    }));
    return {
      id: this.id,
      level: this.level,
      redis: this.#away ? 'away' : 'connected',
      reasons,
      readings: this.#counted,
      queueLimitInSeconds: this.#counted.find(({ reason }) => reason === 'queue_full')?.inSeconds ?? null,
      drainItemsPerSecond: this.#flow.drainItemsPerSecond,
      drainBytesPerSecond: this.#flow.drainBytesPerSecond,
      storedPerWire: this.#flow.storedPerWire,
      capacityBytesPerSecond: this.#capacity ?? null,
      processes: this.#board.entries.map(({ tenants, ...entry }) => entry),
    };
  }

  #tick(): void {
    const atMs = tickMs();
    this.#items.addCount(atMs, this.#itemCount);
    this.#wireBytes.addCount(atMs, this.#wireByteCount);
    this.#refusals.addCount(atMs, this.#refusalCount);
    this.#refusalsPerSecond = this.#refusals.perSecond ?? 0;
    const total = this.#totals();
    this.#flow.accepted(total.items, total.wireBytes);
    this.#vitals?.tick(this.#options.settings().pressure);
    void this.#readCommits();
    this.#ticks += 1;
    if (this.#ticks % TICKS_PER_SECOND === 0) {
      void this.#redisMemory.ask();
      this.#paceOn(total.wireBytes);
    }
    this.refresh();
  }

  /** Those since the last tick, as the instrument has counted them. */
  async #readCommits(): Promise<void> {
    if (this.#vitals === undefined) return;
    const { values } = await this.#options.instruments.commitSeconds.get();
    const of = (ending: string) => values.find(({ metricName }) => metricName?.endsWith(ending))?.value ?? 0;
    const [count, seconds] = [of('_count'), of('_sum')];
    this.#vitals.committed((seconds - this.#commits.seconds) * 1_000, count - this.#commits.count);
    this.#commits = { count, seconds };
  }

  #paceOn(totalWireBytesPerSecond: number): void {
    const paced = this.#levels.reasons.filter(({ reading: { reason } }) => !UNPACED.includes(reason));
    const round = (pace: Pace, strongest: Held | undefined, perSecond: number) =>
      pace.round(strongest?.level ?? 0, strongest?.reading.ratio ?? 0, perSecond);
    round(this.#sharedPace, paced.find(({ reading }) => isShared(reading)), totalWireBytesPerSecond);
    round(this.#ownPace, paced.find(({ reading }) => isOwn(reading)), this.#wireBytes.perSecond ?? 0);
  }

  #reckonCapacity(reasons: readonly Held[], horizonSeconds: number): number | undefined {
    // At level 2 nothing is let in whatever it is: this is for the moment after, until it is reckoned again.
    const bounds: number[] = [];
    const queue = reasons.find(({ reading: { reason } }) => reason === 'queue_full');
    if (queue !== undefined) {
      const roomBytes = queue.reading.limit - queue.reading.value;
      const stored = queueCapacity(this.#flow.drainBytesPerSecond, roomBytes, horizonSeconds);
      bounds.push(stored / this.#flow.storedPerWire);
    }
    if (this.#sharedPace.limit !== undefined) bounds.push(this.#sharedPace.limit);
    if (this.#ownPace.limit !== undefined) bounds.push(this.#ownPace.limit / this.#share());
    return bounds.length === 0 ? undefined : Math.min(...bounds);
  }

  /** Of what all gateways are asked for, or where that isn't known accept: the part of this one. */
  #share(): number {
    const others = this.#board.entries.filter(({ id }) => id !== this.id).map(({ tenants }) => tenants);
    const asked = demanded(this.#demand?.() ?? {});
    const [own, all] =
      asked > 0
        ? [asked, asked + others.reduce((total, tenants) => total + demanded(tenants), 0)]
        : [this.#wireBytes.perSecond ?? 0, this.#totals().wireBytes];
    return all <= 0 ? 1 : Math.max(SHARE_MIN, Math.min(1, own / all));
  }

  /** What all gateways accept together, the others as they have said last. */
  #totals(): { readonly items: number; readonly wireBytes: number } {
    let items = this.#items.perSecond ?? 0;
    let wireBytes = this.#wireBytes.perSecond ?? 0;
    for (const entry of this.#board.entries) {
      if (entry.id === this.id) continue;
      items += entry.itemsPerSecond;
      wireBytes += entry.wireBytesPerSecond;
    }
    return { items, wireBytes };
  }

  /**
   * Until clients may come in again: the queue as it drains now; anything else, of which nobody can tell, for
   * as long again as it has lasted.
   */
  #neededFor(reasons: readonly Held[], atMs: number): number {
    const needed = reasons
      .filter(({ level }) => level === 2)
      .map(({ reading: { reason, value, limit }, sinceMs }) => {
        if (reason !== 'queue_full') return atMs - sinceMs;
        const overBytes = Math.max(0, value - limit * RELEASE_RATIO);
        return overBytes === 0 ? 0 : (overBytes / this.#flow.drainBytesPerSecond) * 1_000;
      });
    return Math.max(0, ...needed);
  }

  #entry(): Entry {
    const readings: EntryReading[] = this.#known.map((reading) => ({
      ...reading,
      level: this.#levels.levelOf(reading.reason),
    }));
    return {
      role: this.#options.role,
      readings,
      wireBytesPerSecond: this.#wireBytes.perSecond ?? 0,
      itemsPerSecond: this.#items.perSecond ?? 0,
      tenants: this.#demand?.() ?? {},
    };
  }
}

function demanded(tenants: Demand): number {
  let bytesPerSecond = 0;
  for (const signals of Object.values(tenants)) {
    for (const perSecond of Object.values(signals)) bytesPerSecond += perSecond ?? 0;
  }
  return bytesPerSecond;
}

function highest(readings: readonly EntryReading[]): Map<PressureReason, Level> {
  const levels = new Map<PressureReason, Level>();
  for (const { reason, level } of readings) {
    if (level > (levels.get(reason) ?? 0)) levels.set(reason, level);
  }
  return levels;
}
