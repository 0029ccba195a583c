/**
 * Goal: wherever the way from an append to a job can be stopped, every batch is sealed once and gets to a
 * writer. Nobody sends anything again here: what was acknowledged needs no client any more.
 */
import { expect } from 'vitest';
import { usePlace, usePoints } from './place.ts';
import { bullmq, runs } from './redis-proxy.ts';
import { SEALS_AT_ONCE, SEALS_LATE } from './scene.ts';

const place = usePlace();
const addJob = bullmq('addStandardJob');
const sealDue = await runs('sealDue');

const point = usePoints(place, async (scene) => {
  await scene.writer();
});

point('the gateway is killed with a batch open', async (scene) => {
  const gateway = await scene.gateway(SEALS_LATE);
  await scene.deliver(scene.request(), gateway);
  await gateway.kill();
});

for (const place of ['before', 'after'] as const) {
  point(`the gateway is killed when it has sealed a batch, at the job: ${place}`, async (scene) => {
    const gateway = await scene.gateway(SEALS_AT_ONCE);
    const stop = gateway.redis.stopAt(addJob, place);
    await scene.deliver(scene.request(), gateway);
    await stop.reached();
    await gateway.kill();
  });

  point(`the connection breaks when a gateway adds a job: ${place}`, async (scene) => {
    const gateway = await scene.gateway(SEALS_AT_ONCE);
    const stop = gateway.redis.stopAt(addJob, place);
    await scene.deliver(scene.request(), gateway);
    await stop.reached();
    stop.cut();
    await scene.untilWritten();
    await gateway.kill();
  });

  point(`the gateway is killed when it seals by age: ${place}`, async (scene) => {
    const gateway = await scene.gateway();
    const stop = gateway.redis.stopAt(sealDue, place);
    await scene.deliver(scene.request(), gateway);
    await stop.reached();
    await gateway.kill();
  });

  point(`the connection breaks when a gateway seals by age: ${place}`, async (scene) => {
    const gateway = await scene.gateway();
    const stop = gateway.redis.stopAt(sealDue, place);
    await scene.deliver(scene.request(), gateway);
    await stop.reached();
    stop.cut();
    await scene.untilWritten();
    await gateway.kill();
  });
}

place.story('the writer is killed when its sweep has sealed a batch', async (scene) => {
  const [gateway, victim] = await Promise.all([scene.gateway(SEALS_LATE), scene.writer()]);
  const sweeps = victim.redis.stopAt(sealDue, 'before');
  await sweeps.reached();
  await scene.deliver(scene.request(), gateway);
  const sweepsAgain = victim.redis.stopAt(sealDue, 'after');
  sweeps.cut();
  await sweepsAgain.reached();
  expect(await scene.redis.zcard('{s0}:sealed')).toBe(1);
  await victim.kill();
  await scene.writer();
  await scene.expectExactlyOnce();
});

place.story('two writers find the same batch without a job, and both add one', async (scene) => {
  const [gateway, slow] = await Promise.all([scene.gateway(SEALS_AT_ONCE), scene.writer()]);
  const lost = gateway.redis.stopAt(addJob, 'before');
  const adds = slow.redis.stopAt(addJob, 'before');
  await scene.deliver(scene.request(), gateway);
  await lost.reached();
  await gateway.kill();
  await adds.reached();
  await scene.writer();
  await scene.untilWritten();
  const next = slow.redis.stopAt(sealDue, 'before');
  adds.release();
  await next.reached();
  next.release();
  await scene.expectExactlyOnce();
});
