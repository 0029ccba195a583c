/**
 * Goal: every kind of AnyValue becomes the text that SCHEMA promises, at the edges of its range, as an
 * attribute, as a log's body and inside an array; values may be nested exactly as deep as the limit says,
 * wherever they stand; and each rule for records is held at its edges: the last that is stored, and the first
 * that is refused or mended.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import { Malformed } from '../../src/model/block.ts';
import type { Signal } from '../../src/model/signal.ts';
import { encode, type Plain, type PlainMessage } from '../oracle/encode.ts';
import type { Row } from '../oracle/rows.ts';
import { requestOf, SAMPLES } from '../oracle/samples.ts';
import {
  ENGINES, type Engines, enginesProblem, NESTING_MAX, openAllSignals, rowsOf, transcode, type Trial,
} from '../support/otlp.ts';

let engines: Readonly<Record<Signal, Engines>>;
beforeAll(async () => {
  engines = await openAllSignals();
});

const bytes = (...values: number[]) => Uint8Array.from(values);
const list = (...values: PlainMessage[]): PlainMessage => ({ arrayValue: { values } });
const map = (...entries: (readonly [string, PlainMessage | Uint8Array])[]): PlainMessage =>
  ({ kvlistValue: { values: entries.map(([key, value]) => ({ key, value })) } });
const string = (stringValue: string | Uint8Array): PlainMessage => ({ stringValue });
const int = (intValue: bigint): PlainMessage => ({ intValue });
const double = (doubleValue: number): PlainMessage => ({ doubleValue });

/** The value, its text, and its text inside an array (the same where it is left out). */
const VALUES: readonly (readonly [PlainMessage, string, string?])[] = [
  [{}, '', 'null'],
  [string(''), '', '""'],
  [string('text'), 'text', '"text"'],
  [string('ä✓😀'), 'ä✓😀', '"ä✓😀"'],
  [string('"\\/'), '"\\/', '"\\"\\\\/"'],
  [string('\b\f\n\r\t'), '\b\f\n\r\t', '"\\b\\f\\n\\r\\t"'],
  [string('\0\x01\x1f\x7f'), '\0\x01\x1f\x7f', '"\\u0000\\u0001\\u001f\x7f"'],
  [string('\u2027\u2028\u2029\u202a'), '\u2027\u2028\u2029\u202a', '"\u2027\\u2028\\u2029\u202a"'],
  [string('<a & b>'), '<a & b>', '"<a & b>"'],
  [string('x'.repeat(127)), 'x'.repeat(127), `"${'x'.repeat(127)}"`],
  [string('x'.repeat(128)), 'x'.repeat(128), `"${'x'.repeat(128)}"`],
  [string('x'.repeat(20_000)), 'x'.repeat(20_000), `"${'x'.repeat(20_000)}"`],
  [{ boolValue: true }, 'true'],
  [{ boolValue: false }, 'false'],
  [int(0n), '0'],
  [int(7n), '7'],
  [int(-1n), '-1'],
  [int(999n), '999'],
  [int(1000n), '1000'],
  [int(2n ** 31n - 1n), '2147483647'],
  [int(2n ** 31n), '2147483648'],
  [int(2n ** 32n - 1n), '4294967295'],
  [int(2n ** 32n), '4294967296'],
  [int(-(2n ** 32n)), '-4294967296'],
  [int(2n ** 53n), '9007199254740992'],
  [int(2n ** 53n + 1n), '9007199254740993'],
  [int(-(2n ** 53n) - 1n), '-9007199254740993'],
  [int(10n ** 18n), '1000000000000000000'],
  [int(2n ** 63n - 1n), '9223372036854775807'],
  [int(-(2n ** 63n)), '-9223372036854775808'],
  [double(0), '0'],
  [double(-0), '-0'],
  [double(1), '1'],
  [double(-1.5), '-1.5'],
  [double(0.1), '0.1'],
  [double(0.1 + 0.2), '0.30000000000000004'],
  [double(1 / 3), '0.3333333333333333'],
  [double(1e-6), '0.000001'],
  [double(1e-7), '1e-7'],
  [double(-1.25e-7), '-1.25e-7'],
  [double(123456789012345680), '123456789012345680'],
  [double(999999999999999900000), '999999999999999900000'],
  [double(1e20), '100000000000000000000'],
  [double(1e21), '1e+21'],
  [double(1.5e300), '1.5e+300'],
  [double(2 ** 53), '9007199254740992'],
  [double(5e-324), '5e-324'],
  [double(2.2250738585072014e-308), '2.2250738585072014e-308'],
  [double(Number.MAX_VALUE), '1.7976931348623157e+308'],
  [double(NaN), 'NaN', '"NaN"'],
  [double(Infinity), 'Infinity', '"Infinity"'],
  [double(-Infinity), '-Infinity', '"-Infinity"'],
  [{ bytesValue: bytes() }, '', '""'],
  [{ bytesValue: bytes(0) }, 'AA==', '"AA=="'],
  [{ bytesValue: bytes(0, 255) }, 'AP8=', '"AP8="'],
  [{ bytesValue: bytes(0xfb, 0xff, 0xfe) }, '+//+', '"+//+"'],
  [{ bytesValue: Buffer.from('any carnal') }, 'YW55IGNhcm5hbA==', '"YW55IGNhcm5hbA=="'],
  [{ bytesValue: Buffer.from('any carnal p') }, 'YW55IGNhcm5hbCBw', '"YW55IGNhcm5hbCBw"'],
  [list(), '[]'],
  [list({}, string('a'), int(-1n), double(1.5), { boolValue: true }), '[null,"a",-1,1.5,true]'],
  [list(list(), list(list())), '[[],[[]]]'],
  [map(), '{}'],
  [map(['b', int(1n)], ['a', int(2n)]), '{"a":2,"b":1}'],
  [map(['same', int(1n)], ['same', int(2n)]), '{"same":2}'],
  [map(['', {}], ['"', list()], ['ä', map(['x', string('y')])]), '{"":null,"\\"":[],"ä":{"x":"y"}}'],
  [map(['__proto__', int(1n)], ['constructor', int(2n)]), '{"__proto__":1,"constructor":2}'],
  [map(['a', int(1n)], ['B', int(2n)], ['aa', int(3n)]), '{"B":2,"a":1,"aa":3}'],
];

