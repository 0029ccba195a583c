/**
 * Goal: a gateway recognises by itself what it is storing and what it stored within the window, never what
 * failed or has expired; it remembers as many as its memory has room for, the newest of them.
 */
import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';
import { Resends, memoryPressure } from '../../src/admit/resends.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import { NOTHING, type Outcome } from '../../src/model/outcome.ts';

let nowMs: number;
let pressure: number;
let instruments: ReturnType<typeof createInstruments>;

beforeEach(() => {
  nowMs = 5_000;
  pressure = 0;
  instruments = createInstruments();
});

function resendsOf(entriesMin = 10, entriesMax = 110): Resends {
  return new Resends({ entriesMin, entriesMax, pressure: () => pressure, instruments, nowMs: () => nowMs });
}

function markOf(number: number): Buffer {
  const mark = Buffer.alloc(16, 0xff);
  mark.writeUInt32BE(number, 6);
  return mark;
}

const outcome = (accepted: number): Outcome => ({ ...NOTHING, accepted });

async function store(resends: Resends, number: number, seconds = 60, result = outcome(number)): Promise<void> {
  const stored = Promise.resolve(result);
  resends.begin(markOf(number), seconds, stored);
  await stored;
}

/** Those of the first `count` marks that are known. */
function known(resends: Resends, count: number): number[] {
  return Array.from({ length: count }, (_, i) => i).filter((i) => resends.recall(markOf(i)) !== undefined);
}

async function gauge(name: string, labels: Record<string, string> = {}): Promise<number | undefined> {
  const found = await instruments.registry.getSingleMetric(`sluice_${name}`)?.get();
  return found?.values.find(({ labels: have }) => have['result'] === labels['result'])?.value;
}

describe('one request', () => {
  test('unknown, under way, stored', async () => {
    const resends = resendsOf();
    expect(resends.recall(markOf(1))).toBeUndefined();
    let finish: (result: Outcome) => void = () => undefined;
    const stored = new Promise<Outcome>((resolve) => {
      finish = resolve;
    });
    resends.begin(markOf(1), 60, stored);
    expect(resends.recall(markOf(1))).toEqual({ kind: 'under_way', outcome: stored });
    expect(resends.recall(markOf(2))).toBeUndefined();
    finish(outcome(7));
    await stored;
    expect(resends.recall(markOf(1))).toEqual({ kind: 'stored', outcome: outcome(7) });
  });

  test('what failed is forgotten, and may begin anew', async () => {
    const resends = resendsOf();
    const failed = Promise.reject(new Error('made up'));
    resends.begin(markOf(1), 60, failed);
    const recalled = resends.recall(markOf(1));
    expect(recalled?.kind).toBe('under_way');
    await expect(recalled?.outcome).rejects.toThrow('made up');
    expect(resends.recall(markOf(1))).toBeUndefined();
    await store(resends, 1);
    expect(resends.recall(markOf(1))?.kind).toBe('stored');
  });

  test('one that began anew is not forgotten with the first that failed', async () => {
    const resends = resendsOf();
    const failed = Promise.reject(new Error('made up'));
    resends.begin(markOf(1), 60, failed);
    const second = new Promise<Outcome>(() => undefined);
    resends.begin(markOf(1), 60, second);
    await expect(failed).rejects.toThrow();
    expect(resends.recall(markOf(1))).toEqual({ kind: 'under_way', outcome: second });
  });

  test.each([
    [60, 59_999, true],
    [60, 60_000, false],
    [300, 299_999, true],
    [300, 300_000, false],
    [1, 999, true],
    [1, 1_000, false],
    [0, 0, false],
  ])('a window of %i s, after %i ms: %s', async (seconds, ms, is) => {
    const resends = resendsOf();
    await store(resends, 1, seconds);
    nowMs += ms;
    expect(resends.recall(markOf(1)) !== undefined).toBe(is);
  });

  test('the window counts from when it was stored', async () => {
    const resends = resendsOf();
    let finish: (result: Outcome) => void = () => undefined;
    const stored = new Promise<Outcome>((resolve) => {
      finish = resolve;
    });
    resends.begin(markOf(1), 10, stored);
    nowMs += 30_000;
    expect(resends.recall(markOf(1))?.kind).toBe('under_way');
    finish(outcome(1));
    await stored;
    nowMs += 9_999;
    expect(resends.recall(markOf(1))?.kind).toBe('stored');
  });

  test('rejected records and warnings are told again', async () => {
    const resends = resendsOf();
    const partial: Outcome = {
      accepted: 3,
      rejected: 2,
      reasons: new Map([['time_out_of_range', 2]]),
      warnings: new Map(),
    };
    const warned: Outcome = { ...outcome(1), warnings: new Map([['metric_without_data', 1]]) };
    await store(resends, 1, 60, partial);
    await store(resends, 2, 60, warned);
    expect(resends.recall(markOf(1))).toEqual({ kind: 'stored', outcome: partial });
    expect(resends.recall(markOf(2))).toEqual({ kind: 'stored', outcome: warned });
  });

  test('marks of any bytes, in views of larger buffers', async () => {
    const resends = resendsOf(1_000, 1_000);
    const all = Array.from({ length: 500 }, () => randomBytes(16));
    for (const mark of all) resends.begin(mark, 60, Promise.resolve(outcome(1)));
    await Promise.resolve();
    for (const mark of all) {
      const around = new Uint8Array([...randomBytes(5), ...mark, ...randomBytes(5)]);
      expect(resends.recall(around.subarray(5, 21))).toEqual({ kind: 'stored', outcome: outcome(1) });
      expect(resends.recall(around.subarray(4, 20))).toBeUndefined();
      expect(resends.recall(around.subarray(6, 22))).toBeUndefined();
    }
  });
});

