/**
 * Goal: no request with a record beyond a bound is appended, whatever kind of record and wherever in it; the
 * last value within a bound is; and what is not appended, or is taken back, leaves no trace in the blocks.
 */
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import { Malformed, type OpenBlocks, type RecordBounds } from '../../src/model/block.ts';
import { SIGNALS, type Signal } from '../../src/model/signal.ts';
import { createOpenBlocks } from '../../src/transcode/open-blocks.ts';
import { requestArbitrary } from '../oracle/arbitrary.ts';
import { exceededBounds } from '../oracle/bounds.ts';
import { decode } from '../oracle/decode.ts';
import { encode, fullChaos, type Plain, type PlainMessage } from '../oracle/encode.ts';
import { mutate } from '../oracle/mutate.ts';
import { seededRandom } from '../oracle/random.ts';
import { requestOf, SAMPLES } from '../oracle/samples.ts';
import {
  blocksDifference, ENGINES, type Engines, NESTING_MAX, openAllSignals, type Trial, transcode,
} from '../support/otlp.ts';

const SEED = 20_261_125;
const OFF: RecordBounds = {
  attributesMax: 0, valueBytesMax: 0, eventsMax: 0, linksMax: 0, timeMinMs: 0, timeMaxMs: 0,
  nesting: false, series: false,
};
/** How near to a bound a time may be and yet be taken for one beyond it. */
const SLACK_MS = 5_000;

let engines: Readonly<Record<Signal, Engines>>;
beforeAll(async () => {
  engines = await openAllSignals();
});

const IDS = { traceId: Buffer.alloc(16, 1), spanId: Buffer.alloc(8, 2) };
const pairsOf = (count: number, value: PlainMessage = { intValue: 1 }) =>
  Array.from({ length: count }, (_, i) => ({ key: `k${i}`, value }));
const times = (count: number) => <T>(item: T) => Array.from({ length: count }, () => item);

/** Every list of attributes and every other place of a value, by name: a request that has these there. */
const PLACES: Readonly<Record<string, readonly [Signal, (attributes: readonly Plain[]) => PlainMessage]>> = {
  'a span': ['traces', (attributes) => requestOf('traces', [{ ...IDS, attributes }])],
  'an event': ['traces', (attributes) => requestOf('traces', [{ ...IDS, events: [{}, { attributes }] }])],
  'a link': ['traces', (attributes) => requestOf('traces', [{ ...IDS, links: [{ attributes }] }])],
  "a trace's resource": ['traces', (attributes) => requestOf('traces', [IDS], { resource: { attributes } })],
  "a trace's scope": ['traces', (attributes) => requestOf('traces', [IDS], {}, { scope: { attributes } })],
  'a log record': ['logs', (attributes) => requestOf('logs', [{}, { attributes }])],
  "a log's resource": ['logs', (attributes) => requestOf('logs', [{}], { resource: { attributes } })],
  "a log's scope": ['logs', (attributes) => requestOf('logs', [{}], {}, { scope: { attributes } })],
  ...Object.fromEntries(['gauge', 'sum', 'histogram', 'exponentialHistogram', 'summary'].map((kind) => [
    `a point of a ${kind}`, ['metrics', (attributes: readonly Plain[]) =>
      requestOf('metrics', [{ [kind]: { dataPoints: [{}, { attributes }] } }])],
  ])),
  ...Object.fromEntries(['gauge', 'sum', 'histogram', 'exponentialHistogram'].map((kind) => [
    `an exemplar of a ${kind}`, ['metrics', (filteredAttributes: readonly Plain[]) =>
      requestOf('metrics', [{ [kind]: { dataPoints: [{ exemplars: [{}, { filteredAttributes }] }] } }])],
  ])),
  "a metric's resource": ['metrics', (attributes) =>
    requestOf('metrics', [{ sum: { dataPoints: [{}] } }], { resource: { attributes } })],
  "a metric's scope": ['metrics', (attributes) =>
    requestOf('metrics', [{ sum: { dataPoints: [{}] } }], {}, { scope: { attributes } })],
};

const NS = 1_000_000n;
const NOW_MS = 1_790_000_000_000;
const nsOf = (ms: number) => BigInt(ms) * NS;

