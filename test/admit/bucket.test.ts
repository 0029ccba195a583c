/**
 * Goal: a bucket that is charged afterwards lets in as much as its rate and its burst say, over any stretch of
 * time, however large the requests are; it says exactly how long it is empty; and another rate keeps the debts.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Bucket } from '../../src/admit/bucket.ts';

describe('the edges', () => {
  // 10 a second, 50 at most.
  test.each([
    // taken, then ms later: level, refused for
    [0, 0, 50, 0],
    [49, 0, 1, 0],
    [50, 0, 0, 1],
    [51, 0, -1, 100],
    [60, 0, -10, 1_000],
    [60, 999, -0.01, 1],
    [60, 1_000, 0, 1],
    [60, 1_001, 0.01, 0],
    [60, 6_000, 50, 0],
    [60, 60_000, 50, 0],
    [0, 60_000, 50, 0],
  ])('%d taken, %d ms later: %d left, refused for %d ms', (taken, ms, level, refusedMs) => {
    const bucket = new Bucket(10, 50, 1_000);
    bucket.take(taken, 1_000);
    expect(bucket.level(1_000 + ms)).toBeCloseTo(level, 9);
    expect(bucket.refusalMs(1_000 + ms)).toBeCloseTo(refusedMs, 6);
  });

  test('what it says is how long: a moment later something is left', () => {
    const bucket = new Bucket(3, 10, 0);
    bucket.take(17, 0);
    const waitMs = bucket.refusalMs(0);
    expect(bucket.refusalMs(waitMs - 1)).toBeGreaterThan(0);
    expect(bucket.refusalMs(waitMs + 1)).toBe(0);
  });

  test('a clock that goes back stands still', () => {
    const bucket = new Bucket(10, 50, 1_000);
    bucket.take(50, 1_000);
    expect(bucket.level(2_000)).toBe(10);
    expect(bucket.level(500)).toBe(10);
    expect(bucket.level(2_100)).toBeCloseTo(11);
  });

  test('nothing comes in: refused for ever', () => {
    const bucket = new Bucket(0, 0, 0);
    expect(bucket.refusalMs(0)).toBe(Number.POSITIVE_INFINITY);
    bucket.take(1, 0);
    expect(bucket.refusalMs(1_000_000)).toBe(Number.POSITIVE_INFINITY);
  });
});

describe('another rate', () => {
  test('what came in until then came at the old one, what is owed stays', () => {
    const bucket = new Bucket(10, 50, 0);
    bucket.take(80, 0);
    bucket.retune(100, 200, 1_000);
    expect(bucket.level(1_000)).toBe(-20);
    expect(bucket.level(1_100)).toBeCloseTo(-10);
  });

  test('a smaller one keeps no more than it has room for', () => {
    const bucket = new Bucket(10, 50, 0);
    bucket.retune(1, 5, 0);
    expect(bucket.level(0)).toBe(5);
  });

  test('set: never above what fits', () => {
    const bucket = new Bucket(10, 50, 0);
    bucket.set(70, 0);
    expect(bucket.level(0)).toBe(50);
    bucket.set(-7, 0);
    expect(bucket.level(100)).toBe(-6);
  });
});

describe('over any stretch of time', () => {
  const requests = fc.array(
    fc.record({ afterMs: fc.integer({ min: 0, max: 400 }), size: fc.integer({ min: 1, max: 300 }) }),
    { minLength: 1, maxLength: 120 },
  );
  test('no more than rate x time, a burst and one request', () => {
    fc.assert(
      fc.property(requests, fc.integer({ min: 1, max: 500 }), fc.integer({ min: 1, max: 10 }), (list, rate, burst) => {
        const bucket = new Bucket(rate, rate * burst, 0);
        const taken: { atMs: number; size: number }[] = [];
        let nowMs = 0;
        for (const { afterMs, size } of list) {
          nowMs += afterMs;
          if (bucket.refusalMs(nowMs) > 0) continue;
          bucket.take(size, nowMs);
          taken.push({ atMs: nowMs, size });
        }
        for (const [i, first] of taken.entries()) {
          let sum = 0;
          for (const { atMs, size } of taken.slice(i)) {
            sum += size;
            const most = (rate * (atMs - first.atMs)) / 1000 + rate * burst + size;
            expect(sum).toBeLessThanOrEqual(most + 1e-6);
          }
        }
      }),
    );
  });

  test('who always asks gets the whole rate', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 500 }), fc.integer({ min: 1, max: 5_000 }), (rate, size) => {
        const bucket = new Bucket(rate, rate, 0);
        let sum = 0;
        for (let nowMs = 0; nowMs <= 60_000; nowMs += 10) {
          while (bucket.refusalMs(nowMs) === 0) {
            bucket.take(size, nowMs);
            sum += size;
          }
        }
        expect(sum).toBeGreaterThanOrEqual(rate * 60 - 1e-6);
      }),
    );
  });
});
