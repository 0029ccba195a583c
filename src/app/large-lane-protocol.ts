/** What the main thread and the thread for large requests say to each other. */
import type { Encoding } from '../compress/inflate.ts';
import type { Fragment } from '../model/batch.ts';
import type { NeverReason, Outcome } from '../model/outcome.ts';
import type { Signal } from '../model/signal.ts';

/** Handed to the thread once, when it starts. */
export interface LaneSettings {
  readonly engine: 'wasm' | 'plain';
  readonly nestingMax: number;
  readonly requestBytesMax: number;
  readonly zstdLevel: number | 'off';
  readonly fragmentBytesMax: number;
}

export interface LaneRequest {
  readonly id: number;
  readonly signal: Signal;
  readonly format: 'protobuf' | 'json';
  readonly encoding: Encoding;
  /** Of the shards that its rows are shared out to (OpenBlocks.route). */
  readonly weights: readonly number[];
  /** What its mark is made with; undefined: it needs none. */
  readonly marking: { readonly key: Uint8Array; readonly source: string } | undefined;
  /** In order. Transferred: the sender has them no longer. */
  readonly pieces: readonly Uint8Array<ArrayBuffer>[];
}

export type LaneResult =
  | {
      readonly kind: 'fragments';
      readonly fragments: readonly Fragment[];
      readonly outcome: Outcome;
      readonly mark: Uint8Array | undefined;
    }
  | { readonly kind: 'never'; readonly reason: NeverReason; readonly message: string };

export interface LaneAnswer {
  readonly id: number;
  readonly result: LaneResult;
}
