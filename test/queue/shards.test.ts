/**
 * Goal: gateway and writer over several shards, wired as in the program, on a real Redis and real ClickHouse
 * servers: rows go to the shard of their trace, a shard that is added gets jobs and a sweep, one that is gone
 * keeps its batches, and accepted = written + waiting + dead over all of them, as the gauges say too.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Books } from '../../src/app/books.ts';
import { type Gateway, startGateway } from '../../src/app/gateway.ts';
import { Lifecycle } from '../../src/app/lifecycle.ts';
import type { RoleContext } from '../../src/app/roles.ts';
import { Placements } from '../../src/app/placements.ts';
import { Pressure } from '../../src/app/pressure.ts';
import { RoleRouting } from '../../src/app/routing.ts';
import { PerShard } from '../../src/app/shards.ts';
import { startWriter } from '../../src/app/writer.ts';
import { loadSettings } from '../../src/config/load.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import { TABLES } from '../../src/model/signal.ts';
import { BatchStore } from '../../src/queue/batch-store.ts';
import { JobQueue } from '../../src/queue/jobs.ts';
import { ResendWindow } from '../../src/queue/resend-window.ts';
import { RoutingStore } from '../../src/queue/routing.ts';
import { connectRedis } from '../../src/redis/connection.ts';
import type { Discovery } from '../../src/topology/discover.ts';
import type { ReachableHost } from '../../src/topology/host-report.ts';
import { COLUMNS } from '../../src/transcode/tables.ts';
import { tracesRequest } from '../support/requests.ts';
import {
  type TestClickHouse, type TestRedis, eventually, freePort, startClickHouse, startRedis,
} from '../support/services.ts';
import { silent } from '../redis/server.ts';
import { liveOf } from '../support/live.ts';
import { fragment, items } from './support.ts';

const CLUSTER = 'main';
const SPANS = 50;

/** The last 8 hex digits of the trace id, as a number. */
const KEY = 'reinterpretAsUInt32(reverse(unhex(right(TraceId, 8))))';

let redis: TestRedis;
let servers: TestClickHouse[];
let role: Awaited<ReturnType<typeof startRole>>;
/** What ClickHouse is at present: weights by shard, and which of them have their tables. */
let weights: number[] = [1, 2];
const tables = new Set<number>();

beforeAll(async () => {
  [redis, servers] = await Promise.all([
    startRedis(),
    Promise.all([0, 1, 2].map(() => startClickHouse({ memoryBytesMax: 2 ** 30 }))),
  ]);
  await Promise.all([createTables(0), createTables(1)]);
  role = await startRole();
});
afterAll(async () => {
  await role?.lifecycle.stop('the test is over');
  await Promise.all([redis, ...(servers ?? [])].map((service) => service?.stop()));
});

async function createTables(shard: number): Promise<void> {
  const server = servers[shard];
  await server?.query('CREATE DATABASE otel');
  for (const table of TABLES) {
    const columns = COLUMNS[table].map(({ name, type }) => `\`${name}\` ${type}`).join(', ');
    await server?.query(
      `CREATE TABLE otel.${table}_local (${columns}) ENGINE = MergeTree ORDER BY tuple() ` +
        'SETTINGS non_replicated_deduplication_window = 1000',
    );
  }
  tables.add(shard);
}

function look(): Discovery {
  const hosts = weights.map((weight, shard) => {
    const [url, host] = [servers[shard]?.url, `127.0.0.1:${servers[shard]?.httpPort}`];
    const place = { host, url, member: { shard, replica: 0 }, address: host, weight };
    const names = tables.has(shard) ? TABLES.map((table) => `${table}_local`) : [];
    return { ...place, reachable: true, tables: names } as unknown as ReachableHost;
  });
  const shards = hosts.map(({ url, host, weight = 0 }, shard) => ({
    shard,
    weight,
    name: `0${shard + 1}`,
    replicas: [{ shard, replica: 0, url, host }],
  }));
  return { topology: { cluster: CLUSTER, shards }, replicated: false, hosts, faults: [] };
}

