/**
 * Goal: every recorded and every hand-made request, sent to the running program the way it came and, where it
 * is plain protobuf, through the other protocols too, gets an answer that its manifest allows; and all seven
 * tables hold what an independent decoder sees in the requests that were taken, value for value, not a row
 * more and not one less.
 */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import { SIGNALS, type Signal, TABLES, type Table } from '../../src/model/signal.ts';
import { COLUMNS } from '../../src/transcode/tables.ts';
import { DecodeError, decode } from '../oracle/decode.ts';
import { encodeJson } from '../oracle/json-encode.ts';
import { decodeJson } from '../oracle/json.ts';
import { decodeNative } from '../oracle/native.ts';
import { type Cell, type Expected, expectedRows, type Row } from '../oracle/rows.ts';
import { type Answer, GrpcClient, JS, frame, openSession, sendFrames, sendHttp } from '../support/clients.ts';
import { NESTING_MAX, type Vector, bodyOf, isJson, judge, readVectors } from '../support/otlp.ts';
import { type Program, environmentFor, start } from '../support/program.ts';
import { eventually, makeTempDir, removeTempDir } from '../support/services.ts';

const VECTORS = resolve(import.meta.dirname, '../fixtures/vectors');
/** What only an inflater can judge; nobody should inflate the bombs whole, an oracle neither. */
const UNREADABLE = /^(bomb-gzip-.*|ce-snappy|ce-unknown|ce-gzip-trailing|ce-gzip-badcrc|ce-zstd-not)$/;
/** Where the rules leave a choice that the oracle doesn't make: what docs/otlp.md says. */
const CHOSEN: Readonly<Record<string, Row>> = {
  'j-enum-names': { SpanKind: 'Server', StatusCode: 'Error' },
  'j-utf8-bad': { Body: 'a\xff' },
};
const CLIENTS = 8;
const ENOUGH_MS = 180_000;
vi.setConfig({ testTimeout: ENOUGH_MS, hookTimeout: ENOUGH_MS });

type Recorded = Vector & { readonly grpc_encoding?: string };

/** One vector on one of its ways. */
interface Trip {
  readonly vector: Recorded;
  readonly way: 'as it came' | 'http' | 'grpc' | 'json';
  /** What it must become when it is taken; undefined where the oracle can't read it. */
  readonly expected: Expected | undefined;
  readonly send: () => Promise<Answer>;
}

let program: Program;
let dataDir = '';
let grpcPlain: GrpcClient;
let grpcGzip: GrpcClient;
const answers = new Map<Trip, Answer>();
const surprises = new Map<Trip, unknown>();

function readExpected(vector: Recorded): Expected | undefined {
  if (UNREADABLE.test(vector.id)) return undefined;
  if (!isJson(vector)) {
    const judged = judge(vector.signal, bodyOf(vector));
    return judged instanceof DecodeError ? undefined : judged;
  }
  try {
    const message = decodeJson(REQUESTS[vector.signal], bodyOf(vector));
    const read = expectedRows(vector.signal, message, NESTING_MAX);
    const amend = (rows: readonly Row[]) => rows.map((row) => ({ ...row, ...CHOSEN[vector.id] }));
    return { ...read, rows: new Map([...read.rows].map(([table, rows]) => [table, amend(rows)])) };
  } catch {
    return undefined; // the oracle's decoder of JSON is for valid requests: broken ones end in any error
  }
}

async function sendZstd(signal: Signal, message: Uint8Array): Promise<Answer> {
  const session = openSession(program.grpcPort);
  try {
    return await sendFrames(session, signal, [frame(zstdCompressSync(message), 1)], 'zstd');
  } finally {
    session.destroy();
  }
}

