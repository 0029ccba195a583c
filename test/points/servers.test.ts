/**
 * Goal: Redis or ClickHouse is killed (-9) between two steps and started again on its data: everything is
 * there once. Redis keeps what it has answered, since its file is written before each answer (everysec is
 * about the machine); ClickHouse keeps what it has answered too.
 */
import { expect } from 'vitest';
import { isInsert } from './http-proxy.ts';
import { usePlace, usePoints } from './place.ts';
import { runs } from './redis-proxy.ts';
import type { Role } from './scene.ts';

const place = usePlace();
let gateway: Role;
let writer: Role;
const [append, sealDue, finish] = await Promise.all([runs('append'), runs('sealDue'), runs('finish')]);

const point = usePoints(place, async (scene) => {
  [gateway, writer] = await Promise.all([scene.gateway(), scene.writer()]);
});

for (const when of ['before', 'half sent', 'after'] as const) {
  point(`Redis is killed at an append: ${when}`, async (scene) => {
    const request = scene.request();
    const stop = gateway.redis.stopAt(append, when);
    const told = scene.send(request, gateway);
    await stop.reached();
    await place.restartRedis();
    expect(await told).toBe('later');
    await scene.deliver(request, gateway);
  });
}

for (const when of ['before', 'after'] as const) {
  point(`Redis is killed when a batch is sealed by age: ${when}`, async (scene) => {
    const stop = gateway.redis.stopAt(sealDue, when);
    await scene.deliver(scene.request(), gateway);
    await stop.reached();
    await place.restartRedis();
  });

  point(`Redis is killed when a batch is finished: ${when}`, async (scene) => {
    const stop = writer.redis.stopAt(finish, when);
    await scene.deliver(scene.request(), gateway);
    await stop.reached();
    await place.restartRedis();
  });
}

for (const when of ['before', 'half sent', 'sent', 'after'] as const) {
  point(`ClickHouse is killed at an insert: ${when}`, async (scene) => {
    const stop = writer.clickhouse[0]?.stopAt(isInsert, when);
    await scene.deliver(scene.request(), gateway);
    await stop?.reached();
    await place.restartClickHouse();
    // What was held may go its way: the server that it was for is no more.
    stop?.release();
  });
}
