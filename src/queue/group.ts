/** The requests of one group commit, and what is made of them. */
import { assert } from '../base/errors.ts';
import type { Fragment, Layout } from '../model/batch.ts';
import type { OpenBlocks, RecordBounds } from '../model/block.ts';
import type { Outcome } from '../model/outcome.ts';
import type { RequestMemo } from './batch-store.ts';

/**
 * Makes the stored form of a block. The result is newly allocated; the block is only read during the call.
 */
export interface BlockCompressor {
  readonly layout: Layout;
  compress(block: Uint8Array): Uint8Array;
}

/** By what rows are shared out among the shards. */
export interface Placing {
  /** Of the routing; 0 where none was published. */
  readonly generation: number;
  readonly weights: readonly number[];
}

/** How a repetition of a request is recognised, and how the request is made anew without the others. */
export interface Resendable {
  /** 16 bytes, the same for the same request only. */
  readonly mark: Uint8Array;
  /** How long it is remembered; 0: not at all. */
  readonly seconds: number;
  /** The bytes that were submitted, once more. May be called until the request's promise settles. */
  readonly again: () => Uint8Array;
  /** For the log. */
  readonly requestId: string | undefined;
}

/** What the records of a request have to keep to. */
export interface Within {
  readonly bounds: RecordBounds;
  /**
   * Whether they may stay, now that they are counted; what it throws is thrown to who submits.
   * @param series as OpenBlocks.series has it
   */
  takes(outcome: Outcome, series: Uint32Array): boolean;
}

/** Whether a repetition of a request is to be recognised. */
export function isRemembered({ resend }: Entry): boolean {
  return resend !== undefined && resend.seconds > 0;
}

/** A request that waits for its group. */
export interface Entry {
  readonly outcome: Outcome;
  readonly resend: Resendable | undefined;
  readonly placing: Placing;
  /** Whose name is written into its rows. */
  readonly tenant?: string | undefined;
  /** Where they were made of this request alone; otherwise its rows are in blocks with those of others. */
  readonly fragments?: readonly Fragment[];
  readonly resolve: (outcome: Outcome) => void;
  readonly reject: (error: unknown) => void;
}

/** Requests that are stored together. */
export interface Group {
  readonly placing: Placing;
  readonly entries: Entry[];
  /** Blocks that were closed already, and fragments made elsewhere. */
  readonly fragments: Fragment[];
  fragmentBytes: number;
  /** Records accepted of all its requests. */
  accepted: number;
}

/** What a shard gets of a group: one append. */
export interface Part {
  readonly shard: number;
  readonly fragments: readonly Fragment[];
  readonly rows: number;
}

export function newGroup(placing: Placing): Group {
  return { placing, entries: [], fragments: [], fragmentBytes: 0, accepted: 0 };
}

/** Closes the blocks. */
export function fragmentsOf(blocks: OpenBlocks, compressor: BlockCompressor): Fragment[] {
  const { layout } = compressor;
  return blocks.close().map(({ shard, table, rows, bytes }) => {
    return { shard, table, layout, rows, bytes: compressor.compress(bytes) };
  });
}

/** What is remembered of requests. */
export function memosOf(entries: readonly Entry[]): RequestMemo[] {
  return entries.flatMap(({ resend, placing }) => {
    if (resend === undefined) return [];
    return [{ mark: resend.mark, seconds: resend.seconds, generation: placing.generation }];
  });
}

/**
 * The fragments of these requests, made anew by themselves.
 * @param blocks empty, and empty again afterwards
 */
export function remade(
  entries: readonly Entry[],
  blocks: OpenBlocks,
  { compressor, fragmentBytesMax }: { compressor: BlockCompressor; fragmentBytesMax: number },
): Fragment[] {
  const fragments: Fragment[] = [];
  const close = () => {
    if (blocks.rows > 0) fragments.push(...fragmentsOf(blocks, compressor));
  };
  let routed: Placing | undefined;
  for (const { outcome, resend, placing, tenant, fragments: made } of entries) {
    if (made !== undefined) {
      fragments.push(...made);
      continue;
    }
    assert(resend !== undefined, 'where requests are remembered all of them can be made anew');
    if (placing !== routed) {
      close();
      blocks.route(placing.weights);
      routed = placing;
    }
    const { accepted } = blocks.append(resend.again(), tenant);
    assert(accepted === outcome.accepted, `a request of ${outcome.accepted} items has ${accepted} now`);
    if (blocks.bytes >= fragmentBytesMax) close();
  }
  close();
  return fragments;
}

/** @returns one part for each shard that there are fragments for, with them in their order */
export function partsOf(fragments: readonly Fragment[]): Part[] {
  const parts: { readonly shard: number; readonly fragments: Fragment[]; rows: number }[] = [];
  let part: (typeof parts)[number] | undefined;
  for (const fragment of fragments) {
    const { shard, rows } = fragment;
    if (part?.shard !== shard) part = parts.find((other) => other.shard === shard);
    if (part === undefined) {
      part = { shard, fragments: [], rows: 0 };
      parts.push(part);
    }
    part.fragments.push(fragment);
    part.rows += rows;
  }
  return parts;
}
