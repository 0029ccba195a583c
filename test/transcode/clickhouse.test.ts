/**
 * Goal: a real ClickHouse takes the blocks of every table (one row, 100,000 rows, many blocks after each
 * other, zstd frames after each other) and gives back every value as the oracle expects it.
 */
import { zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import { SIGNALS, type Signal, signalOf, TABLES, type Table } from '../../src/model/signal.ts';
import { COLUMNS } from '../../src/transcode/tables.ts';
import { requestArbitrary } from '../oracle/arbitrary.ts';
import { joinRows, tablesDifference } from '../oracle/compare.ts';
import { DecodeError } from '../oracle/decode.ts';
import { encode, type PlainMessage } from '../oracle/encode.ts';
import { decodeNative } from '../oracle/native.ts';
import type { Row } from '../oracle/rows.ts';
import { requestOf, SAMPLES } from '../oracle/samples.ts';
import {
  bodyOf, type Engines, isJson, judge, openAllSignals, readVectors, transcode,
} from '../support/otlp.ts';
import { useClickHouse } from '../support/services.ts';

const SEED = 20_261_123;
const clickhouse = useClickHouse();

let engines: Readonly<Record<Signal, Engines>>;
beforeAll(async () => {
  engines = await openAllSignals();
});

const columnsOf = (table: Table) => COLUMNS[table].map(({ name }) => `\`${name}\``).join(', ');

async function createTable(name: string, table: Table): Promise<void> {
  const columns = COLUMNS[table].map((column) => `\`${column.name}\` ${column.type}`).join(', ');
  await clickhouse.query(`CREATE OR REPLACE TABLE ${name} (${columns}) ENGINE = MergeTree ORDER BY tuple()`);
}

async function insert(name: string, table: Table, body: Uint8Array, encoding?: 'zstd'): Promise<void> {
  const url = new URL(clickhouse.url);
  url.searchParams.set('query', `INSERT INTO ${name} (${columnsOf(table)}) FORMAT Native`);
  const headers: Record<string, string> = encoding === undefined ? {} : { 'Content-Encoding': encoding };
  const answer = await fetch(url, { method: 'POST', body, headers });
  expect(await answer.text()).toBe('');
  expect(answer.status).toBe(200);
}

/** In the order in which they were inserted: one insert, one part. */
async function stored(name: string, table: Table): Promise<readonly Row[]> {
  const url = new URL(clickhouse.url);
  const select = `SELECT ${columnsOf(table)} FROM ${name} ORDER BY _part, _part_offset FORMAT Native`;
  url.searchParams.set('query', select);
  const answer = await fetch(url);
  return decodeNative(new Uint8Array(await answer.arrayBuffer())).flatMap(({ rows }) => rows);
}

/** Vectors, the samples with everything in them, and random requests; only what is a message. */
function mixedCorpus(signal: Signal): readonly Uint8Array[] {
  const skipped = /^(ce-.*|bomb-.*|amplify-.*)$/;
  const ours = readVectors().filter((vector) => vector.signal === signal && !isJson(vector));
  const vectors = ours.filter(({ id }) => !skipped.test(id));
  const random = fc.sample(requestArbitrary(signal), { seed: SEED, numRuns: 100 });
  const made = [SAMPLES[signal], ...random].map((one) => encode(REQUESTS[signal], one));
  const requests = [...vectors.map(bodyOf), ...made];
  return requests.filter((request) => !(judge(signal, request) instanceof DecodeError));
}

describe.each(SIGNALS)('a mixed corpus of %s', (signal) => {
  const encodings = [undefined, 'zstd'] as const;
  test.each(encodings)('a block for each request, all in one insert, compression %s', async (encoding) => {
    const corpus = mixedCorpus(signal);
    const expected = joinRows(corpus.flatMap((request) => {
      const judged = judge(signal, request);
      return judged instanceof DecodeError ? [] : [judged];
    }));
    const bodies = new Map<Table, Uint8Array[]>();
    for (const request of corpus) {
      for (const { table, bytes } of transcode(engines[signal].wasm, [request]).blocks) {
        const frame = encoding === 'zstd' ? zstdCompressSync(bytes) : bytes;
        bodies.set(table, [...(bodies.get(table) ?? []), frame]);
      }
    }
    const tables = TABLES.filter((table) => signalOf(table) === signal);
    const actual = new Map<Table, readonly Row[]>();
    for (const table of tables) {
      await createTable('mixed', table);
      await insert('mixed', table, Buffer.concat(bodies.get(table) ?? []), encoding);
      actual.set(table, await stored('mixed', table));
    }
    expect([...expected.keys()]).toEqual(tables);
    expect(tablesDifference(expected, actual)).toBeUndefined();
  });

  test('the whole corpus in one block for each table', async () => {
    const corpus = mixedCorpus(signal);
    for (const { table, rows, bytes } of transcode(engines[signal].plain, corpus).blocks) {
      await createTable('joined', table);
      await insert('joined', table, bytes);
      expect(await stored('joined', table)).toEqual(decodeNative(bytes)[0]?.rows);
      expect(await clickhouse.rows('SELECT count() AS rows FROM joined')).toEqual([{ rows: String(rows) }]);
    }
  });
});

const DISTINCT = 2_000;
const REPEATED = 50;

/** A request with one record per number, each with a key and a time of its own. */
function numbered(table: Table, count: number): Uint8Array {
  const records = Array.from({ length: count }, (_, index): PlainMessage => ({
    timeUnixNano: BigInt(index), attributes: [{ key: `key${index}`, value: { intValue: index } }],
  }));
  if (table === 'otel_logs') return encode(REQUESTS.logs, requestOf('logs', records));
  if (table === 'otel_traces') {
    const spans = records.map(({ timeUnixNano, attributes }) => ({
      traceId: Buffer.alloc(16, 1), spanId: Buffer.alloc(8, 2), startTimeUnixNano: timeUnixNano, attributes,
      events: [{ name: 'event', attributes }], links: [{ traceId: Buffer.alloc(16, 3), attributes }],
    }));
    return encode(REQUESTS.traces, requestOf('traces', spans));
  }
  const kind = table.replace('otel_metrics_', '').replace('exponential_histogram', 'exponentialHistogram');
  const metrics = [{ name: 'numbered', [kind]: { dataPoints: records } }];
  return encode(REQUESTS.metrics, requestOf('metrics', metrics));
}

describe.each(TABLES)('%s', (table) => {
  const signal = signalOf(table);
  const time = signal === 'metrics' ? 'TimeUnix' : 'Timestamp';
  const number = `toUnixTimestamp64Nano(${time})`;
  const totals = `SELECT count() AS rows, uniqExact(${time}) AS times, sum(${number}) AS sum FROM numbered`;

  test('nothing gives no block, one row a block of one', async () => {
    await createTable('numbered', table);
    expect(transcode(engines[signal].wasm, [new Uint8Array(), numbered(table, 0)]).blocks).toEqual([]);
    const { blocks } = transcode(engines[signal].wasm, [numbered(table, 1)]);
    expect(blocks.map((block) => [block.table, block.rows])).toEqual([[table, 1]]);
    await insert('numbered', table, blocks[0]?.bytes ?? new Uint8Array());
    expect(await clickhouse.rows(totals)).toEqual([{ rows: '1', times: '1', sum: '0' }]);
  });

  test('100,000 rows in one block', async () => {
    await createTable('numbered', table);
    const request = numbered(table, DISTINCT);
    const { blocks } = transcode(engines[signal].wasm, Array.from({ length: REPEATED }, () => request));
    expect(blocks.map(({ rows }) => rows)).toEqual([DISTINCT * REPEATED]);
    await insert('numbered', table, zstdCompressSync(blocks[0]?.bytes ?? new Uint8Array()), 'zstd');
    const sum = REPEATED * (DISTINCT * (DISTINCT - 1)) / 2;
    const wanted = { rows: String(DISTINCT * REPEATED), times: String(DISTINCT), sum: String(sum) };
    expect(await clickhouse.rows(totals)).toEqual([wanted]);
    const attributes = { traces: 'SpanAttributes', logs: 'LogAttributes', metrics: 'Attributes' }[signal];
    const right = `map(concat('key', toString(${number})), toString(${number}))`;
    const wrong = `SELECT count() AS wrong FROM numbered WHERE ${attributes} != ${right}`;
    expect(await clickhouse.rows(wrong)).toEqual([{ wrong: '0' }]);
  });
});
