/** What stands inside the brackets of CREATE TABLE: columns, indices, constraints, projections, the key. */
import { Cursor } from './cursor.ts';
import type { ColumnDdl, DefaultKind, IndexDdl, RuleDdl } from './ddl.ts';
import { type Token, spell, splitAt } from './lexer.ts';

export interface Elements {
  readonly columns: readonly ColumnDdl[];
  readonly indices: readonly IndexDdl[];
  readonly rules: readonly RuleDdl[];
  /** Empty where the brackets hold none. */
  readonly primaryKey: string;
}

export function parseColumns(tokens: readonly Token[]): Elements {
  const columns: ColumnDdl[] = [];
  const indices: IndexDdl[] = [];
  const rules: RuleDdl[] = [];
  let primaryKey = '';
  for (const element of splitAt(tokens, ',')) {
    const cursor = new Cursor(element);
    // A column may be called Index: what comes after the second word tells.
    const named = cursor.peek(2) !== undefined && cursor.peek(1)?.kind !== 'operator';
    if (named && cursor.skip('INDEX')) indices.push(parseIndex(cursor));
    else if (named && cursor.skip('CONSTRAINT')) rules.push(parseRule(cursor, 'constraint'));
    else if (named && cursor.skip('PROJECTION')) rules.push(parseRule(cursor, 'projection'));
    else if (cursor.skip('PRIMARY', 'KEY')) primaryKey = cursor.restText();
    else if (!cursor.done) columns.push(parseColumn(cursor));
  }
  return { columns, indices, rules, primaryKey };
}

/** From behind the word INDEX. */
export function parseIndex(cursor: Cursor): IndexDdl {
  const name = cursor.dottedName() ?? '';
  const expression = spell(cursor.until((at) => at.at('TYPE')));
  cursor.skip('TYPE');
  const type = spell(cursor.until((at) => at.at('GRANULARITY')));
  const granularity = cursor.skip('GRANULARITY') ? Number(cursor.next()?.value) : undefined;
  return { name, expression, type, granularity };
}

/** From behind the word CONSTRAINT or PROJECTION. */
export function parseRule(cursor: Cursor, kind: RuleDdl['kind']): RuleDdl {
  return { kind, name: cursor.dottedName() ?? '', text: cursor.restText() };
}

const DEFAULT_KINDS: readonly DefaultKind[] = ['DEFAULT', 'MATERIALIZED', 'ALIAS', 'EPHEMERAL'];
const ENDS_TYPE = [...DEFAULT_KINDS, 'CODEC', 'COMMENT', 'TTL', 'SETTINGS', 'STATISTICS', 'COLLATE'] as const;

function atPart(cursor: Cursor): boolean {
  return ENDS_TYPE.some((word) => cursor.at(word)) || cursor.at('PRIMARY', 'KEY');
}

/** What is said of a column, in whatever order; also without a type, as MODIFY COLUMN may have it. */
export function parseColumn(cursor: Cursor): ColumnDdl {
  const name = cursor.dottedName() ?? cursor.next()?.value ?? '';
  const type = atPart(cursor) || cursor.done ? '' : spell(typeTokens(cursor.until(atPart)));
  let found: Partial<ColumnDdl> = {};
  while (!cursor.done) {
    const kind = DEFAULT_KINDS.find((word) => cursor.skip(word));
    if (kind !== undefined) {
      const expression = cursor.done || atPart(cursor) ? '' : spell(cursor.until(atPart));
      found = { ...found, default: { kind, expression } };
    } else if (cursor.skip('CODEC')) found = { ...found, codec: spell(cursor.brackets() ?? []) };
    else if (cursor.skip('COMMENT')) found = { ...found, comment: cursor.next()?.value };
    else if (cursor.skip('TTL')) found = { ...found, ttl: spell(cursor.until(atPart)) };
    else cursor.until(atPart);
  }
  return { default: undefined, codec: undefined, comment: undefined, ttl: undefined, ...found, name, type };
}

/** `String NOT NULL` is String, `String NULL` is Nullable(String), but the latter only as a written form. */
function typeTokens(tokens: readonly Token[]): readonly Token[] {
  const [not, last] = tokens.slice(-2);
  const isNull = last?.kind === 'word' && last.value.toUpperCase() === 'NULL';
  return isNull && not?.value.toUpperCase() === 'NOT' ? tokens.slice(0, -2) : tokens;
}

/** `a = 1, b = 'x'` */
export function parseSettings(tokens: readonly Token[]): ReadonlyMap<string, string> {
  const settings = new Map<string, string>();
  for (const [name, equals, ...value] of splitAt(tokens, ',')) {
    if (name !== undefined && equals?.value === '=') settings.set(name.value, spell(value));
  }
  return settings;
}
