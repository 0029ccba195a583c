/** What the records of a request, a resource or a scope have in common on a walk. */
import type { Plan, PlannedRule } from './plan.ts';
import { Scan, type ScanBounds } from './scan.ts';

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

/** Those of the rules that hold for a resource, scope or metric. */
export function holding(rules: readonly PlannedRule[], level: number, scan: Scan): readonly PlannedRule[] {
  for (let i = 0; i < rules.length; i++) {
    if (allHold(rules[i] as PlannedRule, level, scan)) continue;
    return rules.filter((rule, at) => at < i || (at > i && allHold(rule, level, scan)));
  }
  return rules;
}
