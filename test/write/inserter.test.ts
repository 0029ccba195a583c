/**
 * Goal: an insert is all or nothing, and however often the same batch is sent, its rows are stored once; in
 * the table and in what its views feed, over lost answers, broken sources and refusals, with bounded memory.
 */
import { randomBytes } from 'node:crypto';
import { ClickHouseLogLevel, createClient } from '@clickhouse/client';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { sleep } from '../../src/base/clock.ts';
import { Fault } from '../../src/base/errors.ts';
import { type ClickHouse, close, createClickHouse, probe } from '../../src/clickhouse/client.ts';
import type { Layout } from '../../src/model/batch.ts';
import { type InsertResult, type Target, insertBatch } from '../../src/write/inserter.ts';
import { eventually, silent, useClickHouse } from '../support/services.ts';
import {
  DATABASE, INSERT_OPTIONS, type TestBatch, chunksOf, createTable, makeBatch, nativeBlock, sealed,
} from './batches.ts';
import { startLink } from './link.ts';

const NEVER_STOPPED = new AbortController().signal;
const clickhouse = useClickHouse();

function connect(url = clickhouse.url): ClickHouse {
  const settings = { insertTimeoutMs: 20_000, queryTimeoutMs: 10_000 };
  return createClickHouse(url, settings, silent);
}

let target: Target;

beforeAll(async () => {
  const server = connect();
  target = { server, info: await probe(server), replicas: 1, live: 1 };
  await clickhouse.query(`CREATE DATABASE ${DATABASE}`);
  return () => close(server);
});

beforeEach(async () => {
  await clickhouse.query(`DROP DATABASE ${DATABASE}`);
  await clickhouse.query(`CREATE DATABASE ${DATABASE}`);
  await clickhouse.query(createTable());
});

function insert(test: TestBatch, chunks = chunksOf(test), options = INSERT_OPTIONS): Promise<InsertResult> {
  return insertBatch(target, options, test.batch, chunks, NEVER_STOPPED);
}

async function count(table = 'otel_logs'): Promise<{ rows: number; ids: number }> {
  const [row] = await clickhouse.rows<{ rows: string; ids: string }>(
    `SELECT count() AS rows, uniqExact(Id) AS ids FROM ${DATABASE}.${table}`);
  return { rows: Number(row?.rows), ids: Number(row?.ids) };
}

async function refusal(result: Promise<InsertResult>): Promise<Fault> {
  const ended = await result;
  if (ended.kind !== 'refused') throw new Error(`the insert ended as ${ended.kind}`);
  return ended.fault;
}

/** A batch of this many MB. The server only begins with an insert when it has 256 KiB of its body. */
function large(megabytes: number, layout: Layout = 'r1'): TestBatch {
  const random = randomBytes(1_000_000).toString('base64');
  const body = (id: number) => random.slice((id * 7) % 1_000_000).slice(0, 1000);
  return makeBatch({ layout, fragments: megabytes, rows: 1000, body });
}

describe('whole', () => {
  test.each(['z1', 'r1'] as const)('fragments of layout %s are stored as they are', async (layout) => {
    const batch = makeBatch({ layout, fragments: 3, rows: 50, body: (id) => `é ${id}` });
    expect(await insert(batch)).toEqual({ kind: 'stored' });
    expect(await count()).toEqual({ rows: 150, ids: 150 });
    const wrong = `SELECT Id FROM ${DATABASE}.otel_logs WHERE Body != concat('é ', toString(Id))`;
    expect(await clickhouse.rows(wrong)).toEqual([]);
  });
});

test('a quorum is asked for, and means nothing to a table without replicas', async () => {
  const batch = makeBatch();
  const asking = { ...target, replicas: 3, live: 3 };
  const options = { ...INSERT_OPTIONS, insertQuorum: 'auto' } as const;
  expect(await insertBatch(asking, options, batch.batch, chunksOf(batch), NEVER_STOPPED)).toEqual({ kind: 'stored' });
  expect(await count()).toEqual({ rows: 400, ids: 400 });
});

test('on a cluster the rows go to the local table', async () => {
  await clickhouse.query(`RENAME TABLE ${DATABASE}.otel_logs TO ${DATABASE}.otel_logs_local`);
  const batch = makeBatch();
  const options = { ...INSERT_OPTIONS, tableName: (table: string) => `${table}_local` };
  expect(await insert(batch, chunksOf(batch), options)).toEqual({ kind: 'stored' });
  expect(await count('otel_logs_local')).toEqual({ rows: 400, ids: 400 });
});

