// Goal: tables that were there before (of a single server, of the collector's exporter) become the declared
// ones on a single server and on shards, with every row once and views that go on, also when the migrator is
// killed between any two statements; what can't be taken over is said before anything is changed.
import { request } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Fault } from '../../src/base/errors.ts';
import { type ClickHouse, close, createClickHouse } from '../../src/clickhouse/client.ts';
import { type HostAdoption, adoptTables } from '../../src/migrate/adopt.ts';
import type { MigrateContext } from '../../src/migrate/context.ts';
import { driftOf, verificationLines } from '../../src/migrate/difference.ts';
import { adoptionLines } from '../../src/migrate/repair-lines.ts';
import { repairHosts } from '../../src/migrate/repair.ts';
import { migrateApply, migratePlan } from '../../src/migrate/run.ts';
import { verifyHosts } from '../../src/migrate/verify.ts';
import { type TestClickHouse, eventually, silent, useClickHouse } from '../support/services.ts';
import { type Shards, startShards } from '../support/shards.ts';
import { EXPORTER_TABLES } from './exporter.ts';
import { DEFAULTS, useContext } from './fixture.ts';

const failuresOf = (hosts: readonly HostAdoption[]) =>
  hosts.flatMap(({ failures, repair }) => [...failures, ...(repair?.failures ?? [])]);

async function count(server: TestClickHouse, table: string): Promise<number> {
  return Number(await server.query(`SELECT count() FROM ${table}`));
}

async function drifts(context: MigrateContext): Promise<string[]> {
  const hosts = await verifyHosts(context);
  return hosts.filter((host) => driftOf(host) > 0).flatMap(verificationLines);
}

async function fillTraces(server: TestClickHouse, database: string): Promise<void> {
  await server.query(`INSERT INTO ${database}.otel_traces (Timestamp, TraceId, SpanId, SpanName, ServiceName)
SELECT toDateTime64('2026-10-01 00:00:00', 9) + number * 3600, hex(number), hex(number), 'a', 'b' FROM numbers(100)`);
}

/**
 * An insert that the server has begun, and that goes on until it is told that there are no more rows.
 * @param text rows, more than the 256 KiB in which the server still looks for the statement
 */
async function beginInsert({ url, rows }: TestClickHouse, sql: string, text: string) {
  const sent = request(`${url}/?query=${encodeURIComponent(sql)}`, { method: 'POST' });
  const status = new Promise<number | undefined>((resolve, reject) => {
    sent.on('error', reject);
    sent.on('response', (answer) => answer.resume().on('end', () => resolve(answer.statusCode)));
  });
  sent.write(text);
  const running = `SELECT 1 FROM system.processes WHERE startsWith(query, '${sql}')`;
  await eventually('the insert runs', async () => (await rows(running)).length > 0);
  const end = () => {
    sent.end();
    return status;
  };
  return { end };
}

