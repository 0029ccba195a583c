/**
 * Which replica of a shard an insert goes to. In: inserts that begin and end, and health checks (checks.ts).
 * Out: the replica to try now, and the same in metrics and in the log.
 *
 * Health (health.ts) gives each replica a share, load (load.ts) lowers it, the strategy (strategies.ts) deals
 * inserts out by what is left. Replicas that are left out come last: when there is nothing better, the least
 * bad one is tried, once a try of the batch, so that a shard works again as soon as one of them does.
 */
import { tickMs } from '../base/clock.ts';
import type { Fault } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { ReplicaStrategy } from '../config/settings.ts';
import type { Instruments } from '../metrics/instruments.ts';
import { type Cause, Health, type HealthBounds, type ReplicaFacts } from './health.ts';
import { Load, type Running, loadsOf, unitsOf } from './load.ts';
import { type Strategy, createStrategy } from './strategies.ts';
import type { Replica, Shard, Topology } from './topology.ts';

export interface ChoiceOptions extends HealthBounds {
  readonly replicaStrategy: ReplicaStrategy;
  /** A replica with more than this many times the load of another one of its shard gets less. */
  readonly loadRatioMax: number;
  readonly instruments: Pick<Instruments, 'replicaUp' | 'replicaShare' | 'replicaInFlight'>;
  readonly logger: Logger;
  /** Monotonic milliseconds. */
  readonly now?: () => number;
  /** From 0 to below 1. */
  readonly random?: () => number;
}

export interface BatchToPlace {
  readonly id: string;
  readonly table: string;
  readonly bytes: number;
}

export interface Picked {
  readonly replica: Replica;
  /** It is left out, and all others were tried or are worse: no more tries for now after this one. */
  readonly lastResort: boolean;
}

/**
 * What the end of an insert says of its replica. `fault` is one that lies with the replica; `nothing` is an
 * end that says neither.
 */
export type Ended = 'worked' | 'nothing' | { readonly fault: Fault };

/** How often the parts of loaded replicas are looked at again, and what happens to them then. */
const TRIM_MS = 1_000;
const TRIM_DOWN = 0.8;
const TRIM_UP = 1.1;
const TRIM_MIN = 0.1;
/** Trimmed above the bound, and given back below this part of it: in between nothing changes. */
const TRIM_OVER = 0.75;
/** Why a replica is left out although it answers: whether it takes an insert, only an insert tells. */
const PASSABLE: readonly Cause[] = ['unchecked', 'delayed', 'inserts_fail'];
/** `least_loaded` prefers an idle replica to a loaded one by this at most: it has to hear of all of them. */
const LOAD_RATIO_SEEN_MAX = 10;

/** Probes of a replica that is left out come up to this part earlier: writers ask it at different moments. */
const PROBE_SPREAD = 0.25;

/** All that is known of a replica. */
interface State {
  /** As the newest topology has it: its URL may change. */
  replica: Replica;
  readonly health: Health;
  readonly load: Load;
  /** What is left of its share because of its load. */
  trim: number;
  /** Something failed since it was asked last: it is asked at once. */
  doubted: boolean;
  triedAtMs: number;
  checkedAtMs: number;
  /** Of the time until the next probe. */
  probePart: number;
}

interface ShardState {
  readonly strategy: Strategy;
  trimmedAtMs: number;
}

export class ReplicaChoice {
  readonly #options: ChoiceOptions;
  readonly #now: () => number;
  readonly #random: () => number;
  /** By host. */
  readonly #states = new Map<string, State>();
  readonly #shards = new Map<number, ShardState>();

  constructor(options: ChoiceOptions) {
    this.#options = options;
    this.#now = options.now ?? tickMs;
    this.#random = options.random ?? Math.random;
  }

