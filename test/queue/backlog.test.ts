/**
 * Goal: while a shard takes no inserts its batches wait untouched, and afterwards they are written at full
 * speed, oldest first, with fresh ones in between; what is wrong with one batch or table stops nothing else.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { sleep } from '../../src/base/clock.ts';
import { Fault } from '../../src/base/errors.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import type { SealedBatch } from '../../src/model/batch.ts';
import type { Table } from '../../src/model/signal.ts';
import type { BatchStore } from '../../src/queue/batch-store.ts';
import { FreshTurns } from '../../src/queue/fresh.ts';
import { JobQueue, JobWorker, type JobWorkerOptions } from '../../src/queue/jobs.ts';
import { Sweep } from '../../src/queue/sweep.ts';
import { connectRedis, connectRedisForWorker } from '../../src/redis/connection.ts';
import { eventually, silent } from '../redis/server.ts';
import { redis, server, useEmptyRedis } from './redis.ts';
import { append, fragment, openStore, WRITE } from './support.ts';

const away = new Fault('ECONNREFUSED', 'elsewhere', 'made up');
const full = new Fault('NOT_ENOUGH_SPACE', 'elsewhere', 'made up');
const parts = new Fault('TOO_MANY_PARTS', 'here', 'made up');
const ONE = { ...WRITE, insertsInFlightMax: 1 };

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

/** A shard whose replicas the test takes away and gives back. */
class Replicas {
  here = true;
  now(): boolean {
    return this.here;
  }
  async again(signal: AbortSignal): Promise<void> {
    while (!this.here && !signal.aborted) await sleep(5);
  }
}

/** A worker whose inserts the test decides on; `order` is what it wrote. */
function work(insert: (batch: SealedBatch) => unknown, changes: Partial<JobWorkerOptions> = {}) {
  const instruments = createInstruments();
  const replicas = new Replicas();
  const order: string[] = [];
  const seen = { tries: 0, running: 0, most: 0 };
  const connection = connectRedisForWorker(server.settings, silent);
  const handle = async (batch: SealedBatch) => {
    seen.tries += 1;
    seen.most = Math.max(seen.most, ++seen.running);
    try {
      await sleep(1);
      if (!(await store.isSealed(batch))) return;
      await insert(batch);
      await store.finish(batch);
      order.push(batch.id);
    } finally {
      seen.running -= 1;
    }
  };
  const worker = new JobWorker({
    redis: connection, write: ONE, shard: 0, store, handle, reachable: replicas, instruments, logger: silent, ...changes,
  });
  endings.push(async () => {
    await worker.close(1_000);
    connection.disconnect();
  });
  const paused = async () => (await instruments.writesPaused.get()).values[0]?.value;
  return { worker, replicas, order, seen, paused };
}

/** Sealed one after the other, so that their order is known. */
async function seal(count: number, table: Table = 'otel_traces'): Promise<SealedBatch[]> {
  const batches: SealedBatch[] = [];
  for (let i = 0; i < count; i++) batches.push(...(await append(store, fragment(1, 10, table))).sealed);
  return batches;
}

async function addJobs(batches: readonly SealedBatch[]): Promise<void> {
  const connection = connectRedis(server.settings, silent);
  const queue = new JobQueue({ redis: connection, shard: 0, logger: silent });
  await queue.add(batches);
  await queue.close(1_000);
  connection.disconnect();
}

async function attempts(batches: readonly SealedBatch[]): Promise<number> {
  const made = batches.map(({ id }) => redis.command(['HGET', `{s0}:insert:${id}`, 'atm']));
  return (await Promise.all(made)).reduce<number>((sum, count) => sum + Number(count), 0);
}

const waiting = async () => (await store.counts(0)).sealedBatches;
const ids = (batches: readonly SealedBatch[]) => batches.map(({ id }) => id);
const allWritten = () => eventually(async () => (await waiting()) === 0, 'everything is written');