/** What roles.ts does, but for the eyes. */
async function startRole() {
  const { settings } = loadSettings({
    SLUICE_REDIS_URL: redis.url,
    SLUICE_CLICKHOUSE_CLUSTER: CLUSTER,
    SLUICE_HTTP_ADDR: `127.0.0.1:${await freePort()}`,
    SLUICE_GRPC_ADDR: `127.0.0.1:${await freePort()}`,
    SLUICE_BATCH_AGE_MS_MAX: '50',
    SLUICE_WRITE_SWEEP_MS: '100',
    SLUICE_WRITE_RETRY_MS_MAX: '250',
  });
  const lifecycle = new Lifecycle(silent, 10_000);
  const instruments = createInstruments();
  const context: RoleContext = { settings, live: liveOf(settings), instruments, logger: silent, lifecycle };
  const store = new BatchStore({ ...settings, logger: silent });
  lifecycle.add('Redis', async () => store.close());
  await store.connect();
  const routing = new RoleRouting({
    store: new RoutingStore(store.redis),
    ...settings.clickhouse,
    look,
    publishes: 'always',
    stopped: () => lifecycle.stopping,
    logger: silent,
    readEveryMs: 50,
  });
  lifecycle.add('routing', async () => routing.stop());
  const books = new Books(store, () => routing.current?.shards.length ?? 0, instruments, silent);
  lifecycle.add('books', async () => books.close());
  const live = { settings: () => settings, role: 'all' as const };
  const pressure = new Pressure({ store, books, ...live, instruments, logger: silent });
  await routing.first();
  const connection = connectRedis(settings.redis, silent);
  const jobs = new PerShard((shard) => new JobQueue({ redis: connection, shard, logger: silent }));
  lifecycle.add('job queues', async (msMax) => {
    await Promise.all(jobs.all.map((queue) => queue.close(msMax)));
    connection.disconnect();
  });
  startWriter(context, { store, jobs, routing });
  const placements = new Placements(store, settings.resend);
  const window = new ResendWindow({ redis: store.redis, resend: settings.resend, instruments, logger: silent });
  await window.first();
  const ready = () => true;
  const gateway = await startGateway(context, { store, pressure, jobs, routing, placements, window, ready });
  routing.start();
  return { lifecycle, store, routing, books, gateway, instruments };
}

let requests = 0;

async function send(gateway: Gateway): Promise<void> {
  const answer = await fetch(`http://127.0.0.1:${gateway.httpPort}/v1/traces`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-protobuf' },
    body: tracesRequest(SPANS, requests++),
  });
  expect(answer.status).toBe(200);
  await answer.arrayBuffer();
}

const sendMany = (count: number) => Promise.all(Array.from({ length: count }, () => send(role.gateway)));

/** Rows in each server, and how many of them by the shard that their key falls into. */
async function rowsOf(shard: number): Promise<{ rows: number; own: number }> {
  if (!tables.has(shard)) return { rows: 0, own: 0 };
  const sum = weights.reduce((total, weight) => total + weight, 0);
  const from = weights.slice(0, shard).reduce((total, weight) => total + weight, 0);
  const own = `${KEY} % ${sum} >= ${from} AND ${KEY} % ${sum} < ${from + (weights[shard] ?? 0)}`;
  const sql = `SELECT count() AS rows, countIf(${own}) AS own FROM otel.otel_traces_local`;
  const [row] = (await servers[shard]?.rows<{ rows: string; own: string }>(sql)) ?? [];
  return { rows: Number(row?.rows), own: Number(row?.own) };
}

/** The books over all shards that the routing knows. */
async function books() {
  const count = role.routing.current?.shards.length ?? 0;
  const shards = await Promise.all(Array.from({ length: count }, (_, shard) => role.store.counts(shard)));
  const sum = (of: 'accepted' | 'written' | 'waiting' | 'dead') =>
    shards.reduce((total, { items }) => total + items.traces[of], 0);
  return { accepted: sum('accepted'), written: sum('written'), waiting: sum('waiting'), dead: sum('dead') };
}

const allWritten = () => eventually('everything is written', async () => (await books()).waiting === 0);
const weightsAre = (wanted: string) =>
  eventually(`the weights are ${wanted}`, () =>
    role.routing.current?.shards.map(({ weight }) => weight).join(' ') === wanted);

