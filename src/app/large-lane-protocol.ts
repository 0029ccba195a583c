/** What the main thread and the thread for large requests say to each other. */
import type { Encoding } from '../compress/inflate.ts';
import type { Fragment } from '../model/batch.ts';
import type { NeverReason, Outcome } from '../model/outcome.ts';
import type { Signal } from '../model/signal.ts';
import type { Screened } from '../screen/screen.ts';
import type { ScreenSettings } from './screening.ts';

/** Handed to the thread once, when it starts. */
export interface LaneSettings {
  readonly engine: 'wasm' | 'plain';
  readonly nestingMax: number;
  readonly requestBytesMax: number;
  readonly zstdLevel: number | 'off';
  readonly fragmentBytesMax: number;
  /** Of the hashes of time series, the same for all gateways. */
  readonly seriesSeed: number;
}

export interface LaneRequest {
  readonly id: number;
  readonly signal: Signal;
  readonly format: 'protobuf' | 'json';
  readonly encoding: Encoding;
  readonly tenant: string;
  /** Limits and rules that hold now. */
  readonly screen: ScreenSettings;
  /** Data points, by their place in the request, whose time series are beyond the limit. */
  readonly overflow: ReadonlySet<number> | undefined;
  /** Of the shards that its rows are shared out to (OpenBlocks.route). */
  readonly weights: readonly number[];
  /** What its mark is made with; undefined: it needs none. */
  readonly marking: { readonly key: Uint8Array; readonly sender: string } | undefined;
  /** In order. Transferred: the sender has them no longer. */
  readonly pieces: readonly Uint8Array<ArrayBuffer>[];
}

/** What the screen did to the records, of which those in `rejected` are part of the outcome. */
export type ScreenedCounts = Omit<Screened, 'bytes'>;

export type LaneResult =
  | {
      readonly kind: 'fragments';
      readonly fragments: readonly Fragment[];
      readonly outcome: Outcome;
      readonly mark: Uint8Array | undefined;
      /** Of the request, decompressed. */
      readonly bytes: number;
      readonly screened: ScreenedCounts;
      /** As OpenBlocks.series has it; empty where it isn't wanted. */
      readonly series: Uint32Array<ArrayBuffer>;
    }
  | { readonly kind: 'never'; readonly reason: NeverReason; readonly message: string };

export interface LaneAnswer {
  readonly id: number;
  readonly result: LaneResult;
}
