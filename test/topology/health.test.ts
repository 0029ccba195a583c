/**
 * Goal: one failure leaves nobody out, two that agree do; what is out comes back by a check, slowly, and more
 * slowly each time it fails again soon.
 */
import { describe, expect, test } from 'vitest';
import { Health } from '../../src/topology/health.ts';
import { WELL } from './fleet.ts';

const BOUNDS = { healthCheckMs: 30_000, replicaReturnMs: 60_000 };

function health(unchecked = false, bounds = BOUNDS) {
  return new Health(bounds, 0, unchecked);
}

describe('left out', () => {
  test('not by one failed insert: it is suspected, and the next check is due soon', () => {
    const it = health();
    expect([it.checkAgainMs, it.suspected]).toEqual([30_000, false]);
    it.insertFailed('reset', 1_000);
    expect([it.out, it.suspected, it.share(1_000), it.checkAgainMs]).toEqual([undefined, true, 1, 500]);
    it.checked(WELL, 1_100);
    expect([it.out, it.suspected, it.checkAgainMs]).toEqual([undefined, false, 30_000]);
  });

  test('not by one failed check, but by two', () => {
    const it = health();
    it.checkFailed('silent', 1_000);
    expect([it.out, it.suspected, it.checkAgainMs]).toEqual([undefined, true, 500]);
    it.checkFailed('silent', 1_500);
    expect(it.out).toMatchObject({ cause: 'unreachable', reason: 'silent' });
  });

  test('by a failed insert and a failed check, in either order', () => {
    const one = health();
    one.insertFailed('reset', 1_000);
    one.checkFailed('refused', 1_000);
    expect(one.out).toMatchObject({ cause: 'unreachable', reason: 'refused' });
    const other = health();
    other.checkFailed('refused', 1_000);
    other.insertFailed('reset', 1_000);
    expect(other.out).toMatchObject({ cause: 'inserts_fail', reason: 'reset' });
  });

  test('by three failed inserts in a row, although every check is well', () => {
    const it = health();
    for (const atMs of [1_000, 2_000]) {
      it.insertFailed('full', atMs);
      it.checked(WELL, atMs);
    }
    it.insertWorked();
    for (const atMs of [3_000, 4_000]) {
      it.insertFailed('full', atMs);
      it.checked(WELL, atMs);
      expect(it.out).toBeUndefined();
    }
    it.insertFailed('full', 5_000);
    expect(it.out).toMatchObject({ cause: 'inserts_fail' });
  });

  test.each([
    ['a read-only table', { readonlyTable: 'otel_logs_local' }, /otel_logs_local is read-only/],
    ['no table at all', { tables: 0 }, /none of the tables/],
  ])('at once by %s', (_, facts, reason) => {
    const it = health();
    it.checked({ ...WELL, ...facts }, 1_000);
    expect(it.out?.reason).toMatch(reason);
    expect(it.share(1_000)).toBe(0);
    it.checked(WELL, 2_000);
    expect(it.out).toBeUndefined();
  });

  test('by a delay above 300 s in two checks, and until it is below 150 s', () => {
    const it = health();
    const delays: [number, boolean][] = [
      [301, false], [300, false], [301, false], [301, true], [151, true], [301, true], [150, false], [299, false],
    ];
    for (const [delaySeconds, out] of delays) {
      it.checked({ ...WELL, delaySeconds }, 1_000);
      expect([delaySeconds, it.out !== undefined]).toEqual([delaySeconds, out]);
    }
  });

  test('nothing known is nothing wrong', () => {
    const it = health();
    const nothing = Object.fromEntries(Object.keys(WELL).map((key) => [key, undefined]));
    it.checked({ ...WELL, ...nothing }, 1_000);
    expect(it.out).toBeUndefined();
  });
});

