/**
 * Random requests of every shape that proto/fields.ts allows, as fast-check arbitraries: every kind of value,
 * every field there or not, mostly valid and sometimes not (ids of a wrong length, times out of range,
 * histograms that do not add up, strings that are no UTF-8).
 */
import fc from 'fast-check';
import { type Field, MESSAGES, type MessageName, REQUESTS, type Scalar } from '../../proto/fields.ts';
import type { Signal } from '../../src/model/signal.ts';
import type { Plain, PlainMessage } from './encode.ts';

const DEPTH_MAX = 4;
const LIST_MAX = 3;
const [INT64_MIN, INT64_MAX, UINT64_MAX] = [-(2n ** 63n), 2n ** 63n - 1n, 2n ** 64n - 1n];

function usually<T, U>(common: fc.Arbitrary<T>, rare: fc.Arbitrary<U>): fc.Arbitrary<T | U> {
  return fc.oneof({ arbitrary: common, weight: 30 }, { arbitrary: rare, weight: 1 });
}

function bytesOf(length: number): fc.Arbitrary<Uint8Array> {
  return fc.uint8Array({ minLength: length, maxLength: length });
}

const anyBytes = fc.uint8Array({ maxLength: 40 });
/** Few words, so that dictionaries meet them again; long ones, so that lengths take two bytes. */
const words = fc.constantFrom(
  '', 'a', 'service.name', 'http.method', 'GET', 'ünïcode ✓', 'x'.repeat(127), 'y'.repeat(300),
);
const strings: fc.Arbitrary<Plain> = fc.oneof(
  { arbitrary: words, weight: 6 },
  { arbitrary: fc.string({ unit: 'binary', maxLength: 20 }), weight: 3 },
  { arbitrary: fc.constantFrom('"\\\b\f\n\r\t\0\x1f\x7f/<&', '\u2028\u2029\u{1f600}'), weight: 1 },
  { arbitrary: anyBytes, weight: 1 },
);
const doubles = fc.oneof(
  fc.double(),
  fc.integer().map(Number),
  fc.constantFrom(0, -0, 0.1, 1e-6, 1e-7, 1e21, 1e20, 5e-324, Number.MAX_VALUE, NaN, Infinity, -Infinity),
);
const signed64 = fc.oneof(
  fc.integer().map(BigInt),
  fc.bigInt({ min: INT64_MIN, max: INT64_MAX }),
  fc.constantFrom(0n, -1n, 2n ** 53n + 1n, INT64_MIN, INT64_MAX),
);
const times = usually(fc.bigInt({ min: 0n, max: INT64_MAX }), fc.constantFrom(2n ** 63n, UINT64_MAX));
const int32 = fc.oneof(fc.integer({ min: -2, max: 30 }), fc.integer());

const SCALARS: Readonly<Record<Scalar, fc.Arbitrary<Plain>>> = {
  bool: fc.boolean(),
  int32,
  enum: int32,
  sint32: int32,
  uint32: fc.oneof(fc.nat(300), fc.integer({ min: 0, max: 2 ** 32 - 1 })),
  fixed32: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  int64: signed64,
  sfixed64: signed64,
  uint64: fc.oneof(fc.nat(300).map(BigInt), fc.bigInt({ min: 0n, max: UINT64_MAX })),
  fixed64: fc.oneof(fc.nat(300).map(BigInt), fc.bigInt({ min: 0n, max: UINT64_MAX })),
  double: doubles,
  string: strings,
  bytes: anyBytes,
};

