/**
 * Goal: what a tenant may send holds over all gateways together. A refusal says who, how much, which limit and
 * which setting, with a delay within its bounds; under pressure everybody gets his fair part, so that a greedy
 * tenant takes nothing from the others, and signals are slowed in the order of the settings. The gateways are
 * several Shares on one real Redis, with a clock of the test's own.
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { shareKey } from '../../src/admit/lease-script.ts';
import { type BoardEntry, Shares } from '../../src/admit/shares.ts';
import type { Settings } from '../../src/config/settings.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import type { Verdict } from '../../src/model/outcome.ts';
import type { Signal } from '../../src/model/signal.ts';
import { redis, useEmptyRedis } from '../queue/redis.ts';
import { eventually, silent } from '../redis/server.ts';
import { ClockedRedis, randomOf, shareSettings } from './share-redis.ts';

useEmptyRedis();

const NOON = Date.UTC(2026, 0, 2, 12);
const TICK_MS = 250;
let nowMs: number;
let clocked: ClockedRedis;
let capacity: number | undefined;
let board: BoardEntry[];
let started: Gateway[] = [];

afterEach(async () => {
  for (const { shares } of started) await shares.stop();
  // What was under way for tenants that have no limits any more has ended, too.
  await redis.command(['PING']);
  started = [];
});
beforeEach(() => {
  nowMs = 0;
  capacity = undefined;
  board = [];
  clocked = new ClockedRedis(redis, () => NOON + nowMs);
});

type Tenants = readonly Readonly<Record<string, unknown>>[];

class Gateway {
  readonly id: string;
  readonly shares: Shares;
  readonly instruments = createInstruments();
  settings: Settings;

  constructor(id: string, settings: Settings, random: () => number = () => 0) {
    this.id = id;
    this.settings = settings;
    this.shares = new Shares({
      settings: () => this.settings,
      redis: clocked,
      instruments: this.instruments,
      logger: silent,
      capacity: () => capacity,
      others: () => board,
      id,
      nowMs: () => nowMs,
      random,
    });
    this.shares.tick();
    started.push(this);
  }

  /** One request of as many items as bytes; whether it was let in. */
  send(tenant: string, signal: Signal, bytes: number): boolean {
    if (this.shares.refusal(tenant, signal, bytes) !== undefined) return false;
    this.shares.charge(tenant, signal, { items: bytes, bytes, wireBytes: bytes });
    return true;
  }

  async gauge(name: string): Promise<Record<string, number>> {
    const found = await this.instruments.registry.getSingleMetric(`sluice_${name}`)?.get();
    return Object.fromEntries(
      (found?.values ?? []).map(({ labels, value }) => [Object.values(labels).join(' '), value]),
    );
  }
}

function gatewayOf(tenants: Tenants, environment: Record<string, string> = {}, random?: () => number): Gateway {
  return new Gateway('g1', shareSettings(tenants, environment), random);
}

/** Lets the test's clock go on; each gateway ticks and tells the others what it is asked for. */
async function pass(ms: number, gateways: readonly Gateway[], each?: () => void): Promise<void> {
  for (const endMs = nowMs + ms; nowMs < endMs; ) {
    nowMs += 10;
    each?.();
    if (nowMs % TICK_MS !== 0) continue;
    board = gateways.map(({ id, shares }) => ({ id, tenants: shares.demand() }));
    for (const { shares } of gateways) shares.tick();
    // Answers of Redis come before the next step.
    await redis.command(['PING']);
  }
}

function laterOf(verdict: Verdict | undefined) {
  if (verdict?.kind !== 'later') throw new Error(`not refused: ${JSON.stringify(verdict)}`);
  return verdict;
}

