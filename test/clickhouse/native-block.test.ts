/**
 * Goal: blocks as the gateways make them are counted, cut and shown as ClickHouse itself does it: both halves
 * of a cut, inserted one after the other, are the whole; and bytes that are no block are refused as such, soon
 * and without taking memory, wherever they go wrong.
 */
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import {
  BlockError, Blocks, countRows, measure, rowsClaimed, rowsOf,
} from '../../src/clickhouse/native-block.ts';
import { parseType } from '../../src/clickhouse/native-types.ts';
import { SIGNALS, type Signal, TABLES, type Table, signalOf } from '../../src/model/signal.ts';
import { COLUMNS } from '../../src/transcode/tables.ts';
import { requestArbitrary } from '../oracle/arbitrary.ts';
import { encode } from '../oracle/encode.ts';
import { decodeNative } from '../oracle/native.ts';
import { SAMPLES } from '../oracle/samples.ts';
import { openAllSignals, transcode } from '../support/otlp.ts';
import { useClickHouse } from '../support/services.ts';
import { nativeBlock } from '../write/batches.ts';

const SEED = 20_261_125;
const clickhouse = useClickHouse();

/** One block of each table, from everything that the samples have and random requests. */
const blocks = new Map<Table, Uint8Array>();
beforeAll(async () => {
  const engines = await openAllSignals();
  for (const signal of SIGNALS) {
    const random = fc.sample(requestArbitrary(signal), { seed: SEED, numRuns: 40 });
    const requests = [SAMPLES[signal], ...random].map((one) => encode(REQUESTS[signal], one));
    for (const { table, bytes } of transcode(engines[signal].plain, requests).blocks) blocks.set(table, bytes.slice());
  }
});

function blockOf(table: Table): Uint8Array {
  const block = blocks.get(table);
  if (block === undefined) throw new Error(`no block of ${table}`);
  return block;
}

const namesOf = (table: Table) => COLUMNS[table].map(({ name }) => `\`${name}\``).join(', ');

/** What a server shows of blocks that are inserted one after the other. */
async function shownBy(table: Table, bodies: readonly Uint8Array[]): Promise<Record<string, unknown>[]> {
  const columns = COLUMNS[table].map((column) => `\`${column.name}\` ${column.type}`).join(', ');
  await clickhouse.query(`CREATE OR REPLACE TABLE cut (${columns}) ENGINE = MergeTree ORDER BY tuple()`);
  for (const body of bodies) await clickhouse.query(`INSERT INTO cut (${namesOf(table)}) FORMAT Native`, {}, body);
  return clickhouse.rows(`SELECT ${namesOf(table)} FROM cut ORDER BY _block_number, _part, _part_offset`);
}

