/**
 * Goal: what can't be stored is kept whole, with its reason, or nothing has happened; the books always sum up, the
 * bound on its room holds to the byte, and a full Redis changes nothing by halves.
 */
import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { SealedBatch } from '../../src/model/batch.ts';
import type { KeptLetter } from '../../src/queue/letters.ts';
import { eventually, RedisServer } from '../redis/server.ts';
import {
  books,
  clock,
  only,
  open,
  part,
  payloadOf,
  redis,
  sealedOne,
  store,
  useLetters,
  whole,
  WHY,
} from './letters.ts';
import { append, bytesOf, fragment, openStore } from './support.ts';

useLetters();

describe('the division of a batch', () => {
  it('is empty, then what was noted, until the batch ends', async () => {
    const { letters } = open();
    const batch = await sealedOne();
    expect(await letters.division(batch)).toEqual(new Map());
    await letters.note(batch, 'all', 'split');
    await letters.note(batch, '3:0-99', 'stored');
    await letters.note(batch, 'all', 'split');
    expect([...(await letters.division(batch))]).toEqual(
      expect.arrayContaining([
        ['all', 'split'],
        ['3:0-99', 'stored'],
      ]),
    );
    await expect(letters.note(batch, 'all', 'stored')).rejects.toMatchObject({
      code: 'part_noted',
      retry: 'here',
    });
    expect((await letters.division(batch)).get('all')).toBe('split');

    expect(await letters.setAside(batch, 10, [])).toBe('aside');
    await expect(letters.note(batch, '4', 'split')).rejects.toMatchObject({
      code: 'batch_gone',
      retry: 'here',
    });
    expect(await letters.division(batch)).toEqual(new Map());
    expect(await books()).toMatchObject({ accepted: 10, written: 10 });
    expect(await redis.command(['KEYS', '*:parts:*'])).toEqual([]);
  });

  it('that another version noted is not guessed at', async () => {
    const batch = await sealedOne();
    await redis.command(['HSET', `{s0}:parts:${batch.id}`, '3', 'melted']);
    await expect(open().letters.division(batch)).rejects.toMatchObject({ code: 'division_unreadable' });
  });
});

