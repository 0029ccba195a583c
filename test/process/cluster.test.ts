/**
 * Goal: a sharded cluster from nothing. The program migrates it, writes to it, and goes on while every server
 * is restarted with a definition that has one shard more; the new shard gets its tables by `repair` and then
 * rows. Every acknowledged span is read exactly once through the Distributed table of any server.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PATIENCE_MS, type Program, environmentFor, run, start } from '../support/program.ts';
import { tracesRequest } from '../support/requests.ts';
import { type TestRedis, eventually, makeTempDir, removeTempDir, startRedis } from '../support/services.ts';
import { type Shards, startShards } from '../support/shards.ts';

const SPANS = 20;
const CLIENTS = 4;
/** Between two requests of a client: the machine shall not be the limit. */
const PAUSE_MS = 5;

const pause = () => new Promise((resolve) => setTimeout(resolve, PAUSE_MS));

async function send(program: Program, body: Uint8Array): Promise<number> {
  const headers = { 'content-type': 'application/x-protobuf' };
  const answer = await fetch(`${program.http}/v1/traces`, { method: 'POST', headers, body });
  await answer.arrayBuffer();
  expect([200, 503]).toContain(answer.status);
  return answer.status;
}

interface Load {
  /** Numbers of the requests that were acknowledged. */
  readonly acknowledged: number[];
  stop(): Promise<void>;
}

/** Clients that send until they are told to stop, each request until it is acknowledged. */
function startLoad(program: Program, numberFrom = 0): Load {
  const acknowledged: number[] = [];
  let stopping = false;
  let next = numberFrom;
  const client = async () => {
    while (!stopping) {
      const number = next++;
      const body = tracesRequest(SPANS, number);
      while ((await send(program, body)) !== 200) await pause();
      acknowledged.push(number);
      await pause();
    }
  };
  const clients = Promise.all(Array.from({ length: CLIENTS }, client));
  return {
    acknowledged,
    async stop() {
      stopping = true;
      await clients;
    },
  };
}

describe('from two shards to three', { timeout: 300_000 }, () => {
  let redis: TestRedis;
  let shards: Shards;
  let environment: Record<string, string>;
  let dataDir: string;

  beforeAll(async () => {
    dataDir = makeTempDir();
    redis = await startRedis();
    shards = await startShards(2, { spare: 1 });
    const [first, second, third] = shards.servers;
    environment = await environmentFor(dataDir, {
      SLUICE_REDIS_URL: redis.url,
      SLUICE_CLICKHOUSE_URL: `${first?.url},${second?.url}`,
      SLUICE_CLICKHOUSE_CLUSTER: shards.name,
      SLUICE_CLICKHOUSE_ADDRESSES: `127.0.0.1:${third?.tcpPort}=${third?.url}`,
      SLUICE_CLICKHOUSE_WATCH_MS: '500',
    });
  });
  afterAll(async () => {
    await shards?.stop();
    await redis?.stop();
    removeTempDir(dataDir);
  });

  const count = async (server: number, table: string) => {
    const rows = await shards.servers[server]?.rows<{ n: string }>(`SELECT count() AS n FROM otel.${table}`);
    return Number(rows?.[0]?.n);
  };

  test('the cluster is found, checked and migrated', async () => {
    expect(await run(['topology', 'check'], environment)).toMatchObject({ code: 0 });
    expect(await run(['migrate', 'plan'], environment)).toMatchObject({ code: 3 });
    const applied = await run(['migrate', 'apply'], environment);
    expect(applied).toMatchObject({ code: 0 });
    const verified = await run(['migrate', 'verify'], environment);
    expect(verified, verified.stdout).toMatchObject({ code: 0 });
    expect(await run(['migrate', 'plan'], environment)).toMatchObject({ code: 0 });
  });

  test('a shard is added under load, and every acknowledged span is there once', async () => {
    const program = await start('all', environment);
    try {
      const load = startLoad(program);
      await eventually('rows on both shards', async () => {
        return (await count(0, 'otel_traces_local')) > 0 && (await count(1, 'otel_traces_local')) > 0;
      }, PATIENCE_MS);
      await shards.define([1, 1, 1]);
      // Nothing goes to the new shard before its tables are there.
      const repaired = await run(['migrate', 'repair'], environment);
      expect(repaired, repaired.stderr).toMatchObject({ code: 0 });
      const onNew = () => count(2, 'otel_traces_local');
      await eventually('rows on the new shard', async () => (await onNew()) > 0, PATIENCE_MS);
      expect(await program.metric('topology_shards')).toBe(3);
      await load.stop();
      const wanted = load.acknowledged.length * SPANS;
      await eventually(`${wanted} spans`, async () => (await count(0, 'otel_traces')) >= wanted, PATIENCE_MS);
      const waiting = () => program.metric('queue_items');
      await eventually('an empty queue', async () => (await waiting()) === 0, PATIENCE_MS);

      for (const server of [0, 1, 2]) expect(await count(server, 'otel_traces')).toBe(wanted);
      const ids = await shards.servers[0]?.rows<{ n: string }>(
        'SELECT uniqExact(SpanId) AS n FROM otel.otel_traces',
      );
      expect(Number(ids?.[0]?.n)).toBe(wanted);
      const written = await program.metric('items_written_total', { signal: 'traces' });
      expect(written).toBe(wanted);
    } finally {
      await program.end();
    }
  });

  test('a trace is found on one shard alone, as its id says', async () => {
    const server = shards.servers[0];
    // One of the newest: an older one lies where it belonged before the shard was added.
    const newest = 'SELECT TraceId FROM otel.otel_traces ORDER BY Timestamp DESC LIMIT 1';
    const [trace] = (await server?.rows<{ TraceId: string }>(newest)) ?? [];
    const found = await server?.query(
      `SELECT count() FROM otel.otel_traces WHERE TraceId = '${trace?.TraceId}' FORMAT TabSeparated`,
      { optimize_skip_unused_shards: '1', force_optimize_skip_unused_shards: '2' },
    );
    expect(Number(found)).toBe(1);
    const range = await server?.rows<{ n: string }>(
      `SELECT count() AS n FROM otel.otel_traces_trace_id_ts WHERE TraceId = '${trace?.TraceId}'`,
    );
    expect(Number(range?.[0]?.n)).toBe(1);
  });

  test('a gateway alone needs no ClickHouse once the routing is known', async () => {
    const alone = await environmentFor(dataDir, {
      SLUICE_REDIS_URL: redis.url,
      SLUICE_CLICKHOUSE_URL: 'http://127.0.0.1:1',
      SLUICE_CLICKHOUSE_CLUSTER: shards.name,
    });
    const gateway = await start('gateway', alone);
    try {
      expect(await send(gateway, tracesRequest(SPANS, 90_000_000))).toBe(200);
    } finally {
      await gateway.end();
    }
    const before = await count(0, 'otel_traces');
    const writer = await start('writer', environment);
    try {
      const stored = async () => (await count(0, 'otel_traces')) - before;
      await eventually('its spans', async () => (await stored()) === SPANS, PATIENCE_MS);
    } finally {
      await writer.end();
    }
  });
});
