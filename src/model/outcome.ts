/** What became of the records of one request, and what its client is told. Values, never exceptions. */

/**
 * Why a single record was refused although its request could be read. Closed: each is a label of a metric.
 */
export const REJECT_REASONS = [
  'trace_id_invalid',
  'span_id_invalid',
  'parent_span_id_invalid',
  'link_id_invalid',
  'time_out_of_range',
  'histogram_buckets_mismatch',
  'histogram_bounds_unsorted',
  'nesting_too_deep',
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
  'queue_full',
  'redis_unavailable',
  'redis_full',
  'replicas_missing',
  'routing_changed',
  'draining',
] as const;
export type LaterReason = (typeof LATER_REASONS)[number];

/** Why a request will never be taken as it is. Closed: each is a label. */
export const NEVER_REASONS = [
  'malformed',
  'too_large',
  'unsupported_encoding',
  'unsupported_content_type',
  'undecodable_body',
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
      readonly reason: LaterReason;
      readonly message: string;
      readonly retryAfterMs: number;
    }
  | { readonly kind: 'never'; readonly reason: NeverReason; readonly message: string };

export function never(reason: NeverReason, message: string): Verdict {
  return { kind: 'never', reason, message };
}

export function later(reason: LaterReason, message: string, retryAfterMs: number): Verdict {
  return { kind: 'later', reason, message, retryAfterMs };
}
