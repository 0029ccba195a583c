/**
 * The OTLP messages that are read, as data: for each message its fields' numbers and types.
 *
 * The facts are those of opentelemetry-proto 1.11 (packages
 * opentelemetry.proto.{common,resource,trace,logs,metrics}.v1 and collector.*.v1) and of google.rpc.Status;
 * the names are those of OTLP/JSON. What is not listed is not read by Sluice and is an unknown field to it:
 * entity references, profiles' string indices, metric metadata.
 *
 * The transcoder's hand-written codec is tested against a decoder that knows nothing but this table.
 */

export type Scalar =
  | 'bool'
  | 'int32'
  | 'int64'
  | 'uint32'
  | 'uint64'
  | 'sint32'
  | 'fixed32'
  | 'fixed64'
  | 'sfixed64'
  | 'double'
  | 'enum'
  | 'string'
  | 'bytes';

export type MessageName =
  | 'AnyValue'
  | 'ArrayValue'
  | 'KeyValueList'
  | 'KeyValue'
  | 'InstrumentationScope'
  | 'Resource'
  | 'ResourceSpans'
  | 'ScopeSpans'
  | 'Span'
  | 'SpanEvent'
  | 'SpanLink'
  | 'SpanStatus'
  | 'ResourceLogs'
  | 'ScopeLogs'
  | 'LogRecord'
  | 'ResourceMetrics'
  | 'ScopeMetrics'
  | 'Metric'
  | 'Gauge'
  | 'Sum'
  | 'Histogram'
  | 'ExponentialHistogram'
  | 'Summary'
  | 'NumberDataPoint'
  | 'HistogramDataPoint'
  | 'ExponentialHistogramDataPoint'
  | 'Buckets'
  | 'SummaryDataPoint'
  | 'ValueAtQuantile'
  | 'Exemplar'
  | 'ExportTraceServiceRequest'
  | 'ExportTraceServiceResponse'
  | 'ExportTracePartialSuccess'
  | 'ExportMetricsServiceRequest'
  | 'ExportMetricsServiceResponse'
  | 'ExportMetricsPartialSuccess'
  | 'ExportLogsServiceRequest'
  | 'ExportLogsServiceResponse'
  | 'ExportLogsPartialSuccess'
  | 'RpcStatus'
  | 'ProtobufAny'
  | 'RetryInfo'
  | 'ProtobufDuration';

export interface Field {
  readonly number: number;
  readonly type: Scalar | MessageName;
  readonly repeated: boolean;
  /** Fields of one message with the same name here exclude each other: the last one on the wire wins. */
  readonly oneof: string | undefined;
}
export type Fields = Readonly<Record<string, Field>>;

function one(number: number, type: Scalar | MessageName): Field {
  return { number, type, repeated: false, oneof: undefined };
}

function many(number: number, type: Scalar | MessageName): Field {
  return { number, type, repeated: true, oneof: undefined };
}

function oneof(name: string, number: number, type: Scalar | MessageName): Field {
  return { number, type, repeated: false, oneof: name };
}

const COMMON = {
  AnyValue: {
    stringValue: oneof('value', 1, 'string'),
    boolValue: oneof('value', 2, 'bool'),
    intValue: oneof('value', 3, 'int64'),
    doubleValue: oneof('value', 4, 'double'),
    arrayValue: oneof('value', 5, 'ArrayValue'),
    kvlistValue: oneof('value', 6, 'KeyValueList'),
    bytesValue: oneof('value', 7, 'bytes'),
  },
  ArrayValue: { values: many(1, 'AnyValue') },
  KeyValueList: { values: many(1, 'KeyValue') },
  KeyValue: { key: one(1, 'string'), value: one(2, 'AnyValue') },
  InstrumentationScope: {
    name: one(1, 'string'),
    version: one(2, 'string'),
    attributes: many(3, 'KeyValue'),
    droppedAttributesCount: one(4, 'uint32'),
  },
  Resource: { attributes: many(1, 'KeyValue'), droppedAttributesCount: one(2, 'uint32') },
};

