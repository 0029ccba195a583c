/**
 * How one server is: what it says of its tables, its replication, its parts and disks. The questions are
 * those that every version since 18.16 understands; none of them makes the server ask its Keeper, so they are
 * answered while that is away.
 */
import { Fault } from '../base/errors.ts';
import { type ClickHouse, type ServerInfo, query } from '../clickhouse/client.ts';
import { literal } from '../clickhouse/quote.ts';
import type { ReplicaFacts } from './health.ts';

/** What it may take before the server counts as not answering. */
const ANSWER_MS_MAX = 10_000;
/** system.disks came with 19.15. */
const DISKS_SINCE = 20;
/** A question that this user may not ask, or that this server doesn't know: the answer is not known. */
const UNANSWERED = ['ACCESS_DENIED', 'DATABASE_ACCESS_DENIED', 'UNKNOWN_TABLE', 'READONLY'];

/**
 * @param tables names of the tables that are written to
 * @throws Fault where the server doesn't answer, or not to this user
 */
export async function askReplica(
  server: ClickHouse,
  info: ServerInfo,
  database: string,
  tables: readonly string[],
): Promise<ReplicaFacts> {
  const ask = (sql: string) => answerOf(server, sql);
  const here = `database = ${literal(database)}`;
  const written = `(${tables.map(literal).join(', ')})`;
  const [replicas, present, parts, running, disks] = await Promise.all([
    // Other columns of this table are read from Keeper.
    ask(`SELECT count() AS replicated, countIf(is_readonly OR is_session_expired) AS readonly,
      anyIf(table, is_readonly OR is_session_expired) AS readonly_table,
      max(absolute_delay) AS delay, max(queue_size) AS queue
      FROM system.replicas WHERE ${here} AND table IN ${written}`),
    ask(`SELECT count() AS tables FROM system.tables WHERE ${here} AND name IN ${written}`),
    ask(`SELECT max(parts) AS parts FROM (SELECT count() AS parts FROM system.parts
      WHERE active AND ${here} GROUP BY table, partition)`),
    ask(`SELECT count() AS running FROM system.processes WHERE lower(substring(query, 1, 6)) = 'insert'`),
    info.version.major < DISKS_SINCE
      ? undefined
      : ask('SELECT min(free_space / total_space) AS free FROM system.disks WHERE total_space > 0'),
  ]);
  return {
    tables: figure(present?.tables),
    replicated: figure(replicas?.replicated),
    readonlyTable: Number(replicas?.readonly ?? 0) > 0 ? String(replicas?.readonly_table) : undefined,
    delaySeconds: figure(replicas?.delay),
    queueSize: figure(replicas?.queue),
    partsMax: figure(parts?.parts),
    insertsRunning: figure(running?.running),
    diskFree: figure(disks?.free),
  };
}

type Answer = Readonly<Record<string, string | number | null>>;

async function answerOf(server: ClickHouse, sql: string): Promise<Answer | undefined> {
  try {
    const timeoutMs = Math.min(ANSWER_MS_MAX, server.queryTimeoutMs);
    const [row] = await query<Answer>(server, sql, {}, timeoutMs);
    return row;
  } catch (error) {
    if (error instanceof Fault && UNANSWERED.includes(error.code)) return undefined;
    throw error;
  }
}

function figure(value: string | number | null | undefined): number | undefined {
  return value === undefined || value === null || !Number.isFinite(Number(value)) ? undefined : Number(value);
}
