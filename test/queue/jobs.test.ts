/**
 * Goal: every sealed batch has one job until it is written: through duplicates, failures, writers that are
 * killed, and gateways that die between sealing and adding the job.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { sleep } from '../../src/base/clock.ts';
import { Fault } from '../../src/base/errors.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import type { SealedBatch } from '../../src/model/batch.ts';
import { backoffMs } from '../../src/queue/backoff.ts';
import type { BatchStore } from '../../src/queue/batch-store.ts';
import { JobQueue, JobWorker, type JobWorkerOptions } from '../../src/queue/jobs.ts';
import { Sealer } from '../../src/queue/sealer.ts';
import { Sweep } from '../../src/queue/sweep.ts';
import { connectRedis, connectRedisForWorker } from '../../src/redis/connection.ts';
import { eventually, silent } from '../redis/server.ts';
import { redis, server, useEmptyRedis } from './redis.ts';
import { append, fragment, openStore, WRITE } from './support.ts';

let store: BatchStore;
const endings: (() => unknown)[] = [];

useEmptyRedis();
beforeAll(async () => {
  store = await openStore(server.settings, { rowsMax: 1 });
});
afterEach(async () => {
  for (const end of endings.splice(0).reverse()) await end();
});
afterAll(() => store.close());

function openQueue(shard = 0, connection = connectRedis(server.settings, silent)): JobQueue {
  const queue = new JobQueue({ redis: connection, shard, logger: silent });
  endings.push(async () => {
    await queue.close(1_000);
    connection.disconnect();
  });
  return queue;
}

function work(
  handle: (batch: SealedBatch) => Promise<unknown>,
  options: Partial<Pick<JobWorkerOptions, 'redis' | 'write' | 'shard' | 'store'>> = {},
): JobWorker {
  const connection = options.redis ?? connectRedisForWorker(server.settings, silent);
  const worker = new JobWorker({ write: WRITE, shard: 0, ...options, redis: connection, handle, logger: silent });
  endings.push(async () => {
    await worker.close(1_000);
    connection.disconnect();
  });
  return worker;
}

async function seal(count: number): Promise<SealedBatch[]> {
  const results = await Promise.all(Array.from({ length: count }, () => append(store, fragment(1))));
  return results.flatMap(({ sealed }) => sealed);
}

/** Keys of jobs, in whatever state; a job that is being worked on has a lock beside it. */
async function jobKeys(): Promise<string[]> {
  const keys = (await redis.command(['KEYS', '{s0}:insert:*-*-*'])) as string[];
  return keys.filter((key) => !key.endsWith(':lock'));
}

