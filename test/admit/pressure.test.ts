/**
 * Goal: levels change where they should and don't flap, what is foretold counts before a fixed ratio, the pace follows,
 * and delays lie within their bounds and apart from each other.
 */
import { describe, expect, test } from 'vitest';
import { Pace, Trend, queueCapacity, retryAfterMs } from '../../src/admit/pace.ts';
import {
  type Level, Levels, type PressureReason, type Reading, nextLevel, secondsUntil, strictest,
} from '../../src/admit/pressure.ts';
import { memoryBytesMax } from '../../src/admit/vitals.ts';
import { seededRandom } from '../oracle/random.ts';

const HORIZON = 30;

/** The seed is printed where it fails. */
function seeded(seed = Date.now() % 2 ** 32): { readonly seed: number; readonly random: () => number } {
  const { int } = seededRandom(seed);
  return { seed, random: () => int(2 ** 30) / 2 ** 30 };
}

function reading(ratio: number, inSeconds?: number, reason: PressureReason = 'queue_full'): Reading {
  return { reason, value: ratio * 1_000, limit: 1_000, ratio, inSeconds };
}

describe('the level of one reason', () => {
  test.each<[Level, number, Level]>([
    [0, 0, 0], [0, 0.7, 0], [0, 0.849, 0], [0, 0.85, 1], [0, 0.999, 1], [0, 1, 2], [0, 7, 2],
    [1, 0, 0], [1, 0.699, 0], [1, 0.7, 1], [1, 0.999, 1], [1, 1, 2],
    [2, 0, 0], [2, 0.699, 0], [2, 0.7, 1], [2, 0.899, 1], [2, 0.9, 2], [2, 1, 2],
  ])('from %d with ratio %d to %d', (level, ratio, wanted) => {
    expect(nextLevel(level, reading(ratio), HORIZON)).toBe(wanted);
  });

  test.each<[Level, number, number, Level]>([
    // Nearly empty: a start, a burst.
    [0, 0.499, 0.1, 0], [0, 0.5, 29.9, 1], [0, 0.5, 30, 0], [0, 0.6, 29.9, 1], [0, 0.6, 31, 0],
    // Pacing keeps it at the horizon: that is not yet over.
    [1, 0.5, 30, 1], [1, 0.5, 44.9, 1], [1, 0.5, 45, 0], [1, 0.499, 1, 0],
    // Foretold never refuses.
    [0, 0.99, 0.001, 1], [2, 0.5, 1, 1],
  ])('from %d with ratio %d, there in %d s, to %d', (level, ratio, inSeconds, wanted) => {
    expect(nextLevel(level, reading(ratio, inSeconds), HORIZON)).toBe(wanted);
  });

  test.each(['requests_in_flight', 'bytes_in_flight'] as const)('%s is a warning: the door refuses', (reason) => {
    expect(nextLevel(0, reading(5, undefined, reason), HORIZON)).toBe(1);
    expect(nextLevel(1, reading(1, undefined, reason), HORIZON)).toBe(1);
  });

  test.each([
    [0, 100, 10, 10], [99, 100, 10, 0.1], [100, 100, 10, 0], [200, 100, -5, 0], [0, 100, 0, undefined],
    [0, 100, -1, undefined], [0, 100, undefined, undefined],
  ])('%d of %d, growing by %s a second: there in %s s', (value, limit, perSecond, seconds) => {
    expect(secondsUntil(value, limit, perSecond)).toBe(seconds);
  });
});

