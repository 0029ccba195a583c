/**
 * Whether one replica takes inserts, and how much of its share it gets. In: inserts and checks that worked or
 * failed. Out: left out or not, a share from 0 to 1, and when to ask again. Pure, time comes in as monotonic
 * milliseconds.
 *
 * Nothing flaps: one failure only makes a replica suspected, and the check that follows at once decides. One
 * that is left out comes back by a check that finds nothing wrong, with a tenth of its share, and grows. If
 * it fails again before it was well for as long as that, it waits twice as long as the time before; one that
 * is away, at most 5 s.
 */

/** What a server says of itself. Undefined is not known: an old version, or a grant that is missing. */
export interface ReplicaFacts {
  /** How many of the tables that are written to exist. */
  readonly tables: number | undefined;
  /** How many of them are replicated. */
  readonly replicated: number | undefined;
  /** A table that takes no inserts: its Keeper is away. */
  readonly readonlyTable: string | undefined;
  /** Behind the other replicas, seconds, of the table that is furthest behind. */
  readonly delaySeconds: number | undefined;
  /** Entries of the longest replication queue. */
  readonly queueSize: number | undefined;
  /** Active parts of the fullest partition. */
  readonly partsMax: number | undefined;
  /** Inserts that run there now, whoever sent them. */
  readonly insertsRunning: number | undefined;
  /** Of the fullest disk, 0 to 1. */
  readonly diskFree: number | undefined;
}

export interface HealthBounds {
  readonly healthCheckMs: number;
  readonly replicaReturnMs: number;
}

/** Why a replica is left out. The lower the rank, the sooner it is tried when all others are left out too. */
const RANKS = { unchecked: 0, delayed: 1, inserts_fail: 2, unfit: 3, unreachable: 4 } as const;
export type Cause = keyof typeof RANKS;

/** Inserts in a row, although every check finds nothing wrong. */
const INSERTS_FAILED_MAX = 3;
/** Checks in a row, although inserts work. */
const CHECKS_FAILED_MAX = 2;
/** The server's own bound for readers (max_replica_delay_for_distributed_queries), and where it is over. */
const DELAY_SECONDS_MAX = 300;
const DELAY_SECONDS_OVER = 150;
/** In a row, to be left out: a server may be behind for a moment. One keeps it from coming back. */
const CHECKS_DELAYED_MAX = 2;
/** Further behind, a replica may not have a new part before an insert is done waiting for it. */
const KEEPS_UP_SECONDS_MAX = 10;
const RETURN_SHARE_MIN = 0.1;
const PROBE_MS_MIN = 500;
/**
 * One that no check finds fit comes back by a check alone, and batches may wait for just that: within 2 s in
 * the first minute (with the ticks of checks.ts and the answer), and within 5 s after any time.
 */
const AWAY_PROBE_MS_MAX = 4_500;
const AWAY_FRESH_PROBE_MS_MAX = 1_500;
const AWAY_FRESH_MS = 60_000;
/** The causes that only a check finds. */
const FOUND_BY_CHECKS: readonly Cause[] = ['unfit', 'unreachable'];
/** 500 ms doubled so often is more than any bound. */
const DOUBLINGS_MAX = 16;

interface Out {
  readonly cause: Cause;
  readonly reason: string;
  readonly sinceMs: number;
  readonly probedAtMs: number;
  probes: number;
}

export class Health {
  readonly #bounds: HealthBounds;
  #out: Out | undefined;
  /** Since when it is not left out, and whether its share grows from then on. */
  #since: { readonly atMs: number; readonly grows: boolean };
  #suspected = false;
  #insertsFailed = 0;
  #checksFailed = 0;
  #checksDelayed = 0;
  #delaySeconds = 0;
  /** How often it failed again soon after it had come back. */
  #relapses = 0;

  /** @param unchecked a replica that appears among others that work gets nothing before its first check */
  constructor(bounds: HealthBounds, atMs: number, unchecked: boolean) {
    this.#bounds = bounds;
    this.#since = { atMs, grows: false };
    const reason = 'it was not asked yet';
    if (unchecked) this.#out = { cause: 'unchecked', reason, sinceMs: atMs, probedAtMs: atMs, probes: 0 };
  }

  /** Why it is left out, or undefined where it isn't. */
  get out(): { readonly cause: Cause; readonly reason: string } | undefined {
    return this.#out;
  }

  /** Something failed, and the check that tells more is not back yet. */
  get suspected(): boolean {
    return this.#suspected;
  }

  /** Whether it is well as far as is known, and likely to have within seconds what another replica gets. */
  get keepsUp(): boolean {
    return this.#out === undefined && !this.#suspected && this.#delaySeconds <= KEEPS_UP_SECONDS_MAX;
  }

  get rank(): number {
    return this.#out === undefined ? -1 : RANKS[this.#out.cause];
  }

