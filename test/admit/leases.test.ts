/**
 * Goal: all gateways together keep to a tenant's rates and daily quotas, although none of them asks Redis for
 * a request: what they let in over any 10 s is within the rate, the burst and one lease each. Tenants without
 * limits cost nothing; a burst can be used by any gateway; what dies, is away or changes does no lasting harm.
 * The script runs in a real Redis, with a clock of the test's own.
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Exhausted, Leases } from '../../src/admit/leases.ts';
import { shareKey } from '../../src/admit/lease-script.ts';
import type { Settings } from '../../src/config/settings.ts';
import { redis, useEmptyRedis } from '../queue/redis.ts';
import { silent } from '../redis/server.ts';
import { ClockedRedis, randomOf, shareSettings } from './share-redis.ts';

useEmptyRedis();

const NOON = Date.UTC(2026, 0, 2, 12);
const LEASE_MS = 250;
let nowMs: number;
/** Redis' time at the test's 0. */
let startMs: number;
let clocked: ClockedRedis;
let started: Gateway[] = [];

afterEach(async () => {
  for (const { leases } of started) await leases.giveBack();
  started = [];
});
beforeEach(() => {
  nowMs = 0;
  startMs = NOON;
  clocked = new ClockedRedis(redis, () => startMs + nowMs);
});

type Limits = Readonly<Record<string, number>>;
const settingsWith = (limits: Limits): Settings =>
  shareSettings([{ name: 'acme', ...limits }], { SLUICE_SHARES_LEASE_MS: String(LEASE_MS) });

class Gateway {
  readonly leases: Leases;
  settings: Settings;
  taken = 0;

  constructor(settings: Settings, random: () => number = () => 0.5) {
    this.settings = settings;
    this.leases = new Leases({ redis: clocked, logger: silent, nowMs: () => nowMs, random });
    this.leases.tick(settings, 1);
    started.push(this);
  }

  send(items: number, bytes = 0): Exhausted | undefined {
    const refusal = this.leases.refusal('acme');
    if (refusal !== undefined) return refusal;
    this.leases.charge('acme', items, bytes);
    this.taken += items;
    return undefined;
  }

  async tick(): Promise<void> {
    this.leases.tick(this.settings, 1);
    await this.leases.idle();
  }
}

/** Some ms of a clock that goes in steps; the gateways tick every 250 ms. */
async function pass(ms: number, gateways: readonly Gateway[], each?: () => void, stepMs = 50): Promise<void> {
  for (const endMs = nowMs + ms; nowMs < endMs; ) {
    nowMs += stepMs;
    each?.();
    for (const gateway of gateways) {
      if (nowMs % 250 === 0) gateway.leases.tick(gateway.settings, gateways.length);
      await gateway.leases.idle();
    }
  }
}

async function stored(): Promise<Record<string, number>> {
  const flat = (await redis.command(['HGETALL', shareKey('acme')])) as string[];
  const pairs = Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i], Number(flat[2 * i + 1])]);
  return Object.fromEntries(pairs);
}

