/**
 * Takes over tables that were there before: of a single server that becomes a cluster, of a cluster that was
 * not replicated, or of the collector's ClickHouse exporter. Their rows stay where they are on the disk.
 *
 * Per host: each table gets the name and the engine that are declared, views are made anew on the local
 * tables, and the ledger says what is there. Then repair completes all hosts: missing columns, settings,
 * Distributed tables, hosts that have nothing yet. Writers have to be stopped meanwhile; that is looked at.
 */
import { Fault } from '../base/errors.ts';
import { command, query } from '../clickhouse/client.ts';
import { type Takeover, notesOf, planTakeovers } from './adopt-plan.ts';
import { type TakeoverRun, syncOf, takeOver } from './adopt-table.ts';
import { planViews } from './adopt-views.ts';
import type { MigrateContext } from './context.ts';
import { type Declared, foldStatements } from './declared.ts';
import { parseDdl } from './ddl.ts';
import { ADOPTED, keepsItsOwn } from './diff.ts';
import { createLedger, recordMigration } from './ledger.ts';
import { LockLost, guarded } from './lock.ts';
import { type Migration, ORIGINS } from './migration.ts';
import { localName, localTableOf } from './placeholders.ts';
import { type RealState, formatted, readReal } from './real.ts';
import { renderMigration } from './render.ts';
import { type HostRepair, type RepairAction, repairHosts } from './repair.ts';
import { literal } from '../clickhouse/quote.ts';
import { type TableState, fullName } from './state.ts';
import { type HostView, survey } from './survey.ts';
import { tableText } from './write-ddl.ts';

export interface AdoptOptions {
  /** Says what would be done and changes nothing. */
  readonly dryRun?: boolean;
}

export interface HostAdoption {
  readonly host: string;
  readonly shard: number;
  readonly replica: number;
  /** Done; with `dryRun` to be done. What repair adds afterwards is in `repair`. */
  readonly actions: readonly RepairAction[];
  /** What stays different and what the owner should know, a sentence each. */
  readonly notes: readonly string[];
  /** What could not be taken over, a sentence each. */
  readonly failures: readonly string[];
  readonly repair: HostRepair | undefined;
}

interface AdoptHost {
  readonly view: HostView;
  readonly declared: Declared;
  readonly real: RealState;
  /** By `database.table`. */
  readonly rows: ReadonlyMap<string, number>;
  readonly takeovers: readonly Takeover[];
  /** The ledger lacks migrations whose tables are there. */
  readonly isNew: boolean;
  readonly actions: RepairAction[];
  readonly notes: string[];
  readonly failures: string[];
}

/**
 * The lock is the caller's; `context.guard` is asked before each statement. An adopt that was interrupted
 * goes on when it is started again.
 * @throws ConfigurationError when the migrations can't be read, Fault when a host can't be asked or the lock
 *   was lost
 */
export async function adoptTables(
  context: MigrateContext,
  { dryRun = false }: AdoptOptions = {},
): Promise<HostAdoption[]> {
  if (!dryRun) refuseIncomplete(context);
  const { views, migrations } = await survey(context);
  const hosts: AdoptHost[] = [];
  for (const view of views) hosts.push(await planHost(view, migrations, context));
  for (const host of hosts) await adoptHost(host, hosts, context, dryRun);
  const whole = hosts.every(({ failures }) => failures.length === 0);
  if (whole && !dryRun) {
    for (const host of hosts.filter(({ isNew }) => isNew)) await recordAll(host, migrations, context);
  }
  const hasLedger = hosts.some(({ isNew, view }) => isNew || view.ledger.entries.length > 0);
  const repairs = whole && hasLedger && !dryRun ? await repairHosts(context) : [];
  return hosts.map(({ view, actions, notes, failures }) => {
    const { name: host, shard, replica } = view;
    const repair = repairs.find((each) => each.host === host);
    return { host, shard, replica, actions, notes, failures, repair };
  });
}

/** @throws Fault where a host that may have rows can't be asked, or the hosts don't agree */
function refuseIncomplete({ missing, faults = [] }: MigrateContext): void {
  const reasons = [...faults, ...missing.map(({ host, why }) => `${host} can't be reached: ${why}`)];
  if (reasons.length === 0) return;
  throw new Fault(
    'migrate_incomplete',
    'here',
    'nothing was taken over, since every host of the cluster has to be there and agree:\n  ' +
      reasons.join('\n  '),
  );
}

