/**
 * Goal: of each metric of a tenant so many series are let in as the limit says; those that are known are never turned
 * away; what isn't sent any more makes room; memory is bounded; and whoever sends too many is named.
 */
import { randomInt } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import {
  HALF_MS,
  START_MS,
  beyond,
  gatewayOf,
  hashOf,
  pass,
  points,
  range,
  setLimits,
  setTime,
  useGateways,
} from './gateways.ts';

useGateways();

describe('one gateway', () => {
  test('up to the limit, in one request or several', () => {
    const gateway = gatewayOf();
    expect(beyond(gateway, points(1, range(0, 9)))).toEqual([]);
    expect(beyond(gateway, points(1, [9, 10, 3, 11, 9]))).toEqual([1, 3]);
    expect(beyond(gateway, points(1, range(0, 10)))).toEqual([]);
    expect(beyond(gateway, points(1, []))).toEqual([]);
  });

  test('each metric and each tenant by itself, mixed in one request', () => {
    const gateway = gatewayOf();
    const mixed = range(0, 11).flatMap((n) => [...points(1, [n]), ...points(0xfffffff0, [n])]);
    expect(beyond(gateway, Uint32Array.from(mixed))).toEqual([20, 21]);
    expect(beyond(gateway, points(1, range(0, 10)), 'other')).toEqual([]);
    expect(beyond(gateway, points(1, [10]), 'other')).toEqual([0]);
  });

  test('0 is any number, and forgets what was counted', async () => {
    const gateway = gatewayOf();
    beyond(gateway, points(1, range(0, 10)));
    setLimits({ seriesMax: 0 });
    expect(beyond(gateway, points(1, range(0, 1_000)))).toEqual([]);
    await gateway.cardinality.exchange();
    expect(gateway.cardinality.top(10)).toEqual([]);
  });

  test('series that are not sent any more make room, known ones stay', () => {
    const gateway = gatewayOf();
    beyond(gateway, points(1, range(0, 10)));
    for (const half of [1, 2, 3]) {
      setTime(START_MS + half * HALF_MS - 1);
      expect(beyond(gateway, points(1, range(0, 5)))).toEqual([]);
      pass(1);
      const room = half === 1 ? 0 : 5;
      expect(beyond(gateway, points(1, range(100, 105))).length, `half ${half}`).toBe(5 - room);
      expect(beyond(gateway, points(1, range(0, 5)))).toEqual([]);
    }
  });

  test.each([
    ['a window of nothing', 2 * HALF_MS, []],
    ['half a window', HALF_MS, [0]],
    ['the clock goes back by a second', -1_000, [0]],
    ['the clock goes back by a day', -86_400_000, [0]],
  ])('%s', (_, passedMs, expected) => {
    const gateway = gatewayOf();
    beyond(gateway, points(1, range(0, 10)));
    pass(passedMs);
    expect(beyond(gateway, points(1, [50]))).toEqual(expected);
    // And it goes on from there.
    setTime(START_MS + 4 * HALF_MS);
    expect(beyond(gateway, points(1, range(60, 70)))).toEqual([]);
    expect(beyond(gateway, points(1, [50]))).toEqual([0]);
  });

  test('another window in the settings forgets nobody', () => {
    const gateway = gatewayOf();
    beyond(gateway, points(1, range(0, 10)));
    setLimits({ seriesWindowMinutes: 10 });
    expect(beyond(gateway, points(1, [3, 50]))).toEqual([1]);
    pass(600_000);
    expect(beyond(gateway, points(1, range(50, 60)))).toEqual([]);
  });

  test('known series are never beyond, whatever else is sent', () => {
    const seed = randomInt(2 ** 31);
    const gateway = gatewayOf();
    setLimits({ seriesMax: 300 });
    const known = range(0, 300).map((n) => n + seed);
    for (let step = 0; step < 200; step++) {
      pass(HALF_MS / 20);
      const order = step === 0 ? known : [...known].sort((a, b) => hashOf(a, step) - hashOf(b, step));
      const others = range(0, 50).map((n) => seed + 1_000 + 50 * step + n);
      expect(beyond(gateway, points(7, order)), `seed ${seed}, step ${step}`).toEqual([]);
      expect(beyond(gateway, points(7, others)).length, `seed ${seed}, step ${step}`).toBe(50);
    }
  });
});

