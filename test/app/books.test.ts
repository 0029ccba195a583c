/**
 * Goal: the gauges say what the books of all shards say, unknown is no figure, freshness grows while nothing is written
 * or Redis is away, and who wants to know is told of all shards' books.
 */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Books } from '../../src/app/books.ts';
import { sleep } from '../../src/base/clock.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import type { BatchStore } from '../../src/queue/batch-store.ts';
import { openStore } from '../queue/support.ts';
import { RedisServer, silent } from '../redis/server.ts';
import { sample } from '../support/program.ts';

const SHARDS = 2;
let server: RedisServer;
let store: BatchStore;
let books: Books | undefined;
let instruments: ReturnType<typeof createInstruments>;

beforeEach(async () => {
  server = await RedisServer.start();
  store = await openStore(server.settings);
  instruments = createInstruments();
});
afterEach(async () => {
  books?.close();
  books = undefined;
  store.close();
  await server.remove();
});

/** What a script has booked. */
async function book(shard: number, fields: Readonly<Record<string, number>>): Promise<void> {
  await store.redis.command(['HSET', `{s${shard}}:counts`, ...Object.entries(fields).flat()], `{s${shard}}:`);
}

/** Once all is booked: they are read when they are first asked for, and by themselves not before a second. */
function open(): Books {
  books ??= new Books(store, () => SHARDS, instruments, silent);
  return books;
}

async function scrape() {
  await open().refresh();
  const text = await instruments.registry.metrics();
  const value = (name: string, labels: Readonly<Record<string, string>> = {}) =>
    sample(text, `sluice_${name}`, labels);
  const known = (name: string, labels: string) => text.includes(`\nsluice_${name}{${labels}}`);
  return { value, known };
}

test('ledger_items are the books of all shards together', async () => {
  const of = (signal: string, accepted: number, written: number, waiting: number, dead: number, dropped: number) =>
    Object.fromEntries(
      Object.entries({ accepted, written, waiting, dead, dropped }).map(([state, n]) => [`${state}:${signal}`, n]),
    );
  await book(0, { ...of('logs', 100, 40, 30, 20, 10), ...of('traces', 7, 7, 0, 0, 0), bytes: 11, deadBytes: 3 });
  await book(1, { ...of('logs', 1, 0, 0, 0, 1), bytes: 22, deadBytes: 0 });
  await store.redis.command(['HSET', '{s1}:dead', 'one', '{}', 'two', '{}'], '{s1}:');
  await store.redis.command(['ZADD', '{s0}:requests', 1, 'a', 2, 'b', 3, 'c'], '{s0}:');
  const { value } = await scrape();
  const ledger = (signal: string) =>
    ['accepted', 'written', 'waiting', 'dead', 'dropped'].map((state) => value('ledger_items', { signal, state }));
  expect(ledger('logs')).toEqual([101, 40, 30, 20, 11]);
  expect(ledger('traces')).toEqual([7, 7, 0, 0, 0]);
  expect(ledger('metrics')).toEqual([0, 0, 0, 0, 0]);
  expect(value('queue_items', { signal: 'logs' })).toBe(30);
  const perShard = (name: string) => ['0', '1'].map((shard) => value(name, { shard }));
  expect(perShard('queue_bytes')).toEqual([11, 22]);
  expect(perShard('dead_letter_bytes')).toEqual([3, 0]);
  expect(perShard('dead_letters')).toEqual([0, 2]);
  expect(perShard('resend_remembered')).toEqual([3, 0]);
});

test('freshness: of the newest item of any shard, growing, and no figure before the first', async () => {
  await book(0, { 'newest:logs': Date.now() - 600_000 });
  await book(1, { 'newest:logs': Date.now() - 10_000 });
  const first = await scrape();
  const seconds = first.value('freshness_seconds', { signal: 'logs' });
  expect(seconds).toBeGreaterThanOrEqual(10);
  expect(seconds).toBeLessThan(300);
  expect(first.known('freshness_seconds', 'signal="traces"')).toBe(false);
  await server.kill();
  await sleep(50);
  const grown = (await scrape()).value('freshness_seconds', { signal: 'logs' });
  expect(grown).toBeGreaterThan(seconds);
});

test('a clock of Redis that was set back gives no freshness below 0', async () => {
  await book(0, { 'newest:logs': Date.now() + 3_600_000 });
  const { value } = await scrape();
  expect(value('freshness_seconds', { signal: 'logs' })).toBeGreaterThanOrEqual(0);
});

test('whoever listens gets the books of all shards, each time that they were read', async () => {
  const heard: number[][] = [];
  await book(0, { bytes: 5 });
  await book(1, { bytes: 7, deadBytes: 2 });
  open().onRead((shards) => heard.push(shards.map(({ queueBytes }) => queueBytes)));
  await open().refresh();
  expect(heard[0]).toEqual([5, 7]);
  expect(open().queueBytes).toBe(14);
});