describe('own limits', () => {
  test('a tenant that has none is let in and never asks Redis', async () => {
    const gateway = gatewayOf([{ name: 'acme', weight: 2 }]);
    await pass(1_000, [gateway], () => {
      expect(gateway.send('acme', 'logs', 1e9)).toBe(true);
      expect(gateway.send('default', 'logs', 1e9)).toBe(true);
    });
    expect(clocked.settlements).toBe(0);
  });

  test('a rate: who, which, how much, where', () => {
    const gateway = gatewayOf([{ name: 'acme', itemsPerSecond: 100, burstSeconds: 1 }]);
    gateway.send('acme', 'logs', 500);
    expect(laterOf(gateway.shares.refusal('acme', 'traces', 1))).toEqual({
      kind: 'later',
      reason: 'tenant_rate',
      message:
        'tenant acme sends more than its 100 items per second after a burst of 1 s ' +
        '(itemsPerSecond in tenants.list); send it again',
      retryAfterMs: 4_000,
    });
    expect(gateway.send('default', 'logs', 500)).toBe(true);
  });

  test('a quota: the same, and no longer a delay than the longest', async () => {
    const gateway = gatewayOf([{ name: 'acme', bytesPerDay: 1_000 }]);
    expect(gateway.send('acme', 'logs', 999)).toBe(true);
    expect(gateway.send('acme', 'logs', 1)).toBe(true);
    expect(laterOf(gateway.shares.refusal('acme', 'logs', 1))).toEqual({
      kind: 'later',
      reason: 'tenant_quota',
      message:
        'tenant acme has used its 1000 bytes of today, until midnight UTC ' +
        '(bytesPerDay in tenants.list); send it again',
      retryAfterMs: expect.closeTo(8_000 / 1.5, 3),
    });
    await pass(1_000, [gateway]);
    expect(await gateway.gauge('tenant_quota_used_ratio')).toEqual({ 'acme bytes': 1 });
    expect(await gateway.gauge('tenant_requests_refused_total')).toEqual({ 'acme tenant_quota': 1 });
  });

  test.each([
    // owed, random: delay
    [10, 0, 1_000],
    [10, 0.999999, 1_500],
    [200, 0, 2_000],
    [200, 0.5, 2_500],
    [1_999, 0, 19_990],
    [2_001, 0, 20_000],
    [2_001, 0.999999, 30_000],
    [1e9, 0.5, 25_000],
  ])('%d owed at 100 a second, random %d: %d ms', (owed, random, delayMs) => {
    const bounds = { SLUICE_PRESSURE_RETRY_MS_MAX: '30000' };
    const gateway = gatewayOf([{ name: 'acme', itemsPerSecond: 100, burstSeconds: 1 }], bounds, () => random);
    gateway.send('acme', 'logs', 100 + owed);
    const verdict = laterOf(gateway.shares.refusal('acme', 'logs', 1));
    expect(verdict.retryAfterMs).toBeCloseTo(delayMs, 0);
  });

  test('the bounds of delays may be one', () => {
    const bounds = { SLUICE_PRESSURE_RETRY_MS_MIN: '700', SLUICE_PRESSURE_RETRY_MS_MAX: '700' };
    const gateway = gatewayOf([{ name: 'acme', itemsPerSecond: 1 }], bounds, () => 0.7);
    gateway.send('acme', 'logs', 1e6);
    expect(laterOf(gateway.shares.refusal('acme', 'logs', 1)).retryAfterMs).toBe(700);
  });

  test('settings that change count from the next tick', () => {
    const gateway = gatewayOf([]);
    gateway.send('acme', 'logs', 1e6);
    gateway.settings = shareSettings([{ name: 'acme', itemsPerSecond: 1, burstSeconds: 1 }]);
    expect(gateway.send('acme', 'logs', 1)).toBe(true);
    gateway.shares.tick();
    expect(gateway.send('acme', 'logs', 2)).toBe(true);
    expect(gateway.send('acme', 'logs', 1)).toBe(false);
    gateway.settings = shareSettings([]);
    gateway.shares.tick();
    expect(gateway.send('acme', 'logs', 1)).toBe(true);
  });

  test('ticks of its own; what was taken ahead is given back at the end', async () => {
    const { shares } = gatewayOf([{ name: 'acme', itemsPerSecond: 100 }], { SLUICE_SHARES_LEASE_MS: '50' });
    shares.start();
    expect(shares.refusal('acme', 'logs', 10)).toBeUndefined();
    shares.charge('acme', 'logs', { items: 400, bytes: 10, wireBytes: 10 });
    nowMs = 1_000;
    const items = async () => Number(await redis.command(['HGET', shareKey('acme'), 'items_day']));
    await eventually(async () => (await items()) === 400, 'what was used is told');
    expect(shares.refusal('acme', 'logs', 10)).toBeUndefined();
    shares.charge('acme', 'logs', { items: 20, bytes: 10, wireBytes: 10 });
    await shares.stop();
    expect(await items()).toBe(420);
    // 400 were used at the beginning, 100 came in.
    expect(Number(await redis.command(['HGET', shareKey('acme'), 'items']))).toBe(1_000 - 320);
  });
});

