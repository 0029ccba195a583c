/**
 * Which hosts run a statement themselves. An ALTER of a replicated table is run on one replica of each shard
 * and reaches the others by itself; everything else is run where it is missing. Pure.
 */
import type { Facts } from './effects.ts';
import type { HostView } from './survey.ts';

/**
 * `run`: here. `follow`: reaches the host through its table's replication. `skip`: there already. `none`: the
 * step has no statement for the host.
 */
export type Role = 'run' | 'follow' | 'skip' | 'none';

/** @param facts by position of the host; undefined where the step has no statement for it */
export function placeStep(views: readonly HostView[], facts: readonly (Facts | undefined)[]): Role[] {
  return views.map(({ shard }, index) => {
    const own = facts[index];
    if (own === undefined) return 'none';
    if (own.state === 'done') return 'skip';
    if (!own.travels) return 'run';
    const first = views.findIndex((view, other) => view.shard === shard && facts[other]?.travels === true);
    const there = views.some(
      (view, other) => view.shard === shard && facts[other]?.travels && facts[other].state === 'done',
    );
    return !there && first === index ? 'run' : 'follow';
  });
}

/**
 * The order in which hosts run a statement: the first alone, so that a mistake reaches one host only, then
 * the rest of the first replicas, then the second ones, and so on. Two replicas of one shard never create a
 * table at the same time.
 */
export function wavesOf(views: readonly HostView[], roles: readonly Role[]): number[][] {
  const running = views.flatMap((view, index) => (roles[index] === 'run' ? [{ index, ...view }] : []));
  const [first, ...rest] = running;
  if (first === undefined) return [];
  const replicas = [...new Set(rest.map(({ replica }) => replica))].sort((a, b) => a - b);
  const waves = replicas.map((replica) => rest.filter((view) => view.replica === replica));
  return [[first.index], ...waves.map((wave) => wave.map(({ index }) => index))];
}
