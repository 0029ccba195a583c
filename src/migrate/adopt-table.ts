/**
 * Takes one table over. Each statement can be followed by a kill: what is left is a state from which the next
 * run goes on, since a partition is replaced as a whole or recognised by Keeper, and the old table keeps its
 * rows to the end.
 */
import { Fault } from '../base/errors.ts';
import { type ClickHouse, query } from '../clickhouse/client.ts';
import { type Takeover, adoptingText } from './adopt-plan.ts';
import { literal } from '../clickhouse/quote.ts';
import { quote } from './sql.ts';
import { fullName, isReplicated } from './state.ts';
import { tableText } from './write-ddl.ts';
import { waitFor } from './wait.ts';

export interface TakeoverRun {
  readonly server: ClickHouse;
  /** Other hosts of the shard put rows into the same replicated table. */
  readonly shared: boolean;
  readonly major: number;
  readonly waitMsMax: number;
  /** That the table has from now on. */
  readonly comment: string;
  /** Runs a statement and keeps it for the report; with a dry run only the latter. */
  readonly run: (sql: string) => Promise<void>;
  readonly dryRun: boolean;
}

/** How long inserts that are under way are waited for. */
const INSERTS_MS_MAX = 15_000;
/** DROP … SYNC: the place in Keeper is free when the statement returns. */
const SYNC_SINCE_MAJOR = 21;

export function syncOf(major: number): string {
  return major >= SYNC_SINCE_MAJOR ? ' SYNC' : '';
}

/** @throws Fault, with what to do; nothing is lost then */
export async function takeOver(takeover: Takeover, host: TakeoverRun): Promise<void> {
  const { declared, how, from, inTheWay } = takeover;
  if (how === 'keep') return startMerges(takeover, host);
  await waitForInserts(host, from.table);
  if (inTheWay !== undefined) {
    await host.run(`DROP TABLE ${tableText(inTheWay)}${syncOf(host.major)}`);
  }
  if (how === 'replicate') return replicate(takeover, host);
  await host.run(`RENAME TABLE ${tableText(from)} TO ${tableText(declared)}`);
  if (how === 'finish') await startMerges(takeover, host);
}

/** An interrupted run may have left them stopped. */
async function startMerges({ declared, from, hasBefore }: Takeover, host: TakeoverRun): Promise<void> {
  if (isReplicated(from) && hasBefore) await host.run(`SYSTEM START MERGES ${tableText(declared)}`);
}

async function replicate(takeover: Takeover, host: TakeoverRun): Promise<void> {
  const { declared, from } = takeover;
  const { database } = declared;
  const adopting = { database, table: takeover.adopting };
  const before = { database, table: takeover.before };
  await host.run(adoptingText(takeover, host.comment));
  // Merges would change rows that are counted, and parts that Keeper is to recognise.
  await host.run(`SYSTEM STOP MERGES ${tableText(from)}`);
  await host.run(`SYSTEM STOP MERGES ${tableText(adopting)}`);
  const counts = await rowsByPartition(host.server, fullName(from));
  for (const [partition, rows] of counts) {
    const there = (await rowsByPartition(host.server, fullName(adopting))).get(partition) ?? 0;
    if (!host.shared && there === rows) continue;
    const verb = host.shared ? 'ATTACH' : 'REPLACE';
    await host.run(
      `ALTER TABLE ${tableText(adopting)} ${verb} PARTITION ID ${literal(partition)} FROM ${tableText(from)}`,
    );
    if (host.shared && !host.dryRun) await checkGrowth(host, fullName(adopting), partition, rows);
  }
  await waitForInserts(host, from.table);
  if (!host.dryRun) await compare(takeover, host, fullName(from), fullName(adopting));
  const names = [
    `${tableText(from)} TO ${tableText(before)}`,
    `${tableText(adopting)} TO ${tableText(declared)}`,
  ];
  await host.run(`RENAME TABLE ${names.join(', ')}`);
  // An insert that came between the counting and the renaming is in the old table alone.
  if (!host.dryRun) await compare(takeover, host, fullName(before), fullName(declared));
  await host.run(`SYSTEM START MERGES ${tableText(declared)}`);
  await host.run(`SYSTEM START MERGES ${tableText(before)}`);
}

/** Rows of active parts, by the partition's id. */
export async function rowsByPartition(server: ClickHouse, table: string): Promise<Map<string, number>> {
  const [database = '', ...name] = table.split('.');
  const rows = await query<{ partition_id: string; row_count: string }>(
    server,
    `SELECT partition_id, toString(sum(rows)) AS row_count FROM system.parts
WHERE active AND database = ${literal(database)} AND table = ${literal(name.join('.'))}
GROUP BY partition_id ORDER BY partition_id`,
  );
  return new Map(rows.map(({ partition_id: id, row_count: count }) => [id, Number(count)]));
}

/** Parts that an interrupted run has attached are recognised by Keeper, and attached no second time. */
async function checkGrowth(
  { server }: TakeoverRun,
  table: string,
  partition: string,
  rows: number,
): Promise<void> {
  const after = (await rowsByPartition(server, table)).get(partition) ?? 0;
  if (after >= rows) return;
  throw countsDiffer(table, partition, rows, after);
}

async function compare(
  { from }: Takeover,
  { server, shared }: TakeoverRun,
  old: string,
  made: string,
): Promise<void> {
  const [wanted, found] = await Promise.all([rowsByPartition(server, old), rowsByPartition(server, made)]);
  for (const [partition, rows] of wanted) {
    const there = found.get(partition) ?? 0;
    const complete = shared ? there >= rows : there === rows;
    if (!complete) throw countsDiffer(`${made}, taken over from ${fullName(from)},`, partition, rows, there);
  }
}

function countsDiffer(table: string, partition: string, wanted: number, found: number): Fault {
  return new Fault(
    'adopt_rows_differ',
    'here',
    `${table} has ${found} rows of partition ${partition}, the old table has ${wanted}: somebody writes ` +
      'to it. Stop all writers, the old table keeps its rows, and run `sluice migrate adopt` again',
  );
}

/** @throws Fault when inserts into the table go on */
async function waitForInserts({ server, dryRun, waitMsMax }: TakeoverRun, table: string): Promise<void> {
  if (dryRun) return;
  await waitFor(
    Math.min(INSERTS_MS_MAX, waitMsMax),
    async () => {
      const running = await query(
        server,
        `SELECT query FROM system.processes
WHERE positionCaseInsensitive(query, 'insert') = 1 AND position(query, ${literal(table)}) > 0`,
      );
      return running.length === 0 ? true : undefined;
    },
    () =>
      `inserts into ${quote(table)} are running on ${server.host}: stop the writers while tables are taken ` +
      'over, their batches wait in Redis',
  );
}
