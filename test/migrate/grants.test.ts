/**
 * Goal: the grants that are handed out are enough for what each role does, by its own code and on a cluster of
 * two shards, and for nothing else.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { withMigrations } from '../../src/app/migrate.ts';
import { type ClickHouse, close, command, createClickHouse, probe, query } from '../../src/clickhouse/client.ts';
import { loadSettings } from '../../src/config/load.ts';
import type { Settings } from '../../src/config/settings.ts';
import { adoptTables } from '../../src/migrate/adopt.ts';
import { driftOf } from '../../src/migrate/difference.ts';
import {
  GRANT_ROLES,
  type GrantContext,
  type GrantRole,
  grantStatements,
  grantsFor,
  usersXml,
} from '../../src/migrate/grants.ts';
import { hasDifferences, migrateApply, migratePlan, migrateStatus } from '../../src/migrate/run.ts';
import { verifyHosts } from '../../src/migrate/verify.ts';
import type { SealedBatch } from '../../src/model/batch.ts';
import { TABLES, type Table } from '../../src/model/signal.ts';
import { askReplica } from '../../src/topology/ask.ts';
import { Discoverer } from '../../src/topology/discover.ts';
import { COLUMNS } from '../../src/transcode/tables.ts';
import { type InsertResult, insertBatch } from '../../src/write/inserter.ts';
import { type Shards, startShards } from '../support/shards.ts';
import { silent, withTempDir } from '../support/services.ts';
import { createTable, writeMigrations } from './fixture.ts';

const PASSWORD = 'secret';
const CLUSTER: GrantContext = {
  database: 'otel',
  cluster: 'main',
  replicated: false,
  onCluster: false,
  server: { version: { major: 26, minor: 7 } },
};
const DENIED = { code: 'ACCESS_DENIED' };
const TIME = "'2026-11-20 12:00:00'";

let shards: Shards;
const clients: ClickHouse[] = [];

/** A server as a role sees it. */
function as(role: GrantRole, shard = 0): ClickHouse {
  const url = new URL(shards.servers[shard]?.url ?? '');
  url.username = `sluice_${role}`;
  url.password = PASSWORD;
  const client = createClickHouse(url.href, { insertTimeoutMs: 60_000, queryTimeoutMs: 60_000 }, silent);
  clients.push(client);
  return client;
}

beforeAll(async () => {
  shards = await startShards(2);
  const passwordSha256 = createHash('sha256').update(PASSWORD).digest('hex');
  const users = GRANT_ROLES.map((role) => ({ role, name: `sluice_${role}`, passwordSha256 }));
  for (const { dataDir } of shards.servers) {
    mkdirSync(join(dataDir, 'users.d'));
    writeFileSync(join(dataDir, 'users.d', 'sluice.xml'), usersXml(CLUSTER, users));
  }
  // These servers read their users when they start.
  await shards.define([1, 1]);
});
afterAll(async () => {
  await Promise.all(clients.map(close));
  await shards.stop();
});

/** Settings of a process that runs as a role. */
function settingsOf(role: GrantRole, extra: Readonly<Record<string, string>> = {}): Settings {
  const urls = shards.servers.map(({ url }) => url.replace('://', `://sluice_${role}:${PASSWORD}@`));
  return loadSettings({
    SLUICE_CLICKHOUSE_URL: urls.join(','),
    SLUICE_CLICKHOUSE_CLUSTER: shards.name,
    ...extra,
  }).settings;
}

