/**
 * What becomes of a sealed batch: written, buried, or thrown back to its job for another try. In: batches,
 * from as many jobs at once as their worker allows. Out: rows in ClickHouse, and the batch out of Redis only
 * after the server has said that it has them.
 */
import { sleep, tickMs } from '../base/clock.ts';
import { Fault } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { ClickHouse } from '../clickhouse/client.ts';
import type { Instruments } from '../metrics/instruments.ts';
import type { SealedBatch } from '../model/batch.ts';
import { signalOf } from '../model/signal.ts';
import { ReplicaChoice } from '../topology/choice.ts';
import type { Replica, Topology } from '../topology/topology.ts';
import { type InsertOptions, type InsertResult, type Target, insertBatch } from './inserter.ts';
import { Servers } from './servers.ts';
import type { BatchSource } from './source.ts';
import { Trouble } from './trouble.ts';

export interface WriterOptions extends InsertOptions {
  readonly topology: Topology;
  readonly source: BatchSource;
  /** Makes the client for a replica; the writer closes it. */
  readonly connect: (replica: Replica) => ClickHouse;
  readonly instruments: Pick<Instruments, 'inserts' | 'insertSeconds' | 'itemsWritten' | 'itemsDeadlettered'>;
  readonly logger: Logger;
}

/** How a job may end. `gone`: another writer had finished the batch already. */
export type Written = 'written' | 'buried' | 'gone';

/** Closed: each is a label of `inserts_total`. `unread`: the batch could not be read from the queue. */
export const INSERT_OUTCOMES = ['stored', 'gone', 'later', 'never', 'unread'] as const;
type InsertOutcome = (typeof INSERT_OUTCOMES)[number];

/** Batches remembered for counting; beyond it the oldest are forgotten, and missing in a counter at most. */
const UNCONFIRMED_MAX = 10_000;

export class Writer {
  readonly #options: WriterOptions;
  readonly #servers: Servers;
  readonly #choice: ReplicaChoice;
  readonly #trouble: Trouble;
  readonly #running = new Set<Promise<Written>>();
  readonly #stop = new AbortController();
  /** Batches that were inserted, but whose removal from the queue got no answer: perhaps they are gone. */
  readonly #unconfirmed = new Set<string>();
  #stopping = false;

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#servers = new Servers(options.connect, options.logger);
    this.#choice = new ReplicaChoice(options.topology);
    this.#trouble = new Trouble(options.logger);
  }

  /**
   * Resolves when the batch is written or buried, and its bookkeeping done: the job is over.
   * @throws Fault to be tried again later: ClickHouse or the queue couldn't take it, or the writer is
   *   stopping. The batch is as it was; it may be in ClickHouse already, where its token tells the next try.
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
    // Before the last wait: it also ends a probe, which nothing else breaks off.
    await this.#servers.close();
    await all;
  }

  async #write(batch: SealedBatch): Promise<Written> {
    const replica = this.#choice.of(batch.shard);
    const startedAtMs = tickMs();
    const result = await this.#insert(batch, replica);
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
        throw this.#later(batch, replica, result.fault);
    }
  }

  /** One try. Throws only what the queue throws, unless that will never give the whole batch. */
  async #insert(batch: SealedBatch, replica: Replica): Promise<InsertResult> {
    let target: Target;
    try {
      target = await this.#servers.of(replica);
    } catch (error) {
      if (error instanceof Fault) return { kind: 'refused', fault: error };
      throw error;
    }
    const chunks = this.#options.source.fragments(batch);
    try {
      return await insertBatch(target, this.#options, batch, chunks, this.#stop.signal);
    } catch (error) {
      if (error instanceof Fault && error.retry === 'never') return { kind: 'refused', fault: error };
      this.#unread(batch, replica, error);
      throw error;
    }
  }

  async #finish(batch: SealedBatch, replica: Replica): Promise<Written> {
    this.#count(batch, replica, 'stored');
    this.#trouble.worked(tableOf(batch));
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

  #later(batch: SealedBatch, replica: Replica, fault: Fault): Fault {
    this.#count(batch, replica, 'later');
    if (this.#stop.signal.aborted) return fault;
    this.#servers.doubt(replica);
    if (fault.retry === 'elsewhere') this.#choice.failed(replica);
    this.#trouble.failed(tableOf(batch), fault);
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

/** What fails, for the log. By table: one that is missing fails among others that work. */
function tableOf({ table, shard }: SealedBatch): string {
  return `${table} of shard ${shard}`;
}

function queueOf({ shard }: SealedBatch): string {
  return `the queue of shard ${shard}`;
}

function stoppingFault(): Fault {
  return new Fault('stopping', 'here', 'the writer is stopping');
}
