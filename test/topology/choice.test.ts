/**
 * Goal: equal replicas get equal parts, whatever the strategy and however latencies scatter; one that is slow
 * gets less and one that fails nothing, until it is well again, and then little by little; and a batch always
 * has somewhere to go. Simulated, with seeds.
 */
import { describe, expect, test } from 'vitest';
import { Fault } from '../../src/base/errors.ts';
import type { ReplicaStrategy } from '../../src/config/settings.ts';
import type { Replica } from '../../src/topology/topology.ts';
import { Fleet, WELL, hostOf, shardOf, topologyOf } from './fleet.ts';

const STRATEGIES: readonly ReplicaStrategy[] = ['least_loaded', 'round_robin', 'consistent_hash'];
const MINUTE = 60_000;
const NONE: ReadonlySet<string> = new Set();

/** Standard deviation over mean. */
function variation(parts: readonly number[]): number {
  const mean = parts.reduce((sum, part) => sum + part, 0) / parts.length;
  const variance = parts.reduce((sum, part) => sum + (part - mean) ** 2, 0) / parts.length;
  return Math.sqrt(variance) / mean;
}

function batchOf(id: string, bytes = 2 ** 20) {
  return { id, table: 'otel_traces', bytes };
}

describe.each(STRATEGIES)('%s', (strategy) => {
  const cases = [1, 2].flatMap((seed) =>
    [2, 3, 5].flatMap((replicas) => [1, 8].map((concurrency) => ({ seed, replicas, concurrency }))));

  test.each(cases)('equal replicas have equal load: %o', (options) => {
    const fleet = new Fleet({ strategy, ...options });
    fleet.run((20 * MINUTE) / options.concurrency);
    expect(fleet.stored.length).toBeGreaterThan(3_000);
    expect(variation(fleet.shares())).toBeLessThan(0.1);
  });

  test('a replica five times as slow gets less than half of its part, and all of it when it is well again', () => {
    const fleet = new Fleet({ seed: 3, strategy, replicas: 3 });
    const [, slow] = fleet.models;
    if (slow === undefined) throw new Error('three replicas');
    slow.paceMs = 100;
    fleet.run(2 * MINUTE);
    const slowSince = fleet.nowMs;
    fleet.run(4 * MINUTE);
    expect(fleet.shares(slowSince)[1]).toBeLessThan(1 / 6);
    expect(fleet.shares(slowSince)[1]).toBeGreaterThan(0);
    slow.paceMs = 20;
    fleet.run(4 * MINUTE);
    const wellSince = fleet.nowMs;
    fleet.run(6 * MINUTE);
    expect(variation(fleet.shares(wellSince))).toBeLessThan(0.1);
  });

  test('a difference below the ratio changes nothing for those that do not go by load, one above it does', () => {
    for (const [paceMs, above] of [[28, false], [90, true]] as const) {
      const fleet = new Fleet({ seed: 4, strategy, replicas: 2, loadRatioMax: 2.5 });
      const [first] = fleet.models;
      if (first === undefined) throw new Error('two replicas');
      first.paceMs = paceMs;
      fleet.run(5 * MINUTE);
      const since = fleet.nowMs;
      fleet.run(5 * MINUTE);
      const [part = 0] = fleet.shares(since);
      if (above) expect(part).toBeLessThan(0.3);
      else expect(part).toBeGreaterThan(strategy === 'least_loaded' ? 0.35 : 0.45);
    }
  });

  test('a replica that fails is left out after one failure, and its part grows back from a tenth', async () => {
    const fleet = new Fleet({ seed: 5, strategy, replicas: 2 });
    const [first] = fleet.models;
    if (first === undefined) throw new Error('two replicas');
    fleet.run(MINUTE);
    first.up = false;
    const since = fleet.nowMs;
    fleet.run(MINUTE);
    // The insert that found it down; whatever was under way then had been stored before.
    expect(fleet.failed).toBe(1);
    expect(fleet.stored.filter(({ replica, atMs }) => replica === 0 && atMs > since + 1_000)).toEqual([]);
    expect(await fleet.gauge('replicaUp')).toEqual([0, 1]);
    expect(await fleet.gauge('replicaShare')).toEqual([0, 1]);
    first.up = true;
    const parts: number[] = [];
    for (let quarter = 0; quarter < 8; quarter += 1) {
      const from = fleet.nowMs;
      fleet.run(MINUTE / 2);
      parts.push(fleet.shares(from)[0] ?? 0);
    }
    // The next check comes within half a minute, the full part a minute later.
    expect(parts[0]).toBeLessThan(0.3);
    const mean = (from: number) => (parts.slice(from).reduce((sum, part) => sum + part, 0)) / (parts.length - from);
    expect(mean(4)).toBeGreaterThan(0.42);
    expect(await fleet.gauge('replicaUp')).toEqual([1, 1]);
    expect(fleet.failed).toBe(1);
  });

  test('with all replicas down batches keep trying one at a time, and go on when one is back', async () => {
    const fleet = new Fleet({ seed: 6, strategy, replicas: 3 });
    fleet.run(MINUTE);
    for (const model of fleet.models) model.up = false;
    const before = fleet.stored.length;
    fleet.run(MINUTE);
    const written = fleet.stored.length - before;
    expect(written).toBeLessThanOrEqual(2);
    expect(await fleet.gauge('replicaUp')).toEqual([0, 0, 0]);
    // Two jobs that come again after 250 ms, with one replica each: not with three.
    expect(fleet.failed).toBeLessThan(2 * 4 * 60 + 10);
    const [, second] = fleet.models;
    if (second !== undefined) second.up = true;
    fleet.run(5_000);
    expect(fleet.stored.filter(({ replica }) => replica === 1).length).toBeGreaterThan(10);
  });

  test('a read-only or far delayed replica is left out while it says so', async () => {
    const fleet = new Fleet({ seed: 7, strategy, replicas: 2 });
    const [first, second] = fleet.models;
    if (first === undefined || second === undefined) throw new Error('two replicas');
    first.facts = { ...WELL, readonlyTable: 'otel_logs_local' };
    second.facts = { ...WELL, delaySeconds: 299 };
    fleet.run(MINUTE);
    expect(await fleet.gauge('replicaUp')).toEqual([0, 1]);
    first.facts = WELL;
    second.facts = { ...WELL, delaySeconds: 1_000 };
    fleet.run(MINUTE);
    expect(await fleet.gauge('replicaUp')).toEqual([1, 0]);
    expect(fleet.failed).toBe(0);
  });

  test('a shard without any address has no replica to try', () => {
    const fleet = new Fleet({ seed: 8, strategy, replicas: 1 });
    const [replica] = shardOf(1).replicas as [Replica];
    const shard = { ...shardOf(1), replicas: [{ ...replica, url: undefined }] };
    expect(fleet.choice.pick(shard, batchOf('b'), NONE)).toBeUndefined();
  });

  test('each replica is given out once, in the end none', () => {
    const { choice, shard } = new Fleet({ seed: 9, strategy, replicas: 3 });
    const tried = new Set<string>();
    for (let picked = choice.pick(shard, batchOf('b'), tried); picked; picked = choice.pick(shard, batchOf('b'), tried)) {
      expect(tried.has(picked.replica.host)).toBe(false);
      tried.add(picked.replica.host);
    }
    expect(tried.size).toBe(3);
  });
});

