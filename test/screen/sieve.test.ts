/**
 * Goal: what is looked for before a pattern is (a sieve, a run of a match's bytes, a rare byte, a key's mark)
 * never says that nothing is there when something is, and the screen does the same with it as without.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { prefixOf } from '../../src/screen/conditions.ts';
import { KeyTable, markOf } from '../../src/screen/keys.ts';
import { type Needs, needsOf, nextNeeded } from '../../src/screen/runs.ts';
import { Sieve, sieveOf } from '../../src/screen/sieve.ts';
import { Replacer } from '../../src/screen/texts.ts';

const sieve = (source: string) => sieveOf(source) as RegExp;
const needs = (source: string) => needsOf(sieve(source));

/** Patterns, and what they need: the length of a run, a rare character. */
const PATTERNS: readonly (readonly [source: string, length: number, rare?: string])[] = [
  ['[0-9]{4}(?:[ -]?[0-9]{4}){3}', 16],
  ['\\b[0-9]{4}-[0-9]{4}-[0-9]{4}-[0-9]{4}\\b', 19],
  ['\\d{3}-\\d{2}-\\d{4}', 11],
  ['(?:12|345)6{2,3}7+8?', 5],
  ['AKIA[0-9A-Z]{8}', 12],
  ['[a-f0-9]{16}', 16],
  ['[\\w-]{1,8}@[\\w-]{1,8}\\.[a-z]{2,4}', 6, '@'],
  ['[0-9]*@[0-9]?@', 2, '@'],
  ['#?1(?:2#)?[0-9]{5,}', 6],
  ['1{6}|22', 2],
  ['(?:1|23)(?:45|6){2}?[0-9]{3}', 6],
];

test('needs are as long as the shortest match, and rare ones are in all of them', () => {
  for (const [source, length, rare] of PATTERNS) {
    const found = needs(source);
    const isUseful = rare !== undefined || length >= (source.includes('a-f') ? 16 : 6);
    const wanted = isUseful ? [length, rare?.charCodeAt(0)] : [undefined, undefined];
    expect([source, found?.length, found?.rare]).toEqual([source, ...wanted]);
  }
});
test('what is found everywhere is of no use', () => {
  for (const source of ['[a-z]{15}', '[0-9]{5}', '@?1', '1@|2', '(?:@1){1}', '[0-9]*a', '@{0}1']) {
    expect([source, needs(source)]).toEqual([source, undefined]);
  }
  expect(needs('[a-z]{16}')).toBeDefined();
  expect(needs('[0-9]{6}')).toBeDefined();
});

/** Bytes in which the patterns nearly match, and match, also across the borders of records. */
const pieces = fc.constantFrom(
  '1234', '5678-', ' ', '4111 1111 1111 1111', '1234-5678-1234-567', '8', '123-45-6789', 'AKIA', '12345678', 'ABCDEFGH',
  'deadbeefcafe', '0123', 'me@', 'x', '@', 'example.org', '12', '345', '66', '678', '#', '1', '22', '\u00e9', '\u0000\u000a', '.',
);
const requests = fc
  .array(pieces, { maxLength: 60 })
  .map((some) => Buffer.from(some.join('')))
  .chain((bytes) =>
    fc.record({
      bytes: fc.constant(bytes),
      borders: fc
        .array(fc.nat(bytes.length), { maxLength: 6 })
        .map((some) => [...some, bytes.length].sort((a, b) => a - b)),
    }),
  );

describe.each(PATTERNS.map(([source]) => source))('%s', (source) => {
  const relaxed = sieve(source);
  const wanted = needs(source) as Needs;
  test('a sieve with needs finds in each record what it finds without', () => {
    fc.assert(
      fc.property(requests, ({ bytes, borders }) => {
        const [fast, plain] = [new Sieve(bytes, 1), new Sieve(bytes, 1)];
        let start = 0;
        for (const end of borders) {
          const text = bytes.toString('latin1', start, end);
          const expected = text.search(relaxed) >= 0;
          if (needs(source)) expect(fast.finds(relaxed, wanted, 0, start, end)).toBe(expected);
          if (expected) expect(plain.finds(relaxed, undefined, 0, start, end)).toBe(true);
          const replaced = new Replacer(source, '').replaced(bytes.toString('utf8', start, end));
          if (!expected) expect(replaced).toBeUndefined();
          start = end;
        }
      }),
      { numRuns: 300 },
    );
  });
  test('every match reaches beyond the place that is found', () => {
    fc.assert(
      fc.property(requests, fc.nat(40), ({ bytes }, from) => {
        if (needs(source) === undefined) return;
        const place = nextNeeded(wanted, bytes, from);
        const before = bytes.toString('latin1', from, place);
        expect(before.search(relaxed)).toBe(-1);
      }),
      { numRuns: 300 },
    );
  });
});

test('a key that is found has a mark', () => {
  const keys = fc.string({ unit: 'binary', minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(fc.array(keys, { maxLength: 20 }), fc.array(keys, { maxLength: 5 }), (asked, redacted) => {
      const table = new KeyTable([...new Set(asked)], redacted);
      for (const key of [...asked, ...redacted]) {
        const bytes = Buffer.from(key);
        expect(table.marks[markOf(bytes.length, bytes.at(-1) as number)]).toBe(1);
        expect(table.find(bytes, 0, bytes.length)).toBeDefined();
      }
    }),
  );
});

test('what a pattern begins with is only what all of its matches begin with', () => {
  const prefixes = [
    ['^no-such-[a-z]+$', 'no-such-'], ['^GET /a\\.b', 'GET /a.b'], ['^ab?c', 'a'], ['^ab{2}', 'a'], ['^a+', ''],
    ['^a|b', ''], ['^(a|b)', ''], ['a', ''], ['^a.c', 'a'], ['^\\d', ''], ['^', ''], ['^(?:a)', ''], ['^a(b)?', 'a'],
    ['^\u00e9', ''], ['(?:^a)', ''], ['^a\\b-', 'a'], ['^a{0}b', ''],
  ] as const;
  expect(prefixes.map(([source]) => [source, prefixOf(source)])).toEqual(prefixes);
});
