/**
 * The migrator's commands that change nothing, `plan` and `status`, beside `apply` (apply.ts): migrations of
 * the folders against the ledger and the real tables of every host.
 */
import { Fault } from '../base/errors.ts';
import { behindWords, ledgersOf, ownChanges } from './apply.ts';
import type { MigrateContext } from './context.ts';
import type { Facts } from './effects.ts';
import { bytesTouched } from './estimate.ts';
import type { Migration } from './migration.ts';
import { placeStep } from './placement.ts';
import { openOptional } from './optional.ts';
import { type ClusterPlan, planCluster, planHistory } from './plan.ts';
import { type ReconcileChange, planReconcile } from './reconcile.ts';
import type { HostPlan, HostStatus, MigrationStatus, PlannedMigration, PlannedStatement } from './reports.ts';
import { lookEverywhere } from './run-step.ts';
import { type ClusterStep, stepsOf } from './steps.ts';
import { type HostView, surveyAloud } from './survey.ts';

export { type ApplyOptions, migrateApply } from './apply.ts';
export { type Layout, type MigrateContext, SINGLE_SERVER } from './context.ts';
export { type HostPlan, type HostReport, type HostStatus, hasDifferences } from './reports.ts';

/**
 * What apply would do, host by host. Changes nothing.
 * @throws ConfigurationError when the migrations can't be read, Fault when no host answers, or one stops to.
 */
export async function migratePlan(context: MigrateContext): Promise<HostPlan[]> {
  refuseSilence(context);
  const found = await surveyAloud(context);
  const { views, migrations } = found;
  const plan = planCluster(migrations, ledgersOf(views));
  const refused = plan.refusals.size > 0;
  const steps = (migration: Migration) => stepsOf(migration, views, context.layout);
  const work = [
    ...plan.pending.map((migration) => ({ migration, steps: steps(migration) })),
    ...(refused ? [] : await openOptional(found, context)),
  ];
  const planned = await Promise.all(
    work.map(async ({ migration, steps: open }) => ({
      migration,
      steps: await Promise.all(open.map((step) => planStep(step, views))),
    })),
  );
  const changes = refused ? [] : await planChanges(views, migrations);
  const hosts = views.map((view, index): HostPlan => {
    const own = changes[index];
    return {
      host: view.name,
      refusals: refusalsOf(view.name, index, plan, context),
      pending: [
        ...(plan.unrecorded.get(view.name) ?? []).map(({ name, origin }) => ({
          name,
          origin,
          statements: [],
        })),
        ...planned.map(({ migration, steps }) => pendingOf(migration, steps, index)),
      ],
      ttlChanges: own?.changes.filter(({ what }) => what === 'ttl') ?? [],
      settingChanges: own?.changes.filter(({ what }) => what === 'setting') ?? [],
      ttlForeign: own?.foreign ?? [],
    };
  });
  return [...hosts, ...context.missing.map(({ host, why }) => missingPlan(host, why))];
}

/** Ledger beside folder, for each host. Changes nothing. @throws as migratePlan */
export async function migrateStatus(context: MigrateContext): Promise<HostStatus[]> {
  refuseSilence(context);
  const found = await surveyAloud(context);
  const { views, migrations } = found;
  const { behind } = planCluster(migrations, ledgersOf(views));
  const open = (await openOptional(found, context)).map(({ migration }) => migration);
  const hosts = views.map(({ name: host, ledger }): HostStatus => {
    const { pending, refusals } = planHistory(migrations, ledger.entries);
    const applied = ledger.entries.map((entry): MigrationStatus => ({ ...entry, state: 'applied' }));
    const waiting = [...pending, ...open].map(
      ({ origin, number, name }): MigrationStatus => ({ origin, number, name, state: 'pending' }),
    );
    const lacking = behind.get(host);
    const words = lacking === undefined ? [] : [behindWords(new Map([[host, lacking]]))];
    return { host, migrations: [...applied, ...waiting], refusals: [...refusals, ...words] };
  });
  const missing = context.missing.map(
    ({ host, why }): HostStatus => ({
      host,
      missing: why,
      migrations: [],
      refusals: [],
    }),
  );
  return [...hosts, ...missing];
}

function refuseSilence({ hosts, missing, faults = [] }: MigrateContext): void {
  if (hosts.length > 0) return;
  const reasons = [...faults, ...missing.map(({ host, why }) => `${host}: ${why}`)];
  throw new Fault('migrate_no_host', 'here', `no host can be asked:\n  ${reasons.join('\n  ')}`);
}

function refusalsOf(host: string, index: number, plan: ClusterPlan, context: MigrateContext): string[] {
  const behind = plan.behind.get(host);
  return [
    // About the cluster as a whole: said once.
    ...(index === 0 ? (context.faults ?? []) : []),
    ...(plan.refusals.get(host) ?? []),
    ...(behind === undefined ? [] : [behindWords(new Map([[host, behind]]))]),
  ];
}

function missingPlan(host: string, why: string): HostPlan {
  return {
    host,
    refusals: [`${why}; apply needs every host`],
    pending: [],
    ttlChanges: [],
    settingChanges: [],
    ttlForeign: [],
  };
}

/** By position of the host. */
type PlannedStep = readonly (PlannedStatement | undefined)[];

async function planStep(step: ClusterStep, views: readonly HostView[]): Promise<PlannedStep> {
  const found = await lookEverywhere(step, views);
  const facts = found.map((own, index) => own && assumed(own, step, views[index] as HostView));
  const roles = placeStep(views, facts);
  return Promise.all(
    views.map(async (view, index): Promise<PlannedStatement | undefined> => {
      const [own, role] = [facts[index], roles[index]];
      if (own === undefined || role === undefined || role === 'none') return undefined;
      const counts = step.cost !== 'instant' && role !== 'skip' && own.table !== undefined;
      const bytes = counts ? await bytesTouched(view.server, step.sql[index] ?? '', own.table) : undefined;
      const sql = step.clusterSql ?? step.sql[index] ?? '';
      const why = role === 'follow' ? 'another replica of the shard runs it' : own.why;
      const { kind, cost, number } = step;
      return { kind, cost, sql, step: number, role, why, ...(bytes === undefined ? {} : { bytes }) };
    }),
  );
}

/** A table that a step before this one makes will be replicated where such tables are declared so. */
function assumed(facts: Facts, step: ClusterStep, view: HostView): Facts {
  const toBe = facts.text === '' && step.kind === 'local' && view.render.replicated;
  return toBe && facts.alters ? { ...facts, travels: true } : facts;
}

function pendingOf(
  { name, origin }: Migration,
  steps: readonly PlannedStep[],
  index: number,
): PlannedMigration {
  return { name, origin, statements: steps.flatMap((step) => step[index] ?? []) };
}

interface Changes {
  readonly changes: readonly ReconcileChange[];
  readonly foreign: readonly string[];
}

/** Each change on the host that would be told; those that reach a host by itself are left out there. */
async function planChanges(views: readonly HostView[], migrations: readonly Migration[]): Promise<Changes[]> {
  const plans = await Promise.all(views.map((view) => planReconcile(view.server, migrations, view.render)));
  const own = ownChanges(views, plans);
  return plans.map(({ foreign }, index) => ({
    changes: own.filter((change) => change.index === index).map(({ change }) => change),
    foreign,
  }));
}