describe('what is asked for', () => {
  const twoSeconds = (figure: number) => figure * (1 - Math.exp(-1));

  test('as it was declared, or the usual size of the tenant; by signal', async () => {
    const gateway = gatewayOf([]);
    for (let i = 0; i < 200; i++)
      gateway.shares.charge('b', 'logs', { items: 1, bytes: 9_999, wireBytes: 1_000 });
    await pass(2_000, [gateway], () => {
      gateway.shares.refusal('a', 'traces', 5_000);
      gateway.shares.refusal('a', 'metrics', 50);
      gateway.shares.refusal('b', 'logs', 0);
    });
    const { a, b } = gateway.shares.demand();
    expect(a?.traces).toBeCloseTo(twoSeconds(500_000), -3);
    expect(a?.metrics).toBeCloseTo(twoSeconds(5_000), -2);
    expect(a).not.toHaveProperty('logs');
    expect(b?.logs).toBeCloseTo(twoSeconds(100_000), -3);
  });

  test('fades, and is forgotten', async () => {
    const gateway = gatewayOf([]);
    await pass(10_000, [gateway], () => gateway.send('a', 'logs', 1_000));
    expect(gateway.shares.demand()['a']?.logs).toBeGreaterThan(99_000);
    await pass(2_000, [gateway]);
    expect(gateway.shares.demand()['a']?.logs).toBeLessThan(37_000);
    await pass(30_000, [gateway]);
    expect(gateway.shares.demand()).toEqual({});
  });

  test('refused for the sake of others it still counts, refused for its own limits it does not', async () => {
    const gateway = gatewayOf([{ name: 'a', itemsPerSecond: 2_000, burstSeconds: 1 }]);
    capacity = 10_000;
    await pass(20_000, [gateway], () => {
      gateway.send('a', 'logs', 1_000);
      gateway.send('b', 'logs', 1_000);
    });
    const { a, b } = gateway.shares.demand();
    expect(b?.logs).toBeGreaterThan(95_000);
    expect(a?.logs).toBeLessThan(4_000);
  });

  test('told of the 300 tenants that ask for most', async () => {
    const gateway = gatewayOf([]);
    await pass(TICK_MS, [gateway], () => {
      for (let i = 1; i <= 400; i++) gateway.shares.refusal(`t${i}`, 'logs', i * 1_000);
    });
    const told = Object.keys(gateway.shares.demand());
    expect(told).toHaveLength(300);
    expect(told).toContain('t101');
    expect(told).not.toContain('t100');
  });
});