describe('jobs', () => {
  it('carry the description, come once however often they are added, and leave nothing behind', async () => {
    const [queue, other] = [openQueue(), openQueue()];
    const batches = await seal(20);
    await Promise.all([queue.add(batches), other.add(batches), queue.add(batches)]);
    await queue.add([]);
    expect(await jobKeys()).toHaveLength(20);
    const seen: SealedBatch[] = [];
    work(async (batch) => {
      seen.push(batch);
      await store.finish(batch);
    });
    await eventually(async () => (await jobKeys()).length === 0, 'all jobs are done');
    expect(seen.map(({ id }) => id).sort()).toEqual(batches.map(({ id }) => id).sort());
    expect(batches).toContainEqual(seen[0]);
    // Added late, after the batch was finished: harmless, as the writer finds nothing to write.
    await queue.add(batches.slice(0, 1));
    await eventually(async () => (await jobKeys()).length === 0, 'the late job is done');
    expect(await store.counts(0)).toMatchObject({
      items: { traces: { accepted: 20, written: 20, waiting: 0 } },
    });
  });

  it('come again after every failure, and no more than so many at once', async () => {
    openQueue().offer(await seal(6));
    const tries = new Map<string, number>();
    let running = 0;
    let most = 0;
    work(async (batch) => {
      most = Math.max(most, ++running);
      try {
        const made = (tries.get(batch.id) ?? 0) + 1;
        tries.set(batch.id, made);
        await eventually(() => most >= WRITE.insertsInFlightMax, 'two at once');
        // Nothing that a handler throws may cost the batch.
        if (made === 1) throw new Fault('clickhouse_away', 'elsewhere', 'made up');
        if (made === 2) throw new Fault('clickhouse_no', 'never', 'made up');
        if (made === 3) throw new TypeError('made up');
        await store.finish(batch);
      } finally {
        running -= 1;
      }
    });
    await eventually(async () => tries.size === 6 && (await jobKeys()).length === 0, 'all jobs are done');
    expect([...tries.values()]).toEqual([4, 4, 4, 4, 4, 4]);
    expect(most).toBe(WRITE.insertsInFlightMax);
  });

  it('that fail for ever take no more room in Redis', async () => {
    const [batch] = (await seal(1)) as [SealedBatch];
    await openQueue().add([batch]);
    let tries = 0;
    work(async () => {
      tries += 1;
      throw new Fault('UNKNOWN_TABLE', 'here', 'made up');
    });
    const size = () => redis.command(['MEMORY', 'USAGE', `{s0}:insert:${batch.id}`]);
    await eventually(() => tries >= 3, 'three tries');
    const early = await size();
    await eventually(() => tries >= 30, 'thirty tries');
    expect(await size()).toBe(early);
  });

  it('of another version wait for a writer that knows them', async () => {
    const [batch] = (await seal(1)) as [SealedBatch];
    await openQueue().add([{ ...batch, layout: 'z9' as 'z1' }]);
    let handled = 0;
    work(async () => handled++);
    await eventually(
      async () => (await redis.command(['ZCARD', '{s0}:insert:delayed'])) === 1,
      'it was put off',
    );
    expect(handled).toBe(0);
    expect(await jobKeys()).toHaveLength(1);
  });

  it('are left to the sweep when Redis is away, which delays nobody', async () => {
    const queue = openQueue();
    const batches = await seal(1);
    await queue.add([]);
    await server.kill();
    await expect(queue.add(batches)).rejects.toMatchObject({ code: 'redis_unavailable' });
    queue.offer(batches);
    await server.up();
    await eventually(() => redis.ready && store.redis.ready, 'Redis is back');
    await eventually(() => queue.add(batches).then(() => true), 'adding works again');
    expect(await jobKeys()).toHaveLength(1);
  });

  it('survive a restart of Redis with the worker', async () => {
    const queue = openQueue();
    const done = new Set<string>();
    work(async (batch) => done.add(batch.id));
    await queue.add(await seal(3));
    await eventually(() => done.size === 3, 'jobs before the restart');
    await server.kill();
    await server.up();
    await eventually(() => redis.ready && store.redis.ready, 'Redis is back');
    const batches = await seal(3);
    await eventually(() => queue.add(batches).then(() => true), 'adding works again');
    await eventually(() => done.size === 6, 'jobs after the restart');
  });

  it('are let go by a worker that is closed while they hang', async () => {
    await openQueue().add(await seal(1));
    let begun = false;
    const hanging = work(() => {
      begun = true;
      return new Promise(() => {});
    });
    await eventually(() => begun, 'the job has begun');
    await hanging.close(50);
    expect(await jobKeys()).toHaveLength(1);
  });
});

describe('several shards', () => {
  it('share connections, and each has its own jobs; one that is closed leaves the others alone', async () => {
    const shards = [0, 1, 2];
    const connection = connectRedis(server.settings, silent);
    const forWorkers = connectRedisForWorker(server.settings, silent);
    const queues = shards.map((shard) => openQueue(shard, connection));
    const handled: number[] = [];
    const handle = async (batch: SealedBatch) => {
      await store.finish(batch);
      handled.push(batch.shard);
    };
    const workers = shards.map((shard) => work(handle, { redis: forWorkers, shard }));
    const add = async (shard: number) => {
      const { sealed } = await append(store, fragment(1, 10, 'otel_traces', shard));
      await queues[shard]?.add(sealed);
    };
    await Promise.all(shards.map(add));
    await eventually(() => handled.length === 3, 'a job of each');
    expect([...handled].sort()).toEqual(shards);
    await workers[1]?.close(1_000);
    await queues[1]?.close(1_000);
    await Promise.all([add(0), add(2)]);
    await eventually(() => handled.length === 5, 'the others go on');
    expect(handled.slice(3).sort()).toEqual([0, 2]);
  });
});

