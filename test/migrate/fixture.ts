/** What the tests of the migrator share: a context for a database of its own, and folders of migrations. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { type ClickHouse, close, createClickHouse } from '../../src/clickhouse/client.ts';
import { withLockedMigrations, withMigrations } from '../../src/app/migrate.ts';
import { ConfigurationError, Fault } from '../../src/base/errors.ts';
import { loadSettings } from '../../src/config/load.ts';
import type { Settings } from '../../src/config/settings.ts';
import { type ApplyOptions, migrateApply, migratePlan, migrateStatus } from '../../src/migrate/run.ts';
import type { RenderContext } from '../../src/migrate/placeholders.ts';
import { type MigrateContext, SINGLE_SERVER } from '../../src/migrate/context.ts';
import type { Farm } from '../support/farm.ts';
import { type TestClickHouse, silent } from '../support/services.ts';

/** A server of 26.7 that knows every setting; without rows being deleted. */
export const SINGLE: RenderContext = {
  database: 'otel',
  cluster: undefined,
  replicated: false,
  onCluster: false,
  server: { version: { major: 26, minor: 7 }, hasMergeTreeSetting: () => true },
  retentionDays: { traces: 30, metrics: 0, logs: 7 },
  outageHoursMax: 24,
  storagePolicy: '',
};

export const KEPT_FOR_EVER = { tracesDays: 0, logsDays: 0, metricsDays: 0 };

/** What a context has where a test doesn't care. */
export const DEFAULTS = {
  missing: [],
  database: 'otel',
  retention: KEPT_FOR_EVER,
  outageHoursMax: 24,
  storagePolicy: '',
  tenantColumn: false,
  migrationsDir: 'sql',
  waitMsMax: 60_000,
  version: '0.0.0',
  logger: silent,
} as const satisfies Partial<MigrateContext>;

/** One client for the tests of a file, closed after them. */
export function useContext(
  clickhouse: TestClickHouse,
): (overrides: Partial<MigrateContext>) => MigrateContext {
  let server: ClickHouse | undefined;
  afterAll(async () => {
    if (server) await close(server);
  });
  return (overrides) => {
    server ??= createClickHouse(clickhouse.url, { insertTimeoutMs: 60_000, queryTimeoutMs: 60_000 }, silent);
    return {
      ...DEFAULTS,
      hosts: [{ server, shard: 0, replica: 0 }],
      layout: SINGLE_SERVER,
      ...overrides,
    };
  };
}

/** A step that creates a table with one column. */
export const createTable = (table: string, column = 'n') => `-- @step local instant
CREATE TABLE IF NOT EXISTS {local:${table}} {on_cluster} (${column} UInt64)
ENGINE = {engine:MergeTree} ORDER BY ${column};
`;

export function writeMigrations(dir: string, files: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text);
}

/** A small schema of types that every version knows: a replicated table, its Distributed face, a view. */
export const EVENTS: Readonly<Record<string, string>> = {
  '0001_events.sql': `-- @step local instant
CREATE TABLE IF NOT EXISTS {local:events} {on_cluster} (Day Date, Id UInt64, Kind String)
ENGINE = {engine:MergeTree} PARTITION BY Day ORDER BY Id SETTINGS index_granularity = 8192

-- @step local instant
CREATE TABLE IF NOT EXISTS {local:kinds} {on_cluster} (Kind String, Events UInt64)
ENGINE = {engine:SummingMergeTree} ORDER BY Kind SETTINGS index_granularity = 8192

-- @step distributed instant
CREATE TABLE IF NOT EXISTS {table:events} {on_cluster} AS {local:events} ENGINE = {distributed:events:Id}

-- @step view instant
CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.kinds_mv {on_cluster} TO {local:kinds}
AS SELECT Kind, count() AS Events FROM {local:events} GROUP BY Kind
`,
  '0002_more.sql': `-- @step local instant
ALTER TABLE {local:events} {on_cluster} ADD COLUMN Size UInt32 DEFAULT 1

-- @step local rewrites
ALTER TABLE {local:events} {on_cluster} UPDATE Kind = 'none' WHERE Kind = ''

-- @step local instant
ALTER TABLE {local:events} {on_cluster} MODIFY COLUMN Size UInt64 DEFAULT 1

-- @step distributed instant
ALTER TABLE {table:events} {on_cluster} ADD COLUMN Size UInt64 DEFAULT 1
`,
};

/** Every CREATE statement of a database as the host shows it, its name taken out, to compare hosts. */
export async function schemaOf(
  host: { rows<Row>(sql: string): Promise<Row[]> },
  database: string,
): Promise<string[]> {
  const rows = await host.rows<{ text: string }>(
    `SELECT create_table_query AS text FROM system.tables WHERE database = '${database}' ORDER BY name`,
  );
  return rows.map(({ text }) => text.replaceAll(database, 'd'));
}

/** Settings of a migrator for a farm; `extra` wins. */
export function farmSettings(
  farm: Pick<Farm, 'urls' | 'name'>,
  environment: Readonly<Record<string, string>>,
): Settings {
  return loadSettings({
    SLUICE_CLICKHOUSE_URL: farm.urls,
    SLUICE_CLICKHOUSE_CLUSTER: farm.name,
    SLUICE_MIGRATIONS_WAIT_MS_MAX: '60000',
    ...environment,
  }).settings;
}

/** A migrator on a farm, as the command line runs it; its connections are closed after each call. */
export function migratorOf(farm: Pick<Farm, 'urls' | 'name'>, fixed: Readonly<Record<string, string>>) {
  const settings = (more: Readonly<Record<string, string>>) => farmSettings(farm, { ...fixed, ...more });
  return {
    plan: (more = {}) => withMigrations(settings(more), '0.0.0', silent, migratePlan),
    status: (more = {}) => withMigrations(settings(more), '0.0.0', silent, migrateStatus),
    apply: (options: ApplyOptions = {}, more: Readonly<Record<string, string>> = {}) =>
      withMigrations(settings(more), '0.0.0', silent, (context) => migrateApply(context, options)),
    /** Under the lock. */
    locked: (version: string, wait: boolean, more: Readonly<Record<string, string>> = {}) =>
      withLockedMigrations(settings(more), version, silent, { wait }, (context) => migrateApply(context)),
  };
}

/** The words of what a promise is rejected with; fails where it isn't. */
export async function refusalOf(work: Promise<unknown>): Promise<string> {
  const error: unknown = await work.then(
    () => new Error('it was not refused'),
    (thrown: unknown) => thrown,
  );
  if (error instanceof Fault || error instanceof ConfigurationError) return error.message;
  throw error;
}