describe('least_loaded', () => {
  test.each([
    ['more parts', { partsMax: 900 }], ['a longer queue', { queueSize: 1_000 }], ['a delay', { delaySeconds: 120 }],
    ['inserts of others', { insertsRunning: 32 }], ['a full disk', { diskFree: 0.02 }],
  ])('%s: gets less', (_, facts) => {
    const fleet = new Fleet({ seed: 10, strategy: 'least_loaded', replicas: 2 });
    const [first] = fleet.models;
    if (first !== undefined) first.facts = { ...WELL, ...facts };
    fleet.run(MINUTE);
    const since = fleet.nowMs;
    fleet.run(5 * MINUTE);
    expect(fleet.shares(since)[0]).toBeLessThan(0.35);
  });

  test('an insert under way turns the next one to another replica', () => {
    const { choice, shard } = new Fleet({ seed: 11, strategy: 'least_loaded', replicas: 2 });
    const first = choice.pick(shard, batchOf('a'), NONE);
    if (first === undefined) throw new Error('nothing picked');
    choice.began(first.replica, 8 * 2 ** 20);
    for (let next = 0; next < 5; next += 1) {
      expect(choice.pick(shard, batchOf(`b${next}`), NONE)?.replica.host).not.toBe(first.replica.host);
    }
  });
});

