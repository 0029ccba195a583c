// Goal: on an old ClickHouse with ZooKeeper, plain tables become replicated ones without a row lost or
// doubled: those of one server that becomes 2 shards x 2 replicas, and those where each replica had rows of
// its own; also when the migrator is killed between any two statements.
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Fault } from '../../src/base/errors.ts';
import { type ClickHouse, close, createClickHouse } from '../../src/clickhouse/client.ts';
import { type HostAdoption, adoptTables } from '../../src/migrate/adopt.ts';
import type { MigrateContext } from '../../src/migrate/context.ts';
import { driftOf, verificationLines } from '../../src/migrate/difference.ts';
import { migrateApply } from '../../src/migrate/run.ts';
import { verifyHosts } from '../../src/migrate/verify.ts';
import { type FarmHost, useFarm } from '../support/farm.ts';
import { eventually, removeTempDir, silent } from '../support/services.ts';
import { DEFAULTS, EVENTS, writeMigrations } from './fixture.ts';

const farm = useFarm();
let servers: ClickHouse[] = [];
let dir = '';

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'sluice-test-'));
  writeMigrations(dir, { '0001_events.sql': EVENTS['0001_events.sql'] ?? '' });
  servers = farm.hosts.map(({ url }) =>
    createClickHouse(url, { insertTimeoutMs: 60_000, queryTimeoutMs: 60_000 }, silent),
  );
});
afterAll(async () => {
  await Promise.all(servers.map((server) => close(server)));
  removeTempDir(dir);
});

function cluster(database: string): MigrateContext {
  return {
    ...DEFAULTS,
    database,
    migrationsDir: dir,
    layout: { cluster: farm.name, replicated: true, onCluster: false },
    hosts: farm.hosts.map(({ shard, replica }, index) => ({
      server: servers[index] as ClickHouse,
      shard: shard - 1,
      replica: replica - 1,
    })),
  };
}

function single(database: string): MigrateContext {
  const context = cluster(database);
  const layout = { cluster: undefined, replicated: false, onCluster: false };
  return { ...context, layout, hosts: context.hosts.slice(0, 1) };
}

const failuresOf = (hosts: readonly HostAdoption[]) =>
  hosts.flatMap(({ failures, repair }) => [...failures, ...(repair?.failures ?? [])]);

async function drifts(context: MigrateContext): Promise<string[]> {
  const hosts = await verifyHosts(context);
  return hosts.filter((host) => driftOf(host) > 0).flatMap(verificationLines);
}

const total = async (host: FarmHost, table: string) =>
  (await host.query(`SELECT count(), sum(Id) FROM ${table}`)).trim();

/** `count` rows in three partitions and several parts, with ids from `first`. */
async function fill(host: FarmHost, table: string, first: number, count: number): Promise<void> {
  for (const half of [0, 1]) {
    const from = first + (half * count) / 2;
    await host.query(`INSERT INTO ${table} SELECT toDate('2026-01-01') + number % 3, number + ${from}, 'k'
FROM system.numbers LIMIT ${count / 2}`);
  }
}

/** Until nothing is left to do: each run is killed one statement later. @returns how often it was killed */
async function adoptInPieces(context: MigrateContext): Promise<number> {
  for (let runs = 0; runs < 60; runs++) {
    let statements = 0;
    const guard = async () => {
      statements += 1;
      if (statements > runs) throw new Fault('lock_lost', 'never', 'killed');
    };
    try {
      expect(failuresOf(await adoptTables({ ...context, guard }))).toEqual([]);
      return runs;
    } catch (error) {
      expect(error).toMatchObject({ code: 'lock_lost' });
    }
  }
  throw new Error('it never came to an end');
}