function tripsOf(vector: Recorded): Trip[] {
  const { signal, via, ct: contentType, ce: encoding, grpc_encoding } = vector;
  const bytes = readFileSync(resolve(VECTORS, vector.file));
  const expected = readExpected(vector);
  const overHttp = () => sendHttp(program.http, signal, bytes, { contentType, encoding });
  const overGrpc = () => {
    if (grpc_encoding === 'zstd') return sendZstd(signal, bytes);
    return (grpc_encoding === 'gzip' ? grpcGzip : grpcPlain).send(signal, bytes);
  };
  const trips: Trip[] = [{ vector, way: 'as it came', expected, send: via === 'grpc' ? overGrpc : overHttp }];
  if (isJson(vector) || encoding !== '') return trips;
  if (via === 'grpc') trips.push({ vector, way: 'http', expected, send: overHttp });
  else trips.push({ vector, way: 'grpc', expected, send: () => grpcPlain.send(signal, bytes) });
  const json = expected && encodeJson(REQUESTS[signal], decode(REQUESTS[signal], bytes));
  const asJson = json && (() => sendHttp(program.http, signal, json, { contentType: JS }));
  if (asJson) trips.push({ vector, way: 'json', expected, send: asJson });
  return trips;
}

const trips = readVectors().flatMap(tripsOf);

async function sendAll(): Promise<void> {
  const waiting = [...trips];
  const client = async () => {
    for (let trip = waiting.shift(); trip !== undefined; trip = waiting.shift()) {
      try {
        answers.set(trip, await trip.send());
      } catch (error) {
        surprises.set(trip, error);
      }
    }
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
}

function isTaken(trip: Trip): boolean {
  const kind = answers.get(trip)?.kind;
  return kind === 'accept' || kind === 'partial';
}

function takenOf(signal: Signal): Trip[] {
  return trips.filter((trip) => trip.vector.signal === signal && isTaken(trip));
}

/** Items of the requests that were taken, by what the oracle says. */
function itemsOf(signal: Signal, what: 'accepted' | 'rejected'): number {
  const counts = takenOf(signal).map(({ expected }) =>
    what === 'accepted' ? (expected?.accepted ?? 0) : (expected?.rejected.length ?? 0),
  );
  return counts.reduce((sum, count) => sum + count, 0);
}

async function storedRows(table: Table): Promise<readonly Row[]> {
  const columns = COLUMNS[table].map(({ name }) => `\`${name}\``).join(', ');
  const reply = await fetch(program.clickhouse, {
    method: 'POST',
    body: `SELECT ${columns} FROM otel.${table} FORMAT Native`,
  });
  if (!reply.ok) throw new Error(await reply.text());
  return decodeNative(new Uint8Array(await reply.arrayBuffer())).flatMap(({ rows }) => rows);
}

function show(value: Cell | undefined): string {
  const text = JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'bigint' ? `${inner}n` : inner,
  );
  return text ?? 'nothing';
}

function keyOf(table: Table, row: Row): string {
  return COLUMNS[table].map(({ name }) => show(row[name])).join('\n');
}

/** The row with the fewest other values, in words. */
function nearest(table: Table, wanted: Row, found: readonly Row[]): string {
  const differences = found.slice(0, 500).map((row) =>
    COLUMNS[table].flatMap(({ name }) => {
      const [want, got] = [show(wanted[name]), show(row[name])];
      return want === got ? [] : [`${name}: ${got.slice(0, 200)}, not ${want.slice(0, 200)}`];
    }),
  );
  differences.sort((one, other) => one.length - other.length);
  return differences[0]?.join('; ') ?? 'no row that nobody else claims';
}

beforeAll(async () => {
  dataDir = makeTempDir();
  program = await start('up', await environmentFor(dataDir, { SLUICE_RESEND_WINDOW_SECONDS: '0' }));
  grpcPlain = new GrpcClient(program.grpcPort);
  grpcGzip = new GrpcClient(program.grpcPort, 'gzip');
  await sendAll();
});

afterAll(async () => {
  grpcPlain?.close();
  grpcGzip?.close();
  await program?.end();
  removeTempDir(dataDir);
});

