/** What the commands of `sluice migrate` say to people. */
import { tickMs } from '../base/clock.ts';
import type { HostAdoption } from '../migrate/adopt.ts';
import { type HostVerification, verificationLines } from '../migrate/difference.ts';
import type { HostRepair, RepairAction } from '../migrate/repair.ts';
import type {
  HostPlan,
  HostReport,
  HostStatus,
  PlannedMigration,
  PlannedStatement,
} from '../migrate/reports.ts';
import type { StepProgress } from '../migrate/run-step.ts';
import { printTable } from './print.ts';

/** Hosts with what is wrong at each, then the steps once, in their order, with the hosts of each. */
export function printPlans(plans: readonly HostPlan[]): void {
  for (const { host, refusals } of plans) {
    for (const refusal of refusals) console.log(`${host}: refused: ${refusal}`);
  }
  const migrations = new Map(
    plans.flatMap(({ pending }) => pending.map((migration) => [keyOf(migration), migration])),
  );
  for (const migration of migrations.values()) printMigration(migration, plans);
  for (const { host, ttlChanges, settingChanges, ttlForeign } of plans) {
    for (const { table, from, to, cost } of ttlChanges) {
      console.log(`${host}: TTL of ${table}: "${from}" becomes "${to}" (${cost})`);
    }
    for (const { table, from, to } of settingChanges) {
      console.log(`${host}: settings of ${table}: "${from}" becomes "${to}"`);
    }
    for (const table of ttlForeign) console.log(`${host}: ${table}: its TTL was written by hand and stays`);
  }
  for (const plan of plans.filter(isQuiet)) console.log(`${plan.host}: nothing to do`);
}

function isQuiet({ refusals, pending, ttlChanges, settingChanges }: HostPlan): boolean {
  return refusals.length + pending.length + ttlChanges.length + settingChanges.length === 0;
}

const keyOf = ({ origin, name }: PlannedMigration) => `${origin} ${name}`;

function printMigration(migration: PlannedMigration, plans: readonly HostPlan[]): void {
  const hosts = plans.flatMap(({ host, pending }) => {
    const own = pending.find((candidate) => keyOf(candidate) === keyOf(migration));
    return own === undefined ? [] : [{ host, statements: own.statements }];
  });
  console.log(migration.name);
  const all = hosts.flatMap(({ host, statements }) => statements.map((statement) => ({ host, statement })));
  if (all.length === 0) {
    console.log(`  only recorded, on ${hosts.map(({ host }) => host).join(', ')}: nothing has to be run`);
  }
  const numbers = [...new Set(all.map(({ statement }) => statement.step))].sort((a, b) => a - b);
  for (const number of numbers) {
    const here = all.filter(({ statement }) => statement.step === number);
    const texts = [...new Set(here.map(({ statement }) => statement.sql))];
    for (const sql of texts) {
      printStep(
        number,
        here.filter(({ statement }) => statement.sql === sql),
      );
    }
  }
}

interface Placed {
  readonly host: string;
  readonly statement: PlannedStatement;
}

const ROLE_WORDS = { run: 'runs on', follow: 'reaches by replication', skip: 'done on' } as const;

function printStep(number: number, placed: readonly Placed[]): void {
  const [first] = placed;
  if (first === undefined) return;
  const { kind, cost, sql } = first.statement;
  console.log(`  step ${number}: ${kind}, ${cost}`);
  for (const role of ['run', 'follow', 'skip'] as const) {
    const hosts = placed.filter(({ statement }) => statement.role === role);
    if (hosts.length === 0) continue;
    const why =
      role === 'follow' ? '' : ` (${[...new Set(hosts.map(({ statement }) => statement.why))].join('; ')})`;
    console.log(`    ${ROLE_WORDS[role]} ${hosts.map(({ host }) => host).join(', ')}${why}`);
  }
  for (const { host, statement } of placed) {
    if (statement.bytes !== undefined) console.log(`    up to ${readable(statement.bytes)} on ${host}`);
  }
  console.log(`${sql.trim().replace(/^/gm, '      ')};`);
}

