/**
 * One step over all hosts: look at each host's real state, run the statement where it is missing, wait until
 * every host has the effect. So a step that was interrupted anywhere is completed by running it again, and
 * one that is complete does nothing.
 *
 * What can fail: a host refuses the statement, the effect does not arrive within the bound, the lock is lost:
 * a Fault that says where the step was done and where not.
 */
import { sleep, tickMs } from '../base/clock.ts';
import { Fault, messageOf } from '../base/errors.ts';
import { command } from '../clickhouse/client.ts';
import type { MigrateContext } from './context.ts';
import { type Facts, factsOf } from './effects.ts';
import { mutationsOf, ownMutations } from './mutations.ts';
import { runOnCluster, settleQueued } from './on-cluster.ts';
import { type Role, placeStep, wavesOf } from './placement.ts';
import { type ClusterStep, nameOf } from './steps.ts';
import type { HostView } from './survey.ts';
import { LOCK_LOST } from './lock.ts';
import { waitFor } from './wait.ts';

interface Run {
  readonly step: ClusterStep;
  readonly views: readonly HostView[];
  readonly context: MigrateContext;
  readonly before: readonly (Facts | undefined)[];
  readonly roles: readonly Role[];
}

/** What a statement did, for whoever watches. */
export interface StepProgress {
  readonly step: ClusterStep;
  readonly host: string;
  readonly what: 'ran' | 'was there';
  readonly durationMs: number;
}

/**
 * Resolves once every host has what the step makes, its mutations included.
 * @throws Fault
 */
export async function runStep(
  step: ClusterStep,
  views: readonly HostView[],
  context: MigrateContext,
  report: (progress: StepProgress) => void,
): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await tryStep(step, views, context, report);
    } catch (error) {
      if (tries === KEEPER_TRIES_MAX || !isKeeperTrouble(error)) throw inStep(step, error);
      context.logger.warn({ reason: messageOf(error) }, `${nameOf(step)} is tried again`);
      await sleep(KEEPER_PAUSE_MS * tries);
    }
  }
}

/** A Fault that says already which step failed where. */
class StepFault extends Fault {}

function inStep(step: ClusterStep, error: unknown): unknown {
  const known = error instanceof StepFault || (error instanceof Fault && error.code === LOCK_LOST);
  if (known || !(error instanceof Fault)) return error;
  const words = `${nameOf(step)}: ${error.message}\n${whatNow(step)}`;
  return new StepFault(error.code, error.retry, words, { cause: error });
}

function whatNow({ migration }: ClusterStep): string {
  return (
    `nothing is recorded for ${migration.name}: mend it and run \`sluice migrate apply\` again, ` +
    'it goes on with this step where it is not done'
  );
}

/** Keeper elects a leader, or a session has just expired: what was done is looked at anew each time. */
const KEEPER_TRIES_MAX = 4;
const KEEPER_PAUSE_MS = 1_000;

function isKeeperTrouble(error: unknown): boolean {
  const passing = ['KEEPER_EXCEPTION', 'NO_ZOOKEEPER', 'TABLE_IS_READ_ONLY'];
  return error instanceof Fault && passing.includes(error.code);
}

async function tryStep(
  step: ClusterStep,
  views: readonly HostView[],
  context: MigrateContext,
  report: (progress: StepProgress) => void,
): Promise<void> {
  if (step.clusterSql !== undefined) await settleQueued(step.clusterSql, views, context);
  const before = await lookEverywhere(step, views);
  const roles = placeStep(views, before);
  const run: Run = { step, views, context, before, roles };
  refuseConflicts(run);
  for (const [index, role] of roles.entries()) {
    const host = views[index]?.name ?? '';
    if (role === 'skip') report({ step, host, what: 'was there', durationMs: 0 });
  }
  if (step.clusterSql !== undefined && isForQueue(run)) await queue(run, step.clusterSql, report);
  else await runDirectly(run, report);
  await settle(run);
}

/** Before it the queue refused to alter what is not replicated itself, Distributed tables too (371). */
const QUEUE_ALTERS_ALL_SINCE_MAJOR = 20;

/**
 * The queue tells every host. Where some have it already, from an interrupted run, only the others are told,
 * each directly.
 */
