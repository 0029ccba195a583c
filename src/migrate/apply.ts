/**
 * Brings every host to the declared tables. Before anything is changed all is looked at: a history that
 * doesn't fit, a host that is away or new, or a step that loses data stops it there.
 *
 * An interruption at any point is harmless: what is done is read off the hosts themselves (effects.ts), and a
 * migration is recorded on each host after its last step is complete on all of them.
 */
import { tickMs } from '../base/clock.ts';
import { ConfigurationError, Fault } from '../base/errors.ts';
import { command } from '../clickhouse/client.ts';
import type { MigrateContext } from './context.ts';
import { createLedger, readHostLedger, recordMigration } from './ledger.ts';
import type { Migration } from './migration.ts';
import { applyOptional } from './optional.ts';
import { type ClusterPlan, planCluster } from './plan.ts';
import { type ReconcileChange, type ReconcilePlan, planReconcile } from './reconcile.ts';
import type { HostReport } from './reports.ts';
import { type StepProgress, lookEverywhere, runStep } from './run-step.ts';
import { type ClusterStep, nameOf, stepsOf } from './steps.ts';
import { type HostView, type Survey, surveyAloud } from './survey.ts';
import { waitFor } from './wait.ts';

/** The code of the Fault for a host that lacks what others have: repair's business. */
export const HOST_BEHIND = 'migrate_behind';

export interface ApplyOptions {
  /** Steps that lose data may run. */
  readonly allowDrops?: boolean;
  /** Called after each statement, with the number of the step among all that are to be run. */
  readonly progress?: (progress: StepProgress, step: number, of: number) => void;
}

/**
 * Resolves once every host has every table.
 * @throws ConfigurationError when the history of any host is refused, a step would lose data, or a file can't
 *   be read: nothing is changed then. Fault when a host is away or behind (nothing is changed then either), a
 *   statement fails or the lock is lost: it says what was done where.
 */
export async function migrateApply(
  context: MigrateContext,
  options: ApplyOptions = {},
): Promise<HostReport[]> {
  refuseIncomplete(context);
  const found = await surveyAloud(context);
  const plan = planCluster(found.migrations, ledgersOf(found.views));
  refuse(plan);
  const work = plan.pending.map((migration) => ({
    migration,
    // All of them first: a condition that can't be understood is found before anything has been run.
    steps: stepsOf(migration, found.views, context.layout),
  }));
  if (options.allowDrops !== true) refuseDrops(work.flatMap(({ steps }) => steps));
  const applied = new Map(
    found.views.map(({ name }) => [name, [] as { name: string; durationMs: number }[]]),
  );
  await recordMissingRows(plan, found.views, context, applied);
  const prepared = work.length > 0 ? await prepare(found.views, context) : found.views;
  await runAll(work, prepared, context, options, applied);
  const switchedOn = await applyOptional(found, context, options.progress);
  const changed = await reconcileAll(found, context);
  return found.views.map(({ name }) => ({
    host: name,
    applied: [...(applied.get(name) ?? []), ...switchedOn],
    ttlChanged: (changed.get(name) ?? []).filter(({ what }) => what === 'ttl'),
    settingsChanged: (changed.get(name) ?? []).filter(({ what }) => what === 'setting'),
  }));
}

export function ledgersOf(views: readonly HostView[]) {
  return views.map(({ name, ledger }) => ({ host: name, ...ledger }));
}

/** @throws Fault where not every host of the cluster can be changed now */
function refuseIncomplete({ missing, faults = [], hosts }: MigrateContext): void {
  const reasons = [...faults, ...missing.map(({ host, why }) => `${host}: ${why}`)];
  if (reasons.length === 0 && hosts.length > 0) return;
  throw new Fault(
    'migrate_incomplete',
    'here',
    'nothing was applied, since every host of the cluster has to be there and agree:\n  ' +
      `${reasons.join('\n  ')}\n` +
      '`sluice topology check` says more; run `sluice migrate apply` again when it is mended',
  );
}

function refuse({ refusals, behind }: ClusterPlan): void {
  if (refusals.size > 0) {
    const hosts = [...refusals].map(([host, words]) => `${host}:\n  ${words.join('\n  ')}`);
    throw new ConfigurationError(`the migrations don't fit what was applied to ${hosts.join('\n')}`);
  }
  if (behind.size > 0) throw new Fault(HOST_BEHIND, 'here', behindWords(behind));
}

export function behindWords(behind: ClusterPlan['behind']): string {
  const hosts = [...behind].map(([host, names]) => `${host} lacks ${names.join(', ')}`);
  return (
    `other hosts have migrations that are never run a second time on one that is new, emptied or was away: ` +
    `${hosts.join('; ')}. \`sluice migrate repair\` brings it to the declared state`
  );
}

function refuseDrops(steps: readonly ClusterStep[]): void {
  const drops = steps.filter(({ cost }) => cost === 'drops');
  if (drops.length === 0) return;
  const named = drops.map(
    (step) => `${nameOf(step)}: ${oneLine(step.sql.find((text) => text !== '') ?? '')}`,
  );
  throw new ConfigurationError(
    `nothing was applied, since data would be lost:\n  ${named.join('\n  ')}\n` +
      'where that is meant, run `sluice migrate apply --allow-drops`',
  );
}

function oneLine(sql: string): string {
  return sql.replace(/\s+/g, ' ').trim();
}

