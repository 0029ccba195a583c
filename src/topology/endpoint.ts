/**
 * One URL, and all that is asked of whoever answers there: a handful of small queries, all at once. Works on
 * versions from 18.16 on: what a version doesn't have is left out, and not asked for again.
 */
import { nowMs, tickMs } from '../base/clock.ts';
import { Fault } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { type ClickHouse, close, createClickHouse, parseClickHouseUrl, query } from '../clickhouse/client.ts';
import { classify } from '../clickhouse/codes.ts';
import type { Settings } from '../config/settings.ts';
import { type ClusterRow, type Member, definitionOf } from './definition.ts';
import type { Disk, HostFacts, Keeper } from './host-report.ts';
import { type NativeAnswer, type ServerIdentity, identityOverNative, uuidOf } from './identity.ts';

export type Answer =
  | { readonly reachable: true; readonly facts: HostFacts }
  | { readonly reachable: false; readonly fault: Fault };

/** A host that is slower than this counts as away: a look at a cluster mustn't wait for its slowest host. */
const ANSWER_MS_MAX = 5_000;
/** A server whose Keeper is away may think about it for long. */
const KEEPER_MS_MAX = 3_000;
const NOT_THERE: ReadonlySet<string> = new Set([
  'UNKNOWN_TABLE',
  'UNKNOWN_FUNCTION',
  'UNKNOWN_IDENTIFIER',
  'CODE_46',
  'CODE_47',
]);
/** Of a server that looks a name up in vain. */
export const NAME_CODES: ReadonlySet<string> = new Set(['DNS_ERROR', 'POCO_EXCEPTION', 'CODE_1000']);
const NOT_ALLOWED: ReadonlySet<string> = new Set(['ACCESS_DENIED', 'DATABASE_ACCESS_DENIED']);

interface About {
  readonly version: string;
  readonly timezone: string;
  readonly uptime: number;
  readonly host: string;
  readonly path: string;
  readonly seconds: number;
}

interface Modern {
  /** A 64-bit number, as text. */
  readonly ms: string;
  readonly uuid: string;
  readonly port: number;
}

export class Endpoint {
  readonly url: string;
  readonly host: string;
  readonly #server: ClickHouse;
  readonly #cluster: string;
  readonly #database: string;
  readonly #msMax: number;
  /** Tables that this version or configuration doesn't have. */
  readonly #absent = new Set<string>();
  /** Of the server at the last answer: what is absent was absent there. */
  #seen = { version: '', uptimeSeconds: 0 };

  /** @throws ConfigurationError when the URL can't be used */
  constructor(url: string, settings: Settings['clickhouse'], logger: Logger) {
    this.url = url;
    this.#server = createClickHouse(url, settings, logger);
    this.host = this.#server.host;
    this.#cluster = settings.cluster;
    this.#database = settings.database;
    this.#msMax = Math.min(settings.queryTimeoutMs, ANSWER_MS_MAX);
  }

