/**
 * Goal: nothing waits when idle, groups grow while a commit is under way, each request hears of its own group
 * and of nothing else, and no row is ever acknowledged without being stored. (Of several shards:
 * commit-shards.test.ts.)
 */
import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Fragment } from '../../src/model/batch.ts';
import { Malformed, NO_BOUNDS } from '../../src/model/block.ts';
import type { BatchStore } from '../../src/queue/batch-store.ts';
import type { Within } from '../../src/queue/commit.ts';
import { RedisServer } from '../redis/server.ts';
import { LOST, ONE, openStore, outcome, SlowStore, startCommit as start } from './support.ts';

describe('a group', () => {
  let store: SlowStore;
  beforeEach(() => {
    store = new SlowStore();
  });

  it('goes out with the next turn of the event loop, with all requests of this one', async () => {
    const { submit } = start(store);
    const answers = [submit('2:a'), submit('2:b'), submit('3:c')];
    expect(store.appends).toHaveLength(0);
    await turn();
    expect(store.appends).toMatchObject([
      {
        text: 'a\nb\nc\n',
        tables: ['otel_metrics_gauge', 'otel_metrics_sum'],
        items: { signal: 'metrics', accepted: 3 },
      },
    ]);
    store.appends[0]?.resolve();
    expect(await Promise.all(answers)).toEqual([outcome(1), outcome(1), outcome(1)]);
  });

  it('grows while the commit before it is under way', async () => {
    const { submit } = start(store);
    const first = submit('2:a');
    await turn();
    const others = ['2:b', '2:c', '2:d'].map(submit);
    await turn();
    expect(store.appends).toHaveLength(1);
    store.appends[0]?.resolve();
    await first;
    await turn();
    expect(store.appends.map(({ text }) => text)).toEqual(['a\n', 'b\nc\nd\n']);
    store.appends[1]?.resolve();
    await Promise.all(others);
  });

  it('is not waited for when its request is malformed, and loses nothing by that', async () => {
    const { submit } = start(store);
    const answers = await Promise.allSettled([submit('malformed'), submit('2:')]);
    expect(answers).toMatchObject([{ reason: expect.any(Malformed) }, { value: { accepted: 0 } }]);
    await turn();
    expect(store.appends).toHaveLength(0);
    const neighbours = [submit('2:a'), submit('malformed').catch(() => 'refused'), submit('2:b')];
    await turn();
    store.appends[0]?.resolve();
    expect(await Promise.all(neighbours)).toEqual([outcome(1), 'refused', outcome(1)]);
    expect(store.appends.map(({ text }) => text)).toEqual(['a\nb\n']);
  });

  it('goes on without a request that is beyond a bound, or that nobody takes', async () => {
    const { submit, commit } = start(store);
    const within = (valueBytesMax: number, takes: Within['takes']): Within => {
      return { bounds: { ...NO_BOUNDS, valueBytesMax }, takes };
    };
    const offer = (text: string, bounds: Within) => commit.submitWithin(Buffer.from(text), bounds);
    const first = submit('2:a');
    expect(offer('2:b,long', within(3, () => true))).toBeUndefined();
    expect(offer('2:c', within(3, ({ accepted }) => accepted > 1))).toBeUndefined();
    const told = new Error('not this one');
    const thrown = () => {
      throw told;
    };
    expect(() => offer('2:d', within(3, thrown))).toThrow(told);
    const second = offer('2:e', within(3, () => true));
    await turn();
    store.appends[0]?.resolve();
    expect(await Promise.all([first, second])).toEqual([outcome(1), outcome(1)]);
    expect(store.appends.map(({ text }) => text)).toEqual(['a\ne\n']);
  });

  it('that fails fails for all its requests and for nobody else', async () => {
    const { submit, instruments } = start(store);
    const first = [submit('2:a'), submit('2:b')];
    await turn();
    const second = [submit('2:c')];
    store.appends[0]?.reject(LOST);
    expect(await Promise.allSettled(first)).toMatchObject([{ reason: LOST }, { reason: LOST }]);
    await turn();
    expect(store.appends[1]?.text).toBe('c\n');
    store.appends[1]?.resolve();
    expect(await Promise.all(second)).toEqual([outcome(1)]);
    const { values } = await instruments.commits.get();
    expect(values.map(({ labels, value }) => [labels.outcome, value])).toEqual([
      ['failed', 1],
      ['stored', 1],
    ]);
  });

  it('closes its blocks early when they are large, and stays one group', async () => {
    const { submit } = start(store, 4);
    const first = submit('2:x');
    await turn();
    const others = ['2:a', '2:b', '3:c', '2:d'].map(submit);
    store.appends[0]?.resolve();
    await first;
    await turn();
    expect(store.appends[1]).toMatchObject({ text: 'a\nb\nd\nc\n', items: { accepted: 4 } });
    expect(store.appends[1]?.tables).toEqual([
      'otel_metrics_gauge',
      'otel_metrics_gauge',
      'otel_metrics_sum',
    ]);
    store.appends[1]?.resolve();
    await Promise.all(others);
  });

  it('that is full goes alone, the next one after it', async () => {
    const { submit, commit } = start(store, 1_000_000);
    const first = submit('2:x');
    await turn();
    const row = 'y'.repeat(999_999);
    const others = Array.from({ length: 17 }, () => submit(`2:${row}`));
    const last = submit('3:z');
    store.appends[0]?.resolve();
    await first;
    for (const accepted of [9, 8 + 1]) {
      await turn();
      expect(store.appends.at(-1)?.items.accepted).toBe(accepted);
      store.appends.at(-1)?.resolve();
      await turn();
    }
    await Promise.all([...others, last, commit.drain()]);
    expect(store.appends).toHaveLength(3);
  });

  it('takes fragments that were made elsewhere', async () => {
    const { commit, submit } = start(store);
    const made: Fragment[] = [2, 3].map((rows) => ({
      shard: 0,
      table: 'otel_metrics_sum',
      layout: 'z1',
      rows,
      bytes: Buffer.from(`${rows}!`),
    }));
    const answers = [
      submit('2:a'),
      commit.submitFragments(made, outcome(5), ONE),
      submit('2:b'),
      commit.submitFragments([], outcome(0), ONE),
    ];
    await turn();
    expect(store.appends).toMatchObject([{ text: '2!3!a\nb\n', items: { accepted: 7 } }]);
    store.appends[0]?.resolve();
    expect((await Promise.all(answers)).map(({ accepted }) => accepted)).toEqual([1, 5, 1, 0]);
  });

  it('is waited for by drain, with those behind it', async () => {
    const { commit, submit } = start(store);
    await commit.drain();
    const answers = [submit('2:a')];
    await turn();
    answers.push(submit('2:b'));
    let drained = false;
    const draining = commit.drain().then(() => {
      drained = true;
    });
    store.appends[0]?.resolve();
    await turn();
    await turn();
    expect(drained).toBe(false);
    store.appends[1]?.reject(LOST);
    await draining;
    expect((await Promise.allSettled(answers)).map(({ status }) => status)).toEqual([
      'fulfilled',
      'rejected',
    ]);
  });
});