test('round_robin takes turns, table by table', () => {
  const { choice, shard } = new Fleet({ seed: 12, strategy: 'round_robin', replicas: 3 });
  const seen: Record<string, string[]> = { spans: [], logs: [] };
  for (let index = 0; index < 12; index += 1) {
    const table = index % 2 === 0 ? 'spans' : 'logs';
    seen[table]?.push(choice.pick(shard, { id: `${index}`, table, bytes: index * 1e6 }, NONE)?.replica.host ?? '');
  }
  const turn = [0, 1, 2, 0, 1, 2].map(hostOf);
  expect(seen).toEqual({ spans: turn, logs: turn });
});

describe('consistent_hash', () => {
  const ids = Array.from({ length: 3_000 }, (_, index) => `batch-${index}`);
  const refused = new Fault('ECONNREFUSED', 'elsewhere', 'refused');
  const place = ({ choice, shard }: Fleet) =>
    ids.map((id) => choice.pick(shard, batchOf(id), NONE)?.replica.replica);

  test('a batch goes to the same replica, in every writer', () => {
    const [one, two] = [13, 14].map((seed) => new Fleet({ seed, strategy: 'consistent_hash', replicas: 4 }));
    if (one === undefined || two === undefined) throw new Error('two writers');
    expect(place(one)).toEqual(place(two));
    expect(place(one)).toEqual(place(one));
  });

  test('only what was on a lost replica moves, and it moves back', () => {
    const fleet = new Fleet({ seed: 15, strategy: 'consistent_hash', replicas: 4, replicaReturnMs: 0 });
    const before = place(fleet);
    const [, lost] = fleet.shard.replicas as [Replica, Replica];
    for (let check = 0; check < 2; check += 1) fleet.choice.checked(lost, refused);
    const without = place(fleet);
    expect(without).not.toContain(1);
    expect(before.map((replica, index) => (replica === 1 ? 1 : without[index]))).toEqual(before);
    fleet.choice.checked(lost, WELL);
    expect(place(fleet)).toEqual(before);
  });
});

describe('who is live', () => {
  const fault = new Fault('ECONNREFUSED', 'elsewhere', 'refused');

  test('who is not left out, has failed nothing since, and is not behind', () => {
    const { choice, shard } = new Fleet({ seed: 18, strategy: 'round_robin', replicas: 3 });
    const [one, two, three] = shard.replicas as [Replica, Replica, Replica];
    expect(choice.live(shard)).toBe(3);
    choice.checked(one, { ...WELL, delaySeconds: 10 });
    expect(choice.live(shard)).toBe(3);
    choice.checked(one, { ...WELL, delaySeconds: 11 });
    choice.checked(two, fault);
    expect(choice.live(shard)).toBe(1);
    choice.checked(two, fault);
    expect(choice.live(shard)).toBe(1);
    for (const replica of [one, two, three]) choice.checked(replica, WELL);
    expect(choice.live(shard)).toBe(3);
  });

  test('a missed quorum has all of them asked, and leaves nobody out', () => {
    const { choice, shard } = new Fleet({ seed: 19, strategy: 'round_robin', replicas: 2 });
    const [one, two] = shard.replicas as [Replica, Replica];
    const inDoubt = () => shard.replicas.map((replica) => [choice.isDoubted(replica), choice.checkInMs(replica) <= 0]);
    for (const replica of shard.replicas) choice.checked(replica, WELL);
    expect(inDoubt()).toEqual([[false, false], [false, false]]);
    choice.doubt(shard);
    expect([inDoubt(), choice.live(shard)]).toEqual([[[true, true], [true, true]], 2]);
    choice.checked(one, WELL);
    choice.checked(two, fault);
    expect([inDoubt(), choice.live(shard)]).toEqual([[[false, false], [false, false]], 1]);
  });

  test('one that fails an insert is asked at once, unless it is left out already', () => {
    const { choice, shard } = new Fleet({ seed: 20, strategy: 'round_robin', replicas: 2 });
    const [one] = shard.replicas as [Replica, Replica];
    const fail = () => choice.ended(one, choice.began(one, 1_000), { fault });
    choice.checked(one, WELL);
    fail();
    expect([choice.isDoubted(one), choice.checkInMs(one), choice.live(shard)]).toEqual([true, 0, 1]);
    choice.checked(one, fault);
    fail();
    expect(choice.isDoubted(one)).toBe(false);
    expect(choice.checkInMs(one)).toBeGreaterThan(0);
  });
});