describe('a Redis that is too full to give out jobs', () => {
  it('is emptied all the same', async () => {
    await openQueue().add(await seal(7));
    await redis.command(['CONFIG', 'SET', 'maxmemory', 1]);
    endings.push(() => redis.command(['CONFIG', 'SET', 'maxmemory', 0]));
    let failures = 2;
    const handle = async (batch: SealedBatch) => {
      if (failures-- > 0) throw new Fault('clickhouse_away', 'here', 'made up');
      await store.finish(batch);
    };
    work(handle, { store });
    await eventually(
      async () => (await store.counts(0)).items.traces.waiting === 0,
      'all batches are finished',
    );
    expect((await store.counts(0)).items.traces).toMatchObject({ accepted: 7, written: 7 });
    await redis.command(['CONFIG', 'SET', 'maxmemory', 0]);
    await eventually(async () => (await jobKeys()).length === 0, 'their jobs are gone too');
    await openQueue().add(await seal(1));
    await eventually(async () => (await store.counts(0)).items.traces.written === 8, 'and work goes on');
  });
});

describe('a writer that is killed', () => {
  /** Another process that has taken the batch and never finishes it. */
  async function hang(batch: SealedBatch): Promise<ChildProcess> {
    const child = spawn(process.execPath, [join(import.meta.dirname, 'hanging-worker.ts'), server.url], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    endings.push(() => kill(child));
    const [line] = await once(child.stdout, 'data');
    expect(String(line).trim()).toBe(batch.id);
    return child;
  }

  it('has its batches taken over, before those that wait', async () => {
    const [batch, other] = (await seal(2)) as [SealedBatch, SealedBatch];
    await openQueue().add([batch]);
    const child = await hang(batch);
    const handled: string[] = [];
    work(async ({ id }) => {
      handled.push(id);
      // Busy until the other one is free.
      await eventually(() => handled.includes(batch.id), 'the batch is taken over', 60_000);
    }, { write: { ...WRITE, insertsInFlightMax: 2 } });
    await openQueue().add([other]);
    await eventually(() => handled.length > 0, 'the worker is at work');
    await kill(child);
    // 4 s for the lock, 1 s for the check, and room for a busy machine; BullMQ's own would take half a minute.
    await eventually(() => handled.includes(batch.id), 'the batch is taken over', 20_000);
  });

  it('is not taken for dead because it is busy for a second', async () => {
    const [batch] = (await seal(1)) as [SealedBatch];
    await openQueue().add([batch]);
    const child = await hang(batch);
    const handled: string[] = [];
    work(async ({ id }) => handled.push(id));
    const lockMs = async () => Number(await redis.command(['PTTL', `{s0}:insert:${batch.id}:lock`]));
    for (let pause = 0; pause < 2 && handled.length === 0; pause++) {
      const busySinceMs = performance.now();
      child.kill('SIGSTOP');
      await sleep(1_000);
      child.kill('SIGCONT');
      await eventually(async () => handled.length > 0 || (await lockMs()) > 3_200, 'the lock is renewed');
      // It may be busy for 3 s; a machine that stands still for longer has said nothing.
      if (performance.now() - busySinceMs < 3_000) expect(handled).toEqual([]);
    }
  });

  async function kill(child: ChildProcess): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }
});

