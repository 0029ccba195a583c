/**
 * Places in a request that get another value every time the request is sent. A template is encoded once with
 * zeros there; `Template.stamp` writes the values in place, which costs the load generator next to nothing.
 */

/** `index` counts from 1 within the request: traces for `trace`, items for `span` and `point`. */
export type Slot =
  | { readonly slot: 'trace'; readonly index: number }
  | { readonly slot: 'span'; readonly index: number }
  /**
   * The time of a span, event or log record: so many ns after the start of the window, shifted per request.
   */
  | { readonly slot: 'time'; readonly offsetNs: number }
  /** The time of a data point, which is also what it is recognised by (identity.ts). */
  | { readonly slot: 'point'; readonly index: number };

/** A slot, and where in the encoded request its bytes (or digits) begin. */
export interface Mark {
  readonly slot: Slot;
  readonly position: number;
}

/** What an encoder gives: the bytes with zeros in the slots, and where the slots are. */
export interface Encoded {
  readonly bytes: Uint8Array;
  readonly marks: readonly Mark[];
}

/** A plain object in the shape of OTLP/JSON, with 64-bit integers as bigint and slots where values change. */
export type Value = string | number | bigint | boolean | Uint8Array | Slot | Tree | readonly Value[];
export interface Tree {
  readonly [name: string]: Value | undefined;
}

export function isSlot(value: Value): value is Slot {
  return typeof value === 'object' && 'slot' in value;
}
