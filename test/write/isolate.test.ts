/**
 * Goal: of a batch that ClickHouse refuses for what is in it, exactly that becomes a dead letter, with its own
 * bytes and the server's words; everything else is stored once. What may be stored in part is not divided, and
 * a batch of which nothing passes costs a bounded number of inserts.
 */
import { describe, expect, test } from 'vitest';
import { LAYOUTS } from '../../src/model/batch.ts';
import { DATABASE, createTable, nativeBlock, sealed } from './batches.ts';
import { startLink } from './link.ts';
import {
  TARGET, asFragment, asideOf, batchWith, clickhouse, constrain, expectStored, idsIn, makeWriter, stored, upTo,
} from './poison.ts';

const HOST = () => new URL(clickhouse.url).host;
const fragmentIds = (index: number, rows = 20) => upTo(rows).map((row) => index * rows + row);
/** A block whose column claims to be something that it isn't. */
const typed = (type: string) => nativeBlock(0, 20, (id) => `row ${id}`, type);

describe.each(LAYOUTS)('one bad fragment of eight, layout %s', (layout) => {
  const garbage = Buffer.from('this is neither a frame of zstd nor a block of any kind');
  const good = asFragment(nativeBlock(60, 20, (id) => `row ${id}`), layout);
  const damaged = Buffer.from(good);
  // Where it is no value: of a frame anywhere, of a block among the names and types.
  damaged.fill(0x55, ...(layout === 'z1' ? [damaged.length >> 2, damaged.length >> 1] : [3, 12]));
  test.each<[string, Uint8Array, RegExp]>([
    ['garbage', garbage, layout === 'z1' ? /^ZSTD_DECODER_FAILED$/ : /^[A-Z_]+$/],
    ['damaged in the middle', damaged, /^[A-Z_]+$/],
    // ClickHouse says nothing of a frame without its end: the count of rows does.
    ['cut off', good.subarray(0, good.length - 5), layout === 'z1' ? /^rows_missing$/ : /^CANNOT_READ_ALL_DATA$/],
    ['of a type that does not exist', asFragment(typed('Nope'), layout), /^UNKNOWN_TYPE$/],
    ['of a type that can not be read', asFragment(typed('No(p,e'), layout), /^SYNTAX_ERROR$/],
    ['of another type than the table', asFragment(typed('Array(String)'), layout), /^[A-Z_]+$/],
  ])('%s', async (_, bytes, reason) => {
    const { writer, source, counted } = makeWriter();
    const test = batchWith({ layout }, { 3: bytes });
    expect(await writer.write(source.add(test))).toBe('aside');
    const { rowsStored, letters } = asideOf(source, test.batch);
    expect(rowsStored).toBe(140);
    expect(letters).toEqual([{
      id: `${test.batch.id}.3`, batch: test.batch.id, range: '3', rows: 20, fragments: [bytes], replica: HOST(),
      reason: expect.stringMatching(reason), message: expect.stringMatching(/./),
    }]);
    await expectStored(upTo(160).filter((id) => !fragmentIds(3).includes(id)));
    expect(await counted('itemsWritten')).toBe(140);
    expect(await counted('itemsDeadlettered')).toBe(20);
    expect(await counted('batchesDivided')).toBe(1);
  });

  test.each([0, 7])('cut off at place %i', async (place) => {
    const { writer, source } = makeWriter();
    const test = batchWith({ layout }, { [place]: good.subarray(0, good.length - 5) });
    // Of the last one the server notices nothing, and has stored the others: there they stay, in one piece.
    const whole = layout === 'z1' && place === 7;
    expect(await writer.write(source.add(test))).toBe('aside');
    const { rowsStored, letters } = asideOf(source, test.batch);
    expect([rowsStored, letters.map(({ range }) => range)]).toEqual(whole ? [0, ['all']] : [140, [`${place}`]]);
    await expectStored(upTo(160).filter((id) => !fragmentIds(place).includes(id)));
  });

  test('one row that a constraint forbids: the letter has exactly this row', async () => {
    await constrain('Id != 77');
    const { writer, source, lines, instruments, counted } = makeWriter();
    const test = batchWith({ layout });
    expect(await writer.write(source.add(test))).toBe('aside');
    const { rowsStored, letters } = asideOf(source, test.batch);
    expect([rowsStored, letters.length]).toEqual([159, 1]);
    expect(letters[0]).toMatchObject({
      id: `${test.batch.id}.3.17`, range: '3:17', rows: 1, reason: 'VIOLATED_CONSTRAINT', replica: HOST(),
      message: expect.stringMatching(/Constraint `poison`.*is violated/),
    });
    expect(idsIn(letters, test)).toEqual([77]);
    await expectStored(upTo(160, [77]));
    expect(await counted('itemsWritten')).toBe(159);
    expect((await instruments.itemsDeadlettered.get()).values).toEqual(
      [{ value: 1, labels: { signal: 'logs', reason: 'VIOLATED_CONSTRAINT' } }]);
    expect((await instruments.batchesDivided.get()).values).toEqual(
      [{ value: 1, labels: { table: 'otel_logs', reason: 'VIOLATED_CONSTRAINT' } }]);
    expect(lines.filter(({ level }) => level >= 40)).toMatchObject([
      { level: 40, batch: test.batch.id, code: 'VIOLATED_CONSTRAINT' },
      { level: 50, batch: test.batch.id, range: '3:17', rows: 1, code: 'VIOLATED_CONSTRAINT' },
    ]);
    expect(await counted('inserts')).toBeLessThanOrEqual(1 + 2 * 3 + 2 * 5);
  });

  test('more partitions than one insert may reach into: all of it passes in parts', async () => {
    await clickhouse.query(`DROP TABLE ${TARGET}`);
    await clickhouse.query(createTable('otel_logs', 'PARTITION BY intDiv(Id, 2)'));
    const { writer, source, counted } = makeWriter();
    const test = batchWith({ layout, fragments: 3, rows: 50 });
    expect(await writer.write(source.add(test))).toBe('written');
    expect(asideOf(source, test.batch)).toMatchObject({ rowsStored: 150, letters: [] });
    await expectStored(upTo(150));
    expect(await counted('itemsWritten')).toBe(150);
  });
});

