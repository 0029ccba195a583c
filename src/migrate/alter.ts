/** The commands of ALTER TABLE, one by one; several may stand in one statement. */
import { parseColumn, parseIndex, parseRule, parseSettings } from './columns.ts';
import { Cursor } from './cursor.ts';
import type { ColumnDdl, IndexDdl, RuleDdl } from './ddl.ts';
import { type Token, spell, splitAt } from './lexer.ts';

/** Where a column is put: undefined is the end, `{ after: undefined }` the beginning. */
export type Position = { readonly after: string | undefined } | undefined;

export type AlterCommand =
  | {
      readonly kind: 'add column';
      readonly column: ColumnDdl;
      readonly position: Position;
      readonly ifNotExists: boolean;
    }
  | {
      readonly kind: 'modify column';
      /** What it doesn't mention stays: an empty type, an undefined default. */
      readonly column: ColumnDdl;
      readonly position: Position;
      readonly ifExists: boolean;
    }
  | { readonly kind: 'remove of column'; readonly name: string; readonly property: string }
  | { readonly kind: 'drop column'; readonly name: string; readonly ifExists: boolean }
  | { readonly kind: 'rename column'; readonly from: string; readonly to: string; readonly ifExists: boolean }
  | { readonly kind: 'comment column'; readonly name: string; readonly comment: string }
  | {
      readonly kind: 'add index';
      readonly index: IndexDdl;
      readonly position: Position;
      readonly ifNotExists: boolean;
    }
  | { readonly kind: 'drop index'; readonly name: string; readonly ifExists: boolean }
  | { readonly kind: 'add rule'; readonly rule: RuleDdl; readonly ifNotExists: boolean }
  | { readonly kind: 'drop rule'; readonly what: RuleDdl['kind']; readonly name: string }
  | { readonly kind: 'modify setting'; readonly settings: ReadonlyMap<string, string> }
  | { readonly kind: 'reset setting'; readonly names: readonly string[] }
  | { readonly kind: 'modify ttl'; readonly ttl: string }
  | { readonly kind: 'remove ttl' }
  | { readonly kind: 'modify order by'; readonly expression: string }
  | { readonly kind: 'modify comment'; readonly comment: string }
  | { readonly kind: 'modify query'; readonly select: string }
  /** Rows are written anew in the background: UPDATE, DELETE, MATERIALIZE …, CLEAR …. */
  | { readonly kind: 'mutation'; readonly text: string }
  | { readonly kind: 'other'; readonly text: string };

const STARTS: Readonly<Record<string, readonly string[]>> = {
  ADD: ['COLUMN', 'INDEX', 'PROJECTION', 'CONSTRAINT', 'STATISTICS'],
  DROP: ['COLUMN', 'INDEX', 'PROJECTION', 'CONSTRAINT', 'STATISTICS', 'PARTITION', 'PART', 'DETACHED'],
  MODIFY: [
    'COLUMN',
    'SETTING',
    'TTL',
    'ORDER',
    'SAMPLE',
    'COMMENT',
    'QUERY',
    'REFRESH',
    'STATISTICS',
    'DEFINER',
  ],
  ALTER: ['COLUMN'],
  RENAME: ['COLUMN'],
  COMMENT: ['COLUMN'],
  CLEAR: ['COLUMN', 'INDEX', 'PROJECTION', 'STATISTICS'],
  MATERIALIZE: ['COLUMN', 'INDEX', 'PROJECTION', 'TTL', 'STATISTICS'],
  RESET: ['SETTING'],
  REMOVE: ['TTL', 'SAMPLE'],
  DELETE: ['WHERE', 'IN'],
  ATTACH: ['PARTITION', 'PART'],
  DETACH: ['PARTITION', 'PART'],
  REPLACE: ['PARTITION'],
  MOVE: ['PARTITION', 'PART'],
  FETCH: ['PARTITION', 'PART'],
  FREEZE: ['PARTITION'],
  APPLY: ['DELETED', 'PATCHES'],
};

/** A comma also separates settings, TTLs and assignments: only one before a command ends the one before. */
export function parseCommands(tokens: readonly Token[]): AlterCommand[] {
  const commands: Token[][] = [];
  for (const part of splitAt(tokens, ',')) {
    const last = commands.at(-1);
    if (last === undefined || startsCommand(part)) commands.push([...part]);
    else last.push({ kind: 'operator', value: ',', start: -1, end: -1 }, ...part);
  }
  return commands.map((command) => parseCommand(unwrapped(command)));
}

function startsCommand(tokens: readonly Token[]): boolean {
  const [first, second, third] = unwrapped(tokens);
  if (first?.kind !== 'word') return false;
  const word = first.value.toUpperCase();
  if (word === 'UPDATE') return second?.kind !== 'operator' && third?.value === '=';
  return second?.kind === 'word' && (STARTS[word]?.includes(second.value.toUpperCase()) ?? false);
}

/** `(ADD COLUMN …)`, as newer servers write it. */
function unwrapped(tokens: readonly Token[]): readonly Token[] {
  const cursor = new Cursor(tokens);
  const inside = cursor.brackets();
  return inside !== undefined && cursor.done ? inside : tokens;
}

function parseCommand(tokens: readonly Token[]): AlterCommand {
  const cursor = new Cursor(tokens);
  const known = parseColumnCommand(cursor) ?? parseIndexCommand(cursor) ?? parseTableCommand(cursor);
  if (known !== undefined) return known;
  const isMutation = ['UPDATE', 'DELETE', 'MATERIALIZE', 'CLEAR'].some((word) => cursor.at(word));
  return { kind: isMutation ? 'mutation' : 'other', text: spell(tokens) };
}

