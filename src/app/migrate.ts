/** `sluice migrate …`: finds the hosts, takes the lock where something may change, and runs a command. */
import { tickMs } from '../base/clock.ts';
import { Fault } from '../base/errors.ts';
import { type Logger, createLogger } from '../base/log.ts';
import { type ClickHouse, close, createClickHouse, parseClickHouseUrl } from '../clickhouse/client.ts';
import { loadSettings } from '../config/load.ts';
import type { Settings } from '../config/settings.ts';
import { adoptTables } from '../migrate/adopt.ts';
import { fromSettings } from '../migrate/context.ts';
import { driftOf } from '../migrate/difference.ts';
import { GRANT_ROLES, grantStatements, tenantStatements } from '../migrate/grants.ts';
import { type FoundHosts, hostsOf } from '../migrate/hosts.ts';
import { LockUnavailable, withLock } from '../migrate/lock.ts';
import { repairHosts } from '../migrate/repair.ts';
import {
  type MigrateContext,
  SINGLE_SERVER,
  hasDifferences,
  migrateApply,
  migratePlan,
  migrateStatus,
} from '../migrate/run.ts';
import { survey } from '../migrate/survey.ts';
import { verifyHosts } from '../migrate/verify.ts';
import {
  printAdoption,
  printGrants,
  printPlans,
  printProgress,
  printRepair,
  printReport,
  printStatus,
  printVerification,
} from './migrate-print.ts';
import { withTopology } from './topology.ts';

const EXIT_FAILED = 1;
const EXIT_DIFFERENCES = 3;

export const MIGRATE_STEPS = ['plan', 'apply', 'status', 'verify', 'repair', 'adopt', 'grants'] as const;
export type MigrateStep = (typeof MIGRATE_STEPS)[number];

export interface MigrateFlags {
  readonly json?: boolean;
  readonly allowDrops?: boolean;
  readonly dryRun?: boolean;
  /** False goes without the lock. */
  readonly lock?: boolean;
  /** For another migrator, instead of leaving. */
  readonly wait?: boolean;
}

/**
 * Hands a context to `body` whose connections are closed afterwards. Without the lock: for what changes
 * nothing.
 */
export async function withMigrations<T>(
  settings: Settings,
  version: string,
  logger: Logger,
  body: (context: MigrateContext) => Promise<T>,
): Promise<T> {
  const { clickhouse, migrations } = settings;
  const opened: ClickHouse[] = [];
  const open = (url: string) => {
    // A statement may take as long as the migrator waits.
    const access = { ...clickhouse, insertTimeoutMs: migrations.waitMsMax };
    const server = createClickHouse(url, access, logger);
    opened.push(server);
    return server;
  };
  try {
    return await body({
      ...(await findHosts(settings, logger, open)),
      ...fromSettings(settings),
      version,
      logger,
    });
  } finally {
    await Promise.all(opened.map((server) => close(server)));
  }
}

/** The same under the lock of the cluster, for what changes tables. @throws as withLock */
export async function withLockedMigrations<T>(
  settings: Settings,
  version: string,
  logger: Logger,
  { lock = true, wait = false }: Pick<MigrateFlags, 'lock' | 'wait'>,
  body: (context: MigrateContext) => Promise<T>,
): Promise<T> {
  if (!lock) return withMigrations(settings, version, logger, body);
  const { clickhouse, migrations, redis } = settings;
  const [url = ''] = clickhouse.urls;
  const options = {
    redis,
    target: clickhouse.cluster === '' ? parseClickHouseUrl(url).host : clickhouse.cluster,
    database: clickhouse.database,
    lockMs: migrations.lockMs,
    waitMsMax: wait ? migrations.waitMsMax : 0,
    version,
    logger,
  };
  // The cluster is looked at under the lock: the migrator before may have changed what is found there.
  try {
    return await withLock(options, (guard) =>
      withMigrations(settings, version, logger, (context) => body({ ...context, guard })),
    );
  } catch (error) {
    if (!(error instanceof LockUnavailable) || clickhouse.cluster !== '') throw error;
    // One server takes each statement once, whoever sends it, and may be migrated before there is a Redis.
    logger.warn({ reason: error.message }, 'going on without the lock, since there is one server only');
    return await withMigrations(settings, version, logger, body);
  }
}