describe('once', () => {
  test('the same batch sent twice is stored once, in the table and in what a view feeds', async () => {
    await clickhouse.query(`CREATE TABLE ${DATABASE}.sums (Id UInt64, N UInt64) ENGINE = MergeTree ORDER BY Id
      SETTINGS non_replicated_deduplication_window = 1000`);
    await clickhouse.query(`CREATE MATERIALIZED VIEW ${DATABASE}.sums_mv TO ${DATABASE}.sums AS
      SELECT Id % 10 AS Id, count() AS N FROM ${DATABASE}.otel_logs GROUP BY Id`);
    const batch = makeBatch();
    await insert(batch);
    const again = await insert(batch);
    expect(again.kind).toBe('stored');
    expect(await count()).toEqual({ rows: 400, ids: 400 });
    const [sums] = await clickhouse.rows(`SELECT count() AS rows, sum(N) AS n FROM ${DATABASE}.sums`);
    expect(sums).toEqual({ rows: '10', n: '400' });
  });

  test('two batches with the same bytes are two batches', async () => {
    const fragments = [nativeBlock(0, 10, String)];
    await insert(sealed(fragments, 10, 'r1'));
    await insert(sealed(fragments, 10, 'r1'));
    expect(await count()).toEqual({ rows: 20, ids: 10 });
  });

  test('a batch sent twice at the same time is stored once', async () => {
    const batch = makeBatch({ fragments: 8, rows: 5000 });
    const both = await Promise.all([insert(batch), insert(batch)]);
    expect(both.map((result) => result.kind)).toEqual(['stored', 'stored']);
    expect(await count()).toEqual({ rows: 40_000, ids: 40_000 });
  });

  test('a batch of several partitions is stored once in each', async () => {
    await clickhouse.query(`DROP TABLE ${DATABASE}.otel_logs`);
    await clickhouse.query(createTable('otel_logs', 'PARTITION BY intDiv(Id, 100)'));
    const batch = makeBatch({ fragments: 5, rows: 100 });
    await insert(batch);
    await insert(batch);
    expect(await count()).toEqual({ rows: 500, ids: 500 });
  });

  test('an answer that got lost: the retry stores nothing twice', async () => {
    const link = await startLink(clickhouse.httpPort);
    const server = connect(link.url);
    try {
      const batch = makeBatch();
      link.loseNextAnswer();
      const lost = await insertBatch(
        { ...target, server }, INSERT_OPTIONS, batch.batch, chunksOf(batch), NEVER_STOPPED);
      expect(lost).toMatchObject({ kind: 'refused', fault: { retry: 'elsewhere' } });
      expect(await count()).toEqual({ rows: 400, ids: 400 });
      expect(await insert(batch)).toMatchObject({ kind: 'stored' });
      expect(await count()).toEqual({ rows: 400, ids: 400 });
    } finally {
      await close(server);
      await link.stop();
    }
  });
});

