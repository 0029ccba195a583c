ALTER TABLE otel.otel_traces_local ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] CODEC(ZSTD(1)) AFTER ServiceName;

ALTER TABLE otel.otel_logs_local ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] CODEC(ZSTD(1)) AFTER ServiceName;

ALTER TABLE otel.otel_metrics_gauge_local ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] CODEC(ZSTD(1)) AFTER ServiceName;

ALTER TABLE otel.otel_metrics_sum_local ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] CODEC(ZSTD(1)) AFTER ServiceName;

ALTER TABLE otel.otel_metrics_histogram_local ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] CODEC(ZSTD(1)) AFTER ServiceName;

ALTER TABLE otel.otel_metrics_exponential_histogram_local ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] CODEC(ZSTD(1)) AFTER ServiceName;

ALTER TABLE otel.otel_metrics_summary_local ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] CODEC(ZSTD(1)) AFTER ServiceName;

ALTER TABLE otel.otel_traces_trace_id_ts_local ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) CODEC(ZSTD(1)) AFTER TraceId;

ALTER TABLE otel.otel_traces ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] AFTER ServiceName;

ALTER TABLE otel.otel_logs ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] AFTER ServiceName;

ALTER TABLE otel.otel_metrics_gauge ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] AFTER ServiceName;

ALTER TABLE otel.otel_metrics_sum ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] AFTER ServiceName;

ALTER TABLE otel.otel_metrics_histogram ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] AFTER ServiceName;

ALTER TABLE otel.otel_metrics_exponential_histogram ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] AFTER ServiceName;

ALTER TABLE otel.otel_metrics_summary ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] AFTER ServiceName;

ALTER TABLE otel.otel_traces_trace_id_ts ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) AFTER TraceId;

ALTER TABLE otel.otel_traces_trace_id_ts_mv ON CLUSTER 'main' MODIFY QUERY
SELECT TraceId, Tenant, min(Timestamp) AS Start, max(Timestamp) AS End
FROM otel.otel_traces_local
WHERE TraceId != ''
GROUP BY TraceId, Tenant;