describe('a shard without replicas', () => {
  it('keeps its jobs, untried and in order, and goes on when a probe finds one', async () => {
    const batches = await seal(12);
    const at = work(() => {
      if (!at.replicas.here) throw away;
    });
    at.replicas.here = false;
    await addJobs(batches);
    await eventually(async () => (await at.paused()) === 1, 'it pauses');
    const tries = at.seen.tries;
    await sleep(200);
    expect([at.seen.tries, await attempts(batches), await waiting()]).toEqual([tries, 0, 12]);
    at.replicas.here = true;
    await allWritten();
    expect(at.order).toEqual(ids(batches));
    expect(await at.paused()).toBe(0);
  });

  it('is noticed by its faults before health checks know, and the batch keeps its place', async () => {
    const batches = await seal(6);
    let broken = true;
    const at = work(() => {
      if (broken) throw away;
    });
    await addJobs(batches);
    await eventually(async () => (await at.paused()) === 1, 'it pauses');
    await sleep(100);
    expect(await attempts(batches)).toBe(0);
    broken = false;
    await allWritten();
    const [tried, ...order] = at.order;
    expect(order).toEqual(ids(batches).filter((id) => id !== tried));
  });

  it('does not hold up the end of its worker, which leaves the jobs to others', async () => {
    const batches = await seal(3);
    const at = work(() => {
      throw away;
    });
    at.replicas.here = false;
    await addJobs(batches);
    await eventually(async () => (await at.paused()) === 1, 'it pauses');
    await at.worker.close(20_000);
    const other = work(() => {});
    await allWritten();
    expect(other.order).toEqual(ids(batches));
  });

  it('is waited for while Redis is full as well', async () => {
    const batches = await seal(5);
    const at = work(() => {
      if (!at.replicas.here) throw away;
    });
    at.replicas.here = false;
    await addJobs(batches);
    await eventually(async () => (await at.paused()) === 1, 'it pauses');
    await redis.command(['CONFIG', 'SET', 'maxmemory', 1]);
    endings.push(() => redis.command(['CONFIG', 'SET', 'maxmemory', 0]));
    await sleep(100);
    at.replicas.here = true;
    await allWritten();
    expect(at.order).toEqual(ids(batches));
  });
});

