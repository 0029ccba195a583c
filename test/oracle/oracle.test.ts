/**
 * Goal: the oracle itself can be trusted. Its decoder agrees with the encoders of the OpenTelemetry SDK
 * (protobuf against JSON) and with its own encoder in every form the encoding allows, and refuses what is no
 * message; its reader of Native blocks refuses what a careful server would.
 */
import { SpanKind, SpanStatusCode, TraceFlags } from '@opentelemetry/api';
import * as otlp from '@opentelemetry/otlp-transformer';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { InMemoryLogRecordExporter, LoggerProvider, SimpleLogRecordProcessor } from '@opentelemetry/sdk-logs';
import {
  AggregationTemporality, AggregationType, InMemoryMetricExporter, MeterProvider,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics';
import { InMemorySpanExporter, SimpleSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import { SIGNALS, type Signal } from '../../src/model/signal.ts';
import { requestArbitrary } from './arbitrary.ts';
import { tablesDifference } from './compare.ts';
import { decode, DecodeError } from './decode.ts';
import { encode, fullChaos } from './encode.ts';
import { decodeJson } from './json.ts';
import { decodeNative } from './native.ts';
import { seededRandom } from './random.ts';
import { expectedRows } from './rows.ts';

const SEED = 20_261_121;
const resource = resourceFromAttributes({ 'service.name': 'sdk', flag: true, list: [1, 2.5], none: '' });

type Written = Uint8Array | undefined;
function expectSame(signal: Signal, protobuf: Written, json: Written, rows: number): void {
  if (protobuf === undefined || json === undefined) throw new Error('the SDK gave nothing');
  const fromProtobuf = expectedRows(signal, decode(REQUESTS[signal], protobuf), 10);
  const fromJson = expectedRows(signal, decodeJson(REQUESTS[signal], json), 10);
  expect(tablesDifference(fromProtobuf.rows, fromJson.rows)).toBeUndefined();
  expect(fromProtobuf.accepted).toBe(rows);
}

describe("the SDK's protobuf and its JSON are the same to us", () => {
  test('spans', () => {
    const exporter = new InMemorySpanExporter();
    const processor = new SimpleSpanProcessor({ exporter });
    const provider = new TracerProvider({ resource, spanProcessors: [processor] });
    const context = { traceId: 'ab'.repeat(16), spanId: 'cd'.repeat(8), traceFlags: TraceFlags.SAMPLED };
    const span = provider.getTracer('tracer', '1.0').startSpan('work', {
      kind: SpanKind.PRODUCER,
      startTime: [1_790_000_000, 123_456_789],
      attributes: { text: 'ä', int: -42, double: 1.5, big: 2 ** 52, flag: false, list: ['a', 'b'] },
      links: [{ context }],
    });
    span.addEvent('event', { key: 'value' }, [1_790_000_000, 200_000_000]);
    span.setStatus({ code: SpanStatusCode.ERROR, message: 'broken' });
    span.end([1_790_000_001, 1]);
    const spans = exporter.getFinishedSpans();
    const json = otlp.JsonTraceSerializer.serializeRequest(spans);
    expectSame('traces', otlp.ProtobufTraceSerializer.serializeRequest(spans), json, 1);
  });

  test('log records', () => {
    const exporter = new InMemoryLogRecordExporter();
    const processor = new SimpleLogRecordProcessor({ exporter });
    const provider = new LoggerProvider({ resource, processors: [processor] });
    provider.getLogger('logger', '2.0').emit({
      timestamp: [1_790_000_000, 1], severityNumber: 13, severityText: 'WARN', eventName: 'event',
      body: { text: 'x', bytes: new Uint8Array([0, 255]), nested: [1, null, { deep: -0.5 }] },
      attributes: { a: 1 },
    });
    const logs = exporter.getFinishedLogRecords();
    const json = otlp.JsonLogsSerializer.serializeRequest(logs);
    expectSame('logs', otlp.ProtobufLogsSerializer.serializeRequest(logs), json, 1);
  });

  test('metrics', async () => {
    const exporter = new InMemoryMetricExporter(AggregationTemporality.DELTA);
    const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 });
    const aggregation = { type: AggregationType.EXPONENTIAL_HISTOGRAM } as const;
    const views = [{ instrumentName: 'sizes', aggregation }];
    const provider = new MeterProvider({ resource, readers: [reader], views });
    const meter = provider.getMeter('meter', '3.0');
    meter.createCounter('requests', { description: 'how many', unit: '1' }).add(7, { route: '/a' });
    meter.createGauge('temperature').record(-1.25);
    const histogram = meter.createHistogram('latency', { advice: { explicitBucketBoundaries: [1, 10] } });
    const sizes = meter.createHistogram('sizes');
    for (const value of [0, 0.5, 5, 500]) histogram.record(value);
    for (const value of [0, 0.5, 5, 500]) sizes.record(value);
    await provider.forceFlush();
    const [metrics] = exporter.getMetrics();
    if (metrics === undefined) throw new Error('no metrics');
    const json = otlp.JsonMetricsSerializer.serializeRequest(metrics);
    expectSame('metrics', otlp.ProtobufMetricsSerializer.serializeRequest(metrics), json, 4);
    await provider.shutdown();
  });
});

