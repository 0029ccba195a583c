/**
 * One insert, by whichever replica of its shard takes it. In: batches, or parts of one, and their bytes. Out:
 * stored, gone, or why it never will be stored; what may pass later is thrown.
 *
 * A replica that can't take a batch is no reason to wait: the same bytes go to the next one of the shard at
 * once, under the same token, by which replicas tell among themselves that they have it already.
 */
import { tickMs } from '../base/clock.ts';
import { Fault } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { wantedQuorum } from '../clickhouse/insert-settings.ts';
import type { Instruments } from '../metrics/instruments.ts';
import type { SealedBatch } from '../model/batch.ts';
import { TABLES } from '../model/signal.ts';
import { HealthChecks } from '../topology/checks.ts';
import { type ChoiceOptions, type Ended, type Picked, ReplicaChoice } from '../topology/choice.ts';
import type { Replica, Shard, Topology } from '../topology/topology.ts';
import { leavesOpen, liesWithReplica, mayPassElsewhere, missesQuorum } from './blame.ts';
import { type InsertOptions, type InsertResult, type Target, insertBatch } from './inserter.ts';
import type { Refusal } from './isolate.ts';
import { type Connect, Servers } from './servers.ts';
import type { InsertFacts } from './source.ts';
import { Trouble } from './trouble.ts';

export interface AttemptsOptions extends InsertOptions, Omit<ChoiceOptions, 'instruments' | 'now'> {
  /** The topology in use, asked for each batch: it changes while the writer runs. Undefined: none yet. */
  readonly topology: () => Topology | undefined;
  /** What it makes is closed with `close`. */
  readonly connect: Connect;
  readonly instruments: ChoiceOptions['instruments'] & Pick<Instruments, 'inserts' | 'insertSeconds'>;
  readonly logger: Logger;
}

/** Closed: each is a label of `inserts_total`. `unread`: the batch could not be read from the queue. */
export const INSERT_OUTCOMES = ['stored', 'gone', 'later', 'never', 'unread'] as const;
type InsertOutcome = (typeof INSERT_OUTCOMES)[number];

export type Attempt =
  | { readonly kind: 'stored'; readonly insert: InsertFacts }
  | { readonly kind: 'gone' }
  | { readonly kind: 'refused'; readonly refusal: Refusal };

/** How long an insert waits for replicas in doubt to say how they are, to know how many of them are up. */
const SETTLE_MS_MAX = 2_000;
/** Batches of which it is remembered that they may be stored; beyond it the oldest are forgotten. */
const OPEN_MAX = 10_000;

export class Attempts {
  readonly #options: AttemptsOptions;
  readonly #servers: Servers;
  readonly #choice: ReplicaChoice;
  readonly #checks: HealthChecks;
  readonly #trouble: Trouble;
  readonly #stop: AbortSignal;
  /** Ids of batches that were sent to their end, without an answer that says what came of it. */
  readonly #open = new Set<string>();

