/**
 * What becomes of a sealed batch: written, set aside in part or whole, or thrown back to its job for another
 * try. In: batches, from as many jobs at once as their worker allows. Out: rows in ClickHouse, and the batch
 * out of Redis only after the server has said that it has them.
 */
import { sleep } from '../base/clock.ts';
import { Fault } from '../base/errors.ts';
import { dividedTo } from '../clickhouse/codes.ts';
import type { Instruments } from '../metrics/instruments.ts';
import type { SealedBatch } from '../model/batch.ts';
import type { DeadLetterDraft, PartState } from '../model/dead-letter.ts';
import { signalOf } from '../model/signal.ts';
import { Attempts, type AttemptsOptions } from './attempts.ts';
import { Division, type Refusal, wholeLetter } from './isolate.ts';
import { ALL } from './parts.ts';
import type { BatchSource, DeadLetterSink, InsertFacts } from './source.ts';

export interface WriterOptions extends AttemptsOptions {
  readonly source: BatchSource;
  readonly deadLetters: DeadLetterSink;
  readonly instruments: AttemptsOptions['instruments'] &
    Pick<Instruments, 'itemsWritten' | 'itemsDeadlettered' | 'batchesDivided'>;
}

/**
 * How a job may end. `aside`: all of the batch, or what of it can't be stored, is a dead letter. `gone`:
 * another writer had ended the batch already.
 */
export type Written = 'written' | 'aside' | 'gone';

/** Batches remembered for counting; beyond it the oldest are forgotten, and missing in a counter at most. */
const UNCONFIRMED_MAX = 10_000;
/** Health checks come at most twice a second: looking at what they found costs nothing. */
const REACHABLE_LOOK_MS = 100;

export class Writer {
  readonly #options: WriterOptions;
  readonly #attempts: Attempts;
  readonly #running = new Set<Promise<Written>>();
  readonly #stop = new AbortController();
  /**
   * Batches that have their end in ClickHouse, but whose removal from the queue got no answer: perhaps they
   * are gone. With what is to be counted then.
   */
  readonly #unconfirmed = new Map<string, () => Written>();
  #stopping = false;

  /** Begins with health checks; they end with `stop`. */
  constructor(options: WriterOptions) {
    this.#options = options;
    this.#attempts = new Attempts(options, this.#stop.signal);
  }

  /**
   * Resolves when the batch is written or set aside, and its bookkeeping done: the job is over.
   * @throws Fault to be tried again later: ClickHouse or the queue couldn't take it, its shard is not in the
   *   topology, there is no room for dead letters, or the writer is stopping. The batch is as it was; all or
   *   parts of it may be in ClickHouse already, where tokens tell the next try.
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

  /**
   * Whether some replica of the shard is likely to take an insert; true while nothing is known of it. What is
   * wrong with a shard that isn't in the topology, an insert says best.
   */
  reachable(shard: number): boolean {
    return this.#attempts.reachable(shard);
  }

