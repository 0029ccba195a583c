/**
 * Which shard a row belongs to, as SQL: the sharding keys of the Distributed tables. The transcoder computes
 * the same numbers from the request (shard-key.ts), and both take the key's remainder by the sum of the
 * shards' weights: so a row is where a reader of the Distributed table looks for it.
 *
 * All keys are of 32 bits and without sign, and made of what is stored, not of what was sent. So the tenant
 * that a gateway writes into a resource counts like its other attributes: logs and points of a tenant are
 * placed with its name, and nothing changes for requests without one.
 */
import type { Table } from '../model/signal.ts';

/**
 * The last 8 hex digits of the trace id as a number: a trace stays whole, and its id alone tells the shard
 * (`optimize_skip_unused_shards`). Trace ids are random there, in W3C's format and in those that are older.
 */
export const TRACE_KEY = 'reinterpretAsUInt32(reverse(unhex(right(TraceId, 8))))';

/**
 * The sum of the attributes' checksums: their order makes no difference, and a reader needs no function that
 * ClickHouse could change. 0 for a resource without attributes.
 */
export const RESOURCE_KEY = "toUInt32(arraySum((key, value) -> CRC32(concat(key, '=', value)), "
  + 'mapKeys(ResourceAttributes), mapValues(ResourceAttributes)))';

/** A log record stays with its trace; one without stays with those of its resource. */
const LOG_KEY = `if(TraceId = '', ${RESOURCE_KEY}, ${TRACE_KEY})`;

/** The series of a metric of one resource stay together. */
const POINT_KEY = `toUInt32(CRC32(MetricName) + ${RESOURCE_KEY})`;

/** By table. A table that is filled by a view has the key of the one it is filled from. */
export const SHARDING_KEYS: Readonly<Record<Table, string>> = {
  otel_traces: TRACE_KEY,
  otel_logs: LOG_KEY,
  otel_metrics_gauge: POINT_KEY,
  otel_metrics_sum: POINT_KEY,
  otel_metrics_histogram: POINT_KEY,
  otel_metrics_exponential_histogram: POINT_KEY,
  otel_metrics_summary: POINT_KEY,
};
