/** `sluice migrate …`: the migrator's data as text for people, or as JSON. */
import { createLogger } from '../base/log.ts';
import { close, createClickHouse } from '../clickhouse/client.ts';
import { loadSettings } from '../config/load.ts';
import type { Settings } from '../config/settings.ts';
import type { Logger } from '../base/log.ts';
import {
  type HostPlan,
  type HostReport,
  type HostStatus,
  type MigrateContext,
  SINGLE_SERVER,
  hasDifferences,
  migrateApply,
  migratePlan,
  migrateStatus,
} from '../migrate/run.ts';
import { printTable } from './print.ts';

const EXIT_DIFFERENCES = 3;

/** Hands a context to `body` whose connections are closed afterwards. */
export async function withMigrations<T>(
  settings: Settings,
  version: string,
  logger: Logger,
  body: (context: MigrateContext) => Promise<T>,
): Promise<T> {
  const servers = settings.clickhouse.urls.map((url) => createClickHouse(url, settings.clickhouse, logger));
  const { database } = settings.clickhouse;
  const { retention, migrations } = settings;
  try {
    return await body({
      servers,
      layout: SINGLE_SERVER,
      database,
      retention,
      migrationsDir: migrations.dir,
      version,
      logger,
    });
  } finally {
    await Promise.all(servers.map((server) => close(server)));
  }
}

/** @returns the exit code */
export async function runMigrate(
  step: 'plan' | 'apply' | 'status',
  version: string,
  json: boolean,
): Promise<number> {
  const { settings } = loadSettings();
  const logger = createLogger(settings.log.level, settings.log.format);
  return withMigrations(settings, version, logger, async (context) => {
    if (step === 'apply') return show(await migrateApply(context), json, printReport);
    if (step === 'status') return show(await migrateStatus(context), json, printStatus);
    const plans = await migratePlan(context);
    show(plans, json, printPlan);
    return hasDifferences(plans) ? EXIT_DIFFERENCES : 0;
  });
}

function show<T>(data: readonly T[], json: boolean, print: (item: T) => void): number {
  if (json) console.log(JSON.stringify(data, null, 2));
  else for (const item of data) print(item);
  return 0;
}

function printPlan({ host, refusals, pending, ttlChanges, ttlForeign }: HostPlan): void {
  console.log(`${host}:`);
  for (const refusal of refusals) console.log(`  refused: ${refusal}`);
  for (const { name, statements } of pending) {
    console.log(`  ${name}`);
    for (const { sql } of statements) console.log(`${sql.trim().replace(/^/gm, '    ')};`);
  }
  for (const { table, from, to } of ttlChanges) console.log(`  TTL of ${table}: "${from}" becomes "${to}"`);
  for (const table of ttlForeign) console.log(`  ${table}: its TTL was written by hand and stays`);
  if (refusals.length + pending.length + ttlChanges.length === 0) console.log('  nothing to do');
}

function printReport({ host, applied, ttlChanged }: HostReport): void {
  console.log(`${host}: ${applied.length} migrations applied, ${ttlChanged.length} TTLs changed`);
  for (const { name, durationMs } of applied) console.log(`  ${name} (${durationMs} ms)`);
}

function printStatus({ host, migrations, refusals }: HostStatus): void {
  console.log(`${host}:`);
  for (const refusal of refusals) console.log(`  refused: ${refusal}`);
  printTable(
    ['number', 'name', 'state', 'applied at', 'ms', 'by version'],
    migrations.map((migration) => {
      const { number, name, state } = migration;
      if (state === 'pending') return [String(number), name, state, '', '', ''];
      return [
        String(number),
        name,
        state,
        migration.appliedAt,
        String(migration.durationMs),
        migration.version,
      ];
    }),
  );
}
