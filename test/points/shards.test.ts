/**
 * Goal: a request that only some shards have got is completed when it comes again, on the shards where its
 * rows were to be when it came first, also when there are more shards by then; and a routing that was half
 * published leaves nobody with another one than the rest.
 */
import { expect } from 'vitest';
import { BatchStore } from '../../src/queue/batch-store.ts';
import { ROUTING_KEY } from '../../src/queue/keys.ts';
import { type Routing, RoutingStore } from '../../src/queue/routing.ts';
import { untilReady } from '../support/program.ts';
import { settingsOf } from '../support/settings.ts';
import { eventually, silent } from '../support/services.ts';
import { usePlace, usePoints } from './place.ts';
import { ofShard, runs } from './redis-proxy.ts';
import { ALL_LARGE, type Request, type Role, SPANS, type Scene } from './scene.ts';

const place = usePlace(3);
let steady: Role;
const [append, fence, publish] = await Promise.all([runs('append'), runs('fence'), runs('publishRouting')]);

const point = usePoints(place, async (scene) => {
  [, steady] = await Promise.all([scene.writer(), scene.gateway()]);
});

/** Sends a request of which only the first shard gets its rows. */
async function sendInPart(scene: Scene, gateway: Role, request: Request) {
  const stop = gateway.redis.stopAt(ofShard(1, append), 'before');
  const told = scene.send(request, gateway);
  await stop.reached();
  await eventually('some rows', async () => (await scene.accepted()) > 0);
  expect(await scene.accepted()).toBeLessThan(SPANS);
  return { stop, told };
}

point('the gateway is killed when one shard has its part', async (scene) => {
  const victim = await scene.gateway();
  const request = scene.request();
  const { told } = await sendInPart(scene, victim, request);
  await victim.kill();
  expect(await told).toBe('nothing');
  await scene.deliver(request, steady);
});

point('the connection breaks when one shard has its part', async (scene) => {
  const request = scene.request();
  const { stop, told } = await sendInPart(scene, steady, request);
  stop.cut();
  expect(await told).toBe('later');
  await scene.deliver(request, steady);
});

point('it breaks when all shards have their parts, and one has answered', async (scene) => {
  const request = scene.request();
  const stop = steady.redis.stopAt(ofShard(1, append), 'after');
  const told = scene.send(request, steady);
  await stop.reached();
  await eventually('all rows', async () => (await scene.accepted()) === SPANS);
  stop.cut();
  expect(await told).toBe('later');
  await scene.deliver(request, steady);
});

point('a request that one shard knows comes in a group with others', async (scene) => {
  const request = scene.request();
  const { stop, told } = await sendInPart(scene, steady, request);
  stop.cut();
  expect(await told).toBe('later');
  await scene.deliver(scene.request(), steady);
  const next = steady.redis.stopAt(append, 'before');
  const first = scene.send(scene.request(), steady);
  await next.reached();
  const group = [request, scene.request(), scene.request()].map((each) => scene.send(each, steady));
  next.release();
  expect(await Promise.all([first, ...group])).toEqual(Array(4).fill('acknowledged'));
});

/** What holds while two of the three shards take rows. */
const TWO_OF_THREE: Routing = {
  cluster: 'main',
  generation: 1,
  shards: [1, 1, 0].map((weight) => ({ name: '', weight })),
};

async function published({ redis }: Scene): Promise<Routing | undefined> {
  const text = await redis.get(ROUTING_KEY);
  return text === null ? undefined : (JSON.parse(text) as Routing);
}

/** The store of the product, on the scene's Redis. */
async function withStore<T>(scene: Scene, body: (store: BatchStore) => Promise<T>): Promise<T> {
  const settings = settingsOf({ SLUICE_REDIS_URL: scene.redisUrl });
  const store = new BatchStore({ ...settings, logger: silent });
  try {
    await store.connect();
    return await body(store);
  } finally {
    store.close();
  }
}

