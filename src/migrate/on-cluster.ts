/**
 * A statement through the DDL queue of the cluster: sent to one host with ON CLUSTER, then its task is
 * watched until every host has done it, since the answer to the statement itself may come before (code 159
 * while the task goes on). The task of ours is known by its text and by not having been there before; those
 * of other people are left alone.
 *
 * The queue is read from system.distributed_ddl_queue, or on servers without it (before 21) from
 * system.zookeeper at the path that configurations have by default. Where neither can be read, only the
 * effects on each host are left to look at, which the caller does in any case.
 */
import type { ClickHouseSettings } from '@clickhouse/client';
import { Fault } from '../base/errors.ts';
import { type ClickHouse, command, query } from '../clickhouse/client.ts';
import type { MigrateContext } from './context.ts';
import { bareSql } from './mutations.ts';
import { literal } from '../clickhouse/quote.ts';
import type { HostView } from './survey.ts';
import { waitFor } from './wait.ts';

const QUEUE_PATH = '/clickhouse/task_queue/ddl';
/** The table is there since 21.1. */
const QUEUE_TABLE_SINCE_MAJOR = 21;
/** How long the server waits with its answer; after that the task is watched. */
const ANSWER_SECONDS_MAX = 10;

interface TaskHost {
  /** As the cluster's definition names it, `host:port` of the native protocol. */
  readonly host: string;
  readonly done: boolean;
  /** The server's words where it failed, else empty. */
  readonly failure: string;
}

interface Task {
  readonly name: string;
  readonly hosts: readonly TaskHost[];
}

/**
 * Resolves once every host of the cluster has done the statement.
 * @throws Fault with the words of each host that failed; `migrate_timeout` that names those that are late
 */
export async function runOnCluster(
  sql: string,
  views: readonly HostView[],
  context: MigrateContext,
): Promise<void> {
  const [initiator] = views as [HostView];
  const before = await tasksOf(initiator, sql, context);
  const error = await send(sql, initiator, context);
  const known = new Set(before?.map(({ name }) => name));
  const ours = async () => (await tasksOf(initiator, sql, context))?.filter(({ name }) => !known.has(name));
  const begun = before && (await ours());
  // Refused before it was queued; or nobody can tell, and the effects will.
  if (begun === undefined || begun.length === 0) {
    if (error !== undefined && (error.code !== 'TIMEOUT_EXCEEDED' || before !== undefined)) throw error;
    return;
  }
  const tasks = await untilDone(ours, context);
  const failures = tasks.flatMap(({ hosts }) => hosts.filter(({ failure }) => failure !== ''));
  if (failures.length === 0) return;
  const words = failures.map(({ host, failure }) => `${host} says: ${failure}`).join('; ');
  throw new Fault('migrate_host_failed', 'here', words, { cause: error });
}

/**
 * Waits for a task with the same text that an interrupted migrator left in the queue: a host that is late
 * with it must not run the statement a second time.
 * @throws Fault `migrate_timeout`
 */
export async function settleQueued(
  sql: string,
  views: readonly HostView[],
  context: MigrateContext,
): Promise<void> {
  const [initiator] = views as [HostView];
  await untilDone(() => tasksOf(initiator, sql, context), context);
}

async function untilDone(
  tasks: () => Promise<readonly Task[] | undefined>,
  { waitMsMax }: MigrateContext,
): Promise<readonly Task[]> {
  let open: string[] = [];
  const check = async () => {
    const found = (await tasks()) ?? [];
    open = found.flatMap(({ name, hosts }) =>
      hosts.filter(({ done }) => !done).map(({ host }) => `${name} on ${host}`),
    );
    return open.length === 0 ? found : undefined;
  };
  return waitFor(waitMsMax, check, () => `the cluster's DDL queue has not done ${open.join(', ')}`);
}