async function findHosts(
  settings: Settings,
  logger: Logger,
  open: (url: string) => ClickHouse,
): Promise<FoundHosts> {
  const { cluster, replication, urls } = settings.clickhouse;
  const [url] = urls;
  // One server that knows no cluster: nothing to find out.
  if (cluster === '' && replication !== 'on' && url !== undefined && urls.length === 1) {
    const hosts = [{ server: open(url), shard: 0, replica: 0 }];
    return { hosts, missing: [], faults: [], layout: SINGLE_SERVER };
  }
  return withTopology(settings, logger, async (discovery) => hostsOf(discovery, open, settings));
}

/** @returns the exit code */
export async function runMigrate(step: MigrateStep, version: string, flags: MigrateFlags): Promise<number> {
  const { settings } = loadSettings();
  const logger = createLogger(settings.log.level, settings.log.format);
  const json = flags.json === true;
  const tenants = settings.tenants.list.map(({ name }) => name);
  const looking = (body: (context: MigrateContext) => Promise<number>) =>
    withMigrations(settings, version, logger, body);
  const changing = (body: (context: MigrateContext) => Promise<number>) =>
    withLockedMigrations(settings, version, logger, flags, body);
  switch (step) {
    case 'plan':
      return looking(async (context) => {
        const plans = await migratePlan(context);
        show(plans, json, printPlans);
        return hasDifferences(plans) ? EXIT_DIFFERENCES : 0;
      });
    case 'status':
      return looking(async (context) => show(await migrateStatus(context), json, each(printStatus)));
    case 'apply':
      return changing((context) => apply(context, flags));
    case 'verify':
      return looking(async (context) => {
        const hosts = await verifyHosts(context);
        show(hosts, json, each(printVerification));
        return hosts.some((host) => driftOf(host) > 0) ? EXIT_DIFFERENCES : 0;
      });
    case 'repair':
      return (flags.dryRun === true ? looking : changing)((context) => repair(context, flags));
    case 'grants':
      return looking((context) => grants(context, tenants, json));
    case 'adopt':
      return (flags.dryRun === true ? looking : changing)((context) => adopt(context, flags));
  }
}

async function apply(
  context: MigrateContext,
  { json = false, allowDrops = false }: MigrateFlags,
): Promise<number> {
  const startMs = tickMs();
  const progress = json ? undefined : printProgress(startMs);
  const reports = await migrateApply(context, { allowDrops, ...(progress && { progress }) });
  for (const verification of await verifyHosts(context)) {
    const differences = driftOf(verification);
    if (differences === 0) continue;
    const words = 'tables differ from what is declared: `sluice migrate verify` shows how';
    context.logger.warn({ host: verification.host, differences }, words);
  }
  return show(reports, json, each(printReport));
}

async function repair(
  context: MigrateContext,
  { json = false, dryRun = false }: MigrateFlags,
): Promise<number> {
  const hosts = await repairHosts(context, { dryRun });
  show(
    hosts,
    json,
    each((host) => printRepair(host, dryRun)),
  );
  return hosts.some(({ failures }) => failures.length > 0) ? EXIT_FAILED : 0;
}

async function adopt(
  context: MigrateContext,
  { json = false, dryRun = false }: MigrateFlags,
): Promise<number> {
  const hosts = await adoptTables(context, { dryRun });
  show(
    hosts,
    json,
    each((host) => printAdoption(host, dryRun)),
  );
  const failed = hosts.some(
    ({ failures, repair: after }) => failures.length + (after?.failures.length ?? 0) > 0,
  );
  return failed ? EXIT_FAILED : 0;
}

/**
 * For every role, with a user's name to be replaced by one's own, and for the readers of each tenant where
 * the tables tell tenants apart. @throws Fault where no host answers
 */
async function grants(
  context: MigrateContext,
  tenants: readonly string[],
  json: boolean,
): Promise<number> {
  const { views } = await survey(context);
  const [view] = views;
  if (view === undefined) throw new Fault('migrate_no_host', 'here', 'no host answers: its version decides');
  const { database, layout, tenantColumn } = context;
  const place = { ...layout, database, server: view.info, tenantColumn };
  const roles: { role: string; statements: readonly string[] }[] = GRANT_ROLES.map((role) => ({
    role,
    statements: grantStatements(place, role, `sluice_${role}`),
  }));
  const statements = tenantStatements(place, tenants);
  if (statements.length > 0) roles.push({ role: 'readers of one tenant', statements });
  return show(roles, json, each(printGrants));
}

function show<T>(data: readonly T[], json: boolean, print: (data: readonly T[]) => void): number {
  if (json) console.log(JSON.stringify(data, null, 2));
  else print(data);
  return 0;
}

function each<T>(print: (item: T) => void): (data: readonly T[]) => void {
  return (data) => {
    for (const item of data) print(item);
  };
}