describe('the migrator', () => {
  test('plans, makes everything, reconciles it, says what was done, and verifies it', async () => {
    const context = (extra = {}) => settingsOf('migrator', extra);
    await withMigrations(context(), '0.0.0', silent, async (found) => {
      const plans = await migratePlan(found);
      expect(plans.map(({ refusals, pending }) => [refusals, pending.length])).toEqual([[[], 4], [[], 4]]);
      await migrateApply(found);
      expect(hasDifferences(await migratePlan(found))).toBe(false);
    });
    const changed = { SLUICE_RETENTION_DAYS_LOGS: '0', SLUICE_CLICKHOUSE_OUTAGE_HOURS_MAX: '40' };
    await withMigrations(context(changed), '0.0.0', silent, async (found) => {
      const reports = await migrateApply(found);
      expect(reports.map(({ ttlChanged, settingsChanged }) => [ttlChanged.length, settingsChanged.length])).toEqual(
        [[1, 8], [1, 8]],
      );
      for (const { migrations, refusals } of await migrateStatus(found)) {
        expect(refusals).toEqual([]);
        expect(migrations.map(({ state }) => state)).toEqual(Array(4).fill('applied'));
      }
      expect((await verifyHosts(found)).map(driftOf)).toEqual([0, 0]);
    });
  });

  test('adopts the tables of a single server, and repairs the others', async () => {
    for (const { query: ask } of shards.servers) await ask('DROP DATABASE otel SYNC');
    const [first = ''] = settingsOf('migrator').clickhouse.urls;
    const { settings: single } = loadSettings({ SLUICE_CLICKHOUSE_URL: first });
    await withMigrations(single, '0.0.0', silent, (found) => migrateApply(found));
    await withMigrations(settingsOf('migrator'), '0.0.0', silent, async (found) => {
      for (const { failures, repair } of await adoptTables(found)) {
        expect([failures, repair?.failures, repair?.left]).toEqual([[], [], []]);
      }
      expect((await verifyHosts(found)).map(driftOf)).toEqual([0, 0]);
    });
  });

  test('has its own migrations rewrite and drop what is its own', async () => {
    await withTempDir(async (dir) => {
      writeMigrations(dir, {
        '0001_own.sql': `${createTable('own')}
-- @step local rewrites
ALTER TABLE {local:own} {on_cluster} UPDATE m = 2 WHERE 1

-- @step local drops
DROP TABLE IF EXISTS {local:own} {on_cluster}
`.replace('(n UInt64)', '(n UInt64, m UInt8)'),
      });
      const settings = settingsOf('migrator', { SLUICE_MIGRATIONS_DIR: dir });
      await withMigrations(settings, '0.0.0', silent, async (found) => {
        expect(await migrateApply(found, { allowDrops: true })).toHaveLength(2);
      });
    });
  });

  test.each([
    ['drop its database', 'DROP DATABASE otel'],
    ['make another', 'CREATE DATABASE another'],
    ['make a table elsewhere', 'CREATE TABLE default.t (n UInt8) ENGINE = MergeTree ORDER BY n'],
    ['use another engine', "CREATE TABLE otel.t (n UInt8) ENGINE = URL('http://127.0.0.1/')"],
    ['stop merges elsewhere', 'SYSTEM STOP MERGES default.t'],
    ['make a user', 'CREATE USER mallory'],
  ])('cannot %s', async (_, sql) => {
    await expect(command(as('migrator'), sql)).rejects.toMatchObject(DENIED);
  });
});