async function planHost(
  view: HostView,
  migrations: readonly Migration[],
  context: MigrateContext,
): Promise<AdoptHost> {
  const statements = migrations.flatMap((migration) => renderMigration(migration, view.render));
  const texts = await formatted(
    view.server,
    statements.map(({ sql }) => sql),
  );
  const declared = foldStatements(texts);
  const real = await readReal(view.server, [context.database]);
  const { database, layout } = context;
  const rows = await rowsOfTables(view, database);
  const localOf = (name: string) =>
    declared.tables.get(fullName({ database, table: localName(name, layout) }));
  const names = baseNames(migrations);
  const { takeovers, obstacles } = planTakeovers(names, localOf, real, (table) => rows.get(table) ?? 0);
  const isNew = takeovers.length > 0 && view.ledger.entries.length < recordable(migrations, view).length;
  const found = { view, declared, real, rows, takeovers, isNew };
  const host: AdoptHost = { ...found, actions: [], notes: [], failures: [] };
  host.failures.push(...obstacles.map(({ table, why }) => `${table} can't be taken over: ${why}`));
  for (const { declared: local, from, how } of takeovers) {
    if (how === 'keep' && !isNew) continue;
    if (how === 'replicate') host.notes.push(windowNote(from));
    host.notes.push(...notesOf(local, from), ...ttlNotes(local, from));
    host.failures.push(...(await typeFailures(view, local, from)));
  }
  return host;
}

/** Tables as readers call them. */
function baseNames(migrations: readonly Migration[]): string[] {
  const texts = migrations.flatMap(({ steps }) => steps).map(({ text }) => text);
  return [...new Set(texts.flatMap((text) => localTableOf(text) ?? []))];
}

async function rowsOfTables({ server }: HostView, database: string): Promise<Map<string, number>> {
  const rows = await query<{ table: string; row_count: string }>(
    server,
    `SELECT table, toString(sum(rows)) AS row_count FROM system.parts
WHERE active AND database = ${literal(database)} GROUP BY table`,
  );
  return new Map(rows.map(({ table, row_count: count }) => [fullName({ database, table }), Number(count)]));
}

/** What a table remembers of its inserts stays with it. */
function windowNote(from: TableState): string {
  return (
    `the table that ${fullName(from)} becomes does not know its inserts: let the queue run empty before ` +
    'the writers are stopped, or a batch that was inserted but not confirmed is stored twice'
  );
}

function ttlNotes(declared: TableState, from: TableState): string[] {
  if (from.ttl === '' || from.ttl === declared.ttl) return [];
  const now = declared.ttl === '' ? 'nothing' : declared.ttl;
  return [
    `${fullName(from)} has the TTL ${from.ttl}, the settings say ${now}. Longer is set now; shorter by the ` +
      'next apply, which deletes what is older: set SLUICE_RETENTION_DAYS_… before where that is not meant',
  ];
}

/** Blocks bring the declared types: a column whose type they don't convert to would refuse every insert. */
async function typeFailures(
  { server, info }: HostView,
  declared: TableState,
  from: TableState,
): Promise<string[]> {
  // Before, the function that makes a value of any type wasn't there.
  if (info.version.major < 22) return [];
  const failures: string[] = [];
  for (const { name, type, default: value } of declared.columns) {
    const found = from.columns.find((column) => column.name === name);
    const isInserted = value === undefined || value.kind === 'DEFAULT';
    if (found === undefined || !isInserted || type === '' || found.type === type) continue;
    try {
      await query(server, `SELECT CAST(defaultValueOfTypeName(${literal(type)}), ${literal(found.type)})`);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      failures.push(`${fullName(from)}.${name} is ${found.type}, and ${type} can't be converted to it`);
    }
  }
  return failures;
}

async function adoptHost(
  host: AdoptHost,
  all: readonly AdoptHost[],
  context: MigrateContext,
  dryRun: boolean,
): Promise<void> {
  // What can't be taken over is said before anything is changed.
  if (host.failures.length > 0) return;
  for (const takeover of host.takeovers) {
    const statements: string[] = [];
    const run = runner(host, context, dryRun, statements);
    const { server, info } = host.view;
    const { waitMsMax } = context;
    try {
      if (takeover.how === 'replicate') await dropEmptyPeers(takeover, host, all, context, dryRun);
      const shared = rivals(takeover, host, all).some((other) => !isEmpty(takeover, other));
      // Before anything else, so that a run that goes on later needn't guess where the table is from.
      const comment = await markAdopted(takeover, host, run);
      const { major } = info.version;
      await takeOver(takeover, { server, major, waitMsMax, dryRun, shared, comment, run });
    } catch (error) {
      if (!(error instanceof Fault) || error instanceof LockLost) throw error;
      host.failures.push(error.message);
    }
    const table = fullName(takeover.from);
    if (statements.some((sql) => !sql.startsWith('SYSTEM')))
      host.actions.push({ table, what: wordsFor(takeover), sql: statements });
    if (host.failures.length > 0) return;
  }
  await adoptViews(host, context, dryRun);
}

function runner({ view }: AdoptHost, context: MigrateContext, dryRun: boolean, statements: string[]) {
  return async (sql: string): Promise<void> => {
    statements.push(sql);
    if (dryRun) return;
    await guarded(context);
    await command(view.server, sql, {}, context.waitMsMax);
    context.logger.info({ host: view.name, sql }, 'adopt');
  };
}

/** Other hosts of the shard that have the table, in whatever form. */
function rivals({ declared }: Takeover, host: AdoptHost, all: readonly AdoptHost[]): AdoptHost[] {
  const table = fullName(declared);
  return all.filter(
    (other) =>
      other !== host &&
      other.view.shard === host.view.shard &&
      other.takeovers.some((each) => fullName(each.declared) === table),
  );
}

