// Goal: sluice's own history on a cluster of current servers without replication: every shard gets the local
// tables, their Distributed faces and the view, and rows that go in on one are seen through the other.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { hasDifferences } from '../../src/migrate/run.ts';
import { type Shards, startShards } from '../support/shards.ts';
import { migratorOf } from './fixture.ts';

let shards: Shards;
beforeAll(async () => {
  shards = await startShards(2);
});
afterAll(() => shards.stop());

const ENVIRONMENT = {
  SLUICE_RETENTION_DAYS_TRACES: '0',
  SLUICE_RETENTION_DAYS_LOGS: '7',
  SLUICE_RETENTION_DAYS_METRICS: '0',
};

async function enginesOn(index: number): Promise<Record<string, string>> {
  const rows = await shards.servers[index]?.rows<{ name: string; engine: string }>(
    "SELECT name, engine FROM system.tables WHERE database = 'otel' ORDER BY name",
  );
  return Object.fromEntries((rows ?? []).map(({ name, engine }) => [name, engine]));
}

test('plan, apply, nothing left to do, and a row through either host', async () => {
  const migrator = migratorOf(shards, ENVIRONMENT);
  const plans = await migrator.plan();
  expect(plans).toHaveLength(2);
  for (const { refusals, pending } of plans) {
    expect(refusals).toEqual([]);
    expect(pending.flatMap(({ statements }) => statements).every(({ role }) => role === 'run')).toBe(true);
  }
  const kinds = plans[0]?.pending.flatMap(({ statements }) => statements.map(({ kind }) => kind)) ?? [];
  expect(kinds).toContain('distributed');

  await migrator.apply();
  const [one, other] = [await enginesOn(0), await enginesOn(1)];
  expect(other).toEqual(one);
  expect(one).toMatchObject({
    otel_traces: 'Distributed',
    otel_traces_local: 'MergeTree',
    otel_traces_trace_id_ts_mv: 'MaterializedView',
    otel_logs: 'Distributed',
    otel_metrics_sum_local: 'MergeTree',
    sluice_migrations: 'MergeTree',
  });
  expect(hasDifferences(await migrator.plan())).toBe(false);
  expect(await migrator.apply()).toMatchObject([{ applied: [] }, { applied: [] }]);

  await shards.servers[0]?.query(
    "INSERT INTO otel.otel_logs_local (Timestamp, Body) VALUES (now64(9), 'here')",
  );
  expect(await shards.servers[1]?.query('SELECT Body FROM otel.otel_logs')).toBe('here\n');
});

test('another retention reaches every shard', async () => {
  const migrator = migratorOf(shards, { ...ENVIRONMENT, SLUICE_RETENTION_DAYS_LOGS: '9' });
  const plans = await migrator.plan();
  expect(plans.map(({ ttlChanges }) => ttlChanges.map(({ table }) => table))).toEqual([
    ['otel_logs_local'],
    ['otel_logs_local'],
  ]);
  await migrator.apply();
  for (const server of shards.servers) {
    expect(await server.query('SHOW CREATE TABLE otel.otel_logs_local')).toContain('toIntervalDay(9)');
  }
  expect(hasDifferences(await migrator.plan())).toBe(false);
});

test('the queue of the cluster, which this one has not, is refused in the words of the server', async () => {
  const migrator = migratorOf(shards, {
    ...ENVIRONMENT,
    SLUICE_CLICKHOUSE_DATABASE: 'queued',
    SLUICE_MIGRATIONS_MODE: 'on-cluster',
    SLUICE_MIGRATIONS_WAIT_MS_MAX: '5000',
  });
  await expect(migrator.apply()).rejects.toThrow(/^0001_traces\.sql, step 1 of \d+ on .*not done on: /s);
});