function readable(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = bytes === 0 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** power;
  return `${power === 0 ? value : value.toFixed(1)} ${units[power]}`;
}

/**
 * Lines for standard error while it runs.
 * @param startMs on the monotonic clock
 */
export function printProgress(startMs: number): (progress: StepProgress, step: number, of: number) => void {
  return ({ step, host, what }, number, of) => {
    const seconds = ((tickMs() - startMs) / 1000).toFixed(1);
    const done = what === 'ran' ? '' : ' (was there)';
    console.error(`[${number}/${of}] ${seconds} s  ${step.migration.name} on ${host}${done}`);
  };
}

export function printReport({ host, applied, ttlChanged, settingsChanged }: HostReport): void {
  const settings = settingsChanged.length === 0 ? '' : `, ${settingsChanged.length} settings changed`;
  console.log(`${host}: ${applied.length} migrations applied, ${ttlChanged.length} TTLs changed${settings}`);
  for (const { name, durationMs } of applied) console.log(`  ${name} (${durationMs} ms)`);
}

export function printStatus({ host, missing, migrations, refusals }: HostStatus): void {
  console.log(`${host}:${missing === undefined ? '' : ` ${missing}`}`);
  for (const refusal of refusals) console.log(`  refused: ${refusal}`);
  if (missing !== undefined) return;
  printTable(
    ['number', 'name', 'state', 'checksum', 'applied at', 'ms', 'by version'],
    migrations.map((migration) => {
      const { number, name, state } = migration;
      if (state === 'pending') return [String(number), name, state, '', '', '', ''];
      const { checksum, appliedAt, durationMs, version } = migration;
      return [String(number), name, state, checksum.slice(0, 12), appliedAt, String(durationMs), version];
    }),
  );
}

export function printVerification(verification: HostVerification): void {
  for (const line of verificationLines(verification)) console.log(line);
}

/** @param dryRun what is said is what would be done */
export function printRepair({ host, actions, failures, left }: HostRepair, dryRun: boolean): void {
  const quiet = actions.length + failures.length + left.length === 0;
  console.log(quiet ? `${host}: as declared, nothing to do` : `${host}:`);
  printActions(actions, failures, dryRun);
  if (left.length > 0) {
    const differences = left.length === 1 ? '1 difference is' : `${left.length} differences are`;
    console.log(`  ${differences} left for you to decide: sluice migrate verify shows them`);
  }
}

/** @param dryRun what is said is what would be done */
export function printAdoption(adoption: HostAdoption, dryRun: boolean): void {
  const { host, actions, notes, failures, repair } = adoption;
  const quiet = actions.length + notes.length + failures.length === 0;
  console.log(quiet ? `${host}: nothing to take over` : `${host}:`);
  printActions(actions, failures, dryRun);
  for (const note of notes) console.log(`  note: ${note}`);
  if (repair !== undefined) printRepair(repair, dryRun);
}

function printActions(actions: readonly RepairAction[], failures: readonly string[], dryRun: boolean): void {
  for (const { table, what, sql } of actions) {
    const named = [table, what].filter((text) => text !== '').join(': ');
    console.log(`  ${dryRun ? 'would be done: ' : ''}${named}`);
    if (dryRun) for (const statement of sql) console.log(`${statement.trim().replace(/^/gm, '    ')};`);
  }
  for (const failure of failures) console.log(`  failed: ${failure}`);
}

export function printGrants(role: { readonly role: string; readonly statements: readonly string[] }): void {
  console.log(
    `-- ${role.role}${role.statements.length === 0 ? ': nothing, it does not talk to ClickHouse' : ''}`,
  );
  for (const statement of role.statements) console.log(`${statement};`);
}
