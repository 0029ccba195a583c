/**
 * Goal: every replica is asked when it is due, once at a time, soon after something failed but never in a
 * rush, and nobody after the end.
 */
import { afterEach, describe, expect, test } from 'vitest';
import { Fault } from '../../src/base/errors.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import { HealthChecks } from '../../src/topology/checks.ts';
import { ReplicaChoice } from '../../src/topology/choice.ts';
import type { ReplicaFacts } from '../../src/topology/health.ts';
import type { Replica, Topology } from '../../src/topology/topology.ts';
import { silent } from '../support/services.ts';
import { WELL, hostOf, shardOf, topologyOf } from './fleet.ts';

const HEALTH_CHECK_MS = 30_000;
const refused = new Fault('ECONNREFUSED', 'elsewhere', 'refused');
const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

/** Its own clock: only `look` makes anything happen in time. */
function makeChecks(
  topology: () => Topology | undefined, answer: (replica: Replica) => Promise<ReplicaFacts>,
  healthCheckMs = HEALTH_CHECK_MS,
) {
  const time = { nowMs: 0 };
  const asked: string[] = [];
  const bounds = { healthCheckMs, replicaReturnMs: 60_000 };
  const choice = new ReplicaChoice({
    ...bounds, replicaStrategy: 'least_loaded', loadRatioMax: 2, instruments: createInstruments(), logger: silent,
    now: () => time.nowMs,
  });
  const ask = (replica: Replica) => {
    asked.push(replica.host);
    return answer(replica);
  };
  const checks = new HealthChecks({ ...bounds, topology, choice, ask });
  stops.push(() => checks.stop());
  /** Looks as often as the timer would, and gives who was asked meanwhile. */
  const pass = async (ms: number) => {
    asked.length = 0;
    for (const untilMs = time.nowMs + ms; time.nowMs < untilMs; time.nowMs += 250) {
      checks.look();
      await new Promise((resolve) => setImmediate(resolve));
    }
    return [...asked];
  };
  return { checks, choice, asked, pass };
}

describe('health checks', () => {
  test('nobody is asked before there is a topology; then all at once, and again in time', async () => {
    let topology: Topology | undefined;
    const { pass } = makeChecks(() => topology, async () => WELL);
    expect(await pass(1_000)).toEqual([]);
    topology = topologyOf(shardOf(2));
    expect(await pass(HEALTH_CHECK_MS - 1_000)).toEqual([hostOf(0), hostOf(1)]);
    expect(await pass(HEALTH_CHECK_MS)).toEqual([hostOf(0), hostOf(1)]);
  });

  test('a replica without an address is not asked', async () => {
    const shard = shardOf(2);
    const [first, second] = shard.replicas as [Replica, Replica];
    const topology = topologyOf({ ...shard, replicas: [{ ...first, url: undefined }, second] });
    const { asked } = makeChecks(() => topology, async () => WELL);
    expect(asked).toEqual([hostOf(1)]);
  });

  test('one that does not answer is asked once, however long it takes', async () => {
    const gate = Promise.withResolvers<ReplicaFacts>();
    const topology = topologyOf(shardOf(1));
    const { pass, asked } = makeChecks(() => topology, () => gate.promise);
    expect(asked).toHaveLength(1);
    expect(await pass(3 * HEALTH_CHECK_MS)).toEqual([]);
    gate.resolve(WELL);
  });

  test('after a failed insert it is asked soon; a hundred failures ask no more often', async () => {
    const shard = shardOf(2);
    const topology = topologyOf(shard);
    const { choice, pass } = makeChecks(() => topology, async () => WELL);
    await pass(5_000);
    const [first] = shard.replicas as [Replica, Replica];
    choice.ended(first, choice.began(first, 1_000), { fault: refused });
    expect(await pass(250)).toEqual([hostOf(0)]);
    const times: number[] = [];
    for (let failure = 0; failure < 100; failure += 1) {
      choice.ended(first, choice.began(first, 1_000), { fault: refused });
      times.push((await pass(250)).length);
    }
    // 25 s: at most every half second, and soon less often, since it fails whenever it comes back.
    expect(times.reduce((sum, count) => sum + count, 0)).toBeLessThanOrEqual(50);
  });

  test('who needs to know waits for those in doubt, not for others, and not for ever', async () => {
    const shard = shardOf(2);
    const gates = [Promise.withResolvers<ReplicaFacts>(), Promise.withResolvers<ReplicaFacts>()];
    let answer: (replica: Replica) => Promise<ReplicaFacts> = async () => WELL;
    const { checks, choice, pass, asked } = makeChecks(() => topologyOf(shard), (replica) => answer(replica));
    await pass(5_000);
    await checks.settle(shard.replicas, 60_000);
    expect(asked).toEqual([]);
    answer = ({ replica }) => gates[replica]?.promise ?? Promise.reject(refused);
    choice.doubt(shard);
    await checks.settle(shard.replicas, 1);
    expect([[...asked].sort(), choice.live(shard)]).toEqual([[hostOf(0), hostOf(1)], 2]);
    const settled = checks.settle(shard.replicas, 60_000);
    gates[0]?.resolve(WELL);
    gates[1]?.reject(refused);
    await settled;
    expect([asked.length, choice.live(shard)]).toEqual([2, 1]);
  });

  test.each([30_000, 3_600_000])('one that is away is asked every 2 s at first, then every 5 s (%i)', async (usualMs) => {
    const { pass } = makeChecks(() => topologyOf(shardOf(1)), async () => Promise.reject(refused), usualMs);
    await pass(2_000);
    const gaps = async (ms: number, gapMs: number) => {
      for (let untilMs = 0; untilMs < ms; untilMs += gapMs) expect((await pass(gapMs)).length).toBeGreaterThan(0);
    };
    await gaps(50_000, 2_000);
    await gaps(300_000, 5_000);
  });

  test('after the end nobody is asked', async () => {
    const topology = topologyOf(shardOf(1));
    const { checks, pass } = makeChecks(() => topology, async () => Promise.reject(refused));
    await checks.stop();
    expect(await pass(2 * HEALTH_CHECK_MS)).toEqual([]);
  });
});
