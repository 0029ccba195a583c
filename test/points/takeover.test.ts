/**
 * Goal: wherever a writer is killed between taking a job and being done with it, another writer takes over,
 * and leaves one copy.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Deaths, dieThere } from './deaths.ts';
import { isInsert } from './http-proxy.ts';
import { STORY_MS_MAX, usePlace } from './place.ts';
import { TAKES_JOB, bullmq, isCommand, runs } from './redis-proxy.ts';
import { type Request, type Role, SEALS_AT_ONCE, type Scene, once } from './scene.ts';
import type { Stop } from './stop.ts';

const finish = await runs('finish');
const insertAt = (place: Stop['place']) => (writer: Role) => writer.clickhouse[0]?.stopAt(isInsert, place);
const DEATHS: Deaths = {
  'when it has taken the job': ({ redis }) => redis.stopAt(TAKES_JOB, 'after'),
  'before it reads the batch': ({ redis }) => redis.stopAt(isCommand('LLEN'), 'before'),
  'while it reads the batch': ({ redis }) => redis.stopAt(isCommand('LRANGE'), 'half answered'),
  'before the insert': insertAt('before'),
  'in the middle of the insert': insertAt('half sent'),
  'with all bytes of the insert sent but its end': insertAt('sent'),
  'when the insert is stored, but not answered': insertAt('after'),
  'before it finishes the batch': ({ redis }) => redis.stopAt(finish, 'before'),
  'when the batch is finished, but not answered': ({ redis }) => redis.stopAt(finish, 'after'),
  'before it is done with the job': ({ redis }) => redis.stopAt(bullmq('moveToFinished'), 'before'),
  'when the job is done, but not answered': ({ redis }) => redis.stopAt(bullmq('moveToFinished'), 'after'),
};
const place = usePlace();
let scene: Scene | undefined;
let left: ReadonlyMap<string, readonly Request[]> = new Map();

beforeAll(async () => {
  scene = place.open();
  const there = scene;
  const gateway = await there.gateway(SEALS_AT_ONCE);
  left = await dieThere(there, DEATHS, async () => {
    const request = there.request();
    await there.deliver(request, gateway);
    return [request];
  });
  await gateway.kill();
  await there.writer();
  await there.untilWritten();
}, STORY_MS_MAX);
afterAll(() => scene?.end());

describe('a writer is killed', () => {
  test.each(Object.keys(DEATHS))('%s', async (name) => {
    const requests = left.get(name) ?? [];
    expect(requests).toHaveLength(1);
    expect(await scene?.copies(requests)).toEqual(requests.map(once));
  });

  test('and the books are right', () => scene?.expectExactlyOnce());
});

place.story('a writer that stood still loses its batch to another, and both insert it at once', async (scene) => {
  const [gateway, frozen] = await Promise.all([scene.gateway(SEALS_AT_ONCE), scene.writer()]);
  const first = frozen.clickhouse[0]?.stopAt(isInsert, 'half sent');
  await scene.deliver(scene.request(), gateway);
  await first?.reached();
  process.kill(frozen.program.pid, 'SIGSTOP');
  const other = await scene.writer();
  const second = other.clickhouse[0]?.stopAt(isInsert, 'half sent');
  await second?.reached();
  process.kill(frozen.program.pid, 'SIGCONT');
  for (const stop of [first, second]) stop?.release();
  await scene.expectExactlyOnce();
});
