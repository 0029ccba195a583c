/**
 * Goal: the processes of an installation read each other within a second on a real Redis, one that dies is gone after
 * two, what can't be read does no harm, and while Redis is away the last state stays for a while.
 */
import { afterEach, describe, expect, test } from 'vitest';
import {
  type Demand, type Entry, PRESSURE_KEY, PressureBoard, parseEntry,
} from '../../src/admit/pressure-board.ts';
import { RedisClient } from '../../src/redis/client.ts';
import { redis, server, useEmptyRedis } from '../queue/redis.ts';
import { RedisServer, eventually, silent } from '../redis/server.ts';
import { redisSettings } from '../support/settings.ts';

useEmptyRedis();

interface Member {
  readonly board: PressureBoard;
  readonly client: RedisClient;
  entry: Entry;
  reads: number;
  /** By `performance.now()`, of the last round. */
  readAtMs: number;
}

const members: Member[] = [];

function entryOf(wireBytesPerSecond: number, tenants: Demand = {}): Entry {
  const reading = { reason: 'queue_full' as const, value: 10, limit: 100, ratio: 0.1, level: 0 as const };
  return { role: 'gateway', readings: [reading], wireBytesPerSecond, itemsPerSecond: 1, tenants };
}

async function join(id: string, url = server.url): Promise<Member> {
  const client = new RedisClient({ redis: redisSettings(url, { timeoutMs: 30_000 }), logger: silent });
  await client.connect();
  const onRead = () => {
    member.reads += 1;
    member.readAtMs = performance.now();
  };
  const board = new PressureBoard({ redis: client, id, entry: () => member.entry, onRead, logger: silent });
  const member: Member = { board, client, entry: entryOf(0), reads: 0, readAtMs: 0 };
  members.push(member);
  board.start();
  return member;
}

afterEach(async () => {
  for (const { board, client } of members.splice(0)) {
    await board.stop();
    client.close();
  }
});

const seenBy = ({ board }: Member) =>
  Object.fromEntries(board.entries.map(({ id, wireBytesPerSecond }) => [id, wireBytesPerSecond]));

test('several boards agree within a second, and follow what changes', async () => {
  const all = [await join('one'), await join('two'), await join('three'), await join('four')];
  /** In how many ms all of them agree. */
  const agree = async (wanted: Readonly<Record<string, number>>) => {
    const sinceMs = performance.now();
    const text = JSON.stringify(wanted);
    await eventually(() => all.every((member) => JSON.stringify(sorted(seenBy(member))) === text), 'agreement');
    return performance.now() - sinceMs;
  };
  await agree({ four: 0, one: 0, three: 0, two: 0 });
  const took: number[] = [];
  for (let round = 1; round <= 4; round++) {
    all.forEach((member, i) => {
      member.entry = entryOf(10 * round + i, { acme: { traces: 5 } });
    });
    const at = 10 * round;
    took.push(await agree({ four: at + 3, one: at, three: at + 2, two: at + 1 }));
  }
  // Each time, but for those in which this machine stood still.
  expect(Math.min(...took)).toBeLessThan(1_000);
  expect(all[0]?.board.entries[0]).toMatchObject({ role: 'gateway', tenants: { acme: { traces: 5 } } });
});

