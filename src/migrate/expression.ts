/**
 * One form for every way of writing an expression or a query, for comparing what a migration says with what a
 * server shows: operators become functions, needless brackets, blanks, quotes and case of function names go.
 * `a AND (b = 1)` and `and(a, equals(b, 1))` are the same then. What isn't understood stays as it is written.
 */
import { Cursor, isName, isWord } from './cursor.ts';
import { type Token, spell, splitAt, tokenText, tokenize } from './lexer.ts';

/** @param text an expression, or several with commas, as in a key */
export function canonicalExpression(text: string): string {
  const parts = splitAt(tokenize(text), ',').map(expressionOf);
  const [only] = parts;
  // A key of one column may be written with brackets or without, one of several as a tuple.
  if (parts.length === 1 && only !== undefined) return only;
  return parts.length === 0 ? 'tuple()' : `tuple(${parts.join(', ')})`;
}

export function canonicalQuery(text: string): string {
  return queryOf(tokenize(text));
}

const CLAUSE_STARTS: readonly (readonly string[])[] = [
  ['WITH'],
  ['SELECT', 'DISTINCT'],
  ['SELECT'],
  ['FROM'],
  ['PREWHERE'],
  ['WHERE'],
  ['GROUP', 'BY'],
  ['HAVING'],
  ['ORDER', 'BY'],
  ['LIMIT'],
  ['UNION', 'ALL'],
  ['SETTINGS'],
];

function queryOf(tokens: readonly Token[]): string {
  const cursor = new Cursor(tokens);
  const startOf = () => CLAUSE_STARTS.find((words) => cursor.at(...words));
  const clauses: string[] = [];
  while (!cursor.done) {
    const words = startOf();
    if (words !== undefined) cursor.skip(...words);
    const body = cursor.done || startOf() !== undefined ? [] : cursor.until(() => startOf() !== undefined);
    const parts = splitAt(body, ',').map(expressionOf);
    clauses.push([words?.join(' ') ?? '', parts.join(', ')].filter((text) => text !== '').join(' '));
  }
  const [only] = clauses;
  return clauses.length === 1 && only?.startsWith('(') ? only.slice(1, -1) : clauses.join(' ');
}

/** Thrown and caught inside this file only: the text is no expression that it knows. */
class NotUnderstood extends Error {}

function expressionOf(tokens: readonly Token[]): string {
  try {
    const parser = new Parser(new Cursor(tokens));
    return parser.whole();
  } catch (error) {
    if (error instanceof NotUnderstood) return spell(tokens);
    throw error;
  }
}

interface Operator {
  readonly words: readonly string[];
  readonly name: string;
  readonly binds: number;
}

const COMPARES = 9;
const operator = (words: string, name: string, binds: number): Operator => ({
  words: words.split(' '),
  name,
  binds,
});
/** Longer ones first where one begins like another. */
const OPERATORS: readonly Operator[] = [
  operator('OR', 'or', 2),
  operator('AND', 'and', 3),
  operator('IS NOT NULL', 'isnotnull', 6),
  operator('IS NULL', 'isnull', 6),
  operator('NOT BETWEEN', 'notbetween', 7),
  operator('BETWEEN', 'between', 7),
  operator('GLOBAL NOT IN', 'globalnotin', COMPARES),
  operator('GLOBAL IN', 'globalin', COMPARES),
  operator('NOT IN', 'notin', COMPARES),
  operator('IN', 'in', COMPARES),
  operator('NOT LIKE', 'notlike', COMPARES),
  operator('LIKE', 'like', COMPARES),
  operator('NOT ILIKE', 'notilike', COMPARES),
  operator('ILIKE', 'ilike', COMPARES),
  operator('=', 'equals', COMPARES),
  operator('==', 'equals', COMPARES),
  operator('!=', 'notequals', COMPARES),
  operator('<>', 'notequals', COMPARES),
  operator('<=', 'lessorequals', COMPARES),
  operator('>=', 'greaterorequals', COMPARES),
  operator('<', 'less', COMPARES),
  operator('>', 'greater', COMPARES),
  operator('||', 'concat', 10),
  operator('+', 'plus', 11),
  operator('-', 'minus', 11),
  operator('*', 'multiply', 12),
  operator('/', 'divide', 12),
  operator('%', 'modulo', 12),
];
const NOT_BINDS = 4;
const TERNARY_BINDS = 1;
/** They take any number of arguments: `a AND b AND c` is one of three, however it is bracketed. */
const ASSOCIATIVE = ['and', 'or', 'concat'];