describe('where the rows lie', () => {
  test.each<[string, number, number, readonly number[]]>([
    ['the only row of a batch', 1, 1, [0]],
    ['one of two', 1, 2, [1]],
    ['the first of the first fragment', 5, 7, [0]],
    ['the last of the last', 5, 7, [34]],
    ['in two fragments', 5, 7, [3, 20]],
    ['next to each other', 5, 7, [13, 14]],
    ['in the only fragment', 1, 33, [10, 20]],
    ['a whole fragment', 4, 3, [3, 4, 5]],
    ['all but one', 3, 3, [0, 1, 2, 4, 5, 6, 7, 8]],
  ])('%s', async (_, fragments, rows, bad) => {
    await constrain(`Id NOT IN (${bad.join(', ')})`);
    const { writer, source } = makeWriter();
    const test = batchWith({ fragments, rows });
    expect(await writer.write(source.add(test))).toBe('aside');
    const { rowsStored, letters } = asideOf(source, test.batch);
    expect(rowsStored).toBe(fragments * rows - bad.length);
    expect(idsIn(letters, test).sort((a, b) => a - b)).toEqual(bad);
    await expectStored(upTo(fragments * rows, bad));
  });

  test('one in each of twenty fragments: the others pass', async () => {
    await constrain('Id % 10 != 3');
    const { writer, source } = makeWriter();
    const test = batchWith({ fragments: 20, rows: 10 });
    await writer.write(source.add(test));
    const bad = upTo(200).filter((id) => id % 10 === 3);
    expect(idsIn(asideOf(source, test.batch).letters, test).sort((a, b) => a - b)).toEqual(bad);
    await expectStored(upTo(200, bad));
  });
});

describe('the cost', () => {
  test('nothing passes: after a few parts the batch is one letter, as it lies there', async () => {
    await constrain('Id > 100000');
    const { writer, source, counted } = makeWriter();
    const test = batchWith({ fragments: 60, rows: 30 });
    expect(await writer.write(source.add(test))).toBe('aside');
    const { rowsStored, letters } = asideOf(source, test.batch);
    expect([rowsStored, letters]).toMatchObject(
      [0, [{ id: test.batch.id, range: 'all', rows: 1_800, fragments: undefined, reason: 'VIOLATED_CONSTRAINT' }]]);
    expect(await stored()).toBe('0\t0');
    expect(await counted('inserts')).toBeLessThan(100);
  });

  test('nothing passes, and it lies in the bytes: fragments are not looked into', async () => {
    const { writer, source, counted } = makeWriter();
    const block = asFragment(typed('Nope'), 'z1');
    const test = sealed(Array.from({ length: 60 }, () => block), 1_200);
    await writer.write(source.add(test));
    expect(asideOf(source, test.batch).letters).toMatchObject([{ range: 'all', reason: 'UNKNOWN_TYPE' }]);
    expect(await counted('inserts')).toBeLessThan(50);
  });

  test('all of one large fragment: it is one letter after a few rows', async () => {
    await constrain('Id < 1000 OR Id >= 2000');
    const { writer, source, counted } = makeWriter();
    const test = batchWith({ fragments: 3, rows: 1_000 });
    await writer.write(source.add(test));
    const { rowsStored, letters } = asideOf(source, test.batch);
    expect([rowsStored, letters]).toMatchObject([2_000, [{ id: `${test.batch.id}.1`, range: '1', rows: 1_000 }]]);
    expect(letters[0]?.fragments).toEqual([test.fragments[1]]);
    await expectStored(upTo(3_000).filter((id) => id < 1_000 || id >= 2_000));
    expect(await counted('inserts')).toBeLessThan(80);
  });

  test('every second row: at some point parts are kept as they are, and nothing is lost', async () => {
    await constrain('Id % 2 = 0');
    const { writer, source, counted } = makeWriter();
    const test = batchWith({ fragments: 2, rows: 300 });
    await writer.write(source.add(test));
    const { rowsStored, letters } = asideOf(source, test.batch);
    const dead = idsIn(letters, test);
    expect(rowsStored).toBe(600 - dead.length);
    expect(new Set(dead).size).toBe(dead.length);
    await expectStored(upTo(600, dead));
    expect(upTo(600).filter((id) => id % 2 === 1 && !dead.includes(id))).toEqual([]);
    expect(rowsStored).toBeGreaterThan(100);
    expect(await counted('inserts')).toBeLessThan(1_000);
  });
});

