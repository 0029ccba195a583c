/**
 * Goal: a batch is only divided where the server can't have stored a piece of it, and its fragments have together
 * exactly the rows that it has; ranges and tokens of parts are the same for everybody, and no two alike.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseVersion } from '../../src/clickhouse/client.ts';
import { insertSettings } from '../../src/clickhouse/insert-settings.ts';
import { type Part, halvesOf, isSingle, partId, rangeOf, wholeOf } from '../../src/write/parts.ts';
import { exceedsOneBlock, settleRows } from '../../src/write/reckon.ts';
import { makeBatch } from './batches.ts';

const EVERY = { version: parseVersion('26.7'), timezone: 'UTC', hasSetting: () => true, hasMergeTreeSetting: () => true };
const SENT = insertSettings(EVERY, 100);

test('one block is what the inserts ask the server for, with a margin for memory', () => {
  const [rows, bytes] = [Number(SENT.min_insert_block_size_rows), Number(SENT.min_insert_block_size_bytes)];
  expect([exceedsOneBlock(rows - 1, 0), exceedsOneBlock(rows, 0)]).toEqual([false, true]);
  expect([exceedsOneBlock(1, bytes / 1.25 - 1), exceedsOneBlock(1, bytes / 1.25)]).toEqual([false, true]);
  expect(exceedsOneBlock(1, Number.POSITIVE_INFINITY)).toBe(true);
});

test.each<[number, (number | undefined)[], number[] | undefined]>([
  [10, [4, 6], [4, 6]],
  [10, [4, undefined], [4, 6]],
  [10, [undefined, 5, undefined], [3, 5, 2]],
  [3, [undefined, undefined, undefined], [1, 1, 1]],
  [10, [4, 5], undefined],
  [10, [4, 7], undefined],
  [10, [10, undefined], undefined],
  [10, [0, 10], undefined],
  [2, [undefined, undefined, undefined], undefined],
])('%i rows in fragments that say %j', (total, claims, expected) => {
  expect(settleRows(total, claims)).toEqual(expected);
});

test('every part of a batch has a range, a token and an id of its own, which a job and a file can have', () => {
  const counts = fc.record({ fragments: fc.integer({ min: 1, max: 40 }), rows: fc.integer({ min: 1, max: 30 }) });
  fc.assert(fc.property(counts, ({ fragments, rows }) => {
    const { batch } = makeBatch({ fragments, rows });
    const all: Part[] = [];
    const walk = (part: Part) => {
      all.push(part);
      if (!isSingle(part)) for (const half of halvesOf(part)) walk(half);
      else if (part.kind === 'fragments' && rows > 1) {
        for (const half of halvesOf({ kind: 'rows', fragment: part.from, from: 0, to: rows - 1 })) walk(half);
      }
    };
    walk(wholeOf(batch));
    expect(rangeOf(batch, wholeOf(batch))).toBe('all');
    for (const name of [rangeOf, partId]) expect(new Set(all.map((part) => name(batch, part))).size).toBe(all.length);
    expect(all.map((part) => partId(batch, part)).filter((id) => !/^[A-Za-z0-9.-]+$/.test(id))).toEqual([]);
    const singles = all.filter((part) => isSingle(part) && (part.kind === 'rows' || rows === 1));
    expect(singles).toHaveLength(fragments * rows);
  }), { numRuns: 50 });
});
