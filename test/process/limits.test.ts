/**
 * Goal: the limits and rules of an operator hold for every transport, format and size of request, each record
 * is counted once, and what is beyond them costs its neighbours nothing.
 */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import type { Signal } from '../../src/model/signal.ts';
import { encode } from '../oracle/encode.ts';
import { GrpcClient, sendHttp } from '../support/clients.ts';
import { type Program, environmentFor, start } from '../support/program.ts';
import { eventually, makeTempDir, removeTempDir } from '../support/services.ts';

const RULES = [
  {
    name: 'no-health',
    signals: ['traces'],
    action: 'drop',
    when: [{ field: 'name', startsWith: 'GET /health' }],
  },
  { name: 'secrets', action: 'redact', keys: ['password'], replacement: '[gone]' },
  { name: 'half', signals: ['logs'], action: 'sample', percent: 0, when: [{ field: 'severity', below: 5 }] },
];

vi.setConfig({ testTimeout: 90_000, hookTimeout: 120_000 });

const dataDir = makeTempDir();
let program: Program;
let grpc: GrpcClient;

beforeAll(async () => {
  const limits = {
    SLUICE_BATCH_AGE_MS_MAX: '50',
    SLUICE_RESEND_WINDOW_SECONDS: '0',
    SLUICE_LIMITS_ATTRIBUTES_MAX: '4',
    SLUICE_LIMITS_VALUE_BYTES_MAX: '64',
    SLUICE_LIMITS_EVENTS_MAX: '2',
    SLUICE_LIMITS_SERIES_MAX: '100',
    SLUICE_LIMITS_ITEMS_PER_REQUEST_MAX: '20000',
    SLUICE_TIME_PAST_MAX_HOURS: '24',
    SLUICE_RULES: JSON.stringify(RULES),
  };
  program = await start('up', await environmentFor(dataDir, limits));
  grpc = new GrpcClient(program.grpcPort);
});

afterAll(async () => {
  grpc?.close();
  await program?.end();
  removeTempDir(dataDir);
});

const text = (key: string, value: string) => ({ key, value: { stringValue: value } });
const nowNs = () => BigInt(Date.now()) * 1_000_000n;

function spans(service: string, list: readonly object[]): Buffer {
  const full = list.map((span) => ({
    traceId: randomBytes(16),
    spanId: randomBytes(8),
    name: 'GET /',
    startTimeUnixNano: nowNs(),
    endTimeUnixNano: nowNs(),
    ...span,
  }));
  const resource = { attributes: [text('service.name', service)] };
  return Buffer.from(encode(REQUESTS.traces, { resourceSpans: [{ resource, scopeSpans: [{ spans: full }] }] }));
}

async function send(signal: Signal, body: Uint8Array) {
  const answers = [await sendHttp(program.http, signal, body), await grpc.send(signal, body)];
  return answers.map(({ kind, rejected, message }) => ({ kind, rejected, message }));
}

async function rows<Row>(sql: string, count: number): Promise<Row[]> {
  let found: Row[] = [];
  await eventually(`${count} rows`, async () => {
    found = await program.rows<Row>(sql);
    return found.length === count;
  }, 60_000);
  return found;
}

const both = <T>(one: T) => [one, one];

test('values, attributes and events beyond the limits are cut off, and counted', async () => {
  const attributes = Array.from({ length: 6 }, (_, i) => text(`key.${i}`, i === 0 ? 'ä'.repeat(100) : 'short'));
  const events = Array.from({ length: 5 }, (_, i) => ({ name: `event.${i}`, timeUnixNano: nowNs() }));
  const body = spans('trimmed', [{ attributes, events }, {}]);
  expect(await send('traces', body)).toEqual(both({ kind: 'accept', rejected: 0, message: '' }));
  const sql = `SELECT mapKeys(SpanAttributes) AS keys, SpanAttributes['key.0'] AS value, Events.Name AS events
    FROM otel.otel_traces WHERE ServiceName = 'trimmed' AND notEmpty(SpanAttributes)`;
  const found = await rows<{ keys: string[]; value: string; events: string[] }>(sql, 2);
  for (const { keys, value, events } of found) {
    expect(keys).toEqual(['key.0', 'key.1', 'key.2', 'key.3']);
    expect(value).toMatch(/^ä+…\[truncated \d+ bytes\]$/);
    expect(Buffer.byteLength(value)).toBeLessThanOrEqual(64);
    expect(events).toEqual(['event.0', 'event.1']);
  }
  for (const limit of ['attributes', 'value_bytes', 'events'])
    expect(await program.metric('items_trimmed_total', { signal: 'traces', limit })).toBe(2);
});