describe('a server that answers and takes no inserts', () => {
  it('is tried one batch at a time, ever less often, and then at full speed at once', async () => {
    const batches = await seal(40);
    let broken = true;
    const write = { ...WRITE, insertsInFlightMax: 4, retryMsMin: 20, retryMsMax: 200 };
    const at = work(() => {
      if (broken) throw full;
    }, { write });
    await addJobs(batches);
    await eventually(async () => (await at.paused()) === 1, 'it pauses');
    await eventually(() => at.seen.running === 0, 'those that ran have ended');
    const tries = at.seen.tries;
    at.seen.most = 0;
    await sleep(1_000);
    // At least 20 ms lie between two trials, and soon 110 on average.
    expect(at.seen.tries - tries).toBeLessThan(30);
    await eventually(() => at.seen.tries - tries > 1, 'it is tried again and again');
    expect([at.seen.most, await attempts(batches)]).toEqual([1, 0]);
    broken = false;
    await allWritten();
    expect(at.seen.most).toBe(4);
    // But for the one whose trial worked, nobody is further from its place than by those that ran beside it.
    const [tried, ...order] = at.order;
    const wanted = ids(batches).filter((id) => id !== tried);
    const places = wanted.map((id, place) => Math.abs(order.indexOf(id) - place));
    expect(Math.max(...places)).toBeLessThanOrEqual(6);
  });

  it('is tried with another table each time: one broken table does not keep the others back', async () => {
    const broken = await seal(3, 'otel_logs');
    const well = await seal(3);
    const at = work(({ table }) => {
      if (table === 'otel_logs') throw full;
    });
    await addJobs([...broken, ...well]);
    await eventually(async () => (await waiting()) === 3, 'the others are written');
    expect([...at.order].sort()).toEqual(ids(well).sort());
  });

  it('is not doubted for one batch that fails whatever the others do', async () => {
    const [poor, ...others] = await seal(20);
    const at = work(({ id }) => {
      if (id === poor?.id) throw new Fault('MEMORY_LIMIT_EXCEEDED', 'here', 'made up');
    });
    await addJobs([poor as SealedBatch, ...others]);
    await eventually(async () => (await waiting()) === 1, 'the others are written');
    expect(at.order).toEqual(ids(others));
    await eventually(async () => (await at.paused()) === 0, 'the pause is over');
    // Nor later on, when it fails again and again and there is little else.
    for (let later = 0; later < 3; later++) {
      await addJobs(await seal(1));
      await eventually(async () => (await waiting()) === 1, 'what comes later is written');
    }
  });

  it('with one broken table writes the others soon, however rare they are', async () => {
    const at = work(({ table }) => {
      if (table === 'otel_logs') throw parts;
    }, { write: { ...ONE, retryMsMin: 60_000, retryMsMax: 60_000 } });
    await addJobs(await seal(70, 'otel_logs'));
    await sleep(2_500);
    await addJobs(await seal(3, 'otel_logs'));
    await eventually(async () => (await at.paused()) === 1, 'it pauses');
    for (let later = 0; later < 2; later++) {
      await addJobs(await seal(1));
      await eventually(async () => (await waiting()) === 73, 'what comes later is written');
    }
  });

  it('with too many parts in one table goes on with the others, without a pause', async () => {
    const broken = await seal(10, 'otel_logs');
    const well = await seal(10);
    let pauses = 0;
    let [workedAtMs, quietMsMost] = [performance.now(), 0];
    const at = work(async ({ table }) => {
      pauses += (await at.paused()) ?? 0;
      quietMsMost = Math.max(quietMsMost, performance.now() - workedAtMs);
      if (table === 'otel_logs') throw parts;
      workedAtMs = performance.now();
    }, { write: { ...ONE, retryMsMin: 100, retryMsMax: 100 } });
    await addJobs([...broken, ...well]);
    await eventually(async () => (await waiting()) === 10, 'the others are written');
    // Where nothing has worked for 2 s a pause is right, also if the machine stood still.
    if (quietMsMost < 1_500) expect(pauses).toBe(0);
  });

  it('with too many parts in all that is written pauses', async () => {
    let broken = true;
    const at = work(() => {
      if (broken) throw parts;
    }, { write: { ...ONE, retryMsMin: 100, retryMsMax: 400 } });
    await addJobs(await seal(30));
    await eventually(async () => (await at.paused()) === 1, 'it pauses');
    const tries = at.seen.tries;
    await sleep(1_000);
    expect(at.seen.tries - tries).toBeLessThan(10);
    broken = false;
    await allWritten();
    expect(await at.paused()).toBe(0);
  });

  it.each([
    ['a fault of Redis', new Fault('redis_unavailable', 'here', 'made up')],
    ['a batch that another version made', new Fault('batch_unreadable', 'elsewhere', 'made up')],
    ['our own mistake', new TypeError('made up')],
  ])('is not doubted for %s', async (_, error) => {
    let failures = 6;
    let pauses = 0;
    const at = work(async () => {
      pauses += (await at.paused()) ?? 0;
      if (failures-- > 0) throw error;
    });
    await addJobs(await seal(4));
    await allWritten();
    expect(pauses).toBe(0);
  });
});

describe('a writer that stops', () => {
  it('hands its batches back to the front', async () => {
    const batches = await seal(5);
    const stopping = work(async () => {
      await sleep(50);
      throw new Fault('stopping', 'here', 'made up');
    });
    await addJobs(batches);
    await eventually(() => stopping.seen.tries > 0, 'it has one');
    await stopping.worker.close(5_000);
    expect(await attempts(batches)).toBe(0);
    const other = work(() => {});
    await allWritten();
    expect(other.order).toEqual(ids(batches));
  });
});

