/**
 * Goal: that runs of points are remembered changes nothing of what is beyond a limit, however often which runs come,
 * of whom and when: random requests against a model that looks at every point by itself.
 */
import { randomInt } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { SeriesRuns } from '../../src/admit/series-runs.ts';
import { HALF_MS, beyond, gatewayOf, hashOf, pass, points, range, useGateways } from './gateways.ts';

useGateways();

const SERIES_MAX = 10;
const TENANTS = ['default', 'acme', 'other'];

/** Known series by tenant and metric, in this half of the window and the one before. */
class Model {
  #current = new Map<string, Set<number>>();
  #previous = new Map<string, Set<number>>();

  isBeyond(tenant: string, metric: number, series: number): boolean {
    const name = `${tenant} ${metric}`;
    const previous = this.#previous.get(name) ?? new Set();
    const current = this.#current.get(name) ?? new Set();
    const isNew = !current.has(series) && !previous.has(series);
    if (isNew && new Set([...current, ...previous]).size >= SERIES_MAX) return true;
    this.#current.set(name, current.add(series));
    return false;
  }

  turn(): void {
    this.#previous = this.#current;
    this.#current = new Map();
  }
}

describe('what is beyond', () => {
  test.each(range(0, 5))('random requests of the same runs, again and again (%i)', () => {
    const seed = randomInt(2 ** 31);
    let step = 0;
    const draw = (below: number) => (hashOf(step++, seed) >>> 0) % below;
    const runs = range(0, 30).map(() => {
      return { metric: 1 + draw(3), series: range(0, 1 + draw(6)).map(() => draw(16)) };
    });
    const gateway = gatewayOf();
    const model = new Model();
    for (let request = 0; request < 2_000; request++) {
      if (draw(40) === 0) {
        pass(HALF_MS);
        model.turn();
      }
      const tenant = TENANTS[draw(3)] ?? '';
      const sent = range(0, 1 + draw(4)).flatMap(() => runs[draw(runs.length)] ?? []);
      const words = sent.flatMap(({ metric, series }) => [...points(metric, series)]);
      const expected = sent
        .flatMap(({ metric, series }) => series.map((one) => model.isBeyond(tenant, metric, one)))
        .flatMap((isBeyond, at) => (isBeyond ? [at] : []));
      expect(beyond(gateway, Uint32Array.from(words), tenant), `seed ${seed}, request ${request}`).toEqual(expected);
    }
  });
});

describe('a run', () => {
  const known = (runs: SeriesRuns, words: Uint32Array, salt = 1) => {
    runs.read(words, 0, salt);
    return runs.isKnown;
  };

  test('ends where the next metric begins', () => {
    const runs = new SeriesRuns();
    const words = Uint32Array.from([...points(1, [1, 2, 3]), ...points(2, [1]), ...points(1, [1, 2])]);
    expect([0, 9, 12].map((at) => runs.read(words, at, 1))).toEqual([9, 12, 18]);
  });

  test.each([
    ['another series', points(1, [1, 2, 4])],
    ['one less', points(1, [1, 2])],
    ['one more', points(1, [1, 2, 3, 4])],
    ['another order', points(1, [2, 1, 3])],
    ['another metric', points(2, [1, 2, 3])],
    ['one word', Uint32Array.from([...points(1, [1, 2]), 1, 5, 6])],
  ])('%s is another run', (_, other) => {
    const runs = new SeriesRuns();
    expect(known(runs, points(1, [1, 2, 3]))).toBe(false);
    runs.add();
    expect(known(runs, points(1, [1, 2, 3]))).toBe(true);
    expect(known(runs, other)).toBe(false);
    expect(known(runs, points(1, [1, 2, 3]), 2)).toBe(false);
    runs.clear();
    expect(known(runs, points(1, [1, 2, 3]))).toBe(false);
  });

  test('100,000 different ones: none is taken for another', () => {
    const seed = randomInt(2 ** 31);
    const runs = new SeriesRuns();
    for (const n of range(0, 100_000)) {
      expect(known(runs, points(1, [seed + n, seed + n + 1])), `seed ${seed}, run ${n}`).toBe(false);
      runs.add();
    }
  });
});
