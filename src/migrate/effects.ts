/**
 * What a host really has, held against what a statement makes: the question before each statement (run it, or
 * is it done?) and after it (has it arrived?). Nothing but the host's own system tables counts, so it doesn't
 * matter who ran the statement, when, and what became of that migrator.
 */
import { type ClickHouse, query } from '../clickhouse/client.ts';
import type { AlterCommand } from './alter.ts';
import { type Combined, type RealBody, combined, stateAmong } from './command-state.ts';
import {
  type CreateTable,
  type CreateView,
  type Ddl,
  type TableName,
  parseDdl,
} from './ddl.ts';
import { mutationsOf, ownMutations } from './mutations.ts';
import { type RealName, fullName, realName } from './state.ts';
import { literal } from '../clickhouse/quote.ts';
import type { HostView } from './survey.ts';

export interface Facts {
  /**
   * `missing`: to be run. `done`: nothing to do. `unknown`: nothing to look at, so it is run (again).
   * `conflict`: something else stands in its place.
   */
  readonly state: 'missing' | 'done' | 'unknown' | 'conflict';
  /** In words. */
  readonly why: string;
  /** It is an ALTER TABLE. */
  readonly alters: boolean;
  /** Run on one replica it reaches the others of the shard. */
  readonly travels: boolean;
  /** The table that the statement changes or makes, undefined where it is about none or several. */
  readonly table: RealName | undefined;
  /** Its definition as the server shows it; empty where it isn't there. */
  readonly text: string;
  /** It begins a mutation. */
  readonly mutates: boolean;
  /** Ids of the mutations of the table that there are, whosever they are. */
  readonly mutationsBefore: readonly string[];
  /** Mutations of the step are younger: Unix time of the last migration that the host has recorded. */
  readonly sinceS: number;
}

interface RealTable {
  readonly name: string;
  readonly engine: string;
  readonly text: string;
}

/**
 * Changes nothing.
 * @param later statements of the migration that come after this one: what they made of its effect already,
 *   before an interruption, is no lack of it
 * @throws Fault
 */
export async function factsOf(view: HostView, sql: string, later: readonly string[] = []): Promise<Facts> {
  const facts = await factsNow(view, sql, later);
  const { table } = facts;
  if (facts.state === 'done' || facts.state === 'conflict' || table === undefined) return facts;
  for (const text of later.filter((candidate) => renames(candidate, table))) {
    const renamed = await factsNow(view, text, []);
    if (renamed.state === 'done') return { ...facts, state: 'done', why: `renamed since: ${renamed.why}` };
  }
  return facts;
}

async function factsNow(view: HostView, sql: string, later: readonly string[]): Promise<Facts> {
  const ddl = parseDdl(sql);
  const base = {
    alters: ddl.kind === 'alter',
    travels: false,
    text: '',
    mutates: false,
    mutationsBefore: [],
    sinceS: lastRecordedS(view),
  };
  switch (ddl.kind) {
    case 'create table':
    case 'create view':
      return { ...base, ...(await createdFacts(view.server, ddl, sql)) };
    case 'create database':
      return { ...base, table: undefined, ...(await databaseState(view.server, ddl.database)) };
    case 'drop': {
      const table = realName(ddl.name);
      const gone = (await readTable(view.server, table)) === undefined;
      const why = gone ? 'it is not there' : `${fullName(table)} is there`;
      return { ...base, table, state: gone ? 'done' : 'missing', why };
    }
    case 'rename':
      return { ...base, table: undefined, ...(await renamedState(view.server, ddl.pairs)) };
    case 'alter':
      return { ...base, ...(await alteredFacts(view, ddl, sql, later)) };
    case 'other':
      return { ...base, ...(await otherFacts(view.server, ddl.text)) };
  }
}

/** Unix time of the host's clock; 0 where nothing was recorded. */
function lastRecordedS({ ledger }: HostView): number {
  return Math.max(0, ...ledger.entries.map(({ appliedAt }) => Date.parse(appliedAt) / 1000));
}

type Found = Pick<Facts, 'state' | 'why' | 'table'> & Partial<Facts>;

async function createdFacts(server: ClickHouse, ddl: CreateTable | CreateView, sql: string): Promise<Found> {
  const table = realName(ddl.name);
  const real = await readTable(server, table);
  if (real === undefined) return { table, state: 'missing', why: `${fullName(table)} is not there` };
  const found = { table, text: real.text };
  if (/^\s*CREATE\s+OR\s+REPLACE\b/i.test(sql))
    return { ...found, state: 'unknown', why: 'it replaces what is there' };
  const clash = clashOf(ddl, real.engine);
  if (clash !== undefined) return { ...found, state: 'conflict', why: `${fullName(table)} ${clash}` };
  return { ...found, state: 'done', why: `${fullName(table)} is there` };
}

/** What is there under the name is of another kind: the statement would leave it as it is without a word. */
function clashOf(ddl: CreateTable | CreateView, real: string): string | undefined {
  const wanted =
    ddl.kind === 'create table' ? (ddl.engine?.name ?? '') : ddl.materialized ? 'MaterializedView' : 'View';
  const isMergeTree = (engine: string) => engine.endsWith('MergeTree');
  // ClickHouse Cloud makes a SharedMergeTree of either.
  const sharesRows = (engine: string) => /^(Replicated|Shared)/.test(engine);
  if (wanted === '' || wanted === real) return undefined;
  if (!isMergeTree(wanted)) return `is a ${real}, not a ${wanted}`;
  if (!isMergeTree(real)) return `is a ${real}, not a ${wanted}`;
  if (sharesRows(wanted) && !sharesRows(real)) {
    return `is a ${real}, not a ${wanted}: each replica would have rows of its own`;
  }
  return undefined;
}

