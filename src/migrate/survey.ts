/** What every command looks at first: what each host is, and what its ledger says. One probe per host. */
import type { ClickHouse, ServerInfo } from '../clickhouse/client.ts';
import { probe } from '../clickhouse/client.ts';
import type { MigrateContext, MigrateHost } from './context.ts';
import { type OptionalMigration, historiesFor, readTenantColumn } from './history.ts';
import { type HostLedger, readHostLedger } from './ledger.ts';
import type { Migration } from './migration.ts';
import type { RenderContext } from './placeholders.ts';

/** A host, and what statements for it depend on. */
export interface HostView {
  /** Its name in reports. */
  readonly name: string;
  readonly server: ClickHouse;
  readonly shard: number;
  readonly replica: number;
  readonly info: ServerInfo;
  /** For statements that go to this host alone, whatever the mode: without ON CLUSTER. */
  readonly render: RenderContext;
  readonly ledger: HostLedger;
}

export interface Survey {
  /** As in the context: shard by shard, replica by replica. */
  readonly views: readonly HostView[];
  readonly migrations: readonly Migration[];
  /** What settings switch on and off, where sluice's own tables are. */
  readonly optional: readonly OptionalMigration[];
  /** What of the histories was left out and why, in words. */
  readonly warning: string | undefined;
}

/**
 * Asks all hosts at once. Changes nothing.
 * @throws ConfigurationError when the migrations can't be read or the servers are too old for them, Fault
 *   when a host can't be asked.
 */
export async function survey(context: MigrateContext): Promise<Survey> {
  const views = await Promise.all(context.hosts.map((host) => viewOf(host, context)));
  const versions = views.map(({ info }) => info.version);
  const [oldest] = versions.sort((a, b) => a.major - b.major || a.minor - b.minor);
  // Without a host that answers there is nothing to be too old.
  const { migrations, warning } = historiesFor(context.migrationsDir, oldest ?? { major: 99, minor: 0 });
  const hasOwn = migrations.some(({ origin }) => origin === 'sluice');
  const optional = hasOwn ? [readTenantColumn(context.tenantColumn)] : [];
  return { views, migrations, optional, warning };
}

/** The same, saying what was left out. @throws as survey */
export async function surveyAloud(context: MigrateContext): Promise<Survey> {
  const found = await survey(context);
  if (found.warning !== undefined) context.logger.warn(found.warning);
  return found;
}

async function viewOf({ server, shard, replica }: MigrateHost, context: MigrateContext): Promise<HostView> {
  const [info, ledger] = await Promise.all([probe(server), readHostLedger(server, context.database)]);
  return { name: server.host, server, shard, replica, info, render: renderContextOf(info, context), ledger };
}

function renderContextOf(info: ServerInfo, context: MigrateContext): RenderContext {
  const { tracesDays: traces, logsDays: logs, metricsDays: metrics } = context.retention;
  return {
    ...context.layout,
    onCluster: false,
    database: context.database,
    server: info,
    retentionDays: { traces, logs, metrics },
    outageHoursMax: context.outageHoursMax,
    storagePolicy: context.storagePolicy,
  };
}
