/**
 * Whether a table has what a command of ALTER TABLE makes. Pure but for the names of types, which only a
 * server can spell. Where the text of a real table may differ from what was asked for although both mean the
 * same (expressions, TTLs), the answer is `unknown`: such a command may be run again.
 */
import type { AlterCommand } from './alter.ts';
import type { ColumnDdl, TableBody } from './ddl.ts';
import { canonicalQuery } from './expression.ts';
import { spell, tokenize } from './lexer.ts';

/** Of a view also what it selects. */
export type RealBody = TableBody & { readonly select: string };

export interface Combined {
  readonly state: 'missing' | 'done' | 'unknown';
  readonly why: string;
}

/** What the commands of one statement say together: it is done when all of them are. */
export function combined(states: readonly Combined[]): Combined {
  const missing = states.find(({ state }) => state === 'missing');
  const unknown = states.find(({ state }) => state === 'unknown');
  return missing ?? unknown ?? states[0] ?? { state: 'unknown', why: 'it has no command' };
}

const done = (why: string): Combined => ({ state: 'done', why });
const missing = (why: string): Combined => ({ state: 'missing', why });
const unknown = (why: string): Combined => ({ state: 'unknown', why });
const doneIf = (isDone: boolean, yes: string, no: string) => (isDone ? done(yes) : missing(no));
const doneOrUnknown = (isDone: boolean, what: string) =>
  isDone ? done(`${what} is as it should be`) : unknown(`${what} may differ`);

/** Spells a type as the server does: `INT` is Int32. */
type TypeName = (type: string) => Promise<string>;

/**
 * The state of a command of which later ones of the same migration may have changed the effect already: a
 * column that was added and then got another type, or another name.
 */
export async function stateAmong(
  command: AlterCommand,
  later: readonly AlterCommand[],
  table: RealBody | undefined,
  typeName: TypeName,
): Promise<Combined> {
  const state = await commandState(command, table, typeName);
  const makes =
    command.kind === 'add column' || command.kind === 'modify column' ? command.column.name : undefined;
  if (state.state !== 'missing' || makes === undefined) return state;
  for (const next of later) {
    const modifies = next.kind === 'modify column' && next.column.name === makes;
    const renames = next.kind === 'rename column' && next.from === makes;
    if (!modifies && !renames) continue;
    const after = await commandState(next, table, typeName);
    if (after.state !== 'missing') return done(`a later step changed the column ${makes} already`);
  }
  return state;
}

async function commandState(
  command: AlterCommand,
  table: RealBody | undefined,
  typeName: TypeName,
): Promise<Combined> {
  if (table === undefined) return unknown('the definition of the table is not understood');
  const columnOf = (name: string) => table.columns.find((column) => column.name === name);
  const hasColumn = (name: string) =>
    table.columns.some((column) => column.name === name || column.name.startsWith(`${name}.`));
  switch (command.kind) {
    case 'add column':
      if (!hasColumn(command.column.name)) return missing(`the column ${command.column.name} is not there`);
      return sameType(command.column, columnOf(command.column.name), typeName);
    case 'modify column':
      return modifiedState(command.column, columnOf(command.column.name), typeName);
    case 'remove of column':
      return removedState(columnOf(command.name), command.property);
    case 'drop column':
      return gone(!hasColumn(command.name), `the column ${command.name}`);
    case 'rename column': {
      const renamed = !hasColumn(command.from) && hasColumn(command.to);
      return doneIf(
        renamed,
        `the column ${command.to} is there`,
        `the column ${command.from} is not renamed`,
      );
    }
    case 'comment column':
      return doneOrUnknown((columnOf(command.name)?.comment ?? '') === command.comment, 'the comment');
    case 'add index':
      return there(
        table.indices.some(({ name }) => name === command.index.name),
        `the index ${command.index.name}`,
      );
    case 'drop index':
      return gone(!table.indices.some(({ name }) => name === command.name), `the index ${command.name}`);
    case 'add rule':
      return there(
        table.rules.some(({ name }) => name === command.rule.name),
        `the ${command.rule.kind} ${command.rule.name}`,
      );
    case 'drop rule':
      return gone(
        !table.rules.some(({ name }) => name === command.name),
        `the ${command.what} ${command.name}`,
      );
    case 'modify setting':
      return doneOrUnknown(
        [...command.settings].every(([name, value]) => table.settings.get(name) === value),
        'the setting',
      );
    case 'reset setting':
      return doneOrUnknown(
        command.names.every((name) => !table.settings.has(name)),
        'the setting',
      );
    case 'modify ttl':
      return doneOrUnknown(table.ttl === command.ttl, 'the TTL');
    case 'remove ttl':
      return gone(table.ttl === '', 'the TTL');
    case 'modify order by':
      return doneOrUnknown(table.orderBy === command.expression, 'the sorting key');
    case 'modify comment':
      return doneOrUnknown(table.comment === command.comment, 'the comment');
    case 'modify query':
      return doneOrUnknown(canonicalQuery(table.select) === canonicalQuery(command.select), 'the query');
    case 'mutation':
    case 'other':
      return unknown('nothing tells whether it was run');
  }
}

const there = (isThere: boolean, what: string) => doneIf(isThere, `${what} is there`, `${what} is not there`);
const gone = (isGone: boolean, what: string) => doneIf(isGone, `${what} is not there`, `${what} is there`);

async function sameType(
  wanted: ColumnDdl,
  real: ColumnDdl | undefined,
  typeName: TypeName,
): Promise<Combined> {
  const { name, type } = wanted;
  // A Nested one is there as its parts.
  if (real === undefined || type === '' || type === real.type) return done(`the column ${name} is there`);
  const spelled = spell(tokenize(await typeName(type)));
  if (spelled === real.type) return done(`the column ${name} is there`);
  return missing(`the column ${name} is there as ${real.type}, not as ${type}`);
}

async function modifiedState(
  wanted: ColumnDdl,
  real: ColumnDdl | undefined,
  typeName: TypeName,
): Promise<Combined> {
  if (real === undefined) return missing(`the column ${wanted.name} is not there`);
  const type = await sameType(wanted, real, typeName);
  if (type.state !== 'done') return type;
  const sameDefault =
    wanted.default === undefined ||
    (wanted.default.kind === real.default?.kind && wanted.default.expression === real.default.expression);
  const same =
    sameDefault &&
    (wanted.codec ?? real.codec) === real.codec &&
    (wanted.comment ?? real.comment) === real.comment &&
    (wanted.ttl ?? real.ttl) === real.ttl;
  return doneOrUnknown(same, `the column ${wanted.name}`);
}

function removedState(column: ColumnDdl | undefined, property: string): Combined {
  if (column === undefined) return missing('the column is not there');
  if (['DEFAULT', 'MATERIALIZED', 'ALIAS'].includes(property)) {
    return gone(column.default?.kind !== property, `its ${property}`);
  }
  const real: Readonly<Record<string, string | undefined>> = {
    CODEC: column.codec,
    COMMENT: column.comment,
    TTL: column.ttl,
  };
  if (!(property in real)) return unknown('nothing tells whether it was run');
  return gone(real[property] === undefined || real[property] === '', `its ${property}`);
}
