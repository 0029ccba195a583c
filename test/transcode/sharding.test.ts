/**
 * Goal: the transcoder puts every row on the shard on which a real ClickHouse looks for it: the SQL of the
 * sharding keys gives the same shard for each stored row, a Distributed table with that key sends the same
 * rows to the same servers, and a reader who knows a trace's id is asked of one shard only.
 */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import type { Block } from '../../src/model/block.ts';
import { SIGNALS, type Signal, TABLES, type Table } from '../../src/model/signal.ts';
import { SHARDING_KEYS } from '../../src/transcode/sharding.ts';
import { COLUMNS, SIGNAL_TABLES } from '../../src/transcode/tables.ts';
import { requestArbitrary } from '../oracle/arbitrary.ts';
import { DecodeError } from '../oracle/decode.ts';
import { encode, type PlainMessage } from '../oracle/encode.ts';
import { seededRandom } from '../oracle/random.ts';
import { requestOf, SAMPLES } from '../oracle/samples.ts';
import { type Engines, judge, openAllSignals, transcode } from '../support/otlp.ts';
import { type TestClickHouse, useClickHouse } from '../support/services.ts';
import { type Shards, startShards } from '../support/shards.ts';

const SEED = 20_261_124;
const WEIGHTS: readonly (readonly number[])[] = [
  [1], [1, 1], [1, 2, 1], [0, 1, 3], [9, 10, 10], Array<number>(8).fill(1), [100_000, 300_000],
  Array<number>(128).fill(1),
];

let engines: Readonly<Record<Signal, Engines>>;
beforeAll(async () => {
  engines = await openAllSignals();
});

const names = (table: Table) => COLUMNS[table].map(({ name }) => `\`${name}\``).join(', ');
const structure = (table: Table) => COLUMNS[table].map(({ name, type }) => `\`${name}\` ${type}`).join(', ');

async function post(server: TestClickHouse, sql: string, body: Uint8Array, settings = {}): Promise<void> {
  const url = new URL(server.url);
  const params = Object.entries({ query: sql, ...settings });
  for (const [name, value] of params) url.searchParams.set(name, `${value}`);
  const answer = await fetch(url, { method: 'POST', body });
  expect(await answer.text()).toBe('');
}

const text = (stringValue: string | Uint8Array) => ({ stringValue });
/** Resources of which each has something that could be written in two ways, or hashed in two. */
const RESOURCES: readonly PlainMessage[] = [
  {},
  { attributes: [] },
  { attributes: [{ key: 'service.name', value: text('shop') }, { key: '', value: text('') }] },
  { attributes: [{ key: 'a', value: text('b') }, { key: 'a', value: text('b') }] },
  { attributes: [{ key: 'a', value: text('b=c') }] },
  { attributes: [{ key: 'a=b', value: text('c') }] },
  { attributes: [{ key: 'ü✓\u{1f600}', value: text('\0\n"ä') }] },
  { attributes: [{ key: 'no utf-8', value: text(Buffer.from([255, 0])) }] },
  { attributes: [{ key: 'k'.repeat(127), value: text('v'.repeat(128)) }] },
  { attributes: [{ key: 'x'.repeat(70_000), value: {} }] },
  {
    attributes: [
      { key: 'bool', value: { boolValue: false } }, { key: 'int', value: { intValue: -(2n ** 63n) } },
      { key: 'double', value: { doubleValue: 0.1 } },
      { key: 'bytes', value: { bytesValue: Buffer.from([0, 255]) } },
      { key: 'array', value: { arrayValue: { values: [text('x'), {}, { intValue: 7n }] } } },
      { key: 'map', value: { kvlistValue: { values: [{ key: 'z', value: text('1') }, { key: 'a' }] } } },
      { key: 'nothing', value: {} }, { key: 'no value' },
    ],
  },
];

