/**
 * The steps of a migration over all hosts, in the order in which they are run: step by step over all hosts,
 * so that a Distributed table or a view finds what it reads. Pure.
 */
import type { Layout } from './context.ts';
import type { Migration, StepCost, StepKind } from './migration.ts';
import type { RenderContext } from './placeholders.ts';
import { render } from './render.ts';
import type { HostView } from './survey.ts';

export interface ClusterStep {
  readonly migration: Migration;
  /** From 1, among the steps of the migration that leave a statement for any host. */
  readonly number: number;
  readonly of: number;
  readonly kind: StepKind;
  readonly cost: StepCost;
  /** By position of the host; empty where the step's conditions leave nothing for it. */
  readonly sql: readonly string[];
  /** With ON CLUSTER, where the mode wants it and every host would run the same. */
  readonly clusterSql: string | undefined;
  /** The steps of the migration that come after it. */
  readonly later: readonly ClusterStep[];
}

/** @throws ConfigurationError naming file and line of a condition that isn't understood */
export function stepsOf(migration: Migration, views: readonly HostView[], layout: Layout): ClusterStep[] {
  const declared = migration.steps.filter(
    ({ kind }) => kind !== 'distributed' || layout.cluster !== undefined,
  );
  const rendered = declared.map((step) => {
    const textFor = (context: RenderContext) => render(step, migration.name, context);
    const sql = views.map((view) => textFor(view.render));
    const queued = new Set(views.map((view) => textFor({ ...view.render, onCluster: true })));
    const [clusterSql] = queued;
    const goes = layout.onCluster && queued.size === 1 && clusterSql !== undefined && clusterSql !== sql[0];
    return { kind: step.kind, cost: step.cost, sql, clusterSql: goes ? clusterSql : undefined };
  });
  const left = rendered.filter(({ sql }) => sql.some((text) => text !== ''));
  let later: readonly ClusterStep[] = [];
  for (const [index, step] of [...left.entries()].reverse()) {
    later = [{ ...step, migration, number: index + 1, of: left.length, later }, ...later];
  }
  return [...later];
}

/** `0004_team.sql, step 2 of 3` */
export function nameOf({ migration, number, of }: ClusterStep): string {
  return of === 1 ? migration.name : `${migration.name}, step ${number} of ${of}`;
}