describe.each(TABLES)('%s', (table) => {
  test('is counted, and shown as the server shows it', async () => {
    const bytes = blockOf(table);
    const shown = await shownBy(table, [bytes]);
    expect(countRows(bytes)).toBe(shown.length);
    expect(rowsClaimed(bytes)).toBe(shown.length);
    expect([...rowsOf(bytes)]).toEqual(shown);
  });

  test('cut in two, both halves inserted, it is the whole', async () => {
    const bytes = blockOf(table);
    const cut = new Blocks(bytes);
    const whole = await shownBy(table, [bytes]);
    for (const at of [1, Math.floor(cut.rows / 2), cut.rows - 1]) {
      const halves = [cut.cut(0, at), cut.cut(at, cut.rows)];
      expect(halves.map(countRows)).toEqual([at, cut.rows - at]);
      expect(await shownBy(table, halves)).toEqual(whole);
    }
  });

  test('a server with a bound of the memory that was reckoned puts all blocks into one', async () => {
    const bytes = blockOf(table);
    await shownBy(table, []);
    await clickhouse.query('SYSTEM STOP MERGES cut');
    const bound = 30 * measure(bytes).memoryBytes;
    const settings = { min_insert_block_size_bytes: String(bound), min_insert_block_size_rows: '1048449', async_insert: '0' };
    const body = Buffer.concat(Array.from({ length: 30 }, () => bytes));
    await clickhouse.query(`INSERT INTO cut (${namesOf(table)}) FORMAT Native`, settings, body);
    const parts = "SELECT count() FROM system.parts WHERE active AND table = 'cut'";
    expect((await clickhouse.query(parts)).trim()).toBe('1');
  });

  test('any range of rows is these rows, also when it is cut again', () => {
    const bytes = blockOf(table);
    const [decoded] = decodeNative(bytes);
    const rows = decoded?.rows ?? [];
    const blocksThere = new Blocks(bytes);
    const range = fc.tuple(fc.nat(rows.length - 1), fc.nat(rows.length - 1), fc.nat(), fc.nat());
    fc.assert(fc.property(range, ([one, other, third, fourth]) => {
      const [from, to] = [Math.min(one, other), Math.max(one, other) + 1];
      const piece = blocksThere.cut(from, to);
      expect(decodeNative(piece)).toEqual([{ columns: decoded?.columns, rows: rows.slice(from, to) }]);
      const [a, b] = [third % (to - from), fourth % (to - from)];
      const [first, end] = [Math.min(a, b), Math.max(a, b) + 1];
      const again = new Blocks(piece).cut(first, end);
      expect(decodeNative(again)[0]?.rows).toEqual(rows.slice(from + first, from + end));
    }), { seed: SEED, numRuns: 60 });
  });

  test('cut off anywhere, it is refused', () => {
    const bytes = blockOf(table);
    const ends = fc.integer({ min: 0, max: bytes.length - 1 });
    fc.assert(fc.property(ends, (end) => {
      expect(() => measure(bytes.subarray(0, end))).toThrow(BlockError);
    }), { seed: SEED, numRuns: 150 });
  });

  test('with bytes that lie, it is refused or read, and neither takes long', () => {
    const bytes = blockOf(table);
    const lies = fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff)), { minLength: 1, maxLength: 8 });
    const outcomes = { read: 0, refused: 0 };
    fc.assert(fc.property(lies, (changes) => {
      const changed = Uint8Array.from(bytes);
      for (const [at, byte] of changes) changed.fill(byte, at, at + 8);
      try {
        const count = countRows(changed);
        expect([...rowsOf(changed)]).toHaveLength(count);
        outcomes.read += 1;
      } catch (error) {
        expect(error).toBeInstanceOf(BlockError);
        outcomes.refused += 1;
      }
    }), { seed: SEED, numRuns: 150 });
    expect(outcomes.refused).toBeGreaterThan(0);
  });
});

const HUGE = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x03];
const head = (type: string) => [1, 97, type.length, ...Buffer.from(type)];
const zeros = (count: number) => Array<number>(count).fill(0);

describe('lies about lengths', () => {
  test.each<[string, readonly number[], BlockError['kind']]>([
    ['nothing at all', [], 'malformed'],
    ['rows without columns', [0, ...HUGE], 'malformed'],
    ['columns without end', [...HUGE, 1], 'malformed'],
    ['rows without values', [1, ...HUGE, ...head('String')], 'malformed'],
    ['numbers without bytes', [1, ...HUGE, ...head('UInt64')], 'malformed'],
    ['a string without end', [1, 1, ...head('String'), ...HUGE], 'malformed'],
    ['a name without end', [1, 1, ...HUGE], 'malformed'],
    ['an array without end', [1, 1, ...head('Array(UInt8)'), ...Array<number>(8).fill(0xff)], 'malformed'],
    ['arrays that end before they begin', [1, 2, ...head('Array(UInt8)'), 9, ...zeros(7), 1, ...zeros(7), ...zeros(9)], 'malformed'],
    ['a varint of eleven bytes', [...Array<number>(10).fill(0x80), 1, 1], 'malformed'],
    ['keys without end', [1, 1, ...head('LowCardinality(String)'), 1, ...zeros(7), 0, 6, ...zeros(6), ...Array<number>(8).fill(0xff)], 'malformed'],
    ['another version of a dictionary', [1, 1, ...head('LowCardinality(String)'), 2, ...zeros(7)], 'malformed'],
    ['a flood of empty blocks', Array.from({ length: 2_000 }, () => [1, 0, ...head('UInt8')]).flat(), 'unknown'],
    ['bytes behind the block', [1, 1, ...head('UInt8'), 7, 7], 'malformed'],
    ['a type that nobody knows', [1, 1, ...head('Nope'), 1], 'unknown'],
    ['strings of no bytes', [1, ...HUGE, ...head('FixedString(0)')], 'unknown'],
    ['tuples of nothing', [1, ...HUGE, ...head('Tuple()')], 'unknown'],
    ['types inside each other', [1, 1, ...head(`${'Array('.repeat(12)}UInt8${')'.repeat(12)}`)], 'unknown'],
  ])('%s', (_, bytes, kind) => {
    let refusal: unknown;
    try {
      measure(Uint8Array.from(bytes));
    } catch (error) {
      refusal = error;
    }
    expect(refusal).toBeInstanceOf(BlockError);
    expect((refusal as BlockError).kind).toBe(kind);
  });
});

