/**
 * What ClickHouse runs short of: parts of a partition, replication, disk. In: the topology. Out: readings,
 * with which clients are pushed back before inserts fail.
 *
 * A server that doesn't answer is no reason: batches wait for it, that is what the queue is for. A question
 * that a server doesn't understand (18.16 has no system.disks) or that this user may not ask gives no
 * reading.
 */
import { sleep, tickMs } from '../base/clock.ts';
import { Fault } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { type ClickHouse, close, query } from '../clickhouse/client.ts';
import { literal } from '../clickhouse/quote.ts';
import type { Settings } from '../config/settings.ts';
import type { Replica, Topology } from '../topology/topology.ts';

const EVERY_MS = 2_000;
const ANSWER_MS_MAX = 2_000;
/** What was found counts for so long, when nothing newer is found. */
const KEPT_MS = 10_000;
/** A question that a server refused is put to it again after this long: it may have been upgraded. */
const REFUSED_MS = 300_000;
/** A server that is away isn't asked in every round, so that it doesn't hold up the others. */
const AWAY_MS = 10_000;
/** Codes of answers that say that the server can't answer, or not to this user. */
const UNANSWERED = [
  'ACCESS_DENIED',
  'DATABASE_ACCESS_DENIED',
  'UNKNOWN_TABLE',
  'UNKNOWN_IDENTIFIER',
  'NO_SUCH_COLUMN_IN_TABLE',
  'THERE_IS_NO_COLUMN',
  'UNKNOWN_FUNCTION',
  'CODE_46',
  'CODE_47',
];

/** As the gateways take it (admit/pressure.ts). */
export interface StrainReading {
  readonly reason: 'clickhouse_parts' | 'clickhouse_disk' | 'replication_delay';
  readonly value: number;
  readonly limit: number;
  readonly ratio: number;
}

type Bounds = Pick<
  Settings['pressure'],
  'partsPercentMax' | 'replicaDelaySecondsMax' | 'diskFreePercentMin'
>;

/** What one server says of itself; undefined is not known. */
export interface HostStrain {
  /** Active parts of the partition that is closest to what its table allows, and what that is. */
  readonly parts: { readonly count: number; readonly delayFrom: number } | undefined;
  /** Behind the other replicas, of the table that is furthest behind; undefined where none is replicated. */
  readonly delaySeconds: number | undefined;
  /** Of the fullest disk, 0 to 1. */
  readonly diskFree: number | undefined;
}

export interface StrainOptions {
  readonly topology: () => Topology | undefined;
  /** Makes the clients, with a bound on connections; they are closed with `stop`. */
  readonly connect: (url: string, connectionsMax: number) => ClickHouse;
  readonly database: string;
  /** Names of the tables that are written to. */
  readonly tables: readonly string[];
  readonly bounds: () => Bounds;
  readonly logger: Logger;
  readonly everyMs?: number;
}

interface Server {
  readonly client: ClickHouse;
  found: { readonly atMs: number; readonly strain: HostStrain } | undefined;
  /** Question -> until when it isn't put again. */
  readonly refused: Map<string, number>;
  notBeforeMs: number;
}

export class Strain {
  readonly #options: StrainOptions;
  readonly #stop = new AbortController();
  /** By URL. */
  readonly #servers = new Map<string, Server>();
  #running: Promise<void> | undefined;

  constructor(options: StrainOptions) {
    this.#options = options;
  }

  /** Asks from now on, one question at a time. */
  start(): void {
    this.#running ??= this.#keepAsking();
  }

  /** Resolves when nothing is under way and all connections are closed. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all([...this.#servers.values()].map(({ client }) => close(client)));
    await this.#running;
  }

  /** One of each reason at most: of the shard where it is worst. */
  get readings(): StrainReading[] {
    const shards = this.#options.topology()?.shards ?? [];
    const found = shards.map(({ replicas }) => replicas.flatMap((replica) => this.#foundOf(replica) ?? []));
    return judgeStrain(found, this.#options.bounds());
  }

  #foundOf({ url }: Replica): HostStrain | undefined {
    const found = url === undefined ? undefined : this.#servers.get(url)?.found;
    return found !== undefined && tickMs() - found.atMs < KEPT_MS ? found.strain : undefined;
  }

  async #keepAsking(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await this.#round();
      await sleep(this.#options.everyMs ?? EVERY_MS, signal);
    }
  }

  async #round(): Promise<void> {
    const replicas = this.#options.topology()?.shards.flatMap((shard) => shard.replicas) ?? [];
    const urls = new Set(replicas.flatMap(({ url }) => url ?? []));
    for (const [url, { client }] of this.#servers) {
      if (urls.has(url)) continue;
      this.#servers.delete(url);
      await close(client);
    }
    for (const url of urls) {
      if (this.#stop.signal.aborted) return;
      const server = this.#serverOf(url);
      if (tickMs() >= server.notBeforeMs) await this.#ask(server);
    }
  }

  #serverOf(url: string): Server {
    let server = this.#servers.get(url);
    if (server === undefined) {
      const client = this.#options.connect(url, 1);
      server = { client, found: undefined, refused: new Map(), notBeforeMs: 0 };
      this.#servers.set(url, server);
    }
    return server;
  }

  async #ask(server: Server): Promise<void> {
    const { database, tables, logger } = this.#options;
    const questions = Object.entries(questionsOf(database, tables));
    const put = questions.filter(([name]) => (server.refused.get(name) ?? 0) <= tickMs());
    try {
      const rows = await answersOf(server, put);
      server.found = { atMs: tickMs(), strain: strainOf(rows) };
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      server.notBeforeMs = tickMs() + AWAY_MS;
      const { host } = server.client;
      logger.debug({ host, reason: error.message }, 'could not ask what ClickHouse runs short of');
    }
  }
}