describe('the bound', () => {
  test('the oldest goes first, one that was stored anew is new', async () => {
    const resends = resendsOf(0, 3);
    for (const number of [0, 1, 2]) await store(resends, number);
    expect(known(resends, 6)).toEqual([0, 1, 2]);
    await store(resends, 0);
    await store(resends, 3);
    expect(known(resends, 6)).toEqual([0, 2, 3]);
    await store(resends, 4);
    expect(known(resends, 6)).toEqual([0, 3, 4]);
  });

  test('what is under way is always known', async () => {
    const resends = resendsOf(0, 0);
    const stored = Promise.resolve(outcome(1));
    resends.begin(markOf(0), 60, stored);
    resends.begin(markOf(1), 60, new Promise(() => undefined));
    expect(known(resends, 2)).toEqual([0, 1]);
    await stored;
    expect(known(resends, 2)).toEqual([1]);
  });

  // The bound after so many calls of refresh, with 10 to 110 entries: a step is 10 of them.
  test.each([
    [0, 0.6, 1, 110],
    [0, 0.61, 1, 106],
    [0, 0.65, 1, 100],
    [0, 0.65, 2, 90],
    [0, 0.65, 9, 90],
    [0, 0.725, 9, 60],
    [0, 0.84, 10, 14],
    [0, 0.85, 9, 20],
    [0, 0.85, 10, 10],
    [0, 1, 1, 100],
    [0, 1, 99, 10],
    [1, 1, 0, 10],
    [1, 0.6, 1, 20],
    [1, 0.6, 9, 100],
    [1, 0.6, 10, 110],
    [1, 0, 99, 110],
    [0.725, 0.725, 0, 60],
  ])('pressure %f, then %f for %i calls: %i', async (before, after, calls, bound) => {
    pressure = before;
    const resends = resendsOf(10, 110);
    pressure = after;
    for (let call = 0; call < calls; call++) resends.refresh();
    expect(await gauge('resend_cache_entries_max')).toBe(bound);
    for (let number = 0; number < 150; number++) await store(resends, number);
    expect(known(resends, 150)).toEqual(Array.from({ length: bound }, (_, i) => 150 - bound + i));
  });

  test('when memory gets short, the oldest are forgotten at once', async () => {
    const resends = resendsOf(10, 110);
    for (let number = 0; number < 110; number++) await store(resends, number);
    pressure = 1;
    resends.refresh();
    expect(known(resends, 110)).toEqual(Array.from({ length: 100 }, (_, i) => 10 + i));
  });

  test.each([[5, 5], [0, 5], [9, 5]])('from %i to %i entries', async (entriesMin, entriesMax) => {
    const resends = resendsOf(entriesMin, entriesMax);
    resends.refresh();
    for (let number = 0; number < 20; number++) await store(resends, number);
    expect(known(resends, 20)).toHaveLength(entriesMax);
  });
});

