/** One small request for each signal in which every field is set, every kind of value and every kind of metric occurs. */
import type { Signal } from '../../src/model/signal.ts';
import type { PlainMessage } from './encode.ts';

const TIME = 1_763_640_000_123_456_789n;
const TRACE_ID = Uint8Array.from({ length: 16 }, (_, index) => 16 + index);
const SPAN_ID = Uint8Array.from({ length: 8 }, (_, index) => 240 + index);

const attributes = [
  { key: 's', value: { stringValue: 'text' } },
  { key: 'b', value: { boolValue: true } },
  { key: 'i', value: { intValue: -42n } },
  { key: 'd', value: { doubleValue: 0.1 } },
  { key: 'a', value: { arrayValue: { values: [{ stringValue: 'x' }, {}, { intValue: 1n }] } } },
  { key: 'm', value: { kvlistValue: { values: [{ key: 'z', value: { boolValue: false } }, { key: 'a', value: {} }] } } },
  { key: 'y', value: { bytesValue: Uint8Array.from([0, 255]) } },
  { key: 'e', value: {} },
];
const few = [{ key: 'k', value: { stringValue: 'v' } }];
const resource = { attributes: [{ key: 'service.name', value: { stringValue: 'shop' } }, ...few], droppedAttributesCount: 1 };
const scope = { name: 'scope', version: '1', attributes: few, droppedAttributesCount: 2 };
const around = { resource, schemaUrl: 'https://r' };
const inside = { scope, schemaUrl: 'https://s' };

const span = {
  traceId: TRACE_ID, spanId: SPAN_ID, traceState: 'a=b', parentSpanId: SPAN_ID, name: 'GET /', kind: 2,
  startTimeUnixNano: TIME, endTimeUnixNano: TIME + 5n, attributes, droppedAttributesCount: 3,
  events: [{ timeUnixNano: TIME, name: 'event', attributes: few, droppedAttributesCount: 1 }, { name: 'other' }],
  droppedEventsCount: 1, droppedLinksCount: 1, flags: 257, status: { code: 2, message: 'broken' },
  links: [{ traceId: TRACE_ID, spanId: SPAN_ID, traceState: 'c=d', attributes: few, droppedAttributesCount: 1, flags: 1 }],
};
const log = {
  timeUnixNano: TIME, observedTimeUnixNano: TIME + 1n, severityNumber: 9, severityText: 'INFO', attributes,
  body: { kvlistValue: { values: attributes } }, droppedAttributesCount: 1, flags: 1, traceId: TRACE_ID, spanId: SPAN_ID,
  eventName: 'event',
};
const exemplars = [
  { timeUnixNano: TIME, asDouble: 0.5, spanId: SPAN_ID, traceId: TRACE_ID, filteredAttributes: few },
  { asInt: -1n },
];
const point = { startTimeUnixNano: TIME - 1n, timeUnixNano: TIME, attributes, flags: 1 };
const distribution = { ...point, count: 3n, sum: 1.5 };
const metrics = [
  { name: 'g', description: 'gauge', unit: 's', gauge: { dataPoints: [{ ...point, asDouble: 0.5, exemplars }] } },
  { name: 's', sum: { dataPoints: [{ ...point, asInt: -7n }], aggregationTemporality: 2, isMonotonic: true } },
  { name: 'h', histogram: { aggregationTemporality: 1, dataPoints: [
    { ...distribution, bucketCounts: [1n, 2n, 0n], explicitBounds: [0.5, 10], exemplars, min: 0.1, max: 1.4 },
  ] } },
  { name: 'e', exponentialHistogram: { aggregationTemporality: 1, dataPoints: [
    { ...distribution, scale: -3, zeroCount: 1n, positive: { offset: -2, bucketCounts: [1n, 300n] }, exemplars, min: 0, max: 1,
      negative: { offset: 2, bucketCounts: [5n] }, zeroThreshold: 1e-9 },
  ] } },
  { name: 'q', summary: { dataPoints: [
    { ...distribution, quantileValues: [{ quantile: 0, value: 0.1 }, { quantile: 0.99, value: 2 }] },
  ] } },
  { name: 'no data' },
];

/** Objects for encode.ts. */
export const SAMPLES: Readonly<Record<Signal, PlainMessage>> = {
  traces: { resourceSpans: [{ ...around, scopeSpans: [{ ...inside, spans: [span, { traceId: TRACE_ID, spanId: SPAN_ID }] }] }] },
  logs: { resourceLogs: [{ ...around, scopeLogs: [{ ...inside, logRecords: [log, { body: { stringValue: 'plain' } }] }] }] },
  metrics: { resourceMetrics: [{ ...around, scopeMetrics: [{ ...inside, metrics }] }] },
};
