/**
 * Goal: each action and condition of rules does what docs/limits.md says; sampling keeps its percentage and
 * decides the same on every gateway; rules that can't work are refused when they are loaded, in words.
 */
import { describe, expect, test } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import { ConfigurationError } from '../../src/base/errors.ts';
import { patternFault } from '../../src/config/patterns.ts';
import { rulesKind } from '../../src/config/rules.ts';
import type { Signal } from '../../src/model/signal.ts';
import { compileScreen } from '../../src/screen/screen.ts';
import { Sieve, sieveOf } from '../../src/screen/sieve.ts';
import { Replacer } from '../../src/screen/texts.ts';
import { type Plain, type PlainMessage, encode } from '../oracle/encode.ts';
import { seededRandom } from '../oracle/random.ts';
import { requestOf } from '../oracle/samples.ts';
import { rulesOf, settingsOf } from './support.ts';

const CONTEXT = { tenant: 'shop', nowMs: Date.now() };

function apply(signal: Signal, rules: readonly object[], records: Plain[], around: PlainMessage = {}) {
  const bytes = encode(REQUESTS[signal], requestOf(signal, records, around, { scope: { name: 'lib' } }));
  return compileScreen(settingsOf({}, rulesOf(...rules))).apply(signal, bytes, CONTEXT);
}

const pair = (key: string, value: PlainMessage) => ({ key, value });
const resource = { attributes: [pair('service.name', { stringValue: 'cart' })] };
const span = {
  name: 'GET /health', kind: 2, status: { code: 2 },
  attributes: [
    pair('code', { intValue: 503n }), pair('vip', { boolValue: true }), pair('path', { stringValue: '/a/b' }),
    pair('load', { doubleValue: 0.5 }), pair('code', { intValue: 1n }),
  ],
};

describe('conditions on a span', () => {
  const cases: readonly (readonly [condition: object, holds: boolean])[] = [
    [{ field: 'name', equals: 'GET /health' }, true],
    [{ field: 'name', equals: 'GET /healt' }, false],
    [{ field: 'name', startsWith: 'GET ' }, true],
    [{ field: 'name', matches: '^GET /h.*h$' }, true],
    [{ field: 'name', oneOf: ['x', 'GET /health'] }, true],
    [{ field: 'kind', equals: 'server' }, true],
    [{ field: 'kind', oneOf: ['client', 'internal'] }, false],
    [{ field: 'status', equals: 'error' }, true],
    [{ field: 'status', below: 2 }, false],
    [{ field: 'attributes.code', equals: 503 }, true],
    [{ field: 'attributes.code', equals: '503' }, false],
    [{ field: 'attributes.code', above: 499, below: 600 }, true],
    [{ field: 'attributes.code', above: 503 }, false],
    [{ field: 'attributes.load', equals: 0.5 }, true],
    [{ field: 'attributes.vip', equals: true }, true],
    [{ field: 'attributes.vip', equals: false }, false],
    [{ field: 'attributes.path', startsWith: '/a' }, true],
    [{ field: 'attributes.path', exists: false }, false],
    [{ field: 'attributes.none', exists: false }, true],
    [{ field: 'attributes.none', startsWith: '' }, false],
    [{ field: 'resource.service.name', equals: 'cart' }, true],
    [{ field: 'resource.service.name', oneOf: ['a', 'b'] }, false],
    [{ field: 'scope.name', equals: 'lib' }, true],
    [{ field: 'body', exists: true }, false],
    [{ field: 'severity', exists: false }, true],
  ];
  test.each(cases)('%j: %j', (condition, holds) => {
    const { filtered } = apply('traces', [{ name: 'r', action: 'drop', when: [condition] }], [span], { resource });
    expect(filtered).toEqual(new Map(holds ? [['r', 1]] : []));
  });
});

