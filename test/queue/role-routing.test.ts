/**
 * Goal: every role comes to the same routing whatever order they start in; who watches ClickHouse moves it on,
 * and nothing that ClickHouse or somebody else in this Redis says takes a shard away from batches that wait.
 */
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { Fault } from '../../src/base/errors.ts';
import { Glances } from '../../src/app/eyes.ts';
import { RoleRouting } from '../../src/app/routing.ts';
import { type Routing, RoutingStore } from '../../src/queue/routing.ts';
import type { LeanConnection } from '../../src/redis/lean.ts';
import { TABLES } from '../../src/model/signal.ts';
import type { Discovery } from '../../src/topology/discover.ts';
import { fault } from '../../src/topology/faults.ts';
import type { ReachableHost } from '../../src/topology/host-report.ts';
import { eventually, RedisServer, silent } from '../redis/server.ts';

type Given = readonly (readonly [name: string, weight: number])[];

const LOCAL_TABLES = TABLES.map((table) => `${table}_local`);

/** What a look at a cluster with one host a shard finds; shards in `empty` have no tables yet. */
function found(shards: Given, empty: readonly number[] = [], cluster = 'main'): Discovery {
  const hosts = shards.map(([, weight], shard) => {
    const host = `h${shard}:8123`;
    const tables = empty.includes(shard) ? [] : LOCAL_TABLES;
    const place = { host, url: `http://${host}`, member: { shard, replica: 0 }, address: host, weight };
    return { ...place, reachable: true, tables } as unknown as ReachableHost;
  });
  const replicas = (shard: number) => [
    { shard, replica: 0, url: `http://h${shard}:8123`, host: `h${shard}:8123` },
  ];
  return {
    topology: {
      cluster,
      shards: shards.map(([name, weight], shard) => ({ shard, name, weight, replicas: replicas(shard) })),
    },
    replicated: false,
    hosts,
    faults: [],
  };
}

const DISAGREE: Discovery = {
  topology: undefined,
  replicated: false,
  hosts: [],
  faults: [fault('definition_differs', ['h1:8123'], 'h1:8123 has another definition')],
};

let server: RedisServer;
let redis: LeanConnection;
const endings: (() => unknown)[] = [];

beforeAll(async () => {
  server = await RedisServer.start();
  redis = await server.connect();
});
beforeEach(async () => {
  await redis.command(['FLUSHALL']);
});
afterEach(async () => {
  for (const end of endings.splice(0).reverse()) await end();
});
afterAll(async () => {
  redis.close();
  await server.remove();
});

interface Eyes {
  /** What ClickHouse is at present. */
  now: Discovery | undefined;
}

function role(eyes: Eyes, publishes: 'always' | 'first', cluster = 'main', stopped = () => false): RoleRouting {
  const store = new RoutingStore(redis);
  const urls = ['http://h0:8123'];
  const look = () => eyes.now;
  const options = { store, cluster, urls, look, publishes, stopped, logger: silent, readEveryMs: 20 };
  const routing = new RoleRouting(options);
  endings.push(() => routing.stop());
  return routing;
}

async function started(...of: RoleRouting[]): Promise<void> {
  await Promise.all(of.map((one) => one.first()));
  for (const one of of) one.start();
}

const stored = () => new RoutingStore(redis).read();
const weightsOf = (routing: Routing | undefined) => routing?.shards.map(({ weight }) => weight);

it('is one for all roles that start at the same time', async () => {
  const eyes = { now: found([['a', 1], ['b', 2]]) };
  const roles = [role(eyes, 'always'), role(eyes, 'first'), role(eyes, 'always'), role({ now: undefined }, 'first')];
  await started(...roles);
  for (const one of roles) expect(one.current).toEqual(await stored());
  expect(await stored()).toMatchObject({ generation: 1, shards: [{ name: 'a', weight: 1 }, { name: 'b', weight: 2 }] });
  expect(roles[0]?.check()).toEqual({ name: 'topology', ok: true, figure: '2 shards, generation 1', limit: 'known' });
});

