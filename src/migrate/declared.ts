/**
 * The tables that should exist on a host: its rendered statements, folded from the first to the last. Pure.
 * What can't be folded (an ALTER that is no change of columns, indices, keys, TTL or settings) is noted, so
 * that nobody takes it for verified.
 */
import type { AlterCommand, Position } from './alter.ts';
import { type ColumnDdl, type Ddl, type TableName, parseDdl } from './ddl.ts';
import { type TableState, flattened, fullName, realName, stateOf } from './state.ts';

export interface Declared {
  /** By `database.table`, in the order in which they are made. */
  readonly tables: ReadonlyMap<string, TableState>;
  /** Statements, or parts of them, of which no host is asked whether it has their effect. */
  readonly unverified: readonly string[];
}

/** @param statements rendered for the host, in order */
export function foldStatements(statements: readonly string[]): Declared {
  const fold = new Fold();
  for (const sql of statements) fold.apply(parseDdl(sql));
  return { tables: fold.tables, unverified: fold.unverified };
}

/** What changes rows only, and leaves the tables' definitions alone. */
const NO_SCHEMA = /^(INSERT|OPTIMIZE|TRUNCATE|DELETE|SYSTEM|SELECT|SET)\b/i;

class Fold {
  readonly tables = new Map<string, TableState>();
  readonly unverified: string[] = [];

  apply(ddl: Ddl): void {
    switch (ddl.kind) {
      case 'create table': {
        const like = ddl.like && this.tables.get(keyOf(ddl.like));
        this.#create(stateOf(ddl, ddl.columns.length > 0 ? ddl.columns : (like?.columns ?? [])));
        return;
      }
      case 'create view':
        this.#create(stateOf(ddl));
        return;
      case 'alter':
        for (const command of ddl.commands) this.#alter(ddl.name, command);
        return;
      case 'drop':
        this.tables.delete(keyOf(ddl.name));
        return;
      case 'rename':
        this.#rename(ddl.pairs, ddl.exchange);
        return;
      case 'create database':
        return;
      case 'other':
        if (!NO_SCHEMA.test(ddl.text)) this.unverified.push(ddl.text);
    }
  }

  /** Every CREATE of a migration says IF NOT EXISTS: the first one counts. */
  #create(state: TableState): void {
    const key = fullName(state);
    if (!this.tables.has(key)) this.tables.set(key, state);
  }

  #alter(name: TableName, command: AlterCommand): void {
    const key = keyOf(name);
    const state = this.tables.get(key);
    const changed = state && altered(state, command);
    if (changed !== undefined) this.tables.set(key, changed);
    else if (command.kind !== 'mutation') this.unverified.push(`${key}: ${describe(command)}`);
  }

  #rename(pairs: readonly { from: TableName; to: TableName }[], exchange: boolean): void {
    for (const { from, to } of pairs) {
      const moved = this.tables.get(keyOf(from));
      const other = this.tables.get(keyOf(to));
      this.tables.delete(keyOf(from));
      if (exchange && other) this.tables.set(keyOf(from), { ...other, ...realName(from) });
      if (moved) this.tables.set(keyOf(to), { ...moved, ...realName(to) });
    }
  }
}

function keyOf(name: TableName): string {
  return fullName(realName(name));
}

function describe(command: AlterCommand): string {
  return command.kind === 'other' ? command.text : command.kind;
}

/** The table after a command; undefined where the command isn't known or the table is none for it. */
function altered(state: TableState, command: AlterCommand): TableState | undefined {
  return alteredColumns(state, command) ?? alteredParts(state, command);
}

function alteredColumns(state: TableState, command: AlterCommand): TableState | undefined {
  const { columns } = state;
  switch (command.kind) {
    case 'add column': {
      const added = flattened([command.column]);
      const [first] = added;
      if (columns.some(({ name }) => name === first?.name)) return state;
      return { ...state, columns: placed(columns, added, command.position) };
    }
    case 'modify column': {
      const old = columns.find(({ name }) => name === command.column.name);
      if (old === undefined) return undefined;
      const column = modified(old, command.column);
      if (command.position === undefined) {
        return { ...state, columns: columns.map((each) => (each === old ? column : each)) };
      }
      return {
        ...state,
        columns: placed(
          columns.filter((each) => each !== old),
          [column],
          command.position,
        ),
      };
    }
    case 'remove of column':
      return {
        ...state,
        columns: columns.map((each) => (each.name === command.name ? without(each, command.property) : each)),
      };
    case 'drop column':
      return { ...state, columns: columns.filter(({ name }) => !isColumn(name, command.name)) };
    case 'rename column':
      return { ...state, columns: columns.map((each) => renamed(each, command.from, command.to)) };
    case 'comment column': {
      const { name, comment } = command;
      return { ...state, columns: columns.map((each) => (each.name === name ? { ...each, comment } : each)) };
    }
    default:
      return undefined;
  }
}

function alteredParts(state: TableState, command: AlterCommand): TableState | undefined {
  switch (command.kind) {
    case 'add index': {
      if (state.indices.some(({ name }) => name === command.index.name)) return state;
      return { ...state, indices: [...state.indices, command.index] };
    }
    case 'drop index':
      return { ...state, indices: state.indices.filter(({ name }) => name !== command.name) };
    case 'add rule': {
      if (state.rules.some(({ name }) => name === command.rule.name)) return state;
      return { ...state, rules: [...state.rules, command.rule] };
    }
    case 'drop rule':
      return { ...state, rules: state.rules.filter(({ name }) => name !== command.name) };
    case 'modify setting':
      return { ...state, settings: new Map([...state.settings, ...command.settings]) };
    case 'reset setting':
      return {
        ...state,
        settings: new Map([...state.settings].filter(([name]) => !command.names.includes(name))),
      };
    case 'modify ttl':
      return { ...state, ttl: command.ttl };
    case 'remove ttl':
      return { ...state, ttl: '' };
    case 'modify order by':
      // The key of the index stays what it was.
      return { ...state, orderBy: command.expression, primaryKey: state.primaryKey || state.orderBy };
    case 'modify comment':
      return { ...state, comment: command.comment };
    case 'modify query':
      return { ...state, select: command.select };
    default:
      return undefined;
  }
}

function placed(columns: readonly ColumnDdl[], added: readonly ColumnDdl[], position: Position): ColumnDdl[] {
  if (position === undefined) return [...columns, ...added];
  const before =
    position.after === undefined
      ? -1
      : columns.findLastIndex(({ name }) => isColumn(name, position.after ?? ''));
  return [...columns.slice(0, before + 1), ...added, ...columns.slice(before + 1)];
}

/** What the command doesn't mention stays. */
function modified(old: ColumnDdl, change: ColumnDdl): ColumnDdl {
  return {
    name: old.name,
    type: change.type || old.type,
    default: change.default ?? old.default,
    codec: change.codec ?? old.codec,
    comment: change.comment ?? old.comment,
    ttl: change.ttl ?? old.ttl,
  };
}

function without(column: ColumnDdl, property: string): ColumnDdl {
  switch (property) {
    case 'CODEC':
      return { ...column, codec: undefined };
    case 'COMMENT':
      return { ...column, comment: undefined };
    case 'TTL':
      return { ...column, ttl: undefined };
    default:
      return { ...column, default: undefined };
  }
}

/** Also an element of a nested one. */
function isColumn(name: string, wanted: string): boolean {
  return name === wanted || name.startsWith(`${wanted}.`);
}

function renamed(column: ColumnDdl, from: string, to: string): ColumnDdl {
  return isColumn(column.name, from) ? { ...column, name: to + column.name.slice(from.length) } : column;
}