describe('under pressure', () => {
  /** Requests of one tenant: so many bytes a second, over all gateways. */
  type Source = Readonly<{ tenant: string; signal: Signal; perSecond: number; bytes: number }>;

  /** Requests of each source in the last run that were not. */
  let refusedOf: number[] = [];

  /** Of each source, from the fifth second on: bytes a second that were let in. */
  async function run(gateways: readonly Gateway[], sources: readonly Source[], seconds = 25, seed = 7) {
    const random = randomOf(seed);
    const taken = sources.map(() => 0);
    refusedOf = sources.map(() => 0);
    const each = (isCounted: boolean) => () => {
      for (const [i, { tenant, signal, perSecond, bytes }] of sources.entries()) {
        for (let wanted = perSecond / 100 / bytes; wanted > 0; wanted -= 1) {
          if (wanted < 1 && random() > wanted) continue;
          const gateway = gateways[Math.floor(random() * gateways.length)];
          const isTaken = gateway?.send(tenant, signal, bytes);
          if (isCounted && isTaken) taken[i]! += bytes;
          if (isCounted && !isTaken) refusedOf[i]! += 1;
        }
      }
    };
    await pass(5_000, gateways, each(false));
    await pass(seconds * 1_000, gateways, each(true));
    return taken.map((bytes) => bytes / seconds);
  }

  const gatewaysOf = (count: number, tenants: Tenants, environment: Record<string, string> = {}) =>
    Array.from({ length: count }, (_, i) => {
      return new Gateway(`g${i}`, shareSettings(tenants, environment), randomOf(i));
    });
  const logs = (tenant: string, perSecond: number, bytes = 2_000): Source => {
    return { tenant, signal: 'logs', perSecond, bytes };
  };

  test('a greedy tenant takes nothing from those that keep to their part', async () => {
    capacity = 1_000_000;
    const gateways = gatewaysOf(3, []);
    await run(gateways, [logs('a', 200_000), logs('b', 100_000)]);
    expect(refusedOf).toEqual([0, 0]);
    const [a = 0, b = 0, greedy = 0] = await run(gateways, [
      logs('a', 200_000), logs('b', 100_000), logs('greedy', 20_000_000, 10_000),
    ]);
    expect(refusedOf.slice(0, 2)).toEqual([0, 0]);
    expect(greedy).toBeGreaterThan(600_000);
    expect(a + b + greedy).toBeLessThan(1_080_000);
  });

  test('all want too much: by weight', async () => {
    capacity = 1_000_000;
    const gateways = gatewaysOf(2, [{ name: 'a', weight: 3 }]);
    const [a = 0, b = 0] = await run(gateways, [logs('a', 4_000_000), logs('b', 4_000_000)]);
    expect(a / b).toBeGreaterThan(2.8);
    expect(a / b).toBeLessThan(3.2);
    expect(a + b).toBeGreaterThan(930_000);
    expect(a + b).toBeLessThan(1_050_000);
    const verdict = await refused(gateways[0]!, 'b', 'logs');
    expect(verdict.reason).toBe('tenant_share');
    expect(verdict.message).toMatch(
      /^tenant b sends \d+ bytes\/s of traces, metrics, logs, its part is 25\d{4} bytes\/s now \(weight in tenants/,
    );
    const share = await gateways[0]!.gauge('admitted_share');
    expect(Object.values(share)[0]).toBeCloseTo(1 / 8, 1);
  });

  /** The next refusal, with requests until there is one. */
  function refused(gateway: Gateway, tenant: string, signal: Signal) {
    for (;;) {
      const verdict = gateway.shares.refusal(tenant, signal, 2_000);
      if (verdict !== undefined) return laterOf(verdict);
    }
  }

  test("one tenant alone: the whole is short, which is nobody's fault", async () => {
    capacity = 100_000;
    const gateways = gatewaysOf(2, []);
    const [only = 0] = await run(gateways, [logs('default', 400_000)]);
    expect(only).toBeGreaterThan(93_000);
    expect(only).toBeLessThan(105_000);
    const verdict = refused(gateways[0]!, 'default', 'logs');
    expect(verdict.reason).toBe('slowing');
    expect(verdict.message).toMatch(
      /^of traces, metrics, logs all clients send \d+ bytes\/s, 100000 bytes\/s can be taken now \(SLUICE_SHARES/,
    );
    expect(await gateways[0]!.gauge('tenant_requests_refused_total')).toEqual({});
  });

  test('signals in their order: logs first, and never nothing of them', async () => {
    capacity = 100_000;
    const gateways = gatewaysOf(2, [], { SLUICE_SHARES_SLOW_FIRST: 'logs' });
    const [traces = 0, few = 0, many = 0] = await run(gateways, [
      { tenant: 'a', signal: 'traces', perSecond: 96_000, bytes: 1_000 },
      logs('b', 2_000, 200),
      logs('a', 50_000, 200),
    ]);
    expect(traces).toBeGreaterThan(93_000);
    // The floor of logs is 5,000.
    expect(few).toBeGreaterThan(1_900);
    expect(many).toBeGreaterThan(2_500);
    expect(few + many).toBeLessThan(6_000);
    expect(refused(gateways[0]!, 'a', 'logs').reason).toBe('tenant_share');
  });

  test('a tenant below its part whose signal is short is slowed, not blamed', async () => {
    capacity = 100_000;
    const gateways = gatewaysOf(2, [], { SLUICE_SHARES_SLOW_FIRST: 'logs' });
    await run(gateways, [{ tenant: 'a', signal: 'traces', perSecond: 200_000, bytes: 1_000 }, logs('b', 20_000, 200)]);
    expect(refused(gateways[0]!, 'b', 'logs')).toMatchObject({ reason: 'slowing' });
    expect(refused(gateways[0]!, 'a', 'traces')).toMatchObject({ reason: 'tenant_share' });
  });

  test('over when the pressure is', async () => {
    capacity = 10_000;
    const [gateway] = gatewaysOf(1, []);
    await run([gateway!], [logs('a', 400_000), logs('b', 400_000)], 5);
    capacity = undefined;
    gateway!.shares.tick();
    for (let i = 0; i < 1_000; i++) expect(gateway!.send('a', 'logs', 1e6)).toBe(true);
  });

  test('nothing can be taken: the longest delay', async () => {
    capacity = 0;
    const gateway = gatewayOf([]);
    await pass(1_000, [gateway], () => gateway.send('a', 'logs', 1_000));
    expect(laterOf(gateway.shares.refusal('a', 'logs', 1))).toMatchObject({
      reason: 'slowing', retryAfterMs: expect.closeTo(8_000 / 1.5, 3),
    });
  });
});

describe('metrics', () => {
  test('the first of the list have names, then the default tenant, all others are one', async () => {
    const environment = { SLUICE_TENANTS_METRICS_MAX: '2' };
    const gateway = gatewayOf([{ name: 'a' }, { name: 'b' }, { name: 'c' }], environment);
    for (const tenant of ['a', 'b', 'c', 'default']) gateway.send(tenant, 'logs', 10);
    expect(await gateway.gauge('tenant_items_accepted_total')).toEqual({
      'a logs': 10, 'b logs': 10, 'other logs': 20,
    });
    gateway.settings = shareSettings([{ name: 'c' }], environment);
    gateway.shares.tick();
    for (const tenant of ['a', 'c', 'default']) gateway.send(tenant, 'logs', 10);
    expect(await gateway.gauge('tenant_bytes_total')).toEqual({
      'c logs': 10, 'default logs': 10, 'other logs': 30,
    });
  });
});
