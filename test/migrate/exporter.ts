/**
 * Tables as the collector's ClickHouse exporter makes them, for tests of taking them over: `new` is its
 * layout of 2025 and later, `old` that of the first versions. Names and types are the exporter's.
 */
const MAP = 'Map(LowCardinality(String), String)';
const z = 'CODEC(ZSTD(1))';

const bloom = (name: string, column: string) =>
  `INDEX idx_${name} ${column} TYPE bloom_filter(0.01) GRANULARITY 1`;
const attributes = (name: string, column: string) => [
  bloom(`${name}_attr_key`, `mapKeys(${column})`),
  bloom(`${name}_attr_value`, `mapValues(${column})`),
];
const TRACE_ID = 'INDEX idx_trace_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1';

const TRACES = (database: string) => `CREATE TABLE ${database}.otel_traces (
${[
  'Timestamp DateTime64(9) CODEC(Delta(8), ZSTD(1))',
  ...['TraceId', 'SpanId', 'ParentSpanId', 'TraceState'].map((name) => `${name} String ${z}`),
  ...['SpanName', 'SpanKind', 'ServiceName'].map((name) => `${name} LowCardinality(String) ${z}`),
  `ResourceAttributes ${MAP} ${z}`,
  `ScopeName String ${z}`,
  `ScopeVersion String ${z}`,
  `SpanAttributes ${MAP} ${z}`,
  'Duration UInt64 CODEC(T64, ZSTD(1))',
  `StatusCode LowCardinality(String) ${z}`,
  `StatusMessage String ${z}`,
  `Events Nested (Timestamp DateTime64(9), Name LowCardinality(String), Attributes ${MAP}) ${z}`,
  `Links Nested (TraceId String, SpanId String, TraceState String, Attributes ${MAP}) ${z}`,
  TRACE_ID,
  ...attributes('res', 'ResourceAttributes'),
  ...attributes('span', 'SpanAttributes'),
  'INDEX idx_duration Duration TYPE minmax GRANULARITY 1',
].join(',\n')}
) ENGINE = MergeTree PARTITION BY toDate(Timestamp) ORDER BY (ServiceName, SpanName, toDateTime(Timestamp))
TTL toDateTime(Timestamp) + toIntervalDay(3650) SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1`;

const TIME_RANGES = (database: string) => [
  `CREATE TABLE ${database}.otel_traces_trace_id_ts
(TraceId String ${z}, Start DateTime CODEC(Delta, ZSTD(1)), End DateTime CODEC(Delta, ZSTD(1)),
INDEX idx_trace_id TraceId TYPE bloom_filter(0.01) GRANULARITY 1)
ENGINE = MergeTree PARTITION BY toDate(Start) ORDER BY (TraceId, Start)`,
  `CREATE MATERIALIZED VIEW ${database}.otel_traces_trace_id_ts_mv TO ${database}.otel_traces_trace_id_ts AS
SELECT TraceId, min(Timestamp) AS Start, max(Timestamp) AS End FROM ${database}.otel_traces
WHERE TraceId != '' GROUP BY TraceId`,
];

const LOG_INDICES = [
  TRACE_ID,
  ...attributes('res', 'ResourceAttributes'),
  ...attributes('scope', 'ScopeAttributes'),
  ...attributes('log', 'LogAttributes'),
];

/** With a column for whole seconds, by which it is partitioned. */
const LOGS_NEW = (database: string) => `CREATE TABLE ${database}.otel_logs (
${[
  'Timestamp DateTime64(9) CODEC(Delta(8), ZSTD(1))',
  'TimestampTime DateTime DEFAULT toDateTime(Timestamp)',
  `TraceId String ${z}`,
  `SpanId String ${z}`,
  'TraceFlags UInt8',
  `SeverityText LowCardinality(String) ${z}`,
  'SeverityNumber UInt8',
  `ServiceName LowCardinality(String) ${z}`,
  `Body String ${z}`,
  `ResourceSchemaUrl LowCardinality(String) ${z}`,
  `ResourceAttributes ${MAP} ${z}`,
  `ScopeSchemaUrl LowCardinality(String) ${z}`,
  `ScopeName String ${z}`,
  `ScopeVersion LowCardinality(String) ${z}`,
  `ScopeAttributes ${MAP} ${z}`,
  `LogAttributes ${MAP} ${z}`,
  ...LOG_INDICES,
  'INDEX idx_body Body TYPE tokenbf_v1(32768, 3, 0) GRANULARITY 8',
].join(',\n')}
) ENGINE = MergeTree PARTITION BY toDate(TimestampTime) PRIMARY KEY (ServiceName, TimestampTime)
ORDER BY (ServiceName, TimestampTime, Timestamp) SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1`;

