/**
 * The writer, from the sink back: ClickHouse, inserts, jobs, and the sweep that finds batches without a job.
 * Start reading here: it knows nothing of gateways but what they left in Redis.
 */
import { createClickHouse } from '../clickhouse/client.ts';
import type { SealedBatch } from '../model/batch.ts';
import type { BatchStore } from '../queue/batch-store.ts';
import { type JobQueue, JobWorker } from '../queue/jobs.ts';
import { Sweep } from '../queue/sweep.ts';
import { oneShard } from '../topology/topology.ts';
import { COLUMNS } from '../transcode/tables.ts';
import { Writer } from '../write/writer.ts';
import type { RoleContext } from './roles.ts';
import { SHARD } from './shard.ts';

/** Takes jobs from now on. ClickHouse may be away: batches wait for it. */
export function startWriter(context: RoleContext, store: BatchStore, jobs: JobQueue): void {
  const { settings, instruments, logger, lifecycle } = context;
  const { clickhouse } = settings;
  const writer = new Writer({
    topology: oneShard(clickhouse.urls),
    source: store,
    connect: (replica) => createClickHouse(replica.url, clickhouse, logger),
    database: clickhouse.database,
    columns: COLUMNS,
    insertTimeoutMs: clickhouse.insertTimeoutMs,
    partitionsPerInsertMax: clickhouse.partitionsPerInsertMax,
    instruments,
    logger,
  });
  const handle = (batch: SealedBatch) => writer.write(batch);
  const worker = new JobWorker({ ...settings, shard: SHARD, store, handle, logger });
  // Together: jobs whose inserts are broken off after half of the time are handed back in the other half.
  lifecycle.add('inserts', async (msMax) => {
    await Promise.all([worker.close(msMax), writer.stop(msMax / 2)]);
  });

  const sweep = new Sweep({ ...settings, shard: SHARD, store, jobs, instruments, logger });
  sweep.start();
  lifecycle.add('sweep', () => sweep.stop());
}
