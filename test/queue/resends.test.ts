/**
 * Goal: a request that was stored, wholly or in part, is not stored again: whoever shared its group then or
 * shares it now, whichever shard has which part, and whatever became of the answer.
 */
import { createHash } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import type { Fault } from '../../src/base/errors.ts';
import { BatchStore } from '../../src/queue/batch-store.ts';
import type { Resendable } from '../../src/queue/commit.ts';
import { eventually, silent } from '../redis/server.ts';
import { settingsOf } from '../support/settings.ts';
import { redis, server, useEmptyRedis } from './redis.ts';
import { append, fragment, items, openStore, outcome, placed, startCommit } from './support.ts';

let stores: BatchStore[] = [];
useEmptyRedis();
afterEach(() => {
  for (const store of stores) store.close();
  stores = [];
});

async function open(): Promise<BatchStore> {
  const store = await openStore(server.settings);
  stores.push(store);
  return store;
}

/** `3:a` is a request of three rows, a0 to a2, in the form of TextBlocks. */
function request(text: string): Buffer {
  const [count, name] = text.split(':');
  const rows = Array.from({ length: Number(count) }, (_, i) => `${name}${i}`);
  return Buffer.from(`3:${rows.join(',')}`);
}

const markOf = (text: string) => createHash('md5').update(text).digest();

function resendOf(text: string, seconds = 60): Resendable {
  return { mark: markOf(text), seconds, again: () => request(text), requestId: undefined };
}

async function gateway(weights: readonly number[] = [1], generation = 0) {
  const store = await open();
  const started = startCommit(store);
  started.commit.route(placed(weights, generation));
  const send = (text: string, seconds = 60) => started.commit.submit(request(text), resendOf(text, seconds));
  const count = async (name: 'itemsAccepted' | 'itemsDuplicate' | 'resendRebuilds' | 'resendForgotten') => {
    const { values } = await started.instruments[name].get();
    return values.reduce((sum, { value }) => sum + value, 0);
  };
  return { ...started, store, send, count };
}

/** The rows of a shard's open batch, in their order, by the names of their requests. */
async function rowsOf(shard: number): Promise<string[]> {
  const parts = await redis.command(['LRANGE', `{s${shard}}:open:otel_metrics_sum:r1`, 0, -1]);
  const rows = (parts as string[]).join('').split('\n').slice(0, -1);
  return rows.map((row) => row.replace(/\d+$/, ''));
}

async function rowsOfAll(shards: number): Promise<string[]> {
  const rows = await Promise.all(Array.from({ length: shards }, (_, shard) => rowsOf(shard)));
  return rows.flat().sort();
}