class Parser {
  readonly #cursor: Cursor;

  constructor(cursor: Cursor) {
    this.#cursor = cursor;
  }

  /** An expression with what may follow it in a list: an alias, a direction. */
  whole(): string {
    const value = this.expression(0);
    const cursor = this.#cursor;
    let suffix = '';
    if (cursor.skip('AS')) suffix = ` AS ${cursor.next()?.value ?? ''}`;
    else if (cursor.skip('DESC')) suffix = ' DESC';
    else if (!cursor.skip('ASC') && isName(cursor.peek()) && cursor.peek(1) === undefined) {
      suffix = ` AS ${cursor.next()?.value ?? ''}`;
    }
    if (!cursor.done) throw new NotUnderstood();
    return value + suffix;
  }

  expression(bindsMin: number): string {
    let left = this.#prefix();
    for (;;) {
      const next = this.#operator();
      if (next === undefined || next.binds <= bindsMin) break;
      this.#skip(next);
      left = this.#infix(left, next);
    }
    if (bindsMin >= TERNARY_BINDS) return left;
    if (this.#cursor.skipOperator('->')) return `lambda(${left}, ${this.expression(0)})`;
    if (!this.#cursor.skipOperator('?')) return left;
    const then = this.expression(0);
    if (!this.#cursor.skipOperator(':')) throw new NotUnderstood();
    return call('if', [left, then, this.expression(0)]);
  }

  #operator(): Operator | undefined {
    return OPERATORS.find(({ words }) => {
      const [symbol = ''] = words;
      return /^[A-Z]/.test(symbol) ? this.#cursor.at(...words) : this.#cursor.atOperator(symbol);
    });
  }

  #skip({ words }: Operator): void {
    for (let i = 0; i < words.length; i++) this.#cursor.next();
  }

  #infix(left: string, { name, binds }: Operator): string {
    if (name === 'isnull' || name === 'isnotnull') return call(name, [left]);
    if (name === 'between' || name === 'notbetween') {
      const low = this.expression(binds);
      if (!this.#cursor.skip('AND')) throw new NotUnderstood();
      const high = this.expression(binds);
      return name === 'between'
        ? call('and', [call('greaterorequals', [left, low]), call('lessorequals', [left, high])])
        : call('or', [call('less', [left, low]), call('greater', [left, high])]);
    }
    return call(name, [left, this.expression(binds)]);
  }

  #prefix(): string {
    const cursor = this.#cursor;
    if (cursor.skip('NOT')) return call('not', [this.expression(NOT_BINDS)]);
    if (cursor.skipOperator('-')) {
      const value = this.expression(12);
      return /^[\d.]/.test(value) ? `-${value}` : call('negate', [value]);
    }
    return this.#postfix(this.#primary());
  }

  #postfix(start: string): string {
    const cursor = this.#cursor;
    let value = start;
    for (;;) {
      if (cursor.skipOperator('[')) value = call('arrayelement', [value, ...this.#list(']')]);
      else if (cursor.skipOperator('::')) value = call('cast', [value, `'${this.#type()}'`]);
      else if (cursor.atOperator('.') && cursor.peek(1)?.kind === 'number') {
        cursor.next();
        value = call('tupleelement', [value, cursor.next()?.value ?? '']);
      } else return value;
    }
  }

  /** A name, and what is in the brackets behind it. */
  #type(): string {
    const name = this.#cursor.next()?.value ?? '';
    const inside = this.#cursor.brackets();
    return inside === undefined ? name : `${name}(${spell(inside)})`;
  }