test('the tables of one server become the first shard of a replicated cluster', async () => {
  const first = farm.host(1, 1);
  await migrateApply(single('grown'));
  await fill(first, 'grown.events', 0, 60);
  const planned = await adoptTables(cluster('grown'), { dryRun: true });
  expect(planned[0]?.actions[0]?.sql.join('\n')).toContain(
    "REPLACE PARTITION ID '20260101' FROM grown.events",
  );
  expect(await total(first, 'grown.events')).toBe('60\t1770');

  const killed = await adoptInPieces(cluster('grown'));
  expect(killed).toBeGreaterThan(8);
  expect(await drifts(cluster('grown'))).toEqual([]);
  for (const replica of [1, 2]) {
    const host = farm.host(1, replica);
    await eventually(
      'both replicas have the rows',
      async () => (await total(host, 'grown.events_local')) === '60\t1770',
    );
  }
  for (const host of farm.hosts) expect(await total(host, 'grown.events')).toBe('60\t1770');
  expect(await total(first, 'grown.events_before_adopt')).toBe('60\t1770');
  // The view goes on, on the local table, and merges as well.
  await fill(first, 'grown.events_local', 1000, 2);
  expect((await first.query('SELECT sum(Events) FROM grown.kinds_local')).trim()).toBe('62');
  const again = await adoptTables(cluster('grown'));
  expect(again.flatMap(({ actions }) => actions)).toEqual([]);
  await migrateApply(cluster('grown'));
});

test('rows of both replicas, which did not replicate, are put together once', async () => {
  const context = cluster('halves');
  await migrateApply(context);
  const pair = [farm.host(2, 1), farm.host(2, 2)];
  for (const [index, host] of pair.entries()) {
    await host.query('DROP TABLE halves.events_local');
    await host.query(`CREATE TABLE halves.events_local (Day Date, Id UInt64, Kind String)
ENGINE = MergeTree PARTITION BY Day ORDER BY Id SETTINGS index_granularity = 8192`);
    await fill(host, 'halves.events_local', index * 100, 30);
  }
  expect((await drifts(context)).join('\n')).toContain('see half of the rows');
  const killed = await adoptInPieces(context);
  expect(killed).toBeGreaterThan(8);
  expect(await drifts(context)).toEqual([]);
  // Ids 0 to 29 and 100 to 129.
  for (const host of pair) {
    await eventually(
      'both have all rows',
      async () => (await total(host, 'halves.events_local')) === '60\t3870',
    );
  }
  expect(await total(farm.host(1, 1), 'halves.events')).toBe('60\t3870');
});

test('one replica that does not replicate joins the other, which does and has rows', async () => {
  const context = cluster('joined');
  await migrateApply(context);
  const [good, odd] = [farm.host(1, 1), farm.host(1, 2)];
  await odd.query('DROP TABLE joined.events_local');
  await odd.query(`CREATE TABLE joined.events_local (Day Date, Id UInt64, Kind String)
ENGINE = MergeTree PARTITION BY Day ORDER BY Id SETTINGS index_granularity = 8192`);
  await fill(good, 'joined.events_local', 0, 30);
  await fill(odd, 'joined.events_local', 100, 30);
  expect(failuresOf(await adoptTables(context))).toEqual([]);
  for (const host of [good, odd]) {
    await eventually(
      'both have all rows',
      async () => (await total(host, 'joined.events_local')) === '60\t3870',
    );
  }
  expect(await drifts(context)).toEqual([]);
});

test('empty tables that an apply has made meanwhile give way, tables with rows do not', async () => {
  await migrateApply(single('twice'));
  await fill(farm.host(1, 1), 'twice.events', 0, 6);
  const made = cluster('other');
  await migrateApply(made);
  for (const host of farm.hosts) {
    await host.query('CREATE DATABASE IF NOT EXISTS twice');
    await host.query(`CREATE TABLE twice.events_local (Day Date, Id UInt64, Kind String, Later String) ENGINE =
ReplicatedMergeTree('/clickhouse/tables/{shard}/twice/events_local', '{replica}')
PARTITION BY Day ORDER BY Id SETTINGS index_granularity = 8192`);
  }
  expect(failuresOf(await adoptTables(cluster('twice')))).toEqual([]);
  expect(await total(farm.host(1, 2), 'twice.events_local')).toBe('6\t15');

  await migrateApply(single('both'));
  await fill(farm.host(1, 1), 'both.events', 0, 6);
  await farm.host(1, 1).query(`CREATE TABLE both.events_local (Day Date, Id UInt64, Kind String)
ENGINE = MergeTree PARTITION BY Day ORDER BY Id SETTINGS index_granularity = 8192`);
  await fill(farm.host(1, 1), 'both.events_local', 0, 6);
  const [refused] = await adoptTables(cluster('both'));
  expect(refused?.failures[0]).toContain('both.events_local has rows as well');
  expect(refused?.actions).toEqual([]);
});