describe('all reasons', () => {
  test('the level is the highest, the reasons stand by their strength', () => {
    const levels = new Levels();
    levels.reckon([reading(0.5), reading(0.9, undefined, 'redis_memory')], HORIZON, 0);
    expect(levels.level).toBe(1);
    levels.reckon([reading(1), reading(0.95, undefined, 'redis_memory'), reading(3, undefined, 'memory')], HORIZON, 1);
    expect(levels.level).toBe(2);
    expect(levels.reasons.map(({ reading: { reason }, level }) => [reason, level])).toEqual([
      ['memory', 2], ['queue_full', 2], ['redis_memory', 1],
    ]);
  });

  test('up at once, down after a second at the level, and each change is told once', () => {
    const levels = new Levels();
    const at = (atMs: number, ratio: number) =>
      levels.reckon([reading(ratio)], HORIZON, atMs).map(({ level }) => level);
    expect(at(0, 1)).toEqual([2]);
    expect(at(999, 0.1)).toEqual([]);
    expect(levels.level).toBe(2);
    expect(at(1_000, 0.8)).toEqual([1]);
    expect(at(1_001, 1)).toEqual([2]);
    expect(at(2_000, 0)).toEqual([]);
    expect(at(2_001, 0)).toEqual([0]);
    expect(levels.reasons).toEqual([]);
    expect(at(3_000, 0)).toEqual([]);
  });

  test('a ratio that swings around every bound changes the level once in a second at most', () => {
    for (const bound of [0.7, 0.85, 0.9, 1]) {
      const levels = new Levels();
      let changes = 0;
      for (let atMs = 0; atMs < 10_000; atMs += 50) {
        const ratio = bound + (atMs % 100 === 0 ? 0.01 : -0.01);
        changes += levels.reckon([reading(ratio)], HORIZON, atMs).length;
      }
      expect(changes).toBeLessThanOrEqual(2);
    }
  });

  test('a reason that nobody knows any more falls like one that is over', () => {
    const levels = new Levels();
    levels.reckon([reading(2, undefined, 'clickhouse_parts')], HORIZON, 0);
    expect(levels.reckon([], HORIZON, 500)).toEqual([]);
    expect(levels.reckon([], HORIZON, 1_500)).toMatchObject([{ level: 0, reading: { ratio: 0 } }]);
    expect(levels.level).toBe(0);
  });

  test.each<[Level, number, Level]>([
    [1, 0.8, 1], [1, 0.69, 0], [2, 0.95, 2], [2, 0.89, 1], [2, 0.5, 0], [0, 0.95, 1],
  ])('who begins takes over level %d of others at ratio %d as %d', (theirs, ratio, wanted) => {
    const levels = new Levels();
    levels.reckon([reading(ratio)], HORIZON, 0, new Map([['queue_full', theirs]]));
    expect(levels.level).toBe(wanted);
  });

  test('two that hold each other up come down together', () => {
    const [one, other] = [new Levels(), new Levels()];
    const round = (atMs: number, ratio: number) => {
      const held = (levels: Levels) => new Map([['queue_full' as const, levels.levelOf('queue_full')]]);
      one.reckon([reading(ratio)], HORIZON, atMs, held(other));
      other.reckon([reading(ratio)], HORIZON, atMs + 100, held(one));
    };
    round(0, 0.9);
    for (let atMs = 250; atMs < 5_000; atMs += 250) round(atMs, 0.6);
    expect([one.level, other.level]).toEqual([0, 0]);
  });

  test('of several readings of a reason the strictest, with the soonest foretelling', () => {
    const found = strictest([
      reading(0.2, 5), reading(0.4, 50), reading(0.3), reading(0.1, undefined, 'memory'),
    ]);
    expect(found).toEqual([reading(0.4, 5), reading(0.1, undefined, 'memory')]);
  });
});

