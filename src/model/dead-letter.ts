/**
 * What can never be stored: kept in Redis with the reason, until an operator replays or drops it. A letter is
 * a whole batch, some fragments of one, or some rows of a fragment.
 */
import type { SealedBatch } from './batch.ts';

/** Why, and where it came from. */
export interface DeadLetterReason {
  /** A short word: the server's name of the error, or ours in lower case. */
  readonly reason: string;
  /** ClickHouse's own words, or ours. */
  readonly message: string;
  /** The replica that refused it last; empty where none was asked. */
  readonly replica: string;
  /** The batch that it was a part of, and which: `all`, fragments `3` or `3-7`, rows `3:0-99`. */
  readonly batch: string;
  readonly range: string;
}

/** The id of its batch description is the letter's own, and its deduplication token when it is replayed. */
export interface DeadLetter extends SealedBatch, DeadLetterReason {
  /** By Redis' clock, ms since 1970. */
  readonly buriedAtMs: number;
}

/** A letter that is about to be written. */
export interface DeadLetterDraft extends DeadLetterReason {
  readonly id: string;
  readonly rows: number;
  /** One after another the letter's bytes; undefined for one that is the whole batch, as it lies there. */
  readonly fragments: readonly Uint8Array[] | undefined;
}

/**
 * What became of a part of a batch that is being divided: `split` is left to its own parts, for ever.
 */
export type PartState = 'split' | 'stored';
