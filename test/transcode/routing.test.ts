/**
 * Goal: rows are shared out among shards exactly by their keys, whatever form a request has: each shard's
 * block has the rows that an independent decoder gives it, in their order; both engines write the same bytes;
 * what is taken back leaves no trace in any shard's block; and weights may change at any time.
 */
import { crc32 as zlibCrc32 } from 'node:zlib';
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import { type Block, Malformed, type OpenBlocks } from '../../src/model/block.ts';
import { SIGNALS, type Signal, TABLES, type Table } from '../../src/model/signal.ts';
import { arena, alloc } from '../../src/transcode/memory.ts';
import { createOpenBlocks } from '../../src/transcode/open-blocks.ts';
import { crc32 } from '../../src/transcode/shard-key.ts';
import { requestArbitrary } from '../oracle/arbitrary.ts';
import { joinRows, type Tables, tablesDifference } from '../oracle/compare.ts';
import { DecodeError } from '../oracle/decode.ts';
import { encode, fullChaos, type PlainMessage } from '../oracle/encode.ts';
import { mutate } from '../oracle/mutate.ts';
import { seededRandom } from '../oracle/random.ts';
import type { Row } from '../oracle/rows.ts';
import { requestOf } from '../oracle/samples.ts';
import { shardByWeights, shardKeyOf } from '../oracle/shards.ts';
import {
  ENGINES, type Engines, judge, NESTING_MAX, openAllSignals, outcomesProblem, rowsOf, transcode, type Trial,
  trialDifference,
} from '../support/otlp.ts';

const PARAMETERS = { seed: 20_261_121, interruptAfterTimeLimit: 100_000, markInterruptAsFailure: true };
const WEIGHTS: readonly (readonly number[])[] = [
  [1, 1], [1, 2, 1], [0, 1, 3], [3, 0, 0, 1, 0], Array<number>(8).fill(1), Array<number>(128).fill(1),
  [70_000, 1, 30_000], [2 ** 31, 0, 2 ** 31 - 1], [0, 0, 5],
];
const LIMITS = { nestingMax: NESTING_MAX };

let engines: Readonly<Record<Signal, Engines>>;
beforeAll(async () => {
  engines = await openAllSignals();
});

/**
 * A record whose trace id was guessed wrong is read a second time, after others of its scope that were sent
 * later.
 */
type Order = 'as sent' | 'any';

/** Both engines by these weights, which stay; the first thing that is wrong. */
function routedProblem(
  signal: Signal, weights: readonly number[], requests: readonly Uint8Array[], order: Order = 'as sent',
): string | undefined {
  const [plain, wasm] = ENGINES.map((engine): Trial => {
    engines[signal][engine].route(weights);
    return transcode(engines[signal][engine], requests);
  });
  if (plain === undefined || wasm === undefined) throw new Error('two engines');
  const places = ({ blocks }: Trial) => blocks.map(({ shard, table, rows }) => [shard, table, rows]);
  const [here, there] = [JSON.stringify(places(plain)), JSON.stringify(places(wasm))];
  if (here !== there) return `wasm unlike plain: ${there}, not ${here}`;
  return outcomesProblem(signal, requests, plain)
    ?? rowsProblem(signal, weights, requests, plain, order)
    ?? trialDifference(plain, wasm);
}

/** Compares each shard's rows with those that the oracle sees in the requests and gives to it. */
function rowsProblem(
  signal: Signal, weights: readonly number[], requests: readonly Uint8Array[], routed: Trial, order: Order,
): string | undefined {
  const judged = requests.flatMap((request, index) => {
    const rows = judge(signal, request);
    return routed.outcomes[index] instanceof Malformed || rows instanceof DecodeError ? [] : [rows];
  });
  const expected = byShard(weights, joinRows(judged));
  const places = routed.blocks.map(({ shard, table }) => shard * TABLES.length + TABLES.indexOf(table));
  if (places.some((place, index) => index > 0 && place <= (places[index - 1] ?? 0))) return `order ${places}`;
  for (const shard of weights.keys()) {
    const blocks = routed.blocks.filter((block) => block.shard === shard);
    const wanted = inOrder(expected.get(shard) ?? new Map(), order);
    const problem = tablesDifference(wanted, inOrder(rowsOf(blocks), order));
    if (problem !== undefined) return `shard ${shard} of [${weights}]: ${problem}`;
  }
  return undefined;
}

