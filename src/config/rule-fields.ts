/** The fields that conditions of rules may name, and the names of their numbers (trace.proto, logs.proto). */
import type { Signal } from '../model/signal.ts';

/** By field: the signals whose records have it. `resource.<key>` and `attributes.<key>` are in all. */
export const RULE_FIELDS: Readonly<Record<string, readonly Signal[]>> = {
  name: ['traces', 'metrics', 'logs'],
  kind: ['traces', 'metrics'],
  status: ['traces'],
  severity: ['logs'],
  body: ['logs'],
  'scope.name': ['traces', 'metrics', 'logs'],
};

type Names = ReadonlyMap<string, readonly number[]>;

function numbered(names: readonly string[], width = 1, from = 0): Names {
  return new Map(
    names.map((name, i) => [name, Array.from({ length: width }, (_, k) => from + i * width + k)]),
  );
}

export const KINDS: Names = numbered(['unspecified', 'internal', 'server', 'client', 'producer', 'consumer']);
export const STATUSES: Names = numbered(['unset', 'ok', 'error']);
/** Each is a range of four. */
export const SEVERITIES: Names = numbered(['trace', 'debug', 'info', 'warn', 'error', 'fatal'], 4, 1);
export const METRIC_KIND_NAMES = ['gauge', 'sum', 'histogram', 'exponential_histogram', 'summary'] as const;

/** The words that may stand for a field's value; undefined where any text may. */
export function wordsOf(field: string): readonly string[] | undefined {
  if (field === 'kind') return [...KINDS.keys(), ...METRIC_KIND_NAMES];
  if (field === 'status') return [...STATUSES.keys()];
  return field === 'severity' ? [...SEVERITIES.keys()] : undefined;
}
