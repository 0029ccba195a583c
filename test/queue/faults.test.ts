/**
 * Goal: what was acknowledged is there after Redis died; what was not acknowledged is a Fault; a full Redis
 * refuses appends whole and can still be emptied.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, expect, it } from 'vitest';
import type { SealedBatch } from '../../src/model/batch.ts';
import type { BatchStore } from '../../src/queue/batch-store.ts';
import { CuttingProxy } from '../redis/proxy.ts';
import { eventually, RedisServer } from '../redis/server.ts';
import { append, bury, bytesOf, fragment, openStore } from './support.ts';

const endings: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of endings.splice(0).reverse()) await end();
});

async function start(...args: string[]): Promise<RedisServer> {
  const server = await RedisServer.start(...args);
  endings.push(() => server.remove());
  return server;
}

async function open(server: RedisServer, port = server.port, timeoutMs = 20_000): Promise<BatchStore> {
  const redis = { ...server.settings, url: `redis://127.0.0.1:${port}`, timeoutMs };
  const store = await openStore(redis, { rowsMax: 20 });
  endings.push(() => store.close());
  return store;
}

/** Everything in open and sealed batches, as text. */
async function everything(store: BatchStore, server: RedisServer): Promise<string> {
  const redis = await server.connect();
  const ids = await store.sealedIds(0, 100_000);
  const lists = [...ids.map((id) => `{s0}:batch:${id}`), '{s0}:open:otel_traces:z1'];
  const parts = await Promise.all(lists.map((key) => redis.command(['LRANGE', key, 0, -1])));
  redis.close();
  return parts.flat().join('');
}

it('keeps what was acknowledged when Redis is killed, again and again', async () => {
  const server = await start();
  const store = await open(server);
  const acknowledged: string[] = [];
  let sent = 0;
  let going = true;
  const appender = async () => {
    while (going) {
      const name = `<${sent++}>`;
      try {
        await append(store, fragment(1, Buffer.from(name)));
        acknowledged.push(name);
      } catch (error) {
        expect(error).toMatchObject({ code: 'redis_unavailable', retry: 'here' });
        await delay(1);
      }
    }
  };
  const appenders = Array.from({ length: 8 }, appender);
  for (let round = 1; round <= 3; round++) {
    const before = acknowledged.length;
    await eventually(() => acknowledged.length > before + 200, 'appends');
    await server.kill();
    await server.up();
    await eventually(() => store.redis.ready, 'the connection is back');
  }
  going = false;
  await Promise.all(appenders);
  const stored = await everything(store, server);
  const names = stored.match(/<\d+>/g) ?? [];
  expect(acknowledged.filter((name) => !stored.includes(name))).toEqual([]);
  // An append whose answer was lost may be there, but never twice: it is not repeated by us.
  expect(new Set(names).size).toBe(names.length);
  expect((await store.counts(0)).items.traces.accepted).toBe(names.length);
});

it('rejects an append whose answer is cut off, although it may be stored', async () => {
  const server = await start();
  const proxy = await CuttingProxy.start(server.port);
  endings.push(() => proxy.stop());
  const store = await open(server, proxy.port);
  await append(store, fragment(1, Buffer.from('<first>')));
  proxy.cutAnswersAfterBytes = 9;
  proxy.cut();
  await eventually(() => !store.redis.ready, 'the connection breaks');
  await eventually(() => store.redis.ready, 'the connection is back');
  await expect(append(store, fragment(1, Buffer.from('<second>')))).rejects.toMatchObject({
    code: 'redis_unavailable',
  });
  proxy.cutAnswersAfterBytes = Number.POSITIVE_INFINITY;
  await eventually(async () => (await everything(store, server)) === '<first><second>', 'both are stored');
});

it('rejects an append that takes too long', async () => {
  const server = await start();
  const store = await open(server, server.port, 500);
  server.signal('SIGSTOP');
  try {
    await expect(append(store, fragment(1))).rejects.toMatchObject({ code: 'redis_unavailable' });
  } finally {
    server.signal('SIGCONT');
  }
});

it('goes on when Redis forgot its scripts', async () => {
  const server = await start();
  const store = await open(server);
  const redis = await server.connect();
  endings.push(() => redis.close());
  await append(store, fragment(19, 400_000));
  await redis.command(['SCRIPT', 'FLUSH']);
  const { sealed } = await append(store, fragment(1, 400_000));
  expect(sealed).toMatchObject([{ rows: 20, bytes: 800_000 }]);
  await redis.command(['SCRIPT', 'FLUSH']);
  expect(await store.finish(sealed[0] as SealedBatch)).toBe(true);
  expect((await store.counts(0)).items.traces).toMatchObject({ accepted: 20, written: 20, waiting: 0 });
});

it('refuses appends whole when Redis is full, and is open again when batches were finished', async () => {
  const server = await start('--maxmemory', '8mb');
  const store = await open(server);
  const sealed: SealedBatch[] = [];
  let accepted = 0;
  const fill = async () => {
    for (;;) {
      // Two tables at once: a refusal must come before either has anything.
      const fragments = [
        fragment(10, 100_000, 'otel_metrics_gauge'),
        fragment(10, 100_000, 'otel_metrics_sum'),
      ] as const;
      sealed.push(...(await append(store, ...fragments)).sealed);
      accepted += 20;
    }
  };
  await expect(fill()).rejects.toMatchObject({ code: 'redis_full', retry: 'here' });
  expect(sealed.length).toBeGreaterThan(5);
  expect((await store.counts(0)).items.metrics).toMatchObject({ accepted, waiting: accepted });
  // While it is full: sealing by age is not refused, nor is reading, finishing and burying.
  const due = await openStore(server.settings, { ageMsMax: 0 });
  sealed.push(...(await due.sealDue(0)).sealed);
  due.close();
  for (const [i, batch] of sealed.entries()) {
    expect(await bytesOf(store, batch)).toHaveLength(batch.bytes);
    expect(await (i === 0 ? bury(store, batch, 'test', 'x'.repeat(1_000)) : store.finish(batch))).toBe(true);
  }
  const { items } = await store.counts(0);
  expect(items.metrics.written + items.metrics.dead).toBe(accepted);
  // UNLINK frees in the background.
  await eventually(async () => (await append(store, fragment(1))).queueBytes > 0, 'there is room again');
});
