/**
 * Goal: what may come in while clients are slowed, and each thing that a process looks at itself: Redis' memory, the age
 * of the queue, its event loop, what is inside of it.
 */
import { describe, expect, test } from 'vitest';
import { parseMemory } from '../../src/app/pressure-redis.ts';
import { eventually } from '../redis/server.ts';
import { all, begin, book, bookAndRead, reasonOf, useProcesses } from './processes.ts';

useProcesses();

describe('what may come in', () => {
  test('anything while open; the drain and a part of the room while the queue slows', async () => {
    const gateway = await begin();
    const { pressure, books } = gateway;
    books.bytesMax = 1_000_000;
    pressure.refresh();
    expect(pressure.capacity()).toBeUndefined();
    await bookAndRead(gateway, 880_000, { 'waiting:logs': 880 });
    pressure.refresh();
    // 120 kB of room in 30 s, nothing drains, and a stored byte counts as one on the wire until it was measured.
    expect(pressure.level).toBe(1);
    expect(pressure.capacity()).toBe(4_000);
    await book(1_000_000);
    await gateway.store.counts(0);
    expect(pressure.verdict()).toBeDefined();
    expect(pressure.capacity()).toBe(0);
  });

  test('stored bytes are reckoned as bytes on the wire by what is accepted', async () => {
    const gateway = await begin();
    const { pressure, books } = gateway;
    books.bytesMax = 1_000_000;
    // 100 bytes stored of each item, 400 on the wire.
    await book(880_000, { 'waiting:logs': 8_800 });
    pressure.start();
    await eventually(() => {
      pressure.note({ items: 10, wireBytes: 4_000 });
      return Math.abs(pressure.status().storedPerWire - 0.25) < 0.01 && pressure.level === 1;
    }, 'the ratio is measured');
    expect(pressure.capacity()).toBeCloseTo(16_000, -2);
  });

  test('of anything else less and less while it lasts, and more when it is over', async () => {
    const [gateway, writer] = [await begin(), await begin('writer')];
    for (const { pressure } of all) pressure.start();
    writer.strain.readings = [{ reason: 'clickhouse_disk', value: 3.2, limit: 3, ratio: 0.94 }];
    const noting = setInterval(() => gateway.pressure.note({ items: 1, wireBytes: 1_000 }), 10);
    const first = await eventually(() => gateway.pressure.capacity(), 'a capacity');
    const less = await eventually(() => {
      const capacity = gateway.pressure.capacity() ?? 0;
      const isFor = gateway.pressure.reasons.join() === 'clickhouse_disk';
      return isFor && capacity < (first ?? 0) * 0.9 && capacity;
    }, 'less, for this reason alone');
    writer.strain.readings = [];
    await eventually(() => (gateway.pressure.capacity() ?? 0) > (less || 0), 'more');
    clearInterval(noting);
  });
});

test('Redis\' memory, against the part of maxmemory that may be used', async () => {
  const gateway = await begin('gateway', { SLUICE_PRESSURE_REDIS_MEMORY_PERCENT_MAX: '50' });
  gateway.pressure.start();
  await gateway.store.redis.command(['CONFIG', 'SET', 'maxmemory', '100mb']);
  const ratio = () => gateway.metric('pressure_ratio', { reason: 'redis_memory' });
  await eventually(async () => (await ratio()) > 0, 'a reading');
  expect(await ratio()).toBeLessThan(0.2);
  const piece = 'x'.repeat(4_000_000);
  for (let i = 0; i < 13; i++) await gateway.store.redis.command(['SET', `ballast:${i}`, piece], 'ballast');
  await eventually(() => reasonOf(gateway) === 'redis_memory', 'refused');
  for (let i = 0; i < 13; i++) await gateway.store.redis.command(['DEL', `ballast:${i}`], 'ballast');
  await eventually(() => gateway.pressure.verdict() === undefined, 'let in');
});

test.each([
  ['used_memory:500\r\nmaxmemory:1000\r\nmem_not_counted_for_evict:100\r\n', { usedBytes: 400, maxBytes: 1_000 }],
  ['used_memory:500\r\nused_memory_rss:900\r\nmaxmemory:1000\r\n', { usedBytes: 500, maxBytes: 1_000 }],
  ['used_memory:500\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n', undefined],
  ['', undefined],
])('INFO memory %j', (info, wanted) => {
  expect(parseMemory(info)).toEqual(wanted);
});

test('the age of the oldest batch, where it is bounded', async () => {
  const gateway = await begin('gateway', { SLUICE_PRESSURE_QUEUE_AGE_SECONDS_MAX: '1000' });
  const { store, books, pressure } = gateway;
  const sealed = (seconds: number) =>
    store.redis.command(['ZADD', '{s0}:sealed', Date.now() - seconds * 1_000, 'one'], '{s0}:');
  const read = async () => {
    await books.refresh();
    pressure.refresh();
  };
  await sealed(900);
  await eventually(async () => {
    await read();
    return pressure.level > 0;
  }, 'slowing');
  expect([pressure.level, pressure.reasons]).toEqual([1, ['queue_old']]);
  await sealed(1_100);
  await eventually(async () => {
    await read();
    return reasonOf(gateway) === 'queue_old';
  }, 'refused');
});

test('one turn of the event loop that takes seconds refuses nothing; many in a row do, and it passes', async () => {
  const gateway = await begin('gateway', { SLUICE_PRESSURE_EVENT_LOOP_MS_MAX: '300' });
  gateway.pressure.start();
  await eventually(() => gateway.pressure.board.length === 1, 'it runs');
  const block = (ms: number) => {
    const until = performance.now() + ms;
    while (performance.now() < until);
  };
  let highest = 0;
  block(1_500);
  for (let i = 0; i < 10; i++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    highest = Math.max(highest, gateway.pressure.level);
  }
  expect(highest).toBeLessThan(2);
  await eventually(() => {
    block(700);
    return reasonOf(gateway) === 'event_loop';
  }, 'refused');
  await eventually(() => gateway.pressure.level === 0, 'let in');
});

test('commits that are slow, as they were measured', async () => {
  const gateway = await begin('gateway', { SLUICE_PRESSURE_COMMIT_MS_MAX: '100' });
  gateway.pressure.start();
  const committing = setInterval(() => gateway.instruments.commitSeconds.observe(0.3), 20);
  await eventually(() => reasonOf(gateway) === 'commit_slow', 'refused');
  clearInterval(committing);
  await eventually(() => gateway.pressure.level === 0, 'let in');
});

test('what is inside, near its limit, is a warning: the door itself refuses', async () => {
  const { pressure } = await begin();
  let requests = 90;
  pressure.inside = () => ({ requests, requestsMax: 100, bytes: 5, bytesMax: 100 });
  pressure.start();
  await eventually(() => pressure.reasons.includes('requests_in_flight'), 'a warning');
  expect([pressure.level, pressure.verdict(), pressure.capacity()]).toEqual([1, undefined, undefined]);
  requests = 0;
  await eventually(() => pressure.level === 0, 'none');
});
