/**
 * After the storm: every record counted in ClickHouse by its number and compared with what clients were told,
 * and the books in Redis compared with both.
 */
import { SIGNALS, type Signal } from '../../../src/model/signal.ts';
import type { Reply } from '../../../src/redis/replies.ts';
import type { Ledger, Sent } from './ledger.ts';
import { SHARDS } from './plan.ts';
import { RECORD_SQL, type RecordSql, requestSql } from './records.ts';
import type { World } from './world.ts';

export interface Found {
  /** What was sent, or undefined for a number that never was. */
  readonly sent: Sent | undefined;
  readonly request: number;
  readonly what: 'missing' | 'doubled' | 'invented' | 'damaged';
  /** Records that this is about. */
  readonly records: number;
  /** Where the rows of the request lie: table, shard, rows, different records, parts. */
  where: string;
}

export interface SignalCount {
  readonly acknowledged: number;
  readonly stored: number;
  readonly missing: number;
  readonly doubled: number;
  readonly invented: number;
  /** Not as they were sent. */
  readonly damaged: number;
  /** Of requests that were never acknowledged. */
  readonly unknown: number;
  readonly unknownStored: number;
  /** Rows in all tables of the signal. */
  readonly rows: number;
}

export interface Audit {
  readonly signals: Readonly<Record<Signal, SignalCount>>;
  /** Traces that have spans, but no time range in the table beside them. */
  readonly tracesWithoutRange: number;
  /** The first ones, with where their rows lie. */
  readonly found: readonly Found[];
}

interface StoredRequest {
  readonly request: number;
  readonly copies: number;
  readonly items: number;
  readonly damaged: number;
}

const LOCATED_MAX = 10;

/** Reads through the Distributed tables of the first server: the same record on two shards is two. */
export async function auditStorm(world: World, ledger: Ledger): Promise<Audit> {
  const found: Found[] = [];
  const signals = {} as Record<Signal, SignalCount>;
  for (const signal of SIGNALS) signals[signal] = await auditSignal(world, ledger, signal, found);
  for (const problem of found.slice(0, LOCATED_MAX)) problem.where = await locate(world, problem);
  return { signals, tracesWithoutRange: await countUnranged(world), found };
}

async function auditSignal(
  { clickhouse }: World,
  ledger: Ledger,
  signal: Signal,
  found: Found[],
): Promise<SignalCount> {
  const perTable = RECORD_SQL.filter((of) => of.signal === signal).map(requestsOf);
  const sql = `SELECT request, sum(copies) AS copies, sum(items) AS items, sum(damaged) AS damaged
    FROM (${perTable.join(' UNION ALL ')}) GROUP BY request`;
  const stored = new Map<number, StoredRequest>();
  for (const row of (await clickhouse[0]?.rows<StoredRequest>(sql)) ?? []) stored.set(row.request, row);
  const count = { acknowledged: 0, stored: 0, missing: 0, doubled: 0, invented: 0, damaged: 0 };
  const other = { unknown: 0, unknownStored: 0, rows: 0 };
  const note = (sent: Sent | undefined, request: number, what: Found['what'], records: number) => {
    if (records === 0) return;
    count[what] += records;
    found.push({ sent, request, what, records, where: '' });
  };
  for (const { request, copies, items, damaged } of stored.values()) {
    const sent = ledger.of(request);
    other.rows += copies;
    const wanted = sent?.signal === signal ? sent.records : 0;
    note(sent, request, 'invented', Math.max(0, items - wanted));
    note(sent, request, 'doubled', copies - items);
    note(sent, request, 'damaged', damaged);
  }
  for (let request = 1; request <= ledger.requests; request++) {
    const sent = ledger.of(request) as Sent;
    if (sent.signal !== signal) continue;
    const there = Math.min(sent.records, stored.get(request)?.items ?? 0);
    if (sent.state === 'unknown') {
      other.unknown += sent.records;
      other.unknownStored += there;
      continue;
    }
    count.acknowledged += sent.records;
    count.stored += there;
    note(sent, request, 'missing', sent.records - there);
  }
  return { ...count, ...other };
}

function requestsOf({ table, number, whole }: RecordSql): string {
  return `SELECT ${requestSql} AS request, count() AS copies, uniqExact(number) AS items,
    countIf(NOT (${whole})) AS damaged
    FROM (SELECT *, ${number} AS number FROM otel.${table}) GROUP BY request`;
}

/** Where the rows of one request are, shard by shard. */
async function locate({ clickhouse }: World, { request, sent }: Found): Promise<string> {
  const places: string[] = [];
  for (const { signal, table, number } of RECORD_SQL) {
    if (sent !== undefined && sent.signal !== signal) continue;
    for (const [shard, server] of clickhouse.entries()) {
      const rows = await server.rows<{ part: string; copies: number; items: number }>(
        `SELECT _part AS part, count() AS copies, uniqExact(number) AS items
         FROM (SELECT _part, ${number} AS number FROM otel.${table}_local)
         WHERE ${requestSql} = ${request} GROUP BY part ORDER BY part`,
      );
      for (const { part, copies, items } of rows) {
        places.push(`${table} shard ${shard} part ${part}: ${copies} rows of ${items} records`);
      }
    }
  }
  return places.join('; ') || 'nowhere';
}

async function countUnranged({ clickhouse }: World): Promise<number> {
  let unranged = 0;
  for (const server of clickhouse) {
    const [row] = await server.rows<{ traces: number }>(
      `SELECT uniqExact(TraceId) AS traces FROM otel.otel_traces_local
       WHERE TraceId NOT IN (SELECT TraceId FROM otel.otel_traces_trace_id_ts_local)`,
    );
    unranged += row?.traces ?? 0;
  }
  return unranged;
}

/** Of one signal, all shards. */
export type Book = Record<'accepted' | 'written' | 'waiting' | 'dead' | 'dropped', number>;

/** @throws Fault while Redis is away */
export async function readBooks({ redis }: World): Promise<Record<Signal, Book>> {
  const empty = (): Book => ({ accepted: 0, written: 0, waiting: 0, dead: 0, dropped: 0 });
  const books = { traces: empty(), metrics: empty(), logs: empty() };
  for (let shard = 0; shard < SHARDS; shard++) {
    const key = `{s${shard}}:counts`;
    const fields = listOf(await redis.ask(key, 'HGETALL', key));
    for (let i = 0; i + 1 < fields.length; i += 2) {
      const [column, signal] = String(fields[i]).split(':');
      const book = books[signal as Signal] as Book | undefined;
      if (book === undefined || column === undefined || !(column in book)) continue;
      book[column as keyof Book] += Number(fields[i + 1]);
    }
  }
  return books;
}

function listOf(reply: Reply): Reply[] {
  return Array.isArray(reply) ? reply : [];
}

/** What is wrong with the books; empty when nothing is. */
export function judgeBooks(books: Readonly<Record<Signal, Book>>, audit: Audit): string[] {
  const wrong: string[] = [];
  for (const signal of SIGNALS) {
    const { accepted, written, waiting, dead, dropped } = books[signal];
    const { rows } = audit.signals[signal];
    const sum = written + waiting + dead + dropped;
    if (accepted !== sum) wrong.push(`${signal}: ${accepted} accepted, but ${sum} written, waiting or dead`);
    if (written !== rows) wrong.push(`${signal}: ${written} written, but ClickHouse has ${rows} rows`);
    if (dead !== 0) wrong.push(`${signal}: ${dead} dead`);
    if (dropped !== 0) wrong.push(`${signal}: ${dropped} dropped`);
  }
  return wrong;
}