/** One row of an answer: which question, of what (a table, a disk), and the figure or text. */
interface Row {
  readonly what: string;
  readonly name: string;
  readonly value: string;
}

/** Each gives rows of three strings, so that all are put as one. */
function questionsOf(database: string, tables: readonly string[]): Record<string, string> {
  const here = `database = ${literal(database)}`;
  const written = `(${tables.map(literal).join(', ')})`;
  return {
    parts: `SELECT 'parts' AS what, table AS name, toString(max(parts)) AS value FROM (
      SELECT table, partition, count() AS parts FROM system.parts
      WHERE active AND ${here} AND table IN ${written} GROUP BY table, partition) GROUP BY table`,
    engine: `SELECT 'engine' AS what, name, engine_full AS value FROM system.tables
      WHERE ${here} AND name IN ${written}`,
    delayFrom: `SELECT 'delayFrom' AS what, name, value FROM system.merge_tree_settings
      WHERE name = 'parts_to_delay_insert'`,
    // Other columns of this table are read from Keeper.
    delay: `SELECT 'delay' AS what, table AS name, toString(absolute_delay) AS value FROM system.replicas
      WHERE ${here} AND table IN ${written}`,
    disk: `SELECT 'disk' AS what, name, toString(free_space / total_space) AS value FROM system.disks
      WHERE total_space > 0`,
  };
}

/** All as one query; when the server refuses that, one by one, and without those that it refuses then. */
async function answersOf(
  server: Server, questions: readonly (readonly [name: string, sql: string])[],
): Promise<Row[]> {
  if (questions.length === 0) return [];
  try {
    return await rowsOf(server, questions.map(([, sql]) => sql).join(' UNION ALL '));
  } catch (error) {
    if (!isUnanswered(error)) throw error;
  }
  const rows: Row[] = [];
  for (const [name, sql] of questions) {
    try {
      rows.push(...(await rowsOf(server, sql)));
    } catch (error) {
      if (!isUnanswered(error)) throw error;
      server.refused.set(name, tickMs() + REFUSED_MS);
    }
  }
  return rows;
}

function rowsOf({ client }: Server, sql: string): Promise<Row[]> {
  return query<Row>(client, sql, {}, Math.min(ANSWER_MS_MAX, client.queryTimeoutMs));
}

function isUnanswered(error: unknown): boolean {
  return error instanceof Fault && UNANSWERED.includes(error.code);
}

/** As the table's own settings say, where they do: `… SETTINGS index_granularity = 8192, …`. */
const DELAY_FROM = /\bparts_to_delay_insert = (\d+)/;

function strainOf(rows: readonly Row[]): HostStrain {
  const of = (what: string) => rows.filter((row) => row.what === what);
  const usual = Number(of('delayFrom')[0]?.value ?? 0);
  const own = new Map(of('engine').map(({ name, value }) => [name, Number(DELAY_FROM.exec(value)?.[1])]));
  const parts = of('parts')
    .map(({ name, value }) => ({ count: Number(value), delayFrom: own.get(name) || usual }))
    .filter(({ delayFrom }) => delayFrom > 0)
    .sort((a, b) => b.count / b.delayFrom - a.count / a.delayFrom)[0];
  const delays = of('delay').map(({ value }) => Number(value));
  const free = of('disk').map(({ value }) => Number(value));
  return {
    parts,
    delaySeconds: delays.length === 0 ? undefined : Math.max(...delays),
    diskFree: free.length === 0 ? undefined : Math.min(...free),
  };
}

/**
 * What the servers of all shards say, against the bounds. A shard is as well off as its best replica, which
 * takes its inserts (of the delays the best but one: some replica is always the one that the others follow);
 * the installation as its worst shard. Pure.
 * @param shards those replicas of each shard that have said something
 */
export function judgeStrain(
  shards: readonly (readonly HostStrain[])[],
  { partsPercentMax, replicaDelaySecondsMax, diskFreePercentMin }: Bounds,
): StrainReading[] {
  const parts = shards.map((hosts) => {
    const readings = hosts.flatMap(({ parts: found }) => {
      if (found === undefined) return [];
      const limit = (found.delayFrom * partsPercentMax) / 100;
      const { count: value } = found;
      return [{ reason: 'clickhouse_parts' as const, value, limit, ratio: value / limit }];
    });
    return readings.sort(byRatio)[0];
  });
  const delays = shards.map((hosts) => {
    const value = hosts.flatMap(({ delaySeconds }) => delaySeconds ?? []).sort((a, b) => a - b)[1];
    if (value === undefined || replicaDelaySecondsMax === 0) return undefined;
    const limit = replicaDelaySecondsMax;
    return { reason: 'replication_delay' as const, value, limit, ratio: value / limit };
  });
  const disks = shards.map((hosts) => {
    const free = hosts.flatMap(({ diskFree }) => diskFree ?? []).sort((a, b) => b - a)[0];
    if (free === undefined || diskFreePercentMin === 0) return undefined;
    const [value, limit] = [Math.round(free * 10_000) / 100, diskFreePercentMin];
    return { reason: 'clickhouse_disk' as const, value, limit, ratio: Math.min(limit / value, RATIO_MAX) };
  });
  return [parts, delays, disks].flatMap((found) => {
    const worst = found.filter((reading) => reading !== undefined).sort(byRatio);
    return worst.at(-1) ?? [];
  });
}

/** Of a disk without any free space: a number that JSON can carry. */
const RATIO_MAX = 1_000;

function byRatio(a: StrainReading, b: StrainReading): number {
  return a.ratio - b.ratio;
}
