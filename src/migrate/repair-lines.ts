/** What repair and adopt did, or would do, as lines for people. Pure. */
import type { HostAdoption } from './adopt.ts';
import { verificationLines } from './difference.ts';
import type { HostRepair, RepairAction } from './repair.ts';

export function repairLines({ host, shard, replica, actions, failures, left }: HostRepair): string[] {
  const [, ...remains] = verificationLines({ host, shard, replica, differences: left, unverified: [] });
  const idle = actions.length + failures.length + left.length === 0;
  return [
    `${host}:${idle ? ' nothing to do' : ''}`,
    ...actions.flatMap(actionLines),
    ...failures.map((failure) => `  failed: ${failure}`),
    ...(left.length > 0 ? ['  left for somebody to decide:'] : []),
    ...remains.map((line) => `  ${line}`),
  ];
}

export function adoptionLines({ host, actions, notes, failures, repair }: HostAdoption): string[] {
  const idle = actions.length + failures.length + notes.length === 0;
  return [
    `${host}:${idle ? ' nothing to take over' : ''}`,
    ...actions.flatMap(actionLines),
    ...notes.map((note) => `  note: ${note}`),
    ...failures.map((failure) => `  failed: ${failure}`),
    ...(repair === undefined ? [] : repairLines(repair).slice(1)),
  ];
}

function actionLines({ table, what, sql }: RepairAction): string[] {
  const head = table === '' ? `  ${what}` : `  ${table}: ${what}`;
  return [head, ...sql.map((statement) => `    ${statement};`)];
}