/** Wider numbers, plain strings, another key. */
const LOGS_OLD = (database: string) => `CREATE TABLE ${database}.otel_logs (
${[
  'Timestamp DateTime64(9) CODEC(Delta, ZSTD(1))',
  `TraceId String ${z}`,
  `SpanId String ${z}`,
  `TraceFlags UInt32 ${z}`,
  `SeverityText LowCardinality(String) ${z}`,
  `SeverityNumber Int32 ${z}`,
  `ServiceName LowCardinality(String) ${z}`,
  `Body String ${z}`,
  `ResourceSchemaUrl String ${z}`,
  `ResourceAttributes ${MAP} ${z}`,
  `ScopeSchemaUrl String ${z}`,
  `ScopeName String ${z}`,
  `ScopeVersion String ${z}`,
  `ScopeAttributes ${MAP} ${z}`,
  `LogAttributes ${MAP} ${z}`,
  ...LOG_INDICES,
].join(',\n')}
) ENGINE = MergeTree() PARTITION BY toDate(Timestamp)
ORDER BY (ServiceName, SeverityText, toUnixTimestamp(Timestamp), TraceId)
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1`;

const sums = (time: string, name: string, key: string) => (database: string) =>
  `CREATE TABLE
${database}.otel_metrics_sum (
${[
  `ResourceAttributes ${MAP} ${z}`,
  `ResourceSchemaUrl String ${z}`,
  `ScopeName String ${z}`,
  `ScopeVersion String ${z}`,
  `ScopeAttributes ${MAP} ${z}`,
  `ScopeDroppedAttrCount UInt32 ${z}`,
  `ScopeSchemaUrl String ${z}`,
  `ServiceName LowCardinality(String) ${z}`,
  `MetricName ${name} ${z}`,
  `MetricDescription String ${z}`,
  `MetricUnit String ${z}`,
  `Attributes ${MAP} ${z}`,
  `StartTimeUnix ${time} CODEC(Delta, ZSTD(1))`,
  `TimeUnix ${time} CODEC(Delta, ZSTD(1))`,
  `Value Float64 ${z}`,
  `Flags UInt32 ${z}`,
  `Exemplars Nested (FilteredAttributes ${MAP}, TimeUnix ${time}, Value Float64, SpanId String, TraceId String) ${z}`,
  `AggregationTemporality Int32 ${z}`,
  'IsMonotonic Boolean CODEC(Delta, ZSTD(1))',
  ...attributes('res', 'ResourceAttributes'),
].join(',\n')}
) ENGINE = MergeTree PARTITION BY toDate(TimeUnix) ORDER BY (${key})
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1`;

/** Statements that make the tables in a database that is there; the other tables don't differ in kind. */
export const EXPORTER_TABLES: Readonly<Record<'new' | 'old', (database: string) => readonly string[]>> = {
  new: (database) => [
    TRACES(database),
    ...TIME_RANGES(database),
    LOGS_NEW(database),
    sums(
      'DateTime',
      'LowCardinality(String)',
      'ServiceName, MetricName, toStartOfHour(TimeUnix), cityHash64(Attributes), TimeUnix',
    )(database),
  ],
  old: (database) => [
    TRACES(database),
    ...TIME_RANGES(database),
    LOGS_OLD(database),
    sums(
      'DateTime64(9)',
      'String',
      'ServiceName, MetricName, Attributes, toUnixTimestamp64Nano(TimeUnix)',
    )(database),
  ],
};