describe('the metrics that are counted', () => {
  test('so many of all tenants; further ones are not limited, which is said once', async () => {
    const gateway = gatewayOf();
    setLimits({ seriesMax: 1, seriesMetricsMax: 3 });
    expect(beyond(gateway, points(1, [1, 2]))).toEqual([1]);
    expect(beyond(gateway, points(1, [1, 2]), 'other')).toEqual([1]);
    expect(beyond(gateway, points(2, [1, 2]), 'other')).toEqual([1]);
    for (const metric of [3, 4, 5]) expect(beyond(gateway, points(metric, [1, 2]))).toEqual([]);
    expect(gateway.warnings).toHaveLength(1);
    expect(gateway.warnings[0]).toContain('SLUICE_LIMITS_SERIES_METRICS_MAX');
    expect((await gateway.instruments.seriesMetrics.get()).values[0]?.value).toBe(3);
  });

  test('those that were not sent for a window make room for others', async () => {
    const gateway = gatewayOf();
    setLimits({ seriesMax: 1, seriesMetricsMax: 2 });
    beyond(gateway, points(1, [1]));
    beyond(gateway, points(2, [1]));
    pass(HALF_MS);
    beyond(gateway, points(2, [1]));
    expect(beyond(gateway, points(3, [1, 2]))).toEqual([]);
    pass(HALF_MS);
    expect(beyond(gateway, points(3, [1, 2]))).toEqual([1]);
    expect(beyond(gateway, points(2, [1, 2]))).toEqual([1]);
    expect((await gateway.instruments.seriesMetrics.get()).values[0]?.value).toBe(2);
  });
});

describe('the offenders', () => {
  test('what is beyond is counted by tenant, and named once somebody has read the request', async () => {
    const gateway = gatewayOf();
    const { cardinality, instruments } = gateway;
    beyond(gateway, points(1, range(0, 4)));
    const found = cardinality.check('acme', points(0xdeadbeef, range(0, 2_010)));
    expect(found?.points).toBe(2_000);
    expect([...(found?.unnamed ?? [])]).toEqual([0xdeadbeef]);
    expect(cardinality.top(1)).toMatchObject([{ tenant: 'acme', metric: '#deadbeef', series: 10, limit: 10 }]);
    cardinality.learn('acme', 0xdeadbeef, 'http.server.duration');
    cardinality.learn('nobody', 1, 'unknown');
    expect(cardinality.check('acme', points(0xdeadbeef, range(5, 2_000)))?.unnamed.size).toBe(0);
    const [first, second, ...rest] = cardinality.top(10);
    expect(first).toMatchObject({ metric: 'http.server.duration', pointsBeyond: 3_990 });
    expect(first?.offered).toBeGreaterThan(2_010 * 0.87);
    expect(first?.offered).toBeLessThan(2_010 * 1.13);
    expect(second).toMatchObject({ metric: '#00000001', series: 4, offered: 4, pointsBeyond: 0 });
    expect(rest).toEqual([]);
    const { values } = await instruments.seriesOverflow.get();
    expect(values).toEqual([expect.objectContaining({ labels: { tenant: 'acme' }, value: 3_990 })]);
  });

  test('what was beyond is forgotten with its window', () => {
    const gateway = gatewayOf();
    beyond(gateway, points(1, range(0, 100)));
    pass(HALF_MS);
    beyond(gateway, points(1, range(0, 10)));
    expect(gateway.cardinality.top(1)[0]?.pointsBeyond).toBe(90);
    pass(HALF_MS);
    beyond(gateway, points(1, range(0, 10)));
    expect(gateway.cardinality.top(1)).toMatchObject([{ series: 10, offered: 10, pointsBeyond: 0 }]);
  });
});