function storedBy(trial: Trial): Row {
  const [row] = rowsOf(trial.blocks).get('otel_logs') ?? [];
  if (row === undefined) throw new Error(`nothing stored: ${trial.outcomes[0]}`);
  return row;
}

describe.each(ENGINES)('%s', (engine) => {
  const values = VALUES.map(([value, text, nested = text]) => ({ value, text, nested }));
  test.each(values)('$text', ({ value, text, nested }) => {
    const attributes = [{ key: 'plain', value }, { key: 'nested', value: list(value, value) }];
    const logRecords = [{ body: value, attributes }];
    const request = encode(REQUESTS.logs, requestOf('logs', logRecords));
    const row = storedBy(transcode(engines.logs[engine], [request]));
    const utf8 = (shown: string) => Buffer.from(shown).toString('latin1');
    expect(row.Body).toBe(utf8(text));
    expect(row.LogAttributes).toEqual([['plain', utf8(text)], ['nested', utf8(`[${nested},${nested}]`)]]);
  });

  test('bytes that are no UTF-8 are stored as they were sent, never mended', () => {
    const latin1 = bytes(0x67, 0x72, 0xfc, 0xdf, 0x65, 0x80, 0xc0, 0xff, 0xed, 0xa0, 0x80);
    const value = string(latin1);
    const attributes = [{ key: latin1, value }, { key: 'nested', value: list(value) }];
    const logRecords = [{ body: string(latin1), severityText: latin1, attributes }];
    const request = encode(REQUESTS.logs, requestOf('logs', logRecords));
    const row = storedBy(transcode(engines.logs[engine], [request]));
    const sent = Buffer.from(latin1).toString('latin1');
    expect([row.Body, row.SeverityText]).toEqual([sent, sent]);
    expect(row.LogAttributes).toEqual([[sent, sent], ['nested', `["${sent}"]`]]);
  });
});

