/**
 * Goal: with the real queue a poisoned batch ends in ClickHouse and in dead letters, the books say so to the row,
 * and what is replayed when the table was mended is stored once, whatever became of it before.
 */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { createInstruments } from '../../src/metrics/instruments.ts';
import type { BatchStore } from '../../src/queue/batch-store.ts';
import { DeadLetters } from '../../src/queue/dead-letters.ts';
import type { KeptLetter } from '../../src/queue/letters.ts';
import type { WriterOptions } from '../../src/write/writer.ts';
import { RedisServer } from '../redis/server.ts';
import { append, fragment, openStore } from '../queue/support.ts';
import { silent } from '../support/services.ts';
import { nativeBlock } from './batches.ts';
import { TARGET, asFragment, clickhouse, constrain, expectStored, makeWriter, upTo } from './poison.ts';

const FRAGMENTS = 6;
const ROWS = 10;
const ALL_ROWS = FRAGMENTS * ROWS;

let server: RedisServer;
let store: BatchStore;
beforeAll(async () => {
  server = await RedisServer.start();
  store = await openStore(server.settings, { rowsMax: ALL_ROWS });
});
beforeEach(async () => {
  const redis = await server.connect();
  await redis.command(['FLUSHALL']);
  redis.close();
});
afterAll(async () => {
  store.close();
  await server.remove();
});

function open() {
  const deadLetters = new DeadLetters({
    redis: store.redis, deadLetters: { bytesMax: 1_000_000, whenFull: 'wait' }, instruments: createInstruments(), logger: silent,
  });
  const options: Partial<WriterOptions> = { source: store, deadLetters };
  const { writer, counted } = makeWriter(undefined, options);
  /** Writes what waits, as jobs would. */
  const drain = async () => {
    const ends: string[] = [];
    for (const batch of await store.oldest(0, 100)) ends.push(await writer.write(batch));
    return ends.sort();
  };
  const letters = async () => {
    const all: KeptLetter[] = [];
    for await (const letter of deadLetters.letters({})) all.push(letter);
    return all.sort((one, other) => (one.range < other.range ? -1 : 1));
  };
  return { deadLetters, drain, letters, counted };
}

async function sendAll(): Promise<void> {
  for (let index = 0; index < FRAGMENTS; index += 1) {
    const bytes = asFragment(nativeBlock(index * ROWS, ROWS, (id) => `row ${id}`), 'z1');
    await append(store, fragment(ROWS, bytes, 'otel_logs'));
  }
}

async function books() {
  const { accepted, written, waiting, dead } = (await store.counts(0)).items.logs;
  return { accepted, written, waiting, dead };
}

test('two rows are letters, the rest is written; they are replayed when the table is mended', async () => {
  await constrain('Id NOT IN (17, 40)');
  const { deadLetters, drain, letters, counted } = open();
  await sendAll();
  expect(await drain()).toEqual(['aside']);
  expect(await books()).toEqual({ accepted: ALL_ROWS, written: ALL_ROWS - 2, waiting: 0, dead: 2 });
  expect(await counted('itemsWritten')).toBe(ALL_ROWS - 2);
  await expectStored(upTo(ALL_ROWS, [17, 40]));
  const kept = await letters();
  expect(kept.map(({ range, rows, reason }) => [range, rows, reason])).toEqual(
    [['1:7', 1, 'VIOLATED_CONSTRAINT'], ['4:0', 1, 'VIOLATED_CONSTRAINT']]);
  // Still refused: letters again, with the same ids.
  await deadLetters.replay({});
  expect(await drain()).toEqual(['aside', 'aside']);
  expect((await letters()).map(({ id, replays }) => [id, replays])).toEqual(kept.map(({ id }) => [id, 1]));
  await clickhouse.query(`ALTER TABLE ${TARGET} DROP CONSTRAINT poison`);
  await deadLetters.replay({});
  expect(await drain()).toEqual(['written', 'written']);
  expect(await books()).toEqual({ accepted: ALL_ROWS, written: ALL_ROWS, waiting: 0, dead: 0 });
  await expectStored(upTo(ALL_ROWS));
});

test('nothing passes, so the batch is one letter; replayed it goes on in its parts', async () => {
  await constrain('Id > 1000');
  const { deadLetters, drain, letters } = open();
  await sendAll();
  expect(await drain()).toEqual(['aside']);
  expect(await books()).toEqual({ accepted: ALL_ROWS, written: 0, waiting: 0, dead: ALL_ROWS });
  const [whole] = await letters();
  expect(whole).toMatchObject({ range: 'all', rows: ALL_ROWS, fragments: FRAGMENTS });
  await clickhouse.query(`ALTER TABLE ${TARGET} DROP CONSTRAINT poison`);
  await constrain('Id != 33');
  await deadLetters.replay({});
  expect(await drain()).toEqual(['aside']);
  expect((await letters()).map(({ range }) => range)).toEqual(['3:3']);
  expect(await books()).toEqual({ accepted: ALL_ROWS, written: ALL_ROWS - 1, waiting: 0, dead: 1 });
  await expectStored(upTo(ALL_ROWS, [33]));
});

test('a fragment that was replaced by garbage of its length is the letter, as it lies in Redis', async () => {
  const { drain, letters } = open();
  await sendAll();
  const [batch] = await store.oldest(0, 1);
  const redis = await server.connect();
  const fragments = await store.fragmentList(batch!);
  const garbage = Buffer.alloc(fragments[2]?.length ?? 0, 'garbage ');
  await redis.command(['LSET', `{s0}:batch:${batch?.id}`, 2, garbage]);
  redis.close();
  expect(await drain()).toEqual(['aside']);
  const [letter] = await letters();
  expect(letter).toMatchObject({ range: '2', rows: ROWS, reason: 'ZSTD_DECODER_FAILED', bytes: garbage.length });
  expect(await books()).toEqual({ accepted: ALL_ROWS, written: ALL_ROWS - ROWS, waiting: 0, dead: ROWS });
  await expectStored(upTo(ALL_ROWS).filter((id) => id < 20 || id >= 30));
});