describe('one gateway', () => {
  test('without limits there is nothing to ask', async () => {
    const gateway = new Gateway(settingsWith({ weight: 3 }));
    for (let i = 0; i < 100; i++) expect(gateway.send(1e9, 1e9)).toBeUndefined();
    await pass(2_000, [gateway]);
    expect(gateway.leases.refusal('nobody')).toBeUndefined();
    expect(clocked.settlements).toBe(0);
  });

  test('without requests there is nothing to settle, not even after some', async () => {
    const gateway = new Gateway(settingsWith({ itemsPerSecond: 100 }));
    await pass(2_000, [gateway]);
    expect(clocked.settlements).toBe(0);
    gateway.send(1);
    await pass(1_000, [gateway]);
    const after = clocked.settlements;
    expect(after).toBeGreaterThan(0);
    await pass(60_000, [gateway], undefined, 250);
    expect(clocked.settlements).toBe(after);
    // Everything was given back.
    expect(await stored()).toMatchObject({ items: 1_000, items_day: 1 });
  });

  test('a quiet tenant can use its whole burst at once, and then its rate', async () => {
    const gateway = new Gateway(settingsWith({ itemsPerSecond: 100, burstSeconds: 10 }));
    let refused = 0;
    // 1,000 have collected, 2,000 a second are sent.
    const send = () => {
      if (gateway.send(10) !== undefined) refused += 1;
    };
    await pass(450, [gateway], send, 5);
    expect({ refused, taken: gateway.taken }).toEqual({ refused: 0, taken: 900 });
    await pass(10_000, [gateway], () => {
      for (let i = 0; i < 10; i++) gateway.send(10);
    });
    // The burst, what came in, and the last request.
    expect(gateway.taken).toBeLessThanOrEqual(1_000 + 1_045 + 25 + 10);
    expect(gateway.taken).toBeGreaterThanOrEqual(1_000 + 1_045 - 100);
  });

  test('a request far larger than the rate is taken, and paid before the next', async () => {
    const gateway = new Gateway(settingsWith({ bytesPerSecond: 100, burstSeconds: 1 }));
    expect(gateway.send(1, 10_000)).toBeUndefined();
    const refusal = gateway.send(1, 1);
    expect(refusal).toMatchObject({ reason: 'tenant_rate', unit: 'bytes', limit: 100, burstSeconds: 1 });
    expect(refusal?.waitMs).toBeCloseTo(99_000, -1);
    await pass(98_000, [gateway], undefined, 250);
    expect(gateway.send(1, 1)?.waitMs).toBeCloseTo(1_000, -1);
    await pass(1_250, [gateway], undefined, 250);
    expect(gateway.send(1, 1)).toBeUndefined();
  });

  test('of items and bytes the one that is short decides', async () => {
    const gateway = new Gateway(settingsWith({ itemsPerSecond: 100, bytesPerSecond: 1_000, burstSeconds: 1 }));
    gateway.send(200, 10);
    expect(gateway.send(1, 1)).toMatchObject({ unit: 'items', limit: 100 });
    await pass(5_000, [gateway], undefined, 250);
    gateway.send(1, 4_000);
    expect(gateway.send(1, 1)).toMatchObject({ unit: 'bytes', limit: 1_000 });
  });

  test('a Redis that is slow is not asked again because its answer took long', async () => {
    clocked = new ClockedRedis(redis, () => {
      nowMs += 30;
      return startMs + nowMs;
    });
    const gateway = new Gateway(settingsWith({ itemsPerSecond: 100 }));
    gateway.send(1);
    await gateway.leases.idle();
    expect(clocked.settlements).toBe(1);
    nowMs += 30;
    gateway.send(300);
    await gateway.leases.idle();
    // It owes a lot now.
    expect(clocked.settlements).toBe(2);
  });

  test('given back at the end', async () => {
    const gateway = new Gateway(settingsWith({ itemsPerSecond: 100 }));
    gateway.send(30);
    await gateway.leases.giveBack();
    expect(await stored()).toMatchObject({ items: 970, items_day: 30, day: Math.floor(NOON / 86_400_000) });
    const expiry = Number(await redis.command(['TTL', shareKey('acme')]));
    expect(expiry).toBeGreaterThan(172_700);
    expect(expiry).toBeLessThanOrEqual(172_800);
  });
});