function sorted(object: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Of Redis, to the second below. */
async function redisSeconds(): Promise<number> {
  const [seconds] = (await redis.command(['TIME'])) as string[];
  return Number(seconds);
}

test('one that dies is gone two seconds later, one that stops at once', async () => {
  const [stays, dies, stops] = [await join('stays'), await join('dies'), await join('stops')];
  await eventually(() => stays.board.entries.length === 3, 'all three');
  await stops.board.stop();
  expect(await redis.command(['HEXISTS', PRESSURE_KEY, 'stops'])).toBe(0);
  await eventually(() => !('stops' in seenBy(stays)) && 'dies' in seenBy(stays), 'the end of one');
  const entryText = () => redis.command(['HGET', PRESSURE_KEY, 'dies']);
  const stampMs = Number.parseInt(String(await eventually(entryText, 'its entry')), 10);
  dies.client.close();
  await eventually(() => !('dies' in seenBy(stays)), 'the end of the other');
  // Not before its time: what it wrote last is at least as new as that.
  expect((await redisSeconds()) + 1).toBeGreaterThanOrEqual((stampMs + 2_000) / 1_000);
  expect(await redis.command(['HKEYS', PRESSURE_KEY])).toEqual(['stays']);
});

test('entries of other kinds, and of a clock that was set back, do no harm', async () => {
  const member = await join('me');
  const write = async () => {
    const ms = (await redisSeconds()) * 1_000;
    const foreign: readonly (readonly [string, string])[] = [
      ['no time', '{"role":"gateway","readings":[]}'],
      ['from later', `${ms + 3_600_000} {"role":"gateway","readings":[]}`],
      ['no JSON', `${ms} {`],
      ['a list', `${ms} []`],
      ['newer', `${ms} {"role":"sage","readings":[{"reason":"moon","ratio":1}],"more":1}`],
    ];
    await redis.command(['HSET', PRESSURE_KEY, ...foreign.flat()]);
  };
  // Again and again, as those who live do: what is two seconds old is no longer there to be read.
  const entries = await eventually(async () => {
    await write();
    const { reads } = member;
    await eventually(() => member.reads > reads, 'a round');
    return 'newer' in seenBy(member) && member.board.entries;
  }, 'a round with all of them');
  expect((entries || []).map(({ id }) => id).sort()).toEqual(['me', 'newer']);
  expect((entries || []).find(({ id }) => id === 'newer')?.readings).toEqual([]);
  const { reads } = member;
  await eventually(() => member.reads > reads, 'another round');
  const left = (await redis.command(['HKEYS', PRESSURE_KEY])) as string[];
  expect(left).not.toContain('from later');
  expect(left).not.toContain('no time');
});

test('a Redis that is full: nobody is stored, and everybody is still read', async () => {
  const full = await RedisServer.start();
  try {
    const connection = await full.connect();
    const member = await join('me', full.url);
    await eventually(() => member.board.entries.length === 1, 'a round');
    await connection.command(['CONFIG', 'SET', 'maxmemory', 1]);
    const { reads } = member;
    await eventually(() => member.reads > reads + 1, 'further rounds');
    connection.close();
  } finally {
    const [member] = members.splice(0);
    await member?.board.stop();
    member?.client.close();
    await full.remove();
  }
});

test('while Redis is away what was read stays, but not for ever', async () => {
  const own = await RedisServer.start();
  const member = await join('me', own.url);
  await eventually(() => member.board.entries.length === 1, 'a round');
  await own.kill();
  await eventually(() => !member.client.ready, 'it is noticed');
  await eventually(() => member.board.entries.length === 0, 'it is forgotten');
  expect(performance.now() - member.readAtMs).toBeGreaterThan(4_990);
  await own.up();
  await eventually(() => member.board.entries.length === 1, 'it is known again');
  members.splice(0);
  await member.board.stop();
  member.client.close();
  await own.remove();
});

describe('an entry', () => {
  test.each([
    ['', undefined],
    ['null', undefined],
    ['{"role":1,"readings":[]}', undefined],
    ['{"role":"gateway"}', undefined],
    ['{"role":"gateway","readings":{}}', undefined],
  ])('%s is none', (text, wanted) => {
    expect(parseEntry('id', text)).toBe(wanted);
  });

  test('figures that are none are 0, and a reading without its ratio is left out', () => {
    const good = { reason: 'memory', ratio: 0.5, value: 1, limit: 2, level: 1 };
    const readings = [good, { reason: 'memory' }, { ...good, ratio: 'much' }, { ...good, ratio: -1 }, 7, null];
    const text = JSON.stringify({ role: 'gateway', readings, wireBytesPerSecond: null, tenants: { a: { logs: 'x' }, b: 1 } });
    expect(parseEntry('id', text)).toEqual({
      id: 'id',
      role: 'gateway',
      readings: [good],
      wireBytesPerSecond: 0,
      itemsPerSecond: 0,
      tenants: { a: { logs: 0 }, b: {} },
    });
  });

  test('one that is too long goes without its tenants', async () => {
    const member = await join('me');
    const many = Object.fromEntries(Array.from({ length: 5_000 }, (_, i) => [`tenant-${i}`, { traces: 1 }]));
    member.entry = entryOf(7, many);
    await eventually(() => seenBy(member).me === 7, 'the entry');
    expect(member.board.entries[0]?.tenants).toEqual({});
  });
});
