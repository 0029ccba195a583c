/**
 * Goal: the column Tenant is made when its setting is switched on, on new tables and on old ones, on one server
 * and on shards; each row has the tenant of its resource, those from before too; switched off it stays and
 * nobody minds; and plan, apply, status, verify and repair say so.
 */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { MigrateContext } from '../../src/migrate/context.ts';
import { driftOf } from '../../src/migrate/difference.ts';
import { repairHosts } from '../../src/migrate/repair.ts';
import { hasDifferences, migrateApply, migratePlan, migrateStatus } from '../../src/migrate/run.ts';
import { verifyHosts } from '../../src/migrate/verify.ts';
import { withMigrations } from '../../src/app/migrate.ts';
import { loadSettings } from '../../src/config/load.ts';
import { TABLES } from '../../src/model/signal.ts';
import { silent, useClickHouse } from '../support/services.ts';
import { type Shards, startShards } from '../support/shards.ts';
import { useContext } from './fixture.ts';

const clickhouse = useClickHouse();
const contextFor = useContext(clickhouse);
const NAME = 'tenant_column.sql';
const WITH_COLUMN = [...TABLES, 'otel_traces_trace_id_ts'];

const on = (database: string) => contextFor({ database, tenantColumn: true });
const off = (database: string) => contextFor({ database });

/** Names of what is pending, and of the steps that would run. */
async function planned(context: MigrateContext): Promise<[string, number][]> {
  const [plan] = await migratePlan(context);
  return (plan?.pending ?? []).map(({ name, statements }) => [
    name,
    statements.filter(({ role }) => role === 'run').length,
  ]);
}

async function differences(context: MigrateContext): Promise<string[]> {
  const [host] = await verifyHosts(context);
  return (host?.differences ?? []).map(({ kind, table, item, severity }) => `${severity} ${kind} ${table} ${item}`.trim());
}

async function tablesWithColumn(database: string): Promise<string[]> {
  const rows = await clickhouse.rows<{ table: string }>(
    `SELECT table FROM system.columns WHERE database = '${database}' AND name = 'Tenant' AND table LIKE 'otel%' ORDER BY table`,
  );
  return rows.map(({ table }) => table);
}

const insert = (database: string, table: string, tenant: string, trace = '') =>
  `INSERT INTO ${database}.${table} (${table.startsWith('otel_metrics') ? 'TimeUnix' : 'Timestamp'}, ResourceAttributes${
    trace === '' ? '' : ', TraceId'
  }) SELECT '2026-11-20 12:00:00', map('sluice.tenant', '${tenant}')${trace === '' ? '' : `, '${trace}'`}`;