function isEmpty({ declared }: Takeover, { takeovers, rows }: AdoptHost): boolean {
  const own = takeovers.find((each) => fullName(each.declared) === fullName(declared));
  return own?.how === 'keep' && (rows.get(fullName(declared)) ?? 0) === 0;
}

/**
 * Replicas of the new table that an apply has made already, of the declared structure, which may not be that
 * of the rows. Repair makes them again, like the one with the rows.
 */
async function dropEmptyPeers(
  takeover: Takeover,
  host: AdoptHost,
  all: readonly AdoptHost[],
  context: MigrateContext,
  dryRun: boolean,
): Promise<void> {
  const others = rivals(takeover, host, all);
  // Where another one has rows, the new table joins it.
  if (others.some((other) => !isEmpty(takeover, other))) return;
  for (const other of others) {
    const sync = syncOf(other.view.info.version.major);
    const sql = `DROP TABLE IF EXISTS ${tableText(takeover.declared)}${sync}`;
    await runner(other, context, dryRun, [])(sql);
    const what = 'dropped, since it is empty and is made again like the one with the rows';
    other.actions.push({ table: fullName(takeover.declared), what, sql: [sql] });
  }
}

function wordsFor({ how, declared, before }: Takeover): string {
  if (how === 'keep') return 'stays, and is marked as adopted';
  if (how === 'rename') return `became ${fullName(declared)}`;
  if (how === 'finish') return `took the name ${fullName(declared)}`;
  const old = `${declared.database}.${before}`;
  return `became the replicated ${fullName(declared)}; the old one is ${old}, to be dropped by hand`;
}

/** Comments of tables can be changed since then. */
const COMMENTS_SINCE_MAJOR = 22;

/**
 * Only a table that isn't quite as declared has to say so.
 * @returns the comment that the table has afterwards
 */
async function markAdopted(
  { declared, from, how }: Takeover,
  { view, real, isNew }: AdoptHost,
  run: TakeoverRun['run'],
): Promise<string> {
  const { version } = view.info;
  const isOurs = how === 'finish' || (how === 'keep' && !isNew);
  const isMarked = from.comment.includes(ADOPTED);
  const facts = { real, version, ttlElsewhere: new Set([fullName(declared)]) };
  if (isOurs || isMarked || version.major < COMMENTS_SINCE_MAJOR || !keepsItsOwn(declared, from, facts)) {
    return from.comment;
  }
  const comment = [from.comment, ADOPTED].filter((text) => text !== '').join('; ');
  await run(`ALTER TABLE ${tableText(from)} MODIFY COMMENT ${literal(comment)}`);
  return comment;
}

async function adoptViews(host: AdoptHost, context: MigrateContext, dryRun: boolean): Promise<void> {
  const { database, layout } = context;
  if (layout.cluster === undefined) return;
  const moved = host.takeovers.map(({ declared }) => {
    const name = declared.table.replace(/_local$/, '');
    return [fullName({ database, table: name }), declared.table] as const;
  });
  const real: RealState = await readReal(host.view.server, [database]);
  const { plans, notes } = planViews(host.declared.tables, real, new Map(moved));
  host.notes.push(...notes);
  for (const { view, statements } of plans) {
    const run = runner(host, context, dryRun, []);
    try {
      for (const sql of statements) await run(sql);
      host.actions.push({ table: view, what: 'made anew on the local table', sql: statements });
    } catch (error) {
      if (!(error instanceof Fault) || error instanceof LockLost) throw error;
      host.failures.push(error.message);
      return;
    }
  }
}

/**
 * Migrations of which the tables say that they were applied: up to the first one of each history that also
 * does what tables don't show, like writing rows. Those after it are left to apply.
 */
function recordable(migrations: readonly Migration[], { render }: HostView): Migration[] {
  const shows = (migration: Migration) =>
    renderMigration(migration, render).every(({ sql }) => {
      const ddl = parseDdl(sql);
      if (ddl.kind !== 'alter') return ddl.kind !== 'other';
      return ddl.commands.every(({ kind }) => kind !== 'mutation' && kind !== 'other');
    });
  return ORIGINS.flatMap((origin) => {
    const history = migrations.filter((migration) => migration.origin === origin);
    const end = history.findIndex((migration) => !shows(migration));
    return end < 0 ? history : history.slice(0, end);
  });
}

async function recordAll(
  { view, actions }: AdoptHost,
  migrations: readonly Migration[],
  context: MigrateContext,
): Promise<void> {
  const { database, version } = context;
  const known = (migration: Migration) =>
    view.ledger.entries.some(
      ({ origin, number }) => origin === migration.origin && number === migration.number,
    );
  const missing = recordable(migrations, view).filter((migration) => !known(migration));
  if (missing.length === 0) return;
  await guarded(context);
  await createLedger(view.server, database);
  for (const migration of missing) {
    await guarded(context);
    await recordMigration(view.server, database, migration, 0, version);
  }
  const names = missing.map(({ name }) => name).join(', ');
  actions.push({ table: '', what: `ledger: ${names}`, sql: [] });
}