it('is waited for, and what it is waited for is said', async () => {
  const eyes: Eyes = { now: undefined };
  const gateway = role(eyes, 'first');
  const first = gateway.first();
  const figure = () => gateway.check().figure;
  expect(gateway.check()).toMatchObject({ ok: false, figure: 'ClickHouse was not asked yet' });
  eyes.now = DISAGREE;
  await eventually(() => figure() === 'h1:8123 has another definition', 'it says why');
  eyes.now = found([['a', 1]], [0]);
  await eventually(() => figure().includes('none has a replica with all tables'), 'it says why');
  expect(await stored()).toBeUndefined();
  eyes.now = found([['a', 1]]);
  await first;
  expect(gateway.check()).toMatchObject({ ok: true, figure: '1 shard, generation 1' });
});

it('follows the definition: a shard more, its tables, another weight, a shard less', async () => {
  const eyes: Eyes = { now: found([['a', 1]]) };
  const [writer, gateway] = [role(eyes, 'always'), role({ now: undefined }, 'first')];
  const seen: (number[] | undefined)[] = [];
  gateway.onChange((routing) => seen.push(weightsOf(routing)));
  await started(writer, gateway);
  for (const [next, weights] of [
    [found([['a', 1], ['b', 1]], [1]), [1, 0]],
    [found([['a', 1], ['b', 1]]), [1, 1]],
    [found([['a', 0], ['b', 3]]), [0, 3]],
    [DISAGREE, [0, 3]],
    [found([['a', 2]]), [2, 0]],
  ] as const) {
    eyes.now = next;
    const there = () => String(weightsOf(gateway.current)) === String(weights);
    await eventually(there, `weights are ${weights}`);
    if (next === DISAGREE) await eventually(() => /another definition/.test(writer.check().figure), 'why');
  }
  expect(seen).toEqual([[1], [1, 0], [1, 1], [0, 3], [2, 0]]);
  expect(writer.check().figure).toMatch(/no shard 2 \("b"\) any more: batches that are bound to it wait/);
  expect(writer.topology?.shards).toHaveLength(1);
});

it('is not taken back by a writer whose last look is older than what another one has published', async () => {
  const [old, young]: [Eyes, Eyes] = [{ now: found([['a', 1]]) }, { now: found([['a', 1]]) }];
  let looks = 0;
  const slow = role({ get now() {
    looks += 1;
    return old.now;
  } }, 'always');
  await started(slow, role(young, 'always'));
  young.now = found([['a', 1], ['b', 1]]);
  await eventually(() => slow.current?.generation === 2, 'the new shard is known');
  const before = looks;
  await eventually(() => looks > before + 5, 'some rounds');
  expect(await stored()).toMatchObject({ generation: 2, shards: [{ weight: 1 }, { weight: 1 }] });
  // Its next look decides again.
  old.now = found([['a', 1], ['b', 4]]);
  await eventually(() => weightsOf(slow.current)?.[1] === 4, 'its own publication');
});

it('keeps to the topology that batches are bound to when names move', async () => {
  const good = found([['a', 1], ['b', 1]]);
  const eyes: Eyes = { now: good };
  const writer = role(eyes, 'always');
  await started(writer);
  eyes.now = found([['b', 1], ['a', 1]]);
  await eventually(() => /was "a" and is now "b"/.test(writer.check().figure), 'it says what moved');
  expect(writer.topology).toEqual(good.topology);
  // Another one that starts now knows the names from Redis.
  const other = role(eyes, 'always');
  await started(other);
  expect([other.topology, other.current]).toEqual([undefined, await stored()]);
  expect((await stored())?.generation).toBe(1);
});