/** Every time that is bounded, by name: a request that has it. */
const TIMES: Readonly<Record<string, readonly [Signal, (time: bigint) => PlainMessage]>> = {
  "a span's start": ['traces', (time) => requestOf('traces', [{ ...IDS, startTimeUnixNano: time }])],
  "a log's time": ['logs', (time) => requestOf('logs', [{ timeUnixNano: time }])],
  "a log's time of observation": ['logs', (time) => requestOf('logs', [{ observedTimeUnixNano: time }])],
  ...Object.fromEntries(['gauge', 'sum', 'histogram', 'exponentialHistogram', 'summary'].map((kind) => [
    `a point of a ${kind}`, ['metrics', (time: bigint) =>
      requestOf('metrics', [{ [kind]: { dataPoints: [{ timeUnixNano: time }] } }])],
  ])),
};

describe.each(ENGINES)('%s', (engine) => {
  function takes(signal: Signal, request: PlainMessage, bounds: Partial<RecordBounds>): boolean {
    const blocks = engines[signal][engine];
    const outcome = blocks.appendWithin(encode(REQUESTS[signal], request), { ...OFF, ...bounds });
    expect(blocks.close().length).toBe(outcome === undefined ? 0 : 1);
    return outcome !== undefined;
  }

  describe.each(Object.entries(PLACES))('%s', (_, [signal, requestWith]) => {
    test.each([1, 3, 200])('%i attributes, and one more', (attributesMax) => {
      expect(takes(signal, requestWith(pairsOf(attributesMax)), { attributesMax })).toBe(true);
      expect(takes(signal, requestWith(pairsOf(attributesMax + 1)), { attributesMax })).toBe(false);
      expect(takes(signal, requestWith(pairsOf(attributesMax + 1)), {})).toBe(true);
      const same = times(attributesMax + 1)({ key: 'same', value: { boolValue: true } });
      expect(takes(signal, requestWith(same), { attributesMax })).toBe(false);
    });

    test.each([1, 126, 127, 128, 129, 16_383, 16_384, 70_000])('texts of %i bytes, and one more', (most) => {
      const value = (length: number) => ({ stringValue: 'x'.repeat(length) });
      const text = (length: number) => requestWith([...pairsOf(1), ...pairsOf(1, value(length))]);
      expect(takes(signal, text(most), { valueBytesMax: most })).toBe(true);
      expect(takes(signal, text(most + 1), { valueBytesMax: most })).toBe(false);
    });

    test('values nested as deep as they may be, and deeper', () => {
      const value = (levels: number): PlainMessage =>
        levels === 0 ? { intValue: 1 } : { arrayValue: { values: [value(levels - 1)] } };
      expect(takes(signal, requestWith(pairsOf(1, value(NESTING_MAX))), { nesting: true })).toBe(true);
      expect(takes(signal, requestWith(pairsOf(1, value(NESTING_MAX + 1))), { nesting: true })).toBe(false);
    });
  });

  const VALUES: readonly (readonly [string, PlainMessage, number])[] = [
    ['true', { boolValue: true }, 4],
    ['false', { boolValue: false }, 5],
    ['an integer', { intValue: -1_234_567 }, 8],
    ['the least integer', { intValue: -(2n ** 63n) }, 20],
    ['a double', { doubleValue: 0.125 }, 5],
    ['a small double', { doubleValue: -1.25e-300 }, 10],
    ['bytes', { bytesValue: Buffer.alloc(100) }, 136],
    ['an array', { arrayValue: { values: [{ stringValue: '"' }, {}] } }, 11],
    ['a list', { kvlistValue: { values: pairsOf(3) } }, 22],
  ];
  test.each(VALUES)('the text of %s is what counts', (_, value, length) => {
    for (const record of [{ body: value }, { attributes: pairsOf(1, value) }]) {
      const request = requestOf('logs', [record]);
      expect(takes('logs', request, { valueBytesMax: length })).toBe(true);
      expect(takes('logs', request, { valueBytesMax: length - 1 })).toBe(false);
    }
  });

  test.each([1, 127, 128, 20_000])('a body of %i bytes, and one more', (valueBytesMax) => {
    const body = (length: number) => requestOf('logs', [{ body: { stringValue: 'x'.repeat(length) } }]);
    expect(takes('logs', body(valueBytesMax), { valueBytesMax })).toBe(true);
    expect(takes('logs', body(valueBytesMax + 1), { valueBytesMax })).toBe(false);
  });

  test.each([1, 2, 128])('%i events and links of one span, and one more', (most) => {
    const spans = (list: string, count: number) =>
      requestOf('traces', [{ ...IDS, [list]: times(most)({}) }, { ...IDS, [list]: times(count)({}) }]);
    for (const [list, bound] of [['events', 'eventsMax'], ['links', 'linksMax']] as const) {
      expect(takes('traces', spans(list, most), { [bound]: most })).toBe(true);
      expect(takes('traces', spans(list, most + 1), { [bound]: most })).toBe(false);
    }
  });

  test.each(Object.entries(TIMES))('%s: beyond a bound never, within it from 5 s on', (_, [signal, at]) => {
    // Bounds of all kinds of remainders by the step of the comparison.
    for (let step = 0; step < 40; step++) {
      const edgeMs = NOW_MS + step * 997;
      const min = { timeMinMs: edgeMs };
      const max = { timeMaxMs: edgeMs };
      expect(takes(signal, at(nsOf(edgeMs) - 1n), min)).toBe(false);
      expect(takes(signal, at(nsOf(edgeMs + SLACK_MS)), min)).toBe(true);
      expect(takes(signal, at(nsOf(edgeMs) + 1n), max)).toBe(false);
      expect(takes(signal, at(nsOf(edgeMs - SLACK_MS)), max)).toBe(true);
    }
    expect(takes(signal, at(0n), { timeMinMs: NOW_MS })).toBe(false);
    expect(takes(signal, at(0n), { timeMaxMs: NOW_MS })).toBe(true);
    expect(takes(signal, at(2n ** 63n - 1n), { timeMaxMs: NOW_MS })).toBe(false);
    expect(takes(signal, at(2n ** 63n - 1n), { timeMinMs: NOW_MS })).toBe(true);
    expect(takes(signal, at(1n), {})).toBe(true);
  });

  test('the end of a span is bounded in the future only', () => {
    const span = (endTimeUnixNano: bigint) =>
      requestOf('traces', [{ ...IDS, startTimeUnixNano: nsOf(NOW_MS), endTimeUnixNano }]);
    const bounds = { timeMinMs: NOW_MS - 60_000, timeMaxMs: NOW_MS + 60_000 };
    expect(takes('traces', span(0n), bounds)).toBe(true);
    expect(takes('traces', span(nsOf(NOW_MS + 50_000)), bounds)).toBe(true);
    expect(takes('traces', span(nsOf(NOW_MS + 60_001)), bounds)).toBe(false);
    expect(takes('traces', span(2n ** 64n - 1n), bounds)).toBe(false);
    expect(takes('traces', span(2n ** 64n - 1n), {})).toBe(true);
  });

  test('bounds hold for their own call only', () => {
    const request = requestOf('logs', [{ attributes: pairsOf(5) }]);
    expect(takes('logs', request, { attributesMax: 4 })).toBe(false);
    const blocks = engines.logs[engine];
    expect(blocks.append(encode(REQUESTS.logs, request))).toMatchObject({ accepted: 1 });
    expect(blocks.close().map(({ rows }) => rows)).toEqual([1]);
    expect(takes('logs', request, { valueBytesMax: 4 })).toBe(true);
  });

  test('rows that would be too large are no fault of a request that exceeds a bound', () => {
    const resource = { attributes: pairsOf(1, { stringValue: 'x'.repeat(1_000_000) }) };
    const request = requestOf('logs', times(1_000)({}), { resource });
    expect(takes('logs', request, { valueBytesMax: 4_096 })).toBe(false);
    expect(() => takes('logs', request, { valueBytesMax: 1_000_000 })).toThrow(Malformed);
  });

  test('a malformed request is malformed, also when it exceeds a bound before', () => {
    const bytes = Buffer.concat([
      encode(REQUESTS.logs, requestOf('logs', [{ attributes: pairsOf(5) }])), Buffer.from([0x0a, 0x05]),
    ]);
    const blocks = engines.logs[engine];
    expect(() => blocks.appendWithin(bytes, { ...OFF, attributesMax: 1 })).toThrow(Malformed);
    expect(blocks.close()).toEqual([]);
  });
});