describe('on a single server', () => {
  const clickhouse = useClickHouse();
  const contextFor = useContext(clickhouse);

  test.each(['new', 'old'] as const)("the exporter's tables, %s layout", async (layout) => {
    const database = `exporter_${layout}`;
    const context = contextFor({ database });
    await clickhouse.query(`CREATE DATABASE ${database}`);
    for (const sql of EXPORTER_TABLES[layout](database)) await clickhouse.query(sql);
    await fillTraces(clickhouse, database);
    await clickhouse.query(`INSERT INTO ${database}.otel_logs (Timestamp, Body) VALUES (now64(9), 'before')`);

    const planned = await adoptTables(context, { dryRun: true });
    expect(failuresOf(planned)).toEqual([]);
    expect(
      await clickhouse.rows(
        `SELECT name FROM system.tables WHERE name = 'sluice_migrations' AND database = '${database}'`,
      ),
    ).toEqual([]);
    const adopted = await adoptTables(context);
    expect(failuresOf(adopted)).toEqual([]);
    const notes = adopted.flatMap((host) => host.notes).join('\n');
    if (layout === 'new')
      expect(notes).toContain('otel_metrics_sum.TimeUnix stays DateTime: inserts convert');
    else expect(notes).toContain('otel_logs.SeverityNumber stays Int32');
    expect(notes).toContain('otel_traces has the TTL toDateTime(Timestamp) + toIntervalDay(3650)');

    expect(await drifts(context)).toEqual([]);
    const [plan] = await migratePlan(context);
    expect(plan?.pending).toEqual([]);
    await migrateApply(context);
    expect(await drifts(context)).toEqual([]);
    expect(await count(clickhouse, `${database}.otel_traces`)).toBe(100);
    expect(await count(clickhouse, `${database}.otel_traces_trace_id_ts`)).toBe(100);
    // Of the columns that were added, those that are made from others have values for old rows as well.
    expect(
      await clickhouse.rows(`SELECT SampleRate, EventName FROM ${database}.otel_traces
CROSS JOIN ${database}.otel_logs LIMIT 1`),
    ).toEqual([{ SampleRate: '1', EventName: '' }]);
    const again = await adoptTables(context);
    expect(again.map(({ actions, failures, notes: said }) => [actions, failures, said])).toEqual([
      [[], [], []],
    ]);
  });

  test('a column to which the rows of an insert could not be converted is refused, and nothing is changed', async () => {
    const context = contextFor({ database: 'refused' });
    await clickhouse.query('CREATE DATABASE refused');
    await clickhouse.query(
      'CREATE TABLE refused.otel_logs (Timestamp DateTime64(9), Body UInt64) ENGINE = MergeTree ORDER BY Timestamp',
    );
    await clickhouse.query('CREATE TABLE refused.otel_traces (Timestamp DateTime64(9)) ENGINE = Memory');
    const [host] = await adoptTables(context);
    expect(host?.actions).toEqual([]);
    expect(host?.failures).toEqual([
      "refused.otel_traces can't be taken over: its engine is Memory, which keeps no parts to take over",
      "refused.otel_logs.Body is UInt64, and String can't be converted to it",
    ]);
  });

  test('while a host is away nothing is taken over', async () => {
    const missing = [{ host: 'ch-9:8123', shard: 0, replica: 1, why: 'connection refused' }];
    await expect(adoptTables({ ...contextFor({ database: 'away' }), missing })).rejects.toMatchObject({
      code: 'migrate_incomplete',
    });
  });

  test('where there is nothing to take over nothing is done', async () => {
    const [host] = await adoptTables(contextFor({ database: 'nothing' }));
    expect(host).toMatchObject({ actions: [], failures: [], notes: [], repair: undefined });
    const applied = contextFor({ database: 'applied' });
    await migrateApply(applied);
    const [done] = await adoptTables(applied);
    expect(done).toMatchObject({
      actions: [],
      failures: [],
      notes: [],
      repair: { actions: [], failures: [] },
    });
  });
});