const TRACE = {
  ResourceSpans: {
    resource: one(1, 'Resource'),
    scopeSpans: many(2, 'ScopeSpans'),
    schemaUrl: one(3, 'string'),
  },
  ScopeSpans: { scope: one(1, 'InstrumentationScope'), spans: many(2, 'Span'), schemaUrl: one(3, 'string') },
  Span: {
    traceId: one(1, 'bytes'),
    spanId: one(2, 'bytes'),
    traceState: one(3, 'string'),
    parentSpanId: one(4, 'bytes'),
    name: one(5, 'string'),
    kind: one(6, 'enum'),
    startTimeUnixNano: one(7, 'fixed64'),
    endTimeUnixNano: one(8, 'fixed64'),
    attributes: many(9, 'KeyValue'),
    droppedAttributesCount: one(10, 'uint32'),
    events: many(11, 'SpanEvent'),
    droppedEventsCount: one(12, 'uint32'),
    links: many(13, 'SpanLink'),
    droppedLinksCount: one(14, 'uint32'),
    status: one(15, 'SpanStatus'),
    flags: one(16, 'fixed32'),
  },
  SpanEvent: {
    timeUnixNano: one(1, 'fixed64'),
    name: one(2, 'string'),
    attributes: many(3, 'KeyValue'),
    droppedAttributesCount: one(4, 'uint32'),
  },
  SpanLink: {
    traceId: one(1, 'bytes'),
    spanId: one(2, 'bytes'),
    traceState: one(3, 'string'),
    attributes: many(4, 'KeyValue'),
    droppedAttributesCount: one(5, 'uint32'),
    flags: one(6, 'fixed32'),
  },
  SpanStatus: { message: one(2, 'string'), code: one(3, 'enum') },
};

const LOGS = {
  ResourceLogs: {
    resource: one(1, 'Resource'),
    scopeLogs: many(2, 'ScopeLogs'),
    schemaUrl: one(3, 'string'),
  },
  ScopeLogs: {
    scope: one(1, 'InstrumentationScope'),
    logRecords: many(2, 'LogRecord'),
    schemaUrl: one(3, 'string'),
  },
  LogRecord: {
    timeUnixNano: one(1, 'fixed64'),
    severityNumber: one(2, 'enum'),
    severityText: one(3, 'string'),
    body: one(5, 'AnyValue'),
    attributes: many(6, 'KeyValue'),
    droppedAttributesCount: one(7, 'uint32'),
    flags: one(8, 'fixed32'),
    traceId: one(9, 'bytes'),
    spanId: one(10, 'bytes'),
    observedTimeUnixNano: one(11, 'fixed64'),
    eventName: one(12, 'string'),
  },
};