describe.each(SIGNALS)('any request: %s', (signal) => {
  /** Mostly not there, so that about half of the requests are within all of them. */
  const most = (...some: readonly number[]) =>
    fc.oneof({ arbitrary: fc.constant(0), weight: 4 }, { arbitrary: fc.constantFrom(...some), weight: 1 });
  const bounds = fc.record({
    attributesMax: most(1, 2, 3),
    valueBytesMax: most(1, 19, 126, 127, 128, 299, 300, 500),
    eventsMax: most(1, 2, 3),
    linksMax: most(1, 2, 3),
    timeMinMs: most(1, NOW_MS),
    timeMaxMs: most(2 ** 43 - 1, NOW_MS),
    nesting: fc.boolean(),
    series: fc.boolean(),
  });

  /** In words; the requests before and after show whether what was not appended has left a trace. */
  function problemOf(blocks: OpenBlocks, bytes: Uint8Array, within: RecordBounds): string | undefined {
    const good = encode(REQUESTS[signal], SAMPLES[signal]);
    const appended = transcode(blocks, [good, bytes, good]);
    blocks.append(good);
    const before = [blocks.rows, blocks.bytes];
    const outcome = blocks.appendWithin(bytes, within);
    const between = [blocks.rows, blocks.bytes];
    blocks.append(good);
    const got = copiesOf(blocks.close());
    const request = decode(REQUESTS[signal], bytes);
    if (outcome === undefined) {
      const near = exceededBounds(signal, request, within, NESTING_MAX, SLACK_MS);
      if (near.size === 0) return 'a false alarm';
      if (String(between) !== String(before)) return `rows and bytes ${between}, not ${before}`;
      return blocksDifference(transcode(blocks, [good, good]).blocks, got);
    }
    const exceeded = exceededBounds(signal, request, within, NESTING_MAX);
    if (exceeded.size > 0) return `taken, but beyond ${[...exceeded]}`;
    expect(outcome).toEqual(appended.outcomes[1]);
    return blocksDifference(appended.blocks, got);
  }

  test('is appended as without bounds, or it exceeds them', () => {
    const cases = fc.tuple(requestArbitrary(signal), bounds, fc.nat());
    fc.assert(fc.property(cases, ([request, within, chaosSeed]) => {
      const chaos = chaosSeed % 2 === 0 ? undefined : fullChaos(seededRandom(chaosSeed));
      const bytes = encode(REQUESTS[signal], request, chaos);
      for (const engine of ENGINES) expect(problemOf(engines[signal][engine], bytes, within)).toBeUndefined();
    }), { seed: SEED, numRuns: 150, interruptAfterTimeLimit: 100_000, markInterruptAsFailure: true });
  });

  test('damaged: both engines agree, and nothing is left of what was not appended', () => {
    const random = seededRandom(SEED);
    const good = encode(REQUESTS[signal], SAMPLES[signal]);
    const undamaged = ENGINES.map((engine) => transcode(engines[signal][engine], [good, good]).blocks);
    for (let run = 0; run < 200; run++) {
      const damaged = mutate(good, random);
      const within = { ...OFF, attributesMax: random.int(9), valueBytesMax: random.int(40), nesting: true };
      const fates = ENGINES.map((engine, i) => {
        const blocks = engines[signal][engine];
        blocks.append(good);
        const fate = fateOf(blocks, damaged, within);
        blocks.append(good);
        const got = copiesOf(blocks.close());
        if (fate !== 'taken') {
          const left = blocksDifference(undamaged[i] ?? [], got);
          expect(left, `seed ${SEED}, run ${run}`).toBeUndefined();
        }
        return fate;
      });
      expect(fates[0], `seed ${SEED}, run ${run}`).toBe(fates[1]);
    }
  });
});