describe('all or nothing', () => {
  const broken = new Fault('LOST', 'here', 'the connection to the queue broke');

  test.each([
    ['before the first fragment', 0, 'z1'],
    ['between two fragments, each a whole zstd frame', 2, 'z1'],
    ['between two fragments, each a whole block', 2, 'r1'],
    ['after the last fragment', 4, 'r1'],
  ] as const)('a source that fails %s stores nothing; the retry stores all', async (_, index, layout) => {
    const batch = makeBatch({ layout });
    async function* failing() {
      for await (const chunk of chunksOf(batch, (at) => { if (at === index) throw broken; })) yield chunk;
      throw broken;
    }
    await expect(insert(batch, failing())).rejects.toBe(broken);
    expect(await count()).toEqual({ rows: 0, ids: 0 });
    expect(await insert(batch)).toMatchObject({ kind: 'stored' });
    expect(await count()).toEqual({ rows: 400, ids: 400 });
  });

  test.each(['z1', 'r1'] as const)('a source that fails late in a large batch of layout %s', async (layout) => {
    const batch = large(20, layout);
    const failing = chunksOf(batch, (at) => { if (at === 19) throw broken; });
    await expect(insert(batch, failing)).rejects.toBe(broken);
    expect(await count()).toEqual({ rows: 0, ids: 0 });
    expect(await insert(batch)).toEqual({ kind: 'stored' });
    expect(await count()).toEqual({ rows: 20_000, ids: 20_000 });
  });

  test('a batch of several blocks that broke after the first: the retry stores only what is missing', async () => {
    // A client of its own cuts blocks of 1 MB, as the real one would cut a batch of gigabytes at 256 MiB.
    const settings = { min_insert_block_size_bytes: '1000000' };
    const log = { level: ClickHouseLogLevel.OFF };
    const client = createClient({ url: clickhouse.url, clickhouse_settings: settings, log });
    const knows = (name: string) => !/block_size/.test(name) && target.info.hasSetting(name);
    const cutting = { ...target, server: { ...target.server, client }, info: { ...target.info, hasSetting: knows } };
    const send = (chunks: AsyncIterable<Uint8Array>) =>
      insertBatch(cutting, INSERT_OPTIONS, batch.batch, chunks, NEVER_STOPPED);
    const batch = large(20);
    const failing = chunksOf(batch, async (at) => {
      if (at < 19) return;
      await eventually('the first block is stored', async () => (await count()).rows > 0);
      throw broken;
    });
    await expect(send(failing)).rejects.toBe(broken);
    expect((await count()).rows).toBeLessThan(20_000);
    expect(await send(chunksOf(batch))).toEqual({ kind: 'stored' });
    expect(await count()).toEqual({ rows: 20_000, ids: 20_000 });
    await client.close();
  });

  test.each([
    ['fewer', -1], ['more', 1],
  ])('%s bytes than were sealed are not stored', async (_, difference) => {
    const batch = makeBatch({ layout: 'r1' });
    const lying = { ...batch, batch: { ...batch.batch, bytes: batch.batch.bytes - difference } };
    await expect(insert(lying)).rejects.toMatchObject({ name: 'Fault', code: 'batch_incomplete', retry: 'here' });
    expect(await count()).toEqual({ rows: 0, ids: 0 });
  });

  test('a batch without any bytes is gone, not an empty insert', async () => {
    expect(await insert(makeBatch(), chunksOf(sealed([], 0)))).toEqual({ kind: 'gone' });
  });

  test('an insert that is stopped midway stores nothing, and the source is let go', async () => {
    const batch = makeBatch();
    const stop = new AbortController();
    const reason = new Fault('stopping', 'here', 'stopping');
    let ended = false;
    async function* stopping() {
      try {
        yield* chunksOf(batch, (at) => { if (at === 2) stop.abort(reason); });
      } finally {
        ended = true;
      }
    }
    const result = await insertBatch(target, INSERT_OPTIONS, batch.batch, stopping(), stop.signal);
    expect(result).toEqual({ kind: 'refused', fault: reason, sent: false });
    expect(ended).toBe(true);
    expect(await count()).toEqual({ rows: 0, ids: 0 });
    const late = await insertBatch(target, INSERT_OPTIONS, batch.batch, chunksOf(batch), stop.signal);
    expect(late).toEqual({ kind: 'refused', fault: reason, sent: false });
  });

  test('an insert that takes too long is broken off', async () => {
    const batch = makeBatch();
    const stuck = chunksOf(batch, (at) => (at === 2 ? sleep(400) : undefined));
    const result = insert(batch, stuck, { ...INSERT_OPTIONS, insertTimeoutMs: 100 });
    expect(await refusal(result)).toMatchObject({ code: 'clickhouse_timeout', retry: 'here' });
    expect(await count()).toEqual({ rows: 0, ids: 0 });
  });
});