/** A migration that is recorded elsewhere is complete, or the host isn't what it was when it was recorded. */
async function recordMissingRows(
  { unrecorded }: ClusterPlan,
  views: readonly HostView[],
  context: MigrateContext,
  applied: Map<string, { name: string; durationMs: number }[]>,
): Promise<void> {
  for (const view of views) {
    for (const migration of unrecorded.get(view.name) ?? []) {
      const lacking = await lackingOf(migration, view, views, context);
      if (lacking !== undefined) {
        const words = behindWords(new Map([[view.name, [`${migration.name} (${lacking})`]]]));
        throw new Fault(HOST_BEHIND, 'here', words);
      }
      await context.guard?.();
      await recordMigration(view.server, context.database, migration, 0, context.version);
      applied.get(view.name)?.push({ name: migration.name, durationMs: 0 });
    }
  }
}

/** What the host lacks of a migration that others have, in words; what no host has any more doesn't count. */
async function lackingOf(
  migration: Migration,
  view: HostView,
  views: readonly HostView[],
  context: MigrateContext,
): Promise<string | undefined> {
  const index = views.indexOf(view);
  for (const step of stepsOf(migration, views, context.layout)) {
    const facts = await lookEverywhere(step, views);
    const own = facts[index];
    const elsewhere = facts.some((other) => other?.state === 'done');
    if (own !== undefined && (own.state === 'missing' || own.state === 'conflict') && elsewhere)
      return own.why;
  }
  return undefined;
}

/** Databases and ledgers. @returns the same hosts, now with a ledger each */
async function prepare(views: readonly HostView[], context: MigrateContext): Promise<readonly HostView[]> {
  await context.guard?.();
  await Promise.all(views.map(({ server }) => createLedger(server, context.database)));
  return refreshed(views, context);
}

function refreshed(views: readonly HostView[], { database }: MigrateContext): Promise<HostView[]> {
  return Promise.all(
    views.map(async (view) => ({ ...view, ledger: await readHostLedger(view.server, database) })),
  );
}

interface Work {
  readonly migration: Migration;
  readonly steps: readonly ClusterStep[];
}

async function runAll(
  work: readonly Work[],
  hosts: readonly HostView[],
  context: MigrateContext,
  options: ApplyOptions,
  applied: Map<string, { name: string; durationMs: number }[]>,
): Promise<void> {
  const of = work.reduce((sum, { steps }) => sum + steps.length, 0);
  let views = hosts;
  let number = 0;
  for (const { migration, steps } of work) {
    const startMs = tickMs();
    for (const step of steps) {
      number += 1;
      const at = number;
      await runStep(step, views, context, (progress) => options.progress?.(progress, at, of));
    }
    const durationMs = Math.round(tickMs() - startMs);
    await record(migration, durationMs, views, context);
    for (const { name } of views) applied.get(name)?.push({ name: migration.name, durationMs });
    context.logger.info(
      { steps: steps.length, hosts: views.length, durationMs },
      `applied ${migration.name}`,
    );
    views = await refreshed(views, context);
  }
}

async function record(
  migration: Migration,
  durationMs: number,
  views: readonly HostView[],
  context: MigrateContext,
): Promise<void> {
  await context.guard?.();
  await Promise.all(
    views.map(({ server }) =>
      recordMigration(server, context.database, migration, durationMs, context.version),
    ),
  );
}

/** What the settings declare; by host. */
async function reconcileAll(
  { views, migrations }: Survey,
  context: MigrateContext,
): Promise<ReadonlyMap<string, readonly ReconcileChange[]>> {
  const look = () => Promise.all(views.map((view) => planReconcile(view.server, migrations, view.render)));
  const plans = await look();
  for (const { index, change } of ownChanges(views, plans))
    await runChange(views[index] as HostView, change, context);
  warnForeign(views, plans, context);
  let late: string[] = [];
  const check = async () => {
    late = (await look()).flatMap(({ changes }, index) =>
      changes
        .filter(({ everyReplica }) => !everyReplica)
        .map(({ table }) => `${table} on ${views[index]?.name}`),
    );
    return late.length === 0 ? true : undefined;
  };
  const follows = plans.some(({ changes }) => changes.some(({ everyReplica }) => !everyReplica));
  if (follows) {
    await waitFor(context.waitMsMax, check, () => `the TTL was changed, but not of ${late.join(', ')}`);
  }
  return new Map(plans.map(({ changes }, index) => [views[index]?.name ?? '', changes]));
}

/** What each host has to run itself: of a change that travels, only the first replica of the shard. */
export function ownChanges(
  views: readonly HostView[],
  plans: readonly ReconcilePlan[],
): { index: number; change: ReconcileChange }[] {
  const told = new Set<string>();
  return plans.flatMap(({ changes }, index) =>
    changes.flatMap((change) => {
      const key = `${views[index]?.shard} ${change.what} ${change.table}`;
      if (!change.everyReplica && told.has(key)) return [];
      told.add(key);
      return [{ index, change }];
    }),
  );
}

async function runChange(view: HostView, change: ReconcileChange, context: MigrateContext): Promise<void> {
  const what = change.what === 'ttl' ? 'TTL' : 'settings';
  await context.guard?.();
  try {
    await command(view.server, change.sql, change.settings, context.waitMsMax);
  } catch (cause) {
    if (!(cause instanceof Fault)) throw cause;
    const where = `the ${what} of ${change.table} on ${view.name}`;
    const words = `${where}: ${cause.message}\nstatement: ${change.sql}`;
    throw new Fault(cause.code, cause.retry, words, { cause });
  }
  const { table, from, to } = change;
  context.logger.info({ host: view.name, from, to }, `changed the ${what} of ${table}`);
}

function warnForeign(
  views: readonly HostView[],
  plans: readonly ReconcilePlan[],
  { logger }: MigrateContext,
): void {
  for (const [index, { foreign }] of plans.entries()) {
    for (const table of foreign) {
      const host = views[index]?.name;
      logger.warn({ host, table }, 'the TTL of the table was written by hand and is left as it is');
    }
  }
}
