/**
 * The least rights that each role needs in ClickHouse: as GRANTs, and as a file for `users.d`. Pure. They are
 * what the program's own queries read and change: a test runs those as the users that are made here. Every
 * host of a cluster needs the same users.
 */
import { literal } from '../clickhouse/quote.ts';
import { TABLES } from '../model/signal.ts';
import { LEDGER_TABLE } from './ledger.ts';
import { type RenderContext, localName } from './placeholders.ts';
import { quote } from './sql.ts';

/** The gateway talks to Redis alone; readers are Grafana and its kind. */
export const GRANT_ROLES = ['gateway', 'writer', 'migrator', 'reader'] as const;
export type GrantRole = (typeof GRANT_ROLES)[number];

type Place = Pick<RenderContext, 'database' | 'cluster' | 'replicated' | 'onCluster'>;

export interface GrantContext extends Place {
  readonly server: { readonly version: { readonly major: number; readonly minor: number } };
  /** The tables have a column `Tenant`: there may be readers who see one tenant's rows. */
  readonly tenantColumn?: boolean;
}

/** A user to be made. */
export interface GrantUser {
  readonly role: GrantRole;
  readonly name: string;
  /** SHA-256 of the password, in hex. */
  readonly passwordSha256: string;
  /** Of a reader who sees this tenant's rows alone. */
  readonly tenant?: string;
}

/** Filled by a view of the spans: who inserts these needs rights on what the view reads and fills. */
const TIME_RANGES = 'otel_traces_trace_id_ts';
const VIEW_READS = ['TraceId', 'Timestamp'];
const TENANT = 'Tenant';
/** The policy by which everybody else sees all rows. */
const EVERYBODY_ELSE = 'sluice_all_tenants';
/** System tables that are looked at; others (settings, databases, tables, columns) are open to all. */
const WATCHED = ['clusters', 'disks', 'macros', 'merge_tree_settings', 'parts', 'processes', 'replicas'];
const KEEPER = ['zookeeper', 'zookeeper_connection'];
const MIGRATED = ['distributed_ddl_queue', 'mutations'];
/** Since then an engine may need a right of its own, and no version before knows such a right. */
const ENGINE_RIGHTS_SINCE = { major: 24, minor: 4 } as const;
/**
 * A reader may send settings with a query, as Grafana does, and change nothing. Joins of Distributed tables
 * with each other are refused without the second.
 */
const READER_SETTINGS = { readonly: '2', distributed_product_mode: 'global' } as const;

/** `GRANT … ON …`, without the user; none for the gateway. */
export function grantsFor(context: GrantContext, role: GrantRole): string[] {
  switch (role) {
    case 'gateway':
      return [];
    case 'writer':
      return writerGrants(context);
    case 'migrator':
      return migratorGrants(context);
    case 'reader':
      return readerGrants(context);
  }
}

/** What an administrator runs for a user that exists, on every host. */
export function grantStatements(context: GrantContext, role: GrantRole, user: string): string[] {
  const grants = grantsFor(context, role).map((grant) => `${grant} TO ${quote(user)}`);
  return role === 'reader' ? [...grants, `ALTER USER ${quote(user)} SETTINGS ${readerSettings()}`] : grants;
}

/** Who reads one tenant's rows, unless the administrator calls the user otherwise. */
export function tenantReader(tenant: string): string {
  return `sluice_reader_${tenant}`;
}

/**
 * What an administrator runs on every host for users that exist, so that each reads the rows of one tenant.
 * A policy hides rows from those whom it names; whether others see any then depends on a setting of the
 * server (users_without_row_policies_can_read_rows), so they have a policy of their own. It names the
 * tenants' readers: all of this is run again with each further tenant. Rights come last, so nobody sees
 * more meanwhile. Policies count on the local tables, also for who reads through a Distributed one, since
 * the servers hand on who asks; those on the Distributed tables count nowhere today and cost nothing.
 * @param tenants their names; those that are in no policy have no reader
 */
export function tenantStatements(context: GrantContext, tenants: readonly string[]): string[] {
  if (context.tenantColumn !== true || tenants.length === 0) return [];
  const users = tenants.map((tenant) => quote(tenantReader(tenant)));
  const policy = (name: string, table: string, condition: string, to: string) =>
    `CREATE ROW POLICY OR REPLACE ${name} ON ${table} FOR SELECT USING ${condition} TO ${to}`;
  const tables = readTables(context);
  const all = tables.map((table) =>
    policy(EVERYBODY_ELSE, table, '1', `ALL EXCEPT ${users.join(', ')}`),
  );
  const own = tenants.flatMap((tenant, index) => {
    const user = users[index] ?? '';
    return [
      ...tables.map((table) => policy(user, table, `${TENANT} = ${literal(tenant)}`, user)),
      ...grantStatements(context, 'reader', tenantReader(tenant)),
    ];
  });
  return [...all, ...own];
}