/** Requests with records for every resource, ids of every kind, and random ones. */
function corpus(signal: Signal): readonly Uint8Array[] {
  const random = seededRandom(SEED);
  const id = (bytes: number) => Uint8Array.from({ length: bytes }, () => random.int(256));
  const record = (index: number): PlainMessage => {
    if (signal === 'metrics') return { name: `metric.${index}`, ...kindOf(index) };
    if (signal === 'traces') return { traceId: id(16), spanId: id(8), name: `${index}` };
    const lengths = [16, 16, 16, 0, 8, 15, 17, 1];
    const traceId = index % 9 === 8 ? new Uint8Array(16) : id(lengths[index % 9] ?? 0);
    return { traceId, spanId: id(8), body: text(`${index}`) };
  };
  const special = RESOURCES.map((resource) => {
    return requestOf(signal, Array.from({ length: 60 }, (_, index) => record(index)), { resource });
  });
  const sampled = fc.sample(requestArbitrary(signal), { seed: SEED, numRuns: 100 });
  const requests = [SAMPLES[signal], ...special, ...sampled].map((one) => encode(REQUESTS[signal], one));
  return requests.filter((request) => !(judge(signal, request) instanceof DecodeError));
}

function kindOf(index: number): PlainMessage {
  const point = { attributes: [{ key: 'point', value: text(`${index}`) }] };
  const data = { dataPoints: [point, {}] };
  const kinds = [{ gauge: data }, { sum: data }, { histogram: data }, { exponentialHistogram: data }];
  return kinds[index % 5] ?? { summary: data };
}

/** By one engine: both write the same bytes (routing.test.ts). */
function routed(signal: Signal, weights: readonly number[]): readonly Block[] {
  engines[signal].wasm.route(weights);
  return transcode(engines[signal].wasm, corpus(signal)).blocks;
}

/** The shard of a row by the rule of Distributed tables, as SQL. */
function shardSql(table: Table, weights: readonly number[]): string {
  const sum = weights.reduce((total, weight) => total + weight, 0);
  const ends = weights.map((_, shard) => weights.slice(0, shard + 1).reduce((a, b) => a + b, 0));
  return `arrayFirstIndex(end -> end > (${SHARDING_KEYS[table]}) % ${sum}, [${ends.join(', ')}]) - 1`;
}

describe('one server', () => {
  const clickhouse = useClickHouse();

  test('the keys are numbers of 32 bits without sign, 0 for nothing', async () => {
    const map = "CAST(map(), 'Map(LowCardinality(String), String)') AS ResourceAttributes";
    const none = `(SELECT '' AS TraceId, ${map}, toLowCardinality('') AS MetricName)`;
    for (const table of TABLES) {
      const key = SHARDING_KEYS[table];
      const rows = await clickhouse.rows(`SELECT toTypeName(${key}) AS type, ${key} AS key FROM ${none}`);
      expect([table, rows]).toEqual([table, [{ type: 'UInt32', key: 0 }]]);
    }
  });

  test.each(SIGNALS)('every row of %s is where the SQL says', async (signal) => {
    for (const table of SIGNAL_TABLES[signal]) {
      const columns = `${structure(table)}, Shard UInt8`;
      await clickhouse.query(`CREATE OR REPLACE TABLE ${table} (${columns}) ENGINE = Memory`);
    }
    for (const weights of WEIGHTS) {
      const blocks = routed(signal, weights);
      if (weights.length <= 8) {
        const used = weights.flatMap((weight, shard) => (weight > 0 ? [shard] : []));
        expect([...new Set(blocks.map(({ shard }) => shard))]).toEqual(used);
      }
      for (const { table, shard, bytes } of blocks) {
        const select = `SELECT ${names(table)}, ${shard} FROM input('${structure(table)}')`;
        const insert = `INSERT INTO ${table} (${names(table)}, Shard) ${select} FORMAT Native`;
        await post(clickhouse, insert, bytes);
      }
      for (const table of SIGNAL_TABLES[signal]) {
        const ours = blocks.filter((block) => block.table === table);
        const rows = ours.reduce((sum, block) => sum + block.rows, 0);
        const wrong = `countIf(Shard != ${shardSql(table, weights)})`;
        const found = await clickhouse.rows(`SELECT count() AS rows, ${wrong} AS wrong FROM ${table}`);
        expect([table, weights, found]).toEqual([table, weights, [{ rows: `${rows}`, wrong: '0' }]]);
        await clickhouse.query(`TRUNCATE TABLE ${table}`);
      }
    }
  });
});

