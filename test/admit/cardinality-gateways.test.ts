/**
 * Goal: all gateways let in the same series, and no more than one would but for what comes between two exchanges;
 * what Redis holds of it is bounded and expires; and without Redis each gateway goes on by itself. With a real Redis.
 */
import { describe, expect, test } from 'vitest';
import { Fault } from '../../src/base/errors.ts';
import type { RedisCommands } from '../../src/redis/client.ts';
import { eventually } from '../redis/server.ts';
import {
  HALF_MS,
  START_MS,
  away,
  beyond,
  exchange,
  gatewayOf,
  pass,
  points,
  range,
  redis,
  setLimits,
  useGateways,
} from './gateways.ts';

useGateways();

describe('several gateways', () => {
  test('let in the same series, and no more than one would', async () => {
    const [a, b, c] = [gatewayOf(), gatewayOf(), gatewayOf()];
    expect(beyond(a, points(1, range(0, 5)))).toEqual([]);
    expect(beyond(b, points(1, range(3, 8)))).toEqual([]);
    expect(beyond(c, points(1, [8]))).toEqual([]);
    await exchange(a, b, c, a, b, c, a, b, c);
    for (const gateway of [a, b, c]) {
      expect(gateway.cardinality.top(1)).toMatchObject([{ series: 9 }]);
      expect(beyond(gateway, points(1, range(0, 9)))).toEqual([]);
    }
    expect(beyond(a, points(1, [20]))).toEqual([]);
    await exchange(a, b, c);
    for (const gateway of [a, b, c]) expect(beyond(gateway, points(1, [30, 20]))).toEqual([0]);
  });

  test('what comes between two exchanges is all that is too much', async () => {
    const gateways = [gatewayOf(), gatewayOf(), gatewayOf()];
    setLimits({ seriesMax: 100 });
    for (const gateway of gateways) beyond(gateway, points(1, range(0, 90)));
    await exchange(...gateways, ...gateways, ...gateways);
    // Each lets ten new ones in before it hears of those of the others.
    for (const [i, gateway] of gateways.entries()) {
      expect(beyond(gateway, points(1, range(1_000 * i, 1_000 * i + 200))).length).toBeGreaterThan(90);
    }
    await exchange(...gateways, ...gateways, ...gateways);
    const counts = gateways.map(({ cardinality }) => cardinality.top(1)[0]?.series);
    expect(new Set(counts).size).toBe(1);
    expect(counts[0]).toBeLessThanOrEqual(100 + 2 * 10);
    for (const gateway of gateways) expect(beyond(gateway, points(1, [9_999]))).toEqual([0]);
  });

  test('one that starts later learns what is known, of this half and of the one before', async () => {
    const a = gatewayOf();
    setLimits({ seriesMax: 100 });
    beyond(a, points(1, range(0, 60)));
    await exchange(a, a);
    pass(HALF_MS);
    beyond(a, points(1, range(30, 90)));
    await exchange(a, a);
    const b = gatewayOf();
    beyond(b, points(1, range(80, 90)));
    await exchange(b, b);
    expect(b.cardinality.top(1)).toMatchObject([{ series: 90 }]);
    expect(beyond(b, points(1, range(0, 120))).length).toBe(20);
  });

  test('series that only one of them sees stay known to all, from half to half', async () => {
    const [a, b] = [gatewayOf(), gatewayOf()];
    for (let half = 0; half < 5; half++) {
      beyond(a, points(1, range(0, 5)));
      beyond(b, points(1, range(5, 10)));
      await exchange(a, b, a, b, a, b);
      expect(beyond(a, points(1, [77]))).toEqual([0]);
      expect(beyond(b, points(1, [78]))).toEqual([0]);
      pass(HALF_MS);
    }
  });

  test('more than one exchange takes goes in several', async () => {
    const [a, b] = [gatewayOf(), gatewayOf()];
    setLimits({ seriesMax: 300_000 });
    beyond(a, points(1, range(0, 250_000)));
    beyond(b, points(1, range(240_000, 260_000)));
    for (let i = 0; i < 8; i++) await exchange(a, b);
    expect(a.cardinality.top(1)[0]?.series).toBe(b.cardinality.top(1)[0]?.series);
    // Of so many series some have one fingerprint.
    expect(b.cardinality.top(1)[0]?.series).toBeGreaterThan(259_950);
    const keys = (await redis.command(['KEYS', '*'])) as string[];
    const log = keys.find((key) => key.endsWith(':acme')) ?? '';
    expect(await redis.command(['STRLEN', log])).toBeLessThan(260_000 * 6);
  });

  test('of more metrics than one exchange takes, each has its turn', async () => {
    const [a, b] = [gatewayOf(), gatewayOf()];
    const metrics = range(1, 1_101);
    for (const metric of metrics) {
      beyond(a, points(metric, [1]));
      beyond(b, points(metric, [2]));
    }
    for (let i = 0; i < 9; i++) await exchange(a, b);
    for (const gateway of [a, b]) {
      const counts = gateway.cardinality.top(2_000).map(({ series }) => series);
      expect(counts).toEqual(metrics.map(() => 2));
    }
  });
});