const METRICS = {
  ResourceMetrics: {
    resource: one(1, 'Resource'),
    scopeMetrics: many(2, 'ScopeMetrics'),
    schemaUrl: one(3, 'string'),
  },
  ScopeMetrics: {
    scope: one(1, 'InstrumentationScope'),
    metrics: many(2, 'Metric'),
    schemaUrl: one(3, 'string'),
  },
  Metric: {
    name: one(1, 'string'),
    description: one(2, 'string'),
    unit: one(3, 'string'),
    gauge: oneof('data', 5, 'Gauge'),
    sum: oneof('data', 7, 'Sum'),
    histogram: oneof('data', 9, 'Histogram'),
    exponentialHistogram: oneof('data', 10, 'ExponentialHistogram'),
    summary: oneof('data', 11, 'Summary'),
  },
  Gauge: { dataPoints: many(1, 'NumberDataPoint') },
  Sum: {
    dataPoints: many(1, 'NumberDataPoint'),
    aggregationTemporality: one(2, 'enum'),
    isMonotonic: one(3, 'bool'),
  },
  Histogram: { dataPoints: many(1, 'HistogramDataPoint'), aggregationTemporality: one(2, 'enum') },
  ExponentialHistogram: {
    dataPoints: many(1, 'ExponentialHistogramDataPoint'),
    aggregationTemporality: one(2, 'enum'),
  },
  Summary: { dataPoints: many(1, 'SummaryDataPoint') },
  NumberDataPoint: {
    startTimeUnixNano: one(2, 'fixed64'),
    timeUnixNano: one(3, 'fixed64'),
    asDouble: oneof('value', 4, 'double'),
    exemplars: many(5, 'Exemplar'),
    asInt: oneof('value', 6, 'sfixed64'),
    attributes: many(7, 'KeyValue'),
    flags: one(8, 'uint32'),
  },
  HistogramDataPoint: {
    startTimeUnixNano: one(2, 'fixed64'),
    timeUnixNano: one(3, 'fixed64'),
    count: one(4, 'fixed64'),
    sum: one(5, 'double'),
    bucketCounts: many(6, 'fixed64'),
    explicitBounds: many(7, 'double'),
    exemplars: many(8, 'Exemplar'),
    attributes: many(9, 'KeyValue'),
    flags: one(10, 'uint32'),
    min: one(11, 'double'),
    max: one(12, 'double'),
  },
  ExponentialHistogramDataPoint: {
    attributes: many(1, 'KeyValue'),
    startTimeUnixNano: one(2, 'fixed64'),
    timeUnixNano: one(3, 'fixed64'),
    count: one(4, 'fixed64'),
    sum: one(5, 'double'),
    scale: one(6, 'sint32'),
    zeroCount: one(7, 'fixed64'),
    positive: one(8, 'Buckets'),
    negative: one(9, 'Buckets'),
    flags: one(10, 'uint32'),
    exemplars: many(11, 'Exemplar'),
    min: one(12, 'double'),
    max: one(13, 'double'),
    zeroThreshold: one(14, 'double'),
  },
  Buckets: { offset: one(1, 'sint32'), bucketCounts: many(2, 'uint64') },
  SummaryDataPoint: {
    startTimeUnixNano: one(2, 'fixed64'),
    timeUnixNano: one(3, 'fixed64'),
    count: one(4, 'fixed64'),
    sum: one(5, 'double'),
    quantileValues: many(6, 'ValueAtQuantile'),
    attributes: many(7, 'KeyValue'),
    flags: one(8, 'uint32'),
  },
  ValueAtQuantile: { quantile: one(1, 'double'), value: one(2, 'double') },
  Exemplar: {
    timeUnixNano: one(2, 'fixed64'),
    asDouble: oneof('value', 3, 'double'),
    spanId: one(4, 'bytes'),
    traceId: one(5, 'bytes'),
    asInt: oneof('value', 6, 'sfixed64'),
    filteredAttributes: many(7, 'KeyValue'),
  },
};

const SERVICES = {
  ExportTraceServiceRequest: { resourceSpans: many(1, 'ResourceSpans') },
  ExportTraceServiceResponse: { partialSuccess: one(1, 'ExportTracePartialSuccess') },
  ExportTracePartialSuccess: { rejectedSpans: one(1, 'int64'), errorMessage: one(2, 'string') },
  ExportMetricsServiceRequest: { resourceMetrics: many(1, 'ResourceMetrics') },
  ExportMetricsServiceResponse: { partialSuccess: one(1, 'ExportMetricsPartialSuccess') },
  ExportMetricsPartialSuccess: { rejectedDataPoints: one(1, 'int64'), errorMessage: one(2, 'string') },
  ExportLogsServiceRequest: { resourceLogs: many(1, 'ResourceLogs') },
  ExportLogsServiceResponse: { partialSuccess: one(1, 'ExportLogsPartialSuccess') },
  ExportLogsPartialSuccess: { rejectedLogRecords: one(1, 'int64'), errorMessage: one(2, 'string') },
  // google.rpc: what an OTLP/HTTP error body is, and the detail that tells a gRPC client to come back.
  RpcStatus: { code: one(1, 'int32'), message: one(2, 'string'), details: many(3, 'ProtobufAny') },
  ProtobufAny: { typeUrl: one(1, 'string'), value: one(2, 'bytes') },
  RetryInfo: { retryDelay: one(1, 'ProtobufDuration') },
  ProtobufDuration: { seconds: one(1, 'int64'), nanos: one(2, 'int32') },
};

export const MESSAGES: Readonly<Record<MessageName, Fields>> = {
  ...COMMON,
  ...TRACE,
  ...LOGS,
  ...METRICS,
  ...SERVICES,
};

/** What each signal's Export call carries. */
export const REQUESTS = {
  traces: 'ExportTraceServiceRequest',
  metrics: 'ExportMetricsServiceRequest',
  logs: 'ExportLogsServiceRequest',
} as const satisfies Record<string, MessageName>;

export const RESPONSES = {
  traces: 'ExportTraceServiceResponse',
  metrics: 'ExportMetricsServiceResponse',
  logs: 'ExportLogsServiceResponse',
} as const satisfies Record<string, MessageName>;