describe('several gateways', () => {
  test('a first request waits for nothing, also where all is used up elsewhere; then it does', async () => {
    const settings = settingsWith({ itemsPerSecond: 100, burstSeconds: 1 });
    const [one, other] = [new Gateway(settings), new Gateway(settings)];
    one.send(1_000);
    await one.tick();
    expect(other.send(1)).toBeUndefined();
    await pass(250, [one, other]);
    expect(other.send(1)).toMatchObject({ reason: 'tenant_rate' });
  });

  test('one that dies keeps one lease at most', async () => {
    const settings = settingsWith({ itemsPerSecond: 100, burstSeconds: 10 });
    const [one, other] = [new Gateway(settings), new Gateway(settings)];
    await pass(5_000, [one], () => one.send(5));
    // What it used, about one lease of it (25), and nothing else is missing.
    const { items = 0 } = await stored();
    expect(items).toBeGreaterThanOrEqual(1_000 - 2 * 25 - 5);
    await pass(60_000, [other], () => other.send(6));
    expect(other.taken).toBeGreaterThanOrEqual(60 * 100);
  });

  test('a tenant that sends too much everywhere gets something everywhere', async () => {
    const settings = settingsWith({ itemsPerSecond: 100, burstSeconds: 1 });
    const gateways = [1, 2, 3].map((seed) => new Gateway(settings, randomOf(seed)));
    await pass(60_000, gateways, () => {
      for (const gateway of gateways) for (let i = 0; i < 4; i++) gateway.send(5);
    });
    const total = gateways.reduce((sum, { taken }) => sum + taken, 0);
    expect(total).toBeGreaterThanOrEqual(5_900);
    expect(total).toBeLessThanOrEqual(6_000 + 100 + 3 * 25 + 3 * 5);
    for (const { taken } of gateways) expect(taken).toBeGreaterThanOrEqual(1_000);
  });

  const seeds = Array.from({ length: 12 }, (_, i) => 1_000 + i);
  test.each(seeds)('within rate x 10 s, the burst and a lease each (seed %i)', async (seed) => {
    const random = randomOf(seed);
    const between = (min: number, max: number) => min + Math.floor(random() * (max - min + 1));
    const rate = between(20, 2_000);
    const burstSeconds = between(1, 10);
    const itemsMax = between(1, Math.ceil(rate / 2));
    const count = between(1, 5);
    const settings = settingsWith({ itemsPerSecond: rate, burstSeconds });
    const gateways = Array.from({ length: count }, () => new Gateway(settings, random));
    const offers = gateways.map(() => random() * 4);
    const sent: { atMs: number; items: number }[] = [];
    for (const endMs = 30_000; nowMs < endMs; ) {
      nowMs += between(5, 100);
      for (const [i, gateway] of gateways.entries()) {
        if (random() < 0.01) offers[i] = random() < 0.3 ? 0 : random() * 4;
        // So many requests that it asks for `offers` times the rate.
        let wanted = (offers[i]! * rate * 50) / 1000;
        for (; wanted > 0; wanted -= itemsMax) {
          const items = between(1, itemsMax);
          if (gateway.send(items) === undefined) sent.push({ atMs: nowMs, items });
        }
        if (random() < 0.25) gateway.leases.tick(settings, count);
        // Answers of Redis come at once, or while the next requests are there.
        if (random() < 0.5) await gateway.leases.idle();
      }
    }
    const lease = (rate * LEASE_MS) / 1000;
    const most = rate * 10 + rate * burstSeconds + count * (lease + itemsMax);
    let sum = 0;
    let from = 0;
    for (const { atMs, items } of sent) {
      sum += items;
      for (; sent[from]!.atMs <= atMs - 10_000; from++) sum -= sent[from]!.items;
      expect(sum).toBeLessThanOrEqual(most);
    }
  });
});

describe('quotas of a day', () => {
  test.each([
    [99, undefined],
    [100, 'items'],
    [101, 'items'],
  ])('after %d of 100', async (used, unit) => {
    const gateway = new Gateway(settingsWith({ itemsPerDay: 100 }));
    gateway.send(used);
    expect(gateway.send(1)?.unit).toBe(unit);
    await gateway.tick();
    nowMs += 250;
    await gateway.tick();
    expect(gateway.leases.refusal('acme')?.reason).toBe('tenant_quota');
  });

  test('of all gateways, until midnight', async () => {
    startMs = Date.UTC(2026, 0, 2, 23, 59, 50);
    const settings = settingsWith({ bytesPerDay: 1_000 });
    const [one, other] = [new Gateway(settings), new Gateway(settings)];
    one.send(1, 600);
    await one.tick();
    other.send(1, 400);
    await pass(500, [one, other], () => one.leases.refusal('acme'));
    expect(one.send(1, 1)).toEqual({
      reason: 'tenant_quota', unit: 'bytes', limit: 1_000, burstSeconds: 10, waitMs: 9_500,
    });
    expect([...one.leases.quotas()]).toEqual([{ tenant: 'acme', unit: 'bytes', used: 1 }]);
    await pass(9_450, [one, other]);
    expect(one.send(1, 1)?.waitMs).toBe(50);
    await pass(50, [one, other]);
    expect(one.send(1, 300)).toBeUndefined();
    await pass(500, [one, other]);
    expect([...one.leases.quotas()]).toEqual([{ tenant: 'acme', unit: 'bytes', used: 0.3 }]);
    expect(await stored()).toMatchObject({ bytes_day: 300, day: Date.UTC(2026, 0, 3) / 86_400_000 });
  });

  test('one that starts later knows what was used', async () => {
    const settings = settingsWith({ itemsPerDay: 100 });
    const one = new Gateway(settings);
    one.send(100);
    await one.tick();
    const other = new Gateway(settings);
    expect(other.send(1)).toBeUndefined();
    await pass(250, [one, other]);
    expect(other.send(1)).toMatchObject({ reason: 'tenant_quota' });
  });
});