describe('on a real Redis', () => {
  let server: RedisServer;
  let store: BatchStore;
  beforeAll(async () => {
    server = await RedisServer.start();
    store = await openStore(server.settings, { rowsMax: 100 });
  });
  afterAll(async () => {
    store.close();
    await server.remove();
  });

  it('stores every acknowledged row once, in batches that it hands on', async () => {
    let sealedRows = 0;
    const { commit, submit, instruments } = start(store, 500, (_, { sealed }) => {
      for (const { rows } of sealed) sealedRows += rows;
    });
    const client = async (name: number) => {
      let rows = 0;
      for (let i = 0; i < 40; i++)
        rows += (await submit(`${2 + (i % 5)}:${name}-${i}-a,${name}-${i}-b`)).accepted;
      return rows;
    };
    const rows = await Promise.all(Array.from({ length: 50 }, (_, name) => client(name)));
    await commit.drain();
    expect(rows.reduce((a, b) => a + b)).toBe(4_000);
    const { items } = await store.counts(0);
    expect(items.metrics).toMatchObject({ accepted: 4_000, waiting: 4_000 });
    expect(sealedRows).toBeGreaterThan(3_000);
    const { values } = await instruments.commits.get();
    expect(values[0]?.value).toBeLessThan(50 * 40);
  });
});