function inOrder(tables: Tables, order: Order): Tables {
  if (order === 'as sent') return tables;
  const text = (row: Row) =>
    JSON.stringify(row, (_, value: unknown) => (typeof value === 'bigint' ? `${value}n` : value));
  const sorted = (rows: readonly Row[]) => [...rows].sort((a, b) => (text(a) < text(b) ? -1 : 1));
  return new Map([...tables].map(([table, rows]) => [table, sorted(rows)]));
}

function byShard(weights: readonly number[], tables: ReadonlyMap<Table, readonly Row[]>) {
  const shards = new Map<number, Map<Table, Row[]>>();
  for (const [table, rows] of tables) {
    for (const row of rows) {
      const shard = shardByWeights(weights, shardKeyOf(table, row));
      const found = shards.get(shard) ?? new Map<Table, Row[]>();
      shards.set(shard, found);
      found.set(table, [...(found.get(table) ?? []), row]);
    }
  }
  return shards;
}

describe('the checksum', () => {
  test('is that of zlib, for every length and every place in memory', () => {
    const region = alloc(1024);
    const random = seededRandom(3);
    for (let n = 0; n < 300; n++) {
      const at = region + random.int(9);
      const bytes = Uint8Array.from({ length: n }, () => random.int(256));
      arena().set(bytes, at);
      expect([n, crc32(at, n)]).toEqual([n, zlibCrc32(bytes)]);
    }
  });
});

describe.each(SIGNALS)('%s', (signal) => {
  test('requests in every form, by every kind of weights', () => {
    const requests = fc.array(fc.tuple(requestArbitrary(signal), fc.nat()), { minLength: 1, maxLength: 4 });
    fc.assert(fc.property(requests, fc.constantFrom(...WEIGHTS), (some, weights) => {
      const bodies = some.map(([request, chaosSeed]) => {
        const chaos = chaosSeed % 3 === 0 ? undefined : fullChaos(seededRandom(chaosSeed));
        return encode(REQUESTS[signal], request, chaos);
      });
      expect(routedProblem(signal, weights, bodies)).toBeUndefined();
    }), { ...PARAMETERS, numRuns: 250 });
  });

  test('damaged requests among good ones leave no trace', () => {
    const random = seededRandom(11);
    const good = encode(REQUESTS[signal], varied(signal, 40));
    for (let run = 0; run < 150; run++) {
      const damaged = [mutate(good, random), mutate(good, random)];
      expect(routedProblem(signal, random.pick(WEIGHTS), [good, ...damaged, good])).toBeUndefined();
    }
  });

  test.each(ENGINES)('%s: a request that fails at its end is taken back from every shard', (engine) => {
    const blocks = engines[signal][engine];
    blocks.route(Array<number>(16).fill(1));
    const first = encode(REQUESTS[signal], varied(signal, 7));
    const large = encode(REQUESTS[signal], varied(signal, 300));
    const cut = large.subarray(0, large.length - 1);
    const without = transcode(blocks, [first, first]);
    const among = transcode(blocks, [cut, first, cut, first, cut]);
    expect(among.outcomes.filter((outcome) => outcome instanceof Malformed)).toHaveLength(3);
    expect(trialDifference({ ...without, outcomes: [] }, among)).toBeUndefined();
    expect(among.blocks.map(({ shard }) => shard)).toEqual(without.blocks.map(({ shard }) => shard));
  });

  test.each(ENGINES)('%s: one weight is one shard, and the estimate counts all of them', async (engine) => {
    const blocks = await createOpenBlocks(signal, engine, LIMITS);
    const request = encode(REQUESTS[signal], varied(signal, 200));
    const whole = transcode(blocks, [request]).blocks;
    blocks.route([7]);
    expect(transcode(blocks, [request]).blocks).toEqual(whole);
    blocks.route(Array<number>(8).fill(1));
    blocks.append(request);
    const { rows, bytes } = blocks;
    const parts = blocks.close();
    expect(new Set(parts.map(({ shard }) => shard)).size).toBe(8);
    expect(rows).toBe(parts.reduce((sum, part) => sum + part.rows, 0));
    const size = parts.reduce((sum, part) => sum + part.bytes.length, 0);
    expect(bytes).toBeGreaterThan(size * 0.7);
    expect(bytes).toBeLessThan(size * 1.5);
    expect([blocks.rows, blocks.bytes, blocks.close()]).toEqual([0, 0, []]);
  });
});