/**
 * A value of that many lists and maps in each other: each is encoded at once, so no recursion is too deep.
 */
function nested(levels: number): Uint8Array {
  let value = encode('AnyValue', string('deepest'));
  for (let level = 0; level < levels; level++) {
    value = encode('AnyValue', level % 2 === 0 ? { arrayValue: { values: [value] } } : map(['k', value]));
  }
  return value;
}

const ids = { traceId: bytes(...new Array(16).fill(1)), spanId: bytes(...new Array(8).fill(2)) };
const attributesOf = (value: Plain) => [{ key: 'k', value }];
const span = (fields: PlainMessage, around: PlainMessage = {}): PlainMessage =>
  requestOf('traces', [{ ...ids, ...fields }, ids], around);
const log = (fields: PlainMessage, resource: PlainMessage = {}, scope: PlainMessage = {}): PlainMessage =>
  requestOf('logs', [fields, {}], { resource }, { scope });
const gauge = (fields: PlainMessage, resource: PlainMessage = {}, scope: PlainMessage = {}): PlainMessage =>
  requestOf('metrics', [{ gauge: { dataPoints: [fields, {}] } }], { resource }, { scope });

const oneExemplar = (fields: PlainMessage): PlainMessage => gauge({ exemplars: [fields] });

/**
 * Where a value may stand: what it is in, and how many of the two records there it takes down when it is too
 * deep.
 */
const PLACES: readonly (readonly [string, Signal, (value: Plain) => PlainMessage, number])[] = [
  ['a span', 'traces', (value) => span({ attributes: attributesOf(value) }), 1],
  ['an event', 'traces', (value) => span({ events: [{}, { attributes: attributesOf(value) }] }), 1],
  ['a link', 'traces', (value) => span({ links: [{ ...ids, attributes: attributesOf(value) }] }), 1],
  ["a span's resource", 'traces', (value) => span({}, { resource: { attributes: attributesOf(value) } }), 2],
  ['a log record', 'logs', (value) => log({ attributes: attributesOf(value) }), 1],
  ['a body', 'logs', (value) => log({ body: value }), 1],
  ["a log's resource", 'logs', (value) => log({}, { attributes: attributesOf(value) }), 2],
  ["a log's scope", 'logs', (value) => log({}, {}, { attributes: attributesOf(value) }), 2],
  ['a point', 'metrics', (value) => gauge({ attributes: attributesOf(value) }), 1],
  ['an exemplar', 'metrics', (value) => oneExemplar({ filteredAttributes: attributesOf(value) }), 1],
  ["a metric's resource", 'metrics', (value) => gauge({}, { attributes: attributesOf(value) }), 2],
  ["a metric's scope", 'metrics', (value) => gauge({}, {}, { attributes: attributesOf(value) }), 2],
];

describe('nesting', () => {
  test.each(PLACES)('in %s: the limit, one more, and 1,000 levels', (_, signal, build, lost) => {
    const of = (levels: number) => encode(REQUESTS[signal], build(nested(levels)));
    for (const levels of [NESTING_MAX, NESTING_MAX + 1]) {
      expect(enginesProblem(signal, engines[signal], [of(levels), of(levels)])).toBeUndefined();
    }
    for (const [levels, rejected] of [[NESTING_MAX, 0], [NESTING_MAX + 1, lost], [1_000, lost]] as const) {
      for (const engine of ENGINES) {
        const { outcomes: [outcome] } = transcode(engines[signal][engine], [of(levels)]);
        const reasons = new Map(rejected > 0 ? [['nesting_too_deep', rejected]] : []);
        expect(outcome).toMatchObject({ accepted: 2 - rejected, rejected, reasons });
      }
    }
  });
});

