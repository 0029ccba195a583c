/**
 * Goal: what isn't enough is shared out by weighted max-min fairness, as a slow and obvious model does it:
 * never more than there is, nobody more than he asks for, nobody less because another one asks for more. With
 * priorities those go first that are slowed last, and none starves.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Claim, fairLevel, fairShares, shareClasses } from '../../src/admit/fair.ts';
import { SIGNALS, type Signal } from '../../src/model/signal.ts';

const claimsOf = (...pairs: readonly (readonly [demand: number, weight: number])[]): Claim[] =>
  pairs.map(([demand, weight]) => ({ demand, weight }));

describe('shares', () => {
  test.each([
    ['nobody', claimsOf(), 10, []],
    ['enough for all', claimsOf([3, 1], [4, 1]), 10, [3, 4]],
    ['just enough', claimsOf([6, 1], [4, 1]), 10, [6, 4]],
    ['one too much', claimsOf([7, 1], [4, 1]), 10, [6, 4]],
    ['alike', claimsOf([100, 1], [100, 1]), 10, [5, 5]],
    ['a greedy one', claimsOf([2, 1], [1_000, 1], [2, 1]), 10, [2, 6, 2]],
    ['by weight', claimsOf([100, 3], [100, 1]), 10, [7.5, 2.5]],
    ['a heavy one that wants little', claimsOf([1, 100], [100, 1], [100, 2]), 10, [1, 3, 6]],
    ['one that wants nothing', claimsOf([0, 5], [100, 1]), 10, [0, 10]],
    ['nothing to share', claimsOf([1, 1], [2, 1]), 0, [0, 0]],
    ['less than nothing', claimsOf([1, 1]), -5, [0]],
  ])('%s', (_, claims, capacity, shares) => {
    const found = fairShares(claims, capacity);
    expect(found).toHaveLength(shares.length);
    for (const [i, share] of shares.entries()) expect(found[i]).toBeCloseTo(share, 9);
  });

  test('without a shortage there is no level', () => {
    expect(fairLevel(claimsOf([3, 1], [7, 1]), 10)).toBe(Number.POSITIVE_INFINITY);
    expect(fairLevel(claimsOf([3, 1], [7.01, 1]), 10)).toBeCloseTo(7);
  });
});

/** Everybody gets his part by weight; what somebody doesn't want is shared out again among the others. */
function model(claims: readonly Claim[], capacity: number): number[] {
  const shares = claims.map(() => 0);
  const hungry = new Set(claims.keys());
  let rest = capacity;
  while (hungry.size > 0 && rest > 1e-12) {
    const weight = [...hungry].reduce((sum, i) => sum + claims[i]!.weight, 0);
    const full = [...hungry].filter((i) => claims[i]!.demand <= (rest * claims[i]!.weight) / weight);
    if (full.length === 0) {
      for (const i of hungry) shares[i] = (rest * claims[i]!.weight) / weight;
      return shares;
    }
    for (const i of full) {
      shares[i] = claims[i]!.demand;
      rest -= claims[i]!.demand;
      hungry.delete(i);
    }
  }
  return shares;
}

const claim = fc.record({
  demand: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 1e9, noNaN: true }), fc.integer({ min: 0, max: 20 })),
  weight: fc.oneof(fc.constant(1), fc.double({ min: 0.01, max: 1_000, noNaN: true })),
});
const claims = fc.array(claim, { maxLength: 30 });
const capacity = fc.oneof(fc.double({ min: 0, max: 1e9, noNaN: true }), fc.integer({ min: 0, max: 100 }));
const total = (figures: readonly number[]) => figures.reduce((sum, figure) => sum + figure, 0);
/** Sums of 30 such figures. */
const near = (figure: number) => 1e-9 * Math.max(1, figure);

