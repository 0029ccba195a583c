-- Whose each row is, as a column (`tenants.column`). The gateway writes the tenant into the resource; blocks
-- don't name the column, so ClickHouse fills it from there at the insert. Rows from before have what their map
-- says. The keys of the tables stay: docs/tenant-column.md says why.
-- In no ledger: apply looks at the tables each time, and runs what is missing while the setting is on.

-- @step local instant
ALTER TABLE {local:otel_traces} {on_cluster} ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] CODEC(ZSTD(1)) AFTER ServiceName

-- @step local instant
ALTER TABLE {local:otel_logs} {on_cluster} ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] CODEC(ZSTD(1)) AFTER ServiceName

-- @step local instant
ALTER TABLE {local:otel_metrics_gauge} {on_cluster} ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] CODEC(ZSTD(1)) AFTER ServiceName

-- @step local instant
ALTER TABLE {local:otel_metrics_sum} {on_cluster} ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] CODEC(ZSTD(1)) AFTER ServiceName

-- @step local instant
ALTER TABLE {local:otel_metrics_histogram} {on_cluster} ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] CODEC(ZSTD(1)) AFTER ServiceName

-- @step local instant
ALTER TABLE {local:otel_metrics_exponential_histogram} {on_cluster} ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] CODEC(ZSTD(1)) AFTER ServiceName

-- @step local instant
ALTER TABLE {local:otel_metrics_summary} {on_cluster} ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] CODEC(ZSTD(1)) AFTER ServiceName

-- @step local instant
ALTER TABLE {local:otel_traces_trace_id_ts} {on_cluster} ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) CODEC(ZSTD(1)) AFTER TraceId

-- @step distributed instant
ALTER TABLE {table:otel_traces} {on_cluster} ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] AFTER ServiceName

-- @step distributed instant
ALTER TABLE {table:otel_logs} {on_cluster} ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] AFTER ServiceName

-- @step distributed instant
ALTER TABLE {table:otel_metrics_gauge} {on_cluster} ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] AFTER ServiceName

-- @step distributed instant
ALTER TABLE {table:otel_metrics_sum} {on_cluster} ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] AFTER ServiceName

-- @step distributed instant
ALTER TABLE {table:otel_metrics_histogram} {on_cluster} ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] AFTER ServiceName

-- @step distributed instant
ALTER TABLE {table:otel_metrics_exponential_histogram} {on_cluster} ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] AFTER ServiceName

-- @step distributed instant
ALTER TABLE {table:otel_metrics_summary} {on_cluster} ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) DEFAULT ResourceAttributes['sluice.tenant'] AFTER ServiceName

-- @step distributed instant
ALTER TABLE {table:otel_traces_trace_id_ts} {on_cluster} ADD COLUMN IF NOT EXISTS
    Tenant LowCardinality(String) AFTER TraceId

-- Two tenants may send one trace id. Before 24.1 a view that fills a table can't be altered: there the time
-- ranges have no tenant.
-- @step view instant
-- @if server >= 24.1
ALTER TABLE {database}.otel_traces_trace_id_ts_mv {on_cluster} MODIFY QUERY
SELECT TraceId, Tenant, min(Timestamp) AS Start, max(Timestamp) AS End
FROM {local:otel_traces}
WHERE TraceId != ''
GROUP BY TraceId, Tenant
-- @end
