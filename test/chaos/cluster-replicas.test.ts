/**
 * Goal: on 2 shards x 2 replicas, from nothing: the program makes the tables, load comes in without a pause,
 * one replica is killed and replaced by an empty one while its shard goes on taking rows, a third shard is
 * added, and all the while a reader of the Distributed table sees every finished row once; in the end every
 * acknowledged row is found exactly once, on every host and on both replicas of its shard.
 *
 * On ClickHouse 18.16 and ZooKeeper, so with a small schema of old types under the names of the real tables.
 * With the default quorum: both replicas have what is finished, unless one of them is away. Without a quorum
 * what the killed one took last would be lost with its disk, and this test would fail.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type FarmHost, useFarm } from '../support/farm.ts';
import { run } from '../support/program.ts';
import { type TestRedis, eventually, makeTempDir, removeTempDir, startRedis } from '../support/services.ts';
import { writeMigrations } from '../migrate/fixture.ts';
import { Load, Reader } from './clients.ts';
import { type Pipeline, startPipeline } from './pipeline.ts';
import { KEY, migrations } from './rows.ts';

const CLUSTER_MS_MAX = 60_000;
const farm = useFarm();
let redis: TestRedis;
let dir = '';
let added: FarmHost[] = [];
let environment: Record<string, string> = {};
let pipeline: Pipeline;
let load: Load;
let reader: Reader;

beforeAll(async () => {
  redis = await startRedis();
  dir = makeTempDir();
  writeMigrations(dir, migrations());
  // Not part of anything yet; but where they will be reached has to be said from the start.
  added = [await farm.addHost(3, 1), await farm.addHost(3, 2)];
  const addresses = added.map(({ tcpPort, url }) => `127.0.0.1:${tcpPort}=${url}`);
  environment = {
    SLUICE_REDIS_URL: redis.url,
    SLUICE_CLICKHOUSE_CLUSTER: farm.name,
    SLUICE_CLICKHOUSE_URL: old()
      .map(({ url }) => url)
      .join(','),
    SLUICE_CLICKHOUSE_ADDRESSES: addresses.join(','),
    SLUICE_CLICKHOUSE_EXPECT_REPLICAS: '2',
    SLUICE_MIGRATIONS_DIR: dir,
    SLUICE_MIGRATIONS_WAIT_MS_MAX: '20000',
  };
});
afterAll(async () => {
  await load?.stop();
  await reader?.stop();
  await pipeline?.stop();
  await redis?.stop();
  removeTempDir(dir);
});

const old = () => farm.hosts.filter(({ shard }) => shard < 3);

async function sluice(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(args, environment);
  expect({ args, code, stderr: code === 0 ? '' : stderr, stdout: code === 0 ? '' : stdout }).toEqual({
    args,
    code: 0,
    stderr: '',
    stdout: '',
  });
  return stdout;
}

/** Again where it refuses: a Keeper that a busy machine has kept from answering is back by itself. */
async function repair(): Promise<void> {
  const done = async () => (await run(['migrate', 'repair'], environment)).code === 0;
  await eventually('it is repaired', done, CLUSTER_MS_MAX);
}

/** Ids of the local table, and of the Distributed one. */
const idsOf = (host: FarmHost, table: string) =>
  host.query(`SELECT Id FROM otel.${table} ORDER BY Id`).then((text) => text.trim().split('\n').map(Number));

const weights = () => pipeline.routing.current?.shards.map(({ weight }) => weight).join(' ');

/** Takes part in the quorum again, and has what was inserted without it. */
async function isWhole(host: FarmHost, other: FarmHost): Promise<void> {
  const shard = host.shard - 1;
  await eventually('it takes inserts', () => pipeline.isUp(host).then((up) => up === 1), CLUSTER_MS_MAX);
  // Batches of a shard are written one at a time: what began before it took part is finished by then.
  const before = pipeline.finishedOf(shard);
  await eventually('more is finished', () => pipeline.finishedOf(shard) > before + 100, CLUSTER_MS_MAX);
  const wanted = await idsOf(other, 'otel_logs_local');
  await eventually(
    'it has what the other has',
    async () => {
      const found = new Set(await idsOf(host, 'otel_logs_local'));
      return wanted.every((id) => found.has(id));
    },
    CLUSTER_MS_MAX,
  );
}

