/**
 * Goal: wherever a request can be stopped between client, gateway and Redis, what the client sends again is
 * stored once, and what it was told is safe is stored.
 */
import { expect } from 'vitest';
import { CuttingProxy } from '../redis/proxy.ts';
import { GrpcClient, sendHttp } from '../support/clients.ts';
import { eventually } from '../support/services.ts';
import { isExport } from './http-proxy.ts';
import { usePlace, usePoints } from './place.ts';
import { runs } from './redis-proxy.ts';
import { ALL_LARGE, type Role, SPANS } from './scene.ts';

const place = usePlace();
let steady: Role;
let second: Role;
const append = await runs('append');

const point = usePoints(place, async (scene) => {
  [steady, second] = await Promise.all([scene.gateway(), scene.gateway(), scene.writer()]);
});

/** Resolves when all that was sent through the proxy is in the gateway: so many requests more than before. */
async function inside(passedBefore: number, requests: number): Promise<void> {
  const passed = () => steady.front.passed() === passedBefore + requests;
  await eventually(`${requests} requests passed on`, passed);
  // Answered without Redis, and not before the gateway has read what came earlier.
  const { kind } = await sendHttp(steady.program.http, 'traces', Buffer.from('not protobuf'));
  expect(kind).toBe('bad');
}

point('the client is cut off in the middle of its request', async (scene) => {
  const request = scene.request();
  const stop = steady.front.stopAt(isExport, 'half sent');
  const told = scene.send(request, steady);
  await stop.reached();
  stop.cut();
  expect(await told).toBe('nothing');
  await scene.deliver(request, steady);
});

point('the gateway is killed with all bytes of a request but not its end', async (scene) => {
  const victim = await scene.gateway();
  const request = scene.request();
  const stop = victim.front.stopAt(isExport, 'sent');
  const told = scene.send(request, victim);
  await stop.reached();
  await victim.kill();
  expect(await told).toBe('nothing');
  await scene.deliver(request, steady);
});

for (const place of ['before', 'half sent', 'half answered', 'after'] as const) {
  point(`the gateway is killed at its append: ${place}`, async (scene) => {
    const victim = await scene.gateway();
    const request = scene.request();
    const stop = victim.redis.stopAt(append, place);
    const told = scene.send(request, victim);
    await stop.reached();
    await victim.kill();
    expect(await told).toBe('nothing');
    await scene.deliver(request, steady);
  });

  point(`the connection breaks at an append: ${place}`, async (scene) => {
    const request = scene.request();
    const stop = steady.redis.stopAt(append, place);
    const told = scene.send(request, steady);
    await stop.reached();
    stop.cut();
    expect(await told).toBe('later');
    await scene.deliver(request, steady);
  });
}

point('the gateway is killed before its answer is sent', async (scene) => {
  const victim = await scene.gateway();
  const request = scene.request();
  const stop = victim.front.stopAt(isExport, 'after');
  const told = scene.send(request, victim);
  await stop.reached();
  expect(await scene.accepted()).toBe(SPANS);
  await victim.kill();
  stop.cut();
  expect(await told).toBe('nothing');
  await scene.deliver(request, steady);
});

for (const [which, again] of [['the same', () => steady], ['another', () => second]] as const) {
  point(`an answer over HTTP is lost, and the client goes to ${which} gateway`, async (scene) => {
    const request = scene.request();
    const stop = steady.front.stopAt(isExport, 'after');
    const told = scene.send(request, steady);
    await stop.reached();
    expect(await scene.accepted()).toBe(SPANS);
    stop.cut();
    expect(await told).toBe('nothing');
    await scene.deliver(request, again());
  });

  for (const place of ['before', 'after'] as const) {
    const name = `the client is tired of waiting, ${place} its append, and goes to ${which} gateway`;
    point(name, async (scene) => {
      const request = scene.request();
      const passed = steady.front.passed();
      const stop = steady.redis.stopAt(append, place);
      const first = scene.send(request, steady);
      await stop.reached();
      const repeated = scene.send(request, again());
      // At the same gateway both wait for the one; another one stores it meanwhile.
      if (again() === steady) await inside(passed, 2);
      else expect(await repeated).toBe('acknowledged');
      stop.release();
      expect(await first).toBe('acknowledged');
      expect(await repeated).toBe('acknowledged');
    });
  }
}

for (const [first, then] of [['large', 'usual'], ['usual', 'large']] as const) {
  point(`the gateway is killed after its append: first the ${first} lane, then the ${then} one`, async (scene) => {
    const large = await scene.gateway(ALL_LARGE);
    const victim = first === 'large' ? large : await scene.gateway();
    const request = scene.request();
    const stop = victim.redis.stopAt(append, 'after');
    const told = scene.send(request, victim);
    await stop.reached();
    await victim.kill();
    expect(await told).toBe('nothing');
    await scene.deliver(request, then === 'large' ? large : steady);
    await large.kill();
  });
}

point('an answer over gRPC is lost', async (scene) => {
  const request = scene.request();
  const way = await CuttingProxy.start(steady.program.grpcPort);
  const [cutOff, again] = [new GrpcClient(way.port), new GrpcClient(steady.program.grpcPort)];
  try {
    const stop = steady.redis.stopAt(append, 'after');
    const told = cutOff.send('traces', request.body);
    await stop.reached();
    way.cut();
    expect((await told).kind).toBe('later');
    stop.release();
    expect((await again.send('traces', request.body)).kind).toBe('accept');
  } finally {
    for (const client of [cutOff, again]) client.close();
    await way.stop();
  }
});

point('a request that is known, and one that comes twice, in a group with others', async (scene) => {
  const known = scene.request();
  const others = [scene.request(), scene.request()] as const;
  const lost = steady.redis.stopAt(append, 'after');
  const told = scene.send(known, steady);
  await lost.reached();
  lost.cut();
  expect(await told).toBe('later');
  await scene.deliver(scene.request(), steady);
  const passed = steady.front.passed();
  // While this one is under way the next group collects.
  const stop = steady.redis.stopAt(append, 'before');
  const first = scene.send(scene.request(), steady);
  await stop.reached();
  const group = [known, ...others, others[0], known].map((request) => scene.send(request, steady));
  await inside(passed, 1 + group.length);
  stop.release();
  expect(await Promise.all([first, ...group])).toEqual(Array(1 + group.length).fill('acknowledged'));
});
