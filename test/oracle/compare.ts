/** What differs between what must be and what is, in words that a failing test can print. */
import { type Outcome, REJECT_REASONS } from '../../src/model/outcome.ts';
import { TABLES, type Table } from '../../src/model/signal.ts';
import type { Cell, Expected, Row } from './rows.ts';

export type Tables = ReadonlyMap<Table, readonly Row[]>;

/** The rows of several requests after each other, as a block that they share has them. */
export function joinRows(all: readonly Expected[]): Tables {
  const joined = new Map<Table, readonly Row[]>();
  for (const table of TABLES) {
    const rows = all.flatMap((one) => one.rows.get(table) ?? []);
    if (rows.length > 0) joined.set(table, rows);
  }
  return joined;
}

function show(value: Cell | undefined): string {
  const withBigInts = (_: string, inner: unknown) => (typeof inner === 'bigint' ? `${inner}n` : inner);
  const text = JSON.stringify(value, withBigInts);
  return text === undefined ? 'nothing' : text.slice(0, 200);
}

function isList(value: Cell | undefined): value is readonly Cell[] {
  return Array.isArray(value);
}

type MaybeCell = Cell | undefined;
function cellDifference(path: string, expected: MaybeCell, actual: MaybeCell): string | undefined {
  if (Object.is(expected, actual)) return undefined;
  if (!isList(expected) || !isList(actual)) return `${path}: ${show(actual)}, not ${show(expected)}`;
  if (expected.length !== actual.length) {
    const lengths = `${actual.length} elements, not ${expected.length}`;
    return `${path}: ${lengths}: ${show(actual)}, not ${show(expected)}`;
  }
  for (const [index, element] of expected.entries()) {
    const difference = cellDifference(`${path}[${index}]`, element, actual[index]);
    if (difference !== undefined) return difference;
  }
  return undefined;
}

function rowDifference(path: string, expected: Row, actual: Row): string | undefined {
  for (const column of new Set([...Object.keys(expected), ...Object.keys(actual)])) {
    const difference = cellDifference(`${path}.${column}`, expected[column], actual[column]);
    if (difference !== undefined) return difference;
  }
  return undefined;
}

/** The first difference: same tables, same rows in the same order, same columns, same values. */
export function tablesDifference(expected: Tables, actual: Tables): string | undefined {
  for (const table of TABLES) {
    const wanted = expected.get(table) ?? [];
    const found = actual.get(table) ?? [];
    if (wanted.length !== found.length) return `${table}: ${found.length} rows, not ${wanted.length}`;
    for (const [index, row] of wanted.entries()) {
      const difference = rowDifference(`${table}[${index}]`, row, found[index] ?? {});
      if (difference !== undefined) return difference;
    }
  }
  return undefined;
}

/** Why an outcome can't be right. A record with several faults may have been refused for any of them. */
export function outcomeDifference(expected: Expected, outcome: Outcome): string | undefined {
  const { accepted, rejected } = expected;
  if (outcome.accepted !== accepted) return `accepted ${outcome.accepted}, not ${accepted}`;
  if (outcome.rejected !== rejected.length) return `rejected ${outcome.rejected}, not ${rejected.length}`;
  for (const reason of REJECT_REASONS) {
    const count = outcome.reasons.get(reason) ?? 0;
    const least = rejected.filter((faults) => faults.size === 1 && faults.has(reason)).length;
    const most = rejected.filter((faults) => faults.has(reason)).length;
    if (count < least || count > most) return `${reason}: ${count}, not ${least} to ${most}`;
  }
  const sum = [...outcome.reasons.values()].reduce((total, count) => total + count, 0);
  if (sum !== outcome.rejected) return `${outcome.rejected} rejected, but ${sum} reasons`;
  const warned = show([...outcome.warnings].sort());
  const wanted = show([...expected.warnings].sort());
  return warned === wanted ? undefined : `warnings ${warned}, not ${wanted}`;
}