describe('kept whole', () => {
  test('a view refuses rows that are in the table by then; when it is mended, the rest follows', async () => {
    const settings = 'SETTINGS non_replicated_deduplication_window = 1000';
    await clickhouse.query(`CREATE TABLE ${DATABASE}.seen (Id UInt64) ENGINE = MergeTree ORDER BY Id ${settings}`);
    const view = (expression: string) => clickhouse.query(
      `CREATE MATERIALIZED VIEW ${DATABASE}.view TO ${DATABASE}.seen AS SELECT ${expression} AS Id FROM ${TARGET}`);
    await view('toUInt64(Body)');
    const { writer, source } = makeWriter();
    const test = batchWith();
    expect(await writer.write(source.add(test))).toBe('aside');
    const { rowsStored, letters } = asideOf(source, test.batch);
    expect([rowsStored, letters]).toMatchObject([0, [{ id: test.batch.id, range: 'all', reason: 'refused_by_view' }]]);
    expect(letters[0]?.message).toMatch(/Cannot parse string 'row \d+' as UInt64/);
    await clickhouse.query(`DROP VIEW ${DATABASE}.view`);
    await view('Id');
    expect(await writer.write(source.add(test))).toBe('written');
    await expectStored(upTo(160));
    expect((await clickhouse.query(`SELECT count(), uniqExact(Id) FROM ${DATABASE}.seen`)).trim()).toBe('160\t160');
  });

  test('a batch that is larger than one block', async () => {
    await constrain('Id != 1199999');
    const { writer, source, counted } = makeWriter();
    const list = [0, 1].map((half) => nativeBlock(half * 600_000, 600_000, () => '', 'String'));
    const test = sealed(list, 1_200_000, 'r1');
    expect(await writer.write(source.add(test))).toBe('aside');
    const { rowsStored, letters } = asideOf(source, test.batch);
    expect([rowsStored, letters]).toMatchObject([0, [{ id: test.batch.id, range: 'all', reason: 'VIOLATED_CONSTRAINT' }]]);
    expect(letters[0]?.message).toMatch(/^it is larger than one block of ClickHouse, so some of it may be stored/);
    expect(await counted('inserts')).toBe(1);
    expect(await counted('batchesDivided')).toBe(0);
  });

  test('stored without an answer, refused by the table as it is now: the rows are there once', async () => {
    const link = await startLink(clickhouse.httpPort);
    try {
      const { writer, source } = makeWriter(undefined, {}, link.url);
      await writer.write(source.add(batchWith({ fragments: 1, rows: 1 })));
      const test = batchWith();
      source.before = (index) => { if (index === 7) link.loseNextAnswer(); };
      await expect(writer.write(source.add(test))).rejects.toMatchObject({ name: 'Fault' });
      source.before = () => {};
      await constrain('Id != 77');
      expect(await writer.write(test.batch)).toBe('aside');
      const { letters } = asideOf(source, test.batch);
      expect(letters).toMatchObject([{ id: test.batch.id, range: 'all', reason: 'VIOLATED_CONSTRAINT' }]);
      expect(letters[0]?.message).toMatch(/^an earlier insert had no answer, so it may be stored/);
      // As a letter it goes by the same token, and is not divided by others either.
      expect(await makeWriter(source).writer.write(source.add(test))).toBe('aside');
      expect(await stored()).toBe('161\t160');
      await clickhouse.query(`ALTER TABLE ${TARGET} DROP CONSTRAINT poison`);
      expect(await writer.write(source.add(test))).toBe('written');
      expect(await stored()).toBe('161\t160');
    } finally {
      await link.stop();
    }
  });

  test('fragments that say to have other rows than the batch', async () => {
    await constrain('Id != 77');
    const { writer, source } = makeWriter();
    const { fragments } = batchWith();
    const test = sealed(fragments, 161);
    await writer.write(source.add(test));
    expect(asideOf(source, test.batch).letters).toMatchObject([{ range: 'all', rows: 161 }]);
  });
});
