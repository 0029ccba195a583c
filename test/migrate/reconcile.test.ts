// Goal: deduplication windows and storage policy follow the settings, on tables that exist as on new ones;
// what the configuration doesn't say, or the server can't do, is left alone.
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { readHistories } from '../../src/migrate/history.ts';
import { parseMigration } from '../../src/migrate/migration.ts';
import type { RenderContext } from '../../src/migrate/placeholders.ts';
import { settingsIn } from '../../src/migrate/sql.ts';
import { makeTempDir, removeTempDir, useClickHouse } from '../support/services.ts';
import { useTables } from './tables.ts';

const diskDir = makeTempDir();
afterAll(() => removeTempDir(diskDir));
const clickhouse = useClickHouse({
  configXml: `<storage_configuration>
    <disks><second><path>${join(diskDir, 'second')}/</path></second></disks>
    <policies>
      <both><volumes><default><disk>default</disk></default><cold><disk>second</disk></cold></volumes></both>
      <elsewhere><volumes><only><disk>second</disk></only></volumes></elsewhere>
    </policies>
  </storage_configuration>`,
});
const tables = useTables(clickhouse);

const NAMES = ['otel_traces', 'otel_traces_trace_id_ts', 'otel_logs'].concat(
  ['gauge', 'sum', 'histogram', 'exponential_histogram', 'summary'].map((kind) => `otel_metrics_${kind}`),
);
const NOTHING = { changes: [], foreign: [] };

async function settingsOf(database: string, table: string): Promise<ReadonlyMap<string, string>> {
  const [row] = await clickhouse.rows<{ text: string }>(
    `SELECT engine_full AS text FROM system.tables WHERE database = '${database}' AND name = '${table}'`,
  );
  return settingsIn(row?.text ?? '');
}

const window = (context: RenderContext, table = 'otel_logs') =>
  settingsOf(context.database, table).then((settings) => settings.get('non_replicated_deduplication_window'));

describe('deduplication windows', () => {
  test('a new table has them, and nothing is left to reconcile', async () => {
    const context = await tables.context({ database: 'fresh', outageHoursMax: 5 });
    await tables.create(context);
    for (const table of NAMES) expect(await window(context, table), table).toBe('21600');
    expect(await tables.plan(context)).toEqual(NOTHING);
  });

  test('a longer outage changes every table, once, and a token is known ever after', async () => {
    const context = await tables.context({ database: 'longer', outageHoursMax: 1 });
    await tables.create(context);
    const insert = (token: string) =>
      clickhouse.query("INSERT INTO longer.otel_logs (Timestamp) VALUES ('2026-11-20 12:00:00')", {
        insert_deduplication_token: token,
        async_insert: '0',
      });
    await insert('before');
    const longer = { ...context, outageHoursMax: 30 };
    const { changes } = await tables.reconcile(longer);
    expect(changes.map(({ what, table, cost, everyReplica }) => [what, table, cost, everyReplica])).toEqual(
      NAMES.map((table) => ['setting', table, 'instant', true]),
    );
    expect(changes[0]).toEqual({
      what: 'setting',
      table: 'otel_traces',
      from: 'non_replicated_deduplication_window = 10000',
      to: 'non_replicated_deduplication_window = 111600',
      cost: 'instant',
      sql: 'ALTER TABLE longer.otel_traces MODIFY SETTING non_replicated_deduplication_window = 111600',
      settings: {},
      everyReplica: true,
    });
    for (const table of NAMES) expect(await window(longer, table), table).toBe('111600');
    expect(await tables.plan(longer)).toEqual(NOTHING);
    for (const token of ['before', 'after', 'after']) await insert(token);
    expect(await clickhouse.query('SELECT count() FROM longer.otel_logs')).toBe('2\n');
  });

  test('a table that never had any gets them', async () => {
    const context = await tables.context({ database: 'none', outageHoursMax: 1 });
    await tables.create(context);
    await clickhouse.query('ALTER TABLE none.otel_logs RESET SETTING non_replicated_deduplication_window');
    const { changes } = await tables.reconcile(context);
    expect(changes.map(({ table, from }) => [table, from])).toEqual([['otel_logs', '']]);
    expect(await window(context)).toBe('10000');
  });

  test('of replicated tables are two, and set on every replica; a TTL is told to one', async () => {
    const context = await tables.context({ database: 'replicated', cluster: 'main' });
    const local = parseMigration(
      'own',
      1,
      '0001_x.sql',
      `-- @step local instant
      CREATE TABLE IF NOT EXISTS {local:t} {on_cluster} (At DateTime) ENGINE = {engine:MergeTree}
      ORDER BY At {ttl:logs:At} SETTINGS index_granularity = 8192 {deduplication}`,
    );
    await tables.create(context, [local]);
    const declared: RenderContext = {
      ...context,
      replicated: true,
      onCluster: true,
      retentionDays: { traces: 0, metrics: 0, logs: 4 },
    };
    const { changes } = await tables.plan(declared, [local]);
    expect(changes).toMatchObject([
      {
        what: 'ttl',
        everyReplica: false,
        sql: "ALTER TABLE replicated.t_local ON CLUSTER 'main' MODIFY TTL At + toIntervalDay(4)",
      },
      {
        what: 'setting',
        everyReplica: true,
        sql:
          "ALTER TABLE replicated.t_local ON CLUSTER 'main' MODIFY SETTING " +
          'replicated_deduplication_window = 90000, replicated_deduplication_window_seconds = 90000',
      },
    ]);
    const sharded = await tables.plan({ ...declared, replicated: false, onCluster: false }, [local]);
    expect(sharded.changes.map(({ what, everyReplica }) => [what, everyReplica])).toEqual([['ttl', true]]);
  });
});

