/**
 * Goal: clients that are pushed back for a while lose nothing, as long as they try for longer than that: the
 * JavaScript SDK's exporters over HTTP and a collector over both transports, with their own rules for what is
 * tried again and when (docs/clients.md). What the SDK's exporters over gRPC are refused is lost at once,
 * since they never try again: that is why docs/clients.md advises against them.
 */
import { OTLPLogExporter as LogJson } from '@opentelemetry/exporter-logs-otlp-http';
import { OTLPLogExporter as LogProto } from '@opentelemetry/exporter-logs-otlp-proto';
import { OTLPMetricExporter as MetricJson } from '@opentelemetry/exporter-metrics-otlp-http';
import { OTLPMetricExporter as MetricProto } from '@opentelemetry/exporter-metrics-otlp-proto';
import { OTLPTraceExporter as TraceGrpc } from '@opentelemetry/exporter-trace-otlp-grpc';
import { OTLPTraceExporter as TraceJson } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPTraceExporter as TraceProto } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';
import { MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import * as trace from '@opentelemetry/sdk-trace';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { Answer } from '../../bench/send/answer.ts';
import { GrpcConnection } from '../../bench/send/grpc.ts';
import { HttpSender } from '../../bench/send/http.ts';
import type { Sender } from '../../bench/send/sender.ts';
import { FRAME_HEAD_BYTES } from '../../bench/template.ts';
import { SIGNALS } from '../../src/model/signal.ts';
import { COLLECTOR_DEFAULTS, CollectorClient, hastened } from '../support/collector-client.ts';
import { sendHttp } from '../support/clients.ts';
import { type Program, environmentFor, run, start } from '../support/program.ts';
import { tracesRequest } from '../support/requests.ts';
import { eventually, makeTempDir, removeTempDir, useClickHouse, useRedis } from '../support/services.ts';

/** Each is pushed back so often; the SDK tries five times more, so three of these delays are left for the way back. */
const REFUSALS = 2;
const RETRY_MS_MIN = 4_000;
const RETRY_MS_MAX = 5_000;
/** Of what the SDK is given for one export, with all its tries. */
const EXPORT_MS_MAX = 90_000;
vi.setConfig({ testTimeout: 2 * EXPORT_MS_MAX, hookTimeout: 2 * EXPORT_MS_MAX });
const ITEMS = 40;
/** Of each collector. */
const CONSUMERS = 5;
const ENCODINGS = ['protobuf', 'json'] as const;

const redis = useRedis();
const clickhouse = useClickHouse();
let program: Program;
let dataDir = '';
/** All of them begin during the same outage, because waiting for its end is what takes time here. */
let sdkOverHttp: Promise<unknown>;
/** Resolves with what was thrown. */
let sdkOverGrpc: Promise<unknown>;
let collectors: readonly Collector[] = [];

beforeAll(async () => {
  dataDir = makeTempDir();
  const environment = await environmentFor(dataDir, {
    SLUICE_REDIS_URL: redis.url,
    SLUICE_CLICKHOUSE_URL: clickhouse.url,
    SLUICE_QUEUE_BYTES_MAX: '200000',
    SLUICE_BATCH_AGE_MS_MAX: '50',
    SLUICE_WRITE_RETRY_MS_MIN: '50',
    SLUICE_WRITE_RETRY_MS_MAX: '500',
    SLUICE_CLICKHOUSE_HEALTH_CHECK_MS: '500',
    // Soon full, however little is let in before.
    SLUICE_PRESSURE_HORIZON_SECONDS: '1',
    SLUICE_PRESSURE_RETRY_MS_MIN: String(RETRY_MS_MIN),
    SLUICE_PRESSURE_RETRY_MS_MAX: String(RETRY_MS_MAX),
  });
  expect(await run(['migrate', 'apply'], environment)).toMatchObject({ code: 0 });
  program = await start('all', environment);
  await pushBack();
});
afterAll(async () => {
  for (const { consumers } of collectors) for (const consumer of consumers) consumer.close();
  await program?.end();
  removeTempDir(dataDir);
});

let fillers = 0;

/** ClickHouse stands still, the queue fills up, all clients begin; when they were refused it goes on. */
async function pushBack(): Promise<void> {
  process.kill(clickhouse.pid, 'SIGSTOP');
  try {
    const full = async () => {
      await sendHttp(program.http, 'traces', tracesRequest(500, 1_000_000 + fillers++));
      // Short of that small requests are let in.
      return (await program.metric('backpressure_level')) === 2;
    };
    await eventually('the queue to be full', full, 60_000);
    sdkOverHttp = sendWithSdk();
    sdkOverGrpc = spansThrough(new TraceGrpc(grpcOptions()), 'sdk-grpc-refused').forceFlush().catch((why) => why);
    collectors = startCollectors();
    // Only the SDK sends JSON.
    for (const signal of SIGNALS) {
      const labels = { signal, encoding: 'json', code: '503' };
      const refused = async () => (await program.metric('requests_total', labels)) >= REFUSALS;
      await eventually(`refusals of ${signal}`, refused, 60_000);
    }
    const refused = () => collectors.every(({ client }) => client.counts.retried >= REFUSALS * CONSUMERS);
    await eventually('refusals of the collectors', refused, 60_000);
  } finally {
    process.kill(clickhouse.pid, 'SIGCONT');
  }
}

/** Resolves once so many different items are stored, each once. */
async function stored(table: string, service: string, item: string): Promise<void> {
  await eventually(`${ITEMS} of ${service} in ${table}`, async () => {
    const [row] = await program.rows<{ rows: number; items: number }>(
      `SELECT count() AS rows, uniqExact(${item}) AS items FROM otel.${table} WHERE ServiceName = '${service}'`,
    );
    expect(row?.rows ?? 0).toBeLessThanOrEqual(ITEMS);
    return row?.items === ITEMS;
  }, 60_000);
}

const httpOptions = (signal: string) => ({
  url: `${program.http}/v1/${signal}`,
  timeoutMillis: EXPORT_MS_MAX,
});
const grpcOptions = () => ({ url: `http://127.0.0.1:${program.grpcPort}`, timeoutMillis: EXPORT_MS_MAX });
const resourceOf = (service: string) => resourceFromAttributes({ 'service.name': service });
const PROCESSING = { exportTimeoutMillis: EXPORT_MS_MAX };

function spansThrough(exporter: trace.SpanExporter, service: string): trace.TracerProvider {
  const provider = new trace.TracerProvider({
    resource: resourceOf(service),
    spanProcessors: [new trace.BatchSpanProcessor({ exporter, ...PROCESSING })],
  });
  for (let i = 0; i < ITEMS; i++) provider.getTracer('t').startSpan(`span ${i}`).end();
  return provider;
}

/** All signals in both encodings. */
function sendWithSdk(): Promise<unknown> {
  const kinds = { protobuf: [TraceProto, LogProto, MetricProto], json: [TraceJson, LogJson, MetricJson] } as const;
  return Promise.all(ENCODINGS.flatMap((encoding) => {
    const [Trace, Log, Metric] = kinds[encoding];
    const service = `sdk-${encoding}`;
    const spans = spansThrough(new Trace(httpOptions('traces')), service);
    const logs = new LoggerProvider({
      resource: resourceOf(service),
      processors: [new BatchLogRecordProcessor({ exporter: new Log(httpOptions('logs')), ...PROCESSING })],
    });
    for (let i = 0; i < ITEMS; i++) logs.getLogger('l').emit({ body: `record ${i}` });
    const reader = new PeriodicExportingMetricReader({
      exporter: new Metric(httpOptions('metrics')),
      exportIntervalMillis: 2 * EXPORT_MS_MAX,
      ...PROCESSING,
    });
    const metrics = new MeterProvider({ resource: resourceOf(service), readers: [reader] });
    for (let i = 0; i < ITEMS; i++) metrics.getMeter('m').createGauge(`gauge ${i}`).record(i);
    return [spans.forceFlush(), logs.forceFlush(), metrics.forceFlush()];
  }));
}

/** A collector and what was seen of it. */
interface Collector {
  readonly service: string;
  readonly client: CollectorClient<Buffer>;
  readonly consumers: readonly Sender[];
  /** From the moment that it was asked to wait for to its next try, for each retry. */
  readonly waits: readonly number[];
  readonly done: Promise<void>;
}

/** The span's number is the request's. */
function requestOf(service: string, number: number): Buffer {
  const body = tracesRequest(1, number).toString('latin1').replaceAll('\x04test', `\x04${service}`);
  return Buffer.concat([Buffer.alloc(FRAME_HEAD_BYTES), Buffer.from(body, 'latin1')]);
}

function startCollectors(): Collector[] {
  const options = hastened({ ...COLLECTOR_DEFAULTS, consumers: CONSUMERS }, 5);
  const sending = { format: 'protobuf', compression: 'none', timeoutMs: 30_000 } as const;
  const { httpPort, grpcPort } = program;
  const grpc = new GrpcConnection({ ...sending, target: { host: '127.0.0.1', port: grpcPort } });
  const senders: readonly (readonly [string, () => Sender])[] = [
    ['chtt', () => new HttpSender({ ...sending, target: { host: '127.0.0.1', port: httpPort } })],
    ['cgrp', () => grpc.sender()],
  ];
  return senders.map(([service, open]) => {
    const consumers = Array.from({ length: options.consumers }, open);
    const waits: number[] = [];
    const askedUntil = new Map<Buffer, number>();
    const send = async (request: Buffer, consumer: number): Promise<Answer> => {
      const notBeforeMs = askedUntil.get(request);
      if (notBeforeMs !== undefined) waits.push(performance.now() - notBeforeMs);
      const answer = await (consumers[consumer] as Sender).send('traces', request);
      if (answer.kind === 'refused') askedUntil.set(request, performance.now() + (answer.retryAfterMs ?? 0));
      return answer;
    };
    const client = new CollectorClient(send, options);
    for (let i = 0; i < ITEMS; i++) expect(client.offer(requestOf(service, i))).toBe(true);
    return { service, client, consumers, waits, done: client.flushed() };
  });
}

test('the SDK over HTTP: all signals, in both encodings', async () => {
  await sdkOverHttp;
  for (const encoding of ENCODINGS) {
    for (const signal of SIGNALS) {
      const refused = await program.metric('requests_total', { signal, transport: 'http', encoding, code: '503' });
      expect(refused, `${signal}, ${encoding}`).toBeGreaterThan(0);
    }
    await stored('otel_traces', `sdk-${encoding}`, 'SpanName');
    await stored('otel_logs', `sdk-${encoding}`, 'Body');
    await stored('otel_metrics_gauge', `sdk-${encoding}`, 'MetricName');
  }
});

test('the SDK over gRPC gives up at the first refusal, and goes on with what comes later', async () => {
  expect(await sdkOverGrpc).toMatchObject([{ code: 14 }]);
  await eventually('the way to be open', async () => (await program.metric('backpressure_level')) === 0, 60_000);
  await spansThrough(new TraceGrpc(grpcOptions()), 'sdk-grpc').forceFlush();
  await stored('otel_traces', 'sdk-grpc', 'SpanName');
  const lost = `SELECT count() AS n FROM otel.otel_traces WHERE ServiceName = 'sdk-grpc-refused'`;
  expect(await program.rows(lost)).toEqual([{ n: 0 }]);
});

test('collectors over both transports: nothing lost, and none of them comes back too soon', async () => {
  for (const { service, client, waits, done } of collectors) {
    await done;
    expect(client.counts).toMatchObject({ acknowledged: ITEMS, refused: 0, droppedForGood: 0, droppedLate: 0 });
    expect(client.counts.retried).toBeGreaterThan(0);
    expect(Math.min(...waits)).toBeGreaterThan(-20);
    await stored('otel_traces', service, 'SpanId');
  }
});
