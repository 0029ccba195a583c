/**
 * Migrations that settings switch on (history.ts): after all others, and each time as if for the first: what
 * the hosts have already is left out.
 */
import { tickMs } from '../base/clock.ts';
import type { MigrateContext } from './context.ts';
import type { Migration } from './migration.ts';
import { type StepProgress, lookEverywhere, runStep } from './run-step.ts';
import { type ClusterStep, stepsOf } from './steps.ts';
import type { HostView, Survey } from './survey.ts';

type Found = Pick<Survey, 'views' | 'optional'>;

export interface OptionalWork {
  readonly migration: Migration;
  /** Those that are missing on any host. */
  readonly steps: readonly ClusterStep[];
}

/** What of them the hosts lack. Changes nothing. @throws Fault */
export async function openOptional(
  { views, optional }: Found,
  { layout }: MigrateContext,
): Promise<OptionalWork[]> {
  const work: OptionalWork[] = [];
  for (const { migration, isOn } of optional) {
    if (!isOn) continue;
    const steps = stepsOf(migration, views, layout);
    const open = await Promise.all(steps.map((step) => isOpen(step, views)));
    const left = steps.filter((_, index) => open[index]);
    if (left.length > 0) work.push({ migration, steps: left });
  }
  return work;
}

async function isOpen(step: ClusterStep, views: readonly HostView[]): Promise<boolean> {
  const facts = await lookEverywhere(step, views);
  return facts.some((own) => own !== undefined && own.state !== 'done');
}

/** Runs what the hosts lack. @returns what was run @throws Fault as runStep */
export async function applyOptional(
  found: Found,
  context: MigrateContext,
  progress: ((progress: StepProgress, step: number, of: number) => void) | undefined,
): Promise<{ readonly name: string; readonly durationMs: number }[]> {
  const work = await openOptional(found, context);
  const done: { name: string; durationMs: number }[] = [];
  for (const { migration, steps } of work) {
    const startMs = tickMs();
    for (const [index, step] of steps.entries()) {
      const report = (told: StepProgress) => progress?.(told, index + 1, steps.length);
      await runStep(step, found.views, context, report);
    }
    const durationMs = Math.round(tickMs() - startMs);
    done.push({ name: migration.name, durationMs });
    context.logger.info({ durationMs, hosts: found.views.length }, `applied ${migration.name}`);
  }
  return done;
}
