/**
 * What becomes of a sealed batch: written, buried, or thrown back to its job for another try. In: batches,
 * from as many jobs at once as their worker allows. Out: rows in ClickHouse, and the batch out of Redis only
 * after the server has said that it has them.
 *
 * A replica that can't take a batch is no reason to wait: the same bytes go to the next one of the shard at
 * once, under the same token, by which replicas tell among themselves that they have it already.
 */
import { sleep, tickMs } from '../base/clock.ts';
import { Fault } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { wantedQuorum } from '../clickhouse/insert-settings.ts';
import type { Instruments } from '../metrics/instruments.ts';
import type { SealedBatch } from '../model/batch.ts';
import { TABLES, signalOf } from '../model/signal.ts';
import { HealthChecks } from '../topology/checks.ts';
import { type ChoiceOptions, type Ended, type Picked, ReplicaChoice } from '../topology/choice.ts';
import type { Replica, Shard, Topology } from '../topology/topology.ts';
import { liesWithReplica, mayPassElsewhere, missesQuorum } from './blame.ts';
import { type InsertOptions, type InsertResult, type Target, insertBatch } from './inserter.ts';
import { type Connect, Servers } from './servers.ts';
import type { BatchSource } from './source.ts';
import { Trouble } from './trouble.ts';

export interface WriterOptions extends InsertOptions, Omit<ChoiceOptions, 'instruments' | 'now'> {
  /** The topology in use, asked for each batch: it changes while the writer runs. Undefined: none yet. */
  readonly topology: () => Topology | undefined;
  readonly source: BatchSource;
  /** The writer closes what it makes. */
  readonly connect: Connect;
  readonly instruments: ChoiceOptions['instruments'] &
    Pick<Instruments, 'inserts' | 'insertSeconds' | 'itemsWritten' | 'itemsDeadlettered'>;
  readonly logger: Logger;
}

/** How a job may end. `gone`: another writer had finished the batch already. */
export type Written = 'written' | 'buried' | 'gone';

/** Closed: each is a label of `inserts_total`. `unread`: the batch could not be read from the queue. */
export const INSERT_OUTCOMES = ['stored', 'gone', 'later', 'never', 'unread'] as const;
type InsertOutcome = (typeof INSERT_OUTCOMES)[number];

/** Batches remembered for counting; beyond it the oldest are forgotten, and missing in a counter at most. */
const UNCONFIRMED_MAX = 10_000;

/** How long an insert waits for replicas in doubt to say how they are, to know how many of them are up. */
const SETTLE_MS_MAX = 2_000;

export class Writer {
  readonly #options: WriterOptions;
  readonly #servers: Servers;
  readonly #choice: ReplicaChoice;
  readonly #checks: HealthChecks;
  readonly #trouble: Trouble;
  readonly #running = new Set<Promise<Written>>();
  readonly #stop = new AbortController();
  /** Batches that were inserted, but whose removal from the queue got no answer: perhaps they are gone. */
  readonly #unconfirmed = new Set<string>();
  #stopping = false;

  /** Begins with health checks; they end with `stop`. */
  constructor(options: WriterOptions) {
    this.#options = options;
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

  /**
   * Resolves when the batch is written or buried, and its bookkeeping done: the job is over.
   * @throws Fault to be tried again later: ClickHouse or the queue couldn't take it, its shard is not in the
   *   topology, or the writer is stopping. The batch is as it was; it may be in ClickHouse already, where its
   *   token tells the next try.
   */
  async write(batch: SealedBatch): Promise<Written> {
    if (this.#stopping) throw stoppingFault();
    const running = this.#write(batch);
    this.#running.add(running);
    try {
      return await running;
    } finally {
      this.#running.delete(running);
    }
  }

  /** Takes nothing new, lets running inserts end, breaks off what doesn't within `msMax`, and disconnects. */
  async stop(msMax: number): Promise<void> {
    this.#stopping = true;
    const ended = new AbortController();
    const all = Promise.allSettled(this.#running).then(() => ended.abort());
    await sleep(msMax, ended.signal);
    this.#stop.abort(stoppingFault());
    const checked = this.#checks.stop();
    // Before the last wait: it also ends probes and checks, which nothing else breaks off.
    await this.#servers.close();
    await Promise.all([all, checked]);
  }

  /** Each replica of the shard once, until one has it. */
  async #write(batch: SealedBatch): Promise<Written> {
    const shard = this.#shardOf(batch);
    const tried = new Set<string>();
    let fault = withoutAddress(shard);
    let picked = this.#choice.pick(shard, batch, tried);
    if (picked === undefined) throw this.#homeless(batch, fault);
    this.#trouble.worked(shardOf(batch));
    while (picked !== undefined) {
      const result: Written | Fault = await this.#try(batch, shard, picked.replica);
      if (!(result instanceof Fault)) return result;
      fault = result;
      tried.add(picked.replica.host);
      picked = this.#next(batch, shard, picked, fault, tried);
    }
    throw fault;
  }

  /** The replica to try next after a fault, if there is any sense in it. */
  #next(
    batch: SealedBatch, shard: Shard, last: Picked, fault: Fault, tried: ReadonlySet<string>,
  ): Picked | undefined {
    const hopeless = last.lastResort || this.#stop.signal.aborted || !mayPassElsewhere(fault);
    return hopeless ? undefined : this.#choice.pick(shard, batch, tried);
  }

  /** One try at one replica. @returns a Fault if it has to be tried again, wherever */
  async #try(batch: SealedBatch, shard: Shard, replica: Replica): Promise<Written | Fault> {
    const startedAtMs = tickMs();
    const running = this.#choice.began(replica, batch.bytes);
    let ended: Ended = 'nothing';
    let result: InsertResult;
    try {
      result = await this.#insert(batch, shard, replica);
      ended = this.#endOf(result);
    } finally {
      this.#choice.ended(replica, running, ended);
    }
    switch (result.kind) {
      case 'stored':
        this.#options.instruments.insertSeconds.observe(
          { table: batch.table, shard: String(batch.shard) },
          (tickMs() - startedAtMs) / 1000,
        );
        return this.#finish(batch, replica);
      case 'gone':
        this.#count(batch, replica, 'gone');
        if (this.#unconfirmed.has(batch.id)) return this.#written(batch);
        this.#options.logger.info({ batch: batch.id }, 'a batch was gone before its insert');
        return 'gone';
      case 'refused':
        if (result.fault.retry === 'never') return this.#bury(batch, replica, result.fault);
        return this.#later(batch, shard, replica, result.fault);
    }
  }

