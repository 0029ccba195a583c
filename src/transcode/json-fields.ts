/**
 * What OTLP/JSON keys mean in protobuf: for each message its keys, with field numbers and how the values are
 * written.
 *
 * The facts are those of opentelemetry-proto 1.11; a test compares them with proto/fields.ts both ways. The
 * table is compiled once into what the converter needs at each key: the key's bytes as words to compare with,
 * the tag, and a guess which key comes next, since a sender writes the keys of a message in the same order
 * again and again.
 */
import type { Signal } from '../model/signal.ts';

/** How a JSON value is read and what it becomes. Numbers, so that the converter's switch is a jump. */
export const KIND = {
  message: 0,
  string: 1,
  /** An id: hexadecimal digits, where protobuf's own JSON would have base64. */
  hex: 2,
  bytes: 3,
  bool: 4,
  enum: 5,
  int64: 6,
  uint32: 7,
  uint64: 8,
  sint32: 9,
  fixed32: 10,
  fixed64: 11,
  sfixed64: 12,
  double: 13,
} as const;
export type Kind = (typeof KIND)[keyof typeof KIND];

type Scalar = Exclude<keyof typeof KIND, 'message' | 'enum'>;
type Entry = readonly [number: number, type: string, many?: 'many'];
type Entries = Readonly<Record<string, Entry>>;

const ATTRIBUTES_DROPPED = 'droppedAttributesCount';

