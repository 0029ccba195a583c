-- Spans, and beside them each trace's time range, where Grafana's plugin finds it by trace id.
-- Columns and their types are those of the collector's ClickHouse exporter; indices and part settings are
-- ours: docs/migrations.md says what each costs.

-- @step local instant
CREATE TABLE IF NOT EXISTS {local:otel_traces} {on_cluster}
(
    Timestamp DateTime64(9) CODEC(Delta, ZSTD(1)),
    TraceId String CODEC(ZSTD(1)),
    SpanId String CODEC(ZSTD(1)),
    ParentSpanId String CODEC(ZSTD(1)),
    TraceState String CODEC(ZSTD(1)),
    SpanName LowCardinality(String) CODEC(ZSTD(1)),
    SpanKind LowCardinality(String) CODEC(ZSTD(1)),
    ServiceName LowCardinality(String) CODEC(ZSTD(1)),
    ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ScopeName String CODEC(ZSTD(1)),
    ScopeVersion String CODEC(ZSTD(1)),
    SpanAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    Duration UInt64 CODEC(ZSTD(1)),
    StatusCode LowCardinality(String) CODEC(ZSTD(1)),
    StatusMessage String CODEC(ZSTD(1)),
    Events Nested
    (
        Timestamp DateTime64(9),
        Name LowCardinality(String),
        Attributes Map(LowCardinality(String), String)
    ) CODEC(ZSTD(1)),
    Links Nested
    (
        TraceId String,
        SpanId String,
        TraceState String,
        Attributes Map(LowCardinality(String), String)
    ) CODEC(ZSTD(1)),
    -- For HyperDX: how many spans this one stands for, and attributes as key=value.
    SampleRate UInt64
        MATERIALIZED greatest(toUInt64OrZero(SpanAttributes['SampleRate']), 1) CODEC(T64, ZSTD(1)),
    ResourceAttributeItems Array(String)
        ALIAS arrayMap(item -> concat(item.1, '=', item.2), ResourceAttributes::Array(Tuple(String, String))),
    SpanAttributeItems Array(String)
        ALIAS arrayMap(item -> concat(item.1, '=', item.2), SpanAttributes::Array(Tuple(String, String))),
    INDEX idx_trace_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX idx_span_attr_value mapValues(SpanAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_duration Duration TYPE minmax GRANULARITY 1
)
ENGINE = {engine:MergeTree}
PARTITION BY toDate(Timestamp)
ORDER BY (ServiceName, SpanName, toDateTime(Timestamp))
{ttl:traces:toDateTime(Timestamp)}
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1
    {deduplication}
    {setting:materialize_ttl_recalculate_only = 1}
    {setting:merge_selector_base = 8}
    {setting:min_level_for_wide_part = 1}
    {setting:string_serialization_version = 'single_stream'}

-- @step local instant
CREATE TABLE IF NOT EXISTS {local:otel_traces_trace_id_ts} {on_cluster}
(
    TraceId String CODEC(ZSTD(1)),
    Start DateTime CODEC(Delta, ZSTD(1)),
    End DateTime CODEC(Delta, ZSTD(1)),
    INDEX idx_trace_id TraceId TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = {engine:MergeTree}
PARTITION BY toDate(Start)
ORDER BY (TraceId, Start)
{ttl:traces:toDateTime(Start)}
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1
    {deduplication}
    {setting:materialize_ttl_recalculate_only = 1}
    {setting:merge_selector_base = 8}
    {setting:min_level_for_wide_part = 1}
    {setting:string_serialization_version = 'single_stream'}

-- Reads the local table: on a cluster each host fills its own part.
-- @step view instant
CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.otel_traces_trace_id_ts_mv {on_cluster}
TO {local:otel_traces_trace_id_ts}
AS SELECT TraceId, min(Timestamp) AS Start, max(Timestamp) AS End
FROM {local:otel_traces}
WHERE TraceId != ''
GROUP BY TraceId