describe('the storage policy', () => {
  test('is that of the settings on new tables, and nothing is left to reconcile', async () => {
    const context = await tables.context({ database: 'policy_new', storagePolicy: 'elsewhere' });
    await tables.create(context);
    const policies = await clickhouse.rows(`SELECT DISTINCT storage_policy FROM system.tables
      WHERE database = 'policy_new' AND engine = 'MergeTree'`);
    expect(policies).toEqual([{ storage_policy: 'elsewhere' }]);
    expect(await tables.plan(context)).toEqual(NOTHING);
  });

  test('is set on tables that exist; taken out of the settings it stays', async () => {
    const context = await tables.context({ database: 'policy_set' });
    await tables.create(context);
    const { changes } = await tables.reconcile({ ...context, storagePolicy: 'both' });
    expect(changes[0]).toMatchObject({
      what: 'setting',
      table: 'otel_traces',
      from: '',
      to: "storage_policy = 'both'",
      cost: 'instant',
      everyReplica: true,
    });
    expect((await settingsOf('policy_set', 'otel_logs')).get('storage_policy')).toBe("'both'");
    expect(await tables.plan(context)).toEqual(NOTHING);
  });

  test("the server's own may be named, too", async () => {
    const context = await tables.context({ database: 'policy_default', storagePolicy: 'default' });
    await tables.create({ ...context, storagePolicy: '' });
    await tables.reconcile(context);
    expect(await tables.plan(context)).toEqual(NOTHING);
  });

  test("one without the table's present disks is refused by the server; the windows come before", async () => {
    const context = await tables.context({ database: 'policy_refused' });
    await tables.create(context);
    const { changes } = await tables.plan({ ...context, storagePolicy: 'elsewhere', outageHoursMax: 2 });
    const names = changes.map(({ to }) => to.split(' = ')[0]);
    expect(names).toEqual([
      ...NAMES.map(() => 'non_replicated_deduplication_window'),
      ...NAMES.map(() => 'storage_policy'),
    ]);
    await expect(clickhouse.query(changes.at(-1)?.sql ?? '')).rejects.toThrow(/storage policy/);
    for (const { sql } of changes.slice(0, NAMES.length)) await clickhouse.query(sql);
  });
});

describe('left alone', () => {
  test('settings that the configuration says nothing about', async () => {
    const context = await tables.context({ database: 'alone' });
    await tables.create(context);
    await clickhouse.query('ALTER TABLE alone.otel_logs MODIFY SETTING merge_selector_base = 4');
    await clickhouse.query('ALTER TABLE alone.otel_logs RESET SETTING min_level_for_wide_part');
    expect(await tables.plan(context)).toEqual(NOTHING);
  });

  test('tables that do not exist yet, and those without {ttl:…} and {deduplication}', async () => {
    const context = await tables.context({ database: 'few', storagePolicy: 'both' });
    const plain = parseMigration(
      'own',
      1,
      '0001_x.sql',
      `-- @step local instant
      CREATE TABLE IF NOT EXISTS {local:plain} {on_cluster} (n UInt64) ENGINE = {engine:MergeTree} ORDER BY n`,
    );
    await tables.create(context, [plain]);
    expect(await tables.plan(context, [plain, ...readHistories('sql')])).toEqual(NOTHING);
  });

  test('everything on a server that is too old to change it', async () => {
    const context = await tables.context({ database: 'old', outageHoursMax: 1 });
    await tables.create(context);
    const server = { version: { major: 18, minor: 16 }, hasMergeTreeSetting: () => true };
    expect(await tables.plan({ ...context, outageHoursMax: 9, server })).toEqual(NOTHING);
  });
});

test.each([
  ['MergeTree ORDER BY n', {}],
  ['MergeTree ORDER BY n SETTINGS index_granularity = 8192', { index_granularity: '8192' }],
  [
    "MergeTree ORDER BY n TTL t SETTINGS a = 'x, y = 1', b = -1.5, storage_policy = 'it\\'s'",
    { a: "'x, y = 1'", b: '-1.5', storage_policy: "'it\\'s'" },
  ],
])('the settings of %s', (definition, settings) => {
  expect(Object.fromEntries(settingsIn(definition))).toEqual(settings);
});
