/**
 * Goal: two data points have the same series exactly when an independent decoder sees the same metric, scope,
 * resource and attributes; both engines, however the request is written, and whoever else is in it.
 */
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import type { OpenBlocks, RecordBounds } from '../../src/model/block.ts';
import { createOpenBlocks } from '../../src/transcode/open-blocks.ts';
import { requestArbitrary } from '../oracle/arbitrary.ts';
import { decode, type Message } from '../oracle/decode.ts';
import { encode, fullChaos, type PlainMessage } from '../oracle/encode.ts';
import { seededRandom } from '../oracle/random.ts';
import { requestOf } from '../oracle/samples.ts';
import { messageIn, messagesIn, textIn, valueText } from '../oracle/text.ts';
import { type Engine, ENGINES, NESTING_MAX, openEngines } from '../support/otlp.ts';

const SEED = 20_261_126;
const SERIES: RecordBounds = {
  attributesMax: 0, valueBytesMax: 0, eventsMax: 0, linksMax: 0, timeMinMs: 0, timeMaxMs: 0,
  nesting: false, series: true,
};
const KINDS = ['gauge', 'sum', 'histogram', 'exponentialHistogram', 'summary'];

let engines: Readonly<Record<Engine, OpenBlocks>>;
beforeAll(async () => {
  await openEngines('metrics');
  const limits = { nestingMax: NESTING_MAX, seriesSeed: SEED };
  engines = {
    plain: await createOpenBlocks('metrics', 'plain', limits),
    wasm: await createOpenBlocks('metrics', 'wasm', limits),
  };
});

interface Named {
  readonly metric: number;
  readonly series: string;
}

/** The names of a request's points; the blocks are left as they were. */
function namesOf(blocks: OpenBlocks, request: Uint8Array): Named[] {
  expect(blocks.appendWithin(request, SERIES)).toBeDefined();
  const numbers = [...blocks.series()];
  blocks.undo();
  return Array.from({ length: numbers.length / 3 }, (_, i) => {
    return { metric: numbers[3 * i] ?? 0, series: `${numbers[3 * i + 1]} ${numbers[3 * i + 2]}` };
  });
}

/** The same by both engines. */
function named(request: PlainMessage, chaosSeed?: number): Named[] {
  const chaos = chaosSeed === undefined ? undefined : fullChaos(seededRandom(chaosSeed));
  const bytes = encode(REQUESTS.metrics, request, chaos);
  const [plain, wasm] = [namesOf(engines.plain, bytes), namesOf(engines.wasm, bytes)];
  expect(wasm).toEqual(plain);
  return wasm;
}

const pairOf = (key: string, value: string | number) =>
  ({ key, value: typeof value === 'string' ? { stringValue: value } : { intValue: value } });
const attributesOf = (pairs: Readonly<Record<string, string | number>>) =>
  Object.entries(pairs).map(([key, value]) => pairOf(key, value));
const sumOf = (name: string, points: readonly PlainMessage[]) => ({ name, sum: { dataPoints: points } });

function one(
  point: PlainMessage, name = 'requests', resource: Readonly<Record<string, string>> = {}, scope = 'scope',
): string {
  const levels = [{ resource: { attributes: attributesOf(resource) } }, { scope: { name: scope } }] as const;
  const [first, ...more] = named(requestOf('metrics', [sumOf(name, [point])], ...levels));
  expect(more).toEqual([]);
  return first?.series ?? '';
}