describe('set aside', () => {
  it('a whole batch keeps its bytes where they are', async () => {
    const { letters } = open();
    const payload = randomBytes(70_000);
    const batch = await sealedOne(payload);
    await letters.note(batch, '0', 'split');
    expect(await letters.setAside(batch, 0, [whole(batch)])).toBe('aside');
    const letter = await only(letters);
    expect(letter).toMatchObject({ ...batch, ...WHY, batch: batch.id, range: 'all', replays: 0 });
    expect(Math.abs(letter.buriedAtMs - Date.now())).toBeLessThan(60_000);
    expect(letter.firstBuriedAtMs).toBe(letter.buriedAtMs);
    expect((await payloadOf(letters, letter)).equals(payload)).toBe(true);
    expect(await letters.read(letter.id)).toEqual(letter);
    expect(await letters.read('nothing')).toBeUndefined();
    // What is known of its parts stays, for when it is replayed.
    expect([...(await letters.division(batch))]).toEqual([['0', 'split']]);
    expect(await books()).toEqual({
      accepted: 10,
      written: 0,
      waiting: 0,
      dead: 10,
      dropped: 0,
      queueBytes: 0,
      deadBytes: 70_000,
    });
  });

  it('parts have bytes of their own, and the batch is gone', async () => {
    const { letters } = open();
    const batch = await sealedOne(1_000);
    await letters.note(batch, 'all', 'split');
    const one = part(batch, '0:3-3', 1, 300);
    const two = part(batch, '0:5-7', 3, 100, 2_000_0);
    expect(await letters.setAside(batch, 6, [one, two])).toBe('aside');
    const { letters: kept, groups } = await letters.list({}, 10);
    expect(kept).toHaveLength(2);
    for (const draft of [one, two]) {
      const letter = kept.find(({ id }) => id === draft.id) as KeptLetter;
      const bytes = Buffer.concat(draft.fragments ?? []);
      const { rows, range } = draft;
      const { table, layout, shard, sealedAtMs, newestAtMs } = batch;
      const fragments = draft.fragments?.length;
      const from = { table, layout, shard, sealedAtMs, newestAtMs, batch: batch.id };
      expect(letter).toMatchObject({ ...WHY, ...from, rows, range, bytes: bytes.length, fragments });
      expect((await payloadOf(letters, letter)).equals(bytes)).toBe(true);
    }
    expect(groups).toEqual([
      { signal: 'traces', table: 'otel_traces', reason: WHY.reason, letters: 2, rows: 4, bytes: 20_400 },
    ]);
    expect(await books()).toEqual({
      accepted: 10,
      written: 6,
      waiting: 0,
      dead: 4,
      dropped: 0,
      queueBytes: 0,
      deadBytes: 20_400,
    });
    expect((await store.counts(0)).items.traces.newestWrittenAtMs).toBe(batch.newestAtMs);
    expect(await redis.command(['EXISTS', `{s0}:batch:${batch.id}`, `{s0}:parts:${batch.id}`])).toBe(0);
    expect(await redis.command(['HEXISTS', '{s0}:meta', batch.id])).toBe(0);
  });

  it.each([
    ['finished', (batch: SealedBatch) => store.finish(batch)],
    ['set aside', (batch: SealedBatch) => open().letters.setAside(batch, 0, [whole(batch)])],
    ['divided', (batch: SealedBatch) => open().letters.setAside(batch, 9, [part(batch, '0:1-1', 1, 5)])],
  ])('of a batch that was %s changes nothing', async (_, end) => {
    const { letters } = open();
    const batch = await sealedOne();
    await end(batch);
    const before = await redis.command(['DEBUG', 'DIGEST']);
    expect(await letters.setAside(batch, 0, [whole(batch)])).toBe('gone');
    expect(await letters.setAside(batch, 9, [part(batch, '0:2-2', 1, 5)])).toBe('gone');
    expect(await redis.command(['DEBUG', 'DIGEST'])).toBe(before);
    expect(await store.finish(batch)).toBe(false);
    await books();
  });

  it('at the same moment as it is finished: one of them', async () => {
    const { letters } = open();
    for (let i = 0; i < 20; i++) {
      const batch = await sealedOne();
      const [finished, aside] = await Promise.all([
        store.finish(batch),
        letters.setAside(batch, 0, [whole(batch)]),
      ]);
      expect(finished).toBe(aside === 'gone');
    }
    expect((await books()).accepted).toBe(200);
  });

  it.each([
    ['rows are missing', (batch: SealedBatch) => [part(batch, '0', 9, 5)]],
    [
      'an id is no safe name',
      (batch: SealedBatch) => [{ ...part(batch, '0', 10, 5), id: `${batch.id}/0:1` }],
    ],
    ['a part has no bytes', (batch: SealedBatch) => [part(batch, '0', 10)]],
    ['a part goes by the name of the batch', (b: SealedBatch) => [{ ...part(b, '0', 10, 5), id: b.id }]],
    ['the whole goes by another name', (batch: SealedBatch) => [{ ...whole(batch), id: 'other' }]],
    ['the whole is not alone', (b: SealedBatch) => [{ ...whole(b), rows: 5 }, part(b, '0', 5, 5)]],
  ])('is a mistake of ours when %s', async (_, drafts) => {
    const batch = await sealedOne();
    await expect(open().letters.setAside(batch, 0, drafts(batch))).rejects.toThrow('assertion failed');
    expect(await books()).toMatchObject({ waiting: 10, dead: 0 });
  });

  it('never writes over another batch', async () => {
    const { letters } = open();
    const [one, other] = [await sealedOne(), await sealedOne()];
    const draft = { ...part(one, '0:1-1', 1, 5), id: other.id };
    await expect(letters.setAside(one, 9, [draft])).rejects.toMatchObject({ code: 'redis_error' });
    expect(await books()).toMatchObject({ waiting: 20, dead: 0 });
    expect(await bytesOf(store, other)).toHaveLength(100);
  });
});

