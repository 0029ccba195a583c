/**
 * Regular expressions of operators. JavaScript's engine backtracks, so a pattern can take time exponential in
 * the text that a stranger sends: forms that do are refused here, and the text that a pattern sees is bounded
 * (screen/texts.ts). Refused: a repetition of a group that holds a repetition or alternatives, `(a+)+`, and
 * references to groups. What remains is a polynomial of the bounded text at worst.
 */

const PATTERN_LENGTH_MAX = 1_000;

/** Why the pattern can't be used; undefined if it can. */
export function patternFault(source: string): string | undefined {
  if (source.length > PATTERN_LENGTH_MAX) {
    return `the pattern has ${source.length} characters, ${PATTERN_LENGTH_MAX} are allowed`;
  }
  try {
    new RegExp(source);
  } catch (error) {
    return error instanceof SyntaxError ? error.message : String(error);
  }
  return dangerOf(source);
}

interface Group {
  /** A repetition without a small bound, or alternatives, are inside. */
  hasChoice: boolean;
}

/** A repetition of at most so many counts as none. */
const REPEATS_MAX = 4;
const QUANTIFIER = /^(?:[*+?]|\{(\d+)(,?)(\d*)\})\??/;

function dangerOf(source: string): string | undefined {
  const open: Group[] = [{ hasChoice: false }];
  let closed: Group | undefined;
  let i = 0;
  while (i < source.length) {
    const [token, kind] = tokenAt(source, i);
    i += token.length;
    if (kind === 'reference') return `${token} refers to a group, which can take exponential time`;
    if (kind === 'open') open.push({ hasChoice: false });
    const inner = open.at(-1) as Group;
    if (kind === 'alternative') inner.hasChoice = true;
    if (kind === 'quantifier' && isMany(token)) {
      if (closed?.hasChoice) {
        return `${token} repeats a group with a repetition or alternatives, which can take exponential time`;
      }
      inner.hasChoice = true;
    }
    closed = undefined;
    if (kind === 'close') {
      closed = open.pop() as Group;
      const outer = open.at(-1) as Group;
      if (closed.hasChoice) outer.hasChoice = true;
    }
  }
  return undefined;
}

type TokenKind =
  | 'reference'
  | 'open'
  | 'close'
  | 'alternative'
  | 'quantifier'
  | 'assertion'
  | 'class'
  | 'other';

/** The token of a valid pattern at a place. */
export function tokenAt(source: string, at: number): readonly [token: string, kind: TokenKind] {
  const rest = source.slice(at);
  const first = rest.charAt(0);
  if (first === '\\') {
    const escaped =
      /^\\(?:k<[^>]*>|[1-9]\d*|u\{[^}]*\}|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|c[A-Za-z]|[\s\S])/.exec(rest);
    const token = escaped?.[0] ?? rest;
    if (/^\\(?:k<|[1-9])/.test(token)) return [token, 'reference'];
    return [token, /^\\[bB]$/.test(token) ? 'assertion' : 'other'];
  }
  if (first === '[') return [/^\[(?:\\[\s\S]|[^\]\\])*\]/.exec(rest)?.[0] ?? rest, 'class'];
  if (first === '(') return [/^\((?:\?(?:<?[=!]|<[^>]*>|[^)]*?:))?/.exec(rest)?.[0] ?? first, 'open'];
  if (first === ')') return [first, 'close'];
  if (first === '|') return [first, 'alternative'];
  if (first === '^' || first === '$') return [first, 'assertion'];
  const quantifier = QUANTIFIER.exec(rest)?.[0];
  return quantifier === undefined ? [first, 'other'] : [quantifier, 'quantifier'];
}

function isMany(quantifier: string): boolean {
  const [, least, comma, most] = QUANTIFIER.exec(quantifier) ?? [];
  if (least === undefined) return !quantifier.startsWith('?');
  if (comma === '') return Number(least) > REPEATS_MAX;
  return most === '' || Number(most) > REPEATS_MAX;
}