describe('metrics', () => {
  test('entries, lookups', async () => {
    const resends = resendsOf();
    expect(await gauge('resend_cache_lookups_total', { result: 'hit' })).toBe(0);
    await store(resends, 0, 10);
    await store(resends, 1, 20);
    resends.begin(markOf(2), 60, new Promise(() => undefined));
    expect(known(resends, 7)).toEqual([0, 1, 2]);
    resends.refresh();
    expect(await gauge('resend_cache_entries')).toBe(3);
    expect(await gauge('resend_cache_lookups_total', { result: 'hit' })).toBe(3);
    expect(await gauge('resend_cache_lookups_total', { result: 'miss' })).toBe(4);
    nowMs += 10_000;
    resends.refresh();
    expect(await gauge('resend_cache_entries')).toBe(2);
    nowMs += 10_000;
    resends.refresh();
    expect(await gauge('resend_cache_entries')).toBe(1);
    expect(await gauge('resend_cache_lookups_total', { result: 'hit' })).toBe(3);
  });

  test('the pressure of this machine is a part of its memory', () => {
    expect(memoryPressure()).toBeGreaterThan(0);
    expect(memoryPressure()).toBeLessThanOrEqual(1);
  });
});

test('whatever is stored, repeated, expires and is evicted: it knows what a plain list would', () => {
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ store: fc.nat(9), seconds: fc.nat(6) }) },
    { weight: 2, arbitrary: fc.record({ wait: fc.nat(4_000) }) },
    { weight: 1, arbitrary: fc.record({ pressure: fc.constantFrom(0, 0.725, 1) }) },
  );
  const property = fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
    pressure = 0;
    const resends = resendsOf(1, 6);
    let bound = 6;
    /** Oldest first. */
    let list: { number: number; untilMs: number }[] = [];
    for (const action of steps) {
      if ('store' in action) {
        await store(resends, action.store, action.seconds);
        if (action.seconds > 0) {
          list = list.filter(({ number }) => number !== action.store);
          list.push({ number: action.store, untilMs: nowMs + action.seconds * 1_000 });
        }
      } else if ('wait' in action) {
        nowMs += action.wait;
      } else {
        pressure = action.pressure;
        resends.refresh();
        const wanted = Math.round(1 + 5 * Math.min(1, (0.85 - pressure) / 0.25));
        bound = Math.max(bound - 1, Math.min(bound + 1, pressure === 1 ? 1 : wanted));
        while ((list[0]?.untilMs ?? Number.POSITIVE_INFINITY) <= nowMs) list.shift();
      }
      list = list.slice(Math.max(0, list.length - bound));
      const live = list.filter(({ untilMs }) => untilMs > nowMs).map(({ number }) => number);
      expect(known(resends, 10)).toEqual(live.sort());
      // Looking something up that has expired forgets it.
      list = list.filter(({ untilMs }) => untilMs > nowMs);
    }
  });
  return fc.assert(property, { numRuns: 500 });
});