it('is published anew where Redis was emptied, without losing a shard', async () => {
  const eyes: Eyes = { now: found([['a', 1], ['b', 1]]) };
  const [writer, gateway] = [role(eyes, 'always'), role({ now: undefined }, 'first')];
  await started(writer, gateway);
  eyes.now = found([['a', 2]]);
  await eventually(() => gateway.current?.generation === 2, 'a shard left');
  await redis.command(['FLUSHALL']);
  const shards = [{ name: 'a', weight: 2 }, { name: 'b', weight: 0 }];
  const again = await eventually(stored, 'it is there again');
  expect(again).toEqual({ cluster: 'main', generation: 1, shards });
  await eventually(() => gateway.current?.generation === 1, 'everybody has it');
});

it('is not published by a gateway that knows one', async () => {
  const eyes: Eyes = { now: found([['a', 1]]) };
  const gateway = role(eyes, 'first');
  await started(gateway);
  eyes.now = found([['a', 5], ['b', 5]]);
  await new RoutingStore(redis).publish(1, { cluster: 'main', generation: 2, shards: [{ name: 'a', weight: 3 }] });
  await eventually(() => gateway.current?.generation === 2, 'what somebody else published');
  expect(weightsOf(gateway.current)).toEqual([3]);
});

it.each([
  ['another cluster', 'other'],
  ['no cluster', ''],
])('is refused at the start where this Redis is used by a cluster and the settings say %s', async (_, cluster) => {
  await new RoutingStore(redis).publish(0, { cluster: 'main', generation: 1, shards: [{ name: 'a', weight: 1 }] });
  const one = role({ now: found([['a', 1]], [], cluster) }, 'always', cluster);
  await expect(one.first()).rejects.toThrow(/batches of the cluster "main", but .*SLUICE_CLICKHOUSE_CLUSTER/);
  expect((await stored())?.cluster).toBe('main');
});

it('goes on with one shard without a cluster, and says when a cluster comes to its Redis', async () => {
  const server = role({ now: undefined }, 'first', '');
  await started(server);
  expect(server.check()).toMatchObject({ ok: true, figure: '1 shard' });
  expect(server.topology?.shards).toHaveLength(1);
  expect(await redis.command(['DBSIZE'])).toBe(0);
  await new RoutingStore(redis).publish(0, { cluster: 'main', generation: 1, shards: [{ name: 'a', weight: 1 }] });
  await eventually(() => /of the cluster "main", but no cluster is set/.test(server.check().figure), 'it says so');
  expect(weightsOf(server.current)).toEqual([1]);
});

it('stays as it is where this version cannot read it, and while the role stops', async () => {
  let stopping = false;
  const eyes: Eyes = { now: found([['a', 1]]) };
  const writer = role(eyes, 'always', 'main', () => stopping);
  await started(writer);
  await redis.command(['SET', 'sluice:routing', '{"version":9}']);
  await eventually(() => /no routing that this version can read/.test(writer.check().figure), 'it says so');
  expect(weightsOf(writer.current)).toEqual([1]);
  stopping = true;
  await redis.command(['DEL', 'sluice:routing']);
  eyes.now = found([['a', 7]]);
  await eventually(async () => weightsOf(await stored())?.[0] === 7, 'it is published');
  expect(weightsOf(writer.current)).toEqual([1]);
});

it('glances at ClickHouse in the background, one look at a time, and again after a failure', async () => {
  let looks = 0;
  let end: (discovery: Discovery | Fault) => void = () => {};
  const discover = () => {
    looks += 1;
    return new Promise<Discovery>((resolve, reject) => {
      end = (ended) => (ended instanceof Fault ? reject(ended) : resolve(ended));
    });
  };
  const glances = new Glances(discover, 0, silent);
  expect([glances.look(), glances.look()]).toEqual([undefined, undefined]);
  expect(looks).toBe(1);
  end(new Fault('made_up', 'here', 'made up'));
  await eventually(() => glances.look() === undefined && looks === 2, 'it looks again');
  end(DISAGREE);
  await eventually(() => glances.look() === DISAGREE, 'what it found');
});
