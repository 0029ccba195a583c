// Goal: on 2 shards x 2 replicas of an old ClickHouse with ZooKeeper, verify names what is wrong with
// replication, and repair brings back an emptied replica, fills a new shard, and mends what can be mended,
// also when it is killed between any two statements; it never drops anything.
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Fault } from '../../src/base/errors.ts';
import { type ClickHouse, close, createClickHouse } from '../../src/clickhouse/client.ts';
import type { MigrateContext } from '../../src/migrate/context.ts';
import { type Difference, driftOf } from '../../src/migrate/difference.ts';
import { repairLines } from '../../src/migrate/repair-lines.ts';
import { repairHosts } from '../../src/migrate/repair.ts';
import { migrateApply } from '../../src/migrate/run.ts';
import { verifyHosts } from '../../src/migrate/verify.ts';
import { type FarmHost, useFarm } from '../support/farm.ts';
import { eventually, removeTempDir, silent } from '../support/services.ts';
import { DEFAULTS, EVENTS, schemaOf, writeMigrations } from './fixture.ts';

const farm = useFarm();
const opened = new Map<string, ClickHouse>();
let dir = '';

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'sluice-test-'));
  writeMigrations(dir, EVENTS);
});
afterAll(async () => {
  await Promise.all([...opened.values()].map((server) => close(server)));
  removeTempDir(dir);
});

function serverOf({ url, name }: FarmHost): ClickHouse {
  const server =
    opened.get(name) ?? createClickHouse(url, { insertTimeoutMs: 60_000, queryTimeoutMs: 60_000 }, silent);
  opened.set(name, server);
  return server;
}

function contextFor(overrides: Partial<MigrateContext> = {}): MigrateContext {
  return {
    ...DEFAULTS,
    migrationsDir: dir,
    layout: { cluster: farm.name, replicated: true, onCluster: false },
    hosts: farm.hosts.map((host) => ({
      server: serverOf(host),
      shard: host.shard - 1,
      replica: host.replica - 1,
    })),
    ...overrides,
  };
}

const short = ({ kind, severity, table, item }: Difference) =>
  [severity === 'info' ? 'info' : '', kind, table, item].filter((text) => text !== '').join(' ');

async function found(context: MigrateContext): Promise<string[][]> {
  return (await verifyHosts(context)).map(({ differences }) => differences.map(short));
}

async function total(host: FarmHost, database: string, table = 'events'): Promise<string> {
  return (await host.query(`SELECT count(), sum(Id) FROM ${database}.${table}`)).trim();
}

/** 30 rows on each shard, in three partitions. */
async function fill(database: string): Promise<void> {
  for (const shard of [1, 2]) {
    const rows = `SELECT toDate('2026-01-01') + number % 3, number, 'k', 1 FROM system.numbers LIMIT 30`;
    await farm.host(shard, 1).query(`INSERT INTO ${database}.events_local ${rows}`);
    await eventually('the other replica has the rows', async () => {
      return (await total(farm.host(shard, 2), database, 'events_local')) === '30\t435';
    });
  }
}

async function wipe(host: FarmHost): Promise<void> {
  await host.stop('SIGKILL');
  host.wipe();
  await host.start();
}

test('after apply nothing differs on any host, and repair does nothing', async () => {
  const context = contextFor({ database: 'fresh' });
  await migrateApply(context);
  expect(await found(context)).toEqual([[], [], [], []]);
  const repaired = await repairHosts(context);
  expect(repaired.map(({ actions, failures, left }) => [actions, failures, left])).toEqual(
    Array(4).fill([[], [], []]),
  );
});

