/**
 * Numbers that the shared text of the transcoder (entry.ts says what that is) and its host agree on.
 */

// Why a request can't be decoded: the text of each stands in host.ts.
export const CUT_SHORT: u32 = 1;
export const VARINT_TOO_LONG: u32 = 2;
export const LENGTH_TOO_LARGE: u32 = 3;
export const FIELD_NUMBER_INVALID: u32 = 4;
export const WIRE_TYPE_UNKNOWN: u32 = 5;
export const GROUP_UNMATCHED: u32 = 6;
export const GROUPS_TOO_DEEP: u32 = 7;
export const PACKED_UNEVEN: u32 = 8;
export const TOO_MANY_PIECES: u32 = 9;
export const ROWS_TOO_LARGE: u32 = 10;
export const MEMORY_EXHAUSTED: u32 = 11;
/** Not undecodable: a record exceeds a bound, and reading on would take too much memory. */
export const BOUND_EXCEEDED: u32 = 12;

// Why a record is refused: 1 + its place in FORMAT_REASONS of model/outcome.ts.
export const TRACE_ID_INVALID: u32 = 1;
export const SPAN_ID_INVALID: u32 = 2;
export const PARENT_SPAN_ID_INVALID: u32 = 3;
export const LINK_ID_INVALID: u32 = 4;
export const TIME_OUT_OF_RANGE: u32 = 5;
export const HISTOGRAM_BUCKETS_MISMATCH: u32 = 6;
export const HISTOGRAM_BOUNDS_UNSORTED: u32 = 7;
export const NESTING_TOO_DEEP: u32 = 8;

// The counters of one request, u32 each: accepted, then each reason, then each of WARNINGS in
// model/outcome.ts.
export const COUNT_ACCEPTED: u32 = 0;
export const COUNT_LOG_TRACE_ID_DROPPED: u32 = 9;
export const COUNT_LOG_SPAN_ID_DROPPED: u32 = 10;
export const COUNT_METRIC_WITHOUT_DATA: u32 = 11;
export const COUNTERS: u32 = 12;

/** So many shards at most: rows of each are kept in blocks of their own. */
export const SHARDS_MAX: u32 = 128;

// What `close` tells (entry.ts), in numbers of 4 bytes.
export const CLOSED_HEAD: u32 = 2;
export const CLOSED_BLOCK: u32 = 5;

export const SIGNAL_TRACES: u32 = 0;
export const SIGNAL_METRICS: u32 = 1;
export const SIGNAL_LOGS: u32 = 2;

// Words that the host writes into memory before anything else, since the shared text has no strings: see
// TEXTS in
// engine.ts. A slot is TEXT_SLOT bytes: the length in one byte, then the text.
export const TEXT_SLOT: u32 = 72;
export const TEXT_TRUE: u32 = 0;
export const TEXT_FALSE: u32 = 1;
export const TEXT_NULL: u32 = 2;
export const TEXT_SERVICE_NAME: u32 = 3;
export const TEXT_BASE64: u32 = 4;
export const TEXT_HEX: u32 = 5;
export const TEXT_SPAN_KIND: u32 = 6; // six of them
export const TEXT_STATUS_CODE: u32 = 12; // three of them
export const TEXT_TENANT: u32 = 15;
export const TEXTS_COUNT: u32 = 16;
