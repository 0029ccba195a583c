/**
 * Where batches come from and where they go: what the queue offers a writer. Declared by who needs it, so
 * that this room knows nothing of Redis; `app` hands the queue's store in.
 */
import type { SealedBatch } from '../model/batch.ts';

export interface BatchSource {
  /**
   * The bytes of a batch: its fragments one after another, in chunks of any size, each the reader's own from
   * then on. Yields nothing at all for a batch that was finished or buried meanwhile. Whoever stops early
   * calls `return`, which ends the reading.
   * @throws Fault of the store; with `never` if it has lost bytes of the batch
   */
  fragments(batch: SealedBatch): AsyncIterable<Uint8Array>;
  /**
   * Removes a batch whose insert has returned, in one step with its bookkeeping.
   * Resolves with false when it was finished or buried before; then nothing has changed.
   */
  finish(batch: SealedBatch): Promise<boolean>;
  /** Keeps a batch that can never be stored, out of the way of the others. Resolves like `finish`. */
  bury(batch: SealedBatch, reason: string, message: string): Promise<boolean>;
}