describe('answers', () => {
  const named = trips.map((trip) => [trip.vector.id, trip.way, trip] as const);

  test('every protocol has its share', () => {
    const ways = Map.groupBy(trips, ({ way }) => way);
    expect(ways.get('as it came')?.length).toBe(204);
    for (const way of ['http', 'grpc', 'json'] as const) {
      expect(ways.get(way)?.length, way).toBeGreaterThan(40);
    }
  });

  test.each(named)('%s, %s', (_id, way, trip) => {
    expect(surprises.get(trip)).toBeUndefined();
    const { expected, vector } = trip;
    const { kind = 'nothing', rejected = 0, message = '' } = answers.get(trip) ?? {};
    // One record that is nested too deep is refused alone, but text of that depth is not parsed at all.
    const tooDeep = expected?.rejected.some((faults) => faults.has('nesting_too_deep')) ?? false;
    if (way === 'json' && tooDeep && kind === 'bad') return;
    expect(vector.outcomes).toContain(kind);
    if (!isTaken(trip)) return;
    // A warning is 0 rejected with a message.
    expect(rejected).toBe(expected?.rejected.length);
    const alone = expected?.rejected.filter((faults) => faults.size === 1) ?? [];
    for (const reason of [...alone.flatMap((faults) => [...faults]), ...(expected?.warnings.keys() ?? [])]) {
      expect(message).toContain(reason);
    }
  });
});

describe('tables', () => {
  test.each(SIGNALS)('all accepted %s are written, and the books agree', async (signal) => {
    const accepted = itemsOf(signal, 'accepted');
    const written = () => program.metric('items_written_total', { signal });
    await eventually(`${accepted} items written`, async () => (await written()) >= accepted, 60_000);
    expect(await written()).toBe(accepted);
    expect(await program.metric('items_accepted_total', { signal })).toBe(accepted);
    expect(await program.metric('items_rejected_total', { signal })).toBe(itemsOf(signal, 'rejected'));
    expect(await program.metric('items_deadlettered_total', { signal })).toBe(0);
    const sent = trips.filter(({ vector }) => vector.signal === signal).length;
    expect(await program.metric('requests_total', { signal })).toBe(sent);
    const refused = sent - takenOf(signal).length;
    expect(await program.metric('requests_refused_total', { signal })).toBe(refused);
  });

  test.each(TABLES)('%s', async (table) => {
    const stored = await storedRows(table);
    const unclaimed = new Map<string, Row[]>();
    for (const row of stored) {
      const key = keyOf(table, row);
      unclaimed.set(key, [...(unclaimed.get(key) ?? []), row]);
    }
    const missing: { readonly trip: Trip; readonly row: Row }[] = [];
    for (const trip of trips.filter(isTaken)) {
      for (const row of trip.expected?.rows.get(table) ?? []) {
        if (unclaimed.get(keyOf(table, row))?.pop() === undefined) missing.push({ trip, row });
      }
    }
    const extra = [...unclaimed.values()].flat();
    const told = missing
      .slice(0, 10)
      .map(({ trip, row }) => `${trip.vector.id}, ${trip.way}: ${nearest(table, row, extra)}`);
    expect(told).toEqual([]);
    expect(extra.slice(0, 3)).toEqual([]);
    expect(stored.length).toBeGreaterThan(0);
  });

  test("otel_traces_trace_id_ts has every trace's first and last second", async () => {
    const wanted = new Map<string, readonly [number, number]>();
    for (const trip of takenOf('traces')) {
      for (const row of trip.expected?.rows.get('otel_traces') ?? []) {
        const second = Number(BigInt(String(row.Timestamp)) / 1_000_000_000n);
        const [from, to] = wanted.get(String(row.TraceId)) ?? [second, second];
        wanted.set(String(row.TraceId), [Math.min(from, second), Math.max(to, second)]);
      }
    }
    const rows = await program.rows<{ TraceId: string; from: number; to: number }>(
      `SELECT TraceId, toUnixTimestamp(min(Start)) AS from, toUnixTimestamp(max(End)) AS to
         FROM otel.otel_traces_trace_id_ts GROUP BY TraceId`,
    );
    const found = new Map(rows.map(({ TraceId, from, to }) => [TraceId, [from, to] as const]));
    expect([...found.keys()].sort()).toEqual([...wanted.keys()].sort());
    // DateTime, the type of the collector's table, ends in 2106.
    const within = [...wanted].filter(([, [, to]]) => to < 2 ** 32);
    for (const [traceId, times] of within) expect([traceId, found.get(traceId)]).toEqual([traceId, times]);
    expect(within.length).toBeGreaterThan(10);
  });
});