/** A request with `count` records of keys that differ, in three resources, some of them without a trace. */
function varied(signal: Signal, count: number): PlainMessage {
  const random = seededRandom(count);
  const id = (bytes: number) => Uint8Array.from({ length: bytes }, () => random.int(256));
  const records = (resource: number) => Array.from({ length: count }, (_, index): PlainMessage => {
    if (signal === 'metrics') {
      const name = `metric.${index}.${resource}`;
      const dataPoints = [{}, { attributes: [{ key: 'k', value: { intValue: index } }] }];
      return index % 2 === 0 ? { name, gauge: { dataPoints } } : { name, summary: { dataPoints } };
    }
    const ids = { traceId: id(16), spanId: id(8) };
    const attributes = [{ key: `key${index % 9}`, value: { stringValue: `value ${index}` } }];
    if (signal === 'traces') return { ...ids, name: `span ${index % 5}`, kind: index % 6, attributes };
    return { ...(index % 3 === 0 ? {} : ids), body: { stringValue: `line ${index}` }, attributes };
  });
  const levels = [0, 1, 2].map((resource) => {
    const attributes = [{ key: 'pod', value: { stringValue: `pod-${resource}` } }];
    return requestOf(signal, records(resource), resource === 0 ? {} : { resource: { attributes } });
  });
  const [name = ''] = Object.keys(levels[0] ?? {});
  return { [name]: levels.flatMap((level) => level[name] as PlainMessage[]) };
}

/** Fields of a span or log record as they lie on the wire, in any order. */
const field = (tag: number, content: Uint8Array) =>
  Buffer.concat([Buffer.from([tag, content.length]), content]);
const TRACE = { traces: 0x0a, logs: 0x4a } as const;
const SPAN = { traces: 0x12, logs: 0x52 } as const;
const ATTRIBUTE = { traces: 0x4a, logs: 0x32 } as const;

function around(records: readonly Uint8Array[]): Uint8Array {
  const scope = Buffer.concat(records.map((record) => varLength(0x12, record)));
  return varLength(0x0a, varLength(0x12, scope));
}

function varLength(tag: number, content: Uint8Array): Buffer {
  const head = [tag];
  for (let left = content.length; ; left >>>= 7) {
    head.push(left > 127 ? (left & 127) | 128 : left);
    if (left < 128) return Buffer.concat([Buffer.from(head), content]);
  }
}