describe('fresh batches', () => {
  const batch = (id: string, ageMs: number, table: Table = 'otel_traces'): SealedBatch => ({
    id, shard: 0, table, layout: 'z1', rows: 1, bytes: 1, fragments: 1, sealedAtMs: Date.now() - ageMs, newestAtMs: 0,
  });

  it.each([
    [0, 'jjjjjjjjj'],
    [1, 'fjfjfjfjfjfjfjfjfj'],
    [2, 'jfjfjfjfjfjfjfjfj'],
    [4, 'jjjfjjjfjjjfj'.slice(0, 11)],
    [10, 'jjjjjjjjj'],
  ])('have every %i. insert while there is backlog', (freshEvery, wanted) => {
    const turns = new FreshTurns({ freshEvery, backlogMs: 1_000 });
    let inserts = '';
    for (let job = 0; job < 9; job++) inserts += turns.isDue(batch('b', 60_000)) ? 'fj' : 'j';
    expect(inserts).toBe(wanted);
  });

  it('are none where jobs are fresh themselves', () => {
    const turns = new FreshTurns({ freshEvery: 1, backlogMs: 60_000 });
    for (let job = 0; job < 9; job++) expect(turns.isDue(batch('b', 1_000))).toBe(false);
  });

  it('have their turns table by table, the newest of each; backlog has none', () => {
    const turns = new FreshTurns({ freshEvery: 1, backlogMs: 10_000 });
    const newest = [batch('t1', 0), batch('t2', 1), batch('l1', 2, 'otel_logs'), batch('old', 60_000, 'otel_metrics_sum')];
    const chosen = Array.from({ length: 4 }, () => turns.choose(newest)?.id);
    expect(chosen).toEqual(['t1', 'l1', 't1', 'l1']);
    expect(turns.choose(newest.slice(3))).toBeUndefined();
    expect(turns.choose([])).toBeUndefined();
  });

  /** The same batch, as if it had been sealed an hour ago. */
  async function anHourOld({ sealedAtMs, ...rest }: SealedBatch): Promise<SealedBatch> {
    const old = { ...rest, sealedAtMs: sealedAtMs - 3_600_000 };
    const text = String(await redis.command(['HGET', '{s0}:meta', rest.id]));
    const aged = text.replaceAll(String(sealedAtMs), String(old.sealedAtMs));
    await redis.command(['HSET', '{s0}:meta', rest.id, aged]);
    await redis.command(['ZADD', '{s0}:sealed', old.sealedAtMs, rest.id]);
    return old;
  }

  it('are written in the middle of a backlog, each once', async () => {
    const old = await Promise.all((await seal(40)).map(anHourOld));
    const fresh: SealedBatch[] = [];
    const at = work(async () => {
      if (at.order.length === 10) {
        const [newest] = await seal(1);
        if (newest !== undefined) fresh.push(newest);
        await addJobs(fresh);
      }
    }, { write: { ...ONE, backlogMs: 600_000, freshEvery: 4 } });
    await addJobs(old);
    await allWritten();
    const place = at.order.indexOf(fresh[0]?.id ?? '');
    // After the insert during which it was sealed, and at most four more.
    expect(place).toBeGreaterThan(10);
    expect(place).toBeLessThanOrEqual(15);
    expect(at.order.filter((id) => id !== fresh[0]?.id)).toEqual(ids(old));
    const { traces } = (await store.counts(0)).items;
    expect(traces).toMatchObject({ accepted: 41, written: 41, waiting: 0 });
  });
});

describe('the sweep of a large backlog', () => {
  it('looks at so many batches a round, and at all of them in turns', async () => {
    const batches = await Promise.all(Array.from({ length: 60 }, () => seal(100)));
    const orphan = (await seal(1))[0] as SealedBatch;
    await addJobs(batches.flat());
    let pages = 0;
    const connection = connectRedis(server.settings, silent);
    const jobs = new JobQueue({ redis: connection, shard: 0, logger: silent });
    endings.push(async () => {
      await jobs.close(1_000);
      connection.disconnect();
    });
    const counting = {
      sealDue: (shard: number) => store.sealDue(shard),
      orphans: (...args: Parameters<BatchStore['orphans']>) => {
        pages += 1;
        return store.orphans(...args);
      },
    };
    const write = { ...WRITE, sweepMs: 1 };
    const sweep = new Sweep({ write, shard: 0, store: counting, jobs, instruments: createInstruments(), logger: silent });
    await sleep(5);
    const rounds: [number, number][] = [];
    for (let round = 0; round < 3; round++) {
      pages = 0;
      rounds.push([await sweep.sweep(), pages]);
    }
    expect(rounds).toEqual([[0, 5], [1, 2], [0, 5]]);
    expect(await redis.command(['EXISTS', `{s0}:insert:${orphan.id}`])).toBe(1);
  });
});