describe('the writer', () => {
  test('finds out about the cluster, each host of it, and which URL leads where', async () => {
    const discoverer = new Discoverer(settingsOf('writer').clickhouse, silent);
    try {
      const { topology, hosts, faults } = await discoverer.discover();
      expect(faults.filter(({ severity }) => severity === 'error')).toEqual([]);
      expect(topology?.shards.map(({ name }) => name)).toEqual(['01', '02']);
      for (const host of hosts) {
        expect(host).toMatchObject({ reachable: true, unreadable: [] });
        const tables = host.reachable ? host.tables : [];
        expect(tables).toEqual(expect.arrayContaining(TABLES.map((table) => `${table}_local`)));
      }
    } finally {
      await discoverer.close();
    }
  });

  test('asks each host how it is', async () => {
    const server = as('writer');
    const locals = TABLES.map((table) => `${table}_local`);
    const { readonlyTable, ...facts } = await askReplica(server, await probe(server), 'otel', locals);
    expect(facts).toMatchObject({ tables: TABLES.length, replicated: 0 });
    expect([readonlyTable, ...Object.values(facts)].filter((value) => value === undefined)).toHaveLength(1);
  });

  test('compares the tables with what is declared', async () => {
    await withMigrations(settingsOf('writer'), '0.0.0', silent, async (found) => {
      const hosts = await verifyHosts(found);
      // The folder with the migration of one's own, above, isn't set any more.
      const told = hosts.map(({ differences }) => differences.map(({ kind, note }) => `${kind}: ${note.slice(0, 12)}`));
      expect(told).toEqual(Array(2).fill(['ledger: 0001_own.sql']));
    });
  });

  test('inserts into every table, and the view beside the spans is filled', async () => {
    for (const shard of [0, 1]) {
      for (const table of TABLES) {
        expect(await insertOne(as('writer', shard), table), table).toEqual({ kind: 'stored' });
      }
    }
    const ranges = await shards.servers[0]?.rows('SELECT TraceId FROM otel.otel_traces_trace_id_ts');
    expect(ranges).toEqual([{ TraceId: 'some trace' }, { TraceId: 'some trace' }]);
  });

  test.each([
    ['read what it wrote', 'SELECT SpanName FROM otel.otel_traces_local'],
    ['read log records', 'SELECT count() FROM otel.otel_logs_local'],
    ['read through the face', 'SELECT count() FROM otel.otel_traces'],
    ['write through the face', `INSERT INTO otel.otel_traces (Timestamp) VALUES (${TIME})`],
    ['alter a table', 'ALTER TABLE otel.otel_traces_local ADD COLUMN n UInt8'],
    ['delete rows', 'ALTER TABLE otel.otel_traces_local DELETE WHERE 1'],
    ['drop a table', 'DROP TABLE otel.otel_traces_local'],
    ['make a table', 'CREATE TABLE otel.t (n UInt8) ENGINE = MergeTree ORDER BY n'],
    ['write to the ledger', "INSERT INTO otel.sluice_migrations (origin) VALUES ('own')"],
  ])('cannot %s', async (_, sql) => {
    await expect(command(as('writer'), sql)).rejects.toMatchObject(DENIED);
  });
});

describe('the reader', () => {
  test('reads every row through Distributed tables, joins them, and sends settings', async () => {
    const server = as('reader');
    const count = (sql: string) => query<{ n: string }>(server, sql).then(([row]) => row?.n);
    for (const table of [...TABLES, 'otel_traces_trace_id_ts']) {
      expect(await count(`SELECT count() AS n FROM otel.${table}`), table).toBe('2');
    }
    const join = `SELECT count() AS n FROM otel.otel_traces AS a
      INNER JOIN otel.otel_traces AS b ON a.TraceId = b.TraceId SETTINGS max_threads = 1`;
    expect(await count(join)).toBe('4');
    expect(await count("SELECT count() AS n FROM system.columns WHERE database = 'otel'")).not.toBe('0');
  });

  test.each([
    ['insert', `INSERT INTO otel.otel_traces (Timestamp) VALUES (${TIME})`],
    ['insert locally', `INSERT INTO otel.otel_traces_local (Timestamp) VALUES (${TIME})`],
    ['alter', 'ALTER TABLE otel.otel_traces_local ADD COLUMN n UInt8'],
    ['read the ledger', 'SELECT count() FROM otel.sluice_migrations'],
    ['read users', 'SELECT count() FROM system.users'],
  ])('cannot %s', async (_, sql) => {
    await expect(command(as('reader'), sql)).rejects.toMatchObject(DENIED);
  });

  test('cannot allow itself to write', async () => {
    await expect(command(as('reader'), 'SET readonly = 0')).rejects.toMatchObject({ code: 'READONLY' });
  });
});

test('the gateway needs nothing, and can do nothing', async () => {
  expect(grantsFor(CLUSTER, 'gateway')).toEqual([]);
  await expect(command(as('gateway'), 'SELECT count() FROM otel.otel_traces')).rejects.toMatchObject(DENIED);
});

