/**
 * Goal: on a cluster the Distributed tables are what readers of a single server know: every row once, with
 * its aliases and materialized columns; the sharding keys place rows as the gateway does and let a search by
 * trace id ask one shard; joins work in the modes that docs/migrations.md names.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { withMigrations } from '../../src/app/migrate.ts';
import { loadSettings } from '../../src/config/load.ts';
import { hasDifferences, migrateApply, migratePlan } from '../../src/migrate/run.ts';
import { shardOf } from '../../src/topology/route.ts';
import { type Shards, startShards } from '../support/shards.ts';
import { silent } from '../support/services.ts';

const METRICS = ['gauge', 'sum', 'histogram', 'exponential_histogram', 'summary'].map(
  (kind) => `otel_metrics_${kind}`,
);
const TABLES = ['otel_traces', 'otel_traces_trace_id_ts', 'otel_logs', ...METRICS];
const TIME = "'2026-11-20 12:00:00.5'";

/** The whole history, as the migrator brings it to every host that it finds. */
async function applyAll(shards: Shards): Promise<void> {
  const { settings } = loadSettings({
    SLUICE_CLICKHOUSE_URL: shards.urls,
    SLUICE_CLICKHOUSE_CLUSTER: shards.name,
    SLUICE_RETENTION_DAYS_TRACES: '0',
    SLUICE_RETENTION_DAYS_METRICS: '0',
    SLUICE_RETENTION_DAYS_LOGS: '0',
  });
  await withMigrations(settings, '0.0.0', silent, async (context) => {
    await migrateApply(context);
    expect(hasDifferences(await migratePlan(context))).toBe(false);
  });
}