test('types that our tables do not have yet: cut and shown as the server shows them', async () => {
  const columns = {
    A: 'UInt16', B: 'Int64', C: 'UUID', D: 'FixedString(3)', E: 'Tuple(UInt8, LowCardinality(String))', F: 'DateTime64(3)',
    G: 'Float32', H: 'Array(Tuple(String, Int16))', I: 'Array(Map(LowCardinality(String), String))', J: 'Bool', K: 'DateTime64(0)',
  };
  const structure = Object.entries(columns).map(([name, type]) => `${name} ${type}`).join(', ');
  const select = `SELECT * FROM generateRandom('${structure}', 7, 10, 3) LIMIT 50`;
  await clickhouse.query(`CREATE OR REPLACE TABLE others (${structure}) ENGINE = MergeTree ORDER BY tuple()`);
  // Letters only, and times that a calendar has.
  await clickhouse.query(`INSERT INTO others SELECT * REPLACE ('abc' AS D, (E.1, hex(E.2)) AS E,
    toDateTime64(A, 3) + 0.123 AS F, toFloat32(A) / 4 AS G, arrayMap(x -> (hex(x.1), x.2), H) AS H,
    arrayMap(x -> mapApply((k, v) -> (toLowCardinality(hex(k)), hex(v)), x) , I) AS I, toDateTime64(A, 0) AS K) FROM (${select})`);
  const answer = await fetch(`${clickhouse.url}?query=${encodeURIComponent('SELECT * FROM others FORMAT Native')}`);
  const bytes = new Uint8Array(await answer.arrayBuffer());
  const shown = await clickhouse.rows('SELECT * FROM others');
  expect([...rowsOf(bytes)]).toEqual(shown);
  const cut = new Blocks(bytes);
  const halves = [cut.cut(0, 20), cut.cut(20, 50)];
  expect(halves.flatMap((half) => [...rowsOf(half)])).toEqual(shown);
  await clickhouse.query('TRUNCATE TABLE others');
  for (const half of halves) await clickhouse.query('INSERT INTO others FORMAT Native', {}, half);
  expect(await clickhouse.rows('SELECT * FROM others ORDER BY _block_number, _part, _part_offset')).toEqual(shown);
});

test('blocks one after another are counted together, and cut across', () => {
  const bytes = Buffer.concat([nativeBlock(0, 3, String), nativeBlock(3, 4, String)]);
  expect(countRows(bytes)).toBe(7);
  const piece = new Blocks(bytes).cut(2, 5);
  expect([...rowsOf(piece)]).toEqual([{ Id: '2', Body: '2' }, { Id: '3', Body: '3' }, { Id: '4', Body: '4' }]);
});

test('memory is reckoned at more than the bytes', () => {
  const bytes = nativeBlock(0, 1_000, () => '');
  const { memoryBytes } = measure(bytes);
  // 8 bytes of a number, 8 of where a string ends.
  expect(memoryBytes).toBeGreaterThanOrEqual(16_000);
  expect(memoryBytes).toBeLessThan(40_000);
});

test('every type of our tables is known', () => {
  const types = new Set(TABLES.flatMap((table) => COLUMNS[table].map(({ type }) => type)));
  expect([...types].filter((type) => parseType(type).kind === undefined)).toEqual([]);
  expect(TABLES.map(signalOf).every((signal: Signal) => SIGNALS.includes(signal))).toBe(true);
});
