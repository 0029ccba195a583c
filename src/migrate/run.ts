/**
 * Brings ClickHouse to the declared tables: `plan` says what would be done, `apply` does it, `status` says
 * what was done. Each host is looked at and written to by itself; its ledger lies on it.
 *
 * An interruption at any point is harmless: a migration is recorded after its last statement, and until
 * then all of its statements are run again by the next apply, which the format makes safe (IF NOT EXISTS,
 * IF EXISTS).
 */
import { tickMs } from '../base/clock.ts';
import { ConfigurationError, Fault } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { type ClickHouse, command, probe } from '../clickhouse/client.ts';
import type { Settings } from '../config/settings.ts';
import { readHistories } from './history.ts';
import { createLedger, readLedger, recordMigration } from './ledger.ts';
import type { Migration, Origin } from './migration.ts';
import type { RenderContext } from './placeholders.ts';
import { type HistoryPlan, planHistory } from './plan.ts';
import { type Statement, renderMigration } from './render.ts';
import { TTL_SETTINGS, type TtlChange, planTtl } from './ttl.ts';

/** How the tables are laid out over hosts. */
export type Layout = Pick<RenderContext, 'cluster' | 'replicated' | 'onCluster'>;

export const SINGLE_SERVER: Layout = { cluster: undefined, replicated: false, onCluster: false };

export interface MigrateContext {
  readonly servers: readonly ClickHouse[];
  readonly layout: Layout;
  readonly database: string;
  readonly retention: Settings['retention'];
  /** Settings' `migrations.dir`: the default means the program's own folder alone. */
  readonly migrationsDir: string;
  /** Of this program, for the ledger. */
  readonly version: string;
  readonly logger: Logger;
}

/** What apply would do on a host. */
export interface HostPlan {
  readonly host: string;
  /** Why apply would refuse, one sentence each; nothing else is planned then. */
  readonly refusals: readonly string[];
  readonly pending: readonly {
    readonly name: string;
    readonly origin: Origin;
    readonly statements: readonly Statement[];
  }[];
  readonly ttlChanges: readonly TtlChange[];
  /** Tables whose TTL was written by hand and stays. */
  readonly ttlForeign: readonly string[];
}

/** What apply did on a host. */
export interface HostReport {
  readonly host: string;
  readonly applied: readonly { readonly name: string; readonly durationMs: number }[];
  readonly ttlChanged: readonly TtlChange[];
}

export interface HostStatus {
  readonly host: string;
  readonly migrations: readonly MigrationStatus[];
  readonly refusals: readonly string[];
}

export type MigrationStatus = { readonly origin: Origin; readonly number: number; readonly name: string } & (
  | { readonly state: 'pending' }
  | {
      readonly state: 'applied';
      readonly appliedAt: string;
      readonly durationMs: number;
      readonly version: string;
      readonly checksum: string;
    }
);

/** Whether a plan holds anything that apply would do or refuse: exit code 3. */
export function hasDifferences(plans: readonly HostPlan[]): boolean {
  return plans.some(
    ({ refusals, pending, ttlChanges }) => refusals.length + pending.length + ttlChanges.length > 0,
  );
}

/**
 * Changes nothing.
 * @throws ConfigurationError when the migrations can't be read, Fault when a host can't be asked.
 */
export async function migratePlan(context: MigrateContext): Promise<HostPlan[]> {
  const migrations = readHistories(context.migrationsDir);
  return Promise.all(context.servers.map((server) => planHost(server, migrations, context)));
}

/**
 * Resolves once every host has every table. Hosts are done one after the other, so that a mistake reaches
 * one only.
 * @throws ConfigurationError when the history of any host is refused (nothing is changed then) or a file
 *   can't be read, Fault when a statement fails, with the migration's name; what was done before it stays.
 */
export async function migrateApply(context: MigrateContext): Promise<HostReport[]> {
  const migrations = readHistories(context.migrationsDir);
  for (const server of context.servers) refuse(server.host, await planLedger(server, migrations, context));
  const reports: HostReport[] = [];
  for (const server of context.servers) reports.push(await applyTo(server, migrations, context));
  return reports;
}