describe.each([
  ['2 shards', [1, 1]],
  ['3 shards of different weights', [1, 3, 2]],
])('%s', (_, weights) => {
  let shards: Shards;
  const first = () => at(0);
  const at = (index: number) => {
    const server = shards.servers[index];
    if (server === undefined) throw new Error(`there is no shard ${index}`);
    return server;
  };
  /** Where a row with this key belongs, by the gateway's rule. */
  const placeOf = (hash: number) =>
    shardOf(
      {
        cluster: 'main',
        shards: weights.map((weight, shard) => ({ shard, weight, name: `0${shard + 1}`, replicas: [] })),
      },
      hash,
    );

  beforeAll(async () => {
    shards = await startShards(weights.length, { weights });
    await applyAll(shards);
  });
  afterAll(async () => {
    await shards.stop();
  });

  test('each table has its face, with the same columns', async () => {
    for (const server of shards.servers) {
      const engines = await server.rows<{ name: string; engine: string }>(
        "SELECT name, engine FROM system.tables WHERE database = 'otel' ORDER BY name",
      );
      expect(Object.fromEntries(engines.map(({ name, engine }) => [name, engine]))).toEqual({
        ...Object.fromEntries(TABLES.map((table) => [table, 'Distributed'])),
        ...Object.fromEntries(TABLES.map((table) => [`${table}_local`, 'MergeTree'])),
        otel_traces_trace_id_ts_mv: 'MaterializedView',
        sluice_migrations: 'MergeTree',
      });
      const columns = (table: string) =>
        server.query(`SELECT name, type, default_kind, default_expression FROM system.columns
          WHERE database = 'otel' AND table = '${table}' ORDER BY position`);
      for (const table of TABLES) expect(await columns(table), table).toBe(await columns(`${table}_local`));
    }
  });

  test('rows of the local tables are seen once, from every host, with aliases and materialized columns', async () => {
    for (const [index, server] of shards.servers.entries()) {
      await server.query(`INSERT INTO otel.otel_traces_local
        (Timestamp, TraceId, SpanAttributes) VALUES (${TIME}, 't${index}', {'SampleRate':'20','k':'v'})`);
      await server.query(`INSERT INTO otel.otel_logs_local (Timestamp, Body, ResourceAttributes) VALUES
        (${TIME}, 'b${index}', {'k8s.pod.name':'p${index}'})`);
      for (const table of METRICS) {
        await server.query(`INSERT INTO otel.${table}_local (TimeUnix, MetricName) VALUES (${TIME}, 'm${index}')`);
      }
    }
    const numbers = [...weights.keys()];
    for (const server of shards.servers) {
      expect(
        await server.rows(`SELECT TraceId, SampleRate, SpanAttributeItems FROM otel.otel_traces
          WHERE length(TraceId) = 2 ORDER BY TraceId`),
      ).toEqual(
        numbers.map((index) => ({
          TraceId: `t${index}`,
          SampleRate: '20',
          SpanAttributeItems: ['SampleRate=20', 'k=v'],
        })),
      );
      expect(await server.rows('SELECT TraceId, Start FROM otel.otel_traces_trace_id_ts ORDER BY TraceId')).toEqual(
        numbers.map((index) => ({ TraceId: `t${index}`, Start: '2026-11-20 12:00:00' })),
      );
      expect(
        await server.rows(`SELECT TimestampTime, \`__otel_materialized_k8s.pod.name\` AS pod,
          ResourceAttributeItems FROM otel.otel_logs WHERE TimestampTime >= '2026-11-20 12:00:00' ORDER BY Body`),
      ).toEqual(
        numbers.map((index) => ({
          TimestampTime: '2026-11-20 12:00:00',
          pod: `p${index}`,
          ResourceAttributeItems: [`k8s.pod.name=p${index}`],
        })),
      );
      for (const table of METRICS) {
        const names = await server.query(`SELECT MetricName FROM otel.${table} ORDER BY MetricName`);
        expect(names.trim().split('\n'), table).toEqual(numbers.map((index) => `m${index}`));
      }
    }
  });

  test('a row that goes in through the face lands where the gateway would put it', async () => {
    await first().query(
      `INSERT INTO otel.otel_traces (Timestamp, TraceId, SpanName)
       SELECT ${TIME}, lower(hex(sipHash128(number))), 'placed' FROM numbers(200)`,
      { distributed_foreground_insert: '1' },
    );
    for (const index of weights.keys()) {
      const ids = await at(index).rows<{ TraceId: string }>(
        `SELECT TraceId FROM otel.otel_traces_local WHERE SpanName = 'placed'`,
      );
      expect(ids.length).toBeGreaterThan(0);
      for (const { TraceId: id } of ids) expect(placeOf(Number.parseInt(id.slice(-8), 16)), id).toBe(index);
    }
    expect(await first().query("SELECT uniqExact(TraceId) FROM otel.otel_traces WHERE SpanName = 'placed'")).toBe(
      '200\n',
    );
  });

  test('every other sharding key takes rows too, also without trace id and resource', async () => {
    const settings = { distributed_foreground_insert: '1' };
    const rows = `SELECT ${TIME}, if(number % 2, lower(hex(sipHash128(number))), ''),
      if(number % 3, map('service.name', toString(number)), map()) FROM numbers(100)`;
    await first().query(
      `INSERT INTO otel.otel_logs (Timestamp, TraceId, ResourceAttributes) ${rows}`,
      settings,
    );
    for (const table of METRICS) {
      await first().query(
        `INSERT INTO otel.${table} (TimeUnix, MetricName, ResourceAttributes) ${rows}`,
        settings,
      );
    }
    const sum = (table: string) =>
      Promise.all(shards.servers.map((server) => server.query(`SELECT count() FROM otel.${table}_local`)));
    for (const table of ['otel_logs', ...METRICS]) {
      const counts = (await sum(table)).map(Number);
      expect(counts.reduce((total, count) => total + count), table).toBe(100 + weights.length);
      expect(Math.min(...counts), table).toBeGreaterThan(1);
    }
  });

  test("a repeated token is stored once, in the local table and in its view's target", async () => {
    const insert = (token: string) =>
      first().query(
        `INSERT INTO otel.otel_traces_local (Timestamp, TraceId, SpanName) VALUES (${TIME}, 'again', 'again')`,
        {
          insert_deduplication_token: token,
          async_insert: '0',
          deduplicate_blocks_in_dependent_materialized_views: '1',
        },
      );
    for (const token of ['a', 'b', 'a', 'b']) await insert(token);
    for (const table of ['otel_traces', 'otel_traces_trace_id_ts']) {
      expect(await first().query(`SELECT count() FROM otel.${table} WHERE TraceId = 'again'`), table).toBe('2\n');
    }
  });

  test('a search by trace id asks one shard', async () => {
    const settings = { optimize_skip_unused_shards: '1', force_optimize_skip_unused_shards: '2' };
    const find = (table: string) =>
      first().query(`SELECT count() FROM otel.${table} WHERE TraceId = 't0'`, settings);
    // Forced: the server refuses a query whose shard it can't tell from the key.
    for (const table of ['otel_traces', 'otel_traces_trace_id_ts']) expect(await find(table)).toMatch(/^[01]\n$/);
    await expect(find('otel_logs')).rejects.toThrow(/UNABLE_TO_SKIP_UNUSED_SHARDS/);
  });

  test.each(['global', 'local'])('a self join works with distributed_product_mode = %s', async (mode) => {
    const join = `SELECT count() FROM otel.otel_traces AS a
      INNER JOIN otel.otel_traces AS b ON a.TraceId = b.TraceId WHERE a.SpanName = 'placed'`;
    await expect(first().query(join, { distributed_product_mode: 'deny' })).rejects.toThrow(/Code: 288/);
    expect(await first().query(join, { distributed_product_mode: mode })).toBe('200\n');
  });
});