describe('coming back', () => {
  test('from a tenth of the share to all of it', () => {
    const it = health();
    for (const atMs of [1_000, 2_000]) it.checkFailed('silent', atMs);
    it.checked(WELL, 10_000);
    const shares = [10_000, 40_000, 69_999, 70_000, 500_000].map((atMs) => it.share(atMs));
    expect(shares.map((share) => share.toFixed(2))).toEqual(['0.10', '0.55', '1.00', '1.00', '1.00']);
  });

  test('all at once where the setting is 0', () => {
    const it = health(false, { ...BOUNDS, replicaReturnMs: 0 });
    for (const atMs of [1_000, 2_000]) it.checkFailed('silent', atMs);
    it.checked(WELL, 10_000);
    expect(it.share(10_000)).toBe(1);
  });

  test('a replica that is new among others gets nothing before its first check', () => {
    const it = health(true);
    expect([it.out?.cause, it.share(0)]).toEqual(['unchecked', 0]);
    it.checked({ ...WELL, delaySeconds: 1_000_000 }, 1_000);
    expect(it.out?.cause).toBe('delayed');
    it.checked(WELL, 2_000);
    expect(it.share(2_000)).toBe(0.1);
  });

  test('probes of one that fails inserts come ever less often, up to the usual distance', () => {
    const it = health();
    for (let insert = 0; insert < 3; insert += 1) it.insertFailed('full', 0);
    const distances: number[] = [];
    for (let relapse = 0; relapse < 9; relapse += 1) {
      expect(it.out?.cause).toBe('inserts_fail');
      distances.push(it.checkAgainMs);
      it.checked(WELL, 1_000);
      for (let insert = 0; insert < 3; insert += 1) it.insertFailed('full', 2_000);
    }
    expect(distances).toEqual([500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
  });

  const away = (it: Health, atMs: number) => it.checkFailed('silent', atMs);
  const readonly = (it: Health, atMs: number) => it.checked({ ...WELL, readonlyTable: 'otel_logs' }, atMs);
  test.each([
    ['away', away, 30_000],
    ['away', away, 3_600_000],
    ['read-only', readonly, 30_000],
  ])('one that is %s is probed every 1.5 s in the first minute, then every 4.5 s', (_, fail, healthCheckMs) => {
    const it = health(false, { ...BOUNDS, healthCheckMs });
    for (const atMs of [0, 0]) fail(it, atMs);
    const distances = new Map<number, number>();
    for (let atMs = 0; atMs < 600_000; atMs += it.checkAgainMs) {
      fail(it, atMs);
      distances.set(atMs, it.checkAgainMs);
    }
    const within = (fromMs: number, toMs: number) =>
      Math.max(...[...distances].filter(([atMs]) => atMs >= fromMs && atMs < toMs).map(([, ms]) => ms));
    expect([within(0, 60_000), within(60_000, 600_000)]).toEqual([1_500, 4_500]);
  });

  test('the setting counts where it asks for more probes than that', () => {
    const it = health(false, { ...BOUNDS, healthCheckMs: 200 });
    for (let check = 0; check < 10; check += 1) it.checkFailed('silent', check * 60_000);
    expect(it.checkAgainMs).toBe(200);
  });

  test('one that is away again and again is probed no less often', () => {
    const it = health();
    let atMs = 0;
    for (let relapse = 0; relapse < 10; relapse += 1, atMs += 2_000) {
      for (let check = 0; check < 2; check += 1) it.checkFailed('silent', atMs);
      expect(it.checkAgainMs).toBeLessThanOrEqual(1_500);
      it.checked(WELL, atMs + 1_000);
    }
  });

  test('inserts that are tried nevertheless bring no probe sooner and none later', () => {
    const it = health();
    for (const atMs of [1_000, 2_000]) it.checkFailed('silent', atMs);
    for (let insert = 0; insert < 20; insert += 1) it.insertFailed('refused', 3_000);
    expect([it.out?.cause, it.checkAgainMs]).toEqual(['unreachable', 500]);
  });

  test('an insert that works although it is left out brings the next probe nearer', () => {
    const it = health();
    for (let check = 0; check < 10; check += 1) it.checkFailed('silent', check);
    it.insertWorked();
    expect([it.out?.cause, it.checkAgainMs]).toEqual(['unreachable', 500]);
  });

  test('one that fails again soon after is waited for twice as long each time, until it is well for long', () => {
    const it = health();
    const first: number[] = [];
    let atMs = 0;
    for (let relapse = 0; relapse < 4; relapse += 1) {
      for (let insert = 0; insert < 3; insert += 1) it.insertFailed('full', atMs);
      first.push(it.checkAgainMs);
      atMs += 10_000;
      it.checked(WELL, atMs);
    }
    expect(first).toEqual([500, 1_000, 2_000, 4_000]);
    it.checked(WELL, atMs + 120_000);
    for (let insert = 0; insert < 3; insert += 1) it.insertFailed('full', atMs + 120_000);
    expect(it.checkAgainMs).toBe(500);
  });
});
