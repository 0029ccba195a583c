/**
 * What a decoded request must become: the rows of each table, and how many records are refused for what.
 * Written from the schema's description with objects and copies everywhere, apart from the transcoder.
 */
import type { RejectReason, Warning } from '../../src/model/outcome.ts';
import type { Signal, Table } from '../../src/model/signal.ts';
import type { Message, Value } from './decode.ts';
import { messageIn, messagesIn, nesting, textIn, valueText } from './text.ts';

/**
 * Float64 as its bits (every NaN is one), 64-bit integers and times as bigint, strings binary, maps as pairs.
 */
export type Cell = number | bigint | boolean | string | readonly Cell[];
export type Row = Readonly<Record<string, Cell>>;

/** A record that is refused may have several faults: any one of them may be named. */
export interface Expected {
  readonly rows: ReadonlyMap<Table, readonly Row[]>;
  readonly accepted: number;
  readonly rejected: readonly ReadonlySet<RejectReason>[];
  readonly warnings: ReadonlyMap<Warning, number>;
}

const TIME_END = 2n ** 63n;
const SPAN_KINDS = ['Unspecified', 'Internal', 'Server', 'Client', 'Producer', 'Consumer'];
const STATUS_CODES = ['Unset', 'Ok', 'Error'];
const NAN_BITS = 0x7ff8000000000000n;

/** NaN has many bit patterns and means the same in all; everything else is compared bit by bit. */
export function doubleBits(value: number): bigint {
  if (Number.isNaN(value)) return NAN_BITS;
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return bytes.readBigUInt64LE();
}

function numberIn(value: Value | undefined): number {
  return typeof value === 'number' ? value : 0;
}

function bigIn(value: Value | undefined): bigint {
  return typeof value === 'bigint' ? value : 0n;
}

function doublesIn(value: Value | undefined): bigint[] {
  return Array.isArray(value) ? value.map((item) => doubleBits(numberIn(item))) : [];
}

function bigsIn(value: Value | undefined): bigint[] {
  return Array.isArray(value) ? value.map(bigIn) : [];
}

function hex(bytes: string): string {
  return /^\0*$/.test(bytes) ? '' : Buffer.from(bytes, 'latin1').toString('hex');
}

function pairs(attributes: Value | undefined): (readonly [string, string])[] {
  const entries = messagesIn(attributes);
  return entries.map((entry) => [textIn(entry.key), valueText(messageIn(entry.value))] as const);
}

/** A point's attributes are sorted: the hash in the tables' keys depends on the order. */
function sortedPairs(attributes: Value | undefined): (readonly [string, string])[] {
  return pairs(attributes).sort(([a], [b]) => (a === b ? 0 : a < b ? -1 : 1));
}

class Collected {
  readonly rows = new Map<Table, Row[]>();
  readonly rejected: ReadonlySet<RejectReason>[] = [];
  readonly warnings = new Map<Warning, number>();
  accepted = 0;

  take(table: Table, row: Row, faults: ReadonlySet<RejectReason>): void {
    if (faults.size > 0) {
      this.rejected.push(faults);
      return;
    }
    this.accepted++;
    const rows = this.rows.get(table);
    if (rows === undefined) this.rows.set(table, [row]);
    else rows.push(row);
  }

  warn(warning: Warning): void {
    this.warnings.set(warning, (this.warnings.get(warning) ?? 0) + 1);
  }
}

/** Collects what is wrong with one record. */
class Faults {
  readonly found = new Set<RejectReason>();
  readonly #nestingMax: number;

  constructor(nestingMax: number) {
    this.#nestingMax = nestingMax;
  }

  if(wrong: boolean, reason: RejectReason): void {
    if (wrong) this.found.add(reason);
  }

  times(...times: readonly bigint[]): void {
    this.if(times.some((time) => time >= TIME_END), 'time_out_of_range');
  }

