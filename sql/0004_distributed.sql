-- What readers query on a cluster: a Distributed table under the plain name, declared like the local one, so
-- that aliases and materialized columns are there too. The sharding keys are the gateway's own, so that
-- optimize_skip_unused_shards holds: a trace and its time range lie on one shard, by the last 8 hex digits of
-- the trace id; a log record lies with its trace, or by its resource where it has none; a series lies on one
-- shard, by its name and resource. On a single server nothing of this runs.

-- @step distributed instant
CREATE TABLE IF NOT EXISTS {table:otel_traces} {on_cluster} AS {local:otel_traces}
ENGINE = {distributed:otel_traces:reinterpretAsUInt32(reverse(unhex(right(TraceId, 8))))}

-- @step distributed instant
CREATE TABLE IF NOT EXISTS {table:otel_traces_trace_id_ts} {on_cluster} AS {local:otel_traces_trace_id_ts}
ENGINE = {distributed:otel_traces_trace_id_ts:reinterpretAsUInt32(reverse(unhex(right(TraceId, 8))))}

-- @step distributed instant
CREATE TABLE IF NOT EXISTS {table:otel_logs} {on_cluster} AS {local:otel_logs}
ENGINE = {distributed:otel_logs:
    if(TraceId = '',
        toUInt32(arraySum((key, value) -> CRC32(concat(key, '=', value)),
            mapKeys(ResourceAttributes), mapValues(ResourceAttributes))),
        reinterpretAsUInt32(reverse(unhex(right(TraceId, 8)))))}

-- @step distributed instant
CREATE TABLE IF NOT EXISTS {table:otel_metrics_gauge} {on_cluster} AS {local:otel_metrics_gauge}
ENGINE = {distributed:otel_metrics_gauge:
    toUInt32(CRC32(MetricName) + toUInt32(arraySum((key, value) -> CRC32(concat(key, '=', value)),
        mapKeys(ResourceAttributes), mapValues(ResourceAttributes))))}

-- @step distributed instant
CREATE TABLE IF NOT EXISTS {table:otel_metrics_sum} {on_cluster} AS {local:otel_metrics_sum}
ENGINE = {distributed:otel_metrics_sum:
    toUInt32(CRC32(MetricName) + toUInt32(arraySum((key, value) -> CRC32(concat(key, '=', value)),
        mapKeys(ResourceAttributes), mapValues(ResourceAttributes))))}

-- @step distributed instant
CREATE TABLE IF NOT EXISTS {table:otel_metrics_histogram} {on_cluster} AS {local:otel_metrics_histogram}
ENGINE = {distributed:otel_metrics_histogram:
    toUInt32(CRC32(MetricName) + toUInt32(arraySum((key, value) -> CRC32(concat(key, '=', value)),
        mapKeys(ResourceAttributes), mapValues(ResourceAttributes))))}

-- @step distributed instant
CREATE TABLE IF NOT EXISTS {table:otel_metrics_exponential_histogram} {on_cluster} AS {local:otel_metrics_exponential_histogram}
ENGINE = {distributed:otel_metrics_exponential_histogram:
    toUInt32(CRC32(MetricName) + toUInt32(arraySum((key, value) -> CRC32(concat(key, '=', value)),
        mapKeys(ResourceAttributes), mapValues(ResourceAttributes))))}

-- @step distributed instant
CREATE TABLE IF NOT EXISTS {table:otel_metrics_summary} {on_cluster} AS {local:otel_metrics_summary}
ENGINE = {distributed:otel_metrics_summary:
    toUInt32(CRC32(MetricName) + toUInt32(arraySum((key, value) -> CRC32(concat(key, '=', value)),
        mapKeys(ResourceAttributes), mapValues(ResourceAttributes))))}