  /** What to try now, none of the hosts that were tried. Undefined when no other has an address. */
  pick(shard: Shard, batch: BatchToPlace, tried: ReadonlySet<string>): Picked | undefined {
    const atMs = this.#now();
    const all = this.#statesOf(shard);
    this.#trim(shard.shard, all, atMs);
    const weights = this.#weigh(all, atMs);
    const untried = all.filter(({ replica }) => !tried.has(replica.host));
    const fit = untried.filter(({ health }) => health.out === undefined);
    const sure = fit.filter(({ health }) => !health.suspected);
    const among = sure.length > 0 ? sure : fit;
    if (among.length === 0) return picked(leastBad(untried), true, atMs);
    const candidates = among.map((state) => ({
      host: state.replica.host,
      weight: weights.get(state) ?? 0,
      unitsInFlight: state.load.unitsInFlight,
    }));
    const { id, table, bytes } = batch;
    const host = this.#shardState(shard.shard).strategy(candidates, { id, table, units: unitsOf(bytes) });
    return picked(this.#states.get(host), false, atMs);
  }

  /** An insert begins. Whoever calls it calls `ended` with what it gives, however the insert ends. */
  began(replica: Replica, bytes: number): Running {
    const state = this.#state(replica);
    const running = state.load.begin(unitsOf(bytes), this.#now());
    this.#options.instruments.replicaInFlight.set(labelsOf(replica), state.load.inFlight);
    return running;
  }

  ended(replica: Replica, running: Running, how: Ended): void {
    const state = this.#state(replica);
    const atMs = this.#now();
    if (how === 'worked') state.health.insertWorked();
    else if (how !== 'nothing') {
      state.doubted = true;
      this.#change(state, () => state.health.insertFailed(how.fault.message, atMs));
    }
    state.load.end(running, atMs, how === 'nothing' ? undefined : how === 'worked');
    this.#options.instruments.replicaInFlight.set(labelsOf(replica), state.load.inFlight);
  }

  /** Whether an insert is under way there. */
  isBusy(host: string): boolean {
    return (this.#states.get(host)?.load.inFlight ?? 0) > 0;
  }

  /** What a health check found: the facts, or why there are none. */
  checked(replica: Replica, found: ReplicaFacts | Fault): void {
    const state = this.#state(replica);
    const atMs = this.#now();
    state.checkedAtMs = atMs;
    state.probePart = 1 - PROBE_SPREAD * this.#random();
    state.doubted = false;
    this.#change(state, () => {
      if (found instanceof Error) return state.health.checkFailed(found.message, atMs);
      state.load.heard(found);
      state.health.checked(found, atMs);
    });
  }

  /** An insert missed its quorum, so some replica is not what it is believed to be: all should be asked. */
  doubt(shard: Shard): void {
    for (const state of this.#statesOf(shard)) state.doubted = true;
  }

  /** Whether what is known of the replica is older than a fault. */
  isDoubted(replica: Replica): boolean {
    const { doubted, health } = this.#state(replica);
    return doubted && health.out === undefined;
  }

  /** How many replicas of a shard are likely to have within seconds what one of them gets. */
  live(shard: Shard): number {
    return this.#statesOf(shard).filter(({ health }) => health.keepsUp).length;
  }

  /**
   * Whether inserts are worth a try: some replica is not left out, or nothing is known of any. Those that are
   * only behind, or were not asked yet, count too: they take inserts when there is nothing better, and behind
   * a replica that is gone for good nobody catches up. So do those that answer checks but failed inserts.
   */
  reachable(shard: Shard): boolean {
    const known = shard.replicas.flatMap(({ host, shard: of }) => {
      const state = this.#states.get(host);
      return state === undefined || state.replica.shard !== of ? [] : [state.health.out?.cause];
    });
    return known.length === 0 || known.some((cause) => cause === undefined || PASSABLE.includes(cause));
  }

  /** Milliseconds until the replica should be asked how it is; at once after something failed. */
  checkInMs(replica: Replica): number {
    const { health, checkedAtMs, probePart } = this.#state(replica);
    if (this.isDoubted(replica)) return 0;
    const part = health.out === undefined ? 1 : probePart;
    return checkedAtMs + part * health.checkAgainMs - this.#now();
  }

  /**
   * Takes over a topology, the same as before or another: replicas that left it are forgotten, one that joins
   * others waits for its first check. Brings the metrics up to date too.
   */
  keep({ shards }: Topology): void {
    const hosts = new Set<string>();
    for (const shard of shards) {
      for (const { replica } of this.#statesOf(shard)) hosts.add(replica.host);
    }
    for (const [host, { replica, load }] of this.#states) {
      if (hosts.has(host) || load.inFlight > 0) continue;
      this.#states.delete(host);
      const { replicaUp, replicaShare, replicaInFlight } = this.#options.instruments;
      for (const gauge of [replicaUp, replicaShare, replicaInFlight]) gauge.remove(labelsOf(replica));
    }
    for (const shard of shards) this.#weigh(this.#statesOf(shard), this.#now());
  }

  /** The replicas of a shard that have an address. */
  #statesOf(shard: Shard): State[] {
    // Decided before any state is made: the first replicas of a shard all count as well.
    const known = shard.replicas.some(({ host }) => this.#states.has(host));
    const reachable = shard.replicas.filter(({ url }) => url !== undefined);
    return reachable.map((replica) => this.#state(replica, known));
  }

  #state(replica: Replica, unchecked = false): State {
    const { host, shard } = replica;
    let state = this.#states.get(host);
    if (state === undefined || state.replica.shard !== shard) {
      const health = new Health(this.#options, this.#now(), unchecked);
      const never = Number.NEGATIVE_INFINITY;
      const times = { triedAtMs: never, checkedAtMs: never, probePart: 1 };
      state = { replica, health, load: new Load(), trim: 1, doubted: false, ...times };
      this.#states.set(host, state);
    }
    state.replica = replica;
    return state;
  }

  #shardState(shard: number): ShardState {
    let state = this.#shards.get(shard);
    if (state === undefined) {
      state = { strategy: createStrategy(this.#options.replicaStrategy), trimmedAtMs: this.#now() };
      this.#shards.set(shard, state);
    }
    return state;
  }

  /** The weight of each replica that is not left out, for the strategy; the metrics say the same. */
  #weigh(all: readonly State[], atMs: number): Map<State, number> {
    const byLoad = this.#options.replicaStrategy === 'least_loaded';
    const loads = relativeLoads(all, atMs);
    const weights = new Map<State, number>();
    let sum = 0;
    for (const [state, ratio] of loads) {
      const load = byLoad ? Math.min(ratio, LOAD_RATIO_SEEN_MAX) : 1;
      const weight = (state.health.share(atMs) * state.trim) / load;
      weights.set(state, weight);
      sum += weight;
    }
    const { replicaUp, replicaShare } = this.#options.instruments;
    for (const state of all) {
      const labels = labelsOf(state.replica);
      replicaUp.set(labels, loads.has(state) ? 1 : 0);
      replicaShare.set(labels, sum === 0 ? 0 : (weights.get(state) ?? 0) / sum);
    }
    return weights;
  }

  /** Whatever the strategy: a replica with far more load than another gets less, step by step. */
  #trim(shard: number, all: readonly State[], atMs: number): void {
    const state = this.#shardState(shard);
    if (atMs - state.trimmedAtMs < TRIM_MS) return;
    state.trimmedAtMs = atMs;
    const { loadRatioMax } = this.#options;
    for (const [replica, load] of relativeLoads(all, atMs)) {
      if (load > loadRatioMax) replica.trim = Math.max(TRIM_MIN, replica.trim * TRIM_DOWN);
      else if (load < loadRatioMax * TRIM_OVER) replica.trim = Math.min(1, replica.trim * TRIM_UP);
    }
  }

  /** Says once when a replica is left out, when the cause of it changes, and when it is back. */
  #change({ replica, health }: State, change: () => void): void {
    const before = health.out;
    change();
    const after = health.out;
    if (before?.cause === after?.cause) return;
    const { logger, replicaReturnMs } = this.#options;
    const about = { replica: replica.host, shard: replica.shard };
    if (after !== undefined) {
      logger.warn({ ...about, cause: after.cause, reason: after.reason }, 'a replica is left out of inserts');
    } else {
      const was = before?.cause;
      logger.info({ ...about, was, fullShareInMs: replicaReturnMs }, 'a replica takes inserts again');
    }
  }
}

/** Of those that are left out the one that promises most, in turns. */
function leastBad(states: readonly State[]): State | undefined {
  const order = (a: State, b: State) => a.health.rank - b.health.rank || a.triedAtMs - b.triedAtMs;
  return [...states].sort(order)[0];
}

function picked(state: State | undefined, lastResort: boolean, atMs: number): Picked | undefined {
  if (state === undefined) return undefined;
  state.triedAtMs = atMs;
  return { replica: state.replica, lastResort };
}

/** Of those that are not left out; 1 for the least loaded. */
function relativeLoads(all: readonly State[], atMs: number): Map<State, number> {
  const up = all.filter(({ health }) => health.out === undefined);
  const loads = loadsOf(
    up.map(({ load }) => load),
    atMs,
  );
  const least = Math.min(...loads);
  return new Map(up.map((state, index) => [state, (loads[index] ?? least) / least]));
}

function labelsOf({ shard, host }: Replica): { shard: string; replica: string } {
  return { shard: String(shard), replica: host };
}
