/**
 * Which records a pattern may match in: one search over the raw bytes of many records instead of one for
 * each of their texts. A record that it doesn't find holds no match; one that it finds is looked at text by
 * text.
 */
import { tokenAt } from '../config/patterns.ts';
import { type Needs, nextNeeded, runEnd, runStart } from './runs.ts';

/** So much of the request is made a string at a time, one char for each byte. */
const WINDOW_BYTES = 32_768;

export class Sieve {
  readonly #request: Buffer;
  #text = '';
  /** Where the text begins and ends in the request. */
  #from = 0;
  #to = 0;
  /** By rule: where what its pattern needs is next, counted from where it was looked for last. */
  readonly #needed: Float64Array;
  /** By rule: the same of the pattern. */
  readonly #next: Float64Array;

  constructor(request: Buffer, rules: number) {
    this.#request = request;
    this.#next = new Float64Array(rules);
    this.#needed = new Float64Array(rules).fill(-1);
  }

  /**
   * Whether the pattern is found in [start, end) of the request; later calls ask for later places.
   * @param needs what its matches need, if that is worth looking for
   */
  finds(pattern: RegExp, needs: Needs | undefined, rule: number, start: number, end: number): boolean {
    if (needs === undefined) return this.#findsPattern(pattern, rule, start, end);
    const request = this.#request;
    if ((this.#needed[rule] as number) < start) this.#needed[rule] = nextNeeded(needs, request, start);
    for (;;) {
      const place = this.#needed[rule] as number;
      if (place >= end) return false;
      // A match has no bytes but its own, so it lies within one run of them.
      const from = runStart(needs, request, place, start);
      const to = runEnd(needs, request, place, end);
      pattern.lastIndex = 0;
      if (pattern.test(request.toString('latin1', from, to))) return true;
      this.#needed[rule] = nextNeeded(needs, request, to);
    }
  }

  #findsPattern(pattern: RegExp, rule: number, start: number, end: number): boolean {
    if (end > this.#to || start < this.#from) this.#move(start, end);
    if ((this.#next[rule] as number) < start) {
      pattern.lastIndex = start - this.#from;
      const found = pattern.exec(this.#text);
      this.#next[rule] = found === null ? this.#to : this.#from + found.index;
    }
    return (this.#next[rule] as number) < end;
  }

  #move(start: number, end: number): void {
    this.#from = start;
    this.#to = Math.min(this.#request.length, Math.max(end, start + WINDOW_BYTES));
    this.#text = this.#request.toString('latin1', this.#from, this.#to);
    // What was found reaches to the end of the last text at most.
    this.#next.fill(-1);
  }
}

/**
 * A pattern that finds at least what `source` finds and may be run over raw bytes, one char for each, past
 * the ends of texts; undefined when there is none. That is so for patterns whose matches consist of ASCII
 * only: what they ask about their surroundings (^, $, \b) is left out.
 */
export function sieveOf(source: string): RegExp | undefined {
  let relaxed = '';
  for (let i = 0; i < source.length; ) {
    const [token, kind] = tokenAt(source, i);
    i += token.length;
    if (kind === 'assertion') continue;
    if (kind === 'reference' || (kind === 'open' && token !== '(' && token !== '(?:')) return undefined;
    if (kind === 'class' && !/^\[(?!\^)(?:[ -Z^-~]|\\[dw\]\\.\-+/*?|(){}[^$@])*\]$/.test(token))
      return undefined;
    if (kind === 'other' && !/^(?:[ -\-/-Z_-~\]]|\\[dw\]\\.\-+/*?|(){}[^$@"'=:;,])$/.test(token))
      return undefined;
    relaxed += token;
  }
  const sieve = new RegExp(relaxed, 'g');
  return sieve.test('') ? undefined : new RegExp(relaxed, 'g');
}