describe('Redis away', () => {
  test('the whole rate goes on, and leases recover', async () => {
    const gateway = new Gateway(settingsWith({ itemsPerSecond: 100, burstSeconds: 1 }));
    await pass(2_000, [gateway], () => gateway.send(5));
    clocked.isAway = true;
    const before = gateway.taken;
    await pass(30_000, [gateway], () => {
      for (let i = 0; i < 10; i++) gateway.send(5);
    });
    expect(gateway.taken - before).toBeGreaterThanOrEqual(2_900);
    expect(gateway.taken - before).toBeLessThanOrEqual(3_000 + 100 + 50);
    clocked.isAway = false;
    const back = gateway.taken;
    await pass(10_000, [gateway], () => gateway.send(4));
    // It is not made to pay for what came in meanwhile.
    expect(gateway.taken - back).toBeGreaterThanOrEqual(700);
    expect(await stored()).toMatchObject({ items_day: gateway.taken });
  });

  test('an emptied Redis: the day begins anew, the rate is kept', async () => {
    const gateway = new Gateway(settingsWith({ itemsPerSecond: 100, burstSeconds: 1, itemsPerDay: 1e6 }));
    await pass(1_000, [gateway], () => gateway.send(5));
    await redis.command(['FLUSHALL']);
    const before = gateway.taken;
    await pass(10_000, [gateway], () => gateway.send(10));
    expect(gateway.taken - before).toBeLessThanOrEqual(1_000 + 2 * 100 + 50);
    expect(gateway.taken - before).toBeGreaterThanOrEqual(1_000);
  });
});

describe('settings that change', () => {
  test('a tenant gets a limit, another one, none', async () => {
    const gateway = new Gateway(settingsWith({}));
    gateway.send(1_000_000);
    gateway.settings = settingsWith({ itemsPerSecond: 100, burstSeconds: 1 });
    await gateway.tick();
    expect(gateway.send(101)).toBeUndefined();
    expect(gateway.send(1)).toMatchObject({ limit: 100 });
    gateway.settings = settingsWith({ itemsPerSecond: 1_000, burstSeconds: 1 });
    await gateway.tick();
    await pass(500, [gateway]);
    expect(gateway.send(2_000)).toBeUndefined();
    expect(gateway.send(1)).toMatchObject({ limit: 1_000 });
    await pass(1_750, [gateway]);
    expect(gateway.send(1)).toBeUndefined();
    gateway.settings = settingsWith({});
    await gateway.tick();
    expect(gateway.send(1_000_000)).toBeUndefined();
    const before = clocked.settlements;
    await pass(1_000, [gateway], () => gateway.send(1_000_000));
    expect(clocked.settlements).toBe(before);
  });

  test('a limit that comes to one that had a quota only', async () => {
    const gateway = new Gateway(settingsWith({ itemsPerDay: 1e9 }));
    gateway.send(1_000_000);
    await gateway.tick();
    gateway.settings = settingsWith({ itemsPerDay: 1e9, itemsPerSecond: 100, burstSeconds: 1 });
    await gateway.tick();
    expect(gateway.send(101)).toBeUndefined();
    expect(gateway.send(1)).toMatchObject({ reason: 'tenant_rate' });
  });
});