/** The error that the statement was answered with, if any; one in time means nothing yet. */
async function send(
  sql: string,
  { server, info }: HostView,
  { waitMsMax }: MigrateContext,
): Promise<Fault | undefined> {
  const seconds = Math.max(1, Math.min(ANSWER_SECONDS_MAX, Math.floor(waitMsMax / 1000)));
  const settings: ClickHouseSettings = { distributed_ddl_task_timeout: String(seconds) };
  if (info.hasSetting('distributed_ddl_output_mode')) {
    settings.distributed_ddl_output_mode = 'null_status_on_timeout';
  }
  try {
    await command(server, sql, settings, waitMsMax);
    return undefined;
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    return error;
  }
}

/** The tasks of the queue with this text, done or not; undefined where the queue can't be read. */
async function tasksOf(
  { server, info }: HostView,
  sql: string,
  { layout }: MigrateContext,
): Promise<readonly Task[] | undefined> {
  const text = bareSql(sql);
  try {
    return info.version.major >= QUEUE_TABLE_SINCE_MAJOR
      ? await tasksOfTable(server, text, layout.cluster ?? '')
      : await tasksOfKeeper(server, text);
  } catch (error) {
    // Not allowed to read it, or it is kept elsewhere: the effects on each host decide.
    if (error instanceof Fault && error.retry !== 'elsewhere') return undefined;
    throw error;
  }
}

interface TableRow {
  readonly entry: string;
  readonly query: string;
  readonly place: string;
  readonly status: string | null;
  readonly exception_code: number | null;
  readonly exception_text: string | null;
}

async function tasksOfTable(server: ClickHouse, text: string, cluster: string): Promise<Task[]> {
  const rows = await query<TableRow>(
    server,
    `SELECT entry, query, concat(ifNull(host, ''), ':', toString(ifNull(port, 0))) AS place,
    toString(status) AS status, exception_code, exception_text
FROM system.distributed_ddl_queue WHERE cluster IN ('', ${literal(cluster)})`,
  );
  const tasks = new Map<string, TaskHost[]>();
  // The queue's text names the UUID that all hosts are to give a new table.
  const textOf = (row: TableRow) => bareSql(row.query.replace(/ UUID '[0-9a-f-]{36}'/i, ''));
  for (const row of rows.filter((candidate) => textOf(candidate) === text)) {
    const failed = (row.exception_code ?? 0) !== 0;
    const failure = failed ? row.exception_text || `code ${row.exception_code}` : '';
    const hosts = tasks.get(row.entry) ?? [];
    hosts.push({ host: row.place, done: row.status === 'Finished' || row.status === 'Removing', failure });
    tasks.set(row.entry, hosts);
  }
  return [...tasks].map(([name, hosts]) => ({ name, hosts }));
}

interface Node {
  readonly name: string;
  readonly value: string;
}

async function tasksOfKeeper(server: ClickHouse, text: string): Promise<Task[]> {
  const children = (path: string) =>
    query<Node>(server, `SELECT name, value FROM system.zookeeper WHERE path = ${literal(path)}`);
  const found = (await children(QUEUE_PATH)).filter(({ value }) => bareSql(queryIn(value)) === text);
  return Promise.all(
    found.map(async ({ name, value }) => {
      const finished = new Map(
        (await children(`${QUEUE_PATH}/${name}/finished`)).map((node) => [node.name, node.value]),
      );
      const hosts = hostsIn(value).map((host) => ({
        host: decodeURIComponent(host),
        done: finished.has(host),
        failure: failureIn(finished.get(host) ?? ''),
      }));
      return { name, hosts };
    }),
  );
}

/** Of an entry of the queue: lines `version:`, `query:` (with its line ends escaped), `hosts:`, … */
function queryIn(entry: string): string {
  const [, text = ''] = /^query: (.*)$/m.exec(entry) ?? [];
  return text.replace(/\\n/g, '\n');
}

function hostsIn(entry: string): string[] {
  const [, list = ''] = /^hosts: \[(.*)\]$/m.exec(entry) ?? [];
  return [...list.matchAll(/'([^']*)'/g)].map(([, host = '']) => host);
}

/** A code in the first line, 0 for success, and the words after it. */
function failureIn(value: string): string {
  const [code = '', ...words] = value.split('\n');
  return code === '0' || code === '' ? '' : words.join(' ').trim() || `code ${code}`;
}