  value(value: Message | undefined): void {
    this.if(nesting(value) > this.#nestingMax, 'nesting_too_deep');
  }

  attributes(...lists: readonly (Value | undefined)[]): void {
    for (const list of lists) for (const entry of messagesIn(list)) this.value(messageIn(entry.value));
  }
}

interface Context {
  readonly into: Collected;
  readonly tenant: string;
  readonly nestingMax: number;
  readonly resource: Message;
  readonly scope: Message;
  readonly resourceSchemaUrl: string;
  readonly scopeSchemaUrl: string;
}

/** With a tenant nobody else is named, and that stands last. */
function resourcePairs({ resource, tenant }: Context): (readonly [string, string])[] {
  if (tenant === '') return pairs(resource.attributes);
  const own = pairs(resource.attributes).filter(([key]) => key !== 'sluice.tenant');
  return [...own, ['sluice.tenant', Buffer.from(tenant).toString('latin1')]];
}

function serviceName(resource: Message): string {
  const found = messagesIn(resource.attributes).find((entry) => textIn(entry.key) === 'service.name');
  return found === undefined ? '' : valueText(messageIn(found.value));
}

function spanColumns(span: Message, context: Context): Row {
  const status = messageIn(span.status) ?? {};
  const [start, end] = [bigIn(span.startTimeUnixNano), bigIn(span.endTimeUnixNano)];
  const events = messagesIn(span.events);
  const links = messagesIn(span.links);
  return {
    Timestamp: start,
    TraceId: hex(textIn(span.traceId)),
    SpanId: hex(textIn(span.spanId)),
    ParentSpanId: hex(textIn(span.parentSpanId)),
    TraceState: textIn(span.traceState),
    SpanName: textIn(span.name),
    SpanKind: SPAN_KINDS[numberIn(span.kind)] ?? 'Unspecified',
    ServiceName: serviceName(context.resource),
    ResourceAttributes: resourcePairs(context),
    ScopeName: textIn(context.scope.name),
    ScopeVersion: textIn(context.scope.version),
    SpanAttributes: pairs(span.attributes),
    Duration: end > start ? end - start : 0n,
    StatusCode: STATUS_CODES[numberIn(status.code)] ?? 'Unset',
    StatusMessage: textIn(status.message),
    'Events.Timestamp': events.map((event) => bigIn(event.timeUnixNano)),
    'Events.Name': events.map((event) => textIn(event.name)),
    'Events.Attributes': events.map((event) => pairs(event.attributes)),
    'Links.TraceId': links.map((link) => hex(textIn(link.traceId))),
    'Links.SpanId': links.map((link) => hex(textIn(link.spanId))),
    'Links.TraceState': links.map((link) => textIn(link.traceState)),
    'Links.Attributes': links.map((link) => pairs(link.attributes)),
  };
}

function takeSpan(span: Message, context: Context): void {
  const faults = new Faults(context.nestingMax);
  const [traceId, spanId] = [textIn(span.traceId), textIn(span.spanId)];
  const events = messagesIn(span.events);
  const links = messagesIn(span.links);
  faults.if(traceId.length !== 16 || hex(traceId) === '', 'trace_id_invalid');
  faults.if(spanId.length !== 8 || hex(spanId) === '', 'span_id_invalid');
  faults.if(![0, 8].includes(textIn(span.parentSpanId).length), 'parent_span_id_invalid');
  for (const link of links) {
    faults.if(![0, 16].includes(textIn(link.traceId).length), 'link_id_invalid');
    faults.if(![0, 8].includes(textIn(link.spanId).length), 'link_id_invalid');
    faults.attributes(link.attributes);
  }
  faults.times(bigIn(span.startTimeUnixNano), ...events.map((event) => bigIn(event.timeUnixNano)));
  faults.attributes(span.attributes, context.resource.attributes, ...events.map((event) => event.attributes));
  context.into.take('otel_traces', spanColumns(span, context), faults.found);
}

function takeLog(log: Message, context: Context): void {
  const faults = new Faults(context.nestingMax);
  const time = bigIn(log.timeUnixNano) || bigIn(log.observedTimeUnixNano);
  const [traceId, spanId] = [textIn(log.traceId), textIn(log.spanId)];
  const severity = numberIn(log.severityNumber);
  faults.times(time);
  faults.attributes(log.attributes, context.resource.attributes, context.scope.attributes);
  faults.value(messageIn(log.body));
  const row = {
    Timestamp: time,
    TraceId: traceId.length === 16 ? hex(traceId) : '',
    SpanId: spanId.length === 8 ? hex(spanId) : '',
    TraceFlags: numberIn(log.flags) & 0xff,
    SeverityText: textIn(log.severityText),
    SeverityNumber: severity >= 0 && severity <= 255 ? severity : 0,
    ServiceName: serviceName(context.resource),
    Body: valueText(messageIn(log.body)),
    ResourceSchemaUrl: context.resourceSchemaUrl,
    ResourceAttributes: resourcePairs(context),
    ScopeSchemaUrl: context.scopeSchemaUrl,
    ScopeName: textIn(context.scope.name),
    ScopeVersion: textIn(context.scope.version),
    ScopeAttributes: pairs(context.scope.attributes),
    LogAttributes: pairs(log.attributes),
    EventName: textIn(log.eventName),
  };
  context.into.take('otel_logs', row, faults.found);
  if (faults.found.size > 0) return;
  if (![0, 16].includes(traceId.length)) context.into.warn('log_trace_id_dropped');
  if (![0, 8].includes(spanId.length)) context.into.warn('log_span_id_dropped');
}

function pointValue(point: Message): bigint {
  const integer = point.asInt;
  return doubleBits(typeof integer === 'bigint' ? Number(integer) : numberIn(point.asDouble));
}

function metricColumns(metric: Message, point: Message, context: Context): Row {
  return {
    ResourceAttributes: resourcePairs(context),
    ResourceSchemaUrl: context.resourceSchemaUrl,
    ScopeName: textIn(context.scope.name),
    ScopeVersion: textIn(context.scope.version),
    ScopeAttributes: pairs(context.scope.attributes),
    ScopeDroppedAttrCount: numberIn(context.scope.droppedAttributesCount),
    ScopeSchemaUrl: context.scopeSchemaUrl,
    ServiceName: serviceName(context.resource),
    MetricName: textIn(metric.name),
    MetricDescription: textIn(metric.description),
    MetricUnit: textIn(metric.unit),
    Attributes: sortedPairs(point.attributes),
    StartTimeUnix: bigIn(point.startTimeUnixNano),
    TimeUnix: bigIn(point.timeUnixNano),
    Flags: numberIn(point.flags),
  };
}

function exemplarColumns(point: Message): Row {
  const exemplars = messagesIn(point.exemplars);
  return {
    'Exemplars.FilteredAttributes': exemplars.map((exemplar) => pairs(exemplar.filteredAttributes)),
    'Exemplars.TimeUnix': exemplars.map((exemplar) => bigIn(exemplar.timeUnixNano)),
    'Exemplars.Value': exemplars.map(pointValue),
    'Exemplars.SpanId': exemplars.map((exemplar) => hex(textIn(exemplar.spanId))),
    'Exemplars.TraceId': exemplars.map((exemplar) => hex(textIn(exemplar.traceId))),
  };
}

function countAndSum(point: Message): Row {
  return { Count: bigIn(point.count), Sum: doubleBits(numberIn(point.sum)) };
}

function extremes(point: Message): Row {
  return { Min: doubleBits(numberIn(point.min)), Max: doubleBits(numberIn(point.max)) };
}

function temporality(data: Message): Row {
  return { AggregationTemporality: numberIn(data.aggregationTemporality) };
}

function exponentialColumns(point: Message): Row {
  const [positive, negative] = [messageIn(point.positive) ?? {}, messageIn(point.negative) ?? {}];
  return {
    Scale: numberIn(point.scale),
    ZeroCount: bigIn(point.zeroCount),
    PositiveOffset: numberIn(positive.offset),
    PositiveBucketCounts: bigsIn(positive.bucketCounts),
    NegativeOffset: numberIn(negative.offset),
    NegativeBucketCounts: bigsIn(negative.bucketCounts),
  };
}

/** The five kinds of data: their table, and the columns that only it has. */
const KINDS: Readonly<Record<string, readonly [Table, (data: Message, point: Message) => Row]>> = {
  gauge: ['otel_metrics_gauge', (_, point) => ({ Value: pointValue(point), ...exemplarColumns(point) })],
  sum: [
    'otel_metrics_sum',
    (data, point) => ({
      Value: pointValue(point),
      ...exemplarColumns(point),
      ...temporality(data),
      IsMonotonic: data.isMonotonic === true,
    }),
  ],
  histogram: [
    'otel_metrics_histogram',
    (data, point) => ({
      ...countAndSum(point),
      BucketCounts: bigsIn(point.bucketCounts),
      ExplicitBounds: doublesIn(point.explicitBounds),
      ...exemplarColumns(point),
      ...extremes(point),
      ...temporality(data),
    }),
  ],
  exponentialHistogram: [
    'otel_metrics_exponential_histogram',
    (data, point) => ({
      ...countAndSum(point),
      ...exponentialColumns(point),
      ...exemplarColumns(point),
      ...extremes(point),
      ...temporality(data),
    }),
  ],
  summary: [
    'otel_metrics_summary',
    (_, point) => {
      const quantiles = messagesIn(point.quantileValues);
      return {
        ...countAndSum(point),
        'ValueAtQuantiles.Quantile': quantiles.map(({ quantile }) => doubleBits(numberIn(quantile))),
        'ValueAtQuantiles.Value': quantiles.map(({ value }) => doubleBits(numberIn(value))),
      };
    },
  ],
};

function histogramFaults(point: Message, faults: Faults): void {
  const counts = bigsIn(point.bucketCounts);
  const bounds = Array.isArray(point.explicitBounds) ? point.explicitBounds.map(numberIn) : [];
  const fits = counts.length === bounds.length + 1 || (counts.length === 0 && bounds.length === 0);
  faults.if(!fits, 'histogram_buckets_mismatch');
  const unsorted = bounds.some((bound, index) => index > 0 && !(bound > (bounds[index - 1] ?? NaN)));
  faults.if(unsorted || bounds.some(Number.isNaN), 'histogram_bounds_unsorted');
}

function takeMetric(metric: Message, context: Context): void {
  const known = Object.entries(KINDS).find(([name]) => metric[name] !== undefined);
  const [kind, [table, columns]] = known ?? ['', []];
  if (table === undefined || columns === undefined) {
    context.into.warn('metric_without_data');
    return;
  }
  const data = messageIn(metric[kind]) ?? {};
  for (const point of messagesIn(data.dataPoints)) {
    const faults = new Faults(context.nestingMax);
    const exemplars = kind === 'summary' ? [] : messagesIn(point.exemplars);
    faults.times(bigIn(point.startTimeUnixNano), bigIn(point.timeUnixNano));
    faults.times(...exemplars.map((exemplar) => bigIn(exemplar.timeUnixNano)));
    faults.attributes(point.attributes, context.resource.attributes, context.scope.attributes);
    faults.attributes(...exemplars.map((exemplar) => exemplar.filteredAttributes));
    if (kind === 'histogram') histogramFaults(point, faults);
    const row = { ...metricColumns(metric, point, context), ...columns(data, point) };
    context.into.take(table, row, faults.found);
  }
}

const SHAPES = {
  traces: ['resourceSpans', 'scopeSpans', 'spans', takeSpan],
  logs: ['resourceLogs', 'scopeLogs', 'logRecords', takeLog],
  metrics: ['resourceMetrics', 'scopeMetrics', 'metrics', takeMetric],
} as const;

/**
 * @param request a decoded Export<Signal>ServiceRequest.
 * @param tenant whose it is, empty: nobody's
 */
export function expectedRows(signal: Signal, request: Message, nestingMax: number, tenant = ''): Expected {
  const [resources, scopes, records, take] = SHAPES[signal];
  const into = new Collected();
  for (const underResource of messagesIn(request[resources])) {
    for (const underScope of messagesIn(underResource[scopes])) {
      const context = {
        into,
        tenant,
        nestingMax,
        resource: messageIn(underResource.resource) ?? {},
        scope: messageIn(underScope.scope) ?? {},
        resourceSchemaUrl: textIn(underResource.schemaUrl),
        scopeSchemaUrl: textIn(underScope.schemaUrl),
      };
      for (const record of messagesIn(underScope[records])) take(record, context);
    }
  }
  return into;
}
