/** Rules as they are configured: what is dropped, sampled or redacted before it is stored. */
import { z } from 'zod';
import { SIGNALS, type Signal } from '../model/signal.ts';
import { type Kind, listOf } from './kind.ts';
import { patternFault } from './patterns.ts';
import { RULE_FIELDS, wordsOf } from './rule-fields.ts';

const RULES_MAX = 1_000;
const RULE_CONDITIONS_MAX = 100;
const REPLACEMENT_LENGTH_MAX = 256;

/** One condition of a rule: a field of the record, and what it has to be. */
export interface Condition {
  /**
   * `name` (of a span, a metric, a log's event), `kind` (of a span, a metric), `status`, `severity`, `body`,
   * `scope.name`, `resource.<key>`, `attributes.<key>`.
   */
  readonly field: string;
  readonly equals?: string | number | boolean | undefined;
  readonly oneOf?: readonly (string | number)[] | undefined;
  readonly startsWith?: string | undefined;
  /** A regular expression without flags. */
  readonly matches?: string | undefined;
  readonly exists?: boolean | undefined;
  readonly below?: number | undefined;
  readonly above?: number | undefined;
}

export interface Rule {
  /** A label of the metrics. */
  readonly name: string;
  /** Empty: all. */
  readonly signals: readonly Signal[];
  /** Empty: all. */
  readonly tenants: readonly string[];
  /** All have to hold; without any every record is meant. */
  readonly when: readonly Condition[];
  /** `keep` ends the reading of rules for the record; `sample` keeps `percent` by trace id. */
  readonly action: 'drop' | 'keep' | 'sample' | 'redact';
  readonly percent?: number | undefined;
  /** Of `redact`: attributes whose values are replaced whole. */
  readonly keys?: readonly string[] | undefined;
  /** Of `redact`: what is replaced inside of values and bodies, a regular expression. */
  readonly pattern?: string | undefined;
  readonly replacement?: string | undefined;
}

const condition = z
  .strictObject({
    field: z.string().min(1).max(1_000),
    equals: z.union([z.string(), z.number(), z.boolean()]).optional(),
    oneOf: z
      .array(z.union([z.string(), z.number()]))
      .min(1)
      .max(10_000)
      .optional(),
    startsWith: z.string().optional(),
    matches: z.string().optional(),
    exists: z.boolean().optional(),
    below: z.number().optional(),
    above: z.number().optional(),
  })
  .superRefine((value, context) => fail(context, conditionFault(value)));
const rule = z
  .strictObject({
    name: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/),
    signals: z.array(z.enum(SIGNALS)).default([]),
    tenants: z.array(z.string().min(1)).default([]),
    when: z.array(condition).max(RULE_CONDITIONS_MAX).default([]),
    action: z.enum(['drop', 'keep', 'sample', 'redact']),
    percent: z.number().min(0).max(100).optional(),
    keys: z.array(z.string().min(1)).max(1_000).optional(),
    pattern: z.string().min(1).optional(),
    replacement: z.string().max(REPLACEMENT_LENGTH_MAX).optional(),
  })
  .superRefine((value, context) => fail(context, ruleFault(value)));
const list = z
  .array(rule)
  .max(RULES_MAX)
  .superRefine((rules, context) => {
    const twice = rules.find(({ name }, i) => rules.findIndex((other) => other.name === name) !== i);
    fail(context, twice && `two rules have the name ${twice.name}`);
  });

function fail(context: z.RefinementCtx, message: string | undefined): void {
  if (message !== undefined) context.addIssue({ code: 'custom', message });
}

const OPERATORS = ['equals', 'oneOf', 'startsWith', 'matches', 'exists', 'below', 'above'] as const;

/** Why a condition can't be used. */
function conditionFault(condition: Condition): string | undefined {
  const { field, matches, startsWith } = condition;
  if (!/^(resource|attributes)\../s.test(field) && !Object.hasOwn(RULE_FIELDS, field)) {
    const known = Object.keys(RULE_FIELDS).join(', ');
    return `there is no field ${field}; wanted: one of ${known}, resource.<key>, attributes.<key>`;
  }
  if (OPERATORS.every((operator) => condition[operator] === undefined)) {
    return `the condition on ${field} asks for nothing; wanted: one of ${OPERATORS.join(', ')}`;
  }
  const fault = matches === undefined ? undefined : patternFault(matches);
  if (fault !== undefined) return `matches of ${field}: ${fault}`;
  const words = wordsOf(field);
  if (words === undefined) return undefined;
  if (matches !== undefined || startsWith !== undefined) {
    return `${field} can only be compared; wanted: equals, oneOf, exists, below or above`;
  }
  const given = [condition.equals, ...(condition.oneOf ?? [])].filter((value) => typeof value === 'string');
  const unknown = given.find((value) => !words.includes(value));
  return unknown === undefined
    ? undefined
    : `${field} is never ${unknown}; wanted: one of ${words.join(', ')}`;
}

/** Why a rule can't be used, apart from its conditions. */
function ruleFault({ name, signals, when, ...rest }: Rule): string | undefined {
  const { action, percent, keys = [], pattern, replacement } = rest;
  if (action === 'sample' && percent === undefined) return `rule ${name}: sample needs percent, 0 to 100`;
  if (action !== 'sample' && percent !== undefined)
    return `rule ${name}: percent is for sample, not for ${action}`;
  const hides = keys.length > 0 || pattern !== undefined || replacement !== undefined;
  if (action !== 'redact' && hides) {
    return `rule ${name}: keys, pattern and replacement are for redact, not for ${action}`;
  }
  if (action === 'redact' && keys.length === 0 && pattern === undefined) {
    return `rule ${name}: redact needs keys (attributes), or a pattern (inside of texts)`;
  }
  const fault = pattern === undefined ? undefined : patternFault(pattern);
  if (fault !== undefined) return `rule ${name}: ${fault}`;
  const foreign = when.find(({ field }) => {
    const having = RULE_FIELDS[field];
    return signals.length > 0 && having !== undefined && !signals.some((signal) => having.includes(signal));
  });
  return foreign && `rule ${name}: ${signals.join(', ')} have no ${foreign.field}`;
}

export const rulesKind: Kind<readonly Rule[]> = {
  schema: z.preprocess(listOf, list) as z.ZodType<readonly Rule[]>,
  wanted: 'a list of rules, in the environment as JSON (limits.md)',
  show: (value) => value.map(({ name }) => name).join(','),
};