/** Ledger beside folder, for each host. Changes nothing. @throws as migratePlan */
export async function migrateStatus(context: MigrateContext): Promise<HostStatus[]> {
  const migrations = readHistories(context.migrationsDir);
  return Promise.all(
    context.servers.map(async (server) => {
      const ledger = await readLedger(server, context.database);
      const { pending, refusals } = planHistory(migrations, ledger);
      const applied = ledger.map((entry): MigrationStatus => ({ ...entry, state: 'applied' }));
      const waiting = pending.map(
        ({ origin, number, name }): MigrationStatus => ({ origin, number, name, state: 'pending' }),
      );
      return { host: server.host, migrations: [...applied, ...waiting], refusals };
    }),
  );
}

async function planHost(
  server: ClickHouse,
  migrations: readonly Migration[],
  context: MigrateContext,
): Promise<HostPlan> {
  const renderContext = await renderContextFor(server, context);
  const { pending, refusals } = await planLedger(server, migrations, context);
  const ttl = refusals.length > 0 ? undefined : await planTtl(server, migrations, renderContext);
  const rendered = pending.map((migration) => {
    return {
      name: migration.name,
      origin: migration.origin,
      statements: renderMigration(migration, renderContext),
    };
  });
  return {
    host: server.host,
    refusals,
    pending: rendered,
    ttlChanges: ttl?.changes ?? [],
    ttlForeign: ttl?.foreign ?? [],
  };
}

async function planLedger(
  server: ClickHouse,
  migrations: readonly Migration[],
  context: MigrateContext,
): Promise<HistoryPlan> {
  return planHistory(migrations, await readLedger(server, context.database));
}

function refuse(host: string, { refusals }: HistoryPlan): void {
  if (refusals.length > 0) {
    throw new ConfigurationError(
      `the migrations don't fit what was applied to ${host}:\n  ${refusals.join('\n  ')}`,
    );
  }
}

async function applyTo(
  server: ClickHouse,
  migrations: readonly Migration[],
  context: MigrateContext,
): Promise<HostReport> {
  const { database, logger } = context;
  const renderContext = await renderContextFor(server, context);
  await createLedger(server, database);
  const plan = await planLedger(server, migrations, context);
  refuse(server.host, plan);
  const applied: { name: string; durationMs: number }[] = [];
  // All of them first: a condition that can't be understood is found before anything has been run.
  const rendered = plan.pending.map((migration) => ({
    migration,
    statements: renderMigration(migration, renderContext),
  }));
  for (const { migration, statements } of rendered) {
    const startMs = tickMs();
    for (const { sql } of statements) await runStatement(server, sql, `${migration.name} on ${server.host}`);
    const durationMs = Math.round(tickMs() - startMs);
    await recordMigration(server, database, migration, durationMs, context.version);
    logger.info(
      { host: server.host, statements: statements.length, durationMs },
      `applied ${migration.name}`,
    );
    applied.push({ name: migration.name, durationMs });
  }
  const ttl = await planTtl(server, migrations, renderContext);
  for (const change of ttl.changes) {
    await runStatement(server, change.sql, `the TTL of ${change.table} on ${server.host}`, TTL_SETTINGS);
    logger.info(
      { host: server.host, from: change.from, to: change.to },
      `changed the TTL of ${change.table}`,
    );
  }
  for (const table of ttl.foreign) {
    logger.warn(
      { host: server.host, table },
      'the TTL of the table was written by hand and is left as it is',
    );
  }
  return { host: server.host, applied, ttlChanged: ttl.changes };
}

async function runStatement(
  server: ClickHouse,
  sql: string,
  what: string,
  settings: Record<string, number> = {},
): Promise<void> {
  try {
    await command(server, sql, settings);
  } catch (cause) {
    if (!(cause instanceof Fault)) throw cause;
    throw new Fault(cause.code, cause.retry, `${what}: ${cause.message}\nstatement: ${sql}`, { cause });
  }
}

async function renderContextFor(server: ClickHouse, context: MigrateContext): Promise<RenderContext> {
  const { tracesDays: traces, logsDays: logs, metricsDays: metrics } = context.retention;
  return {
    ...context.layout,
    database: context.database,
    server: await probe(server),
    retentionDays: { traces, logs, metrics },
  };
}