describe('a topology that changes', () => {
  test('a replica that joins gets nothing before its first check, and then a growing part', async () => {
    const { choice, instruments } = new Fleet({ seed: 16, strategy: 'round_robin', replicas: 2 });
    const grown = shardOf(3);
    choice.keep(topologyOf(grown));
    const hosts = () => Array.from({ length: 12 }, (_, index) =>
      choice.pick(grown, batchOf(`${index}`), NONE)?.replica.host);
    expect(hosts()).not.toContain(hostOf(2));
    const [, , newest] = grown.replicas as [Replica, Replica, Replica];
    expect(choice.checkInMs(newest)).toBeLessThanOrEqual(0);
    choice.checked(newest, WELL);
    expect(hosts().filter((host) => host === hostOf(2)).length).toBeLessThanOrEqual(1);
    const { values } = await instruments.replicaUp.get();
    expect(values).toHaveLength(3);
  });

  test('one that leaves is forgotten with its metrics, once nothing is under way there', async () => {
    const { choice, shard, instruments } = new Fleet({ seed: 17, strategy: 'round_robin', replicas: 2 });
    const [, leaving] = shard.replicas as [Replica, Replica];
    const running = choice.began(leaving, 1_000);
    const hosts = async () => (await instruments.replicaUp.get()).values.map(({ labels }) => labels.replica);
    choice.keep(topologyOf(shardOf(1)));
    expect(choice.isBusy(leaving.host)).toBe(true);
    choice.ended(leaving, running, 'worked');
    choice.keep(topologyOf(shardOf(1)));
    expect(await hosts()).toEqual([hostOf(0)]);
  });
});

describe('a shard', () => {
  const refused = new Fault('ECONNREFUSED', 'elsewhere', 'refused');
  const readonly = { ...WELL, readonlyTable: 'otel_logs' };
  const late = { ...WELL, delaySeconds: 1_000 };
  const make = () => {
    const fleet = new Fleet({ seed: 1, strategy: 'least_loaded', replicas: 2 });
    const { choice, shard } = fleet;
    const check = (index: number, ...found: Parameters<typeof choice.checked>[1][]) => {
      for (const each of found) choice.checked(shard.replicas[index] as Replica, each);
    };
    const fail = (index: number) => {
      const replica = shard.replicas[index] as Replica;
      choice.ended(replica, choice.began(replica, 1), { fault: refused });
    };
    return { choice, shard, check, fail };
  };

  test('is reachable while one replica may take an insert, and until something is known of it', () => {
    const { choice, shard, check, fail } = make();
    expect(choice.reachable(shardOf(2, 7))).toBe(true);
    expect(choice.reachable(shard)).toBe(true);
    check(0, refused, refused);
    expect(choice.reachable(shard)).toBe(true);
    check(1, readonly);
    expect(choice.reachable(shard)).toBe(false);
    check(1, WELL);
    expect(choice.reachable(shard)).toBe(true);
    // It is late, but better than nothing; and whether one takes inserts that answers, inserts tell.
    check(1, late, late);
    expect(choice.reachable(shard)).toBe(true);
    check(1, WELL);
    for (let failure = 0; failure < 3; failure++) fail(1);
    expect(choice.reachable(shard)).toBe(true);
    check(1, refused);
    expect(choice.reachable(shard)).toBe(false);
  });

  test('is not asked by all writers at the same moments when it returns', () => {
    const writers = Array.from({ length: 20 }, () => make());
    for (const { check } of writers) check(0, ...Array(8).fill(refused));
    const inMs = writers.map(({ choice, shard }) => choice.checkInMs(shard.replicas[0] as Replica));
    expect(new Set(inMs.map(Math.round)).size).toBeGreaterThan(10);
    expect(Math.max(...inMs)).toBeLessThanOrEqual(1_500);
    expect(Math.min(...inMs)).toBeGreaterThanOrEqual(1_100);
  });
});