test('from nothing: the cluster is checked, the tables are made, and rows come in', async () => {
  expect(await sluice('topology', 'check')).toContain('no faults: cluster "events", 2 shards x 2 replicas');
  await sluice('migrate', 'apply');
  expect((await sluice('migrate', 'verify')).match(/as declared/g)).toHaveLength(4);
  pipeline = await startPipeline(environment);
  expect(weights()).toBe('1 1');
  load = new Load(pipeline);
  reader = new Reader(pipeline, old());
  await eventually(
    'rows of both shards are finished',
    () => [0, 1].every((shard) => pipeline.finishedOf(shard) > 100),
    CLUSTER_MS_MAX,
  );
  await reader.looksMore(3);
});

test('a replica is killed, and an empty one takes its place', async () => {
  const lost = farm.host(1, 2);
  reader.leave(lost);
  await lost.stop('SIGKILL');
  lost.wipe();
  await eventually('it is left out', () => pipeline.isUp(lost).then((up) => up === 0), CLUSTER_MS_MAX);
  const before = [pipeline.finishedOf(0), pipeline.finishedOf(1)];
  const acknowledged = pipeline.acknowledged.size;
  await eventually(
    'both shards go on without it',
    () => [0, 1].every((shard) => pipeline.finishedOf(shard) > (before[shard] ?? 0) + 200),
    CLUSTER_MS_MAX,
  );
  expect(pipeline.acknowledged.size).toBeGreaterThan(acknowledged + 100);
  await reader.looksMore(3);
  // Until it has fetched everything, ClickHouse may ask it for a query all the same: docs/clusters.md.
  reader.lenient = true;
  await lost.start();
  await repair();
  await isWhole(lost, farm.host(1, 1));
  reader.lenient = false;
  reader.join(lost);
  await reader.looksMore(3);
}, 180_000);

test('a shard is added: it gets its tables first, and then its part of the rows', async () => {
  const members = [1, 2, 3].map((shard) =>
    farm.hosts
      .filter((host) => host.shard === shard)
      .map(({ tcpPort }) => ({ host: '127.0.0.1', port: tcpPort })),
  );
  for (const host of farm.hosts) host.beliefs.shards = members;
  for (const host of old()) host.believe();
  await Promise.all(added.map((host) => host.start()));
  await eventually('the shard is known, without rows', () => weights() === '1 1 0', CLUSTER_MS_MAX);
  const before = pipeline.finishedOf(0);
  await eventually('the others go on', () => pipeline.finishedOf(0) > before + 100, CLUSTER_MS_MAX);
  expect(pipeline.drawnOf(2)).toBe(0);
  // It gets its weight, and rows, when one of its replicas has the tables.
  reader.lenient = true;
  await repair();
  await eventually(
    'it takes rows',
    () => weights() === '1 1 1' && pipeline.finishedOf(2) > 200,
    CLUSTER_MS_MAX,
  );
  await isWhole(farm.host(3, 1), farm.host(3, 2));
  await isWhole(farm.host(3, 2), farm.host(3, 1));
  reader.lenient = false;
  for (const host of added) reader.join(host);
  await reader.looksMore(6);
  expect((await sluice('migrate', 'verify')).match(/as declared/g)).toHaveLength(6);
}, 180_000);

test('every acknowledged row is found exactly once, on every host and on both replicas', async () => {
  await load.stop();
  await eventually(
    'everything is written',
    async () => (await pipeline.count('waiting')) === 0,
    CLUSTER_MS_MAX,
  );
  await reader.stop();
  expect(await pipeline.count('dead')).toBe(0);
  const wanted = [...pipeline.acknowledged].sort((a, b) => a - b);
  expect(wanted.length).toBeGreaterThan(1_000);
  for (const host of farm.hosts) expect(await idsOf(host, 'otel_logs'), host.name).toEqual(wanted);
  const shards: number[][] = [];
  for (const shard of [1, 2, 3]) {
    const replicas = [farm.host(shard, 1), farm.host(shard, 2)];
    const [one = [], other] = await Promise.all(replicas.map((host) => idsOf(host, 'otel_logs_local')));
    expect(other).toEqual(one);
    shards.push(one);
  }
  // Which shard it is, the Distributed table's own key says too.
  const strangers = `SELECT countIf(${KEY} % 3 != 2) FROM otel.otel_logs_local`;
  expect(await farm.host(3, 1).query(strangers)).toBe('0\n');
  expect(shards.flat().sort((a, b) => a - b)).toEqual(wanted);
  expect(reader.mistakes).toEqual([]);
});
