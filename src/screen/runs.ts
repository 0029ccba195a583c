/**
 * What every match of a pattern needs, looked for in the bytes of a request many times faster than the
 * pattern itself: a run of characters that are all of its own, as long as its shortest match, and in it a
 * rare character if the pattern has one. It may find what is no match, and never misses one.
 */
import { tokenAt } from '../config/patterns.ts';

export interface Needs {
  /** By byte: whether it may be part of a match. */
  readonly isPart: Uint8Array;
  /** A match is at least so long. */
  readonly length: number;
  /** A byte that every match has, undefined without a rare one. */
  readonly rare: number | undefined;
}

const RARE = /^[!#%&@~<>;]$/;
/** Shorter runs are found too often to be of use; of letters also longer ones. */
const RUN_MIN = 6;
const LETTERS_RUN_MIN = 16;

/** What matches of the sieve of a pattern (sieve.ts) need; undefined if that would be found too often. */
export function needsOf(sieve: RegExp): Needs | undefined {
  const { source } = sieve;
  const isPart = new Uint8Array(256);
  // Of groups around the token: the length of the alternative so far, and the least of those before.
  const groups = [{ length: 0, least: Infinity }];
  const rare = new Set<number>();
  let hasAlternatives = false;
  let last = { length: 0, rare: -1 };
  for (let i = 0; i < source.length; ) {
    const [token, kind] = tokenAt(source, i);
    i += token.length;
    const group = groups.at(-1) as (typeof groups)[number];
    if (kind === 'open') groups.push({ length: 0, least: Infinity });
    else if (kind === 'close') {
      groups.pop();
      last = { length: Math.min(group.least, group.length), rare: -1 };
      (groups.at(-1) as typeof group).length += last.length;
    } else if (kind === 'alternative') {
      group.least = Math.min(group.least, group.length);
      group.length = 0;
      hasAlternatives ||= groups.length === 1;
    } else if (kind === 'quantifier') {
      const times = timesOf(token);
      group.length += (times - 1) * last.length;
      if (times === 0) rare.delete(last.rare);
    } else {
      const isRare = groups.length === 1 && RARE.test(token) && !rare.has(token.charCodeAt(0));
      last = { length: 1, rare: isRare ? token.charCodeAt(0) : -1 };
      group.length++;
      if (isRare) rare.add(last.rare);
      markParts(isPart, token);
    }
  }
  const [whole] = groups as [(typeof groups)[number]];
  const length = Math.min(whole.least, whole.length);
  const [first] = hasAlternatives ? [] : rare;
  const isLong = length >= (isPart[0x65] === 1 ? LETTERS_RUN_MIN : RUN_MIN);
  return first === undefined && !isLong ? undefined : { isPart, length, rare: first };
}

/** How often a quantifier has what stands before it at least. */
function timesOf(quantifier: string): number {
  if (quantifier.startsWith('{')) return Number.parseInt(quantifier.slice(1), 10);
  return quantifier.startsWith('+') ? 1 : 0;
}

/** The characters of a token, which are ASCII. */
function markParts(isPart: Uint8Array, token: string): void {
  const pattern = new RegExp(`^(?:${token})$`);
  for (let byte = 0; byte < 128; byte++) if (pattern.test(String.fromCharCode(byte))) isPart[byte] = 1;
}

/**
 * A place that every match beginning at `from` or later reaches beyond, in a run of a match's bytes; the end
 * of the bytes without any.
 */
export function nextNeeded(needs: Needs, bytes: Buffer, from: number): number {
  const { isPart, length, rare } = needs;
  return rare === undefined ? nextRun(isPart, length, bytes, from) : nextRare(needs, rare, bytes, from);
}

function nextRun(isPart: Uint8Array, length: number, bytes: Uint8Array, from: number): number {
  const end = bytes.length;
  // Where a run would have its last byte: what is no part of one rules out all runs across it.
  let last = from + length - 1;
  while (last < end) {
    let p = last;
    const before = last - length;
    while (p > before && isPart[bytes[p] as number] === 1) p--;
    if (p === before) return last;
    last = p + length;
  }
  return end;
}

/** The next rare byte that a run of the length is around. */
function nextRare(needs: Needs, rare: number, bytes: Buffer, from: number): number {
  const { length } = needs;
  for (let at = bytes.indexOf(rare, from); at >= 0; at = bytes.indexOf(rare, at + 1)) {
    const start = runStart(needs, bytes, at, Math.max(from, at - length));
    if (runEnd(needs, bytes, at, Math.min(bytes.length, at + length)) - start >= length) return at;
  }
  return bytes.length;
}

/** Where the run that `at` is in begins, `least` at the least. */
export function runStart({ isPart }: Needs, bytes: Uint8Array, at: number, least: number): number {
  let p = at;
  while (p > least && isPart[bytes[p - 1] as number] === 1) p--;
  return p;
}

/** Where the run that `at` is in ends, `most` at the most. */
export function runEnd({ isPart }: Needs, bytes: Uint8Array, at: number, most: number): number {
  let p = at;
  while (p < most && isPart[bytes[p] as number] === 1) p++;
  return p;
}
