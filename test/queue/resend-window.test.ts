/**
 * Goal: all gateways together find one window for repeated requests, by the traffic of all of them, moving
 * gradually, whatever Redis' clock does; sources may have their own; and they share one secret key, which
 * outlives an emptied Redis. The script runs in a real Redis, for the tables with a clock of the test's own.
 */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createInstruments } from '../../src/metrics/instruments.ts';
import { RESEND_KEY } from '../../src/queue/keys.ts';
import { ResendWindow } from '../../src/queue/resend-window.ts';
import type { RedisCommands } from '../../src/redis/client.ts';
import type { LeanConnection } from '../../src/redis/lean.ts';
import { RedisServer, eventually, silent } from '../redis/server.ts';
import { settingsOf } from '../support/settings.ts';

const SCRIPT = readFileSync(new URL('../../src/queue/lua/resend_window.lua', import.meta.url), 'utf8');
/** In front of the script: TIME is the last argument. */
const CLOCK = `local redis = setmetatable({ call = function(name, ...)
  if name == 'TIME' then return { ARGV[#ARGV], '0' } end
  return redis.call(name, ...)
end }, { __index = redis })
`;

let server: RedisServer;
let redis: LeanConnection;
/** Seconds since 1970, at the start of a bucket. */
const START = 1_700_000_000;
let now = START;

beforeAll(async () => {
  server = await RedisServer.start();
  redis = await server.connect();
});
afterAll(async () => {
  redis.close();
  await server.remove();
});
beforeEach(async () => {
  now = START;
  await redis.command(['FLUSHALL']);
});

const withClock: RedisCommands = {
  command(parts) {
    expect(parts[0]).toBe('EVALSHA');
    return redis.command(['EVAL', CLOCK + SCRIPT, ...parts.slice(2), now]);
  },
};

interface Gateway {
  readonly window: ResendWindow;
  readonly gauge: () => Promise<number | undefined>;
}

function gatewayOf(environment: Record<string, string> = {}, through: RedisCommands = withClock): Gateway {
  const instruments = createInstruments();
  const { resend } = settingsOf(environment);
  const window = new ResendWindow({ redis: through, resend, instruments, logger: silent, everyMs: 5 });
  const gauge = async () => (await instruments.resendWindow.get()).values[0]?.value;
  return { window, gauge };
}

async function started(environment: Record<string, string> = {}, through: RedisCommands = withClock) {
  const gateway = gatewayOf(environment, through);
  await gateway.window.first();
  return gateway;
}

async function send({ window }: Gateway, count: number): Promise<void> {
  for (let i = 0; i < count; i++) window.counted();
  await window.first();
}

/** So many buckets, with so many requests in each, shared out over the gateways. */
async function buckets(count: number, requests: number, ...gateways: Gateway[]): Promise<void> {
  for (let bucket = 0; bucket < count; bucket++) {
    for (const [i, gateway] of gateways.entries()) {
      await send(gateway, Math.floor((requests + i) / gateways.length));
    }
    now += 10;
  }
  for (const gateway of gateways) await gateway.window.first();
}

/** Sees a first bucket from its start, without requests. */
async function settled(...gateways: Gateway[]): Promise<void> {
  await buckets(1, 0, ...gateways);
}