  #primary(): string {
    const cursor = this.#cursor;
    if (cursor.skipOperator('[')) return call('array', this.#list(']'));
    if (cursor.atOperator('(')) return this.#bracket();
    const token = cursor.next();
    if (token === undefined) throw new NotUnderstood();
    if (token.kind === 'number') return token.value;
    if (token.kind === 'string') return tokenText(token);
    if (token.value === '*' && token.kind === 'operator') return '*';
    if (!isName(token)) throw new NotUnderstood();
    if (isWord(token, 'INTERVAL')) return this.#interval();
    if (isWord(token, 'CASE')) return this.#case();
    if (cursor.atOperator('(')) return this.#call(token.value);
    let name = tokenText(token);
    while (cursor.atOperator('.') && isName(cursor.peek(1))) {
      cursor.next();
      name += `.${tokenText(cursor.next() as Token)}`;
    }
    return name;
  }

  /** A subquery, a tuple, or just brackets. */
  #bracket(): string {
    const inside = this.#cursor.brackets() ?? [];
    if (isWord(inside[0], 'SELECT') || isWord(inside[0], 'WITH')) return `(${queryOf(inside)})`;
    const parts = splitAt(inside, ',').map((part) => inner(part));
    const [only] = parts;
    return parts.length === 1 && only !== undefined ? only : call('tuple', parts);
  }

  #call(written: string): string {
    const name = written.toLowerCase();
    const inside = this.#cursor.brackets() ?? [];
    const asType = name === 'cast' ? inside.findIndex((token) => isWord(token, 'AS')) : -1;
    if (asType > 0)
      return call('cast', [inner(inside.slice(0, asType)), `'${spell(inside.slice(asType + 1))}'`]);
    const distinct = isWord(inside[0], 'DISTINCT');
    const parts = splitAt(distinct ? inside.slice(1) : inside, ',').map((part) => inner(part));
    const args = name === 'count' && parts.length === 1 && parts[0] === '*' ? [] : parts;
    const called = call(distinct ? `${name} distinct` : name, args);
    // Parameters come in brackets of their own: quantile(0.9)(x).
    if (!this.#cursor.atOperator('(')) return called;
    const values = splitAt(this.#cursor.brackets() ?? [], ',').map((part) => inner(part));
    return `${called}(${values.join(', ')})`;
  }

  #list(end: string): string[] {
    const parts: string[] = [];
    while (!this.#cursor.skipOperator(end)) {
      parts.push(this.expression(0));
      if (this.#cursor.done) throw new NotUnderstood();
      this.#cursor.skipOperator(',');
    }
    return parts;
  }

  /** `INTERVAL 1 DAY`, `INTERVAL '1 day'` */
  #interval(): string {
    const token = this.#cursor.peek();
    const [, count, unit] = /^(\d+)\s+([a-z]+?)s?$/i.exec(token?.kind === 'string' ? token.value : '') ?? [];
    if (count !== undefined && unit !== undefined) {
      this.#cursor.next();
      return call(`tointerval${unit.toLowerCase()}`, [count]);
    }
    const amount = this.expression(10);
    const written = this.#cursor.next();
    if (written?.kind !== 'word') throw new NotUnderstood();
    return call(`tointerval${written.value.toLowerCase()}`, [amount]);
  }

  #case(): string {
    const subject = this.#cursor.at('WHEN') ? undefined : this.expression(0);
    const args: string[] = subject === undefined ? [] : [subject];
    while (this.#cursor.skip('WHEN')) {
      args.push(this.expression(0));
      if (!this.#cursor.skip('THEN')) throw new NotUnderstood();
      args.push(this.expression(0));
    }
    args.push(this.#cursor.skip('ELSE') ? this.expression(0) : 'NULL');
    if (!this.#cursor.skip('END')) throw new NotUnderstood();
    return call(subject === undefined ? 'multiif' : 'casewithexpression', args);
  }
}

function inner(tokens: readonly Token[]): string {
  return new Parser(new Cursor(tokens)).whole();
}

function call(name: string, args: readonly string[]): string {
  const flat = ASSOCIATIVE.includes(name) ? args.flatMap((arg) => argumentsOf(name, arg)) : args;
  return `${name}(${flat.join(', ')})`;
}

/** The arguments of `and(a, b)` inside another `and`; the text itself where it is something else. */
function argumentsOf(name: string, text: string): string[] {
  const cursor = new Cursor(tokenize(text));
  if (!isWord(cursor.next(), name.toUpperCase())) return [text];
  const inside = cursor.brackets();
  if (inside === undefined || !cursor.done) return [text];
  return splitAt(inside, ',').map((part) => spell(part));
}