/** A gateway that knows two shards, and of a request that it was sent only one has its rows. */
async function inPartOnTwo(scene: Scene, environment: Readonly<Record<string, string>> = {}) {
  await scene.redis.set(ROUTING_KEY, JSON.stringify(TWO_OF_THREE));
  const gateway = await scene.gateway(environment);
  const request = scene.request();
  return { gateway, request, ...(await sendInPart(scene, gateway, request)) };
}

/** A writer sees all three, and gateways hear of it. */
async function growToThree(scene: Scene): Promise<void> {
  await scene.writer();
  const grown = async () => (await published(scene))?.shards.every(({ weight }) => weight === 1);
  await eventually('three shards with a weight', grown, 60_000);
}

place.story('a shard is added before the request comes again, to another gateway', async (scene) => {
  const { gateway, request, told } = await inPartOnTwo(scene);
  await gateway.kill();
  expect(await told).toBe('nothing');
  await growToThree(scene);
  await scene.deliver(request, await scene.gateway());
  await scene.deliver(scene.request(), await scene.gateway());
  await scene.expectExactlyOnce();
});

place.story('a shard is added before the request comes again, through the large lane', async (scene) => {
  const { gateway, request, told } = await inPartOnTwo(scene, ALL_LARGE);
  await gateway.kill();
  expect(await told).toBe('nothing');
  await growToThree(scene);
  await scene.deliver(request, await scene.gateway(ALL_LARGE));
  await scene.expectExactlyOnce();
});

place.story('a shard is added before the request comes again, to the same gateway', async (scene) => {
  const { gateway, request, stop, told } = await inPartOnTwo(scene);
  stop.cut();
  expect(await told).toBe('later');
  await growToThree(scene);
  await eventually('the gateway knows', async () => Number(await scene.redis.hget('{s0}:counts', 'generation')) > 1);
  await scene.deliver(request, gateway);
  await scene.expectExactlyOnce();
});

place.story('a gateway dies when it has told some shards of a new routing, while another one appends', async (scene) => {
  await scene.redis.set(ROUTING_KEY, JSON.stringify(TWO_OF_THREE));
  const gateway = await scene.gateway();
  const request = scene.request();
  await withStore(scene, async (store) => {
    await store.fence(0, 2);
    // This gateway may look at any moment: what it would see then is not there before its first try is over.
    expect(await scene.send(request, gateway)).toBe('later');
    const shards = TWO_OF_THREE.shards.map(({ name }) => ({ name, weight: 1 }));
    await new RoutingStore(store.redis).publish(1, { ...TWO_OF_THREE, generation: 2, shards });
  });
  await scene.deliver(request, gateway);
  await scene.writer();
  await scene.expectExactlyOnce();
});

place.story('two writers publish the first routing at once', async (scene) => {
  const { role: slow, stop } = await scene.begin('writer', ({ redis }) => redis.stopAt(publish, 'before'));
  await stop.reached();
  const [, gateway] = await Promise.all([scene.writer(), scene.gateway()]);
  stop.release();
  await untilReady(slow.program);
  await scene.deliver(scene.request(), gateway);
  await scene.expectExactlyOnce();
  expect((await published(scene))?.generation).toBe(1);
});

for (const when of ['before', 'after'] as const) {
  place.story(`the writer is killed when it publishes a routing: ${when}`, async (scene) => {
    const { role, stop } = await scene.begin('writer', ({ redis }) => redis.stopAt(publish, when));
    await stop.reached();
    await role.kill();
    const [, gateway] = await Promise.all([scene.writer(), scene.gateway()]);
    await scene.deliver(scene.request(), gateway);
    await scene.expectExactlyOnce();
    expect((await published(scene))?.generation).toBe(1);
  });
}

place.story('a gateway is killed when it has told one shard of its routing', async (scene) => {
  await scene.writer();
  const { role, stop } = await scene.begin('gateway', ({ redis }) => redis.stopAt(ofShard(1, fence), 'before'));
  await stop.reached();
  await role.kill();
  await scene.deliver(scene.request(), await scene.gateway());
  await scene.expectExactlyOnce();
});