  /** Never rejects: whoever can't be asked is a Fault. */
  async ask(): Promise<Answer> {
    try {
      return { reachable: true, facts: await this.#facts() };
    } catch (error) {
      return { reachable: false, fault: classify(error, this.host) };
    }
  }

  /** Has this server ask a member who it is. Never rejects. */
  askMember(member: Member, known: ServerIdentity): Promise<NativeAnswer> {
    return identityOverNative(this.#server, member, parseClickHouseUrl(this.url), known, this.#msMax);
  }

  close(): Promise<void> {
    return close(this.#server);
  }

  async #facts(): Promise<HostFacts> {
    const unreadable: string[] = [];
    const rows = <Row>(what: string, sql: string) => this.#optional<Row>(what, sql, unreadable, this.#msMax);
    const database = `'${this.#database}'`;
    const databasesSql = 'SELECT name, data_path AS path, hostName() AS host FROM system.databases';
    const [about, macros, clusters, databases, tables, readOnly, disks, keeper] = await Promise.all([
      this.#about(),
      rows<{ macro: string; substitution: string }>(
        'system.macros',
        'SELECT macro, substitution FROM system.macros',
      ),
      this.#clusters(unreadable),
      query<{ name: string; path: string; host: string }>(this.#server, databasesSql, {}, this.#msMax),
      rows<{ name: string }>('system.tables', `SELECT name FROM system.tables WHERE database = ${database}`),
      rows<{ table: string }>(
        'system.replicas',
        'SELECT table FROM system.replicas ' +
          `WHERE database = ${database} AND (is_readonly OR is_session_expired)`,
      ),
      rows<{ name: string; free: string; total: string }>(
        'system.disks',
        'SELECT name, free_space AS free, total_space AS total FROM system.disks',
      ),
      this.#keeper(unreadable),
    ]);
    this.#remember(about);
    return {
      ...about,
      balanced: !databases.some(
        ({ name, path, host }) =>
          name === 'system' && path === about.identity.dataPath && host === about.identity.hostName,
      ),
      macros: Object.fromEntries((macros ?? []).map(({ macro, substitution }) => [macro, substitution])),
      keeper,
      databases: databases.map(({ name }) => name),
      tables: (tables ?? []).map(({ name }) => name),
      readOnlyTables: (readOnly ?? []).map(({ table }) => table),
      disks: disks?.map(
        ({ name, free, total }): Disk => ({
          name,
          freeBytes: Number(free),
          totalBytes: Number(total),
        }),
      ),
      clusters: [...new Set(clusters.rows.map(({ cluster }) => cluster))],
      definition: definitionOf(clusters.rows, this.#cluster),
      definitionTrouble: clusters.trouble,
      unreadable,
    };
  }

  /** A server whose <remote_servers> can't be used still answers everything else. */
  async #clusters(unreadable: string[]) {
    try {
      const sql = 'SELECT * FROM system.clusters';
      const rows = await this.#optional<ClusterRow>('system.clusters', sql, unreadable, this.#msMax);
      return { rows: rows ?? [], trouble: undefined };
    } catch (error) {
      const { code, message, retry } = classify(error, this.host);
      const busy = retry === 'elsewhere' || code === 'clickhouse_timeout';
      if (busy && !NAME_CODES.has(code)) throw error;
      return { rows: [], trouble: { code, message } };
    }
  }

  async #about() {
    const started = nowMs();
    const tick = tickMs();
    let took = 0;
    const sql =
      'SELECT version() AS version, timezone() AS timezone, uptime() AS uptime, hostName() AS host, ' +
      "data_path AS path, toUnixTimestamp(now()) AS seconds FROM system.databases WHERE name = 'system'";
    const modernSql =
      'SELECT toUnixTimestamp64Milli(now64(3)) AS ms, toString(serverUUID()) AS uuid, tcpPort() AS port';
    const [[about], modern] = await Promise.all([
      query<About>(this.#server, sql, {}, this.#msMax).finally(() => {
        took = tickMs() - tick;
      }),
      this.#optional<Modern>('modern functions', modernSql, [], this.#msMax),
    ]);
    if (about === undefined) {
      throw new Fault(
        'clickhouse_answer_unknown',
        'here',
        `ClickHouse at ${this.host} answered with nothing`,
      );
    }
    const now = modern?.[0];
    const theirs = now === undefined ? Number(about.seconds) * 1000 + 500 : Number(now.ms);
    return {
      identity: { hostName: about.host, dataPath: about.path, uuid: uuidOf(now?.uuid), tcpPort: now?.port },
      version: about.version,
      timezone: about.timezone,
      uptimeSeconds: Number(about.uptime),
      clockSkewMs: Math.round(theirs - (started + took / 2)),
      clockErrorMs: Math.ceil(took / 2) + (now === undefined ? 500 : 0),
    };
  }

  /** Everything but "no such table" and "not allowed" means that it is away. */
  async #keeper(unreadable: string[]): Promise<Keeper> {
    const of = (state: Keeper['state'], fingerprint?: string, session?: string): Keeper => ({
      state,
      fingerprint,
      session,
    });
    const table = 'system.zookeeper';
    try {
      // The node that every version makes as soon as it uses Keeper; its number tells Keepers apart.
      const sql = `SELECT name, czxid, ctime FROM ${table} WHERE path = '/' AND name = 'clickhouse'`;
      const [nodes, sessions] = await Promise.all([
        this.#optional<{ czxid: string; ctime: string }>(table, sql, unreadable, KEEPER_MS_MAX),
        this.#optional<{ host: string; port: number; is_expired?: number }>(
          'system.zookeeper_connection',
          'SELECT * FROM system.zookeeper_connection',
          [],
          KEEPER_MS_MAX,
        ),
      ]);
      if (nodes === undefined) return of(unreadable.includes(table) ? 'unknown' : 'none');
      const node = nodes[0];
      const session = sessions?.[0];
      return of(
        session?.is_expired === 1 ? 'away' : 'reachable',
        node && `${node.czxid} ${node.ctime}`,
        session && `${session.host}:${session.port}`,
      );
    } catch {
      // One that is only slow, and has no Keeper at all, hasn't lost it.
      return of((await this.#hasKeeper()) ? 'away' : 'none');
    }
  }

  /** The table is there only where the configuration names a Keeper. */
  async #hasKeeper(): Promise<boolean> {
    const sql = "SELECT name FROM system.tables WHERE database = 'system' AND name = 'zookeeper'";
    const tables = await query<{ name: string }>(this.#server, sql, {}, this.#msMax);
    return tables.length > 0;
  }

  /** @returns undefined where the server has no such thing, or the user may not read it. @throws Fault */
  async #optional<Row>(
    what: string,
    sql: string,
    unreadable: string[],
    msMax: number,
  ): Promise<Row[] | undefined> {
    if (this.#absent.has(what)) return undefined;
    try {
      return await query<Row>(this.#server, sql, {}, msMax);
    } catch (error) {
      const fault = classify(error, this.host);
      if (NOT_THERE.has(fault.code)) this.#absent.add(what);
      else if (NOT_ALLOWED.has(fault.code)) unreadable.push(what);
      else throw fault;
      return undefined;
    }
  }

  /** A server that was started anew may have what it had not: all of it is asked again next time. */
  #remember({ version, uptimeSeconds }: { version: string; uptimeSeconds: number }): void {
    const restarted = uptimeSeconds < this.#seen.uptimeSeconds;
    if (this.#seen.version !== '' && (restarted || version !== this.#seen.version)) this.#absent.clear();
    this.#seen = { version, uptimeSeconds };
  }
}
