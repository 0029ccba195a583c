/**
 * Goal: for any request, in any form that protobuf allows, and any limits and rules, the screen writes exactly
 * what the slow reference gives on decoded objects, and counts the same; broken bytes neither loop nor grow,
 * and a request of which nothing changes comes out itself.
 */
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import type { Condition, Rule } from '../../src/config/rules.ts';
import type { Settings } from '../../src/config/settings.ts';
import { LIMITS } from '../../src/model/outcome.ts';
import { SIGNALS, type Signal } from '../../src/model/signal.ts';
import { compileScreen } from '../../src/screen/screen.ts';
import { requestArbitrary } from '../oracle/arbitrary.ts';
import { decode } from '../oracle/decode.ts';
import { encode, fullChaos } from '../oracle/encode.ts';
import { mutate, noise } from '../oracle/mutate.ts';
import { seededRandom } from '../oracle/random.ts';
import { SAMPLES } from '../oracle/samples.ts';
import { Reference } from './reference.ts';
import { canonical, isDecodable, settingsOf } from './support.ts';

const NOW_MS = 1_763_640_000_123;
const keys = fc.constantFrom('a', 'service.name', 'http.method', 'ünïcode ✓', 'k', 's', 'm');

const conditions: fc.Arbitrary<Condition> = fc.oneof(
  fc.record({
    field: fc.oneof(
      keys.map((key) => `attributes.${key}`),
      keys.map((key) => `resource.${key}`),
      fc.constantFrom('name', 'body', 'scope.name'),
    ),
    equals: fc.option(fc.constantFrom<string | number | boolean>('a', 'GET', true, 1, 0.1), {
      nil: undefined,
      freq: 1,
    }),
    startsWith: fc.option(fc.constantFrom('', 'a', 'ü', 'xx'), { nil: undefined, freq: 1 }),
    matches: fc.option(fc.constantFrom('a', '^x', 'T$', '[a-z]e'), { nil: undefined, freq: 1 }),
    exists: fc.option(fc.boolean(), { nil: undefined, freq: 2 }),
    oneOf: fc.option(fc.constantFrom<(string | number)[][]>(['a', 'GET'], [1, 2, 'x'], ['', 'a', 7]), {
      nil: undefined,
      freq: 1,
    }),
  }),
  fc.record({ field: fc.constantFrom('attributes.a', 'resource.k'), above: fc.integer() }),
  fc.record({ field: fc.constantFrom('severity', 'status', 'kind'), above: fc.integer({ min: -1, max: 9 }) }),
  fc.constantFrom<Condition[]>(
    { field: 'status', equals: 'error' },
    { field: 'kind', oneOf: ['server', 'gauge', 'sum'] },
    { field: 'kind', equals: 'summary' },
    { field: 'severity', equals: 'info' },
    { field: 'status', exists: false },
  ),
);
const redactions = fc.record({
  keys: fc.option(fc.array(keys, { maxLength: 2 }), { nil: undefined, freq: 2 }),
  pattern: fc.option(
    fc.constantFrom('[a-z]+', 'x', 'ET$', '.', 'y{100}', 'a?', '\\bs', '[A-Z]{6}', '[a-z ]{16}'),
    { nil: undefined, freq: 2 },
  ),
  replacement: fc.option(fc.constantFrom('', '###', 'ç'), { nil: undefined, freq: 2 }),
});
const rules: fc.Arbitrary<Rule[]> = fc
  .array(
    fc.record({
      signals: fc.constantFrom<Signal[][]>([], ['traces', 'logs']),
      tenants: fc.constantFrom([], [], ['one'], ['two']),
      when: fc.array(conditions, { maxLength: 2 }),
      action: fc.constantFrom<Rule['action'][]>('drop', 'keep', 'sample', 'redact', 'redact', 'redact'),
      percent: fc.constantFrom(0, 100),
      redaction: redactions,
    }),
    { maxLength: 4 },
  )
  .map((all) => all.map(({ redaction, ...rule }, i) => ({ ...rule, ...redaction, name: `rule${i}` })));
const limits: fc.Arbitrary<Partial<Settings['limits']>> = fc.record({
  mode: fc.constantFrom<Settings['limits']['mode'][]>('enforce', 'enforce', 'dry_run'),
  attributesMax: fc.constantFrom(0, 0, 1, 2, 7),
  valueBytesMax: fc.constantFrom(0, 0, 1, 5, 28, 40, 290),
  eventsMax: fc.constantFrom(0, 0, 1, 2),
  linksMax: fc.constantFrom(0, 0, 1, 2),
  timePastMaxHours: fc.constantFrom(0, 0, 1, 400_000),
  timeFutureMaxHours: fc.constantFrom(0, 0, 1, 400_000),
  refuse: fc.subarray([...LIMITS]).map((some) => new Set(some)),
});

interface Case {
  readonly settings: Pick<Settings, 'limits' | 'rules' | 'receive'>;
  readonly tenant: string;
  readonly seed: number;
}
const cases: fc.Arbitrary<Case> = fc.record({
  settings: fc
    .tuple(limits, rules, fc.constantFrom(1, 2, 64))
    .map(([some, all, nestingMax]) => settingsOf(some, all, nestingMax)),
  tenant: fc.constantFrom('one', 'three'),
  seed: fc.nat(),
});

function check(signal: Signal, bytes: Uint8Array, { settings, tenant, seed }: Case): void {
  const overflow = seed % 3 === 0 ? (ordinal: number) => (ordinal + seed) % 2 === 0 : undefined;
  const context = { tenant, nowMs: NOW_MS, overflow: signal === 'metrics' ? overflow : undefined };
  const screened = compileScreen(settings).apply(signal, bytes, context);
  const expected = new Reference(settings).apply(signal, decode(REQUESTS[signal], bytes), context);
  const { message, ...counts } = expected;
  const found = { ...screened, bytes: undefined };
  expect({ ...counts, bytes: undefined }).toEqual(found);
  expect(canonical(decode(REQUESTS[signal], screened.bytes))).toEqual(canonical(message));
  const sent = canonical(decode(REQUESTS[signal], bytes));
  if (isDeepStrictEqual(sent, canonical(message))) expect(screened.bytes).toBe(bytes);
}

describe.each(SIGNALS)('%s', (signal) => {
  test('what any request becomes is what the reference makes of it', () => {
    fc.assert(
      fc.property(requestArbitrary(signal), cases, (request, one) => {
        check(signal, encode(REQUESTS[signal], request), one);
      }),
      { numRuns: 150 },
    );
  });
  test('and in every form in which it can be sent', () => {
    fc.assert(
      fc.property(requestArbitrary(signal), cases, (request, one) => {
        check(signal, encode(REQUESTS[signal], request, fullChaos(seededRandom(one.seed))), one);
      }),
      { numRuns: 150 },
    );
  });
  test('broken bytes come back, or give a request that is no longer than they allow', () => {
    const sample = encode(REQUESTS[signal], SAMPLES[signal]);
    fc.assert(
      fc.property(cases, fc.boolean(), (one, isNoise) => {
        const random = seededRandom(one.seed);
        const bytes = isNoise ? noise(random) : mutate(sample, random);
        const context = { tenant: one.tenant, nowMs: NOW_MS };
        const screened = compileScreen(one.settings).apply(signal, bytes, context);
        expect(screened.bytes.length).toBeLessThan(20 * bytes.length + 1_000);
        if (isDecodable(signal, bytes)) check(signal, bytes, one);
      }),
      { numRuns: 400 },
    );
  });
});