describe('conditions on a log record and on a metric', () => {
  const log = { severityNumber: 17, body: { stringValue: 'it broke' }, eventName: 'oops' };
  test.each([
    [{ field: 'severity', equals: 'error' }, true],
    [{ field: 'severity', below: 17 }, false],
    [{ field: 'body', startsWith: 'it' }, true],
    [{ field: 'name', equals: 'oops' }, true],
  ])('%j: %j', (condition, holds) => {
    const { filtered } = apply('logs', [{ name: 'r', action: 'drop', when: [condition] }], [log]);
    expect(filtered.size).toBe(holds ? 1 : 0);
  });
  test('a severity that is only a text', () => {
    const rules = [{ name: 'r', action: 'drop', when: [{ field: 'severity', below: 9 }] }];
    expect(apply('logs', rules, [{ severityText: 'DEBUG' }, { severityText: 'INFO' }]).filtered.get('r')).toBe(1);
  });
  test('a metric that goes takes what is around it along', () => {
    const gauge = { name: 'cpu', gauge: { dataPoints: [{ asInt: 1n }, { asInt: 2n }] } };
    const rules = [{ name: 'r', action: 'drop', when: [{ field: 'name', equals: 'cpu' }] }];
    const { filtered, bytes } = apply('metrics', rules, [gauge]);
    expect([filtered.get('r'), bytes.length]).toEqual([2, 0]);
    const kind = [{ name: 'r', action: 'drop', when: [{ field: 'kind', equals: 'sum' }] }];
    expect(apply('metrics', kind, [gauge]).filtered.size).toBe(0);
  });
});

describe('actions', () => {
  test('keep ends the reading of the rules', () => {
    const rules = [{ name: 'k', action: 'keep', when: [{ field: 'status', equals: 'error' }] }, { name: 'd', action: 'drop' }];
    expect(apply('traces', rules, [span, { name: 'b' }]).filtered).toEqual(new Map([['d', 1]]));
  });
  test('rules of other tenants and signals are not read', () => {
    const rules = [{ name: 'a', action: 'drop', tenants: ['other'] }, { name: 'b', action: 'drop', signals: ['logs'] }];
    const settings = settingsOf({}, rulesOf(...rules));
    const screen = compileScreen(structuredClone(settings));
    expect([screen.hasRules('traces', 'shop'), screen.hasRules('traces', 'other')]).toEqual([false, true]);
    expect([screen.hasRules('logs', 'shop'), apply('traces', rules, [span]).filtered.size]).toEqual([true, 0]);
  });
  test('redact hides keys anywhere and patterns inside of texts', () => {
    const secret = [pair('token', { stringValue: 'hidden' }), pair('note', { stringValue: 'to ann@x.org, bob@x.org' })];
    const inner = { kvlistValue: { values: secret } };
    const rules = [
      { name: 'keys', action: 'redact', keys: ['token'], replacement: 'gone' },
      { name: 'mail', action: 'redact', pattern: '[a-z]+@[a-z.]+' },
    ];
    const holder = { attributes: secret };
    const record = { ...holder, name: 'for ann@x.org', events: [holder], links: [holder], status: { message: 'ann@x.org' } };
    const { bytes, redacted } = apply('traces', rules, [record, { name: 'quiet' }], { resource: holder });
    const text = Buffer.from(bytes).toString();
    expect(text).not.toMatch(/hidden|@/);
    expect(text).toContain('to ***, ***');
    // The resource's are in both spans.
    expect(redacted).toEqual(new Map([['keys', 2], ['mail', 2]]));
    const log = apply('logs', rules, [{ body: inner }, { body: { stringValue: 'nothing' } }]);
    expect(Buffer.from(log.bytes).toString()).not.toMatch(/hidden|@/);
    expect(log.redacted).toEqual(new Map([['keys', 1], ['mail', 1]]));
  });
});

describe('sampling', () => {
  const ids = (count: number) => {
    const random = seededRandom(7);
    return Array.from({ length: count }, () => Uint8Array.from({ length: 16 }, () => random.int(256)));
  };
  const keptOf = (signal: Signal, percent: number, records: PlainMessage[]) => {
    // Compiled for each: as different gateways do.
    const screen = compileScreen(settingsOf({}, rulesOf({ name: 's', action: 'sample', percent })));
    const isKept = (record: PlainMessage) =>
      screen.apply(signal, encode(REQUESTS[signal], requestOf(signal, [record])), CONTEXT).filtered.size === 0;
    return records.filter(isKept);
  };
  test.each([0, 1, 25, 50, 99, 100])('of %d percent spans and logs of the same traces are kept', (percent) => {
    const traces = ids(2_000).map((traceId) => ({ traceId }));
    const spans = keptOf('traces', percent, traces);
    expect(Math.abs(spans.length / 20 - percent)).toBeLessThan(3.5);
    expect(keptOf('logs', percent, traces)).toEqual(spans);
    // What fewer percent keep, more keep too.
    expect(keptOf('traces', Math.min(100, percent + 10), spans)).toEqual(spans);
  });
  test('the threshold is that of OpenTelemetry: the last 7 bytes against (1 - p) * 2^56', () => {
    const id = (tail: string) => ({ traceId: Buffer.from(`ff${'0'.repeat(16)}${tail}`, 'hex') });
    const records = ['7fffffffffffff', '80000000000000', 'ffffffffffffff', '00000000000000'].map(id);
    expect(keptOf('traces', 50, records)).toEqual([records[1], records[2]]);
  });
  test('records without a trace id go by their bytes', () => {
    const points = Array.from({ length: 1_000 }, (_, i) => ({ name: 'm', gauge: { dataPoints: [{ asInt: BigInt(i) }] } }));
    expect(Math.abs(keptOf('metrics', 30, points).length / 10 - 30)).toBeLessThan(5);
  });
});

