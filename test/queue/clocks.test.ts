/**
 * Goal: a clock that is wrong puts nothing off for long: neither a job that a writer delayed by its own clock,
 * nor a batch that was opened before Redis' clock was set back.
 */
import { Queue } from 'bullmq';
import { expect, it } from 'vitest';
import { createInstruments } from '../../src/metrics/instruments.ts';
import { JobQueue, JobWorker } from '../../src/queue/jobs.ts';
import { Sweep } from '../../src/queue/sweep.ts';
import { connectRedis, connectRedisForWorker } from '../../src/redis/connection.ts';
import { eventually, silent } from '../redis/server.ts';
import { redis, server, useEmptyRedis } from './redis.ts';
import { WRITE, append, fragment, openStore } from './support.ts';

const HOURS_30 = 30 * 3_600_000;

useEmptyRedis();

/** A sealed batch, and its job with this delay. */
async function delayedBy(delay: number) {
  const store = await openStore(server.settings, { rowsMax: 1 });
  const connection = connectRedis(server.settings, silent);
  const jobs = new JobQueue({ redis: connection, shard: 0, logger: silent });
  const queue = new Queue('insert', { connection, prefix: '{s0}' });
  const { sealed } = await append(store, fragment(1));
  const [batch] = sealed;
  if (batch === undefined) throw new Error('nothing was sealed');
  await queue.add(batch.table, batch, { jobId: batch.id, delay });
  const close = async () => {
    await jobs.close(1_000);
    await queue.close();
    connection.disconnect();
    store.close();
  };
  return { store, jobs, queue, batch, close };
}

it.each([
  ['ahead', HOURS_30],
  ['behind', -HOURS_30],
])('a job that was delayed by a clock that is 30 hours %s is tried at once', async (_, apartMs) => {
  const { store, jobs, queue, batch, close } = await delayedBy(HOURS_30);
  await redis.command(['ZADD', '{s0}:insert:delayed', (Date.now() + apartMs) * 4096, batch.id]);
  const instruments = createInstruments();
  // Without writers so far: nobody else looks for jobs whose time has come.
  const sweep = new Sweep({ write: { ...WRITE, sweepMs: 1 }, shard: 0, store, jobs, instruments, logger: silent });
  await eventually(async () => {
    await sweep.sweep();
    return (await queue.getDelayedCount()) === 0;
  }, 'the sweep hastens it');
  const done: string[] = [];
  const workerRedis = connectRedisForWorker(server.settings, silent);
  const handle = async ({ id }: { id: string }) => done.push(id);
  const worker = new JobWorker({ redis: workerRedis, write: WRITE, shard: 0, handle, logger: silent });
  await eventually(() => done.length === 1, 'it is tried');
  expect(done).toEqual([batch.id]);
  await worker.close(1_000);
  workerRedis.disconnect();
  await close();
});

it('a job that waits for its usual delay is left alone', async () => {
  const { store, close } = await delayedBy(4_000);
  const { putOff, seen } = await store.orphans(0, 0, 0, 10, WRITE.retryMsMax + 5_000);
  expect({ putOff, seen }).toEqual({ putOff: [], seen: 1 });
  await close();
});

it('a batch that was opened before the clock was set back is sealed all the same', async () => {
  const store = await openStore(server.settings, { ageMsMax: 1_000 });
  await append(store, fragment(2));
  await redis.command(['ZADD', '{s0}:open', Date.now() + HOURS_30, 'otel_traces:z1']);
  const { sealed } = await store.sealDue(0);
  expect(sealed).toMatchObject([{ rows: 2, fragments: 1 }]);
  store.close();
});