const TABLE: Readonly<Record<string, Entries>> = {
  AnyValue: {
    stringValue: [1, 'string'],
    boolValue: [2, 'bool'],
    intValue: [3, 'int64'],
    doubleValue: [4, 'double'],
    arrayValue: [5, 'ArrayValue'],
    kvlistValue: [6, 'KeyValueList'],
    bytesValue: [7, 'bytes'],
  },
  ArrayValue: { values: [1, 'AnyValue', 'many'] },
  KeyValueList: { values: [1, 'KeyValue', 'many'] },
  KeyValue: { key: [1, 'string'], value: [2, 'AnyValue'] },
  InstrumentationScope: {
    name: [1, 'string'],
    version: [2, 'string'],
    attributes: [3, 'KeyValue', 'many'],
    [ATTRIBUTES_DROPPED]: [4, 'uint32'],
  },
  Resource: { attributes: [1, 'KeyValue', 'many'], [ATTRIBUTES_DROPPED]: [2, 'uint32'] },

  ExportTraceServiceRequest: { resourceSpans: [1, 'ResourceSpans', 'many'] },
  ResourceSpans: {
    resource: [1, 'Resource'],
    scopeSpans: [2, 'ScopeSpans', 'many'],
    schemaUrl: [3, 'string'],
  },
  ScopeSpans: { scope: [1, 'InstrumentationScope'], spans: [2, 'Span', 'many'], schemaUrl: [3, 'string'] },
  Span: {
    traceId: [1, 'hex'],
    spanId: [2, 'hex'],
    traceState: [3, 'string'],
    parentSpanId: [4, 'hex'],
    name: [5, 'string'],
    kind: [6, 'SpanKind'],
    startTimeUnixNano: [7, 'fixed64'],
    endTimeUnixNano: [8, 'fixed64'],
    attributes: [9, 'KeyValue', 'many'],
    [ATTRIBUTES_DROPPED]: [10, 'uint32'],
    events: [11, 'SpanEvent', 'many'],
    droppedEventsCount: [12, 'uint32'],
    links: [13, 'SpanLink', 'many'],
    droppedLinksCount: [14, 'uint32'],
    status: [15, 'SpanStatus'],
    flags: [16, 'fixed32'],
  },
  SpanEvent: {
    timeUnixNano: [1, 'fixed64'],
    name: [2, 'string'],
    attributes: [3, 'KeyValue', 'many'],
    [ATTRIBUTES_DROPPED]: [4, 'uint32'],
  },
  SpanLink: {
    traceId: [1, 'hex'],
    spanId: [2, 'hex'],
    traceState: [3, 'string'],
    attributes: [4, 'KeyValue', 'many'],
    [ATTRIBUTES_DROPPED]: [5, 'uint32'],
    flags: [6, 'fixed32'],
  },
  SpanStatus: { message: [2, 'string'], code: [3, 'StatusCode'] },

  ExportLogsServiceRequest: { resourceLogs: [1, 'ResourceLogs', 'many'] },
  ResourceLogs: { resource: [1, 'Resource'], scopeLogs: [2, 'ScopeLogs', 'many'], schemaUrl: [3, 'string'] },
  ScopeLogs: {
    scope: [1, 'InstrumentationScope'],
    logRecords: [2, 'LogRecord', 'many'],
    schemaUrl: [3, 'string'],
  },
  LogRecord: {
    timeUnixNano: [1, 'fixed64'],
    severityNumber: [2, 'SeverityNumber'],
    severityText: [3, 'string'],
    body: [5, 'AnyValue'],
    attributes: [6, 'KeyValue', 'many'],
    [ATTRIBUTES_DROPPED]: [7, 'uint32'],
    flags: [8, 'fixed32'],
    traceId: [9, 'hex'],
    spanId: [10, 'hex'],
    observedTimeUnixNano: [11, 'fixed64'],
    eventName: [12, 'string'],
  },

  ExportMetricsServiceRequest: { resourceMetrics: [1, 'ResourceMetrics', 'many'] },
  ResourceMetrics: {
    resource: [1, 'Resource'],
    scopeMetrics: [2, 'ScopeMetrics', 'many'],
    schemaUrl: [3, 'string'],
  },
  ScopeMetrics: {
    scope: [1, 'InstrumentationScope'],
    metrics: [2, 'Metric', 'many'],
    schemaUrl: [3, 'string'],
  },
  Metric: {
    name: [1, 'string'],
    description: [2, 'string'],
    unit: [3, 'string'],
    gauge: [5, 'Gauge'],
    sum: [7, 'Sum'],
    histogram: [9, 'Histogram'],
    exponentialHistogram: [10, 'ExponentialHistogram'],
    summary: [11, 'Summary'],
  },
  Gauge: { dataPoints: [1, 'NumberDataPoint', 'many'] },
  Sum: {
    dataPoints: [1, 'NumberDataPoint', 'many'],
    aggregationTemporality: [2, 'AggregationTemporality'],
    isMonotonic: [3, 'bool'],
  },
  Histogram: {
    dataPoints: [1, 'HistogramDataPoint', 'many'],
    aggregationTemporality: [2, 'AggregationTemporality'],
  },
  ExponentialHistogram: {
    dataPoints: [1, 'ExponentialHistogramDataPoint', 'many'],
    aggregationTemporality: [2, 'AggregationTemporality'],
  },
  Summary: { dataPoints: [1, 'SummaryDataPoint', 'many'] },
  NumberDataPoint: {
    startTimeUnixNano: [2, 'fixed64'],
    timeUnixNano: [3, 'fixed64'],
    asDouble: [4, 'double'],
    exemplars: [5, 'Exemplar', 'many'],
    asInt: [6, 'sfixed64'],
    attributes: [7, 'KeyValue', 'many'],
    flags: [8, 'uint32'],
  },
  HistogramDataPoint: {
    startTimeUnixNano: [2, 'fixed64'],
    timeUnixNano: [3, 'fixed64'],
    count: [4, 'fixed64'],
    sum: [5, 'double'],
    bucketCounts: [6, 'fixed64', 'many'],
    explicitBounds: [7, 'double', 'many'],
    exemplars: [8, 'Exemplar', 'many'],
    attributes: [9, 'KeyValue', 'many'],
    flags: [10, 'uint32'],
    min: [11, 'double'],
    max: [12, 'double'],
  },
  ExponentialHistogramDataPoint: {
    attributes: [1, 'KeyValue', 'many'],
    startTimeUnixNano: [2, 'fixed64'],
    timeUnixNano: [3, 'fixed64'],
    count: [4, 'fixed64'],
    sum: [5, 'double'],
    scale: [6, 'sint32'],
    zeroCount: [7, 'fixed64'],
    positive: [8, 'Buckets'],
    negative: [9, 'Buckets'],
    flags: [10, 'uint32'],
    exemplars: [11, 'Exemplar', 'many'],
    min: [12, 'double'],
    max: [13, 'double'],
    zeroThreshold: [14, 'double'],
  },
  Buckets: { offset: [1, 'sint32'], bucketCounts: [2, 'uint64', 'many'] },
  SummaryDataPoint: {
    startTimeUnixNano: [2, 'fixed64'],
    timeUnixNano: [3, 'fixed64'],
    count: [4, 'fixed64'],
    sum: [5, 'double'],
    quantileValues: [6, 'ValueAtQuantile', 'many'],
    attributes: [7, 'KeyValue', 'many'],
    flags: [8, 'uint32'],
  },
  ValueAtQuantile: { quantile: [1, 'double'], value: [2, 'double'] },
  Exemplar: {
    timeUnixNano: [2, 'fixed64'],
    asDouble: [3, 'double'],
    spanId: [4, 'hex'],
    traceId: [5, 'hex'],
    asInt: [6, 'sfixed64'],
    filteredAttributes: [7, 'KeyValue', 'many'],
  },
};

/** OTLP/JSON has enums as integers; their names, which proto3's own JSON writes, are understood too. */
const ENUMS: Readonly<Record<string, ReadonlyMap<string, number>>> = {
  SpanKind: enumOf('SPAN_KIND_', ['UNSPECIFIED', 'INTERNAL', 'SERVER', 'CLIENT', 'PRODUCER', 'CONSUMER']),
  StatusCode: enumOf('STATUS_CODE_', ['UNSET', 'OK', 'ERROR']),
  AggregationTemporality: enumOf('AGGREGATION_TEMPORALITY_', ['UNSPECIFIED', 'DELTA', 'CUMULATIVE']),
  SeverityNumber: enumOf('SEVERITY_NUMBER_', [
    'UNSPECIFIED',
    ...['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'].flatMap((name) => [
      name,
      `${name}2`,
      `${name}3`,
      `${name}4`,
    ]),
  ]),
};

