/**
 * Brings hosts that are new, emptied or drifted to the declared state. A missing table is made like that of a
 * healthy host; what can be changed as metadata is changed; nothing is dropped and no data is written anew:
 * that is reported, with the statement to run.
 *
 * Everything is decided by what the hosts show, so a repair that was interrupted anywhere goes on when it is
 * started again, and one of healthy hosts does nothing.
 */
import { Fault } from '../base/errors.ts';
import { type ClickHouse, command, query } from '../clickhouse/client.ts';
import { type Clone, cloneFor, isRefusal } from './clone.ts';
import type { MigrateContext } from './context.ts';
import { copyLedger, missingEntries } from './copy-ledger.ts';
import type { Difference, Remedy } from './difference.ts';
import { LockLost, guarded } from './lock.ts';
import { type Run, isKnownReplica, isStuckEmpty, reattach, revive, waitForParts } from './replica.ts';
import { quote } from './sql.ts';
import { type TableState, fullName, isReplicated } from './state.ts';
import { type Verified, verifyAll } from './verify.ts';
import { tableText } from './write-ddl.ts';

export interface RepairOptions {
  /** Says what would be done and changes nothing. */
  readonly dryRun?: boolean;
}

export interface RepairAction {
  /** `database.table`, or empty for the ledger. */
  readonly table: string;
  /** In words. */
  readonly what: string;
  readonly sql: readonly string[];
}

export interface HostRepair {
  readonly host: string;
  readonly shard: number;
  readonly replica: number;
  /** Done; with `dryRun` to be done. */
  readonly actions: readonly RepairAction[];
  /** What was tried or refused, a sentence each. */
  readonly failures: readonly string[];
  /** Errors that remain, for somebody to decide. */
  readonly left: readonly Difference[];
}

interface Work {
  readonly context: MigrateContext;
  readonly all: readonly Verified[];
  readonly dryRun: boolean;
  readonly run: Run;
  /** ALTERs that one replica of a shard has run: they reach the others by themselves. */
  readonly travelled: Set<string>;
}

interface HostWork {
  readonly host: Verified;
  readonly actions: RepairAction[];
  readonly failures: string[];
}

/**
 * Host by host. The lock is the caller's; `context.guard` is asked before each statement.
 * @throws ConfigurationError when the migrations can't be read, Fault when hosts disagree about the cluster,
 *   one can't be asked, or the lock was lost. A statement that fails is a failure of its host, and the rest
 *   goes on.
 */
export async function repairHosts(
  context: MigrateContext,
  { dryRun = false }: RepairOptions = {},
): Promise<HostRepair[]> {
  if (!dryRun) refuseDisagreement(context);
  const all = await verifyAll(context);
  const run = async (server: ClickHouse, sql: string) => {
    await guarded(context);
    await command(server, sql, {}, context.waitMsMax);
  };
  const work: Work = { context, all, dryRun, run, travelled: new Set() };
  const done: HostWork[] = [];
  for (const host of all) done.push(await repairHost(host, work));
  const after = dryRun ? all : await verifyAll(context);
  return [
    ...done.map(({ host, actions, failures }) => {
      const { differences = [] } = after.find(({ view }) => view.name === host.view.name)?.verification ?? {};
      const left = differences.filter(({ severity }) => severity === 'error');
      const mended = ({ kind, remedy }: Difference) => kind === 'missing table' || remedy?.cost === 'instant';
      const { name, shard, replica } = host.view;
      const stays = dryRun ? left.filter((difference) => !mended(difference)) : left;
      return { host: name, shard, replica, actions, failures, left: stays };
    }),
    ...context.missing.map(({ host, shard, replica, why }) => {
      const failures = [`${host} can't be reached, nothing was done there: ${why}`];
      return { host, shard, replica, actions: [], failures, left: [] };
    }),
  ];
}