describe('against the model', () => {
  test('the same shares', () => {
    fc.assert(
      fc.property(claims, capacity, (list, whole) => {
        const found = fairShares(list, whole);
        const wanted = model(list, whole);
        for (const i of list.keys()) expect(Math.abs(found[i]! - wanted[i]!)).toBeLessThanOrEqual(near(whole));
      }),
    );
  });

  test('no more than there is, no more than asked for, nothing left over while somebody wants it', () => {
    fc.assert(
      fc.property(claims, capacity, (list, whole) => {
        const found = fairShares(list, whole);
        const demand = total(list.map((one) => one.demand));
        expect(total(found)).toBeLessThanOrEqual(whole + near(whole));
        expect(total(found)).toBeGreaterThanOrEqual(Math.min(whole, demand) - near(whole));
        for (const [i, one] of list.entries()) expect(found[i]).toBeLessThanOrEqual(one.demand);
      }),
    );
  });

  test('nobody is below the part of his weight while another one is above it', () => {
    fc.assert(
      fc.property(claims, capacity, (list, whole) => {
        const found = fairShares(list, whole);
        const by = found.map((share, i) => share / list[i]!.weight);
        const highest = Math.max(0, ...by);
        for (const [i, one] of list.entries())
          if (found[i]! < one.demand) expect(by[i]).toBeGreaterThanOrEqual(highest - near(highest));
      }),
    );
  });

  test('more weight is never less', () => {
    fc.assert(
      fc.property(claims, claim, fc.double({ min: 1, max: 100, noNaN: true }), capacity, (list, one, more, whole) => {
        const [before = 0] = fairShares([one, ...list], whole);
        const [after = 0] = fairShares([{ ...one, weight: one.weight * more }, ...list], whole);
        expect(after).toBeGreaterThanOrEqual(before - near(whole));
      }),
    );
  });

  test('who asks for more takes nothing from those who ask for less than their part', () => {
    fc.assert(
      fc.property(claims, claim, capacity, (list, one, whole) => {
        const all = [one, ...list];
        const weight = total(all.map((other) => other.weight));
        const before = fairShares(all, whole);
        const after = fairShares([{ ...one, demand: one.demand * 20 }, ...list], whole);
        for (const [i, other] of all.entries()) {
          if (i === 0 || other.demand > (whole * other.weight) / weight) continue;
          expect(Math.abs(after[i]! - before[i]!)).toBeLessThanOrEqual(near(whole));
        }
      }),
    );
  });
});

type Demands = Map<string, Partial<Record<Signal, number>>>;
const one = () => 1;

describe('priorities', () => {
  const demands: Demands = new Map([
    ['a', { traces: 60, metrics: 20, logs: 100 }],
    ['b', { traces: 20, metrics: 20, logs: 10 }],
  ]);
  const capacities = (whole: number, slowFirst: readonly Signal[]) =>
    Object.fromEntries(
      shareClasses(demands, one, whole, slowFirst).map(({ signals, capacity: part }) => [signals.join('+'), part]),
    );

  test.each<[number, Signal[], Record<string, number>]>([
    // 230 are asked for: 80 traces, 40 metrics, 110 logs.
    [230, ['logs'], { 'traces+metrics': 120, logs: 110 }],
    [229, ['logs'], { 'traces+metrics': 120, logs: 109 }],
    [130, ['logs'], { 'traces+metrics': 120, logs: 10 }],
    [100, ['logs'], { 'traces+metrics': 95, logs: 5 }],
    [100, ['logs', 'traces'], { metrics: 40, traces: 55, logs: 5 }],
    [100, ['traces', 'logs'], { metrics: 40, logs: 55, traces: 5 }],
    [40, ['logs', 'traces', 'metrics'], { metrics: 36, traces: 2, logs: 2 }],
    [100, ['logs', 'logs'], { 'traces+metrics': 95, logs: 5 }],
    [100, [], { 'traces+metrics+logs': 100 }],
    [0, ['logs'], { 'traces+metrics': 0, logs: 0 }],
  ])('%d, slow first: %j', (whole, slowFirst, parts) => {
    const found = capacities(whole, slowFirst);
    expect(Object.keys(found)).toEqual(Object.keys(parts));
    for (const [name, part] of Object.entries(parts)) expect(found[name]).toBeCloseTo(part, 9);
  });

  test('only what is short has a level, and it is shared out fairly', () => {
    const [rest, logs] = shareClasses(demands, one, 140, ['logs']);
    expect(rest).toMatchObject({ demand: 120, level: Number.POSITIVE_INFINITY });
    // 20 for logs: 10 of b, whole, and 10 of a.
    expect(logs?.level).toBeCloseTo(10);
  });

  test('sums, floors, and nothing left over', () => {
    const demand = fc.record({
      traces: fc.integer({ min: 0, max: 1_000 }),
      metrics: fc.integer({ min: 0, max: 1_000 }),
      logs: fc.integer({ min: 0, max: 1_000 }),
    });
    const many = fc.array(demand, { minLength: 1, maxLength: 10 });
    const order = fc.uniqueArray(fc.constantFrom(...SIGNALS));
    fc.assert(
      fc.property(many, order, fc.integer({ min: 1, max: 10_000 }), (list, slowFirst, whole) => {
        const all: Demands = new Map(list.map((entry, i) => [`t${i}`, entry]));
        const classes = shareClasses(all, one, whole, slowFirst);
        const asked = total(list.map((entry) => entry.traces + entry.metrics + entry.logs));
        const given = total(classes.map((each) => each.capacity));
        expect(given).toBeCloseTo(Math.min(whole, asked), 6);
        for (const [i, each] of classes.entries()) {
          expect(each.capacity).toBeLessThanOrEqual(each.demand + 1e-9);
          expect(each.capacity).toBeGreaterThanOrEqual(Math.min(each.demand, whole * 0.05) - 1e-9);
          // Served before it: whole, or this one has no more than its floor.
          const before = classes.slice(0, i).every((other) => other.level === Number.POSITIVE_INFINITY);
          if (!before) expect(each.capacity).toBeLessThanOrEqual(whole * 0.05 + 1e-6);
        }
      }),
    );
  });
});