  /** What the end of an insert says of its replica. */
  #endOf(result: InsertResult): Ended {
    if (result.kind === 'stored') return 'worked';
    if (result.kind === 'gone' || this.#stop.signal.aborted) return 'nothing';
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

  /** One try. Throws only what the queue throws, unless that will never give the whole batch. */
  async #insert(batch: SealedBatch, shard: Shard, replica: Replica): Promise<InsertResult> {
    const target = await this.#target(shard, replica);
    if (target instanceof Fault) return { kind: 'refused', fault: target };
    const chunks = this.#options.source.fragments(batch);
    let result: InsertResult;
    try {
      result = await insertBatch(target, this.#options, batch, chunks, this.#stop.signal);
    } catch (error) {
      if (error instanceof Fault && error.retry === 'never') return { kind: 'refused', fault: error };
      this.#unread(batch, replica, error);
      throw error;
    }
    // Again: another try of this batch may have been under way elsewhere all the while.
    const doubt = result.kind === 'stored' ? await this.#doubtAlone(target, replica) : undefined;
    return doubt === undefined ? result : { kind: 'refused', fault: doubt };
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

  async #finish(batch: SealedBatch, replica: Replica): Promise<Written> {
    this.#count(batch, replica, 'stored');
    this.#trouble.worked(insertOf(batch, replica));
    this.#trouble.worked(queueOf(batch));
    // Counted by who finishes it: a failure here means another try, and another insert that stores nothing
    // new.
    const finished = await this.#confirmed(batch);
    return finished || this.#unconfirmed.has(batch.id) ? this.#written(batch) : 'gone';
  }

  /**
   * Whether this call finished the batch. When its answer got lost, the next try finds out what came of it.
   */
  async #confirmed(batch: SealedBatch): Promise<boolean> {
    try {
      return await this.#options.source.finish(batch);
    } catch (error) {
      this.#unconfirmed.add(batch.id);
      const [oldest] = this.#unconfirmed;
      if (this.#unconfirmed.size > UNCONFIRMED_MAX && oldest !== undefined) this.#unconfirmed.delete(oldest);
      throw error;
    }
  }

  #written({ id, table, shard, rows }: SealedBatch): Written {
    this.#unconfirmed.delete(id);
    const labels = { signal: signalOf(table), table, shard: String(shard) };
    this.#options.instruments.itemsWritten.inc(labels, rows);
    return 'written';
  }

  async #bury(batch: SealedBatch, replica: Replica, fault: Fault): Promise<Written> {
    const { source, instruments, logger } = this.#options;
    this.#count(batch, replica, 'never');
    if (!(await source.bury(batch, fault.code, fault.message))) return 'gone';
    instruments.itemsDeadlettered.inc({ signal: signalOf(batch.table), reason: fault.code }, batch.rows);
    const { id, table, rows, bytes } = batch;
    logger.error(
      { batch: id, table, rows, bytes, replica: replica.host, code: fault.code, reason: fault.message },
      'a batch can never be stored as it is and was set aside',
    );
    return 'buried';
  }

  #later(batch: SealedBatch, shard: Shard, replica: Replica, fault: Fault): Fault {
    this.#count(batch, replica, 'later');
    if (this.#stop.signal.aborted) return fault;
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

function stoppingFault(): Fault {
  return new Fault('stopping', 'here', 'the writer is stopping');
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