describe('the decoder', () => {
  test.each(SIGNALS)('%s: the form in which a message is written does not matter', (signal) => {
    fc.assert(fc.property(requestArbitrary(signal), fc.nat(), (request, chaosSeed) => {
      const plain = decode(REQUESTS[signal], encode(REQUESTS[signal], request));
      const bytes = encode(REQUESTS[signal], request, fullChaos(seededRandom(chaosSeed)));
      const wild = decode(REQUESTS[signal], bytes);
      expect(decode(REQUESTS[signal], bytes, 'lazy')).toEqual(wild);
      // Rows, not messages: a list that came in two halves, both empty, is present in one form only.
      const [one, other] = [expectedRows(signal, plain, 10), expectedRows(signal, wild, 10)];
      expect(tablesDifference(one.rows, other.rows)).toBeUndefined();
      expect(other.rejected).toEqual(one.rejected);
    }), { seed: SEED, numRuns: 100 });
  });

  const refused: readonly (readonly [string, readonly number[]])[] = [
    ['a tag without a value', [0x0a]],
    ['a length beyond the end', [0x0a, 0x02, 0x00]],
    ['field number 0', [0x02, 0x00]],
    ['wire type 6', [0x7e, 0x00]],
    ['wire type 7', [0x7f, 0x00]],
    ['a varint of eleven bytes', [0x78, ...new Array(10).fill(0x80), 0x00]],
    ['a varint without an end', [0x78, 0x80]],
    ['a group without an end', [0x7b]],
    ['the end of a group alone', [0x7c]],
    ['a group with the end of another', [0x7b, 0x84, 0x01]],
    ['a fixed64 cut short', [0x79, 1, 2, 3, 4, 5, 6, 7]],
    ['a fixed32 cut short', [0x7d, 1, 2, 3]],
  ];
  test.each(refused)('refuses %s', (_, bytes) => {
    expect(() => decode('Resource', Uint8Array.from(bytes))).toThrow(DecodeError);
  });

  test('last scalar wins, submessages merge, a oneof forgets its other members', () => {
    const parts = [
      encode('Span', { name: 'first', status: { code: 2, message: 'kept' }, kind: 1 }),
      encode('Span', { name: 'second', status: { code: 1 } }),
    ];
    const wanted = { name: 'second', kind: 1, status: { code: 1, message: 'kept' } };
    expect(decode('Span', Buffer.concat(parts))).toEqual(wanted);
    const value = [
      encode('AnyValue', { arrayValue: { values: [{ intValue: 1n }] } }),
      encode('AnyValue', { stringValue: 'between' }),
      encode('AnyValue', { arrayValue: { values: [{ intValue: 2n }] } }),
      encode('AnyValue', { arrayValue: { values: [{ intValue: 3n }] } }),
    ];
    const merged = { arrayValue: { values: [{ intValue: 2n }, { intValue: 3n }] } };
    expect(decode('AnyValue', Buffer.concat(value))).toEqual(merged);
  });

  test('numbers of all types keep sign and width', () => {
    const buckets = { offset: -2147483648, bucketCounts: [0n, 2n ** 64n - 1n] };
    expect(decode('Buckets', encode('Buckets', buckets))).toEqual(buckets);
    const value = { intValue: -(2n ** 63n) };
    expect(decode('AnyValue', encode('AnyValue', value))).toEqual(value);
    const point = { asInt: -1n, timeUnixNano: 2n ** 64n - 1n, flags: 2 ** 32 - 1 };
    expect(decode('NumberDataPoint', encode('NumberDataPoint', point))).toEqual(point);
  });
});

describe('the reader of Native blocks', () => {
  const text = (value: string) => [value.length, ...Buffer.from(value)];
  const u64 = (value: number) => [value, 0, 0, 0, 0, 0, 0, 0];
  const dictionary = (keys: readonly string[], indexes: readonly number[]) =>
    [0, 6, 0, 0, 0, 0, 0, 0, ...u64(keys.length), ...keys.flatMap(text), ...u64(indexes.length), ...indexes];
  const mapBlock = (ends: readonly number[], body: readonly number[]) => Uint8Array.from([
    1, ends.length, ...text('m'), ...text('Map(LowCardinality(String), String)'), ...u64(1),
    ...ends.flatMap(u64), ...body,
  ]);
  const values = [...text('1'), ...text('2'), ...text('3')];

  test('maps with a dictionary of keys', () => {
    const [block] = decodeNative(mapBlock([2, 2, 3], [...dictionary(['a', 'b'], [0, 1, 0]), ...values]));
    expect(block?.rows).toEqual([{ m: [['a', '1'], ['b', '2']] }, { m: [] }, { m: [['a', '3']] }]);
  });
  test('several blocks, one of them empty', () => {
    const empty = [1, 0, ...text('n'), ...text('UInt8')];
    const blocks = decodeNative(Uint8Array.from([...empty, 1, 2, ...text('n'), ...text('UInt8'), 7, 8]));
    expect(blocks.map(({ rows }) => rows)).toEqual([[], [{ n: 7 }, { n: 8 }]]);
  });
  const broken: readonly (readonly [string, Uint8Array])[] = [
    ['an index beyond the dictionary', mapBlock([3], [...dictionary(['a', 'b'], [0, 2, 0]), ...values])],
    ['a key twice', mapBlock([3], [...dictionary(['a', 'a'], [0, 1, 0]), ...values])],
    ['too few indexes', mapBlock([3], [...dictionary(['a', 'b'], [0, 1]), ...values])],
    ['offsets that fall', mapBlock([3, 2], [...dictionary(['a', 'b'], [0, 1]), ...values])],
    ['a value too few', mapBlock([3], [...dictionary(['a', 'b'], [0, 1, 0]), ...values.slice(2)])],
    ['bytes left over', mapBlock([3], [...dictionary(['a', 'b'], [0, 1, 0]), ...values, 0])],
  ];
  test.each(broken)('refuses %s', (_, bytes) => {
    expect(() => decodeNative(bytes)).toThrow(/native block/);
  });
});