/** A host may well be away; but where hosts don't agree on what the cluster is, nothing can be made right. */
function refuseDisagreement({ faults = [] }: MigrateContext): void {
  if (faults.length === 0) return;
  throw new Fault(
    'migrate_disagreement',
    'here',
    `nothing was repaired, since the cluster isn't what it should be:\n  ${faults.join('\n  ')}\n` +
      '`sluice topology check` says more; run `sluice migrate repair` again when it is mended',
  );
}

async function repairHost(host: Verified, work: Work): Promise<HostWork> {
  const own: HostWork = { host, actions: [], failures: [] };
  await createDatabases(own, work);
  const made = await createTables(own, work);
  await finishStuck(own, work);
  await alterTables(own, work);
  for (const clone of made) await catchUp(own, clone, work);
  if (own.failures.length === 0) await completeLedger(own, work);
  return own;
}

/** Runs `body`; what the world refuses becomes a failure of the host. @returns whether it worked */
async function attempt(own: HostWork, what: string, body: () => Promise<void>): Promise<boolean> {
  try {
    await body();
    return true;
  } catch (error) {
    if (!(error instanceof Fault) || error instanceof LockLost) throw error;
    own.failures.push(`${what}: ${error.message}`);
    return false;
  }
}

function missingTables({ verification, declared }: Verified): string[] {
  const missing = verification.differences.filter(({ kind }) => kind === 'missing table');
  const rank = (table: string) =>
    ['table', 'distributed', 'view'].indexOf(declared.tables.get(table)?.kind ?? 'table');
  return missing.map(({ table }) => table).sort((a, b) => rank(a) - rank(b));
}

const DATABASES = 'SELECT name FROM system.databases';

async function createDatabases(own: HostWork, { run, dryRun }: Work): Promise<void> {
  const { server } = own.host.view;
  const there = new Set((await query<{ name: string }>(server, DATABASES)).map(({ name }) => name));
  const tables = missingTables(own.host).map((table) => own.host.declared.tables.get(table));
  const wanted = new Set(tables.flatMap((table) => (table === undefined ? [] : [table.database])));
  for (const database of wanted) {
    if (dryRun || there.has(database)) continue;
    const sql = `CREATE DATABASE IF NOT EXISTS ${quote(database)}`;
    await attempt(own, `the database ${database}`, () => run(server, sql));
  }
}

/** @returns what was made and has rows elsewhere */
async function createTables(own: HostWork, work: Work): Promise<Clone[]> {
  const made: Clone[] = [];
  for (const table of missingTables(own.host)) {
    const clone = cloneFor(table, own.host, work.all);
    if (isRefusal(clone)) {
      own.failures.push(`${table} can't be made on ${own.host.view.name}: ${clone.why}`);
      continue;
    }
    if (work.dryRun || (await attempt(own, table, () => create(own.host, clone, work)))) {
      own.actions.push({ table, what: `made ${clone.source}`, sql: [clone.sql] });
      work.context.logger.info({ host: own.host.view.name, table }, `made ${clone.source}`);
      if (isReplicated(clone.state)) made.push(clone);
    }
  }
  return made;
}

async function create({ view }: Verified, clone: Clone, { run, context }: Work): Promise<void> {
  const { server, info } = view;
  try {
    await run(server, clone.sql);
  } catch (error) {
    if (!isKnownReplica(error)) throw error;
    const { waitMsMax } = context;
    await revive({ server, major: info.version.major, clone, waitMsMax }, run);
  }
}

