/**
 * The writer, from the sink back: ClickHouse, inserts, jobs, and the sweep that finds batches without a job.
 * Start reading here: it knows nothing of gateways but what they left in Redis.
 */
import { createClickHouse } from '../clickhouse/client.ts';
import type { SealedBatch } from '../model/batch.ts';
import type { BatchStore } from '../queue/batch-store.ts';
import { DeadLetters } from '../queue/dead-letters.ts';
import { type JobQueue, JobWorker } from '../queue/jobs.ts';
import { Sweep } from '../queue/sweep.ts';
import { connectRedisForWorker } from '../redis/connection.ts';
import { COLUMNS } from '../transcode/tables.ts';
import { Writer } from '../write/writer.ts';
import type { RoleContext } from './roles.ts';
import { type RoleRouting, localTable } from './routing.ts';
import { PerShard } from './shards.ts';

export interface WriterParts {
  /** Connected. */
  readonly store: BatchStore;
  readonly jobs: PerShard<JobQueue>;
  /** Known. Its topology says where the batches of each shard go. */
  readonly routing: RoleRouting;
}

/**
 * Takes the jobs of every shard from now on, and of each that is added. ClickHouse may be away: batches wait.
 */
export function startWriter(context: RoleContext, parts: WriterParts): void {
  const { settings, instruments, logger, lifecycle } = context;
  const { store, jobs, routing } = parts;
  const { clickhouse } = settings;
  const { redis: client } = store;
  const { deadLetters: bounds } = settings;
  const deadLetters = new DeadLetters({ redis: client, deadLetters: bounds, instruments, logger });
  const writer = new Writer({
    ...clickhouse,
    topology: () => routing.topology,
    source: store,
    deadLetters,
    connect: (url, connectionsMax) => createClickHouse(url, clickhouse, logger, connectionsMax),
    columns: COLUMNS,
    tableName: (table) => localTable(table, clickhouse.cluster),
    instruments,
    logger,
  });
  const redis = connectRedisForWorker(settings.redis, logger);
  const handle = (batch: SealedBatch) => writer.write(batch);
  const workers = new PerShard((shard) => {
    const reachable = {
      now: () => writer.reachable(shard),
      again: (signal: AbortSignal) => writer.whenReachable(shard, signal),
    };
    const { write } = settings;
    return new JobWorker({ redis, write, shard, store, handle, reachable, instruments, logger });
  });
  const sweeps = new PerShard((shard) => {
    const { write } = settings;
    const sweep = new Sweep({ write, shard, store, jobs: jobs.of(shard), instruments, logger });
    sweep.start();
    return sweep;
  });
  routing.onChange(({ shards }) => {
    workers.grow(shards.length);
    sweeps.grow(shards.length);
  });
  // Together: jobs whose inserts are broken off after half of the time are handed back in the other half.
  lifecycle.add('inserts', async (msMax) => {
    await Promise.all([...workers.all.map((worker) => worker.close(msMax)), writer.stop(msMax / 2)]);
    redis.disconnect();
  });
  lifecycle.add('sweeps', async () => {
    await Promise.all(sweeps.all.map((sweep) => sweep.stop()));
  });
}
