/**
 * One small request for each signal in which every field is set, every kind of value and every kind of metric
 * occurs.
 */
import type { Signal } from '../../src/model/signal.ts';
import type { Plain, PlainMessage } from './encode.ts';

const TIME = 1_763_640_000_123_456_789n;
const TRACE_ID = Uint8Array.from({ length: 16 }, (_, index) => 16 + index);
const SPAN_ID = Uint8Array.from({ length: 8 }, (_, index) => 240 + index);

const attributes = [
  { key: 's', value: { stringValue: 'text' } },
  { key: 'b', value: { boolValue: true } },
  { key: 'i', value: { intValue: -42n } },
  { key: 'd', value: { doubleValue: 0.1 } },
  { key: 'a', value: { arrayValue: { values: [{ stringValue: 'x' }, {}, { intValue: 1n }] } } },
  { key: 'm', value: { kvlistValue: { values: [{ key: 'z', value: { boolValue: false } }, { key: 'a' }] } } },
  { key: 'y', value: { bytesValue: Uint8Array.from([0, 255]) } },
  { key: 'e', value: {} },
];
const few = [{ key: 'k', value: { stringValue: 'v' } }];
const serviceName = { key: 'service.name', value: { stringValue: 'shop' } };
const resource = { attributes: [serviceName, ...few], droppedAttributesCount: 1 };
const scope = { name: 'scope', version: '1', attributes: few, droppedAttributesCount: 2 };
const around = { resource, schemaUrl: 'https://r' };
const within = { scope, schemaUrl: 'https://s' };

const ids = { traceId: TRACE_ID, spanId: SPAN_ID };
const span = {
  ...ids, traceState: 'a=b', parentSpanId: SPAN_ID, name: 'GET /', kind: 2,
  startTimeUnixNano: TIME, endTimeUnixNano: TIME + 5n, attributes, droppedAttributesCount: 3,
  events: [{ timeUnixNano: TIME, name: 'event', attributes: few, droppedAttributesCount: 1 }, { name: 'b' }],
  droppedEventsCount: 1, droppedLinksCount: 1, flags: 257, status: { code: 2, message: 'broken' },
  links: [{ ...ids, traceState: 'c=d', attributes: few, droppedAttributesCount: 1, flags: 1 }],
};
const log = {
  timeUnixNano: TIME, observedTimeUnixNano: TIME + 1n, severityNumber: 9, severityText: 'INFO', attributes,
  body: { kvlistValue: { values: attributes } }, droppedAttributesCount: 1, flags: 1, ...ids,
  eventName: 'event',
};
const exemplars = [
  { timeUnixNano: TIME, asDouble: 0.5, spanId: SPAN_ID, traceId: TRACE_ID, filteredAttributes: few },
  { asInt: -1n },
];
const point = { startTimeUnixNano: TIME - 1n, timeUnixNano: TIME, attributes, flags: 1 };
const distribution = { ...point, count: 3n, sum: 1.5 };
const number = { ...point, asDouble: 0.5, exemplars };
const histogram = {
  ...distribution, bucketCounts: [1n, 2n, 0n], explicitBounds: [0.5, 10], exemplars, min: 0.1, max: 1.4,
};
const exponential = {
  ...distribution, scale: -3, zeroCount: 1n, exemplars, min: 0, max: 1, zeroThreshold: 1e-9,
  positive: { offset: -2, bucketCounts: [1n, 300n] }, negative: { offset: 2, bucketCounts: [5n] },
};
const quantileValues = [{ quantile: 0, value: 0.1 }, { quantile: 0.99, value: 2 }];
const integer = { ...point, asInt: -7n };
const metrics = [
  { name: 'g', description: 'gauge', unit: 's', gauge: { dataPoints: [number] } },
  { name: 's', sum: { aggregationTemporality: 2, isMonotonic: true, dataPoints: [integer] } },
  { name: 'h', histogram: { aggregationTemporality: 1, dataPoints: [histogram] } },
  { name: 'e', exponentialHistogram: { aggregationTemporality: 1, dataPoints: [exponential] } },
  { name: 'q', summary: { dataPoints: [{ ...distribution, quantileValues }] } },
  { name: 'no data' },
];

/**
 * A request with one resource and one scope, as an object for encode.ts.
 * @param records spans, log records or metrics.
 * @param around fields beside the list of scopes: `resource`, `schemaUrl`.
 * @param inside fields beside the records: `scope`, `schemaUrl`.
 */
export function requestOf(
  signal: Signal, records: readonly Plain[], around: PlainMessage = {}, inside: PlainMessage = {},
): PlainMessage {
  switch (signal) {
    case 'traces':
      return { resourceSpans: [{ ...around, scopeSpans: [{ ...inside, spans: records }] }] };
    case 'logs':
      return { resourceLogs: [{ ...around, scopeLogs: [{ ...inside, logRecords: records }] }] };
    case 'metrics':
      return { resourceMetrics: [{ ...around, scopeMetrics: [{ ...inside, metrics: records }] }] };
  }
}

/** Objects for encode.ts. */
export const SAMPLES: Readonly<Record<Signal, PlainMessage>> = {
  traces: requestOf('traces', [span, ids], around, within),
  logs: requestOf('logs', [log, { body: { stringValue: 'plain' } }], around, within),
  metrics: requestOf('metrics', metrics, around, within),
};
