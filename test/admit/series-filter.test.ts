/**
 * Goal: a series that is known is never taken for a new one, whatever the tables grow to and whichever half of
 * the window it was seen in; the limit holds to the last series; and the estimate of what was turned away is as
 * good as it says.
 */
import { describe, expect, test } from 'vitest';
import { SeriesEstimate } from '../../src/admit/series-estimate.ts';
import { Fingerprints, SeriesFilter, fingerprintOf } from '../../src/admit/series-filter.ts';

const SEED = Math.floor(Math.random() * 2 ** 31);

/** Pseudo-random words (mulberry32), so that a failure can be repeated. */
function words(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  };
}

function different(count: number, seed = SEED): number[] {
  const next = words(seed);
  const found = new Set<number>();
  while (found.size < count) found.add(fingerprintOf(next()));
  return [...found];
}

describe('fingerprints', () => {
  test.each([0, 1, 11, 12, 13, 24, 25, 1_000, 100_000])('%i are all found, and nothing else', (count) => {
    const [known, others] = [different(2 * count).slice(0, count), different(2 * count).slice(count)];
    const table = new Fingerprints();
    for (const fingerprint of known) table.add(fingerprint);
    expect(table.count).toBe(count);
    expect(known.filter((fingerprint) => !table.has(fingerprint)), `seed ${SEED}`).toEqual([]);
    expect(others.filter((fingerprint) => table.has(fingerprint)), `seed ${SEED}`).toEqual([]);
    expect(new Set(table.values())).toEqual(new Set(known));
  });

  test.each([
    ['one after another', (i: number) => i + 1],
    ['with the same lower bits', (i: number) => (i + 1) << 12],
    ['negative', (i: number) => -i - 1],
  ])('%s', (_, nth) => {
    const table = new Fingerprints(10);
    const all = Array.from({ length: 50_000 }, (_, i) => nth(i));
    for (const fingerprint of all) table.add(fingerprint);
    expect(all.every((fingerprint) => table.has(fingerprint))).toBe(true);
    expect(table.has(1 << 30)).toBe(false);
  });

  test('0 marks a free slot: a hash of 0 has another fingerprint', () => {
    expect(fingerprintOf(0)).toBe(1);
    expect(fingerprintOf(0xffffffff)).toBe(-1);
    expect(fingerprintOf(0x80000000)).toBe(-(2 ** 31));
  });
});

describe('the limit', () => {
  test.each([1, 2, 100, 10_000])('%i series are let in, and not one more', (max) => {
    const filter = new SeriesFilter();
    const series = different(max + 50);
    const seen = series.map((fingerprint) => filter.see(fingerprint, max));
    expect(seen.slice(0, max).every((was) => was === 'added')).toBe(true);
    expect(seen.slice(max).every((was) => was === 'beyond')).toBe(true);
    expect(series.slice(0, max).every((fingerprint) => filter.see(fingerprint, max) === 'known')).toBe(true);
    expect(filter.count).toBe(max);
  });

  test('a lower limit turns nobody away who is known; a higher one lets more in', () => {
    const filter = new SeriesFilter();
    for (const fingerprint of [1, 2, 3]) filter.see(fingerprint, 3);
    expect(filter.see(3, 1)).toBe('known');
    expect(filter.see(4, 1)).toBe('beyond');
    filter.turn();
    expect(filter.see(3, 1)).toBe('added');
    expect(filter.see(4, 4)).toBe('added');
    expect(filter.see(5, 4)).toBe('beyond');
  });
});

describe('two halves of the window', () => {
  test('known for one half after it was seen, gone after two', () => {
    const filter = new SeriesFilter();
    filter.see(7, 1);
    filter.turn();
    expect(filter.count).toBe(1);
    expect(filter.see(8, 1)).toBe('beyond');
    expect(filter.see(7, 1)).toBe('added');
    expect(filter.count).toBe(1);
    filter.turn();
    filter.turn();
    expect(filter.count).toBe(0);
    expect(filter.see(8, 1)).toBe('added');
  });

  test('what another gateway saw before counts once, in whatever order it is learnt', () => {
    const filter = new SeriesFilter();
    filter.see(1, 10);
    filter.recall(1);
    filter.recall(2);
    filter.recall(2);
    expect(filter.count).toBe(2);
    filter.see(2, 10);
    expect(filter.count).toBe(2);
    expect(new Set(filter.current())).toEqual(new Set([1, 2]));
  });

  test('against a plain set of each half', () => {
    const next = words(SEED);
    const filter = new SeriesFilter();
    let current = new Set<number>();
    let previous = new Set<number>();
    for (let step = 0; step < 50_000; step++) {
      if (next() % 5_000 === 0) {
        filter.turn();
        [previous, current] = [current, new Set()];
      }
      const fingerprint = (next() % 900) - 450 || 1;
      const union = new Set([...(step % 97 === 0 ? [...current, ...previous] : [])]);
      if (union.size > 0) expect(filter.count, `seed ${SEED}, step ${step}`).toBe(union.size);
      const expected = current.has(fingerprint)
        ? 'known'
        : previous.has(fingerprint) || new Set([...current, ...previous]).size < 400
          ? 'added'
          : 'beyond';
      expect(filter.see(fingerprint, 400), `seed ${SEED}, step ${step}`).toBe(expected);
      if (expected !== 'beyond') current.add(fingerprint);
    }
  });
});

describe('the estimate', () => {
  test.each([0, 1, 10, 500, 2_000, 2_600, 20_000, 300_000])('of %i series, sent three times each', (count) => {
    const next = words(SEED);
    const estimate = new SeriesEstimate();
    const series = Array.from({ length: count }, () => [next(), next()] as const);
    for (let times = 0; times < 3; times++) for (const [low, high] of series) estimate.add(low, high);
    // Five times the standard error, and one for rounding: seeds differ from run to run.
    const error = Math.abs(estimate.count - count);
    expect(error, `seed ${SEED}: ${estimate.count}`).toBeLessThanOrEqual(1 + 0.165 * count);
  });

  test('is of both halves, and forgets what is older', () => {
    const next = words(SEED);
    const estimate = new SeriesEstimate();
    for (let i = 0; i < 100; i++) estimate.add(next(), next());
    estimate.turn();
    const before = estimate.count;
    expect(before).toBeGreaterThan(80);
    for (let i = 0; i < 100; i++) estimate.add(next(), next());
    expect(estimate.count).toBeGreaterThan(before);
    estimate.turn();
    expect(estimate.count).toBeLessThan(120);
    estimate.turn();
    expect(estimate.count).toBe(0);
  });
});