/** The same as a file for `/etc/clickhouse-server/users.d`, which also makes the users. */
export function usersXml(context: GrantContext, users: readonly GrantUser[]): string {
  const profile = Object.entries(READER_SETTINGS).map(([name, value]) => `<${name}>${value}</${name}>`);
  return `<clickhouse>
  <profiles>
    <sluice_reader><profile>default</profile>${profile.join('')}</sluice_reader>
  </profiles>
  <users>
${users.map((user) => userXml(context, user)).join('\n')}
  </users>
</clickhouse>
`;
}

/**
 * Inserts, and looks at what health, topology and drift of the schema are about. The columns that the view
 * reads are all that it can read of the rows.
 */
function writerGrants(context: GrantContext): string[] {
  const local = (table: string) => tableOf(context, localName(table, context));
  const keeper = context.cluster === undefined ? [] : KEEPER;
  const viewReads = context.tenantColumn === true ? [...VIEW_READS, TENANT] : VIEW_READS;
  return [
    ...[...TABLES, TIME_RANGES].map((table) => `GRANT INSERT ON ${local(table)}`),
    `GRANT SELECT(${viewReads.join(', ')}) ON ${local('otel_traces')}`,
    // Which tables there are, how they were made, and what was applied.
    `GRANT SHOW TABLES ON ${quote(context.database)}.*`,
    `GRANT SELECT ON ${tableOf(context, LEDGER_TABLE)}`,
    ...readsOf([...WATCHED, ...keeper]),
    ...remote(context),
  ];
}

/** Everything in its one database but to drop it. */
function migratorGrants(context: GrantContext): string[] {
  const { major, minor } = context.server.version;
  const { major: sinceMajor, minor: sinceMinor } = ENGINE_RIGHTS_SINCE;
  const hasEngineRights = major > sinceMajor || (major === sinceMajor && minor >= sinceMinor);
  const prefix = context.replicated ? ['MergeTree', 'ReplicatedMergeTree'] : ['MergeTree'];
  const engines = context.cluster === undefined ? prefix : [...prefix, 'Distributed'];
  const rights = [
    'CREATE DATABASE, CREATE TABLE, CREATE VIEW',
    'ALTER TABLE, ALTER VIEW',
    'DROP TABLE, DROP VIEW, TRUNCATE',
    // A view may be made by who may read what it reads, and write what it fills.
    'SELECT, INSERT',
    // Adopt holds them while it compares the parts of two tables.
    'SYSTEM MERGES',
  ];
  return [
    `GRANT ${rights.join(', ')} ON ${quote(context.database)}.*`,
    ...(hasEngineRights ? engines.map((engine) => `GRANT TABLE ENGINE ON ${engine}`) : []),
    ...readsOf([...WATCHED, ...KEEPER, ...MIGRATED]),
    ...(context.onCluster ? ['GRANT CLUSTER ON *.*'] : []),
    // Repair has Keeper forget a replica whose disk was lost; ClickHouse refuses it for one that is alive.
    ...(context.replicated ? ['GRANT SYSTEM DROP REPLICA ON *.*'] : []),
    ...remote(context),
  ];
}

/** A Distributed table reads the local one on the same host with the reader's own rights. */
function readerGrants(context: GrantContext): string[] {
  return readTables(context).map((table) => `GRANT SELECT ON ${table}`);
}

function readTables(context: GrantContext): string[] {
  const names = [...TABLES, TIME_RANGES].flatMap((table) => [table, localName(table, context)]);
  return [...new Set(names)].map((table) => tableOf(context, table));
}

/**
 * To make Distributed tables, and to find out which address leads to which member of the cluster: hosts are
 * told to ask each other.
 */
function remote({ cluster }: GrantContext): string[] {
  return cluster === undefined ? [] : ['GRANT REMOTE ON *.*'];
}

function readsOf(systemTables: readonly string[]): string[] {
  return systemTables.map((table) => `GRANT SELECT ON system.${table}`);
}

function readerSettings(): string {
  const { readonly, distributed_product_mode: mode } = READER_SETTINGS;
  return `readonly = ${readonly}, distributed_product_mode = '${mode}'`;
}

function tableOf({ database }: GrantContext, table: string): string {
  return `${quote(database)}.${quote(table)}`;
}

function userXml(context: GrantContext, { role, name, passwordSha256, tenant }: GrantUser): string {
  const profile = role === 'reader' ? 'sluice_reader' : 'default';
  const grants = grantsFor(context, role).map((grant) => `        <query>${grant}</query>`);
  return `    <${name}>
      <password_sha256_hex>${passwordSha256}</password_sha256_hex>
      <networks><ip>::/0</ip></networks>
      <profile>${profile}</profile>
      <quota>default</quota>
      <grants>
${grants.join('\n')}
      </grants>${tenant === undefined ? '' : filtersXml(context, tenant)}
    </${name}>`;
}

/** Names of tables and tenants have no character that means something in XML. */
function filtersXml(context: GrantContext, tenant: string): string {
  const names = new Set([...TABLES, TIME_RANGES].flatMap((table) => [table, localName(table, context)]));
  const filter = `<filter>${TENANT} = '${tenant}'</filter>`;
  const lines = [...names].map((name) => `          <${name}>${filter}</${name}>`);
  return `
      <databases>
        <${context.database}>
${lines.join('\n')}
        </${context.database}>
      </databases>`;
}