test('what breaks replication is an error that says what readers would see', async () => {
  const context = contextFor({ database: 'broken' });
  await migrateApply(context);
  await farm.host(1, 2).query('DROP TABLE broken.events_local');
  await farm.host(1, 2).query(
    `CREATE TABLE broken.events_local (Day Date, Id UInt64, Kind String, Size UInt64 DEFAULT 1)
ENGINE = MergeTree PARTITION BY Day ORDER BY Id SETTINGS index_granularity = 8192`,
  );
  await farm.host(2, 2).query('DROP TABLE broken.kinds_local');
  await farm.host(2, 2).query(
    `CREATE TABLE broken.kinds_local (Kind String, Events UInt64) ENGINE =
ReplicatedSummingMergeTree('/clickhouse/tables/elsewhere/broken', '{replica}') ORDER BY Kind
SETTINGS index_granularity = 8192`,
  );
  const hosts = await verifyHosts(context);
  expect(hosts.map(({ differences }) => differences.map(short))).toEqual([
    [],
    ['engine broken.events_local'],
    ['replication broken.kinds_local'],
    ['replication broken.kinds_local', 'replication broken.kinds_local'],
  ]);
  expect(hosts[1]?.differences[0]?.note).toContain('see half of the rows');
  expect(hosts[2]?.differences[0]?.note).toContain('/clickhouse/tables/elsewhere/broken');
  const before = await Promise.all(farm.hosts.map((host) => schemaOf(host, 'broken')));
  const repaired = await repairHosts(context);
  expect(repaired.flatMap(({ actions }) => actions)).toEqual([]);
  expect(repaired.map(({ left }) => left.length)).toEqual([0, 1, 1, 2]);
  expect(repaired[0] && repairLines(repaired[0])).toEqual([`${farm.host(1, 1).name}: nothing to do`]);
  expect(repaired[1] && repairLines(repaired[1]).slice(0, 3)).toEqual([
    `${farm.host(1, 2).name}:`,
    '  left for somebody to decide:',
    '    broken.events_local',
  ]);
  expect(await Promise.all(farm.hosts.map((host) => schemaOf(host, 'broken')))).toEqual(before);
  for (const host of farm.hosts) await host.query('DROP DATABASE broken');
});

test('a column that a shard lost, or one Distributed table, comes back on all of its hosts', async () => {
  const context = contextFor({ database: 'columns' });
  await migrateApply(context);
  await fill('columns');
  await farm.host(2, 2).query('ALTER TABLE columns.events_local DROP COLUMN Kind');
  await farm.host(1, 1).query('ALTER TABLE columns.events DROP COLUMN Size');
  await eventually('both replicas lack it', async () => {
    const [, , third, fourth] = await found(context);
    return third?.length === 1 && fourth?.length === 1;
  });
  const planned = await repairHosts(context, { dryRun: true });
  const repaired = await repairHosts(context);
  expect(repaired.map(({ actions }) => actions.map(({ what, table }) => `${table}: ${what}`))).toEqual([
    ['columns.events: missing column Size'],
    [],
    ['columns.events_local: missing column Kind'],
    ['columns.events_local: missing column Kind'],
  ]);
  expect(planned.map(({ actions }) => actions)).toEqual(repaired.map(({ actions }) => actions));
  expect(repaired.flatMap(({ failures }) => failures)).toEqual([]);
  await eventually('nothing differs', async () => (await found(context)).every(({ length }) => length === 0));
});

test('a replica that lost its disk gets tables, rows and ledger back, whatever interrupts the repair', async () => {
  const context = contextFor({ database: 'wiped' });
  await migrateApply(context);
  await fill('wiped');
  const host = farm.host(2, 2);
  const before = await schemaOf(host, 'wiped');
  await wipe(host);
  const planned = await repairHosts(context, { dryRun: true });
  expect(planned.map(({ actions }) => actions.length)).toEqual([0, 0, 0, 5]);
  expect(planned[3]?.actions[0]).toMatchObject({
    table: 'wiped.events_local',
    what: `made as on ${farm.host(2, 1).name}`,
  });
  expect(await schemaOf(host, 'wiped')).toEqual([]);

  // Each run does a few statements and dies before the next one: another number each time.
  let runs = 0;
  for (let interrupted = true; interrupted; runs++) {
    let statements = 0;
    const guard = async () => {
      statements += 1;
      if (statements > 2 + (runs % 3)) throw new Fault('lock_lost', 'never', 'killed');
    };
    interrupted = await repairHosts({ ...context, guard }).then(
      () => false,
      (error: unknown) => {
        expect(error).toMatchObject({ code: 'lock_lost' });
        return true;
      },
    );
    expect(runs).toBeLessThan(30);
  }
  expect(runs).toBeGreaterThan(3);
  const last = await repairHosts(context);
  expect(last.map(({ actions, failures, left }) => [actions, failures, left])).toEqual(
    Array(4).fill([[], [], []]),
  );
  expect(await schemaOf(host, 'wiped')).toEqual(before);
  await eventually(
    'the rows are back',
    async () => (await total(host, 'wiped', 'events_local')) === '30\t435',
  );
  expect(await total(host, 'wiped')).toBe('60\t870');
  await farm.host(2, 1).query(`INSERT INTO wiped.events_local VALUES ('2026-01-01', 1000, 'k', 1)`);
  await eventually(
    'new rows arrive',
    async () => (await total(host, 'wiped', 'events_local')) === '31\t1435',
  );
});