function fateOf(blocks: OpenBlocks, request: Uint8Array, within: RecordBounds): string {
  try {
    return blocks.appendWithin(request, within) === undefined ? 'exceeds' : 'taken';
  } catch (error) {
    if (error instanceof Malformed) return error.message;
    throw error;
  }
}

function copiesOf(blocks: Trial['blocks']): Trial['blocks'] {
  return blocks.map((block) => ({ ...block, bytes: block.bytes.slice() }));
}

test('shards: a request that exceeds a bound leaves none of them a trace', async () => {
  for (const engine of ENGINES) {
    const blocks = await createOpenBlocks('traces', engine, { nestingMax: NESTING_MAX });
    blocks.route([1, 1, 1]);
    const spans = Array.from({ length: 60 }, (_, i) => ({ ...IDS, traceId: Buffer.alloc(16, i + 1) }));
    const good = encode(REQUESTS.traces, requestOf('traces', spans));
    const last = { ...IDS, attributes: pairsOf(9) };
    const beyond = encode(REQUESTS.traces, requestOf('traces', [...spans, last]));
    const without = transcode(blocks, [good, good]).blocks;
    expect(without).toHaveLength(3);
    blocks.append(good);
    expect(blocks.appendWithin(beyond, { ...OFF, attributesMax: 8 })).toBeUndefined();
    blocks.append(good);
    expect(blocksDifference(without, blocks.close())).toBeUndefined();
  }
});