describe('the sweep', () => {
  const sweepWith = (jobs: JobQueue, sweepMs = 20) => {
    const instruments = createInstruments();
    const options = { write: { ...WRITE, sweepMs }, shard: 0, store, jobs, instruments, logger: silent };
    return { sweep: new Sweep(options), instruments };
  };

  it('gives batches without a job one, once they are old enough', async () => {
    const queue = openQueue();
    const { sweep, instruments } = sweepWith(queue, 300_000);
    const batches = await seal(5);
    const [withJob, ...without] = batches;
    if (withJob !== undefined) await queue.add([withJob]);
    // Twice as old as the time between two sweeps; Redis' clock goes on meanwhile, so they are made older instead.
    const older = async (ms: number) => {
      for (const { id } of batches) await redis.command(['ZINCRBY', '{s0}:sealed', -ms, id]);
    };
    await older(500_000);
    expect(await sweep.sweep()).toBe(0);
    await older(100_000);
    expect(await sweep.sweep()).toBe(without.length);
    expect(await sweep.sweep()).toBe(0);
    expect(await jobKeys()).toHaveLength(5);
    expect((await instruments.batchesSwept.get()).values[0]?.value).toBe(4);
  });

  it('finds them behind any number that have one', async () => {
    const queue = openQueue();
    const batches = await seal(2_500);
    await queue.add(batches.slice(0, 2_400));
    const { sweep } = sweepWith(queue, 1);
    await eventually(async () => (await sweep.sweep()) === 100, 'the last hundred');
    expect(await jobKeys()).toHaveLength(2_500);
  });

  it('seals what is due, by itself, when nobody else does', async () => {
    const gateway = await openStore(server.settings, { ageMsMax: 100_000 });
    await append(gateway, fragment(3, 10, 'otel_logs'));
    gateway.close();
    const due = await openStore(server.settings, { ageMsMax: 10 });
    endings.push(() => due.close());
    const done: SealedBatch[] = [];
    work(async (batch) => {
      await due.finish(batch);
      done.push(batch);
    });
    const queue = openQueue();
    const sweep = new Sweep({
      write: WRITE,
      shard: 0,
      store: due,
      jobs: queue,
      instruments: createInstruments(),
      logger: silent,
    });
    sweep.start();
    await eventually(() => done.length === 1, 'the batch is sealed and handled');
    expect(done).toMatchObject([{ table: 'otel_logs', rows: 3 }]);
    await sweep.stop();
  });

  it('lives on while Redis is away', async () => {
    const { sweep } = sweepWith(openQueue(), 5);
    sweep.start();
    await server.kill();
    await expect(sweep.sweep()).rejects.toMatchObject({ code: 'redis_unavailable' });
    await server.up();
    await eventually(() => store.redis.ready && redis.ready, 'Redis is back');
    const [batch] = await seal(1);
    await eventually(async () => (await jobKeys()).length === 1, 'the batch has a job');
    expect((await jobKeys())[0]).toContain(batch?.id);
    await sweep.stop();
  });
});

describe('the sealer', () => {
  it('seals at the age bound without further traffic, and rests when nothing is open', async () => {
    const aged = await openStore(server.settings, { ageMsMax: 30 });
    endings.push(() => aged.close());
    const sealed: SealedBatch[] = [];
    const options = { shard: 0, ageMsMax: 30, store: aged, instruments: createInstruments(), logger: silent };
    const sealer = new Sealer({ ...options, onSealed: (batches) => void sealed.push(...batches) });
    endings.push(() => sealer.stop());
    for (const rows of [3, 4]) {
      sealer.stored(await append(aged, fragment(rows)));
      await eventually(() => sealed.at(-1)?.rows === rows, 'sealed by age');
    }
    await redis.command(['CONFIG', 'RESETSTAT']);
    sealer.stored(await append(aged, fragment(5)));
    await server.kill();
    await server.up();
    await eventually(() => sealed.at(-1)?.rows === 5, 'sealed after Redis came back');
    expect(sealed).toHaveLength(3);
  });
});

describe('backoffMs', () => {
  it.each([
    [1, 100, 60_000, 100, 200],
    [2, 100, 60_000, 100, 400],
    [9, 100, 60_000, 100, 51_200],
    [10, 100, 60_000, 100, 60_000],
    [1_000_000, 100, 60_000, 100, 60_000],
    [5, 100, 100, 100, 100],
  ])('after %i tries, from %i to %i ms', (made, msMin, msMax, least, most) => {
    expect(backoffMs(made, msMin, msMax, () => 0)).toBe(least);
    expect(backoffMs(made, msMin, msMax, () => 1)).toBe(most);
    expect(backoffMs(made, msMin, msMax)).toBeLessThanOrEqual(msMax);
  });
});