describe('a request that is repeated', () => {
  it('is acknowledged, counted and not stored again, by any gateway', async () => {
    const [one, other] = [await gateway(), await gateway()];
    expect(await one.send('3:a')).toEqual(outcome(3));
    expect(await other.send('3:a')).toEqual(outcome(3));
    expect(await one.send('3:a')).toEqual(outcome(3));
    expect(await rowsOf(0)).toHaveLength(3);
    expect((await one.store.counts(0)).items.metrics).toMatchObject({ accepted: 3, waiting: 3 });
    expect([await one.count('itemsAccepted'), await one.count('itemsDuplicate')]).toEqual([3, 3]);
    expect([await other.count('itemsAccepted'), await other.count('itemsDuplicate')]).toEqual([0, 3]);
  });

  it('leaves those alone that share its group', async () => {
    const [one, other] = [await gateway(), await gateway()];
    await one.send('1:known');
    const answers = ['2:a', '1:known', '3:b'].map((text) => other.send(text));
    expect(await Promise.all(answers)).toEqual([outcome(2), outcome(1), outcome(3)]);
    expect(await rowsOf(0)).toEqual(['known', 'a', 'a', 'b', 'b', 'b']);
    expect([await other.count('itemsAccepted'), await other.count('itemsDuplicate')]).toEqual([5, 1]);
    expect(await other.count('resendRebuilds')).toBe(1);
  });

  it('is stored again when it is not to be remembered, or no longer', async () => {
    const { send } = await gateway();
    await send('1:off', 0);
    await send('1:off', 0);
    expect(await rowsOf(0)).toEqual(['off', 'off']);
    await send('1:short', 1);
    await eventually(async () => {
      await send('1:short', 1);
      return (await rowsOf(0)).length > 3;
    }, 'it has expired');
    expect(await rowsOf(0)).toEqual(['off', 'off', 'short', 'short']);
  });

  it('is told apart by every byte of its mark', async () => {
    const { store } = await gateway();
    const mark = markOf('x');
    const other = Buffer.from(mark);
    other[15] = (other[15] ?? 0) ^ 1;
    for (const each of [mark, other]) {
      const memo = { mark: each, seconds: 60, generation: 0 };
      expect((await store.append(0, [fragment(1)], items('traces', 1, [memo]))).known).toEqual([]);
      expect((await store.append(0, [fragment(1)], items('traces', 1, [memo]))).known).toEqual([0]);
    }
  });

  it('is one of thousands', async () => {
    const { store } = await gateway();
    const memos = Array.from({ length: 2_500 }, (_, i) => ({ mark: markOf(`${i}`), seconds: 60, generation: 0 }));
    expect((await store.append(0, [fragment(1)], items('traces', 1, memos))).known).toEqual([]);
    const mixed = memos.map((memo, i) => (i % 1_000 === 999 ? memo : { ...memo, mark: markOf(`new ${i}`) }));
    expect((await store.append(0, [fragment(1)], items('traces', 1, mixed))).known).toEqual([999, 1_999]);
    expect((await store.counts(0)).remembered).toBe(2_500);
  });

  it('makes room when it expires, and is not remembered beyond the bound', async () => {
    const { resend, queue } = settingsOf();
    const batch = { rowsMax: 1e6, bytesMax: 1e9, ageMsMax: 1e9 };
    const few = { ...resend, requestsMax: 3 };
    const store = new BatchStore({ redis: server.settings, batch, queue, resend: few, logger: silent });
    stores.push(store);
    await store.connect();
    const memos = (...names: string[]) => names.map((name) => ({ mark: markOf(name), seconds: 1, generation: 0 }));
    const stored = await store.append(0, [fragment(1)], items('traces', 1, memos('a', 'b', 'c', 'd')));
    expect([stored.known, stored.forgotten]).toEqual([[], 1]);
    expect((await store.counts(0)).remembered).toBe(3);
    await eventually(async () => {
      const next = await store.append(0, [fragment(1)], items('traces', 1, memos(`${Math.random()}`)));
      return next.forgotten === 0;
    }, 'the first ones have expired');
  });
});

it('leaves nothing behind when it cannot be made anew', async () => {
  const [one, other] = [await gateway(), await gateway()];
  await one.send('1:known');
  const lost = { ...resendOf('3:lost'), again: () => Buffer.from('3:lost0') };
  const answers = [
    other.send('2:a'),
    other.commit.submit(request('3:lost'), lost),
    other.send('1:known'),
  ].map((answer) => answer.catch((error: unknown) => String(error)));
  for (const answer of await Promise.all(answers)) expect(answer).toContain('assertion failed');
  expect(await rowsOf(0)).toEqual(['known']);
  // What had been made by then must not come along with what follows.
  await Promise.all([other.send('2:b'), other.send('1:known')]);
  expect(await rowsOf(0)).toEqual(['known', 'b', 'b']);
});

