/**
 * Goal: wherever the division of a batch that ClickHouse refuses can be stopped, and wherever the replay of
 * its letters can, each record ends once: in the table, or in a letter and after its replay in the table.
 */
import { expect } from 'vitest';
import { run } from '../support/program.ts';
import { type Deaths, dieThere } from './deaths.ts';
import { type Seen, isInsert } from './http-proxy.ts';
import { usePlace, usePoints } from './place.ts';
import { type Kind, RedisProxy, nth, runs } from './redis-proxy.ts';
import { type Request, type Role, SEALS_LATE, SPANS, type Scene } from './scene.ts';
import type { Stop } from './stop.ts';

/** Two requests are a batch of two fragments. */
const TWO_REQUESTS = { ...SEALS_LATE, SLUICE_BATCH_ROWS_MAX: String(2 * SPANS) };
/** Forbids the fourth span of each request. */
const CONSTRAINT = `ADD CONSTRAINT IF NOT EXISTS no_fourth CHECK substring(SpanId, 9) != '00000004'`;

const place = usePlace();
let gateway: Role;
let writer: Role;
const [note, setAside, revive] = await Promise.all([runs('notePart'), runs('setAside'), runs('revive')]);

const point = usePoints(place, async (scene) => {
  [gateway, writer] = await Promise.all([scene.gateway(TWO_REQUESTS), scene.writer()]);
});

const alter = (what: string) => place.alter(`ALTER TABLE otel.otel_traces ${what}`);

async function feed(scene: Scene, from = gateway): Promise<readonly Request[]> {
  const requests = [scene.request(), scene.request()];
  for (const request of requests) await scene.deliver(request, from);
  return requests;
}

/** Every span that the table takes is there, the others are in letters; mended and replayed, all are there. */
async function expectAside(scene: Scene, batches: number): Promise<void> {
  await scene.untilWritten();
  const before = await scene.since();
  expect(before).toMatchObject({ accepted: 2 * SPANS * batches, waiting: 0, dropped: 0 });
  expect(before.dead).toBeGreaterThanOrEqual(2 * batches);
  expect(before.written + before.dead).toBe(before.accepted);
  await alter('DROP CONSTRAINT IF EXISTS no_fourth');
}

/** `sluice deadletters replay` through a proxy of its own. @returns its exit code */
async function replay(scene: Scene, stopIt?: (redis: RedisProxy) => Stop): Promise<number | null> {
  const redis = await RedisProxy.start(place.redisPort);
  try {
    const stop = stopIt?.(redis);
    const ended = run(['deadletters', 'replay', '--all'], {
      SLUICE_REDIS_URL: scene.redisUrl.replace(String(place.redisPort), String(redis.port)),
    });
    await stop?.reached();
    stop?.cut();
    return (await ended).code;
  } finally {
    await redis.close();
  }
}

const PARTS: readonly (readonly [string, Kind, 'before' | 'after'])[] = [
  ['notes that a batch is divided', note, 'before'],
  ['notes that a batch is divided', note, 'after'],
  ['notes the third part', nth(3, note), 'before'],
  ['notes the third part', nth(3, note), 'after'],
  ['notes the eighth part', nth(8, note), 'after'],
  ['sets aside what is left', setAside, 'before'],
  ['sets aside what is left', setAside, 'after'],
];
for (const [what, kind, when] of PARTS) {
  point(`the connection breaks when a writer ${what}: ${when}`, async (scene) => {
    await alter(CONSTRAINT);
    const stop = writer.redis.stopAt(kind, when);
    await feed(scene);
    await stop.reached();
    stop.cut();
    await expectAside(scene, 1);
    expect(await replay(scene)).toBe(0);
  });
}

/** The whole batch is the first insert; of its parts some pass. */
for (const number of [2, 4, 6]) {
  point(`the answer to the insert of a part is lost: insert ${number}`, async (scene) => {
    await alter(CONSTRAINT);
    const stop = writer.clickhouse[0]?.stopAt(nthOf(number, isInsert), 'after');
    await feed(scene);
    await stop?.reached();
    stop?.cut();
    await expectAside(scene, 1);
    expect(await replay(scene)).toBe(0);
  });
}

for (const when of ['before', 'after'] as const) {
  point(`a replay is cut off: ${when}`, async (scene) => {
    await alter(CONSTRAINT);
    await feed(scene);
    await expectAside(scene, 1);
    await replay(scene, (redis) => redis.stopAt(revive, when));
    expect(await replay(scene)).toBe(0);
  });
}

point('two replays at once', async (scene) => {
  await alter(CONSTRAINT);
  await feed(scene);
  await expectAside(scene, 1);
  expect(await Promise.all([replay(scene), replay(scene)])).toEqual([0, 0]);
});

for (const when of ['before', 'after'] as const) {
  place.story(`the refusal of a batch is lost, and it is kept whole; the connection breaks then: ${when}`, async (scene) => {
    await alter(CONSTRAINT);
    const [from, to] = await Promise.all([scene.gateway(TWO_REQUESTS), scene.writer()]);
    const refusal = to.clickhouse[0]?.stopAt(isInsert, 'after');
    const aside = to.redis.stopAt(setAside, when);
    await feed(scene, from);
    for (const stop of [refusal, aside]) {
      await stop?.reached();
      stop?.cut();
    }
    await expectAside(scene, 1);
    expect(await replay(scene)).toBe(0);
    await scene.expectExactlyOnce();
  });
}

const DEATHS: Deaths = {
  'when it has noted that a batch is divided': ({ redis }) => redis.stopAt(note, 'after'),
  'when it has noted the fourth part': ({ redis }) => redis.stopAt(nth(4, note), 'after'),
  'when a part is stored, but not answered': ({ clickhouse }) =>
    clickhouse[0]?.stopAt(nthOf(5, isInsert), 'after'),
  'before it sets aside what is left': ({ redis }) => redis.stopAt(setAside, 'before'),
  'when that is done, but not answered': ({ redis }) => redis.stopAt(setAside, 'after'),
};

place.story('writers are killed in the middle of divisions', async (scene) => {
  await alter(CONSTRAINT);
  const from = await scene.gateway(TWO_REQUESTS);
  const left = await dieThere(scene, DEATHS, () => feed(scene, from));
  await scene.writer();
  await expectAside(scene, left.size);
  expect(await replay(scene)).toBe(0);
  await scene.expectExactlyOnce();
});

function nthOf(number: number, fits: (seen: Seen) => boolean): (seen: Seen) => boolean {
  let seen = 0;
  return (request) => fits(request) && ++seen === number;
}