const NAMED: Readonly<Record<string, fc.Arbitrary<Plain>>> = {
  traceId: usually(bytesOf(16), fc.oneof(anyBytes, fc.constant(new Uint8Array(16)))),
  spanId: usually(bytesOf(8), fc.oneof(anyBytes, fc.constant(new Uint8Array(8)))),
  parentSpanId: usually(fc.oneof(bytesOf(8), bytesOf(0), fc.constant(new Uint8Array(8))), anyBytes),
  timeUnixNano: times,
  startTimeUnixNano: times,
  endTimeUnixNano: times,
  observedTimeUnixNano: times,
};
/** Without them a span is refused: left out only rarely. */
const NEARLY_ALWAYS = new Set(['traceId', 'spanId', 'resource', 'scope', 'attributes', 'dataPoints']);
const ALWAYS = new Set(['resourceSpans', 'scopeSpans', 'spans', 'resourceLogs', 'scopeLogs', 'logRecords',
  'resourceMetrics', 'scopeMetrics', 'metrics']);

function isMessageName(type: Field['type']): type is MessageName {
  return Object.hasOwn(MESSAGES, type);
}

function fieldArbitrary(name: string, field: Field, depth: number): fc.Arbitrary<Plain> {
  const { type } = field;
  const one = isMessageName(type) ? messageArbitrary(type, depth) : (NAMED[name] ?? SCALARS[type]);
  if (!field.repeated) return one;
  return fc.array(one, { minLength: ALWAYS.has(name) ? 1 : 0, maxLength: LIST_MAX });
}

/** At most one member, since the order of an object's keys would decide between two. */
type Members = readonly (readonly [string, Field])[];
function oneofArbitrary(members: Members, depth: number): fc.Arbitrary<PlainMessage> {
  const choices = members
    .filter(([name]) => depth < DEPTH_MAX || (name !== 'arrayValue' && name !== 'kvlistValue'))
    .map(([name, field]) => {
      return fieldArbitrary(name, field, depth + 1).map((value): PlainMessage => ({ [name]: value }));
    });
  return usually(fc.oneof(...choices), fc.constant({}));
}

/** Sorted bounds and one count more than bounds, as they must be. */
function fitting(point: PlainMessage): PlainMessage {
  const numbers = Array.isArray(point.explicitBounds) ? point.explicitBounds.map(Number) : [];
  const rising = numbers.filter((bound) => !Number.isNaN(bound)).sort((a, b) => a - b);
  const bounds = rising.filter((bound, index) => index === 0 || bound > (rising[index - 1] ?? NaN));
  return { ...point, explicitBounds: bounds, bucketCounts: [7n, ...bounds.map((_, index) => BigInt(index))] };
}

const built = new Map<string, fc.Arbitrary<PlainMessage>>();

function messageArbitrary(type: MessageName, depth: number): fc.Arbitrary<PlainMessage> {
  const key = `${type} ${depth}`;
  const known = built.get(key);
  if (known !== undefined) return known;
  const fields = Object.entries(MESSAGES[type]);
  const plain = fields.filter(([, { oneof }]) => oneof === undefined);
  const optional = plain.map(([name, field]) => {
    const present = fieldArbitrary(name, field, depth);
    if (ALWAYS.has(name)) return [name, present] as const;
    const freq = NEARLY_ALWAYS.has(name) ? 30 : 2;
    return [name, fc.option(present, { nil: undefined, freq })] as const;
  });
  let arbitrary: fc.Arbitrary<PlainMessage> = fc.record(Object.fromEntries(optional));
  const members = fields.filter(([, { oneof }]) => oneof !== undefined);
  if (members.length > 0) {
    const chosen = oneofArbitrary(members, depth);
    arbitrary = fc.tuple(arbitrary, chosen).map(([rest, member]) => ({ ...rest, ...member }));
  }
  if (type === 'HistogramDataPoint') {
    const fits = fc.integer({ min: 0, max: 9 });
    arbitrary = fc.tuple(arbitrary, fits).map(([point, fit]) => (fit > 0 ? fitting(point) : point));
  }
  built.set(key, arbitrary);
  return arbitrary;
}

/** Objects for encode.ts: a whole Export<Signal>ServiceRequest. */
export function requestArbitrary(signal: Signal): fc.Arbitrary<PlainMessage> {
  return messageArbitrary(REQUESTS[signal], 0);
}