describe('a request over several shards', () => {
  it('that was stored by some of them only is completed, alone or among others', async () => {
    const weights = [1, 1, 1];
    const { store, send } = await gateway(weights);
    const text = '9:half';
    const whole = await gateway(weights);
    // As if the appends to shards 0 and 2 had failed.
    const { commit } = startCommit({
      append: (shard, fragments, of) =>
        shard === 1 ? store.append(shard, fragments, of) : Promise.reject(new Error('lost')),
    });
    commit.route(placed(weights));
    await expect(commit.submit(request(text), resendOf(text))).rejects.toThrow('lost');
    const half = (await rowsOfAll(3)).length;
    expect(half).toBeGreaterThan(0);
    expect(half).toBeLessThan(9);
    await Promise.all([send('4:new'), send(text), whole.send(text)]);
    expect(await rowsOfAll(3)).toEqual([...Array<string>(9).fill('half'), ...Array<string>(4).fill('new')]);
    const books = await Promise.all([0, 1, 2].map((shard) => store.counts(shard)));
    expect(books.reduce((sum, { items: of }) => sum + of.metrics.accepted, 0)).toBe(13);
  });

  it('is refused where it was placed by a routing that holds no longer; what is known stays known', async () => {
    const old = await gateway([1], 1);
    await old.send('2:before');
    await old.store.fence(0, 2);
    const refusal = (await old.send('2:late').catch((fault: unknown) => fault)) as Fault;
    expect([refusal.code, refusal.retry, old.overtaken()]).toEqual(['routing_changed', 'here', 1]);
    // Fencing with what is older, or the same, changes nothing.
    await old.store.fence(0, 1);
    await expect(old.send('2:late')).rejects.toThrow('placed by routing 1');
    old.commit.route(placed([1], 2));
    await Promise.all([old.send('2:late'), old.send('2:before')]);
    expect(await rowsOf(0)).toEqual(['before', 'before', 'late', 'late']);
    expect(await old.store.placement(0, markOf('2:before'))).toBe(1);
    expect(await old.store.placement(0, markOf('2:late'))).toBe(2);
    expect(await old.store.placement(0, markOf('2:never'))).toBeUndefined();
  });

  it('goes where it would have gone when it came first', async () => {
    const { store } = await gateway([1, 1], 1);
    const text = '8:moved';
    const failing = startCommit({
      append: (shard, fragments, of) =>
        shard === 0 ? store.append(shard, fragments, of) : Promise.reject(new Error('lost')),
    });
    failing.commit.route(placed([1, 1], 1));
    await expect(failing.commit.submit(request(text), resendOf(text))).rejects.toThrow('lost');
    for (const shard of [0, 1, 2]) await store.fence(shard, 2);
    const grown = await gateway([1, 1, 1], 2);
    await grown.commit.submitPlaced(request(text), resendOf(text), placed([1, 1], 1));
    expect(await rowsOfAll(2)).toEqual(Array<string>(8).fill('moved'));
    expect(await rowsOf(2)).toEqual([]);
    expect(await grown.store.placement(1, markOf(text))).toBe(1);
  });
});

describe('an append', () => {
  it('that Redis refuses for want of memory remembers nothing', async () => {
    const { store, send } = await gateway();
    await redis.command(['CONFIG', 'SET', 'maxmemory', '1mb']);
    try {
      await expect(send('1:full')).rejects.toMatchObject({ code: 'redis_full' });
    } finally {
      await redis.command(['CONFIG', 'SET', 'maxmemory', '0']);
    }
    expect((await store.counts(0)).remembered).toBe(0);
    await send('1:full');
    await send('1:full');
    expect(await rowsOf(0)).toEqual(['full']);
  });

  it('whose answer was lost is recognised', async () => {
    const { store, send } = await gateway();
    const losing = startCommit({
      append: async (shard, fragments, of) => {
        await store.append(shard, fragments, of);
        throw new Error('the answer is lost');
      },
    });
    await expect(losing.commit.submit(request('2:x'), resendOf('2:x'))).rejects.toThrow('lost');
    expect(await send('2:x')).toEqual(outcome(2));
    expect(await rowsOf(0)).toEqual(['x', 'x']);
  });

  it('tells of batches from the first fragment to the insert', async () => {
    const store = await openStore(server.settings, { rowsMax: 5 });
    stores.push(store);
    await append(store, fragment(2));
    const name = String(await redis.command(['HGET', '{s0}:open:otel_traces:z1:meta', 'name']));
    expect(await store.trace(0, name)).toMatchObject({ state: 'open', rows: 2, fragments: 1, table: 'otel_traces' });
    const { sealed } = await append(store, fragment(3));
    const [batch] = sealed;
    if (batch === undefined) throw new Error('nothing was sealed');
    expect(batch.id.startsWith(`${name}.`)).toBe(true);
    expect(await store.trace(0, batch.id)).toMatchObject({ state: 'sealed', rows: 5, fragments: 2 });
    await store.finish(batch, { replica: 'ch-1:8123', insertMs: 12.4 });
    const written = { state: 'written', rows: 5, replica: 'ch-1:8123', insertMs: 12, sealedAtMs: batch.sealedAtMs };
    expect(await store.trace(0, batch.id)).toMatchObject(written);
    expect(await store.trace(0, name)).toMatchObject({ ...written, id: batch.id });
    expect(await store.trace(0, 'nobody')).toBeUndefined();
    expect(await store.trace(0, `${name}1`)).toBeUndefined();
  });
});
