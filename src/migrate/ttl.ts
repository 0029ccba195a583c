/**
 * How long rows are kept is declared by the settings, not by history: what a change from a table's real TTL
 * to the declared one is. Pure.
 */
import type { StepCost } from './migration.ts';
import { ttlExpression } from './placeholders.ts';

/**
 * The change recalculates the TTL of the parts that are there, or a shorter retention would reach old rows
 * only at their old date. With the tables' materialize_ttl_recalculate_only = 1 that reads the time column of
 * each part and writes its TTL file, not its rows.
 */
export const TTL_SETTINGS = { materialize_ttl_after_modify: 1 } as const;

export interface TtlDifference {
  /** As ClickHouse shows it; empty: rows are kept for ever. */
  readonly from: string;
  readonly to: string;
  readonly cost: StepCost;
  /** What follows ALTER TABLE and its name. */
  readonly action: string;
}

/**
 * @param definition the table's `engine_full`
 * @param expression what the declared TTL counts from
 * @param days 0 keeps rows for ever
 * @returns `foreign` where the TTL was written by hand: it is nobody's to change
 */
export function compareTtl(
  definition: string,
  { expression }: { readonly expression: string },
  days: number,
): TtlDifference | 'same' | 'foreign' {
  const from = / TTL (.*?)(?: SETTINGS |$)/s.exec(definition)?.[1] ?? '';
  const to = ttlExpression(expression, days) ?? '';
  if (bare(from) === bare(to)) return 'same';
  if (!isOurs(from, expression)) return 'foreign';
  const keepsLess = to !== '' && (from === '' || daysOf(to) < daysOf(from));
  const action = to === '' ? 'REMOVE TTL' : `MODIFY TTL ${to}`;
  return { from, to, cost: keepsLess ? 'drops' : 'instant', action };
}

/** One interval after the declared column, or none: nothing in it that an operator would miss. */
function isOurs(ttl: string, expression: string): boolean {
  if (ttl === '') return true;
  const start = `${bare(expression)}+toInterval`;
  return bare(ttl).startsWith(start) && /^[A-Za-z]+\(\d+\)$/.test(bare(ttl).slice(start.length));
}

function daysOf(ttl: string): number {
  const [, unit = '', count = '0'] = /toInterval([A-Za-z]+)\((\d+)\)$/.exec(ttl) ?? [];
  const days: Record<string, number> = {
    Second: 1 / 86_400,
    Minute: 1 / 1_440,
    Hour: 1 / 24,
    Day: 1,
    Week: 7,
    Month: 30,
  };
  return Number(count) * (days[unit] ?? 365);
}

const bare = (text: string) => text.replace(/[\s`]/g, '');