test('records of another time are refused one by one, with their reason', async () => {
  const old = nowNs() - 25n * 3_600_000_000_000n;
  const body = spans('old', [{ startTimeUnixNano: old, endTimeUnixNano: old }, {}]);
  const answers = await send('traces', body);
  expect(answers).toEqual(
    both({ kind: 'partial', rejected: 1, message: expect.stringContaining('too_old 1') }),
  );
  await rows(`SELECT 1 FROM otel.otel_traces WHERE ServiceName = 'old'`, 2);
  expect(await program.metric('items_rejected_total', { signal: 'traces', reason: 'too_old' })).toBe(2);
});

test('rules drop, redact and sample; their clients hear nothing of it', async () => {
  const list = [
    { name: 'GET /healthz' },
    { attributes: [text('password', 'hunter2')] },
    { attributes: [text('user', 'ann')] },
  ];
  const answers = await send('traces', spans('ruled', list));
  expect(answers).toEqual(both({ kind: 'accept', rejected: 0, message: '' }));
  const sql = `SELECT SpanAttributes AS attributes FROM otel.otel_traces WHERE ServiceName = 'ruled' ORDER BY 1`;
  const found = await rows<{ attributes: Record<string, string> }>(sql, 4);
  expect(found.map(({ attributes }) => attributes.password ?? attributes.user).sort()).toEqual(
    ['[gone]', '[gone]', 'ann', 'ann'],
  );
  expect(await program.metric('items_filtered_total', { signal: 'traces', rule: 'no-health' })).toBe(2);
  expect(await program.metric('items_redacted_total', { signal: 'traces', rule: 'secrets' })).toBe(2);
});

test('a large request is held to the same limits on its own thread', async () => {
  const list = Array.from({ length: 12_000 }, (_, i) => ({
    name: i % 3 === 0 ? 'GET /healthz' : 'GET /',
    attributes: [text('long', 'x'.repeat(400))],
  }));
  const body = spans('large', list);
  expect(body.length).toBeGreaterThan(4_194_304);
  const answer = await sendHttp(program.http, 'traces', body);
  expect(answer).toMatchObject({ kind: 'accept', rejected: 0 });
  const sql = `SELECT count() AS n, max(length(SpanAttributes['long'])) AS longest
    FROM otel.otel_traces WHERE ServiceName = 'large' HAVING n = 8000`;
  const [row] = await rows<{ n: number; longest: number }>(sql, 1);
  expect(Number(row?.longest)).toBeLessThanOrEqual(64);
});

test('too many records are refused whole, and nothing of them is stored', async () => {
  const body = spans('crowd', Array.from({ length: 20_001 }, () => ({ name: '' })));
  const answer = await sendHttp(program.http, 'traces', body);
  expect(answer).toMatchObject({
    kind: '413',
    message: expect.stringMatching(/20001 records, 20000 are allowed .*SLUICE_LIMITS_ITEMS_PER_REQUEST_MAX/),
  });
  expect(await program.rows(`SELECT 1 FROM otel.otel_traces WHERE ServiceName = 'crowd'`)).toEqual([]);
});

test('time series beyond the limit become one, over all requests', async () => {
  const point = (series: number) => ({
    attributes: [text('series', String(series))],
    timeUnixNano: nowNs(),
    asDouble: 1,
  });
  const metrics = (from: number, to: number) => {
    const dataPoints = Array.from({ length: to - from }, (_, i) => point(from + i));
    const metric = { name: 'crowded', gauge: { dataPoints } };
    const resource = { attributes: [text('service.name', 'series')] };
    const request = { resourceMetrics: [{ resource, scopeMetrics: [{ metrics: [metric] }] }] };
    return Buffer.from(encode(REQUESTS.metrics, request));
  };
  for (const [from, to] of [[0, 60], [40, 100], [90, 110], [0, 100]] as const) {
    const answer = await sendHttp(program.http, 'metrics', metrics(from, to));
    expect(answer).toMatchObject({ kind: 'accept', message: '' });
  }
  await rows(`SELECT 1 FROM otel.otel_metrics_gauge WHERE ServiceName = 'series'`, 240);
  const sql = `SELECT Attributes['otel.metric.overflow'] AS over, uniqExact(Attributes) AS series, count() AS n
    FROM otel.otel_metrics_gauge WHERE ServiceName = 'series' GROUP BY over ORDER BY over`;
  const found = await rows<{ over: string; series: number; n: number }>(sql, 2);
  expect(found.map(({ over, series, n }) => [over, Number(series), Number(n)])).toEqual([
    ['', 100, 230],
    ['true', 1, 10],
  ]);
  expect(await program.metric('series_overflow_total', { tenant: 'default' })).toBe(10);
  const report = await (await fetch(`${program.admin}/series`)).json();
  expect(report).toMatchObject({
    seriesMax: 100,
    metrics: [{ tenant: 'default', metric: 'crowded', series: 100, pointsBeyond: 10 }],
  });
});

test('accepted is what is stored: nothing is counted twice', async () => {
  const accepted = await program.metric('items_accepted_total', { signal: 'traces' });
  const [row] = await program.rows<{ n: number }>('SELECT count() AS n FROM otel.otel_traces');
  expect(Number(row?.n)).toBe(accepted);
});
