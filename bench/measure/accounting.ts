/** Asks ClickHouse which items of a run are there: one aggregate query a table, no list of what was sent. */
import { createLogger } from '../../src/base/log.ts';
import { type ClickHouse, close, createClickHouse, query } from '../../src/clickhouse/client.ts';
import { literal, quoteName } from '../../src/clickhouse/quote.ts';
import { type Signal, signalOf, TABLES, type Table } from '../../src/model/signal.ts';
import { idsSql, pointsSql, type RowIdentitySql, type Window } from '../identity.ts';
import type { StoredRequest } from '../send/ledger.ts';

const QUERY_MS_MAX = 300_000;

/** How rows of a run are recognised in a table of the signal. */
export function identitySql(signal: Signal, run: number, window: Window): RowIdentitySql {
  return signal === 'metrics' ? pointsSql(run, window) : idsSql(run, window);
}

export class Accounting {
  readonly #server: ClickHouse;
  readonly #database: string;

  /** @param url of one server; on a cluster any of them, the tables are the Distributed ones there */
  constructor(url: string, database: string) {
    const settings = { insertTimeoutMs: QUERY_MS_MAX, queryTimeoutMs: QUERY_MS_MAX };
    this.#server = createClickHouse(url, settings, createLogger('silent', 'json'));
    this.#database = database;
  }

  /**
   * Rows in the tables of these signals, on a cluster of all shards: from the parts' metadata, so it costs
   * next to nothing, but others' rows count too. @throws Fault
   */
  async rowCount(signals: readonly Signal[]): Promise<number> {
    const counts = tablesOf(signals).map((table) => `SELECT count() AS rows FROM ${this.#name(table)}`);
    const rows = await this.#query<{ total: string }>(
      `SELECT sum(rows) AS total FROM (${counts.join(' UNION ALL ')})`,
    );
    return Number(rows[0]?.total ?? 0);
  }

  /** Running merges, and a text that changes whenever parts do. @throws Fault */
  async activity(signals: readonly Signal[]): Promise<{ merges: number; parts: string }> {
    const where = this.#ofTables(signals);
    const rows = await this.#query<{ merges: string; parts: string }>(
      `SELECT (SELECT count() FROM system.merges WHERE ${where}) AS merges,
         toString(groupBitXor(cityHash64(name, table))) AS parts FROM system.parts WHERE active AND ${where}`,
    );
    return { merges: Number(rows[0]?.merges ?? 0), parts: rows[0]?.parts ?? '' };
  }

  /** What is there of each request of the run. Reads the ids of every row in the window. @throws Fault */
  async requests(signal: Signal, run: number, window: Window): Promise<StoredRequest[]> {
    const { aliases, condition, request, item } = identitySql(signal, run, window);
    const perTable = tablesOf([signal]).map(
      (table) =>
        `SELECT ${request} AS request, count() AS copies, uniqExact(${item}) AS items
       FROM ${this.#name(table)} WHERE ${condition} GROUP BY request`,
    );
    // A point belongs to one table, so the tables' counts of a request add up.
    const rows = await this.#query<{ request: number; copies: string; items: string }>(
      `WITH ${aliases.join(', ')}
       SELECT request, sum(copies) AS copies, sum(items) AS items
       FROM (${perTable.join(' UNION ALL ')}) GROUP BY request`,
    );
    return rows.map(({ request: number, copies, items }) => ({
      request: number,
      copies: Number(copies),
      items: Number(items),
    }));
  }

  /**
   * Which of these single-item requests can be read. Cheap where `service` is found by the primary key.
   * @throws Fault
   */
  async readable(
    probe: { signal: Signal; service: string; run: number; window: Window },
    requests: readonly number[],
  ) {
    const { aliases, condition, request } = identitySql(probe.signal, probe.run, probe.window);
    const table = probe.signal === 'metrics' ? 'otel_metrics_gauge' : tablesOf([probe.signal])[0];
    const rows = await this.#query<{ request: number }>(
      `WITH ${aliases.join(', ')} SELECT DISTINCT ${request} AS request FROM ${this.#name(table ?? '')}
       WHERE ServiceName = '${probe.service}' AND ${condition} AND request IN (${requests.join(', ')})
       SETTINGS max_threads = 1`,
    );
    return rows.map((row) => row.request);
  }

  async close(): Promise<void> {
    await close(this.#server);
  }

  #query<Row>(sql: string): Promise<Row[]> {
    return query<Row>(this.#server, sql);
  }

  #name(table: string): string {
    return `${quoteName(this.#database)}.${quoteName(table)}`;
  }

  /** For system tables; on a cluster the data is in the tables that end in _local. */
  #ofTables(signals: readonly Signal[]): string {
    const names = tablesOf(signals).flatMap((table) => [`'${table}'`, `'${table}_local'`]);
    return `database = ${literal(this.#database)} AND table IN (${names.join(', ')})`;
  }
}

function tablesOf(signals: readonly Signal[]): Table[] {
  return TABLES.filter((table) => signals.includes(signalOf(table)));
}