describe('one server', () => {
  test('a fresh one has it with the first apply, a second does nothing', async () => {
    const context = on('fresh');
    expect((await planned(context)).map(([name]) => name)).toContain(NAME);
    const [report] = await migrateApply(context);
    expect(report?.applied.map(({ name }) => name).at(-1)).toBe(NAME);
    expect(await tablesWithColumn('fresh')).toEqual([...WITH_COLUMN, 'otel_traces_trace_id_ts_mv'].sort());
    expect(hasDifferences(await migratePlan(context))).toBe(false);
    expect(await migrateApply(context)).toMatchObject([{ applied: [] }]);
    expect(await differences(context)).toEqual([]);
  });

  test('the row of each table has the tenant of its resource, and so has the time range of a trace', async () => {
    await migrateApply(on('rows'));
    for (const table of TABLES) {
      await clickhouse.query(insert('rows', table, 'acme', table === 'otel_traces' ? 'one trace' : ''));
      const column = 'SELECT Tenant, toTypeName(Tenant) AS type FROM';
      expect(await clickhouse.rows(`${column} rows.${table}`), table).toEqual([
        { Tenant: 'acme', type: 'LowCardinality(String)' },
      ]);
    }
    await clickhouse.query(insert('rows', 'otel_traces', 'umbrella', 'one trace'));
    const ranges = 'SELECT TraceId, Tenant FROM rows.otel_traces_trace_id_ts ORDER BY Tenant';
    expect(await clickhouse.rows(ranges)).toEqual([
      { TraceId: 'one trace', Tenant: 'acme' },
      { TraceId: 'one trace', Tenant: 'umbrella' },
    ]);
  });

  test('switched on later: old rows have what their map says', async () => {
    await migrateApply(off('later'));
    await clickhouse.query(insert('later', 'otel_logs', 'acme'));
    await clickhouse.query(insert('later', 'otel_traces', 'acme', 'old trace'));
    await clickhouse.query("INSERT INTO later.otel_logs (Timestamp) VALUES ('2026-11-20 12:00:00')");
    const context = on('later');
    expect(await planned(context)).toEqual([[NAME, 9]]);
    expect((await migrateStatus(context))[0]?.migrations.at(-1)).toMatchObject({ name: NAME, state: 'pending' });
    const missing = WITH_COLUMN.map((table) => `error missing column later.${table} Tenant`);
    const told = [...missing, 'error view later.otel_traces_trace_id_ts_mv query'];
    expect((await differences(context)).sort()).toEqual(told.sort());
    await migrateApply(context);
    expect(await differences(context)).toEqual([]);
    expect((await migrateStatus(context))[0]?.migrations.map(({ state }) => state)).toEqual(Array(4).fill('applied'));
    await clickhouse.query(insert('later', 'otel_traces', 'acme', 'new trace'));
    expect(await clickhouse.rows('SELECT Tenant FROM later.otel_logs ORDER BY Tenant')).toEqual([
      { Tenant: '' },
      { Tenant: 'acme' },
    ]);
    const ranges = 'SELECT TraceId, Tenant FROM later.otel_traces_trace_id_ts ORDER BY TraceId';
    expect(await clickhouse.rows(ranges)).toEqual([
      { TraceId: 'new trace', Tenant: 'acme' },
      { TraceId: 'old trace', Tenant: '' },
    ]);
  });

  test('switched off again: it stays, and nothing is to be done', async () => {
    await migrateApply(on('off'));
    const context = off('off');
    expect(hasDifferences(await migratePlan(context))).toBe(false);
    expect(await migrateApply(context)).toMatchObject([{ applied: [] }]);
    expect(await differences(context)).toEqual([]);
    expect((await repairHosts(context))[0]).toMatchObject({ actions: [], failures: [], left: [] });
    await clickhouse.query(insert('off', 'otel_traces', 'acme', 'a trace'));
    expect(await clickhouse.query('SELECT Tenant FROM off.otel_traces_trace_id_ts')).toBe('acme\n');
  });

  test('a drift is told as ever, with the column or without', async () => {
    await migrateApply(on('drift'));
    await clickhouse.query('ALTER TABLE drift.otel_logs DROP COLUMN EventName');
    expect(await differences(on('drift'))).toEqual(['error missing column drift.otel_logs EventName']);
    expect(await differences(off('drift'))).toEqual([
      'error missing column drift.otel_logs EventName',
      'info extra column drift.otel_logs Tenant',
    ]);
  });

  test('interrupted, or taken away by hand: apply and repair complete it', async () => {
    const context = on('half');
    await migrateApply(context);
    await clickhouse.query('ALTER TABLE half.otel_metrics_sum DROP COLUMN Tenant');
    expect(await planned(context)).toEqual([[NAME, 1]]);
    expect(await migrateApply(context)).toMatchObject([{ applied: [{ name: NAME }] }]);
    await clickhouse.query('ALTER TABLE half.otel_metrics_sum DROP COLUMN Tenant');
    expect((await repairHosts(context))[0]).toMatchObject({ actions: [{ table: 'half.otel_metrics_sum' }], left: [] });
    expect(hasDifferences(await migratePlan(context))).toBe(false);
  });

  test('taken away for good, as docs/tenant-column.md says', async () => {
    await migrateApply(on('gone'));
    const page = readFileSync(new URL('../../docs/tenant-column.md', import.meta.url), 'utf8');
    const [, statements = ''] = /### To take it away.*?\n\n((?: {4}[^\n]*\n)+)/s.exec(page) ?? [];
    for (const sql of statements.split(';').filter((text) => text.trim() !== '')) {
      await clickhouse.query(sql.replaceAll('otel.', 'gone.'));
    }
    expect(await tablesWithColumn('gone')).toEqual([]);
    expect(await differences(off('gone'))).toEqual([]);
    await clickhouse.query(insert('gone', 'otel_traces', 'acme', 'a trace'));
    expect(await clickhouse.query('SELECT TraceId FROM gone.otel_traces_trace_id_ts')).toBe('a trace\n');
  });
});