describe('the bound', () => {
  // Each row: the settings, bytes of letters that are there (the oldest first), bytes of the parts that come,
  // and what is there afterwards, in the order of coming; undefined where the batch has to wait.
  it.each([
    ['wait', 100, [60], [40], [60, 40]],
    ['wait', 100, [60], [41], undefined],
    ['wait', 100, [60], [20, 20], [60, 20, 20]],
    ['wait', 100, [60], [20, 21], undefined],
    ['wait', 0, [], [1], undefined],
    ['drop_new', 100, [60], [40], [60, 40]],
    ['drop_new', 100, [60], [41], [60]],
    ['drop_new', 100, [60], [41, 40], [60, 40]],
    ['drop_new', 0, [], [1], []],
    ['drop_oldest', 100, [60], [40], [60, 40]],
    ['drop_oldest', 100, [60], [41], [41]],
    ['drop_oldest', 100, [30, 30, 30], [11], [30, 30, 11]],
    ['drop_oldest', 100, [30, 30, 30], [40], [30, 30, 40]],
    ['drop_oldest', 100, [30, 30, 30], [41], [30, 41]],
    ['drop_oldest', 100, [30, 30, 30], [50, 50], [50, 50]],
    ['drop_oldest', 100, [30, 30], [101], [30, 30]],
    ['drop_oldest', 100, [30, 30], [60, 101], [30, 60]],
  ] as const)('%s, %i bytes: %j and then %j', async (whenFull, bytesMax, there, come, after) => {
    const { letters, log, dropped } = open({ bytesMax, whenFull });
    const all = open().letters;
    const ids: string[] = [];
    for (const bytes of there) {
      const batch = await sealedOne();
      const draft = part(batch, '0', 10, bytes);
      ids.push(draft.id);
      await all.setAside(batch, 0, [draft]);
      const { buriedAtMs } = (await all.read(draft.id)) as KeptLetter;
      await eventually(async () => (await clock()) > buriedAtMs, 'a later time');
    }
    const batch = await sealedOne();
    const drafts = come.map((bytes, i) => part(batch, `0:${i}-${i}`, 1, bytes));
    const aside = letters.setAside(batch, 10 - come.length, drafts);
    if (after === undefined) {
      await expect(aside).rejects.toMatchObject({
        code: 'dead_letters_full',
        retry: 'here',
        message: expect.stringMatching(/take \d+ bytes.*the limit is \d+ \(SLUICE_DEAD_LETTERS_BYTES_MAX\)/),
      });
      expect(await books()).toMatchObject({ waiting: 10, dropped: 0 });
      return;
    }
    expect(await aside).toBe('aside');
    const { letters: kept } = await letters.list({}, 100);
    const order = [...ids, ...drafts.map(({ id }) => id)];
    const bytes = [...kept]
      .sort((a, b) => order.indexOf(a.id) - order.indexOf(b.id))
      .map((letter) => letter.bytes);
    expect(bytes).toEqual(after);
    const figures = await books();
    expect(figures.waiting).toBe(0);
    expect(figures.deadBytes).toBeLessThanOrEqual(bytesMax);
    // Each that was thrown away has its line, and its rows are counted.
    const gone = order.length - after.length;
    expect(log.filter(({ level }) => level === 50)).toHaveLength(gone);
    for (const line of log) expect(line).toMatchObject({ code: WHY.reason, bytesMax, whenFull });
    const labels = { signal: 'traces', reason: 'dead_letters_full' };
    expect(await dropped()).toEqual(gone === 0 ? [] : [[labels, figures.dropped]]);
    // Nothing else is left of them.
    expect(await redis.command(['HLEN', '{s0}:meta'])).toBe(after.length);
    expect(await redis.command(['ZCARD', '{s0}:letters'])).toBe(after.length);
    expect(await redis.command(['KEYS', '{s0}:batch:*'])).toHaveLength(after.length);
  });

  it('may throw a whole batch away', async () => {
    const { letters, log } = open({ bytesMax: 99, whenFull: 'drop_new' });
    const batch = await sealedOne(100);
    await letters.note(batch, '0', 'split');
    expect(await letters.setAside(batch, 0, [whole(batch)])).toBe('aside');
    expect(await books()).toMatchObject({ accepted: 10, dropped: 10, dead: 0, queueBytes: 0 });
    expect(log).toMatchObject([{ letter: batch.id, rows: 10, bytes: 100 }]);
    expect(await redis.command(['KEYS', '*'])).toEqual(['{s0}:counts']);
  });
});

describe('a full Redis', () => {
  it('refuses what takes more room than it makes, whole, and nothing that makes room', async () => {
    const small = await RedisServer.start('--maxmemory', '16mb');
    const full = await openStore(small.settings, { rowsMax: 10 });
    try {
      const { letters } = open({ bytesMax: 100_000_000 }, full);
      const sealed: SealedBatch[] = [];
      const fill = async () => {
        for (;;) sealed.push(...(await append(full, fragment(10, 200_000))).sealed);
      };
      await expect(fill()).rejects.toMatchObject({ code: 'redis_full' });
      const [one, two, three, four] = sealed as [SealedBatch, SealedBatch, SealedBatch, SealedBatch];
      // Two parts, of which the first alone would find its way.
      const larger = [part(one, '0:0-1', 2, 100_000), part(one, '0:2-3', 2, 150_000)];
      await expect(letters.setAside(one, 6, larger)).rejects.toMatchObject({
        code: 'redis_full',
        retry: 'here',
      });
      expect((await letters.list({}, 10)).letters).toEqual([]);
      expect(await bytesOf(full, one)).toHaveLength(200_000);
      expect(await books(full)).toMatchObject({ waiting: sealed.length * 10, dead: 0, written: 0 });

      // A full Redis may consist of such batches: all of this has to go through.
      await letters.note(two, 'all', 'split');
      expect(await letters.division(two)).toEqual(new Map([['all', 'split']]));
      expect(await letters.setAside(two, 9, [part(two, '0:0-0', 1, 199_000)])).toBe('aside');
      expect(await letters.setAside(three, 0, [whole(three)])).toBe('aside');
      expect(await letters.replay({ id: three.id })).toMatchObject([{ letters: 1 }]);
      expect(await letters.setAside(three, 0, [whole(three)])).toBe('aside');
      expect(await letters.drop({ id: three.id })).toMatchObject([{ letters: 1 }]);
      expect(await full.finish(four)).toBe(true);
      expect(await books(full)).toMatchObject({ written: 19, dead: 1, dropped: 10 });
      // UNLINK frees in the background.
      await eventually(
        async () => (await letters.setAside(one, 6, larger)) === 'aside',
        'room for the larger parts',
      );
      expect(await books(full)).toMatchObject({ written: 25, dead: 5, dropped: 10 });
    } finally {
      full.close();
      await small.remove();
    }
  });
});