describe('a series', () => {
  const attributes = attributesOf({ method: 'GET', status: 200, route: '/users/{id}/orders/{order}' });
  const point = { attributes };

  test('is not told by the order of attributes, nor by anything that changes from point to point', () => {
    const reversed = { attributes: [...attributes].reverse(), timeUnixNano: 7n, asInt: 3, flags: 1 };
    expect(one(reversed)).toBe(one(point));
    const resource = { 'service.name': 'shop', 'host.name': 'a', zone: 'eu' };
    const turned = Object.fromEntries(Object.entries(resource).reverse());
    expect(one(reversed, 'requests', turned)).toBe(one(point, 'requests', resource));
  });

  test('is told by each of its parts', () => {
    const others = [
      one(point), one(point, 'request'), one(point, ''), one(point, 'requests', {}, ''),
      one(point, 'requests', {}, 'scopes'), one(point, 'scope', {}, 'requests'),
      one(point, 'requests', { a: '' }), one(point, 'requests', { a: 'b' }),
      one(point, 'requests', { b: 'a' }), one(point, 'requests', { a: 'b', c: 'd' }),
      one(point, 'requests', { a: 'd', c: 'b' }),
      one({ attributes: attributes.slice(1) }), one({}), one({ attributes: attributesOf({ '': '' }) }),
      one({ attributes: attributesOf({ method: 'GET', status: 201, route: '/users/{id}/orders/{order}' }) }),
      one({ attributes: attributesOf({ method: 'GET', status: 200, route: '/users/{id}/orders/{orders' }) }),
      one({ attributes: attributesOf({ a: 'b', c: 'd' }) }),
      one({ attributes: attributesOf({ a: 'd', c: 'b' }) }),
      one({ attributes: attributesOf({ ab: 'c' }) }), one({ attributes: attributesOf({ a: 'bc' }) }),
      one({ attributes: attributesOf({ a: '\0' }) }), one({ attributes: attributesOf({ a: '\0\0' }) }),
    ];
    expect(new Set(others).size).toBe(others.length);
  });

  test('is told by every byte of a text, whatever its length', () => {
    const texts = Array.from({ length: 40 }, (_, length) => 'x'.repeat(length));
    const turned = texts.flatMap((text) => Array.from(text, (_, at) => {
      return `${text.slice(0, at)}y${text.slice(at + 1)}`;
    }));
    const points = [...texts, ...turned].map((text) => ({ attributes: attributesOf({ key: text }) }));
    const series = named(requestOf('metrics', [sumOf('m', points)])).map((name) => name.series);
    expect(new Set(series).size).toBe(points.length);
    const keys = [...texts, ...turned].map((text) => ({ attributes: attributesOf({ [text]: 'value' }) }));
    const byKey = named(requestOf('metrics', [sumOf('m', keys)])).map((name) => name.series);
    expect(new Set(byKey).size).toBe(keys.length);
  });

  test("a metric's name has its own number, whosever it is", () => {
    const request = { resourceMetrics: ['a', 'b'].map((host) => ({
      resource: { attributes: attributesOf({ host }) },
      scopeMetrics: [{ metrics: [sumOf('one', [{}, {}]), sumOf('two', [{}])] }],
    })) };
    const names = named(request).map(({ metric }) => metric);
    expect(names).toEqual([names[0], names[0], names[2], names[0], names[0], names[2]]);
    expect(names[0]).not.toBe(names[2]);
  });

  test('depends on the seed, on all 53 bits of it', async () => {
    const request = encode(REQUESTS.metrics, requestOf('metrics', [sumOf('m', [point])]));
    const seeds = [undefined, 1, 2, 2 ** 32, 2 ** 52];
    const seen = new Set<string>();
    for (const seriesSeed of seeds) {
      const limits = seriesSeed === undefined ? { nestingMax: 8 } : { nestingMax: 8, seriesSeed };
      for (const engine of ENGINES) {
        const blocks = await createOpenBlocks('metrics', engine, limits);
        seen.add(JSON.stringify(namesOf(blocks, request)));
      }
    }
    expect(seen.size).toBe(seeds.length);
  });
});

/** What tells a point's series from others, as the oracle reads it: in the order of the request's points. */
function identitiesOf(request: Message): string[] {
  const pairs = (list: Message[string] | undefined) => messagesIn(list)
    .map((entry) => [textIn(entry.key), valueText(messageIn(entry.value))] as const);
  return messagesIn(request.resourceMetrics).flatMap((underResource) => {
    const resource = pairs(messageIn(underResource.resource)?.attributes).map(String).sort();
    return messagesIn(underResource.scopeMetrics).flatMap((underScope) => {
      const scope = textIn(messageIn(underScope.scope)?.name);
      return messagesIn(underScope.metrics).flatMap((metric) => {
        const kind = KINDS.find((name) => metric[name] !== undefined) ?? '';
        return messagesIn(messageIn(metric[kind])?.dataPoints).map((point) => {
          const own = pairs(point.attributes).sort(([a], [b]) => (a === b ? 0 : a < b ? -1 : 1));
          return JSON.stringify([textIn(metric.name), scope, resource, own]);
        });
      });
    });
  });
}

test('any request, written in any way: the same name for the same series, and no other', () => {
  const byIdentity = new Map<string, string>();
  const identityBy = new Map<string, string>();
  fc.assert(fc.property(requestArbitrary('metrics'), fc.nat(), (request, chaosSeed) => {
    const bytes = encode(REQUESTS.metrics, request);
    const identities = identitiesOf(decode(REQUESTS.metrics, bytes));
    for (const names of [named(request), named(request, chaosSeed)]) {
      expect(names).toHaveLength(identities.length);
      for (const [i, { series }] of names.entries()) {
        const identity = identities[i] ?? '';
        expect(byIdentity.get(identity) ?? series).toBe(series);
        expect(identityBy.get(series) ?? identity).toBe(identity);
        byIdentity.set(identity, series);
        identityBy.set(series, identity);
      }
    }
  }), { seed: SEED, numRuns: 100, interruptAfterTimeLimit: 100_000, markInterruptAsFailure: true });
  expect(byIdentity.size).toBeGreaterThan(100);
});