it('writes every row to the shard that its trace belongs to', async () => {
  await weightsAre('1 2');
  await sendMany(20);
  await allWritten();
  const [first, second] = await Promise.all([rowsOf(0), rowsOf(1)]);
  expect([first.own, second.own]).toEqual([first.rows, second.rows]);
  expect(first.rows + second.rows).toBe(20 * SPANS);
  expect(second.rows).toBeGreaterThan(first.rows);
  expect(await books()).toEqual({ accepted: 20 * SPANS, written: 20 * SPANS, waiting: 0, dead: 0 });
});

it('gives a shard that is added nothing before it has its tables, and then its part, under load', async () => {
  let sending = true;
  const clients = Promise.all([0, 1, 2].map(async () => {
    while (sending) await send(role.gateway);
  }));
  weights = [1, 2, 3];
  await weightsAre('1 2 0');
  await createTables(2);
  await weightsAre('1 2 3');
  await eventually('the new shard has rows', async () => (await rowsOf(2)).rows > 0);
  sending = false;
  await clients;
  await allWritten();
  const found = await Promise.all([0, 1, 2].map(rowsOf));
  expect(found[2]?.own).toBe(found[2]?.rows);
  expect(found.reduce((total, { rows }) => total + rows, 0)).toBe(requests * SPANS);
});

it('sweeps what lies in the new shard without a job, too', async () => {
  // Sealed by the look of the sweep: no gateway knows of it.
  const batch = [fragment(3, 10, 'otel_traces', 2)];
  await role.store.append(2, batch, items('traces', 3));
  await eventually('it is tried, and set aside', async () => (await books()).dead === 3);
  const { accepted, written, waiting, dead } = await books();
  expect([accepted, accepted]).toEqual([requests * SPANS + 3, written + waiting + dead]);
});

it('keeps the batches of a shard that is gone until it is back', async () => {
  weights = [1, 2];
  await weightsAre('1 2 0');
  const before = await books();
  // As from a gateway that has not heard of it yet.
  const sealed = await role.store.append(2, [fragment(4, 10, 'otel_logs', 2)], items('logs', 4));
  expect(sealed.queueBytes).toBeGreaterThan(0);
  await sendMany(5);
  await eventually('the others are written', async () => (await books()).written === before.written + 5 * SPANS);
  expect((await role.store.counts(2)).items.logs).toMatchObject({ waiting: 4, written: 0, dead: 0 });
  expect(role.routing.check().figure).toMatch(/no shard 3 \("03"\) any more/);
  weights = [1, 2, 3];
  await weightsAre('1 2 3');
  const isOver = async () => (await role.store.counts(2)).items.logs.waiting === 0;
  await eventually('it is tried again', isOver);
});

it('shows the sum of the shards, or each of them', async () => {
  const { instruments, books: gauges, store } = role;
  const counts = await Promise.all([0, 1, 2].map((shard) => store.counts(shard)));
  const newest = Math.max(...counts.map(({ items }) => items.traces.newestWrittenAtMs ?? 0));
  // The age of the newest item wherever it is, and nothing that waits.
  await eventually('a fresh reading', async () => {
    await gauges.refresh();
    const ages = (await instruments.freshness.get()).values;
    const age = ages.find(({ labels }) => labels.signal === 'traces')?.value ?? Number.POSITIVE_INFINITY;
    const items = (await instruments.queueItems.get()).values;
    const bound = (await store.counts(0)).nowMs - newest;
    return items.length === 3 && items.every(({ value }) => value === 0) && age * 1000 <= bound;
  });
  const shards = async (of: 'queueBytes' | 'queueOldestAge') =>
    (await instruments[of].get()).values.map(({ labels }) => labels.shard);
  expect(await shards('queueBytes')).toEqual(['0', '1', '2']);
  expect(await shards('queueOldestAge')).toEqual(['0', '1', '2']);
  const dead = counts.reduce((total, { deadBytes }) => total + deadBytes, 0);
  expect([store.queueBytes, dead]).toEqual([20, 20]);
});

it('stops cleanly', async () => {
  expect(await role.lifecycle.stop('the test is over')).toBe(true);
});
