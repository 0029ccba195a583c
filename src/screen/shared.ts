/** What the records of a request, a resource or a scope have in common on a walk. */
import type { ScanBounds } from './bounds.ts';
import type { Plan, PlannedRule } from './plan.ts';
import { Scan } from './scan.ts';

/** Used by one walk after another. */
export interface Scans {
  readonly resource: Scan;
  readonly scope: Scan;
  readonly metric: Scan;
  readonly record: Scan;
}

export function scansOf(plan: Plan, bounds: ScanBounds): Scans {
  const { resourceKeys, scopeKeys, recordKeys, redactsKeys, recordRoles, scopeRoles } = plan;
  const none = new Set<number>();
  return {
    resource: new Scan(bounds, resourceKeys, redactsKeys, none),
    scope: new Scan(bounds, scopeKeys, redactsKeys, scopeRoles),
    metric: new Scan(bounds, scopeKeys, false, none),
    record: new Scan(bounds, recordKeys, redactsKeys, recordRoles),
  };
}

/** What holds for all records of a resource, or of a scope. */
export class Shared {
  active: readonly PlannedRule[] = [];
  /** The limits that it is beyond itself. */
  over = 0;
  /** By rule: whether something of it was replaced. */
  readonly redacted: Uint8Array;
  hasRedacted = false;

  constructor(rules: number) {
    this.redacted = new Uint8Array(rules);
  }
}

export function allHold({ tests }: PlannedRule, level: number, scan: Scan): boolean {
  const wanted = tests[level] as PlannedRule['tests'][number];
  for (let i = 0; i < wanted.length; i++) if (!wanted[i]?.(scan)) return false;
  return true;
}

/**
 * Those of the rules that hold for a resource, scope or metric.
 * @param before those that held for the one before it: the same ones come in the same array
 */
export function holding(
  rules: readonly PlannedRule[],
  level: number,
  scan: Scan,
  before: readonly PlannedRule[],
): readonly PlannedRule[] {
  let held = 0;
  for (let i = 0; i < rules.length; i++) {
    const rule = rules[i] as PlannedRule;
    if (!allHold(rule, level, scan)) continue;
    if (before[held] !== rule) return rules.filter((one) => allHold(one, level, scan));
    held++;
  }
  return held === before.length ? before : before.slice(0, held);
}