function isForQueue({ views, before, roles }: Run): boolean {
  const untouched = roles.every((role) => role === 'run' || role === 'follow');
  const isOld = views.some(({ info }) => info.version.major < QUEUE_ALTERS_ALL_SINCE_MAJOR);
  return untouched && !(isOld && before.some((facts) => facts?.alters && !facts.travels));
}

/** Each host's real state for its statement; undefined where it has none. @throws Fault */
export function lookEverywhere(
  step: ClusterStep,
  views: readonly HostView[],
): Promise<(Facts | undefined)[]> {
  return Promise.all(
    views.map((view, index) => {
      const sql = step.sql[index] ?? '';
      if (sql === '') return undefined;
      return factsOf(
        view,
        sql,
        step.later.map((further) => further.sql[index] ?? ''),
      );
    }),
  );
}

function refuseConflicts({ views, before }: Run): void {
  const conflicts = before.flatMap((facts, index) =>
    facts?.state === 'conflict' ? [`${views[index]?.name}: ${facts.why}`] : [],
  );
  if (conflicts.length === 0) return;
  throw new Fault(
    'migrate_conflict',
    'here',
    `something else stands in its place:\n  ${conflicts.join('\n  ')}\n` +
      '`sluice migrate verify` shows all differences, `sluice migrate adopt` takes over tables of another ' +
      'layout',
  );
}

async function runDirectly(run: Run, report: (progress: StepProgress) => void): Promise<void> {
  const { step, views, context, roles } = run;
  const ran: number[] = [];
  for (const wave of wavesOf(views, roles)) {
    const results = await Promise.allSettled(wave.map((index) => runOn(index, run, report)));
    const failures: Failure[] = [];
    for (const [position, result] of results.entries()) {
      const index = wave[position] ?? 0;
      if (result.status === 'fulfilled') ran.push(index);
      else failures.push({ index, error: result.reason });
    }
    if (failures.length > 0) throw stepFailed(run, ran, failures);
  }
  if (ran.length > 0) context.logger.debug({ hosts: ran.map((index) => views[index]?.name) }, nameOf(step));
}

async function runOn(index: number, run: Run, report: (progress: StepProgress) => void): Promise<void> {
  const { step, context } = run;
  const view = run.views[index] as HostView;
  await context.guard?.();
  const startMs = tickMs();
  await command(view.server, step.sql[index] ?? '', {}, context.waitMsMax);
  report({ step, host: view.name, what: 'ran', durationMs: tickMs() - startMs });
}

async function queue(run: Run, sql: string, report: (progress: StepProgress) => void): Promise<void> {
  const { step, views, context } = run;
  await context.guard?.();
  const startMs = tickMs();
  try {
    await runOnCluster(sql, views, context);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    // Other hosts have run it: what each of them really has is for the message.
    const after = await lookEverywhere(step, views);
    const index = after.findIndex((facts) => facts !== undefined && facts.state !== 'done');
    const ran = after.flatMap((facts, position) => (facts?.state === 'done' ? [position] : []));
    throw stepFailed(run, ran, [{ index: Math.max(0, index), error }]);
  }
  const durationMs = tickMs() - startMs;
  for (const { name } of views) report({ step, host: name, what: 'ran', durationMs });
}

interface Failure {
  readonly index: number;
  readonly error: unknown;
}

/** Not every error is a Fault of this step: a lost lock, or a mistake of ours, is passed on as it is. */
function stepFailed(run: Run, ran: readonly number[], failures: readonly Failure[]): unknown {
  const { step, views, roles } = run;
  const strange = failures.find(({ error }) => !(error instanceof Fault) || error.code === LOCK_LOST);
  if (strange !== undefined) return strange.error;
  const [{ index, error: cause }] = failures as [Failure & { error: Fault }];
  const failed = failures.map((failure) => failure.index);
  const names = (indexes: readonly number[]) =>
    views.flatMap(({ name }, at) => (indexes.includes(at) ? [name] : [])).join(', ') || 'none';
  const there = roles.flatMap((role, at) => (role === 'skip' ? [at] : []));
  const untried = roles.flatMap((role, at) =>
    (role === 'run' || role === 'follow') && !ran.includes(at) && !failed.includes(at) ? [at] : [],
  );
  const words = failures.map((failure) => {
    const { message } = failure.error as Fault;
    return `${nameOf(step)} on ${views[failure.index]?.name}: ${message}`;
  });
  const places =
    views.length === 1
      ? []
      : [`done on: ${names([...there, ...ran])}; not done on: ${names([...failed, ...untried])}`];
  const text = [...words, `statement: ${step.sql[index] ?? ''}`, ...places, whatNow(step)].join('\n');
  return new StepFault(cause.code, cause.retry, text, { cause });
}