describe('Redis', () => {
  test('nothing is there of metrics far from their limit, and what is there expires', async () => {
    const gateway = gatewayOf();
    setLimits({ seriesMax: 320 });
    beyond(gateway, points(1, range(0, 19)));
    await exchange(gateway, gateway);
    expect(await redis.command(['DBSIZE'])).toBe(0);
    beyond(gateway, points(1, range(19, 20)));
    await exchange(gateway, gateway);
    const keys = (await redis.command(['KEYS', '*'])) as string[];
    expect(keys.sort()).toEqual([
      `sluice:{series}:${START_MS / 1000}`,
      `sluice:{series}:${START_MS / 1000}:00000001:acme`,
    ]);
    for (const key of keys) {
      const seconds = await redis.command(['TTL', key]);
      expect(seconds).toBeGreaterThan(3_600);
      expect(seconds).toBeLessThanOrEqual(3_660);
    }
  });

  test('the logs of a half have a bound: then gateways go on by themselves, which is said once', async () => {
    const [a, b] = [gatewayOf(), gatewayOf()];
    await redis.command(['SET', `sluice:{series}:${START_MS / 1000}`, 33_554_432 - 16]);
    beyond(a, points(1, range(0, 3)));
    await exchange(a, a);
    beyond(a, points(1, range(3, 6)));
    await exchange(a, a);
    beyond(b, points(1, [50]));
    await exchange(b, b);
    expect(b.cardinality.top(1)).toMatchObject([{ series: 4 }]);
    expect([a.warnings.length, b.warnings.length]).toEqual([1, 1]);
    expect(await redis.command(['STRLEN', `sluice:{series}:${START_MS / 1000}:00000001:acme`])).toBe(16);
  });

  test('away: each goes on by itself, and tells what it has once it is back', async () => {
    let isAway = true;
    const through: RedisCommands = {
      command: (parts, key) => (isAway ? away.command(parts, key) : redis.command(parts)),
    };
    const [a, b] = [gatewayOf(through), gatewayOf()];
    a.cardinality.start();
    b.cardinality.start();
    try {
      expect(beyond(a, points(1, range(0, 11)))).toEqual([10]);
      beyond(b, points(1, [100]));
      await expect(a.cardinality.exchange()).rejects.toBeInstanceOf(Fault);
      isAway = false;
      await eventually(() => b.cardinality.top(1)[0]?.series === 11, 'b knows what a knows');
      await eventually(() => a.cardinality.top(1)[0]?.series === 11, 'a knows what b knows');
      expect(beyond(b, points(1, range(0, 12)))).toEqual([10, 11]);
    } finally {
      a.cardinality.stop();
      b.cardinality.stop();
    }
  });

  test('a write that was not answered is repeated', async () => {
    let isAway = false;
    const through: RedisCommands = {
      command: (parts, key) => (isAway ? away.command(parts, key) : redis.command(parts)),
    };
    const [a, b] = [gatewayOf(through), gatewayOf()];
    beyond(a, points(1, range(0, 4)));
    await exchange(a);
    isAway = true;
    await expect(a.cardinality.exchange()).rejects.toBeInstanceOf(Fault);
    isAway = false;
    await exchange(a);
    beyond(b, points(1, [1]));
    await exchange(b);
    expect(b.cardinality.top(1)).toMatchObject([{ series: 4 }]);
  });

  test('emptied: nobody forgets, and the next half is told again', async () => {
    const [a, b] = [gatewayOf(), gatewayOf()];
    beyond(a, points(1, range(0, 5)));
    beyond(b, points(1, range(5, 10)));
    await exchange(a, b, a, b, a, b);
    await redis.command(['FLUSHALL']);
    await exchange(a, b);
    for (const gateway of [a, b]) expect(beyond(gateway, points(1, range(0, 11)))).toEqual([10]);
    pass(HALF_MS);
    beyond(a, points(1, range(0, 5)));
    await exchange(a, b, a, b);
    pass(HALF_MS);
    // Of b's nothing was sent for a half.
    expect(beyond(a, points(1, range(20, 26)))).toEqual([5]);
  });
});
