/**
 * Takes SQL of ClickHouse apart into tokens, without comments and blanks, and writes tokens as one line
 * again. Enough for telling statements apart and comparing them; what isn't SQL becomes tokens as well, never
 * an error.
 */
import { literal, quoteName } from '../clickhouse/quote.ts';
import { IDENTIFIER } from './sql.ts';

/**
 * `name` is one in backquotes or double quotes, `word` one without: a word may be a keyword. `operator` is
 * everything else, brackets and commas included.
 */
export type TokenKind = 'word' | 'name' | 'string' | 'number' | 'operator';

export interface Token {
  readonly kind: TokenKind;
  /** What it stands for: a name without its quotes, a string's characters; others as they are written. */
  readonly value: string;
  /** Where it is in the text. */
  readonly start: number;
  readonly end: number;
}

const PATTERNS: readonly (readonly [kind: TokenKind | undefined, pattern: RegExp])[] = [
  [undefined, /(?:\s+|--[^\n]*|\/\*[\s\S]*?(?:\*\/|$))+/y],
  ['word', /[A-Za-z_][A-Za-z0-9_]*/y],
  ['number', /(?:0[xX][0-9a-fA-F]+|(?:\d+(?:\.\d*)?|(?<![\w)\]`"])\.\d+)(?:[eE][+-]?\d+)?)/y],
  ['string', /'(?:[^'\\]|\\[\s\S]|'')*(?:'|$)/y],
  ['name', /`(?:[^`\\]|\\[\s\S]|``)*(?:`|$)|"(?:[^"\\]|\\[\s\S]|"")*(?:"|$)/y],
  ['operator', /::|->|<=>|<=|>=|<>|!=|==|\|\||@@|[\s\S]/y],
];

/** A tuple's element after a dot: in `item.1.2` the numbers are 1 and 2. */
const ELEMENT = /\d+/y;

export function tokenize(sql: string): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  while (at < sql.length) {
    const before = tokens.at(-1);
    const patterns = isElement(sql, at, before) ? ([['number', ELEMENT]] as const) : PATTERNS;
    for (const [kind, pattern] of patterns) {
      pattern.lastIndex = at;
      const text = pattern.exec(sql)?.[0];
      if (text === undefined) continue;
      if (kind !== undefined)
        tokens.push({ kind, value: meaningOf(kind, text), start: at, end: at + text.length });
      at += text.length;
      break;
    }
  }
  return tokens;
}

function isElement(sql: string, at: number, before: Token | undefined): boolean {
  return before?.value === '.' && before.end === at && /\d/.test(sql[at] ?? '');
}

function meaningOf(kind: TokenKind, text: string): string {
  if (kind !== 'string' && kind !== 'name') return text;
  const quote = text[0] ?? '';
  const closed = text.length > 1 && text.endsWith(quote);
  return text
    .slice(1, closed ? -1 : undefined)
    .replaceAll(quote + quote, quote)
    .replace(/\\([\s\S])/g, (_, escaped: string) => ESCAPES[escaped] ?? escaped);
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r', 0: '\0', b: '\b', f: '\f' };

/** Words that mean something else without quotes. */
const RESERVED = new Set(['INDEX', 'CONSTRAINT', 'PROJECTION', 'PRIMARY', 'AS', 'FROM', 'SELECT', 'NULL']);

/** A token as SQL: names in backquotes only where they need them, strings in single quotes. */
export function tokenText({ kind, value }: Token): string {
  if (kind === 'string') return literal(value).replaceAll('\n', '\\n');
  if (kind !== 'name') return value;
  const plain = IDENTIFIER.test(value) && !RESERVED.has(value.toUpperCase());
  return plain ? value : quoteName(value);
}

/** Tokens as one line of SQL, the same for every way of writing blanks, comments and quotes. */
export function spell(tokens: readonly Token[]): string {
  let text = '';
  for (const [index, token] of tokens.entries()) {
    const before = tokens[index - 1];
    text += before !== undefined && blankBetween(before, token, tokens[index - 2]) ? ' ' : '';
    text += tokenText(token);
  }
  return text;
}

const NO_BLANK_AFTER = new Set(['(', '[', '.', '::', '{', '@@']);
const NO_BLANK_BEFORE = new Set([')', ']', ',', '.', '::', '}', ';']);
/** Words that stand before a bracket without being a function. */
const NOT_CALLED = new Set(
  (
    'AND OR NOT IN AS BY FROM WHERE SELECT ON TO THEN ELSE WHEN VALUES TTL SETTINGS SET USING HAVING WITH ' +
    'PREWHERE JOIN ADD UNION ALL DISTINCT BETWEEN LIKE RETURN CHECK'
  ).split(' '),
);

function blankBetween(before: Token, token: Token, beforeThat: Token | undefined): boolean {
  const operators = [
    before.kind === 'operator' ? before.value : '',
    token.kind === 'operator' ? token.value : '',
  ];
  if (NO_BLANK_AFTER.has(operators[0] ?? '') || NO_BLANK_BEFORE.has(operators[1] ?? '')) return false;
  if (operators[1] === '(' || operators[1] === '[') {
    if (before.kind === 'word') return NOT_CALLED.has(before.value.toUpperCase()) && !isCall(before, token);
    return !(before.kind === 'name' || operators[0] === ')' || operators[0] === ']');
  }
  // A minus or plus before a value, after an operator, is its sign.
  const isSign = (operators[0] === '-' || operators[0] === '+') && token.kind === 'number';
  if (isSign && (beforeThat === undefined || /^[(,[=<>]/.test(beforeThat.value))) return false;
  return true;
}

/** `and(a, b)` is a call, `and (a)` is an operator: only the blank tells. */
function isCall(before: Token, bracket: Token): boolean {
  return before.end === bracket.start && before.value === before.value.toLowerCase();
}

/** Splits at a token at depth 0; brackets are minded. An empty list has no parts. */
export function splitAt(tokens: readonly Token[], separator: string): Token[][] {
  const parts: Token[][] = [];
  let part: Token[] = [];
  let depth = 0;
  for (const token of tokens) {
    depth += depthChange(token);
    if (depth === 0 && token.kind === 'operator' && token.value === separator) {
      parts.push(part);
      part = [];
    } else {
      part.push(token);
    }
  }
  if (part.length > 0 || parts.length > 0) parts.push(part);
  return parts;
}

/** 1 for an opening bracket, -1 for a closing one, else 0. */
export function depthChange({ kind, value }: Token): number {
  if (kind !== 'operator') return 0;
  if (value === '(' || value === '[' || value === '{') return 1;
  return value === ')' || value === ']' || value === '}' ? -1 : 0;
}