describe.each(['traces', 'logs'] as const)('a trace id that is hard to find, in %s', (signal) => {
  const random = seededRandom(17);
  const id = (n: number) => Buffer.from(Uint8Array.from({ length: n }, () => random.int(256)));
  const span = () => field(SPAN[signal], id(8));
  const trace = (n = 16) => field(TRACE[signal], id(n));
  const attribute = () => {
    const key = Buffer.concat([Buffer.from([10, 1]), Buffer.from(`${random.int(10)}`)]);
    return field(ATTRIBUTE[signal], Buffer.concat([key, Buffer.from([18, 3, 10, 1, 120])]));
  };
  const time = (tag: number) => Buffer.concat([Buffer.from([tag]), id(7), Buffer.from([0])]);
  /** A status or a body whose halves have to be merged, so that a copy is made at each reading. */
  const pieces = () => {
    const [tag, inner] = signal === 'traces' ? [0x7a, [18, 1, 97]] : [0x2a, [0x2a, 2, 10, 0]];
    return Buffer.concat([field(tag, Buffer.from(inner)), field(tag, Buffer.from(inner))]);
  };
  const zeros = field(TRACE[signal], Buffer.alloc(16));
  const overlongTag = Buffer.from([TRACE[signal] | 128, 0, 16]);
  const overlongLength = Buffer.from([TRACE[signal], 144, 0]);
  const eventName = field(98, Buffer.from('name'));
  const FORMS: readonly (readonly [string, () => Uint8Array])[] = [
    ['twice', () => Buffer.concat([trace(), span(), attribute(), trace(), attribute()])],
    ['twice, behind pieces', () => Buffer.concat([pieces(), trace(), attribute(), span(), trace()])],
    ['at the very end', () => Buffer.concat([span(), attribute(), attribute(), trace()])],
    ['of a wrong length after a right one', () => Buffer.concat([trace(), attribute(), span(), trace(15)])],
    ['of a right length after a wrong one', () => Buffer.concat([trace(3), span(), attribute(), trace()])],
    ['of zeros', () => Buffer.concat([zeros, span()])],
    ['of zeros, then another', () => Buffer.concat([zeros, span(), trace()])],
    ['not there', () => Buffer.concat([span(), attribute()])],
    ['with an overlong tag', () => Buffer.concat([overlongTag, id(16), span()])],
    ['with an overlong length', () => Buffer.concat([overlongLength, id(16), span()])],
  ];
  const LOGS: readonly (readonly [string, () => Uint8Array])[] = [
    ['before the time of observation', () => Buffer.concat([attribute(), trace(), span(), time(89)])],
    ['before an event name', () => Buffer.concat([trace(), span(), time(89), eventName])],
    ['without a span', () => Buffer.concat([attribute(), trace(), time(89)])],
    ['the end of a body looks like one', () => field(42, field(10, trace()))],
    ['the end of a body looks like all', () =>
      field(42, field(10, Buffer.concat([trace(), span(), time(89)])))],
  ];
  const all = signal === 'logs' ? [...FORMS, ...LOGS] : FORMS;

  test.each(all)('%s', (_, form) => {
    const request = around(Array.from({ length: 60 }, form));
    for (const weights of WEIGHTS) {
      expect(routedProblem(signal, weights, [request, request], 'any')).toBeUndefined();
    }
  });

  test('all of them in turn', () => {
    const request = around(Array.from({ length: 300 }, (_, i) => all[i % all.length]?.[1]() ?? span()));
    for (const weights of WEIGHTS) expect(routedProblem(signal, weights, [request], 'any')).toBeUndefined();
  });
});

describe.each(['traces', 'logs'] as const)('%s', (signal) => {
  test('a record that is read twice may have as many merged pieces as one that is read once', () => {
    // One text in four levels of each two pieces: copies of nearly four times the request, the most allowed.
    let value: Uint8Array = encode('AnyValue', { stringValue: 'x'.repeat(20_000) });
    for (let level = 0; level < 3; level++) {
      value = Buffer.concat([varLength(0x2a, varLength(0x0a, value)), varLength(0x2a, Buffer.alloc(0))]);
    }
    const attribute = Buffer.concat([varLength(0x12, value), varLength(0x12, Buffer.alloc(0))]);
    const [here, there] = [Buffer.alloc(16, 2), Buffer.alloc(16, 3)];
    const ids = [field(TRACE[signal], here), field(SPAN[signal], here.subarray(8))];
    const rest = varLength(ATTRIBUTE[signal], attribute);
    // The guess is a first id that another one overrules, or an event's name that looks like one.
    const misleading = field(0x62, field(TRACE[signal], there));
    const span = [...ids, rest, field(TRACE[signal], there)];
    const request = around([Buffer.concat(signal === 'traces' ? span : [...ids, rest, misleading])]);
    for (const weights of [[1], [1, 1]]) expect(routedProblem(signal, weights, [request])).toBeUndefined();
  });
});

