/**
 * The tables that a host really has, as its system tables show them, from 18.16 on. In: a host and the
 * databases that matter. Out: each table in the form that declared ones have (state.ts).
 */
import { type ClickHouse, query } from '../clickhouse/client.ts';
import { parseDdl } from './ddl.ts';
import { literal } from '../clickhouse/quote.ts';
import { type TableState, fullName, stateOf } from './state.ts';

export interface RealTable extends TableState {
  /** `create_table_query`: the statement that makes such a table. */
  readonly text: string;
  /** The engine with keys, TTL and settings. */
  readonly engineFull: string;
  /** Undefined where it isn't replicated. */
  readonly replica: ReplicaState | undefined;
}

export interface ReplicaState {
  readonly path: string;
  readonly name: string;
  readonly readOnly: boolean;
  readonly queueSize: number;
}

export interface RealState {
  /** By `database.table`. */
  readonly tables: ReadonlyMap<string, RealTable>;
  /** Values as the server would use them for a table that doesn't set its own. */
  readonly mergeTreeSettings: ReadonlyMap<string, string>;
  readonly macros: ReadonlyMap<string, string>;
}

interface TableRow {
  readonly database: string;
  readonly name: string;
  readonly create_table_query: string;
  readonly engine_full: string;
}

interface ReplicaRow {
  readonly database: string;
  readonly table: string;
  readonly zookeeper_path: string;
  readonly replica_name: string;
  readonly is_readonly: number;
  readonly queue_size: number;
}

/** Changes nothing. @throws Fault */
export async function readReal(server: ClickHouse, databases: readonly string[]): Promise<RealState> {
  const among = `database IN (${databases.map(literal).join(', ')})`;
  const [tables, replicas, settings, macros] = await Promise.all([
    query<TableRow>(
      server,
      `SELECT database, name, create_table_query, engine_full FROM system.tables WHERE ${among}`,
    ),
    query<ReplicaRow>(
      server,
      `SELECT database, table, zookeeper_path, replica_name, is_readonly, queue_size
FROM system.replicas WHERE ${among}`,
    ),
    query<{ name: string; value: string }>(server, 'SELECT name, value FROM system.merge_tree_settings'),
    query<{ macro: string; substitution: string }>(server, 'SELECT macro, substitution FROM system.macros'),
  ]);
  const replicaOf = new Map(replicas.map((row) => [fullName(row), replicaState(row)]));
  const found = tables.flatMap((row) => {
    const ddl = parseDdl(row.create_table_query);
    if (ddl.kind !== 'create table' && ddl.kind !== 'create view') return [];
    const key = fullName({ database: row.database, table: row.name });
    const state = { ...stateOf(ddl), database: row.database, table: row.name };
    const about = { text: row.create_table_query, engineFull: row.engine_full, replica: replicaOf.get(key) };
    return [[key, { ...state, ...about }] as const];
  });
  return {
    tables: new Map(found),
    mergeTreeSettings: new Map(settings.map(({ name, value }) => [name, value])),
    macros: new Map(macros.map(({ macro, substitution }) => [macro, substitution])),
  };
}

function replicaState(row: ReplicaRow): ReplicaState {
  return {
    path: row.zookeeper_path,
    name: row.replica_name,
    readOnly: row.is_readonly === 1,
    queueSize: row.queue_size,
  };
}

const FORMATTER = 'formatQuerySingleLineOrNull';
/** Below the length that a server reads of one query (max_query_size, 256 KiB). */
const TEXT_BYTES_MAX = 100_000;

/**
 * Statements as the server itself would write them, where it knows how (23.11 and newer); else as they are.
 * @throws Fault
 */
export async function formatted(server: ClickHouse, statements: readonly string[]): Promise<string[]> {
  const known = await query(server, `SELECT name FROM system.functions WHERE name = '${FORMATTER}'`);
  if (known.length === 0) return [...statements];
  const result: string[] = [];
  for (const group of groupsOf(statements)) {
    const rows = await query<{ text: string | null }>(
      server,
      `SELECT ${FORMATTER}(arrayJoin([${group.map(literal).join(', ')}])) AS text`,
    );
    result.push(...group.map((statement, index) => rows[index]?.text ?? statement));
  }
  return result;
}

function groupsOf(statements: readonly string[]): string[][] {
  const groups: string[][] = [];
  let length = TEXT_BYTES_MAX;
  for (const statement of statements) {
    length += statement.length;
    if (length > TEXT_BYTES_MAX) {
      groups.push([]);
      length = statement.length;
    }
    groups.at(-1)?.push(statement);
  }
  return groups;
}
