/**
 * What the chaos tests drive: the product's own queue, routing and writer in this process, wired as in the
 * program but for the small tables of rows.ts.
 */
import { Lifecycle } from '../../src/app/lifecycle.ts';
import { createEyes } from '../../src/app/eyes.ts';
import { RoleRouting, localTable } from '../../src/app/routing.ts';
import { PerShard } from '../../src/app/shards.ts';
import { createClickHouse } from '../../src/clickhouse/client.ts';
import { loadSettings } from '../../src/config/load.ts';
import type { Settings } from '../../src/config/settings.ts';
import { type Instruments, createInstruments } from '../../src/metrics/instruments.ts';
import type { SealedBatch } from '../../src/model/batch.ts';
import { BatchStore } from '../../src/queue/batch-store.ts';
import { GroupCommit } from '../../src/queue/commit.ts';
import { DeadLetters } from '../../src/queue/dead-letters.ts';
import { JobQueue, JobWorker } from '../../src/queue/jobs.ts';
import { RoutingStore } from '../../src/queue/routing.ts';
import { Sealer } from '../../src/queue/sealer.ts';
import { Sweep } from '../../src/queue/sweep.ts';
import { connectRedis, connectRedisForWorker } from '../../src/redis/connection.ts';
import { Writer } from '../../src/write/writer.ts';
import { plainCompressor } from '../queue/support.ts';
import type { FarmHost } from '../support/farm.ts';
import { silent } from '../support/services.ts';
import { liveOf } from '../support/live.ts';
import { COLUMNS, NumberedBlocks, decode } from './rows.ts';

const PACE = {
  SLUICE_CLICKHOUSE_WATCH_MS: '500',
  SLUICE_CLICKHOUSE_HEALTH_CHECK_MS: '500',
  SLUICE_CLICKHOUSE_REPLICA_RETURN_MS: '1000',
  SLUICE_CLICKHOUSE_INSERT_TIMEOUT_MS: '6000',
  SLUICE_BATCH_AGE_MS_MAX: '250',
  // 18.16 takes one insert with a quorum at a time.
  SLUICE_WRITE_INSERTS_IN_FLIGHT_MAX: '1',
  SLUICE_WRITE_RETRY_MS_MIN: '100',
  SLUICE_WRITE_RETRY_MS_MAX: '1000',
  SLUICE_WRITE_SWEEP_MS: '500',
  // Every request is to be taken: a machine that stands still for seconds is no Redis that is away.
  SLUICE_REDIS_TIMEOUT_MS: '30000',
};

export interface Pipeline {
  readonly routing: RoleRouting;
  readonly acknowledged: ReadonlySet<number>;
  /** In the order in which their batches were finished: every replica that takes part has them. */
  readonly finished: readonly number[];
  /** The highest Id that was ever given out. */
  drawn(): number;
  drawnOf(shard: number): number;
  finishedOf(shard: number): number;
  send(rows: number): Promise<void>;
  /** 1, 0, or undefined before it was asked. */
  isUp(host: FarmHost): Promise<number | undefined>;
  /** Of the books, all shards. */
  count(of: 'waiting' | 'dead' | 'accepted'): Promise<number>;
  stop(): Promise<void>;
}

/** Resolves when the shards are known and batches are being written. */
export async function startPipeline(environment: Readonly<Record<string, string>>): Promise<Pipeline> {
  const { settings } = loadSettings({ ...environment, ...PACE });
  const lifecycle = new Lifecycle(silent, 10_000);
  const instruments = createInstruments();
  const store = new BatchStore({ ...settings, logger: silent });
  lifecycle.add('Redis', async () => store.close());
  await store.connect();
  const routing = new RoleRouting({
    store: new RoutingStore(store.redis),
    ...settings.clickhouse,
    ...createEyes('writer', { settings, live: liveOf(settings), instruments, logger: silent, lifecycle }),
    stopped: () => lifecycle.stopping,
    logger: silent,
    readEveryMs: 100,
  });
  lifecycle.add('routing', async () => routing.stop());
  await routing.first();
  const parts = { settings, lifecycle, instruments, store, routing };
  const redis = connectRedis(settings.redis, silent);
  const jobs = new PerShard((shard) => new JobQueue({ redis, shard, logger: silent }));
  lifecycle.add('job queues', async (msMax) => {
    await Promise.all(jobs.all.map((queue) => queue.close(msMax)));
    redis.disconnect();
  });
  const finished: number[] = [];
  const finishedOf: number[] = [];
  startWriting(parts, jobs, (shard, ids) => {
    finishedOf[shard] = (finishedOf[shard] ?? 0) + ids.length;
    finished.push(...ids);
  });
  const { blocks, commit } = startCommit(parts, jobs);
  routing.start();
  const acknowledged = new Set<number>();
  return {
    routing,
    acknowledged,
    finished,
    drawn: () => blocks.drawn,
    drawnOf: (shard) => blocks.drawnOf[shard] ?? 0,
    finishedOf: (shard) => finishedOf[shard] ?? 0,
    async send(rows) {
      const first = blocks.drawn + 1;
      await commit.submit(Buffer.from(String(rows)));
      for (let id = first; id < first + rows; id++) acknowledged.add(id);
    },
    async isUp({ name }) {
      const { values } = await instruments.replicaUp.get();
      return values.find(({ labels }) => labels.replica === name)?.value;
    },
    async count(of) {
      const shards = [...(routing.current?.shards.keys() ?? [])];
      const counts = await Promise.all(shards.map((shard) => store.counts(shard)));
      return counts.reduce((sum, { items }) => sum + items.logs[of], 0);
    },
    stop: async () => {
      await lifecycle.stop('the test is over');
    },
  };
}

