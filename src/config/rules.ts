/** Rules as they are configured: what is dropped, sampled or redacted before it is stored. */
import { z } from 'zod';
import { SIGNALS, type Signal } from '../model/signal.ts';
import type { Kind } from './kind.ts';

/** One condition of a rule: a field of the record, and what it has to be. */
export interface Condition {
  /**
   * `name` (of a span, a metric), `kind`, `status`, `severity`, `body`, `scope.name`, `resource.<key>`,
   * `attributes.<key>`.
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

const condition = z.strictObject({
  field: z.string().min(1),
  equals: z.union([z.string(), z.number(), z.boolean()]).optional(),
  oneOf: z.array(z.union([z.string(), z.number()])).optional(),
  startsWith: z.string().optional(),
  matches: z.string().optional(),
  exists: z.boolean().optional(),
  below: z.number().optional(),
  above: z.number().optional(),
});
const rule = z.strictObject({
  name: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/),
  signals: z.array(z.enum(SIGNALS)).default([]),
  tenants: z.array(z.string()).default([]),
  when: z.array(condition).default([]),
  action: z.enum(['drop', 'keep', 'sample', 'redact']),
  percent: z.number().min(0).max(100).optional(),
  keys: z.array(z.string().min(1)).optional(),
  pattern: z.string().optional(),
  replacement: z.string().optional(),
});

function parsed(value: unknown): unknown {
  if (typeof value !== 'string') return value;
  if (value.trim() === '') return [];
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}

export const rulesKind: Kind<readonly Rule[]> = {
  schema: z.preprocess(parsed, z.array(rule)) as z.ZodType<readonly Rule[]>,
  wanted: 'a list of rules, in the environment as JSON (limits.md)',
  show: (value) => value.map(({ name }) => name).join(','),
};