describe('refused', () => {
  test.each(['small', 'large'])('no such table, %s batch: waits for a migration', async (size) => {
    await clickhouse.query(`DROP TABLE ${DATABASE}.otel_logs`);
    const batch = size === 'large' ? large(64) : makeBatch();
    const { code, retry, message } = await refusal(insert(batch));
    expect({ code, retry }).toEqual({ code: 'UNKNOWN_TABLE', retry: 'here' });
    expect(message).toMatch(/is the schema migrated\?.*otel_logs/s);
  });

  test('no such column: waits for a migration', async () => {
    await clickhouse.query(`ALTER TABLE ${DATABASE}.otel_logs DROP COLUMN Body`);
    const fault = await refusal(insert(makeBatch()));
    expect(fault).toMatchObject({ code: 'NO_SUCH_COLUMN_IN_TABLE', retry: 'here' });
  });

  test('more columns than the block has take their defaults', async () => {
    await clickhouse.query(`ALTER TABLE ${DATABASE}.otel_logs ADD COLUMN More String DEFAULT 'more'`);
    expect(await insert(makeBatch())).toMatchObject({ kind: 'stored' });
  });

  const bytes = (...values: number[]) => Uint8Array.from(values);
  test.each([
    ['no zstd frame', 'z1', [bytes(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)]],
    ['no block', 'r1', [bytes(2, 10, 255, 255, 255)]],
    ['a block without its end', 'r1', [nativeBlock(0, 100, String).subarray(0, -9)]],
    ['a type that does not exist', 'r1', [nativeBlock(0, 100, String, 'Strung')]],
    ['a type that cannot be read', 'r1', [nativeBlock(0, 100, String, '\u0001')]],
    ['a type that does not fit', 'r1', [nativeBlock(0, 100, (id) => `row ${id}`, 'Array(UInt8)')]],
    ['a column that the insert does not name', 'r1', [nativeBlock(0, 100, String, 'String', 'Bady')]],
  ] as const)('%s: never', async (_, layout, fragments) => {
    const good = makeBatch({ layout, fragments: 2 });
    const { retry, message } = await refusal(insert(sealed([...good.fragments, ...fragments], 300, layout)));
    expect(retry, message).toBe('never');
    expect(await count()).toEqual({ rows: 0, ids: 0 });
  });

  test('a zstd frame without its end, of which the server says nothing: the count of rows does', async () => {
    const good = makeBatch({ fragments: 3 });
    const cut = good.fragments.map((frame, index) => (index === 2 ? frame.subarray(0, -9) : frame));
    const { code, retry, message } = await refusal(insert(sealed(cut, 300)));
    expect({ code, retry }).toEqual({ code: 'rows_missing', retry: 'never' });
    expect(message).toContain('found 200 of the 300 rows');
  });

  test('malformed early in a large batch: the answer comes while most of it is not sent', async () => {
    const batch = large(64);
    const fragments = [bytes(2, 10, 255, 255, 255), ...batch.fragments];
    const { retry, message } = await refusal(insert(sealed(fragments, 64_000, 'r1')));
    expect(retry, message).toBe('never');
  });

  test('more partitions than one insert may reach into: never as it is', async () => {
    await clickhouse.query(`DROP TABLE ${DATABASE}.otel_logs`);
    await clickhouse.query(createTable('otel_logs', 'PARTITION BY Id'));
    const { code, retry } = await refusal(insert(makeBatch({ fragments: 1, rows: 11 })));
    expect({ code, retry }).toEqual({ code: 'too_many_partitions', retry: 'never' });
    expect(await insert(makeBatch({ fragments: 1, rows: 10 }))).toMatchObject({ kind: 'stored' });
  });

  test('too many parts: later', async () => {
    await clickhouse.query(`ALTER TABLE ${DATABASE}.otel_logs
      MODIFY SETTING parts_to_throw_insert = 1, parts_to_delay_insert = 1`);
    await clickhouse.query(`SYSTEM STOP MERGES ${DATABASE}.otel_logs`);
    await insert(makeBatch());
    expect(await refusal(insert(makeBatch()))).toMatchObject({ code: 'TOO_MANY_PARTS', retry: 'here' });
  });
});

describe('bounded memory', () => {
  test('a server that reads slowly slows the source down', async () => {
    const link = await startLink(clickhouse.httpPort);
    const server = connect(link.url);
    // 100 MB in fragments of 250 kB. What the kernel buffers on loopback, twice over, is a few MB.
    const fragment = nativeBlock(0, 250, (id) => `${id}`.padEnd(1000, 'x'));
    const batch = sealed(Array.from({ length: 400 }, () => fragment), 100_000, 'r1');
    const aheadMax = 32 * 2 ** 20;
    let given = 0;
    let furthest = 0;
    async function* counted() {
      for await (const chunk of chunksOf(batch)) {
        given += chunk.length;
        furthest = Math.max(furthest, given - link.bytesUp());
        yield chunk;
      }
    }
    try {
      link.pause();
      const slow = { ...target, server };
      const inserted = insertBatch(slow, INSERT_OPTIONS, batch.batch, counted(), NEVER_STOPPED);
      // It stands still when nothing was given out over many turns of the loop.
      let before = -1;
      await eventually('the source stands still', async () => {
        await sleep(100);
        const still = given > 0 && given === before;
        before = given;
        return still;
      });
      expect(given).toBeLessThan(aheadMax);
      link.resume();
      expect(await inserted).toEqual({ kind: 'stored' });
      expect(furthest).toBeLessThan(aheadMax);
      expect((await count()).rows).toBe(100_000);
    } finally {
      await close(server);
      await link.stop();
    }
  });
});
