/** The rules of a signal and a tenant, compiled: what is asked of resources, scopes, metrics and records. */
import type { Rule } from '../config/rules.ts';
import type { Signal } from '../model/signal.ts';
import { type Holds, OF_RECORD, OF_RESOURCE, OF_SCOPE, compileCondition } from './conditions.ts';
import { KeyTable } from './keys.ts';
import type { Redaction } from './redact.ts';
import { type Needs, needsOf } from './runs.ts';
import { type Threshold, thresholdOf } from './sample.ts';
import { TRACE_ID } from './shapes.ts';
import { sieveOf } from './sieve.ts';
import { Replacer } from './texts.ts';

const DEFAULT_REPLACEMENT = '***';

export interface PlannedRule {
  readonly name: string;
  /** Its place in the plan. */
  readonly index: number;
  readonly action: Rule['action'];
  readonly threshold: Threshold;
  /** By level: what has to hold. */
  readonly tests: readonly (readonly Holds[])[];
  /** An attribute of the record without which it doesn't hold, by its slot; -1 for none. */
  readonly needsSlot: number;
  /** By first byte of the name it asks for: 0 where it does not hold. Undefined if it asks for none. */
  readonly starts: Uint8Array | undefined;
  /** Whether it does nothing to records without a key whose value is replaced. */
  readonly needsRedacted: boolean;
  /** The last level that it asks anything of, 0 if it asks nothing. */
  readonly depth: number;
  /** Whether it has to know of keys of records. */
  readonly asksKeys: boolean;
  readonly redaction:
    | (Redaction & {
        readonly sieve: RegExp | undefined;
        readonly needs: Needs | undefined;
        readonly hasKeys: boolean;
      })
    | undefined;
}

export interface Plan {
  readonly rules: readonly PlannedRule[];
  readonly resourceKeys: KeyTable;
  readonly scopeKeys: KeyTable;
  readonly recordKeys: KeyTable;
  /** What else of a record, and of a scope, has to be noted. */
  readonly recordRoles: ReadonlySet<number>;
  readonly scopeRoles: ReadonlySet<number>;
  /** Whether values under keys are replaced. */
  readonly redactsKeys: boolean;
  readonly redacts: boolean;
}

export function planOf(rules: readonly Rule[], signal: Signal): Plan {
  const resourceKeys: string[] = [];
  const recordKeys: string[] = [];
  const recordRoles = new Set<number>();
  const scopeRoles = new Set<number>();
  const planned = rules.map((rule, index): PlannedRule => {
    const tests: Holds[][] = [[], [], [], []];
    let needsSlot = -1;
    let starts: Uint8Array | undefined;
    let asksKeys = (rule.keys ?? []).length > 0;
    for (const condition of rule.when) {
      const test = compileCondition(condition, signal);
      const { level, key, roles, whenAbsent, holds } = test;
      const keys = level === OF_RESOURCE ? resourceKeys : recordKeys;
      if (key !== undefined && !keys.includes(key)) keys.push(key);
      if (key !== undefined && level === OF_RECORD) {
        asksKeys = true;
        if (!whenAbsent) needsSlot = keys.indexOf(key);
      }
      if (level === OF_RECORD) starts ??= test.starts;
      for (const role of roles) (level === OF_SCOPE ? scopeRoles : recordRoles).add(role);
      tests[level]?.push(holds(key === undefined ? -1 : keys.indexOf(key)));
    }
    const depth = Math.max(
      0,
      tests.findLastIndex((level) => level.length > 0),
    );
    const { name, action, percent = 100 } = rule;
    const threshold = thresholdOf(percent);
    if (action === 'sample') recordRoles.add(TRACE_ID);
    return {
      name,
      index,
      action,
      threshold,
      tests,
      needsSlot,
      starts,
      needsRedacted: action === 'redact' && rule.pattern === undefined,
      depth,
      asksKeys,
      redaction: redactionOf(rule),
    };
  });
  const hidden = rules.flatMap(({ action, keys = [] }) => (action === 'redact' ? keys : []));
  return {
    rules: planned,
    resourceKeys: new KeyTable(resourceKeys, hidden),
    scopeKeys: new KeyTable([], hidden),
    recordKeys: new KeyTable(recordKeys, hidden),
    recordRoles,
    scopeRoles,
    redactsKeys: hidden.length > 0,
    redacts: planned.some(({ action }) => action === 'redact'),
  };
}

function redactionOf(rule: Rule): PlannedRule['redaction'] {
  if (rule.action !== 'redact') return undefined;
  const { keys = [], pattern, replacement = DEFAULT_REPLACEMENT } = rule;
  const sieve = pattern === undefined ? undefined : sieveOf(pattern);
  return {
    keys: new KeyTable([], keys),
    hasKeys: keys.length > 0,
    replacer: pattern === undefined ? undefined : new Replacer(pattern, replacement),
    replacement,
    sieve,
    needs: sieve && needsOf(sieve),
  };
}