function enumOf(prefix: string, names: readonly string[]): ReadonlyMap<string, number> {
  return new Map(names.map((name, value) => [prefix + name, value]));
}

/**
 * Bytes that are set aside for a message's length before it is written. Where the length needs fewer it is
 * padded (protobuf allows that); where it needs more the message is moved. Messages that hold many others get
 * the most.
 */
const LENGTH_BYTES_USUAL = 2;
const LENGTH_BYTES: Readonly<Record<string, number>> = {
  KeyValue: 1,
  AnyValue: 1,
  SpanStatus: 1,
  SpanLink: 1,
  InstrumentationScope: 1,
  ValueAtQuantile: 1,
  ResourceSpans: 5,
  ScopeSpans: 5,
  ResourceLogs: 5,
  ScopeLogs: 5,
  ResourceMetrics: 5,
  ScopeMetrics: 5,
  Metric: 3,
  Gauge: 3,
  Sum: 3,
  Histogram: 3,
  ExponentialHistogram: 3,
  Summary: 3,
};

export interface FieldType {
  readonly name: string;
  readonly number: number;
  readonly kind: Kind;
  readonly repeated: boolean;
  /** Repeated scalars are written packed: one length-delimited run. */
  readonly packed: boolean;
  readonly tag: number;
  /** Of fields whose kind is `message`. */
  readonly message: MessageType | undefined;
  /** Of fields whose kind is `enum`. */
  readonly enumValues: ReadonlyMap<string, number> | undefined;
  /**
   * The key with both quotes, as little-endian words; of the last one only the bits of `lastWordMask` count.
   */
  readonly keyWords: Int32Array;
  readonly lastWordMask: number;
  readonly keyBytes: number;
  /** The field that followed this one the last time: the guess for the next time. */
  next: FieldType | undefined;
}

export interface MessageType {
  readonly name: string;
  readonly fields: readonly FieldType[];
  readonly byKey: ReadonlyMap<string, FieldType>;
  readonly lengthBytes: number;
  /** The field that came first the last time: the guess for the next time. */
  first: FieldType | undefined;
}

/** Every message by its name. */
export const MESSAGE_TYPES: ReadonlyMap<string, MessageType> = compile();

/** What each signal's Export call carries. */
export const REQUEST_TYPES: Readonly<Record<Signal, MessageType>> = {
  traces: messageType('ExportTraceServiceRequest'),
  metrics: messageType('ExportMetricsServiceRequest'),
  logs: messageType('ExportLogsServiceRequest'),
};

/** An attribute, and what it holds. */
export const KEY_VALUE: MessageType = messageType('KeyValue');
export const ANY_VALUE: MessageType = messageType('AnyValue');

function messageType(name: string): MessageType {
  const type = MESSAGE_TYPES.get(name);
  if (type === undefined) throw new Error(`json-fields.ts has no message ${name}`);
  return type;
}

function compile(): ReadonlyMap<string, MessageType> {
  const types = new Map<string, MessageType & { fields: FieldType[]; byKey: Map<string, FieldType> }>();
  for (const name of Object.keys(TABLE)) {
    const lengthBytes = LENGTH_BYTES[name] ?? LENGTH_BYTES_USUAL;
    types.set(name, { name, fields: [], byKey: new Map(), lengthBytes, first: undefined });
  }
  for (const type of types.values()) {
    for (const [key, entry] of Object.entries(TABLE[type.name] ?? {})) {
      const field = compileField(key, entry, types.get(entry[1]));
      type.fields.push(field);
      type.byKey.set(key, field);
    }
  }
  return types;
}

function compileField(
  name: string,
  [number, type, many]: Entry,
  message: MessageType | undefined,
): FieldType {
  const enumValues = ENUMS[type];
  const kind = message ? KIND.message : enumValues ? KIND.enum : KIND[type as Scalar];
  if (kind === undefined) throw new Error(`json-fields.ts has no type ${type}`);
  const packed = many !== undefined && kind >= KIND.bool;
  const key = Buffer.from(`"${name}"`);
  const padded = Buffer.concat([key, Buffer.alloc(3)]);
  const keyWords = Int32Array.from({ length: Math.ceil(key.length / 4) }, (_, i) =>
    padded.readInt32LE(i * 4),
  );
  const bitsOver = (keyWords.length * 4 - key.length) * 8;
  return {
    name,
    number,
    kind,
    repeated: many !== undefined,
    packed,
    tag: (number << 3) | wireType(kind, packed),
    message,
    enumValues,
    keyWords,
    lastWordMask: (-1 >>> bitsOver) | 0,
    keyBytes: key.length,
    next: undefined,
  };
}

function wireType(kind: Kind, packed: boolean): number {
  if (packed || kind <= KIND.bytes) return 2;
  if (kind === KIND.fixed32) return 5;
  return kind >= KIND.fixed64 ? 1 : 0;
}