describe('a cluster', () => {
  let shards: Shards;
  beforeAll(async () => {
    shards = await startShards(3, { weights: [1, 2, 1] });
    for (const server of shards.servers) {
      for (const table of TABLES) {
        for (const name of [`${table}_local`, `${table}_ours`]) {
          const columns = structure(table);
          await server.query(`CREATE TABLE ${name} (${columns}) ENGINE = MergeTree ORDER BY tuple()`);
        }
        const engine = `Distributed('${shards.name}', 'default', '${table}_local', ${SHARDING_KEYS[table]})`;
        await server.query(`CREATE TABLE ${table} (${structure(table)}) ENGINE = ${engine}`);
      }
    }
  });
  afterAll(() => shards.stop());

  const server = (shard: number): TestClickHouse => {
    const found = shards.servers[shard];
    if (found === undefined) throw new Error(`no shard ${shard}`);
    return found;
  };

  /** All rows of a table on one server, whatever their order. */
  async function contents(shard: number, name: string, table: Table): Promise<unknown> {
    const hash = `sum(cityHash64(toString(tuple(${names(table)}))))`;
    return server(shard).rows(`SELECT count() AS rows, ${hash} AS hash FROM ${name}`);
  }

  const definitions = [{ weights: [1, 2, 1] }, { weights: [1, 1] }];
  test.each(definitions)('a Distributed table sends the same rows to the same servers: $weights', async ({
    weights,
  }) => {
    if (weights.length === 2) await shards.define(weights);
    const settings = { distributed_foreground_insert: 1, async_insert: 0 };
    for (const signal of SIGNALS) {
      for (const { table, shard, bytes } of routed(signal, weights)) {
        await post(server(0), `INSERT INTO ${table} FORMAT Native`, bytes, settings);
        await post(server(shard), `INSERT INTO ${table}_ours FORMAT Native`, bytes);
      }
    }
    for (const table of TABLES) {
      for (const shard of weights.keys()) {
        const there = await contents(shard, `${table}_local`, table);
        expect([table, shard, await contents(shard, `${table}_ours`, table)]).toEqual([table, shard, there]);
        expect(there).not.toEqual([{ rows: '0', hash: '0' }]);
        await server(shard).query(`TRUNCATE TABLE ${table}_local`);
        await server(shard).query(`TRUNCATE TABLE ${table}_ours`);
      }
    }
  });

  test('who knows the id of a trace asks its shard only', async () => {
    const settings = 'optimize_skip_unused_shards = 1, force_optimize_skip_unused_shards = 2';
    const ids = Array.from({ length: 8 }, (_, index) => Buffer.alloc(16, 16 + index));
    const spans = ids.map((traceId) => ({ traceId, spanId: Buffer.alloc(8, 1) }));
    engines.traces.wasm.route([1, 1]);
    const request = encode(REQUESTS.traces, requestOf('traces', spans));
    for (const { shard, bytes } of transcode(engines.traces.wasm, [request]).blocks) {
      await post(server(shard), 'INSERT INTO otel_traces_local FORMAT Native', bytes);
    }
    const found = (where: string) =>
      server(0).rows(`SELECT count() AS spans FROM otel_traces WHERE ${where} SETTINGS ${settings}`);
    for (const id of ids) {
      expect(await found(`TraceId = '${id.toString('hex')}'`)).toEqual([{ spans: '1' }]);
    }
    expect(await found(`TraceId IN (${ids.map((id) => `'${id.toString('hex')}'`).join(', ')})`))
      .toEqual([{ spans: '8' }]);
    await expect(found("SpanId = '0101010101010101'")).rejects.toThrow('Code: 507');
    // With the server of shard 1 gone, the traces of shard 0 are still found, and no others.
    await server(1).stop();
    const answers = await Promise.allSettled(ids.map((id) => found(`TraceId = '${id.toString('hex')}'`)));
    const answered = ids.filter((_, index) => answers[index]?.status === 'fulfilled');
    expect(answered).toEqual(ids.filter((id) => id.readUInt32BE(12) % 2 === 0));
  });
});

test('every table has its key', () => {
  expect(Object.keys(SHARDING_KEYS).sort()).toEqual([...TABLES].sort());
});