const filled = (length: number) => Buffer.alloc(length, 0xab);
const zeros = (length: number) => Buffer.alloc(length);
const histogram = (explicitBounds: readonly number[], counts: number): PlainMessage => {
  const point = { explicitBounds, bucketCounts: new Array<bigint>(counts).fill(1n) };
  return requestOf('metrics', [{ histogram: { dataPoints: [point] } }]);
};
const oneSpan = (fields: PlainMessage): PlainMessage => requestOf('traces', [{ ...ids, ...fields }]);
/** After a good one. */
const oneLink = (fields: PlainMessage): PlainMessage => oneSpan({ links: [ids, fields] });
const oneLog = (fields: PlainMessage): PlainMessage => requestOf('logs', [fields]);
const onePoint = (fields: PlainMessage): PlainMessage =>
  requestOf('metrics', [{ sum: { dataPoints: [fields] } }]);
const [LAST, OVER] = [2n ** 63n - 1n, 2n ** 63n];
const lateExemplar = onePoint({ exemplars: [{}, { timeUnixNano: OVER }] });

/** One record each: why it is refused, what is warned of, or nothing. */
const RECORDS: readonly (readonly [string, Signal, PlainMessage, string?])[] = [
  ['a trace id of 15 bytes', 'traces', oneSpan({ traceId: filled(15) }), 'trace_id_invalid'],
  ['a trace id of 17 bytes', 'traces', oneSpan({ traceId: filled(17) }), 'trace_id_invalid'],
  ['no trace id', 'traces', oneSpan({ traceId: undefined }), 'trace_id_invalid'],
  ['a trace id of zeros', 'traces', oneSpan({ traceId: zeros(16) }), 'trace_id_invalid'],
  ['a trace id of zeros but for one bit', 'traces', oneSpan({ traceId: zeros(16).fill(1, 15) })],
  ['a span id of 7 bytes', 'traces', oneSpan({ spanId: filled(7) }), 'span_id_invalid'],
  ['a span id of 9 bytes', 'traces', oneSpan({ spanId: filled(9) }), 'span_id_invalid'],
  ['no span id', 'traces', oneSpan({ spanId: undefined }), 'span_id_invalid'],
  ['a span id of zeros', 'traces', oneSpan({ spanId: zeros(8) }), 'span_id_invalid'],
  ['a span id of zeros but for one bit', 'traces', oneSpan({ spanId: zeros(8).fill(128, 0, 1) })],
  ['a parent of 8 bytes', 'traces', oneSpan({ parentSpanId: filled(8) })],
  ['a parent of zeros', 'traces', oneSpan({ parentSpanId: zeros(8) })],
  ['a parent of 7 bytes', 'traces', oneSpan({ parentSpanId: filled(7) }), 'parent_span_id_invalid'],
  ['a parent of 16 bytes', 'traces', oneSpan({ parentSpanId: filled(16) }), 'parent_span_id_invalid'],
  ['a link without ids', 'traces', oneLink({})],
  ['a link with ids', 'traces', oneLink({ traceId: filled(16), spanId: filled(8) })],
  ['a link with a trace id of 8 bytes', 'traces', oneLink({ traceId: filled(8) }), 'link_id_invalid'],
  ['a link with a span id of 16 bytes', 'traces', oneLink({ spanId: filled(16) }), 'link_id_invalid'],
  ['the last start', 'traces', oneSpan({ startTimeUnixNano: LAST })],
  ['a start after it', 'traces', oneSpan({ startTimeUnixNano: OVER }), 'time_out_of_range'],
  ['an end after it, which is a duration only', 'traces', oneSpan({ endTimeUnixNano: 2n ** 64n - 1n })],
  ['an end before the start', 'traces', oneSpan({ startTimeUnixNano: 5n, endTimeUnixNano: 4n })],
  ['an event at the last time', 'traces', oneSpan({ events: [{ timeUnixNano: LAST }] })],
  ['an event after it', 'traces', oneSpan({ events: [{}, { timeUnixNano: OVER }] }), 'time_out_of_range'],
  ['a log at the last time', 'logs', oneLog({ timeUnixNano: LAST, observedTimeUnixNano: OVER })],
  ['a log after it', 'logs', oneLog({ timeUnixNano: OVER }), 'time_out_of_range'],
  ['a log observed after it', 'logs', oneLog({ observedTimeUnixNano: OVER }), 'time_out_of_range'],
  ['a log with a trace id of 15 bytes', 'logs', oneLog({ traceId: filled(15) }), 'log_trace_id_dropped'],
  ['a log with a trace id of zeros', 'logs', oneLog({ traceId: zeros(16) })],
  ['a log with a span id of 9 bytes', 'logs', oneLog({ spanId: filled(9) }), 'log_span_id_dropped'],
  ['severity 255', 'logs', oneLog({ severityNumber: 255 })],
  ['severity 256', 'logs', oneLog({ severityNumber: 256 })],
  ['severity -1', 'logs', oneLog({ severityNumber: -1 })],
  ['flags above their byte', 'logs', oneLog({ flags: 0x1ff })],
  ['a point at the last time', 'metrics', onePoint({ timeUnixNano: LAST, startTimeUnixNano: LAST })],
  ['a point after it', 'metrics', onePoint({ timeUnixNano: OVER }), 'time_out_of_range'],
  ['a point begun after it', 'metrics', onePoint({ startTimeUnixNano: OVER }), 'time_out_of_range'],
  ['an exemplar after it', 'metrics', lateExemplar, 'time_out_of_range'],
  ['no buckets and no bounds', 'metrics', histogram([], 0)],
  ['one bucket and no bounds', 'metrics', histogram([], 1)],
  ['two buckets and no bounds', 'metrics', histogram([], 2), 'histogram_buckets_mismatch'],
  ['no buckets and a bound', 'metrics', histogram([1], 0), 'histogram_buckets_mismatch'],
  ['a bucket as each bound', 'metrics', histogram([1, 2], 2), 'histogram_buckets_mismatch'],
  ['a bucket more than bounds', 'metrics', histogram([1, 2], 3)],
  ['two buckets more than bounds', 'metrics', histogram([1, 2], 4), 'histogram_buckets_mismatch'],
  ['bounds from -Infinity to Infinity', 'metrics', histogram([-Infinity, 0, Infinity], 4)],
  ['bounds that fall', 'metrics', histogram([2, 1], 3), 'histogram_bounds_unsorted'],
  ['bounds that stay', 'metrics', histogram([1, 1], 3), 'histogram_bounds_unsorted'],
  ['bounds of both zeros', 'metrics', histogram([-0, 0], 3), 'histogram_bounds_unsorted'],
  ['a bound that is NaN', 'metrics', histogram([NaN], 2), 'histogram_bounds_unsorted'],
  ['a last bound that is NaN', 'metrics', histogram([1, NaN], 3), 'histogram_bounds_unsorted'],
  ['a metric without data', 'metrics', requestOf('metrics', [{ name: 'x' }]), 'metric_without_data'],
  ['a gauge without points', 'metrics', requestOf('metrics', [{ gauge: {} }])],
];

describe('records that are valid protobuf and maybe not valid OTLP', () => {
  const rows = RECORDS.map(([record, signal, request, said]) => ({ record, signal, request, said }));
  test.each(rows)('$record', ({ signal, request, said }) => {
    const body = encode(REQUESTS[signal], request);
    // Between others of its kind: neither neighbour may notice.
    const requests = [encode(REQUESTS[signal], SAMPLES[signal]), body, body];
    expect(enginesProblem(signal, engines[signal], requests)).toBeUndefined();
    for (const engine of ENGINES) {
      const { outcomes: [outcome] } = transcode(engines[signal][engine], [body]);
      if (outcome === undefined || outcome instanceof Malformed) throw new Error(`${engine}: ${outcome}`);
      const words = [...outcome.reasons.keys(), ...outcome.warnings.keys()];
      expect(words).toEqual(said === undefined ? [] : [said]);
    }
  });
});