  /** Begins with health checks; they end with `close`. @param stop breaks inserts off, with its reason */
  constructor(options: AttemptsOptions, stop: AbortSignal) {
    this.#options = options;
    this.#stop = stop;
    this.#servers = new Servers(options.connect, options.logger);
    this.#choice = new ReplicaChoice(options);
    this.#trouble = new Trouble(options.logger);
    const tables = TABLES.map(options.tableName);
    this.#checks = new HealthChecks({
      topology: options.topology,
      choice: this.#choice,
      ask: (replica) => this.#servers.ask(replica, options.database, tables),
      healthCheckMs: options.healthCheckMs,
      looked: (topology) => void this.#servers.keep(topology, (host) => this.#choice.isBusy(host)),
    });
  }

  /** Whether some replica of the shard is likely to take an insert; true while nothing is known of it. */
  reachable(shard: number): boolean {
    const known = this.#options.topology()?.shards[shard];
    return known === undefined || this.#choice.reachable(known);
  }

  /** Ends health checks and disconnects, which also breaks off what is under way. */
  async close(): Promise<void> {
    const checked = this.#checks.stop();
    // Before the wait: it also ends probes and checks, which nothing else breaks off.
    await this.#servers.close();
    await checked;
  }

  /**
   * Each replica of the shard once, until one has it.
   * @param bytes gives the batch's bytes, anew for each try
   * @throws Fault to be tried again later, under the same token: the batch may be stored already
   */
  async insert(batch: SealedBatch, bytes: () => AsyncIterable<Uint8Array>): Promise<Attempt> {
    const shard = this.#shardOf(batch);
    const tried = new Set<string>();
    let fault = withoutAddress(shard);
    let picked = this.#choice.pick(shard, batch, tried);
    if (picked === undefined) throw this.#homeless(batch, fault);
    this.#trouble.worked(shardOf(batch));
    while (picked !== undefined) {
      const attempt: Attempt | Fault = await this.#try(batch, bytes, shard, picked.replica);
      if (!(attempt instanceof Fault)) return attempt;
      fault = attempt;
      tried.add(picked.replica.host);
      picked = this.#next(batch, shard, picked, fault, tried);
    }
    throw fault;
  }

  /** The replica to try next after a fault, if there is any sense in it. */
  #next(
    batch: SealedBatch, shard: Shard, last: Picked, fault: Fault, tried: ReadonlySet<string>,
  ): Picked | undefined {
    const hopeless = last.lastResort || this.#stop.aborted || !mayPassElsewhere(fault);
    return hopeless ? undefined : this.#choice.pick(shard, batch, tried);
  }

  /** One try at one replica. @returns a Fault if it has to be tried again, wherever */
  async #try(
    batch: SealedBatch, bytes: () => AsyncIterable<Uint8Array>, shard: Shard, replica: Replica,
  ): Promise<Attempt | Fault> {
    const startedAtMs = tickMs();
    const running = this.#choice.began(replica, batch.bytes);
    let ended: Ended = 'nothing';
    let result: InsertResult;
    try {
      result = await this.#insert(batch, bytes, shard, replica);
      ended = this.#endOf(result);
    } finally {
      this.#choice.ended(replica, running, ended);
    }
    return this.#judge(batch, shard, replica, result, tickMs() - startedAtMs);
  }

  #judge(
    batch: SealedBatch, shard: Shard, replica: Replica, result: InsertResult, insertMs: number,
  ): Attempt | Fault {
    if (result.kind === 'gone') {
      this.#count(batch, replica, 'gone');
      return result;
    }
    if (result.kind === 'stored') {
      const labels = { table: batch.table, shard: String(batch.shard) };
      this.#options.instruments.insertSeconds.observe(labels, insertMs / 1000);
      const { id, table, rows } = batch;
      const insert = { batch: id, table, shard: batch.shard, rows, replica: replica.host, insertMs };
      this.#options.logger.debug(insert, 'a batch was inserted');
      this.#count(batch, replica, 'stored');
      this.#open.delete(batch.id);
      this.#trouble.worked(insertOf(batch, replica));
      this.#trouble.worked(queueOf(batch));
      return { kind: 'stored', insert: { replica: replica.host, insertMs } };
    }
    const { fault, sent } = result;
    if (fault.retry === 'never') {
      this.#count(batch, replica, 'never');
      return { kind: 'refused', refusal: { fault, replica: replica.host, open: this.#open.has(batch.id) } };
    }
    if (sent && leavesOpen(fault)) this.#remember(batch.id);
    return this.#later(batch, shard, replica, fault);
  }

  #remember(id: string): void {
    this.#open.add(id);
    const [oldest] = this.#open;
    if (this.#open.size > OPEN_MAX && oldest !== undefined) this.#open.delete(oldest);
  }

  /** What the end of an insert says of its replica. */
  #endOf(result: InsertResult): Ended {
    if (result.kind === 'stored') return 'worked';
    if (result.kind === 'gone' || this.#stop.aborted) return 'nothing';
    return liesWithReplica(result.fault) ? { fault: result.fault } : 'nothing';
  }

  /** @throws Fault that waits for the shard to be (again) in the topology */
  #shardOf(batch: SealedBatch): Shard {
    const topology = this.#options.topology();
    if (topology === undefined) {
      const message = `the topology of ClickHouse isn't known yet, batch ${batch.id} waits for it`;
      throw this.#homeless(batch, new Fault('topology_unknown', 'here', message));
    }
    const shard = topology.shards[batch.shard];
    if (shard !== undefined && shard.replicas.length > 0) return shard;
    const message =
      `shard ${batch.shard} is not in the definition of the cluster "${topology.cluster}", which has ` +
      `${topology.shards.length} shards: its batches wait until it is there again`;
    throw this.#homeless(batch, new Fault('shard_unknown', 'here', message));
  }

  #homeless(batch: SealedBatch, fault: Fault): Fault {
    this.#trouble.failed(shardOf(batch), fault);
    return fault;
  }

  /** Throws only what the queue throws, unless that will never give the whole batch. */
  async #insert(
    batch: SealedBatch, bytes: () => AsyncIterable<Uint8Array>, shard: Shard, replica: Replica,
  ): Promise<InsertResult> {
    const target = await this.#target(shard, replica);
    if (target instanceof Fault) return { kind: 'refused', fault: target, sent: false };
    let result: InsertResult;
    try {
      result = await insertBatch(target, this.#options, batch, bytes(), this.#stop);
    } catch (error) {
      if (error instanceof Fault && error.retry === 'never') {
        return { kind: 'refused', fault: error, sent: false };
      }
      this.#unread(batch, replica, error);
      throw error;
    }
    // Again: another try of this batch may have been under way elsewhere all the while.
    const doubt = result.kind === 'stored' ? await this.#doubtAlone(target, replica) : undefined;
    return doubt === undefined ? result : { kind: 'refused', fault: doubt, sent: true };
  }

  /** Where an insert goes, and how many replicas it finds; a Fault where it can't go there now. */
  async #target(shard: Shard, replica: Replica): Promise<Target | Fault> {
    if (this.#options.insertQuorum === 'live') await this.#checks.settle(shard.replicas, SETTLE_MS_MAX);
    const counts = { replicas: shard.replicas.length, live: this.#choice.live(shard) };
    try {
      const target = { ...(await this.#servers.of(replica)), ...counts };
      return (await this.#doubtAlone(target, replica)) ?? target;
    } catch (error) {
      if (error instanceof Fault) return error;
      throw error;
    }
  }

  /**
   * An insert that goes to one replica alone, since the others are down, may be the retry of one that was to
   * be on more. What the replica says of it counts only if it has all that was inserted before (awaited.ts).
   * @returns a Fault while it hasn't
   */
  async #doubtAlone(target: Target, replica: Replica): Promise<Fault | undefined> {
    const { insertQuorum, database } = this.#options;
    if (insertQuorum !== 'live' || target.replicas < 2 || wantedQuorum(this.#options, target) > 1) return;
    try {
      const part = await this.#servers.awaits(replica, database);
      return part === undefined ? undefined : pendingFault(replica, part);
    } catch (error) {
      if (error instanceof Fault) return error;
      throw error;
    }
  }

  #later(batch: SealedBatch, shard: Shard, replica: Replica, fault: Fault): Fault {
    this.#count(batch, replica, 'later');
    if (this.#stop.aborted) return fault;
    this.#servers.doubt(replica);
    if (missesQuorum(fault)) this.#choice.doubt(shard);
    if (liesWithReplica(fault) || missesQuorum(fault)) this.#checks.look();
    this.#trouble.failed(insertOf(batch, replica), fault);
    return fault;
  }

  #unread(batch: SealedBatch, replica: Replica, error: unknown): void {
    this.#count(batch, replica, 'unread');
    if (error instanceof Fault) this.#trouble.failed(queueOf(batch), error);
    else this.#options.logger.error({ batch: batch.id, err: error }, 'a batch could not be read');
  }

  #count({ table, shard }: SealedBatch, replica: Replica, outcome: InsertOutcome): void {
    this.#options.instruments.inserts.inc({ table, shard: String(shard), replica: replica.host, outcome });
  }
}

/** What fails, for the log. By table and replica: one that is missing fails among others that work. */
function insertOf({ table, shard }: SealedBatch, { host }: Replica): string {
  return `${table} of shard ${shard} on ${host}`;
}

function shardOf({ shard }: SealedBatch): string {
  return `shard ${shard}`;
}

function queueOf({ shard }: SealedBatch): string {
  return `the queue of shard ${shard}`;
}

function pendingFault({ host }: Replica, part: string): Fault {
  const message =
    `${host} is the only replica that is up, and hasn't got part ${part}, which an insert still waits for: ` +
    'batches wait until it has it or, once Keeper has noticed who is away, gives it up as lost';
  return new Fault('quorum_pending', 'here', message);
}

function withoutAddress({ shard, replicas }: Shard): Fault {
  const hosts = replicas.map(({ host }) => host).join(', ');
  const message =
    `no replica of shard ${shard} (${hosts}) has an address, its batches wait: set clickhouse.addresses ` +
    '(SLUICE_CLICKHOUSE_ADDRESSES), as "host:port=URL"';
  return new Fault('shard_unreachable', 'here', message);
}