describe('rules that cannot work are refused', () => {
  const rule = { name: 'r', action: 'drop' };
  const cases: readonly (readonly [rules: object[], why: string])[] = [
    [[{ name: 'r', action: 'sample' }], 'rule r: sample needs percent, 0 to 100'],
    [[{ ...rule, percent: 5 }], 'rule r: percent is for sample, not for drop'],
    [[{ ...rule, keys: ['a'] }], 'rule r: keys, pattern and replacement are for redact, not for drop'],
    [[{ name: 'r', action: 'redact' }], 'rule r: redact needs keys (attributes), or a pattern (inside of texts)'],
    [[rule, rule], 'two rules have the name r'],
    [[{ ...rule, when: [{ field: 'nmae', equals: 'x' }] }], 'there is no field nmae; wanted: one of name, kind, status, severity, body, scope.name, resource.<key>, attributes.<key>'],
    [[{ ...rule, when: [{ field: 'name' }] }], 'the condition on name asks for nothing; wanted: one of equals, oneOf, startsWith, matches, exists, below, above'],
    [[{ ...rule, when: [{ field: 'status', equals: 'bad' }] }], 'status is never bad; wanted: one of unset, ok, error'],
    [[{ ...rule, signals: ['logs'], when: [{ field: 'status', equals: 'ok' }] }], 'rule r: logs have no status'],
  ];
  test.each(cases)('%j', (rules, why) => {
    const result = rulesKind.schema.safeParse(rules);
    expect(result.error?.issues[0]?.message).toBe(why);
    expect(() => rulesOf(...rules)).toThrow(ConfigurationError);
  });
});

describe('patterns', () => {
  test.each(['(a+)+', '(a|b)*', '(?:x*y?)+z', '(\\w+\\s?)*$', '(.)\\1', '(?<n>a)\\k<n>', '(', '((a{1,9}){2,})', 'x'.repeat(1_001)])(
    '%s is refused', (pattern) => expect(patternFault(pattern)).toBeTypeOf('string'),
  );
  test.each(['a+', '(?:\\d{1,3}\\.){3}\\d+', '[(+)*]+', '\\(a+\\)+', '(a|b)', '(?:ab){2,4}', '^(GET|POST) /x/[^/]+$', '(?=a)b'])(
    '%s is taken', (pattern) => expect(patternFault(pattern)).toBeUndefined(),
  );
  test('long texts are looked through in parts that overlap', () => {
    const replacer = new Replacer('secret[0-9]+', '***');
    for (const at of [0, 7_165, 7_168, 8_189, 8_192, 20_000, 29_991]) {
      const text = `${'x'.repeat(at)}secret42${'x'.repeat(30_000 - at)}`;
      expect(replacer.replaced(text)).toBe(text.replace('secret42', '***'));
    }
    expect(replacer.replaced('x'.repeat(30_000))).toBeUndefined();
    expect(new Replacer('x', 'y'.repeat(200)).replaced('x'.repeat(5_000))).toBe('y'.repeat(200));
    expect(new Replacer('b*', '-').replaced('abba')).toBe('a-a');
  });
  test('a sieve finds whatever the pattern finds, wherever a text stands', () => {
    expect(['.', 'é', '[^a]', '\\s', '\\D', '\\u0041', '(?=a)b', 'a*'].map(sieveOf)).toEqual(Array(8).fill(undefined));
    const pattern = sieveOf('^\\b[0-9]{4}-x$') as RegExp;
    const bytes = Buffer.from(`${'1'.repeat(40_000)}-x9${'z'.repeat(40_000)}1234-x`);
    const sieve = new Sieve(bytes, 1);
    const ranges = [[0, 10], [10, 39_990], [39_990, 40_010], [40_010, 80_000], [80_000, bytes.length]] as const;
    expect(ranges.map(([start, end]) => sieve.finds(pattern, undefined, 0, start, end))).toEqual([false, false, true, false, true]);
  });
});
