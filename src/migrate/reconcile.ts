/**
 * What the configuration says about tables is declared state, not history: how long rows are kept, the
 * deduplication windows, the storage policy. After the migrations each real table is compared with it and
 * changed where it differs. Everything else about a table comes from the migrations alone.
 *
 * In: one host and what is declared. Out: the ALTERs that it lacks. Only a table whose migration says
 * `{ttl:…}` or `{deduplication}` is looked at, and only what the server can change.
 */
import { type ClickHouse, query } from '../clickhouse/client.ts';
import type { Signal } from '../model/signal.ts';
import type { Migration, StepCost } from './migration.ts';
import {
  type RenderContext,
  type TableSetting,
  configuredSettings,
  fillPlaceholders,
  hasTtl,
  localName,
  localTableOf,
  ttlOf,
} from './placeholders.ts';
import { literal } from '../clickhouse/quote.ts';
import { settingsIn } from './sql.ts';
import { TTL_SETTINGS, compareTtl } from './ttl.ts';

export interface ReconcileChange {
  readonly what: 'ttl' | 'setting';
  /** The local table. */
  readonly table: string;
  /** As ClickHouse shows it; empty where the table has no TTL, or leaves all these settings to the server. */
  readonly from: string;
  readonly to: string;
  readonly cost: StepCost;
  readonly sql: string;
  /** To be sent with the statement. */
  readonly settings: Readonly<Record<string, number>>;
  /**
   * Settings of a replicated table are each replica's own, so the statement runs on all of them. A TTL lies
   * in Keeper: one replica of the shard is told, the others follow.
   */
  readonly everyReplica: boolean;
}

export interface ReconcilePlan {
  /**
   * TTLs, then windows, then storage policies, which a server may refuse: one that lacks the table's present
   * disks shall not keep the others from being changed. Each in the order of the tables' declarations.
   */
  readonly changes: readonly ReconcileChange[];
  /**
   * Tables whose TTL was written by hand (moves between volumes, aggregation, another column): left as they
   * are.
   */
  readonly foreign: readonly string[];
}

interface Declared {
  ttl: { readonly signal: Signal; readonly expression: string } | undefined;
  settings: boolean;
}

interface RealTable {
  readonly name: string;
  readonly engine_full: string;
}

/** Since then MODIFY SETTING and MODIFY TTL do all that is asked of them here; before, nothing is changed. */
const ALTERS_SINCE_MAJOR = 20;

/** Compares the tables that exist on a host with the configuration. Changes nothing. @throws Fault */
export async function planReconcile(
  server: ClickHouse,
  migrations: readonly Migration[],
  context: RenderContext,
): Promise<ReconcilePlan> {
  if (context.server.version.major < ALTERS_SINCE_MAJOR) return { changes: [], foreign: [] };
  const real = await readTables(server, context.database);
  const ttls: ReconcileChange[] = [];
  const windows: ReconcileChange[] = [];
  const policies: ReconcileChange[] = [];
  const foreign: string[] = [];
  for (const [table, declared] of declaredTables(migrations)) {
    const full = real.get(localName(table, context));
    if (full === undefined) continue;
    if (declared.ttl !== undefined && hasTtl(context)) {
      const ttl = compareTtl(full, declared.ttl, context.retentionDays[declared.ttl.signal]);
      if (ttl === 'foreign') foreign.push(localName(table, context));
      else if (ttl !== 'same') ttls.push(alter('ttl', table, ttl, context));
    }
    if (!declared.settings) continue;
    const [policy, window] = differingSettings(full, context);
    if (window.length > 0) windows.push(setting(window, full, table, context));
    if (policy.length > 0) policies.push(setting(policy, full, table, context));
  }
  return { changes: [...ttls, ...windows, ...policies], foreign };
}

/** By table; where several migrations declare one, the last counts. */
function declaredTables(migrations: readonly Migration[]): Map<string, Declared> {
  const tables = new Map<string, Declared>();
  for (const { text } of migrations.flatMap(({ steps }) => steps)) {
    const table = localTableOf(text);
    const ttl = ttlOf(text);
    const settings = text.includes('{deduplication}');
    if (table === undefined || (ttl === undefined && !settings)) continue;
    const before = tables.get(table);
    tables.set(table, { ttl: ttl ?? before?.ttl, settings: settings || before?.settings === true });
  }
  return tables;
}

/** What the table has otherwise or not at all: the storage policy, and the windows. */
function differingSettings(full: string, context: RenderContext): [TableSetting[], TableSetting[]] {
  const real = settingsIn(full);
  const differing = configuredSettings(context).filter(({ name, value }) => real.get(name) !== value);
  const isPolicy = ({ name }: TableSetting) => name === 'storage_policy';
  return [differing.filter(isPolicy), differing.filter((one) => !isPolicy(one))];
}

function setting(
  wanted: readonly TableSetting[],
  full: string,
  table: string,
  context: RenderContext,
): ReconcileChange {
  const real = settingsIn(full);
  const present = wanted.flatMap(({ name }) => {
    const value = real.get(name);
    return value === undefined ? [] : [`${name} = ${value}`];
  });
  const to = wanted.map(({ name, value }) => `${name} = ${value}`).join(', ');
  const action = `MODIFY SETTING ${to}`;
  return alter('setting', table, { from: present.join(', '), to, cost: 'instant', action }, context);
}

interface Alteration {
  readonly from: string;
  readonly to: string;
  readonly cost: StepCost;
  readonly action: string;
}

function alter(
  what: ReconcileChange['what'],
  table: string,
  { from, to, cost, action }: Alteration,
  context: RenderContext,
): ReconcileChange {
  return {
    what,
    table: localName(table, context),
    from,
    to,
    cost,
    sql: fillPlaceholders(`ALTER TABLE {local:${table}} {on_cluster} ${action}`, context),
    settings: what === 'ttl' ? TTL_SETTINGS : {},
    everyReplica: what === 'setting' || !context.replicated,
  };
}

/** `engine_full` of every MergeTree table of the database, by name. */
async function readTables(server: ClickHouse, database: string): Promise<Map<string, string>> {
  const rows = await query<RealTable>(
    server,
    `SELECT name, engine_full
FROM system.tables WHERE database = ${literal(database)} AND engine LIKE '%MergeTree'`,
  );
  return new Map(rows.map((row) => [row.name, row.engine_full]));
}