describe('two shards', () => {
  let shards: Shards;
  beforeAll(async () => {
    shards = await startShards(2);
  });
  afterAll(() => shards.stop());

  const migrating = <T>(column: 'on' | 'off', body: (context: MigrateContext) => Promise<T>): Promise<T> => {
    const { settings } = loadSettings({
      SLUICE_CLICKHOUSE_URL: shards.urls,
      SLUICE_CLICKHOUSE_CLUSTER: shards.name,
      SLUICE_RETENTION_DAYS_TRACES: '0',
      SLUICE_RETENTION_DAYS_LOGS: '0',
      SLUICE_RETENTION_DAYS_METRICS: '0',
      SLUICE_TENANTS_COLUMN: column,
    });
    return withMigrations(settings, '0.0.0', silent, body);
  };

  test('switched on later: local tables first, then the faces, and rows through either host', async () => {
    await migrating('off', (context) => migrateApply(context));
    for (const [shard, { query }] of shards.servers.entries()) {
      await query(insert('otel', 'otel_logs_local', `old-${shard}`));
    }
    const plans = await migrating('on', migratePlan);
    for (const { pending } of plans) {
      expect(pending.map(({ name }) => name)).toEqual([NAME]);
      const kinds = pending[0]?.statements.map(({ kind, role }) => `${kind} ${role}`) ?? [];
      expect(kinds).toEqual([...Array(8).fill('local run'), ...Array(8).fill('distributed run'), 'view run']);
    }
    await migrating('on', (context) => migrateApply(context));
    expect(hasDifferences(await migrating('on', migratePlan))).toBe(false);
    expect((await migrating('on', verifyHosts)).map(driftOf)).toEqual([0, 0]);
    for (const [shard, { query }] of shards.servers.entries()) {
      await query(insert('otel', 'otel_logs_local', `new-${shard}`));
    }
    for (const { rows } of shards.servers) {
      const tenants = await rows('SELECT Tenant FROM otel.otel_logs ORDER BY Tenant');
      expect(tenants).toEqual(['new-0', 'new-1', 'old-0', 'old-1'].map((Tenant) => ({ Tenant })));
    }
  });

  test('a host that lost its tables gets them with the column; switched off all are in order', async () => {
    await shards.servers[1]?.query('DROP DATABASE otel SYNC');
    const repaired = await migrating('on', (context) => repairHosts(context));
    expect(repaired.map(({ failures, left }) => [failures, left])).toEqual([
      [[], []],
      [[], []],
    ]);
    for (const column of ['on', 'off'] as const) {
      expect((await migrating(column, verifyHosts)).map(driftOf), column).toEqual([0, 0]);
      expect(hasDifferences(await migrating(column, migratePlan)), column).toBe(false);
    }
    await shards.servers[1]?.query(insert('otel', 'otel_traces_local', 'acme', 'a trace'));
    expect(await shards.servers[0]?.query('SELECT Tenant FROM otel.otel_traces_trace_id_ts')).toBe('acme\n');
  });
});