test('a refused point has its place, and those behind it their own names', () => {
  const good = { attributes: attributesOf({ a: '1', b: '2' }) };
  const refused = { attributes: attributesOf({ a: '1', c: '2' }), timeUnixNano: 2n ** 63n };
  const after = { attributes: attributesOf({ a: '1', d: '2' }) };
  const names = named(requestOf('metrics', [sumOf('m', [good, refused, after, refused, good, good])]));
  const alone = [good, refused, after].map((point) => one(point, 'm', {}, ''));
  const [first, second, third] = alone;
  expect(names.map(({ series }) => series)).toEqual([first, second, third, second, first, first]);
});

test('nothing is told of what was not asked for, not appended or is over', () => {
  const points = [{ attributes: attributesOf({ a: 'b' }) }];
  const request = encode(REQUESTS.metrics, requestOf('metrics', [sumOf('m', points)]));
  for (const blocks of Object.values(engines)) {
    blocks.appendWithin(request, SERIES);
    expect(blocks.series()).toHaveLength(3);
    blocks.append(request);
    expect(blocks.series()).toHaveLength(0);
    blocks.appendWithin(request, { ...SERIES, series: false });
    expect(blocks.series()).toHaveLength(0);
    expect(blocks.appendWithin(request, { ...SERIES, valueBytesMax: 1, timeMinMs: 9_000 })).toBeUndefined();
    expect(blocks.series()).toHaveLength(0);
    blocks.appendWithin(request, SERIES);
    blocks.close();
    expect(blocks.series()).toHaveLength(0);
  }
});

describe('no two series have one name', () => {
  type Texts = readonly (readonly [key: string, value: string])[];
  const LISTS: Readonly<Record<string, readonly [number, (i: number) => Texts]>> = {
    'a million in a grid of three': [1_000_000, (i) => [
      ['a', `${i % 100}`], ['b', `${Math.floor(i / 100) % 100}`], ['c', `${Math.floor(i / 10_000)}`],
    ]],
    'one counting attribute': [200_000, (i) => [['id', `${i}`]]],
    'counters of eight bytes': [200_000, (i) => [['pod', `pod-${i.toString(36).padStart(4, '0')}`]]],
  };
  const SLICE = 20_000;

  test.each(Object.entries(LISTS))('%s', (_, [count, textsOf]) => {
    const seen = new Float64Array(count);
    const set = new Uint32Array(64);
    for (let from = 0; from < count; from += SLICE) {
      const gauge = gaugeOf(SLICE, (i) => textsOf(from + i));
      const blocks = engines.wasm;
      blocks.appendWithin(encode(REQUESTS.metrics, requestOf('metrics', [{ name: 'm', gauge }])), SERIES);
      const numbers = blocks.series();
      for (let i = 0; i < SLICE; i++) {
        const [low, high] = [numbers[3 * i + 1] ?? 0, numbers[3 * i + 2] ?? 0];
        // 52 of the 64 bits: enough to tell a million apart, and exact in a double.
        seen[from + i] = (high & 0xfffff) * 2 ** 32 + low;
        if (from === 0) for (let bit = 0; bit < 32; bit++) {
          set[bit] = (set[bit] ?? 0) + ((low >>> bit) & 1);
          set[32 + bit] = (set[32 + bit] ?? 0) + ((high >>> bit) & 1);
        }
      }
      blocks.undo();
    }
    seen.sort();
    expect(seen.findIndex((value, i) => i > 0 && value === seen[i - 1])).toBe(-1);
    // Filters take some of the bits: each has to be as even as those of chance.
    for (const [bit, times] of set.entries()) {
      expect(Math.abs(times / SLICE - 0.5), `bit ${bit}`).toBeLessThan(0.02);
    }
  });

  /** A Gauge with points of short texts, written in one go: an object for each of a million takes long. */
  function gaugeOf(count: number, textsOf: (i: number) => Texts): Uint8Array {
    const bytes = Buffer.alloc(count * 64);
    let at = 0;
    for (let i = 0; i < count; i++) {
      const texts = textsOf(i);
      bytes[at] = 10;
      bytes[at + 1] = texts.reduce((sum, [key, value]) => sum + 8 + key.length + value.length, 0);
      at += 2;
      for (const [key, value] of texts) {
        bytes.set([58, 6 + key.length + value.length, 10, key.length], at);
        at += 4 + bytes.write(key, at + 4, 'latin1');
        bytes.set([18, value.length + 2, 10, value.length], at);
        at += 4 + bytes.write(value, at + 4, 'latin1');
      }
    }
    return bytes.subarray(0, at);
  }
});
