/**
 * How long rows are kept is declared by the settings, not by history: after the migrations each table's
 * real TTL is compared with the settings and changed where it differs.
 *
 * The change recalculates the TTL of the parts that are there (materialize_ttl_after_modify = 1), or a
 * shorter retention would reach old rows only at their old date. With the tables'
 * materialize_ttl_recalculate_only = 1 that reads the time column of each part and writes its TTL file, not
 * its rows.
 */
import { type ClickHouse, query } from '../clickhouse/client.ts';
import type { Signal } from '../model/signal.ts';
import type { Migration, StepCost } from './migration.ts';
import {
  type RenderContext,
  fillPlaceholders,
  localName,
  localTableOf,
  ttlExpression,
  ttlOf,
} from './placeholders.ts';
import { literal } from './sql.ts';

export const TTL_SETTINGS = { materialize_ttl_after_modify: 1 } as const;

export interface TtlChange {
  /** The local table. */
  readonly table: string;
  /** As ClickHouse shows it; empty: rows are kept for ever. */
  readonly from: string;
  readonly to: string;
  readonly cost: StepCost;
  readonly sql: string;
}

export interface TtlPlan {
  readonly changes: readonly TtlChange[];
  /**
   * Tables whose TTL was written by hand (moves between volumes, aggregation, another column): left as they
   * are.
   */
  readonly foreign: readonly string[];
}

/** Compares the tables that exist with the settings. Changes nothing. @throws Fault */
export async function planTtl(
  server: ClickHouse,
  migrations: readonly Migration[],
  context: RenderContext,
): Promise<TtlPlan> {
  const real = await readTtls(server, context.database);
  const changes: TtlChange[] = [];
  const foreign: string[] = [];
  for (const [table, { signal, expression }] of declaredTtls(migrations)) {
    const from = real.get(localName(table, context));
    if (from === undefined) continue;
    const to = ttlExpression(expression, context.retentionDays[signal]) ?? '';
    if (bare(from) === bare(to)) continue;
    if (isOurs(from, expression)) changes.push(changeOf(table, from, to, context));
    else foreign.push(localName(table, context));
  }
  return { changes, foreign };
}

/** By table; where several migrations declare one, the last counts. */
function declaredTtls(migrations: readonly Migration[]): Map<string, { signal: Signal; expression: string }> {
  const declared = new Map<string, { signal: Signal; expression: string }>();
  for (const { text } of migrations.flatMap(({ steps }) => steps)) {
    const table = localTableOf(text);
    const ttl = ttlOf(text);
    if (table !== undefined && ttl !== undefined) declared.set(table, ttl);
  }
  return declared;
}

function changeOf(name: string, from: string, to: string, context: RenderContext): TtlChange {
  const keepsLess = to !== '' && (from === '' || daysOf(to) < daysOf(from));
  const action = to === '' ? 'REMOVE TTL' : `MODIFY TTL ${to}`;
  return {
    table: localName(name, context),
    from,
    to,
    cost: keepsLess ? 'drops' : 'instant',
    sql: fillPlaceholders(`ALTER TABLE {local:${name}} {on_cluster} ${action}`, context),
  };
}

/** TTL of every MergeTree table of the database, empty where it has none. */
async function readTtls(server: ClickHouse, database: string): Promise<Map<string, string>> {
  const rows = await query<{ name: string; engine_full: string }>(
    server,
    `SELECT name, engine_full
FROM system.tables WHERE database = ${literal(database)} AND engine LIKE '%MergeTree'`,
  );
  return new Map(
    rows.map(({ name, engine_full: text }) => [name, / TTL (.*?)(?: SETTINGS |$)/s.exec(text)?.[1] ?? '']),
  );
}

/** One interval after the declared column, or none: nothing in it that an operator would miss. */
function isOurs(ttl: string, expression: string): boolean {
  if (ttl === '') return true;
  const start = `${bare(expression)}+toInterval`;
  return bare(ttl).startsWith(start) && /^[A-Za-z]+\(\d+\)$/.test(bare(ttl).slice(start.length));
}

function daysOf(ttl: string): number {
  const [, unit = '', count = '0'] = /toInterval([A-Za-z]+)\((\d+)\)$/.exec(ttl) ?? [];
  const days: Record<string, number> = {
    Second: 1 / 86_400,
    Minute: 1 / 1_440,
    Hour: 1 / 24,
    Day: 1,
    Week: 7,
    Month: 30,
  };
  return Number(count) * (days[unit] ?? 365);
}

const bare = (text: string) => text.replace(/[\s`]/g, '');
