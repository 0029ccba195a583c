/**
 * The messages below a record, a resource or a scope as the screen sees them: what stands under which tag,
 * and what it is to limits and rules. Numbers as in proto/fields.ts; fields that aren't named are passed
 * over.
 */

export const SPAN = 1;
export const EVENT = 2;
export const LINK = 3;
export const STATUS = 4;
export const LOG = 5;
export const NUMBER_POINT = 6;
export const HISTOGRAM_POINT = 7;
export const EXPONENTIAL_POINT = 8;
export const SUMMARY_POINT = 9;
export const EXEMPLAR = 10;
export const RESOURCE = 11;
export const SCOPE = 12;
const SHAPES = 13;

// What a field is. Those up to SUBMESSAGE_MAX are messages with a shape, by its number.
export const SUBMESSAGE_MAX = SHAPES;
export const ATTRIBUTE = 20;
export const BODY = 21;
/** A name or message for people: redaction by pattern looks into it. */
export const NAME = 22;
export const TRACE_ID = 23;
export const TIME = 24;
export const OTHER_TIME = 25;
export const KIND = 26;
export const STATUS_CODE = 27;
export const SEVERITY = 28;
export const SEVERITY_TEXT = 29;
export const DROPPED = 30;
export const DROPPED_EVENTS = 31;
export const DROPPED_LINKS = 32;
/** A name that isn't redacted. */
export const TITLE = 33;

/** By shape and tag: what the field is, 0 for nothing. All tags that matter are below 128. */
export const ROLES = new Uint8Array(SHAPES << 7);

/** Roles that only matter to conditions and sampling. */
const ASKED: readonly number[] = [NAME, TITLE, KIND, SEVERITY, SEVERITY_TEXT, TRACE_ID];
/** Counts of what was left out: scans have no use for them. */
const UNASKED: readonly number[] = [DROPPED, DROPPED_EVENTS, DROPPED_LINKS];

/** ROLES for a scan: what nobody asks for is nothing. */
export function rolesFor(asked: ReadonlySet<number>): Uint8Array {
  return ROLES.map((role) => {
    const isIdle = UNASKED.includes(role) || (ASKED.includes(role) && !asked.has(role));
    return isIdle ? 0 : role;
  });
}

function shape(of: number, fields: Readonly<Record<number, number>>): void {
  for (const [tag, role] of Object.entries(fields)) ROLES[(of << 7) + Number(tag)] = role;
}

shape(SPAN, {
  10: TRACE_ID,
  42: NAME,
  48: KIND,
  57: TIME,
  65: OTHER_TIME,
  74: ATTRIBUTE,
  80: DROPPED,
  90: EVENT,
  96: DROPPED_EVENTS,
  106: LINK,
  112: DROPPED_LINKS,
  122: STATUS,
});
shape(EVENT, { 18: NAME, 26: ATTRIBUTE, 32: DROPPED });
shape(LINK, { 34: ATTRIBUTE, 40: DROPPED });
shape(STATUS, { 18: NAME, 24: STATUS_CODE });
shape(LOG, {
  9: TIME,
  16: SEVERITY,
  26: SEVERITY_TEXT,
  42: BODY,
  50: ATTRIBUTE,
  56: DROPPED,
  74: TRACE_ID,
  89: OTHER_TIME,
  98: NAME,
});
shape(NUMBER_POINT, { 17: OTHER_TIME, 25: TIME, 42: EXEMPLAR, 58: ATTRIBUTE });
shape(HISTOGRAM_POINT, { 17: OTHER_TIME, 25: TIME, 66: EXEMPLAR, 74: ATTRIBUTE });
shape(EXPONENTIAL_POINT, { 10: ATTRIBUTE, 17: OTHER_TIME, 25: TIME, 90: EXEMPLAR });
shape(SUMMARY_POINT, { 17: OTHER_TIME, 25: TIME, 58: ATTRIBUTE });
shape(EXEMPLAR, { 58: ATTRIBUTE });
shape(RESOURCE, { 10: ATTRIBUTE, 16: DROPPED });
shape(SCOPE, { 10: TITLE, 26: ATTRIBUTE, 32: DROPPED });

/** By shape: the tag of the count of attributes that were left out, 0 where the message has none. */
export const DROPPED_TAGS: readonly number[] = tagsOf(DROPPED);
export const TIME_TAGS: readonly number[] = tagsOf(TIME);
export const OTHER_TIME_TAGS: readonly number[] = tagsOf(OTHER_TIME);
export const ATTRIBUTE_TAGS: readonly number[] = tagsOf(ATTRIBUTE);
export const DROPPED_EVENTS_TAG = 96;
export const DROPPED_LINKS_TAG = 112;

function tagsOf(role: number): readonly number[] {
  return Array.from({ length: SHAPES }, (_, of) => {
    const tag = ROLES.subarray(of << 7, (of + 1) << 7).indexOf(role);
    return Math.max(0, tag);
  });
}

// Tags of AnyValue, and of what is in lists and arrays.
export const STRING = 10;
export const BOOL = 16;
export const INT = 24;
export const DOUBLE = 33;
export const ARRAY = 42;
export const LIST = 50;
export const BYTES = 58;
export const ITEM = 10;
export const KEY = 10;
export const VALUE = 18;

/** The members of Metric.data, the shape of their points, and what rules call them. */
export const METRIC_KINDS: ReadonlyMap<number, { readonly name: string; readonly point: number }> = new Map([
  [42, { name: 'gauge', point: NUMBER_POINT }],
  [58, { name: 'sum', point: NUMBER_POINT }],
  [74, { name: 'histogram', point: HISTOGRAM_POINT }],
  [82, { name: 'exponential_histogram', point: EXPONENTIAL_POINT }],
  [90, { name: 'summary', point: SUMMARY_POINT }],
]);
