/**
 * Goal: every kind of AnyValue becomes the text that SCHEMA promises, at the edges of its range, as an attribute, as a
 * log's body and inside an array; and values may be nested exactly as deep as the limit says, wherever they stand.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import { Malformed } from '../../src/model/block.ts';
import type { Outcome } from '../../src/model/outcome.ts';
import type { Signal } from '../../src/model/signal.ts';
import { encode, type PlainMessage } from '../oracle/encode.ts';
import type { Row } from '../oracle/rows.ts';
import {
  ENGINES, type Engines, enginesProblem, NESTING_MAX, openAllSignals, rowsOf, transcode, type Trial,
} from '../support/otlp.ts';

let engines: Readonly<Record<Signal, Engines>>;
beforeAll(async () => {
  engines = await openAllSignals();
});

const bytes = (...values: number[]) => Uint8Array.from(values);
const list = (...values: PlainMessage[]): PlainMessage => ({ arrayValue: { values } });
const map = (...entries: (readonly [string, PlainMessage])[]): PlainMessage =>
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
  [{ bytesValue: bytes(...Buffer.from('any carnal pleas')) }, 'YW55IGNhcm5hbCBwbGVhcw==', '"YW55IGNhcm5hbCBwbGVhcw=="'],
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
  test.each(VALUES.map(([value, text, nested = text]) => ({ value, text, nested })))('$text', ({ value, text, nested }) => {
    const attributes = [{ key: 'plain', value }, { key: 'nested', value: list(value, value) }];
    const logRecords = [{ body: value, attributes }];
    const request = encode('ExportLogsServiceRequest', { resourceLogs: [{ scopeLogs: [{ logRecords }] }] });
    const row = storedBy(transcode(engines.logs[engine], [request]));
    const utf8 = (shown: string) => Buffer.from(shown).toString('latin1');
    expect(row.Body).toBe(utf8(text));
    expect(row.LogAttributes).toEqual([['plain', utf8(text)], ['nested', utf8(`[${nested},${nested}]`)]]);
  });

  test('bytes that are no UTF-8 are stored as they were sent, never mended', () => {
    const latin1 = bytes(0x67, 0x72, 0xfc, 0xdf, 0x65, 0x80, 0xc0, 0xff, 0xed, 0xa0, 0x80);
    const attributes = [{ key: latin1, value: string(latin1) }, { key: 'nested', value: list(string(latin1)) }];
    const logRecords = [{ body: string(latin1), severityText: latin1, attributes }];
    const request = encode('ExportLogsServiceRequest', { resourceLogs: [{ scopeLogs: [{ logRecords }] }] });
    const row = storedBy(transcode(engines.logs[engine], [request]));
    const sent = Buffer.from(latin1).toString('latin1');
    expect([row.Body, row.SeverityText]).toEqual([sent, sent]);
    expect(row.LogAttributes).toEqual([[sent, sent], ['nested', `["${sent}"]`]]);
  });
});

/** A value of that many lists and maps in each other. */
function nested(levels: number): PlainMessage {
  let value = string('deepest');
  for (let level = 0; level < levels; level++) value = level % 2 === 0 ? list(value) : map(['k', value]);
  return value;
}

const ids = { traceId: bytes(...new Array(16).fill(1)), spanId: bytes(...new Array(8).fill(2)) };
const attributesOf = (value: PlainMessage) => [{ key: 'k', value }];
const span = (fields: PlainMessage, around: PlainMessage = {}): PlainMessage =>
  ({ resourceSpans: [{ ...around, scopeSpans: [{ spans: [{ ...ids, ...fields }, ids] }] }] });
const log = (fields: PlainMessage, resource: PlainMessage = {}, scope: PlainMessage = {}): PlainMessage =>
  ({ resourceLogs: [{ resource, scopeLogs: [{ scope, logRecords: [fields, {}] }] }] });
const gauge = (fields: PlainMessage, resource: PlainMessage = {}, scope: PlainMessage = {}): PlainMessage =>
  ({ resourceMetrics: [{ resource, scopeMetrics: [{ scope, metrics: [{ gauge: { dataPoints: [fields, {}] } }] }] }] });

/** Where a value may stand: what it is in, and how many of the two records there it takes down when it is too deep. */
const PLACES: readonly (readonly [string, Signal, (value: PlainMessage) => PlainMessage, number])[] = [
  ['a span', 'traces', (value) => span({ attributes: attributesOf(value) }), 1],
  ['an event', 'traces', (value) => span({ events: [{}, { attributes: attributesOf(value) }] }), 1],
  ['a link', 'traces', (value) => span({ links: [{ ...ids, attributes: attributesOf(value) }] }), 1],
  ["a span's resource", 'traces', (value) => span({}, { resource: { attributes: attributesOf(value) } }), 2],
  ['a log record', 'logs', (value) => log({ attributes: attributesOf(value) }), 1],
  ['a body', 'logs', (value) => log({ body: value }), 1],
  ["a log's resource", 'logs', (value) => log({}, { attributes: attributesOf(value) }), 2],
  ["a log's scope", 'logs', (value) => log({}, {}, { attributes: attributesOf(value) }), 2],
  ['a point', 'metrics', (value) => gauge({ attributes: attributesOf(value) }), 1],
  ['an exemplar', 'metrics', (value) => gauge({ exemplars: [{ filteredAttributes: attributesOf(value) }] }), 1],
  ["a metric's resource", 'metrics', (value) => gauge({}, { attributes: attributesOf(value) }), 2],
  ["a metric's scope", 'metrics', (value) => gauge({}, {}, { attributes: attributesOf(value) }), 2],
];

describe('nesting', () => {
  test.each(PLACES)('in %s: the limit and one more', (_, signal, build, lost) => {
    for (const [levels, rejected] of [[NESTING_MAX, 0], [NESTING_MAX + 1, lost], [1_000, lost]] as const) {
      const request = encode(REQUESTS[signal], build(nested(levels)));
      expect(enginesProblem(signal, engines[signal], [request, request])).toBeUndefined();
      const [outcome] = transcode(engines[signal].plain, [request]).outcomes;
      expect(outcome).not.toBeInstanceOf(Malformed);
      const { accepted, reasons } = outcome as Outcome;
      expect([accepted, reasons.get('nesting_too_deep') ?? 0]).toEqual([2 - rejected, rejected]);
    }
  });
});
