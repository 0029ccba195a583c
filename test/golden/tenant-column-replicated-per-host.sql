ALTER TABLE otel.otel_traces_local ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] CODEC(ZSTD(1)) AFTER ServiceName;

ALTER TABLE otel.otel_logs_local ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] CODEC(ZSTD(1)) AFTER ServiceName;

ALTER TABLE otel.otel_metrics_gauge_local ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] CODEC(ZSTD(1)) AFTER ServiceName;

ALTER TABLE otel.otel_metrics_sum_local ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] CODEC(ZSTD(1)) AFTER ServiceName;

ALTER TABLE otel.otel_metrics_histogram_local ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] CODEC(ZSTD(1)) AFTER ServiceName;

ALTER TABLE otel.otel_metrics_exponential_histogram_local ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] CODEC(ZSTD(1)) AFTER ServiceName;

ALTER TABLE otel.otel_metrics_summary_local ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] CODEC(ZSTD(1)) AFTER ServiceName;

ALTER TABLE otel.otel_traces_trace_id_ts_local ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) CODEC(ZSTD(1)) AFTER TraceId;

ALTER TABLE otel.otel_traces ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] AFTER ServiceName;

ALTER TABLE otel.otel_logs ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] AFTER ServiceName;

ALTER TABLE otel.otel_metrics_gauge ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] AFTER ServiceName;

ALTER TABLE otel.otel_metrics_sum ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] AFTER ServiceName;

ALTER TABLE otel.otel_metrics_histogram ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] AFTER ServiceName;

ALTER TABLE otel.otel_metrics_exponential_histogram ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] AFTER ServiceName;

ALTER TABLE otel.otel_metrics_summary ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] AFTER ServiceName;

ALTER TABLE otel.otel_traces_trace_id_ts ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) AFTER TraceId;

ALTER TABLE otel.otel_traces_trace_id_ts_mv MODIFY QUERY
SELECT TraceId, Tenant, min(Timestamp) AS Start, max(Timestamp) AS End
FROM otel.otel_traces_local
WHERE TraceId != ''
GROUP BY TraceId, Tenant;
