/** What became of the records of one request, and what its client is told. Values, never exceptions. */

/** Why OTLP's own rules refuse a single record although its request could be read. */
export const FORMAT_REASONS = [
  'trace_id_invalid',
  'span_id_invalid',
  'parent_span_id_invalid',
  'link_id_invalid',
  'time_out_of_range',
  'histogram_buckets_mismatch',
  'histogram_bounds_unsorted',
  'nesting_too_deep',
] as const;

/** What an operator may bound of a record (settings.ts, `limits`), and why it is refused beyond. */
export const LIMITS = [
  'attributes',
  'value_bytes',
  'events',
  'links',
  'nesting',
  'time_past',
  'time_future',
  'series',
] as const;
export type Limit = (typeof LIMITS)[number];
export const LIMIT_REASONS = {
  attributes: 'too_many_attributes',
  value_bytes: 'value_too_long',
  events: 'too_many_events',
  links: 'too_many_links',
  nesting: 'nesting_too_deep',
  time_past: 'too_old',
  time_future: 'too_far_ahead',
  series: 'too_many_series',
} as const satisfies Readonly<Record<Limit, string>>;

/** Why a single record was refused. Closed: each is a label of a metric. */
export const REJECT_REASONS = [
  ...FORMAT_REASONS,
  'too_many_attributes',
  'value_too_long',
  'too_many_events',
  'too_many_links',
  'too_old',
  'too_far_ahead',
  'too_many_series',
] as const;
export type RejectReason = (typeof REJECT_REASONS)[number];

/**
 * Things that were stored, but not quite as they were sent; the client is told with 0 rejected and a message.
 */
export const WARNINGS = ['log_trace_id_dropped', 'log_span_id_dropped', 'metric_without_data'] as const;
export type Warning = (typeof WARNINGS)[number];

/**
 * The count of a request's records: every record that was read is either accepted or rejected for one reason.
 */
export interface Outcome {
  readonly accepted: number;
  readonly rejected: number;
  /** Only reasons that occurred. */
  readonly reasons: ReadonlyMap<RejectReason, number>;
  readonly warnings: ReadonlyMap<Warning, number>;
}

/** The outcome of a request that was taken in pieces. */
export function sumOutcomes(outcomes: readonly Outcome[]): Outcome {
  const reasons = new Map<RejectReason, number>();
  const warnings = new Map<Warning, number>();
  let accepted = 0;
  let rejected = 0;
  for (const outcome of outcomes) {
    accepted += outcome.accepted;
    rejected += outcome.rejected;
    for (const [reason, count] of outcome.reasons) reasons.set(reason, (reasons.get(reason) ?? 0) + count);
    for (const [warning, count] of outcome.warnings)
      warnings.set(warning, (warnings.get(warning) ?? 0) + count);
  }
  return { accepted, rejected, reasons, warnings };
}

export const NOTHING: Outcome = { accepted: 0, rejected: 0, reasons: new Map(), warnings: new Map() };

/** Why a request can't be taken now, though the same bytes may be taken later. Closed: each is a label. */
export const LATER_REASONS = [
  'requests_in_flight',
  'bytes_in_flight',
  'connections',
  'slowing',
  'queue_full',
  'queue_old',
  'redis_memory',
  'commit_slow',
  'event_loop',
  'memory',
  'clickhouse_parts',
  'clickhouse_disk',
  'replication_delay',
  'redis_unavailable',
  'redis_full',
  'replicas_missing',
  'routing_changed',
  'draining',
] as const;
export type LaterReason = (typeof LATER_REASONS)[number];

/**
 * Why a client has to wait although others needn't: it had its share. Closed: each is a label. Told apart
 * from the others in the answer (429, RESOURCE_EXHAUSTED).
 */
export const SHARE_REASONS = ['tenant_rate', 'tenant_share', 'tenant_quota'] as const;
export type ShareReason = (typeof SHARE_REASONS)[number];

/** Why a request will never be taken as it is. Closed: each is a label. */
export const NEVER_REASONS = [
  'malformed',
  'too_large',
  'unsupported_encoding',
  'unsupported_content_type',
  'undecodable_body',
  'too_many_items',
  'unauthenticated',
  'forbidden',
] as const;
export type NeverReason = (typeof NEVER_REASONS)[number];

/**
 * The answer to a request. `admit`: everything accepted is safe in Redis. `later`: nothing of it was stored,
 * send it again after the delay. `never`: nothing of it was stored, and sending it again will not help.
 */
export type Verdict =
  | { readonly kind: 'admit'; readonly outcome: Outcome }
  | {
      readonly kind: 'later';
      readonly reason: LaterReason | ShareReason;
      readonly message: string;
      readonly retryAfterMs: number;
    }
  | { readonly kind: 'never'; readonly reason: NeverReason; readonly message: string };

export function never(reason: NeverReason, message: string): Verdict {
  return { kind: 'never', reason, message };
}

export function later(reason: LaterReason | ShareReason, message: string, retryAfterMs: number): Verdict {
  return { kind: 'later', reason, message, retryAfterMs };
}