  /** Of its full share, 0 to 1. */
  share(atMs: number): number {
    if (this.#out !== undefined) return 0;
    const { atMs: since, grows } = this.#since;
    const { replicaReturnMs } = this.#bounds;
    if (!grows || atMs - since >= replicaReturnMs) return 1;
    return RETURN_SHARE_MIN + (1 - RETURN_SHARE_MIN) * ((atMs - since) / replicaReturnMs);
  }

  /** One that is left out and works all the same is soon asked again. */
  insertWorked(): void {
    this.#insertsFailed = 0;
    if (this.#out !== undefined) this.#out.probes = 0;
  }

  /** An insert failed for a reason that lies with the replica. A check should follow at once. */
  insertFailed(reason: string, atMs: number): void {
    this.#insertsFailed += 1;
    this.#suspected = true;
    if (this.#out !== undefined) return;
    const doubted = this.#checksFailed > 0;
    if (doubted || this.#insertsFailed >= INSERTS_FAILED_MAX) this.#leaveOut('inserts_fail', reason, atMs);
  }

  /** The check got no answer. */
  checkFailed(reason: string, atMs: number): void {
    this.#checksFailed += 1;
    this.#suspected = true;
    const sure = this.#insertsFailed > 0 || this.#checksFailed >= CHECKS_FAILED_MAX;
    if (sure || this.#out !== undefined) this.#leaveOut('unreachable', reason, atMs);
  }

  /** The server has answered. */
  checked(facts: ReplicaFacts, atMs: number): void {
    this.#checksFailed = 0;
    this.#suspected = false;
    const unfit = unfitness(facts);
    this.#delaySeconds = facts.delaySeconds ?? 0;
    const late = this.#lateness(this.#delaySeconds);
    if (unfit !== undefined) this.#leaveOut('unfit', unfit, atMs);
    else if (late !== undefined) this.#leaveOut('delayed', late, atMs);
    else if (this.#out !== undefined) this.#comeBack(atMs);
    else if (this.#isWellSince(atMs)) this.#relapses = 0;
  }

  /** Why it is too far behind, or undefined where it isn't, or not for long enough. */
  #lateness(delaySeconds: number): string | undefined {
    const bound = this.#out?.cause === 'delayed' ? DELAY_SECONDS_OVER : DELAY_SECONDS_MAX;
    this.#checksDelayed = delaySeconds > bound ? this.#checksDelayed + 1 : 0;
    const checks = this.#out === undefined ? CHECKS_DELAYED_MAX : 1;
    if (this.#checksDelayed < checks) return undefined;
    return `it is ${delaySeconds} s behind the other replicas, more than ${bound} s`;
  }

  /** How long after a check the next one is due: sooner while something is wrong, but ever less often. */
  get checkAgainMs(): number {
    const { healthCheckMs } = this.#bounds;
    const doublings = this.#relapses + (this.#out?.probes ?? 0);
    const backoff = PROBE_MS_MIN * 2 ** Math.min(doublings, DOUBLINGS_MAX);
    const urgent = this.#out !== undefined || this.#suspected || this.#checksDelayed > 0;
    return urgent ? Math.min(backoff, this.#probeMsMax, healthCheckMs) : healthCheckMs;
  }

  get #probeMsMax(): number {
    if (this.#out === undefined) return Number.POSITIVE_INFINITY;
    const { cause, sinceMs, probedAtMs } = this.#out;
    if (!FOUND_BY_CHECKS.includes(cause)) return Number.POSITIVE_INFINITY;
    return probedAtMs - sinceMs < AWAY_FRESH_MS ? AWAY_FRESH_PROBE_MS_MAX : AWAY_PROBE_MS_MAX;
  }

  #leaveOut(cause: Cause, reason: string, atMs: number): void {
    const before = this.#out;
    if (before === undefined && this.#since.grows && !this.#isWellSince(atMs)) this.#relapses += 1;
    const probes = before === undefined ? 0 : before.probes + 1;
    this.#out = { cause, reason, sinceMs: before?.sinceMs ?? atMs, probedAtMs: atMs, probes };
  }

  #comeBack(atMs: number): void {
    this.#out = undefined;
    this.#insertsFailed = 0;
    this.#since = { atMs, grows: true };
  }

  /** For twice the time that its return takes. */
  #isWellSince(atMs: number): boolean {
    return atMs - this.#since.atMs >= 2 * this.#bounds.replicaReturnMs;
  }
}

/** Why a server that answers can't take inserts, or undefined. */
function unfitness({ readonlyTable, tables }: ReplicaFacts): string | undefined {
  if (readonlyTable !== undefined) return `its table ${readonlyTable} is read-only: is its Keeper away?`;
  return tables === 0 ? 'it has none of the tables: is the schema migrated?' : undefined;
}
