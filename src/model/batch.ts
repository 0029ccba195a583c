/** The nouns of the queue: fragments that gateways append, and the sealed batches that writers insert. */
import type { Table } from './signal.ts';

/**
 * How the bytes of a fragment are laid out: `z1` is a zstd frame of one Native block with the columns of this
 * version, `r1` the same without compression. Fragments of different layouts never share a batch, so a
 * gateway of another version may run beside this one.
 */
export const LAYOUTS = ['z1', 'r1'] as const;
export type Layout = (typeof LAYOUTS)[number];

/**
 * A finished block on its way into Redis. Whoever is handed a fragment owns `bytes` until the hand-off
 * resolves.
 */
export interface Fragment {
  readonly shard: number;
  readonly table: Table;
  readonly layout: Layout;
  readonly rows: number;
  readonly bytes: Uint8Array;
}

/** A batch whose composition never changes again. `id` is its deduplication token for ever. */
export interface SealedBatch {
  readonly id: string;
  readonly shard: number;
  readonly table: Table;
  readonly layout: Layout;
  readonly rows: number;
  readonly bytes: number;
  readonly fragments: number;
  /** By Redis' clock, ms since 1970. */
  readonly sealedAtMs: number;
  /** When its newest fragment was acknowledged, by Redis' clock, ms since 1970. */
  readonly newestAtMs: number;
}

/** What is known of a batch, by its id. Times by Redis' clock, ms since 1970. */
export interface BatchTrace {
  readonly state: 'open' | 'sealed' | 'written' | 'dead';
  readonly id: string;
  readonly shard: number;
  readonly table: string;
  readonly layout: string;
  readonly rows: number;
  readonly bytes: number;
  readonly fragments: number;
  /** Of an open batch: when it was opened. */
  readonly sealedAtMs: number;
  readonly newestAtMs: number;
  /** Only of a written one: when, by which replica, and how long the insert took. */
  readonly writtenAtMs: number | undefined;
  readonly replica: string | undefined;
  readonly insertMs: number | undefined;
}
