/**
 * A table as data, whether declared by migrations or read from a server: one form for both, in which only
 * what differs differs.
 */
import type { ColumnDdl, CreateTable, CreateView, EngineDdl, TableBody, TableName } from './ddl.ts';
import { type Token, spell, splitAt, tokenize } from './lexer.ts';

export interface TableState extends Omit<TableBody, 'engine'> {
  readonly database: string;
  readonly table: string;
  readonly kind: 'table' | 'distributed' | 'view';
  /** Undefined for a view without a table of its own. */
  readonly engine: EngineDdl | undefined;
  /** Where a materialized view writes to. */
  readonly target: TableName | undefined;
  /** Of a view. */
  readonly select: string;
  readonly refresh: string;
  readonly materialized: boolean;
}

/** A table by its full name, without quotes. */
export interface RealName {
  readonly database: string;
  readonly table: string;
}

/** The table that a statement means. */
export function realName({ database = 'default', table }: TableName): RealName {
  return { database, table };
}

export function fullName({ database, table }: RealName): string {
  return `${database}.${table}`;
}

export function isReplicated(state: Pick<TableState, 'engine'>): boolean {
  return state.engine?.name.startsWith('Replicated') === true;
}

export function isMergeTree(state: Pick<TableState, 'engine'>): boolean {
  return state.engine?.name.endsWith('MergeTree') === true;
}

export function kindOf(engine: EngineDdl | undefined): 'table' | 'distributed' {
  return engine?.name === 'Distributed' ? 'distributed' : 'table';
}

/** Nested columns are stored as one array for each of their elements, and shown so. */
export function flattened(columns: readonly ColumnDdl[]): ColumnDdl[] {
  return columns.flatMap((column) => {
    const elements = nestedElements(column.type);
    if (elements === undefined) return [column];
    return elements.map(({ name, type }) => ({
      ...column,
      name: `${column.name}.${name}`,
      type: `Array(${type})`,
    }));
  });
}

/** `Nested(a A, b B)`: undefined where the type is another. */
function nestedElements(type: string): { name: string; type: string }[] | undefined {
  const [word, open, ...inside] = tokenize(type);
  if (word?.value !== 'Nested' || open?.value !== '(') return undefined;
  return splitAt(inside.slice(0, -1), ',').map(([name, ...rest]) => ({
    name: (name as Token).value,
    type: spell(rest),
  }));
}

/** @param columns of the table that it is declared like, in place of its own */
export function stateOf(
  ddl: CreateTable | CreateView,
  columns: readonly ColumnDdl[] = ddl.columns,
): TableState {
  const { indices, rules, partitionBy, orderBy, primaryKey, sampleBy, ttl, settings, comment } = ddl;
  const isView = ddl.kind === 'create view';
  return {
    database: ddl.name.database ?? 'default',
    table: ddl.name.table,
    kind: isView ? 'view' : kindOf(ddl.engine),
    columns: flattened(columns),
    ...{
      indices,
      rules,
      engine: ddl.engine,
      partitionBy,
      orderBy,
      primaryKey,
      sampleBy,
      ttl,
      settings,
      comment,
    },
    target: isView ? ddl.target : undefined,
    select: ddl.select,
    refresh: isView ? ddl.refresh : '',
    materialized: isView && ddl.materialized,
  };
}