test('every statement is one that the server can parse', async () => {
  const context = { ...CLUSTER, database: 'my-db', replicated: true, onCluster: true };
  const statements = GRANT_ROLES.flatMap((role) => grantStatements(context, role, 'a user'));
  expect(statements.length).toBeGreaterThan(30);
  for (const sql of statements) {
    const text = sql.replace(/[\\']/g, '\\$&');
    await shards.servers[0]?.query(`SELECT formatQuery('${text}')`);
  }
});

describe('the system tables that may be read are those that the code reads', () => {
  // Every user may read these; they show what the user has any right to.
  const open = ['columns', 'databases', 'functions', 'settings', 'tables'];
  test.each<[GrantRole, string[]]>([
    ['writer', ['clickhouse', 'topology', 'write']],
    ['migrator', ['clickhouse', 'topology', 'migrate']],
  ])('%s', (role, rooms) => {
    const read = rooms.flatMap((room) => {
      const folder = new URL(`../../src/${room}/`, import.meta.url);
      const texts = readdirSync(folder).map((name) => readFileSync(new URL(name, folder), 'utf8'));
      return [...texts.join('\n').matchAll(/(?:FROM |')system\.([a-z_]+)/g)].map(([, table = '']) => table);
    });
    // The probe of a server names its two in a variable.
    const needed = new Set([...read, 'merge_tree_settings'].filter((table) => !open.includes(table)));
    const granted = grantsFor({ ...CLUSTER, onCluster: true }, role).flatMap((grant) => {
      return /ON system\.([a-z_]+)$/.exec(grant)?.[1] ?? [];
    });
    expect(granted.sort()).toEqual([...needed].sort());
  });
});

test('a single server needs less, an old one knows no rights of engines', () => {
  const single = { ...CLUSTER, cluster: undefined };
  const all = GRANT_ROLES.flatMap((role) => grantsFor(single, role));
  expect(all.filter((grant) => /REMOTE|Distributed|_local|CLUSTER/.test(grant))).toEqual([]);
  expect(grantsFor({ ...single, server: { version: { major: 24, minor: 3 } } }, 'migrator').join('\n')).not.toContain(
    'TABLE ENGINE',
  );
  expect(grantsFor({ ...CLUSTER, replicated: true, onCluster: true }, 'migrator')).toEqual(
    expect.arrayContaining([
      'GRANT TABLE ENGINE ON ReplicatedMergeTree',
      'GRANT CLUSTER ON *.*',
      'GRANT SYSTEM DROP REPLICA ON *.*',
    ]),
  );
});

/** One batch of one row, as the writer inserts it; ClickHouse itself makes its bytes. */
async function insertOne(server: ClickHouse, table: Table): Promise<InsertResult> {
  const texts: Readonly<Record<string, string>> = { TraceId: 'some trace' };
  const times = ['Timestamp', 'TimeUnix'];
  const types = await query<{ name: string; type: string }>(
    server,
    `SELECT name, type FROM system.columns WHERE database = 'otel' AND table = '${table}_local'`,
  );
  const values = COLUMNS[table].map(({ name }) => {
    const text = times.includes(name) ? '2026-11-20 12:00:00' : texts[name];
    const type = types.find((column) => column.name === name)?.type ?? '';
    const value = text === undefined ? `defaultValueOfTypeName('${type}')` : `'${text}'::${type}`;
    return `${value} AS \`${name}\``;
  });
  const answer = await fetch(shards.servers[0]?.url ?? '', {
    method: 'POST',
    body: `SELECT ${values.join(', ')} FORMAT Native`,
  });
  const block = new Uint8Array(await answer.arrayBuffer());
  const batch: SealedBatch = {
    id: `grants-${table}`,
    shard: 0,
    table,
    layout: 'r1',
    rows: 1,
    bytes: block.length,
    fragments: 1,
    sealedAtMs: Date.now(),
    newestAtMs: Date.now(),
  };
  const options = {
    database: 'otel',
    tableName: (name: Table) => `${name}_local`,
    columns: COLUMNS,
    insertQuorum: 0,
    insertTimeoutMs: 20_000,
    partitionsPerInsertMax: 10,
  };
  const target = { server, info: await probe(server), replicas: 1, live: 1 };
  const chunks = (async function* () {
    yield block;
  })();
  return insertBatch(target, options, batch, chunks, new AbortController().signal);
}
