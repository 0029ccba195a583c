/**
 * Goal: the JavaScript SDK's own exporters, for all signals and protocols, deliver into the tables, value for value as
 * far as the SDK lets one set them.
 */
import { SpanKind, SpanStatusCode, TraceFlags } from '@opentelemetry/api';
import { OTLPLogExporter as LogGrpc } from '@opentelemetry/exporter-logs-otlp-grpc';
import { OTLPLogExporter as LogJson } from '@opentelemetry/exporter-logs-otlp-http';
import { OTLPLogExporter as LogProto } from '@opentelemetry/exporter-logs-otlp-proto';
import { OTLPMetricExporter as MetricGrpc } from '@opentelemetry/exporter-metrics-otlp-grpc';
import { OTLPMetricExporter as MetricJson } from '@opentelemetry/exporter-metrics-otlp-http';
import { OTLPMetricExporter as MetricProto } from '@opentelemetry/exporter-metrics-otlp-proto';
import { OTLPTraceExporter as TraceGrpc } from '@opentelemetry/exporter-trace-otlp-grpc';
import { OTLPTraceExporter as TraceJson } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPTraceExporter as TraceProto } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';
import { MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import * as trace from '@opentelemetry/sdk-trace';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { environmentFor, type Program, start } from '../support/program.ts';
import { eventually, makeTempDir, removeTempDir } from '../support/services.ts';

/** Of one export; by itself the SDK gives up after 10 s, and its exporters over gRPC never try again. */
const EXPORT_MS_MAX = 60_000;
vi.setConfig({ testTimeout: 2 * EXPORT_MS_MAX, hookTimeout: 2 * EXPORT_MS_MAX });

let program: Program;
let dataDir = '';
beforeAll(async () => {
  dataDir = makeTempDir();
  program = await start('up', await environmentFor(dataDir));
});
afterAll(async () => {
  await program?.end();
  removeTempDir(dataDir);
});

const resourceFor = (protocol: string) =>
  resourceFromAttributes({ 'service.name': `sdk-${protocol}`, 'sdk.flag': true });

const overGrpc = () => ({ url: `http://127.0.0.1:${program.grpcPort}`, timeoutMillis: EXPORT_MS_MAX });
const overHttp = (signal: string) => ({ url: `${program.http}/v1/${signal}`, timeoutMillis: EXPORT_MS_MAX });
const PROCESSING = { exportTimeoutMillis: EXPORT_MS_MAX };

const TRACES = {
  grpc: () => new TraceGrpc(overGrpc()),
  protobuf: () => new TraceProto(overHttp('traces')),
  json: () => new TraceJson(overHttp('traces')),
};
const LOGS = {
  grpc: () => new LogGrpc(overGrpc()),
  protobuf: () => new LogProto(overHttp('logs')),
  json: () => new LogJson(overHttp('logs')),
};
const METRICS = {
  grpc: () => new MetricGrpc(overGrpc()),
  protobuf: () => new MetricProto(overHttp('metrics')),
  json: () => new MetricJson(overHttp('metrics')),
};
const PROTOCOLS = ['grpc', 'protobuf', 'json'] as const;

/** Waits for exactly one row. */
function oneRow(sql: string): Promise<Record<string, unknown>> {
  return eventually(sql, async () => {
    const rows = await program.rows(sql);
    expect(rows.length).toBeLessThan(2);
    return rows[0];
  });
}

describe.each(PROTOCOLS)('through %s', (protocol) => {
  test('spans with events, links, status and every kind of attribute', async () => {
    const exporter = TRACES[protocol]();
    const provider = new trace.TracerProvider({
      resource: resourceFor(protocol),
      spanProcessors: [new trace.BatchSpanProcessor({ exporter, ...PROCESSING })],
    });
    const span = provider.getTracer('tracer', '1.2.3').startSpan('GET /things', {
      kind: SpanKind.SERVER,
      startTime: [1_790_000_000, 123_456_789],
      attributes: { text: 'ä', int: 42, double: 1.5, flag: true, list: ['a', 'b'], 'http.status': 500 },
      links: [
        { context: { traceId: 'ab'.repeat(16), spanId: 'cd'.repeat(8), traceFlags: TraceFlags.SAMPLED } },
      ],
    });
    span.addEvent('cache.miss', { key: 'k' }, [1_790_000_000, 200_000_000]);
    span.setStatus({ code: SpanStatusCode.ERROR, message: 'broken' });
    span.end([1_790_000_001, 123_456_789]);
    await provider.shutdown();
    const row = await oneRow(`SELECT * FROM otel.otel_traces WHERE ServiceName = 'sdk-${protocol}'`);
    const { traceId, spanId } = span.spanContext();
    expect(row).toMatchObject({
      TraceId: traceId,
      SpanId: spanId,
      ParentSpanId: '',
      SpanName: 'GET /things',
      SpanKind: 'Server',
      ScopeName: 'tracer',
      ScopeVersion: '1.2.3',
      Duration: 1_000_000_000,
      StatusCode: 'Error',
      StatusMessage: 'broken',
      SpanAttributes: {
        text: 'ä',
        int: '42',
        double: '1.5',
        flag: 'true',
        list: '["a","b"]',
        'http.status': '500',
      },
      'Events.Name': ['cache.miss'],
      'Events.Attributes': [{ key: 'k' }],
      'Links.TraceId': ['ab'.repeat(16)],
      'Links.SpanId': ['cd'.repeat(8)],
    });
    expect(String(row.Timestamp)).toMatch(/\.123456789$/);
    expect((row.ResourceAttributes as Record<string, string>)['sdk.flag']).toBe('true');
  });

  test('log records with a map as body', async () => {
    const exporter = LOGS[protocol]();
    const provider = new LoggerProvider({
      resource: resourceFor(protocol),
      processors: [new BatchLogRecordProcessor({ exporter, ...PROCESSING })],
    });
    provider.getLogger('logger', '2.0').emit({
      timestamp: [1_790_000_000, 1],
      severityNumber: 13,
      severityText: 'WARN',
      eventName: 'thing.happened',
      body: { text: 'x', n: 1 },
      attributes: { a: 1 },
    });
    await provider.shutdown();
    const row = await oneRow(`SELECT * FROM otel.otel_logs WHERE ServiceName = 'sdk-${protocol}'`);
    expect(row).toMatchObject({
      SeverityText: 'WARN',
      SeverityNumber: 13,
      EventName: 'thing.happened',
      ScopeName: 'logger',
      ScopeVersion: '2.0',
      LogAttributes: { a: '1' },
    });
    expect(JSON.parse(String(row.Body))).toEqual({ text: 'x', n: 1 });
  });

  test('sums, gauges and histograms', async () => {
    const reader = new PeriodicExportingMetricReader({
      exporter: METRICS[protocol](),
      exportIntervalMillis: 3_600_000,
      ...PROCESSING,
    });
    const provider = new MeterProvider({ resource: resourceFor(protocol), readers: [reader] });
    const meter = provider.getMeter('meter', '3.0');
    meter.createCounter('requests', { description: 'how many', unit: '1' }).add(7, { route: '/a' });
    meter.createGauge('temperature').record(-1.25);
    const histogram = meter.createHistogram('latency', { advice: { explicitBucketBoundaries: [1, 10] } });
    for (const value of [0.5, 5, 50, 500]) histogram.record(value);
    await provider.shutdown();
    const of = (table: string, name: string) =>
      oneRow(
        `SELECT * FROM otel.otel_metrics_${table} WHERE ServiceName = 'sdk-${protocol}' AND MetricName = '${name}'`,
      );
    expect(await of('sum', 'requests')).toMatchObject({
      Value: 7,
      IsMonotonic: true,
      AggregationTemporality: 2,
      Attributes: { route: '/a' },
      MetricDescription: 'how many',
      MetricUnit: '1',
      ScopeName: 'meter',
      ScopeVersion: '3.0',
    });
    expect(await of('gauge', 'temperature')).toMatchObject({ Value: -1.25 });
    expect(await of('histogram', 'latency')).toMatchObject({
      Count: 4,
      Sum: 555.5,
      BucketCounts: [1, 1, 2],
      ExplicitBounds: [1, 10],
      Min: 0.5,
      Max: 500,
    });
  });
});
