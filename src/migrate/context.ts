/** What every command of the migrator works with: the hosts as they were found, and what is declared. */
import type { Logger } from '../base/log.ts';
import type { ClickHouse } from '../clickhouse/client.ts';
import type { Settings } from '../config/settings.ts';
import type { RenderContext } from './placeholders.ts';

/** How the tables are laid out over hosts. */
export type Layout = Pick<RenderContext, 'cluster' | 'replicated' | 'onCluster'>;

export const SINGLE_SERVER: Layout = { cluster: undefined, replicated: false, onCluster: false };

/** A host that answers. */
export interface MigrateHost {
  /** `server.host` is its name in reports. */
  readonly server: ClickHouse;
  /** Positions in the topology, from 0. */
  readonly shard: number;
  readonly replica: number;
}

/** A member of the cluster that could not be asked: nothing is done that would have to reach it. */
export interface MissingHost {
  readonly host: string;
  readonly shard: number;
  readonly replica: number;
  /** In words. */
  readonly why: string;
}

/** What the settings say of the tables and of the migrator, the same for whoever looks. */
export function fromSettings({ clickhouse, migrations, retention, tenants }: Settings) {
  return {
    database: clickhouse.database,
    retention,
    outageHoursMax: clickhouse.outageHoursMax,
    storagePolicy: clickhouse.storagePolicy,
    tenantColumn: tenants.column,
    migrationsDir: migrations.dir,
    waitMsMax: migrations.waitMsMax,
  } satisfies Partial<MigrateContext>;
}

export interface MigrateContext {
  /** Shard by shard, replica by replica. One, with shard and replica 0, for a single server. */
  readonly hosts: readonly MigrateHost[];
  readonly missing: readonly MissingHost[];
  /** What is wrong with the cluster as a whole, in words: apply refuses while there is any. */
  readonly faults?: readonly string[];
  readonly layout: Layout;
  readonly database: string;
  readonly retention: Settings['retention'];
  readonly outageHoursMax: number;
  /** Empty leaves it to the server. */
  readonly storagePolicy: string;
  /** Whether the tables shall have a column `Tenant` (sql/optional/tenant_column.sql). */
  readonly tenantColumn: boolean;
  /** Settings' `migrations.dir`: the default means the program's own folder alone. */
  readonly migrationsDir: string;
  /** Bound of one statement, mutation, task of the DDL queue, or wait for the lock. */
  readonly waitMsMax: number;
  /** Of this program, for the ledger. */
  readonly version: string;
  readonly logger: Logger;
  /**
   * Called before every statement that changes something: rejects with a Fault when the lock was lost.
   * Missing where nobody took one (plan, status, verify, --no-lock).
   */
  readonly guard?: () => Promise<void>;
}
