/**
 * Goal: wherever a connection of a writer that lives on breaks between taking a job and being done with it,
 * the next attempt leaves one copy. Those of writers that die: takeover.test.ts. Another replica takes over:
 * test/write/failover.test.ts and test/chaos.
 */
import { expect } from 'vitest';
import { isInsert } from './http-proxy.ts';
import { usePlace, usePoints } from './place.ts';
import { HEARS_OF_JOB, type Kind, TAKES_JOB, bullmq, isCommand, runs } from './redis-proxy.ts';
import { type Role, SEALS_AT_ONCE, type Scene, endOf } from './scene.ts';
import type { Stop } from './stop.ts';

const place = usePlace();
let gateway: Role;
let writer: Role;

const point = usePoints(place, async (scene) => {
  [gateway, writer] = await Promise.all([scene.gateway(SEALS_AT_ONCE), scene.writer()]);
});

async function cutThere(scene: Scene, stop: Stop): Promise<void> {
  await scene.deliver(scene.request(), gateway);
  await stop.reached();
  stop.cut();
}

const STEPS: readonly (readonly [string, Kind, ...('before' | 'half answered' | 'after')[]])[] = [
  ['takes a job', TAKES_JOB, 'before', 'after'],
  ['looks for its batch', isCommand('LLEN'), 'before', 'after'],
  ['reads its batch', isCommand('LRANGE'), 'before', 'half answered', 'after'],
  ['finishes a batch', await runs('finish'), 'before', 'after'],
  ['is done with a job', bullmq('moveToFinished'), 'before', 'after'],
];
for (const [what, kind, ...places] of STEPS) {
  for (const place of places) {
    point(`the connection breaks when a writer ${what}: ${place}`, (scene) =>
      cutThere(scene, writer.redis.stopAt(kind, place)));
  }
}

point('the connection breaks when a writer hears of a job', async (scene) => {
  const stop = writer.redis.stopAt(HEARS_OF_JOB, 'after');
  // It waits already: this is for the next time.
  await scene.deliver(scene.request(), gateway);
  await scene.untilWritten();
  await cutThere(scene, stop);
});

for (const place of ['before', 'half sent', 'sent', 'half answered', 'after'] as const) {
  point(`the connection breaks at an insert: ${place}`, async (scene) => {
    const [clickhouse] = writer.clickhouse;
    if (clickhouse !== undefined) await cutThere(scene, clickhouse.stopAt(isInsert, place));
  });
}

/** A writer is told to stop while its insert has half of the bytes. */
async function stopAtInsert(scene: Scene, drainMsMax: number) {
  const [from, victim] = await Promise.all([
    scene.gateway(SEALS_AT_ONCE),
    scene.writer({ SLUICE_DRAIN_MS_MAX: String(drainMsMax) }),
  ]);
  const stop = victim.clickhouse[0]?.stopAt(isInsert, 'half sent');
  await scene.deliver(scene.request(), from);
  await stop?.reached();
  const ended = endOf(victim);
  return { stop, ended };
}

place.story('a writer that is told to stop ends the insert that it has begun', async (scene) => {
  const { stop, ended } = await stopAtInsert(scene, 20_000);
  stop?.release();
  expect(await ended).toEqual({ code: 0, signal: null });
  await scene.expectExactlyOnce();
});

place.story('a writer whose time to stop is up breaks its insert off, and hands the batch back', async (scene) => {
  const { ended } = await stopAtInsert(scene, 2_000);
  await ended;
  expect((await scene.books()).written).toBe(0);
  await scene.writer();
  await scene.expectExactlyOnce();
});