describe('from one server to two shards', () => {
  let shards: Shards;
  let servers: ClickHouse[] = [];
  beforeAll(async () => {
    shards = await startShards(2);
    servers = shards.servers.map(({ url }) =>
      createClickHouse(url, { insertTimeoutMs: 60_000, queryTimeoutMs: 60_000 }, silent),
    );
  });
  afterAll(async () => {
    await Promise.all(servers.map((server) => close(server)));
    await shards.stop();
  });
  const single = (database: string): MigrateContext => ({
    ...DEFAULTS,
    database,
    layout: { cluster: undefined, replicated: false, onCluster: false },
    hosts: servers.slice(0, 1).map((server) => ({ server, shard: 0, replica: 0 })),
  });
  const cluster = (database: string): MigrateContext => ({
    ...single(database),
    layout: { cluster: shards.name, replicated: false, onCluster: false },
    hosts: servers.map((server, shard) => ({ server, shard, replica: 0 })),
  });

  /** Tables, rows, and a view of the operator's, as a single server has them. */
  async function before(database: string): Promise<TestClickHouse> {
    const [first] = shards.servers;
    if (first === undefined) throw new Error('there is a first shard');
    await migrateApply(single(database));
    await first.query(`CREATE TABLE ${database}.services (ServiceName String, Spans UInt64)
ENGINE = SummingMergeTree ORDER BY ServiceName`);
    await first.query(`CREATE MATERIALIZED VIEW ${database}.services_mv TO ${database}.services AS
SELECT ServiceName, count() AS Spans FROM ${database}.otel_traces GROUP BY ServiceName`);
    await fillTraces(first, database);
    return first;
  }

  async function expectGrown(database: string): Promise<void> {
    expect(await drifts(cluster(database))).toEqual([]);
    const [first, second] = shards.servers as [TestClickHouse, TestClickHouse];
    for (const server of [first, second]) {
      expect(await count(server, `${database}.otel_traces`)).toBe(100);
      expect(await count(server, `${database}.otel_traces_trace_id_ts`)).toBe(100);
    }
    expect(await count(first, `${database}.otel_traces_local`)).toBe(100);
    // Both views go on, on the local table.
    await first.query(`INSERT INTO ${database}.otel_traces_local (Timestamp, TraceId, ServiceName)
VALUES ('2026-10-01 00:00:00', 'ff00', 'b')`);
    expect(await count(second, `${database}.otel_traces_trace_id_ts`)).toBe(101);
    expect((await first.query(`SELECT sum(Spans) FROM ${database}.services`)).trim()).toBe('101');
  }

  test('tables, rows and views move, and the second shard gets all of it', async () => {
    await before('grown');
    await expect(migrateApply(cluster('grown'))).rejects.toBeInstanceOf(Fault);
    const [refused] = await repairHosts(cluster('grown'));
    expect(refused?.failures[0]).toContain('from before the cluster: sluice migrate adopt');
    const adopted = await adoptTables(cluster('grown'));
    expect(failuresOf(adopted)).toEqual([]);
    const lines = adopted.flatMap(adoptionLines);
    expect(lines).toContain('  grown.otel_traces: became grown.otel_traces_local');
    expect(lines).toContain('    RENAME TABLE grown.otel_traces TO grown.otel_traces_local;');
    await expectGrown('grown');
    const again = await adoptTables(cluster('grown'));
    expect(again.every(({ actions, failures }) => actions.length + failures.length === 0)).toBe(true);
    await migrateApply(cluster('grown'));
  });

  test('killed before each of its statements it goes on', async () => {
    await before('killed');
    let runs = 0;
    for (let interrupted = true; interrupted; runs++) {
      let statements = 0;
      const guard = async () => {
        statements += 1;
        if (statements > 2) throw new Fault('lock_lost', 'never', 'killed');
      };
      interrupted = await adoptTables({ ...cluster('killed'), guard }).then(
        (hosts) => {
          expect(failuresOf(hosts)).toEqual([]);
          return false;
        },
        (error: unknown) => {
          expect(error).toMatchObject({ code: 'lock_lost' });
          return true;
        },
      );
      expect(runs).toBeLessThan(60);
    }
    await adoptTables(cluster('killed'));
    await expectGrown('killed');
  });

  test('writers that go on are noticed: nothing is renamed under a running insert', async () => {
    const first = await before('busy');
    const sql = 'INSERT INTO busy.otel_traces (Timestamp, TraceId) FORMAT TSV';
    const insert = await beginInsert(first, sql, '2026-10-01 00:00:00\tff\n'.repeat(20_000));
    const adopted = await adoptTables({ ...cluster('busy'), waitMsMax: 3_000 });
    expect(failuresOf(adopted)[0]).toContain('stop the writers');
    expect(await insert.end()).toBe(200);
    expect(await count(first, 'busy.otel_traces')).toBe(20_100);
    expect(failuresOf(await adoptTables(cluster('busy')))).toEqual([]);
    expect(await count(first, 'busy.otel_traces')).toBe(20_100);
  });
});
