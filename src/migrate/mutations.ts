/**
 * Mutations (UPDATE, DELETE, MATERIALIZE …) that a step of ours began: found by their text, so that those of
 * other people are neither waited for nor taken for ours. An interrupted migrator's are found again, and not
 * begun a second time.
 */
import { type ClickHouse, query } from '../clickhouse/client.ts';
import { literal } from '../clickhouse/quote.ts';
import type { RealName } from './state.ts';

export interface Mutation {
  readonly id: string;
  /** As `bareSql` gives it. */
  readonly command: string;
  /** Unix time by the clock of the replica that was asked. */
  readonly createdS: number;
  readonly done: boolean;
  /** Why the last try failed, in the server's words; empty while all is well, and before 19.17. */
  readonly failure: string;
}

interface Row {
  readonly mutation_id: string;
  readonly command: string;
  readonly created_s: number;
  readonly is_done: number;
  readonly latest_fail_reason?: string;
}

/** All that the host knows of for a table, finished ones too. @throws Fault */
export async function mutationsOf(server: ClickHouse, { database, table }: RealName): Promise<Mutation[]> {
  const rows = await query<Row>(
    server,
    `SELECT *, toUInt32(create_time) AS created_s FROM system.mutations
WHERE database = ${literal(database)} AND table = ${literal(table)}`,
  );
  return rows.map((row) => ({
    id: row.mutation_id,
    command: bareSql(row.command),
    createdS: row.created_s,
    done: row.is_done === 1,
    failure: row.is_done === 1 ? '' : (row.latest_fail_reason ?? ''),
  }));
}

/** Those of a statement that were begun at or after a moment. */
export function ownMutations(mutations: readonly Mutation[], sql: string, sinceS: number): Mutation[] {
  const text = bareSql(sql);
  return mutations.filter(({ command, createdS }) => createdS >= sinceS && text.includes(command));
}

/**
 * SQL without what servers write in another way than people: blanks, brackets, quotes, capitals, the two
 * signs for "equal" and "not equal". Only for comparing.
 */
export function bareSql(text: string): string {
  return text
    .replace(/[\s`"'\\()]+/g, '')
    .replaceAll('==', '=')
    .replaceAll('<>', '!=')
    .toLowerCase();
}
