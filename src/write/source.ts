/**
 * Where batches come from and where they go: what the queue offers a writer. Declared by who needs it, so
 * that this room knows nothing of Redis; `app` hands the queue's store in.
 */
import type { SealedBatch } from '../model/batch.ts';
import type { DeadLetterDraft, PartState } from '../model/dead-letter.ts';

export interface BatchSource {
  /**
   * The bytes of a batch: its fragments one after another, in chunks of any size, each the reader's own from
   * then on. Yields nothing at all for a batch that was finished or set aside meanwhile. Whoever stops early
   * calls `return`, which ends the reading.
   * @throws Fault of the store; with `never` if it has lost bytes of the batch
   */
  fragments(batch: SealedBatch): AsyncIterable<Uint8Array>;
  /** The same at once, each fragment by itself; they are the caller's. None of a batch that is gone. */
  fragmentList(batch: SealedBatch): Promise<readonly Uint8Array[]>;
  /**
   * Removes a batch whose insert has returned, in one step with its bookkeeping.
   * Resolves with false when it was finished or set aside before; then nothing has changed.
   */
  finish(batch: SealedBatch, insert: InsertFacts): Promise<boolean>;
}

/** How a batch got into ClickHouse, for whoever traces it. */
export interface InsertFacts {
  readonly replica: string;
  readonly insertMs: number;
}

/**
 * Where a batch goes that can't be stored as it is. Its division is written down before each step, so that
 * whoever goes on with it never inserts the same rows under two tokens.
 */
export interface DeadLetterSink {
  /**
   * What was noted of a batch's division, by range; empty for a batch that is whole.
   * @throws Fault of Redis
   */
  division(batch: SealedBatch): Promise<ReadonlyMap<string, PartState>>;
  /** Resolves when Redis has it. */
  note(batch: SealedBatch, range: string, state: PartState): Promise<void>;
  /**
   * Ends a batch: so many of its rows are in ClickHouse, the rest becomes the letters, or is discarded where
   * the settings say so. All in one step with the books. Resolves with `gone` when it was ended before: then
   * nothing has changed.
   * @throws Fault `dead_letters_full` (here) when there is no room and the settings say to wait; of Redis
   */
  setAside(
    batch: SealedBatch,
    rowsStored: number,
    letters: readonly DeadLetterDraft[],
  ): Promise<'aside' | 'gone'>;
}