interface Parts {
  readonly settings: Settings;
  readonly lifecycle: Lifecycle;
  readonly instruments: Instruments;
  readonly store: BatchStore;
  readonly routing: RoleRouting;
}

/** As in src/app/writer.ts, with other columns, and with what was finished told. */
function startWriting(
  { settings, lifecycle, instruments, store, routing }: Parts,
  jobs: PerShard<JobQueue>,
  finished: (shard: number, ids: readonly number[]) => void,
): void {
  const { clickhouse, write } = settings;
  const { redis: client } = store;
  const { deadLetters: bounds } = settings;
  const deadLetters = new DeadLetters({ redis: client, deadLetters: bounds, instruments, logger: silent });
  const writer = new Writer({
    ...clickhouse,
    topology: () => routing.topology,
    source: store,
    deadLetters,
    connect: (url, connectionsMax) => createClickHouse(url, clickhouse, silent, connectionsMax),
    columns: COLUMNS,
    tableName: (table) => localTable(table, clickhouse.cluster),
    instruments,
    logger: silent,
  });
  const handle = async (batch: SealedBatch) => {
    const chunks: Uint8Array[] = [];
    for await (const chunk of store.fragments(batch)) chunks.push(chunk);
    if ((await writer.write(batch)) === 'written') finished(batch.shard, decode(Buffer.concat(chunks)));
  };
  const redis = connectRedisForWorker(settings.redis, silent);
  const workers = new PerShard(
    (shard) => new JobWorker({ redis, write, shard, store, handle, logger: silent }),
  );
  const sweeps = new PerShard((shard) => {
    const sweep = new Sweep({ write, shard, store, jobs: jobs.of(shard), instruments, logger: silent });
    sweep.start();
    return sweep;
  });
  routing.onChange(({ shards }) => {
    workers.grow(shards.length);
    sweeps.grow(shards.length);
  });
  lifecycle.add('inserts', async (msMax) => {
    await Promise.all([...workers.all.map((worker) => worker.close(msMax)), writer.stop(msMax / 2)]);
    redis.disconnect();
  });
  lifecycle.add('sweeps', async () => {
    await Promise.all(sweeps.all.map((sweep) => sweep.stop()));
  });
}

/** As in src/app/gateway.ts, for one signal. */
function startCommit({ settings, lifecycle, instruments, store, routing }: Parts, jobs: PerShard<JobQueue>) {
  const { ageMsMax } = settings.batch;
  const sealers = new PerShard((shard) => {
    const onSealed = (batches: readonly SealedBatch[]) => jobs.of(shard).offer(batches);
    return new Sealer({ shard, ageMsMax, store, onSealed, instruments, logger: silent });
  });
  const blocks = new NumberedBlocks();
  const commit = new GroupCommit({
    signal: 'logs',
    blocks,
    spareBlocks: async () => new NumberedBlocks(),
    compressor: plainCompressor,
    store,
    instruments,
    logger: silent,
    onOvertaken: () => routing.hurry(),
    onStored: (shard, result) => sealers.of(shard).stored(result),
    fragmentBytesMax: 1_000_000,
  });
  routing.onChange(({ generation, shards }) =>
    commit.route({ generation, weights: shards.map(({ weight }) => weight) }),
  );
  lifecycle.add('sealers', async () => {
    for (const sealer of sealers.all) sealer.stop();
  });
  return { blocks, commit };
}