/** Empty tables beside a replica with rows: an earlier repair ended between two statements. */
async function finishStuck(own: HostWork, { all, run, dryRun, context }: Work): Promise<void> {
  const { view, real, declared } = own.host;
  for (const table of declared.tables.keys()) {
    const state = real.tables.get(table);
    const peer = peerWith(table, own.host, all);
    if (state?.replica === undefined || peer === undefined) continue;
    const { queueSize } = state.replica;
    await attempt(own, table, async () => {
      if (!(await isStuckEmpty(view.server, peer.view.server, table))) return;
      own.actions.push({ table, what: `filled from ${peer.view.name}, since it was empty`, sql: [] });
      if (dryRun) return;
      // With something in its queue it is at work already.
      if (queueSize === 0) await reattach(view.server, state.text, tableText(state), run);
      await waitForParts(view.server, peer.view.server, table, context.waitMsMax);
    });
  }
}

/** Another replica of the same shard that has the table at the same place in Keeper. */
function peerWith(table: string, host: Verified, all: readonly Verified[]): Verified | undefined {
  const path = host.real.tables.get(table)?.replica?.path;
  return all.find(
    (other) =>
      other !== host &&
      other.view.shard === host.view.shard &&
      path !== undefined &&
      other.real.tables.get(table)?.replica?.path === path,
  );
}

async function catchUp(own: HostWork, { state, peer }: Clone, { context, dryRun }: Work): Promise<void> {
  if (peer === undefined || dryRun) return;
  const table = fullName(state);
  await attempt(own, table, () =>
    waitForParts(own.host.view.server, peer.view.server, table, context.waitMsMax),
  );
}

async function alterTables(own: HostWork, work: Work): Promise<void> {
  for (const difference of own.host.verification.differences) {
    const { remedy, severity, table } = difference;
    if (severity !== 'error' || remedy?.cost !== 'instant') continue;
    const what = [difference.kind, difference.item].filter((text) => text !== '').join(' ');
    const state = own.host.real.tables.get(table);
    if (work.dryRun || (await attempt(own, table, () => alter(own.host, difference, remedy, state, work)))) {
      own.actions.push({ table, what, sql: [remedy.sql] });
      work.context.logger.info({ host: own.host.view.name, table, sql: remedy.sql }, `mended: ${what}`);
    }
  }
}

/** Settings and a view's query are each replica's own; everything else reaches the others through Keeper. */
const OWN_OF_REPLICA: readonly Difference['kind'][] = ['setting', 'view'];

async function alter(
  { view }: Verified,
  difference: Difference,
  { sql, settings }: Remedy,
  state: TableState | undefined,
  { context, travelled }: Work,
): Promise<void> {
  const travels = state !== undefined && isReplicated(state) && !OWN_OF_REPLICA.includes(difference.kind);
  const key = `${view.shard} ${sql}`;
  if (travels && travelled.has(key)) return;
  await guarded(context);
  try {
    await command(view.server, sql, settings, context.waitMsMax);
  } catch (error) {
    // The ALTER of another replica may have arrived meanwhile, and old servers know no IF NOT EXISTS.
    if (!(error instanceof Fault) || (await isOpen(view.name, difference, context))) throw error;
  }
  if (travels) travelled.add(key);
}

async function isOpen(host: string, wanted: Difference, context: MigrateContext): Promise<boolean> {
  const now = await verifyAll(context);
  const { differences = [] } = now.find(({ view }) => view.name === host)?.verification ?? {};
  return differences.some(
    ({ kind, table, item }) => kind === wanted.kind && table === wanted.table && item === wanted.item,
  );
}

/** From the host whose ledger says most. */
async function completeLedger(own: HostWork, { all, run, dryRun, context }: Work): Promise<void> {
  const { view } = own.host;
  const [best] = [...all].sort((a, b) => b.view.ledger.entries.length - a.view.ledger.entries.length);
  if (best === undefined || best.view.name === view.name) return;
  const entries = missingEntries(best.view.ledger, view.ledger);
  if (entries.length === 0) return;
  const what = `ledger: ${entries.length} rows as on ${best.view.name}`;
  const copied =
    dryRun ||
    (await attempt(own, 'the ledger', () => copyLedger(view.server, context.database, entries, run)));
  if (copied) own.actions.push({ table: '', what, sql: [] });
}
