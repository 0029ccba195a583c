/**
 * Seals by age. While requests come, the append does it; when they stop, somebody has to look. After each
 * append this one knows how long the oldest open batch has been collecting, and looks again when it is due.
 * If this process dies first, the sweep of any writer does it.
 */
import { Fault } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Instruments } from '../metrics/instruments.ts';
import type { SealedBatch } from '../model/batch.ts';
import type { AppendResult } from './batch-store.ts';

export interface SealerOptions {
  readonly shard: number;
  readonly ageMsMax: number;
  readonly store: { sealDue(shard: number): Promise<AppendResult> };
  /** Makes jobs for batches that were sealed. Must return at once; what it fails to do the sweep does. */
  readonly onSealed: (batches: readonly SealedBatch[]) => void;
  readonly instruments: Pick<Instruments, 'batchesSealed'>;
  readonly logger: Logger;
}

/** Redis counts whole milliseconds; a look a little later finds the batch due for certain. */
const MARGIN_MS = 2;
/** After a failed look. */
const RETRY_MS = 1_000;

export class Sealer {
  readonly #options: SealerOptions;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(options: SealerOptions) {
    this.#options = options;
  }

  /**
   * Takes the result of an append (or of a look of its own): hands on what was sealed, plans the next look.
   */
  stored(result: AppendResult): void {
    const { onSealed, instruments, ageMsMax } = this.#options;
    for (const { table } of result.sealed) instruments.batchesSealed.inc({ table });
    if (result.sealed.length > 0) onSealed(result.sealed);
    // A timer that is set already comes early enough: no batch is older than the one it was set for.
    if (this.#timer !== undefined || result.openAgeMsMax === undefined) return;
    this.#plan(Math.max(0, ageMsMax - result.openAgeMsMax) + MARGIN_MS);
  }

  /** No further looks. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #plan(delayMs: number): void {
    if (this.#stopped) return;
    this.#timer = setTimeout(() => void this.#look(), delayMs);
  }

  async #look(): Promise<void> {
    const { store, shard, logger } = this.#options;
    try {
      const result = await store.sealDue(shard);
      this.#timer = undefined;
      this.stored(result);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      logger.debug({ shard, reason: error.message }, 'could not look for batches to seal');
      this.#plan(RETRY_MS);
    }
  }
}