async function databaseState(server: ClickHouse, name: string): Promise<Pick<Facts, 'state' | 'why'>> {
  const rows = await query(server, `SELECT name FROM system.databases WHERE name = ${literal(name)}`);
  if (rows.length > 0) return { state: 'done', why: `the database ${name} is there` };
  return { state: 'missing', why: `the database ${name} is not there` };
}

async function renamedState(
  server: ClickHouse,
  pairs: readonly { readonly from: TableName; readonly to: TableName }[],
): Promise<Pick<Facts, 'state' | 'why'>> {
  const targets = pairs.map(({ to }) => fullName(realName(to)));
  for (const { from, to } of pairs) {
    if ((await readTable(server, realName(to))) === undefined) {
      return { state: 'missing', why: `${fullName(realName(to))} is not there` };
    }
    // In a chain (a to old, new to a) a name is both.
    const stays = targets.includes(fullName(realName(from)));
    if (!stays && (await readTable(server, realName(from))) !== undefined) {
      return { state: 'missing', why: `${fullName(realName(from))} is there` };
    }
  }
  return { state: 'done', why: `${targets.join(', ')} is there` };
}

/** Whether a statement gives a table another name: what was done to it before lies under that name. */
function renames(sql: string, table: RealName): boolean {
  const ddl = parseDdl(sql);
  return ddl.kind === 'rename' && ddl.pairs.some(({ from }) => fullName(realName(from)) === fullName(table));
}

/** Settings, a comment and a view's query are each replica's own, all else of a table lies in Keeper. */
const OWN_OF_REPLICA: readonly AlterCommand['kind'][] = [
  'modify setting',
  'reset setting',
  'modify comment',
  'modify query',
];

async function alteredFacts(
  view: HostView,
  ddl: Ddl & { kind: 'alter' },
  sql: string,
  later: readonly string[],
): Promise<Found> {
  const table = realName(ddl.name);
  const mutates = ddl.commands.some(({ kind }) => kind === 'mutation');
  const [real, mutations] = await Promise.all([
    readTable(view.server, table),
    mutates ? mutationsOf(view.server, table) : [],
  ]);
  if (real === undefined) return { table, mutates, state: 'missing', why: `${fullName(table)} is not there` };
  const travels =
    sharesMetadata(real.engine) && !ddl.commands.every(({ kind }) => OWN_OF_REPLICA.includes(kind));
  const mutationsBefore = mutations.map(({ id }) => id);
  const begun = ownMutations(mutations, sql, lastRecordedS(view)).length > 0;
  const body = bodyIn(real.text);
  const further = later.flatMap((text) => commandsOn(table, text));
  const spelled = (type: string) => typeName(view.server, type);
  const states = await Promise.all(
    ddl.commands.map((command): Promise<Combined> | Combined => {
      if (command.kind !== 'mutation') return stateAmong(command, further, body, spelled);
      return begun
        ? { state: 'done', why: 'its mutation is there' }
        : { state: 'unknown', why: 'it is a mutation' };
    }),
  );
  return { table, text: real.text, travels, mutates, mutationsBefore, ...combined(states) };
}

function commandsOn(table: RealName, sql: string): readonly AlterCommand[] {
  const ddl = parseDdl(sql);
  return ddl.kind === 'alter' && fullName(realName(ddl.name)) === fullName(table) ? ddl.commands : [];
}

function bodyIn(text: string): RealBody | undefined {
  const ddl = parseDdl(text);
  return ddl.kind === 'create table' || ddl.kind === 'create view' ? ddl : undefined;
}

const OTHER_TABLE =
  /^(?:INSERT INTO(?: TABLE)?|OPTIMIZE TABLE|TRUNCATE TABLE(?: IF EXISTS)?|DELETE FROM) ([\w`.]+)/i;

/** Statements that leave nothing to look at; on a replicated table they reach all replicas. */
async function otherFacts(server: ClickHouse, text: string): Promise<Found> {
  const why = 'nothing tells whether it was run';
  const [, name] = OTHER_TABLE.exec(text) ?? [];
  if (name === undefined) return { table: undefined, state: 'unknown', why };
  const parts = name.replaceAll('`', '').split('.');
  const table = realName({ database: parts.length > 1 ? parts[0] : undefined, table: parts.at(-1) ?? '' });
  const real = await readTable(server, table);
  if (real === undefined) return { table, state: 'unknown', why };
  return { table, state: 'unknown', why, text: real.text, travels: sharesMetadata(real.engine) };
}

function sharesMetadata(engine: string): boolean {
  return /^(Replicated|Shared)/.test(engine);
}

/** A type as the server writes it: `INT` is Int32. An unknown one stays as it is. */
async function typeName(server: ClickHouse, type: string): Promise<string> {
  const rows = await query<{ name: string }>(
    server,
    `SELECT toTypeName(arrayElement(CAST([], ${literal(`Array(${type})`)}), 1)) AS name`,
  );
  return rows[0]?.name ?? type;
}

async function readTable(server: ClickHouse, { database, table }: RealName): Promise<RealTable | undefined> {
  const rows = await query<RealTable>(
    server,
    `SELECT name, engine, create_table_query AS text FROM system.tables
WHERE database = ${literal(database)} AND name = ${literal(table)}`,
  );
  return rows[0];
}