describe('rates', () => {
  test('a trend is the change over its window, and unknown before a fifth of it', () => {
    const trend = new Trend(5_000);
    expect(trend.perSecond).toBeUndefined();
    trend.add(0, 100);
    trend.add(999, 200);
    expect(trend.perSecond).toBeUndefined();
    trend.add(1_000, 200);
    expect(trend.perSecond).toBe(100);
    for (let atMs = 2_000; atMs <= 20_000; atMs += 1_000) trend.add(atMs, 200);
    expect(trend.perSecond).toBe(0);
    trend.add(21_000, 150);
    expect(trend.perSecond).toBe(-10);
  });

  test('a count that was begun anew is no rate below 0', () => {
    const trend = new Trend(2_000);
    trend.addCount(0, 1_000_000);
    trend.addCount(1_000, 3);
    expect(trend.perSecond).toBeUndefined();
    trend.addCount(2_000, 13);
    expect(trend.perSecond).toBe(10);
  });

  test('what may come into the queue', () => {
    expect(queueCapacity(1_000, 3_000, 30)).toBe(1_100);
    expect(queueCapacity(0, 3_000, 30)).toBe(100);
    expect(queueCapacity(0, 0, 30)).toBe(0);
    expect(queueCapacity(50, -1_000, 30)).toBe(50);
  });

  test('a queue that is filled as fast as it may comes close to its limit and never reaches it', () => {
    const limit = 1e9;
    for (const drain of [0, 1e6, 5e7]) {
      let queue = limit / 2;
      let before = queue;
      let growth = Number.POSITIVE_INFINITY;
      for (let second = 0; second < 600; second += 0.25) {
        queue += (queueCapacity(drain, limit - queue, HORIZON) - drain) * 0.25;
        expect(queue - before).toBeLessThan(growth);
        growth = queue - before;
        before = queue;
        if (growth === 0) break;
      }
      expect(queue / limit).toBeGreaterThan(0.99);
      expect(queue).toBeLessThan(limit);
    }
  });

  test('the pace: a part less while it gets worse, steady while it gets better, a constant more when over', () => {
    const pace = new Pace();
    pace.round(0, 0, 1_000);
    expect(pace.limit).toBeUndefined();
    pace.round(1, 0.9, 1_000);
    expect(pace.limit).toBe(850);
    pace.round(1, 0.9, 850);
    expect(pace.limit).toBeCloseTo(722.5);
    pace.round(1, 0.88, 700);
    expect(pace.limit).toBeCloseTo(722.5);
    pace.round(2, 1.1, 0);
    expect(pace.limit).toBeCloseTo(722.5);
    for (let i = 0; i < 100; i++) pace.round(1, 1, 0);
    expect(pace.limit).toBeCloseTo(20);
    pace.round(0, 0, 20);
    expect(pace.limit).toBeCloseTo(120);
    for (let i = 0; i < 20; i++) pace.round(0, 0, 1_000);
    expect(pace.limit).toBeUndefined();
  });

  test('nothing comes in: there is nothing to take a part of, and nothing is locked out', () => {
    const pace = new Pace();
    pace.round(1, 0.9, 0);
    expect(pace.limit).toBeUndefined();
  });
});

describe('when refused clients come back', () => {
  const BOUNDS = { retryMsMin: 1_000, retryMsMax: 30_000 };

  test.each([
    [0, 0, 0, 1_000], [0, 0, 1, 1_500], [10_000, 0, 0, 5_000], [10_000, 0, 1, 15_000],
    [Infinity, 0, 0, 15_000], [Infinity, 0, 1, 30_000], [0, 1_000, 1, 6_500], [0, 1e9, 1, 30_000],
  ])('%d ms are needed, %d refusals a second, random %d: %d ms', (needed, refusals, random, wanted) => {
    const found = retryAfterMs(needed, refusals, BOUNDS, random);
    expect(found).toBe(wanted);
  });

  test('always within the bounds, whatever is needed', () => {
    const { seed, random } = seeded();
    for (let i = 0; i < 20_000; i++) {
      const retryMsMin = 100 + Math.floor(random() * 5_000);
      const retryMsMax = retryMsMin + Math.floor(random() * 600_000);
      const needed = random() < 0.1 ? Infinity : 10 ** (random() * 9);
      const refusals = random() < 0.3 ? 0 : 10 ** (random() * 6);
      const found = retryAfterMs(needed, refusals, { retryMsMin, retryMsMax }, random());
      const said = `seed ${seed}: ${found} for ${needed}, ${refusals}, ${retryMsMin} to ${retryMsMax}`;
      expect(found >= retryMsMin && found <= retryMsMax, said).toBe(true);
    }
  });

  test('1,000 clients come back spread over the interval, a larger crowd over a wider one', () => {
    const { seed, random } = seeded();
    const delays = (refusals: number) =>
      Array.from({ length: 1_000 }, () => retryAfterMs(8_000, refusals, BOUNDS, random()));
    const small = delays(0);
    // 8 s between 4 and 12: of ten equal parts each has its tenth, more or less.
    for (let part = 0; part < 10; part++) {
      const inside = small.filter((ms) => ms >= 4_000 + part * 800 && ms < 4_000 + (part + 1) * 800);
      expect(inside.length, `seed ${seed}, part ${part}`).toBeGreaterThan(50);
    }
    expect(Math.max(...delays(1_000))).toBeGreaterThan(Math.max(...small) + 2_000);
  });
});

test.each([
  [5, 0, 100, 5], ['auto', 0, 100, 0], ['auto', 100, 1_000, 85], ['auto', 18446744073709552000, 1_000, 0],
] as const)('memory %s, %d allowed of %d: limit %d', (setting, allowed, installed, limit) => {
  expect(memoryBytesMax(setting, allowed, installed)).toBe(limit);
});