describe('by traffic', () => {
  // Requests in 10 s, and the window after many such buckets.
  it.each([
    [0, 300], [10, 300], [499, 300], [500, 120], [501, 120], [4_999, 120], [5_000, 60], [20_000, 60],
  ])('%i requests in 10 s: %i s', async (requests, seconds) => {
    const gateway = await started();
    expect(gateway.window.seconds('')).toBe(300);
    await settled(gateway);
    await buckets(20, requests, gateway);
    expect(gateway.window.seconds('')).toBe(seconds);
    expect(await gateway.gauge()).toBe(seconds);
  });

  it('the rate is that of all gateways', async () => {
    const all = [await started(), await started(), await started()];
    await settled(...all);
    await buckets(20, 500, ...all);
    expect(all.map(({ window }) => window.seconds(''))).toEqual([120, 120, 120]);
    await buckets(20, 499, ...all);
    expect(all.map(({ window }) => window.seconds(''))).toEqual([300, 300, 300]);
  });

  it('one that comes later has the window of the others', async () => {
    const first = await started();
    await settled(first);
    await buckets(20, 9_000, first);
    expect((await started()).window.seconds('')).toBe(60);
  });

  it('bounds and windows are those of the settings', async () => {
    const gateway = await started({
      SLUICE_RESEND_QUIET_SECONDS: '900',
      SLUICE_RESEND_BUSY_SECONDS: '30',
      SLUICE_RESEND_FAST_SECONDS: '5',
      SLUICE_RESEND_BUSY_REQUESTS_PER_SECOND: '1',
      SLUICE_RESEND_FAST_REQUESTS_PER_SECOND: '2',
    });
    await settled(gateway);
    const found: number[] = [];
    for (const requests of [9, 10, 19, 20, 0]) {
      await buckets(60, requests, gateway);
      found.push(gateway.window.seconds(''));
    }
    expect(found).toEqual([900, 30, 30, 5, 900]);
  });
});

describe('gradually', () => {
  it('by a tenth of itself at most, for each 10 s', async () => {
    const gateway = await started();
    await settled(gateway);
    const down: number[] = [];
    for (let bucket = 0; bucket < 17; bucket++) {
      await buckets(1, 10_000, gateway);
      down.push(gateway.window.seconds(''));
    }
    expect(down).toEqual([270, 243, 219, 197, 178, 160, 144, 130, 117, 105, 95, 85, 77, 69, 62, 60, 60]);
    // After one bucket without a request the mean of three is still 667 a second, then 333, then 0.
    const up: number[] = [];
    for (let bucket = 0; bucket < 6; bucket++) {
      await buckets(1, 0, gateway);
      up.push(gateway.window.seconds(''));
    }
    expect(up).toEqual([60, 66, 73, 80, 88, 97]);
  });

  it('within a bucket it stays, however often it is asked for', async () => {
    const gateway = await started();
    await settled(gateway);
    await buckets(1, 10_000, gateway);
    for (let second = 0; second < 9; second++) {
      now += 1;
      await send(gateway, 10_000);
      expect(gateway.window.seconds('')).toBe(270);
    }
    now += 1;
    await send(gateway, 0);
    expect(gateway.window.seconds('')).toBe(243);
  });

  it('a burst of one bucket moves it only as far as the mean of three allows', async () => {
    const gateway = await started();
    await settled(gateway);
    await buckets(3, 0, gateway);
    await buckets(1, 1_499, gateway);
    expect(gateway.window.seconds('')).toBe(300);
    await buckets(1, 2, gateway);
    expect(gateway.window.seconds('')).toBe(270);
  });
});