test('a resource that every shard would have to copy is refused before it fills the memory', async () => {
  const blocks = await createOpenBlocks('logs', 'wasm', LIMITS);
  const weights = Array<number>(128).fill(1);
  const resource = { attributes: [{ key: 'large', value: { stringValue: 'x'.repeat(8_000_000) } }] };
  const spread = (count: number) => {
    const records = Array.from({ length: count }, (_, index) => ({ traceId: Buffer.alloc(16, index + 1) }));
    return encode(REQUESTS.logs, requestOf('logs', records, { resource }));
  };
  expect(blocks.append(spread(50))).toMatchObject({ accepted: 50 });
  expect(blocks.close()).toHaveLength(1);
  blocks.route(weights);
  blocks.append(spread(2));
  expect(() => blocks.append(spread(50))).toThrow(Malformed);
  expect(blocks.close().map(({ shard, rows }) => [shard, rows])).toEqual([[1, 1], [2, 1]]);
});

describe.each(ENGINES)('%s: weights that change', (engine) => {
  const one = encode(REQUESTS.traces, varied('traces', 30));
  const rows = (blocks: readonly Block[]) => blocks.map((block) => [block.shard, block.rows]);
  const counts = (weights: readonly number[], times = 1) => {
    const judged = judge('traces', one);
    if (judged instanceof DecodeError) throw judged;
    return [...byShard(weights, joinRows([judged])).entries()]
      .map(([shard, tables]) => [shard, (tables.get('otel_traces')?.length ?? 0) * times])
      .sort(([a = 0], [b = 0]) => a - b);
  };
  let blocks: OpenBlocks;
  beforeAll(async () => {
    blocks = await createOpenBlocks('traces', engine, LIMITS);
  });

  test('rows that are in stay where they are, and a shard with weight 0 gets no more', () => {
    blocks.append(one);
    blocks.route([0, 1, 1]);
    blocks.append(one);
    blocks.append(one);
    expect(rows(blocks.close())).toEqual([[0, 90], ...counts([0, 1, 1], 2)]);
  });

  test('shards that are gone are closed once more', () => {
    blocks.route([1, 1, 1, 1]);
    blocks.append(one);
    blocks.route([1]);
    const all = rows(blocks.close());
    expect(all).toEqual(counts([1, 1, 1, 1]));
    blocks.append(one);
    expect(rows(blocks.close())).toEqual([[0, 90]]);
  });

  test('they outlive the memory', async () => {
    const logs = await createOpenBlocks('logs', engine, LIMITS);
    logs.route([0, 1]);
    const huge = requestOf('logs', [{ body: { stringValue: 'y'.repeat(70_000_000) } }]);
    logs.append(encode(REQUESTS.logs, huge));
    expect(logs.close().map(({ shard }) => shard)).toEqual([1]);
    logs.append(encode(REQUESTS.logs, requestOf('logs', [{}])));
    expect(logs.close().map(({ shard }) => shard)).toEqual([1]);
  });

  test.each([
    [[]], [[0, 0]], [[1, -1]], [[1, 0.5]], [[2 ** 31, 2 ** 31]], [Array<number>(129).fill(1)],
  ])('%j are none', (weights) => {
    expect(() => blocks.route(weights)).toThrow(/assertion failed/);
  });
});
