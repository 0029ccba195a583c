/** From data back to SQL: definitions of columns, indices and tables. Pure. */
import { literal, quoteName } from '../clickhouse/quote.ts';
import { quote } from './sql.ts';
import type { ColumnDdl, EngineDdl, IndexDdl, RuleDdl } from './ddl.ts';
import type { TableState } from './state.ts';

export function tableText({
  database,
  table,
}: {
  readonly database: string;
  readonly table: string;
}): string {
  return `${quote(database)}.${quote(table)}`;
}

/** `name Type DEFAULT … CODEC(…)` as CREATE and ADD COLUMN take it. */
export function columnText(column: ColumnDdl): string {
  const { name, type, default: value, codec, comment, ttl } = column;
  const parts = [quoteName(name), type];
  if (value !== undefined) parts.push(value.kind, value.expression);
  if (comment !== undefined && comment !== '') parts.push('COMMENT', literal(comment));
  if (codec !== undefined) parts.push(`CODEC(${codec})`);
  if (ttl !== undefined) parts.push('TTL', ttl);
  return parts.filter((part) => part !== '').join(' ');
}

export function indexText({ name, expression, type, granularity }: IndexDdl): string {
  const rows = granularity === undefined ? '' : ` GRANULARITY ${granularity}`;
  return `${quote(name)} ${expression} TYPE ${type}${rows}`;
}

export function ruleText({ kind, name, text }: RuleDdl): string {
  return `${kind.toUpperCase()} ${quote(name)} ${text}`;
}

export function engineText({ name, args }: EngineDdl): string {
  return args.length === 0 ? name : `${name}(${args.join(', ')})`;
}

/** The statement that makes the table, of whatever kind it is. */
export function createText(state: TableState): string {
  return state.kind === 'view' ? createViewText(state) : createTableText(state);
}

function createTableText(state: TableState): string {
  const elements = [
    ...state.columns.map(columnText),
    ...state.indices.map((index) => `INDEX ${indexText(index)}`),
    ...state.rules.map(ruleText),
  ];
  const settings = [...state.settings].map(([name, value]) => `${name} = ${value}`);
  const clauses = [
    `CREATE TABLE IF NOT EXISTS ${tableText(state)} (${elements.join(', ')})`,
    state.engine && `ENGINE = ${engineText(state.engine)}`,
    state.partitionBy && `PARTITION BY ${state.partitionBy}`,
    state.primaryKey && `PRIMARY KEY ${state.primaryKey}`,
    state.orderBy && `ORDER BY ${state.orderBy}`,
    state.sampleBy && `SAMPLE BY ${state.sampleBy}`,
    state.ttl && `TTL ${state.ttl}`,
    settings.length > 0 && `SETTINGS ${settings.join(', ')}`,
    state.comment && `COMMENT ${literal(state.comment)}`,
  ];
  return clauses.filter((clause) => typeof clause === 'string' && clause !== '').join(' ');
}

function createViewText(state: TableState): string {
  const { target } = state;
  const to =
    target && ` TO ${tableText({ database: target.database ?? state.database, table: target.table })}`;
  const refresh = state.refresh === '' ? '' : ` REFRESH ${state.refresh}`;
  const what = state.materialized ? 'MATERIALIZED VIEW' : 'VIEW';
  return `CREATE ${what} IF NOT EXISTS ${tableText(state)}${refresh}${to ?? ''} AS ${state.select}`;
}