function parseColumnCommand(cursor: Cursor): AlterCommand | undefined {
  if (cursor.skip('ADD', 'COLUMN')) {
    const ifNotExists = cursor.skip('IF', 'NOT', 'EXISTS');
    const { definition, position } = positioned(cursor);
    return { kind: 'add column', column: parseColumn(definition), position, ifNotExists };
  }
  if (cursor.skip('DROP', 'COLUMN')) {
    const ifExists = cursor.skip('IF', 'EXISTS');
    return { kind: 'drop column', name: cursor.dottedName() ?? '', ifExists };
  }
  if (cursor.skip('RENAME', 'COLUMN')) {
    const ifExists = cursor.skip('IF', 'EXISTS');
    const from = cursor.dottedName() ?? '';
    cursor.skip('TO');
    return { kind: 'rename column', from, to: cursor.dottedName() ?? '', ifExists };
  }
  if (cursor.skip('COMMENT', 'COLUMN')) {
    cursor.skip('IF', 'EXISTS');
    const name = cursor.dottedName() ?? '';
    return { kind: 'comment column', name, comment: cursor.next()?.value ?? '' };
  }
  return cursor.skip('MODIFY', 'COLUMN') || cursor.skip('ALTER', 'COLUMN') ? modifyColumn(cursor) : undefined;
}

/** `name …`, `name TYPE …` (as ALTER COLUMN has it) and `name REMOVE property`. */
function modifyColumn(cursor: Cursor): AlterCommand {
  const ifExists = cursor.skip('IF', 'EXISTS');
  const { definition, position } = positioned(cursor);
  const tokens = definition.rest();
  const removes = tokens.findIndex(
    (token, index) => index > 0 && token.kind === 'word' && token.value.toUpperCase() === 'REMOVE',
  );
  if (removes > 0) {
    const name = new Cursor(tokens.slice(0, removes)).dottedName() ?? '';
    return { kind: 'remove of column', name, property: spell(tokens.slice(removes + 1)).toUpperCase() };
  }
  const isSetting = tokens.some(
    (token, index) =>
      token.kind === 'word' &&
      ['MODIFY', 'RESET'].includes(token.value.toUpperCase()) &&
      tokens[index + 1]?.value.toUpperCase() === 'SETTING',
  );
  if (isSetting) return { kind: 'other', text: `MODIFY COLUMN ${spell(tokens)}` };
  const withoutType = tokens.filter((token, index) => !(index === 1 && token.value.toUpperCase() === 'TYPE'));
  return { kind: 'modify column', column: parseColumn(new Cursor(withoutType)), position, ifExists };
}

/** Cuts `AFTER name` or `FIRST` off the end. */
function positioned(cursor: Cursor): { definition: Cursor; position: Position } {
  const definition = new Cursor(cursor.until((at) => at.at('AFTER') || at.at('FIRST')));
  if (cursor.skip('FIRST')) return { definition, position: { after: undefined } };
  if (cursor.skip('AFTER')) return { definition, position: { after: cursor.dottedName() } };
  return { definition, position: undefined };
}

function parseIndexCommand(cursor: Cursor): AlterCommand | undefined {
  if (cursor.skip('ADD', 'INDEX')) {
    const ifNotExists = cursor.skip('IF', 'NOT', 'EXISTS');
    const { definition, position } = positioned(cursor);
    return { kind: 'add index', index: parseIndex(definition), position, ifNotExists };
  }
  if (cursor.skip('DROP', 'INDEX')) {
    const ifExists = cursor.skip('IF', 'EXISTS');
    return { kind: 'drop index', name: cursor.dottedName() ?? '', ifExists };
  }
  for (const what of ['constraint', 'projection'] as const) {
    if (cursor.skip('ADD', what.toUpperCase())) {
      const ifNotExists = cursor.skip('IF', 'NOT', 'EXISTS');
      return { kind: 'add rule', rule: parseRule(cursor, what), ifNotExists };
    }
    if (cursor.skip('DROP', what.toUpperCase())) {
      cursor.skip('IF', 'EXISTS');
      return { kind: 'drop rule', what, name: cursor.dottedName() ?? '' };
    }
  }
  return undefined;
}

function parseTableCommand(cursor: Cursor): AlterCommand | undefined {
  if (cursor.skip('MODIFY', 'SETTING'))
    return { kind: 'modify setting', settings: parseSettings(cursor.rest()) };
  if (cursor.skip('RESET', 'SETTING')) {
    return { kind: 'reset setting', names: splitAt(cursor.rest(), ',').map((name) => spell(name)) };
  }
  if (cursor.skip('MODIFY', 'TTL')) return { kind: 'modify ttl', ttl: cursor.restText() };
  if (cursor.skip('REMOVE', 'TTL')) return { kind: 'remove ttl' };
  if (cursor.skip('MODIFY', 'ORDER', 'BY')) return { kind: 'modify order by', expression: cursor.restText() };
  if (cursor.skip('MODIFY', 'COMMENT'))
    return { kind: 'modify comment', comment: cursor.next()?.value ?? '' };
  if (cursor.skip('MODIFY', 'QUERY')) return { kind: 'modify query', select: cursor.restText() };
  return undefined;
}