describe("Redis' clock", () => {
  // How far it jumps while there were 1,000 requests a second, with the window on its way down from 300.
  it.each([
    ['stands still', 0, 243],
    ['a second back', -1, 243],
    ['an hour back', -3_600, 243],
    ['years back', -1_000_000_000, 243],
    ['an hour ahead', 3_600, 243],
    ['years ahead', 1_000_000_000, 243],
  ])('%s: the window stays, and goes on from there', async (_, jump, seconds) => {
    const gateway = await started();
    await settled(gateway);
    await buckets(2, 10_000, gateway);
    expect(gateway.window.seconds('')).toBe(243);
    now += jump;
    await send(gateway, 1_000);
    expect(gateway.window.seconds('')).toBe(seconds);
    await buckets(2, 10_000, gateway);
    expect(gateway.window.seconds('')).toBeLessThan(243);
    expect(gateway.window.seconds('')).toBeGreaterThanOrEqual(197);
    await buckets(30, 10_000, gateway);
    expect(gateway.window.seconds('')).toBe(60);
    await buckets(30, 0, gateway);
    expect(gateway.window.seconds('')).toBe(300);
  });

  it('a bucket that was not seen from its start says nothing', async () => {
    const gateway = await started();
    await settled(gateway);
    await buckets(20, 10_000, gateway);
    now += 3_609;
    await send(gateway, 1_000);
    now += 1;
    await send(gateway, 10_000);
    expect(gateway.window.seconds('')).toBe(60);
    now += 10;
    await send(gateway, 0);
    expect(gateway.window.seconds('')).toBe(60);
  });

  it('nobody asked for a while: buckets without requests, a step for each', async () => {
    const gateway = await started();
    await settled(gateway);
    await buckets(20, 10_000, gateway);
    expect(gateway.window.seconds('')).toBe(60);
    now += 30;
    await send(gateway, 0);
    // Means of 667, 333 and 0 requests a second.
    expect(gateway.window.seconds('')).toBe(73);
  });

  it('the real one does as well', async () => {
    const gateway = await started({}, redis);
    await send(gateway, 3);
    const hash = await redis.command(['HMGET', RESEND_KEY, 'bucket', 'now']);
    const time = await redis.command(['TIME']);
    const [bucket, seen] = Array.isArray(hash) ? hash.map(Number) : [];
    const bucketNow = Math.floor(Number(Array.isArray(time) ? time[0] : 0) / 10);
    expect([bucketNow, bucketNow - 1]).toContain(bucket);
    expect([0, 3]).toContain(seen);
    expect(gateway.window.seconds('')).toBe(300);
  });
});

describe('settings', () => {
  const sources = { SLUICE_RESEND_SOURCES: 'batch=3600,never=0' };

  it.each<[string, Record<string, string>, Record<string, number>, boolean]>([
    ['auto', {}, { '': 300, batch: 300 }, true],
    ['auto, and sources of their own', sources, { '': 300, batch: 3600, never: 0, other: 300 }, true],
    ['a number', { SLUICE_RESEND_WINDOW_SECONDS: '45' }, { '': 45, batch: 45 }, true],
    [
      'a number, and sources of their own',
      { SLUICE_RESEND_WINDOW_SECONDS: '45', ...sources },
      { '': 45, batch: 3600, never: 0 },
      true,
    ],
    ['off', { SLUICE_RESEND_WINDOW_SECONDS: '0' }, { '': 0, batch: 0 }, false],
    [
      'off, but for one source',
      { SLUICE_RESEND_WINDOW_SECONDS: '0', ...sources },
      { '': 0, batch: 3600, never: 0 },
      true,
    ],
    [
      'off, for every source too',
      { SLUICE_RESEND_WINDOW_SECONDS: '0', SLUICE_RESEND_SOURCES: 'never=0' },
      { '': 0, never: 0 },
      false,
    ],
  ])('%s', async (_, environment, expected, enabled) => {
    const gateway = await started(environment);
    expect(gateway.window.enabled).toBe(enabled);
    await settled(gateway);
    const found = Object.keys(expected).map((source) => [source, gateway.window.seconds(source)]);
    expect(Object.fromEntries(found)).toEqual(expected);
    expect(await gateway.gauge()).toBe(expected['']);
    // Also where nothing is recognised: the hashes of time series hang on the same secret.
    expect(await redis.command(['EXISTS', RESEND_KEY])).toBe(1);
  });

  it('a number and sources stay whatever the traffic; it counts for those that go by it', async () => {
    const fixed = await started({ SLUICE_RESEND_WINDOW_SECONDS: '45', ...sources });
    const auto = await started(sources);
    await settled(fixed, auto);
    await buckets(20, 10_000, fixed, auto);
    expect(['', 'batch', 'never'].map((source) => fixed.window.seconds(source))).toEqual([45, 3600, 0]);
    expect(['', 'batch', 'never'].map((source) => auto.window.seconds(source))).toEqual([60, 3600, 0]);
  });
});

