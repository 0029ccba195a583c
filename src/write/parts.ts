/**
 * The parts of a batch that is being divided: which there are, what they are called, and under which token
 * each is inserted. Everything follows from the batch alone, so that whoever goes on with a division after a
 * crash finds the same parts. Written down as in model/dead-letter.ts.
 */
import type { SealedBatch } from '../model/batch.ts';

/** Fragments, or rows of one; the last ones included. */
export type Part =
  | { readonly kind: 'fragments'; readonly from: number; readonly to: number }
  | { readonly kind: 'rows'; readonly fragment: number; readonly from: number; readonly to: number };

/** The range of a whole batch. */
export const ALL = 'all';

export function wholeOf({ fragments }: SealedBatch): Part {
  return { kind: 'fragments', from: 0, to: fragments - 1 };
}

export function isSingle({ from, to }: Part): boolean {
  return from === to;
}

export function rangeOf(batch: SealedBatch, part: Part): string {
  const { from, to } = part;
  if (part.kind === 'fragments' && from === 0 && to === batch.fragments - 1) return ALL;
  const range = isSingle(part) ? `${from}` : `${from}-${to}`;
  return part.kind === 'rows' ? `${part.fragment}:${range}` : range;
}

/**
 * The token of a part, and its id should it become a letter: the insert of a letter that is replayed is
 * then the one that was tried before. In an id nothing may stand but letters, digits, `.` and `-`.
 */
export function partId(batch: SealedBatch, part: Part): string {
  const range = rangeOf(batch, part);
  return range === ALL ? batch.id : `${batch.id}.${range.replace(':', '.')}`;
}

/** Of a part that is more than a single one. */
export function halvesOf<P extends Part>(part: P): readonly [P, P] {
  const middle = Math.floor((part.from + part.to) / 2);
  return [
    { ...part, to: middle },
    { ...part, from: middle + 1 },
  ];
}