  /** Resolves when the shard is reachable, which health checks find out, or at once when aborted. */
  async whenReachable(shard: number, signal: AbortSignal): Promise<void> {
    const either = AbortSignal.any([signal, this.#stop.signal]);
    while (!either.aborted && !this.reachable(shard)) await sleep(REACHABLE_LOOK_MS, either);
  }

  /** Takes nothing new, lets running inserts end, breaks off what doesn't within `msMax`, and disconnects. */
  async stop(msMax: number): Promise<void> {
    this.#stopping = true;
    const ended = new AbortController();
    const all = Promise.allSettled(this.#running).then(() => ended.abort());
    await sleep(msMax, ended.signal);
    this.#stop.abort(stoppingFault());
    await Promise.all([this.#attempts.close(), all]);
  }

  async #write(batch: SealedBatch): Promise<Written> {
    const { source, deadLetters, logger } = this.#options;
    const notes = await deadLetters.division(batch);
    // A batch that was divided is never inserted as a whole again, and the other way round.
    const undivided = notes.get(ALL) === 'stored';
    if (notes.size > 0 && !undivided) return this.#divide(batch, notes, undefined);
    const attempt = await this.#attempts.insert(batch, () => source.fragments(batch));
    switch (attempt.kind) {
      case 'stored':
        return this.#finish(batch, attempt.insert);
      case 'gone':
        if (this.#unconfirmed.has(batch.id)) return this.#confirmed(batch.id);
        logger.debug({ batch: batch.id }, 'a batch was gone before its insert');
        return 'gone';
      case 'refused':
        return this.#refused(batch, attempt.refusal, undivided);
    }
  }

  async #finish(batch: SealedBatch, insert: InsertFacts): Promise<Written> {
    const { id, rows } = batch;
    // Counted by who finishes it: a failure here means another try, and another insert that stores nothing
    // new.
    const count = () => this.#ended(batch, rows, []);
    return this.#end(id, count, () => this.#options.source.finish(batch, insert));
  }

  /**
   * What ClickHouse will never take as it is. Not divided is what may be stored, all or in part, under its
   * token: that is noted as if it were, and stays noted of its letter. Replayed, it goes by the same token.
   */
  async #refused(batch: SealedBatch, refusal: Refusal, undivided: boolean): Promise<Written> {
    const { fault, open } = refusal;
    if (fault.code === 'batch_incomplete') return this.#setAside(batch, 0, [wholeLetter(batch, refusal)]);
    const maybeStored = undivided || open || dividedTo(fault) === undefined;
    if (!maybeStored) return this.#divide(batch, new Map(), refusal);
    await this.#options.deadLetters.note(batch, ALL, 'stored');
    const why = open ? 'an earlier insert had no answer, so it may be stored, and it is kept whole' : '';
    return this.#setAside(batch, 0, [wholeLetter(batch, refusal, why)]);
  }

  async #divide(
    batch: SealedBatch,
    notes: ReadonlyMap<string, PartState>,
    refusal: Refusal | undefined,
  ): Promise<Written> {
    const { source, deadLetters, instruments, logger } = this.#options;
    let fragments: readonly Uint8Array[];
    try {
      fragments = await source.fragmentList(batch);
    } catch (error) {
      if (!(error instanceof Fault) || error.retry !== 'never') throw error;
      return this.#setAside(batch, 0, [wholeLetter(batch, { fault: error, replica: '', open: false })]);
    }
    if (fragments.length === 0) {
      return this.#unconfirmed.has(batch.id) ? this.#confirmed(batch.id) : 'gone';
    }
    const { id, table, rows } = batch;
    const division = new Division(batch, fragments, notes, {
      note: (range, state) => deadLetters.note(batch, range, state),
      insert: (part, bytes) => this.#insertPart(part, bytes),
      begun: ({ fault }) => {
        instruments.batchesDivided.inc({ table, reason: fault.code });
        const what = { batch: id, table, rows, code: fault.code, reason: fault.message };
        logger.warn(what, 'a batch can not be stored as it is and is divided');
      },
    });
    const { rowsStored, letters } = await division.run(refusal);
    return this.#setAside(batch, rowsStored, letters);
  }

  async #insertPart(part: SealedBatch, bytes: readonly Uint8Array[]): Promise<Refusal | undefined> {
    const { signal } = this.#stop;
    if (signal.aborted) throw stoppingFault();
    const attempt = await this.#attempts.insert(part, () => inTurn(bytes));
    return attempt.kind === 'refused' ? attempt.refusal : undefined;
  }

  #setAside(batch: SealedBatch, rowsStored: number, letters: readonly DeadLetterDraft[]): Promise<Written> {
    const count = () => this.#ended(batch, rowsStored, letters);
    const { deadLetters } = this.#options;
    const setAside = async () => (await deadLetters.setAside(batch, rowsStored, letters)) === 'aside';
    return this.#end(batch.id, count, setAside);
  }

  /**
   * Takes a batch out of the queue and counts it, if this call did it. When its answer gets lost, the next
   * try finds out what came of it.
   */
  async #end(id: string, count: () => Written, end: () => Promise<boolean>): Promise<Written> {
    const before = this.#unconfirmed.get(id);
    let ended: boolean;
    try {
      ended = await end();
    } catch (error) {
      this.#remember(id, count);
      throw error;
    }
    this.#unconfirmed.delete(id);
    if (ended) return count();
    return before === undefined ? 'gone' : before();
  }

  #remember(id: string, count: () => Written): void {
    this.#unconfirmed.set(id, count);
    const [oldest] = this.#unconfirmed.keys();
    if (this.#unconfirmed.size > UNCONFIRMED_MAX && oldest !== undefined) this.#unconfirmed.delete(oldest);
  }

  #confirmed(id: string): Written {
    const count = this.#unconfirmed.get(id);
    this.#unconfirmed.delete(id);
    return count?.() ?? 'gone';
  }

  #ended(batch: SealedBatch, rowsStored: number, letters: readonly DeadLetterDraft[]): Written {
    const { instruments, logger } = this.#options;
    const { id, table, shard } = batch;
    const signal = signalOf(table);
    instruments.itemsWritten.inc({ signal, table, shard: String(shard) }, rowsStored);
    for (const { range, rows, reason, message, replica, fragments } of letters) {
      instruments.itemsDeadlettered.inc({ signal, reason }, rows);
      const bytes = fragments?.reduce((sum, { length }) => sum + length, 0) ?? batch.bytes;
      const what = { batch: id, range, table, shard, rows, bytes, replica, code: reason, reason: message };
      logger.error(what, 'it can never be stored as it is and is a dead letter now');
    }
    return letters.length === 0 ? 'written' : 'aside';
  }
}

async function* inTurn(fragments: readonly Uint8Array[]): AsyncGenerator<Uint8Array, void, undefined> {
  yield* fragments;
}

function stoppingFault(): Fault {
  return new Fault('stopping', 'here', 'the writer is stopping');
}