describe('the key', () => {
  it('is made once, by whoever comes first, and is the same for all', async () => {
    const all = Array.from({ length: 5 }, () => gatewayOf());
    expect(() => all[0]?.window.key).toThrow(/first/);
    await Promise.all(all.map(({ window }) => window.first()));
    const keys = all.map(({ window }) => Buffer.from(window.key).toString('hex'));
    expect(keys[0]).toMatch(/^[0-9a-f]{32}$/);
    expect(new Set(keys).size).toBe(1);
    expect(await redis.command(['HGET', RESEND_KEY, 'key'])).toBe(keys[0]);
    await redis.command(['FLUSHALL']);
    expect(Buffer.from((await started()).window.key).toString('hex')).not.toBe(keys[0]);
  });

  it('is the same array until it is another', async () => {
    const { window } = await started();
    const { key } = window;
    await window.first();
    expect(window.key).toBe(key);
  });

  it('outlives an emptied Redis in the gateways that know it', async () => {
    const [one, other] = [await started(), await started()];
    const key = Buffer.from(one.window.key);
    await redis.command(['FLUSHALL']);
    await other.window.first();
    await one.window.first();
    const later = await started();
    for (const { window } of [one, other, later]) expect(Buffer.from(window.key)).toEqual(key);
  });

  it('another one in Redis is taken over', async () => {
    const old = await started();
    const key = Buffer.from(old.window.key);
    await redis.command(['FLUSHALL']);
    const fresh = await started();
    await old.window.first();
    expect(Buffer.from(old.window.key)).toEqual(Buffer.from(fresh.window.key));
    expect(Buffer.from(old.window.key)).not.toEqual(key);
  });

  it.each(['', 'abc', 'x'.repeat(32), 'a'.repeat(33)])('one that is none (%j) is replaced', async (text) => {
    await redis.command(['HSET', RESEND_KEY, 'key', text]);
    const { window } = await started();
    expect(window.key).toHaveLength(16);
    expect(await redis.command(['HGET', RESEND_KEY, 'key'])).toBe(Buffer.from(window.key).toString('hex'));
  });
});

describe('an emptied, a full, and a missing Redis', () => {
  it('emptied: the window starts from the longest, and adapts again', async () => {
    const gateway = await started();
    await settled(gateway);
    await buckets(20, 10_000, gateway);
    await redis.command(['FLUSHALL']);
    await settled(gateway);
    expect(gateway.window.seconds('')).toBe(300);
    await buckets(20, 10_000, gateway);
    expect(gateway.window.seconds('')).toBe(60);
  });

  it('full: window and key stay known, for new gateways too', async () => {
    const gateway = await started();
    await settled(gateway);
    await buckets(20, 10_000, gateway);
    await redis.command(['CONFIG', 'SET', 'maxmemory', '1']);
    try {
      const later = await started();
      expect(Buffer.from(later.window.key)).toEqual(Buffer.from(gateway.window.key));
      await buckets(3, 10_000, gateway);
      expect(gateway.window.seconds('')).toBe(60);
      await redis.command(['DEL', RESEND_KEY]);
      await expect(gatewayOf().window.first()).rejects.toMatchObject({ code: 'redis_full' });
    } finally {
      await redis.command(['CONFIG', 'SET', 'maxmemory', '0']);
    }
  });

  it('away: first() says so; later the last window stays, and is kept up to date again', async () => {
    const through = await server.connect();
    const gateway = gatewayOf({}, through);
    try {
      await server.kill();
      await eventually(() => !through.ready, 'the connection has noticed');
      await expect(gateway.window.first()).rejects.toMatchObject({ code: 'redis_unavailable' });
      await server.up();
      await eventually(() => gateway.window.first().then(() => true), 'Redis is back');
      gateway.window.start();
      const key = gateway.window.key;
      await server.kill();
      await eventually(() => !through.ready, 'the connection has noticed again');
      expect(gateway.window.seconds('')).toBe(300);
      expect(gateway.window.key).toBe(key);
      await server.up();
      redis.close();
      redis = await server.connect();
      await redis.command(['HSET', RESEND_KEY, 'window', '77.5']);
      await eventually(() => gateway.window.seconds('') === 78, 'the window of Redis');
    } finally {
      gateway.window.stop();
      through.close();
    }
  });
});