/** Waits until every host has the effect. @throws Fault `migrate_timeout` that names those that lack it */
async function settle(run: Run): Promise<void> {
  const { step, views, context, before } = run;
  let lacking: string[] = [];
  const words = () => `it was run, but its effect is missing: ${lacking.join('; ')}`;
  const check = async () => {
    const after = await lookEverywhere(step, views);
    lacking = after.flatMap((facts, index) => {
      const why = facts && lackOf(run, index, facts, after);
      return why === undefined ? [] : [`${views[index]?.name}: ${why}`];
    });
    return lacking.length === 0 ? true : undefined;
  };
  // What was run directly is there when the server has answered; only what travels is waited for.
  const travels = step.clusterSql !== undefined || before.some((facts) => facts?.travels);
  if (travels) await waitFor(context.waitMsMax, check, words);
  else if ((await check()) === undefined) throw new Fault('migrate_no_effect', 'here', words());
  await settleMutations(run);
}

/** In words, or undefined for a host that has it. */
function lackOf(
  { views, before }: Run,
  index: number,
  facts: Facts,
  after: readonly (Facts | undefined)[],
): string | undefined {
  if (facts.state === 'done') return undefined;
  if (facts.state !== 'unknown') return facts.why;
  if (!facts.travels) return undefined;
  // Nothing to look for by itself: replicas whose tables were alike before have to be so again.
  const { shard } = views[index] as HostView;
  const mates = views.flatMap((view, at) => (view.shard === shard && after[at]?.travels ? [at] : []));
  const [first] = mates as [number];
  const alike = before[index]?.text === before[first]?.text;
  if (!alike || facts.text === after[first]?.text) return undefined;
  return `its table is not yet like that of ${views[first]?.name}`;
}

/** Waits for the mutations that this statement began, on every replica. */
async function settleMutations({ step, views, context, before, roles }: Run): Promise<void> {
  const mutating = views.flatMap((view, index) => {
    const facts = before[index];
    return facts?.mutates && facts.table !== undefined ? [{ view, index, facts, table: facts.table }] : [];
  });
  let waiting: string[] = [];
  const check = async () => {
    const lists = await Promise.all(mutating.map(({ view, table }) => mutationsOf(view.server, table)));
    const begun = mutating.map(({ index, facts }, position) => {
      const list = lists[position] ?? [];
      const own = ownMutations(list, step.sql[index] ?? '', facts.sinceS);
      if (own.length > 0 || roles[index] !== 'run') return own;
      // A text that the server writes in a way we don't foresee: then all that began with the statement.
      return list.filter(({ id }) => !facts.mutationsBefore.includes(id));
    });
    waiting = mutating.flatMap(({ view, facts }, position) => {
      // A replica that follows may not have heard of it yet.
      const shared = mutating.flatMap((mate, at) =>
        at === position || (facts.travels && mate.facts.travels && mate.view.shard === view.shard)
          ? (begun[at] ?? [])
          : [],
      );
      const real = new Map(lists[position]?.map((mutation) => [mutation.id, mutation]));
      const open = [...new Set(shared.map(({ id }) => id))].filter((id) => real.get(id)?.done !== true);
      return open.map((id) => {
        const failure = real.get(id)?.failure ?? '';
        return `${view.name}: mutation ${id}${failure === '' ? '' : ` fails: ${failure}`}`;
      });
    });
    return waiting.length === 0 ? true : undefined;
  };
  const words = () => `a mutation is not done: ${waiting.join('; ')}`;
  if (mutating.length > 0) await waitFor(context.waitMsMax, check, words);
}