test('a host that is away is named, the others are repaired; a doubled macro is refused by name', async () => {
  const context = contextFor({ database: 'partly' });
  await migrateApply(context);
  await fill('partly');
  await farm.host(1, 2).query('DROP TABLE partly.events');
  const missing = [{ host: 'ch-9:8123', shard: 1, replica: 1, why: 'connection refused' }];
  const hosts = context.hosts.slice(0, 3);
  const repaired = await repairHosts({ ...context, hosts, missing });
  expect(repaired.map(({ actions }) => actions.length)).toEqual([0, 1, 0, 0]);
  expect(repaired[3]?.failures).toEqual([
    "ch-9:8123 can't be reached, nothing was done there: connection refused",
  ]);

  const host = farm.host(1, 2);
  await host.stop('SIGKILL');
  host.wipe();
  const { macros } = host.beliefs;
  host.beliefs.macros = { ...macros, replica: 'r1' };
  await host.start();
  const [, doubled] = await repairHosts(context);
  expect(doubled?.failures[0]).toBe(
    `partly.events_local can't be made on ${host.name}: its place in Keeper ` +
      `(/clickhouse/tables/01/partly/events_local, r1) is that of ${farm.host(1, 1).name}: ` +
      'the macro {replica} must differ',
  );
  host.beliefs.macros = macros;
  await host.stop('SIGKILL');
  await host.start();
  const [, mended] = await repairHosts(context);
  expect(mended?.failures).toEqual([]);
  expect(mended?.actions.map(({ table }) => table)).toEqual([
    'partly.events_local',
    'partly.kinds_local',
    'partly.kinds_mv',
    '',
  ]);
  // Resolved means caught up.
  expect(await total(host, 'partly', 'events_local')).toBe('30\t435');
  expect(await found(context)).toEqual([[], [], [], []]);
});

test('a new shard gets everything before a row is sent there', async () => {
  const context = contextFor({ database: 'grown' });
  await migrateApply(context);
  await fill('grown');
  const added = [await farm.addHost(3, 1), await farm.addHost(3, 2)];
  const definition = [1, 2, 3].map((shard) =>
    farm.hosts
      .filter((host) => host.shard === shard)
      .map(({ tcpPort }) => ({ host: '127.0.0.1', port: tcpPort })),
  );
  for (const host of farm.hosts) host.beliefs.shards = definition;
  await Promise.all(added.map((host) => host.start()));
  const grown = contextFor({ database: 'grown' });
  expect(grown.hosts).toHaveLength(6);
  const repaired = await repairHosts(grown);
  expect(repaired.map(({ actions, failures }) => [actions.length, failures])).toEqual([
    ...Array(4).fill([0, []]),
    [5, []],
    [5, []],
  ]);
  expect((await verifyHosts(grown)).map(driftOf)).toEqual([0, 0, 0, 0, 0, 0]);
  await added[0]?.query(`INSERT INTO grown.events_local VALUES ('2026-01-01', 7, 'k', 1)`);
  await eventually('its replica has the row', async () => {
    return added[1] !== undefined && (await total(added[1], 'grown', 'events_local')) === '1\t7';
  });
  expect(added[1] && (await total(added[1], 'grown'))).toBe('61\t877');
});
