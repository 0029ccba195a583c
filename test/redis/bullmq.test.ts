/**
 * Goal: the job queue goes on over the failover of a master, with sentinels and in a cluster: adding fails
 * fast meanwhile, and afterwards jobs are added and worked on without a restart.
 */
import { Queue, Worker } from 'bullmq';
import { afterEach, expect, it } from 'vitest';
import { type BullConnection, connectRedis, connectRedisForWorker } from '../../src/redis/connection.ts';
import {
  FAILOVER_MS_MAX, type RedisFarm, startRedisCluster, startSentinelTrio,
} from '../support/redis-farm.ts';
import { eventually, silent } from './server.ts';

const endings: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of endings.splice(0).reverse()) await end();
});

interface Jobs {
  add(name: string): Promise<void>;
  readonly done: ReadonlySet<string>;
}

function openJobs(farm: RedisFarm): Jobs {
  const connections: BullConnection[] = [];
  const opened = (connection: BullConnection) => {
    connections.push(connection);
    return connection;
  };
  const queue = new Queue('insert', {
    connection: opened(connectRedis(farm.settings({ timeoutMs: 2_000 }), silent)),
    prefix: '{s0}',
  });
  const done = new Set<string>();
  const worker = new Worker(
    'insert',
    async ({ id }) => {
      done.add(String(id));
    },
    {
      connection: opened(connectRedisForWorker(farm.settings({ timeoutMs: 2_000 }), silent)),
      prefix: '{s0}',
    },
  );
  queue.on('error', () => undefined);
  worker.on('error', () => undefined);
  endings.push(async () => {
    await Promise.all([worker.close(true), queue.close()]);
    for (const connection of connections) connection.disconnect();
  });
  return {
    done,
    async add(name) {
      await queue.add('job', {}, { jobId: name, removeOnComplete: true });
    },
  };
}

const secrets = { password: 'secret', tls: true };

it.each([
  ['sentinels', () => startSentinelTrio({ ...secrets, sentinelPassword: 'guarded' })],
  ['a cluster', () => startRedisCluster(secrets)],
] as const)(
  'works on over a failover with %s',
  async (_, start) => {
    const farm = await start();
    endings.push(() => farm.stop());
    const jobs = openJobs(farm);
    const added: string[] = [];
    const addAll = async (prefix: string) => {
      for (let i = 0; i < 20; i++) {
        const name = `${prefix}-${i}`;
        await eventually(
          () =>
            jobs.add(name).then(
              () => true,
              () => false,
            ),
          `job ${name} is added`,
          FAILOVER_MS_MAX,
        );
        added.push(name);
      }
      await eventually(() => added.every((name) => jobs.done.has(name)), 'all are done', FAILOVER_MS_MAX);
    };
    await addAll('before');
    await (await eventually(() => farm.master(), 'a master')).kill();
    await addAll('after');
    expect(jobs.done.size).toBe(added.length);
  },
  240_000,
);
