// Goal: one text gives the right statement for each topology and server. The whole schema is kept as it is
// rendered in test/golden; a change shows there (update with `npx vitest run test/migrate -u` and read the
// difference).
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { ConfigurationError } from '../../src/base/errors.ts';
import { readHistories, readTenantColumn } from '../../src/migrate/history.ts';
import { parseMigration } from '../../src/migrate/migration.ts';
import { PLACEHOLDERS, type RenderContext, deduplicationWindow } from '../../src/migrate/placeholders.ts';
import { renderMigration } from '../../src/migrate/render.ts';
import { SHARDING_KEYS, TRACE_KEY } from '../../src/transcode/sharding.ts';
import { SINGLE } from './fixture.ts';

const CLUSTER: RenderContext = { ...SINGLE, cluster: 'main', replicated: true };
const SHARDED: RenderContext = { ...SINGLE, cluster: 'main' };
/**
 * Shards by replicas. How many of either there are isn't said in any statement: the server's macros carry it.
 * So these have the same text, and stay the same when the cluster grows.
 */
const TOPOLOGIES = [
  ['1x3', CLUSTER, 'replicated'],
  ['2x2', CLUSTER, 'replicated'],
  ['3x2', CLUSTER, 'replicated'],
  ['3x1 without replication', SHARDED, 'sharded'],
] as const;
const OLD: RenderContext = {
  ...SINGLE,
  server: { version: { major: 24, minor: 3 }, hasMergeTreeSetting: () => false },
};
const ANCIENT: RenderContext = {
  ...SINGLE,
  server: { version: { major: 18, minor: 16 }, hasMergeTreeSetting: () => false },
};

const schema = (context: RenderContext) =>
  readHistories('sql')
    .map((migration) => {
      const statements = renderMigration(migration, context);
      return `-- ${migration.name}\n${statements.map(({ sql }) => `${sql};\n`).join('\n')}`;
    })
    .join('\n');

describe('the whole schema', () => {
  test.each<[string, RenderContext, string]>([
    ['one server', SINGLE, 'single-server'],
    ['one server of 24.3', OLD, 'single-server-24.3'],
    ...TOPOLOGIES.flatMap(([topology, context, name]): [string, RenderContext, string][] => [
      [`${topology}, per host`, context, `${name}-per-host`],
      [`${topology}, on cluster`, { ...context, onCluster: true }, `${name}-on-cluster`],
    ]),
  ])('%s', async (_, context, name) => {
    await expect(schema(context)).toMatchFileSnapshot(`../golden/${name}.sql`);
  });

  test.each<[string, RenderContext, string]>([
    ['one server', SINGLE, 'single-server'],
    ['one server of 23.8', { ...OLD, server: { ...OLD.server, version: { major: 23, minor: 8 } } }, 'single-server-23.8'],
    ['shards', SHARDED, 'sharded-per-host'],
    ['replicas', CLUSTER, 'replicated-per-host'],
    ['replicas, on cluster', { ...CLUSTER, onCluster: true }, 'replicated-on-cluster'],
  ])('the column of tenants, %s', async (_, context, name) => {
    const statements = renderMigration(readTenantColumn(true).migration, context);
    const text = statements.map(({ sql }) => `${sql};\n`).join('\n');
    await expect(text).toMatchFileSnapshot(`../golden/tenant-column-${name}.sql`);
  });

  test('every host is told the same: what differs between them are their macros', () => {
    for (const text of [schema(CLUSTER), schema({ ...CLUSTER, onCluster: true })]) {
      const paths = [...text.matchAll(/Replicated\w+\((.*)\)/g)].map(([, parameters]) => parameters);
      expect(paths).toHaveLength(8);
      for (const path of paths) {
        expect(path).toMatch(/^'\/clickhouse\/tables\/\{shard\}\/otel\/otel_\w+_local', '\{replica\}'$/);
      }
    }
  });
});

function renderOne(statement: string, context: RenderContext): string | undefined {
  const migration = parseMigration('own', 1, '0001_x.sql', `-- @step local instant\n${statement}`);
  return renderMigration(migration, context)[0]?.sql;
}

describe('placeholders', () => {
  const on = { ...CLUSTER, onCluster: true };
  test.each([
    ['{database}', SINGLE, 'otel'],
    ['{database}', { ...SINGLE, database: 'my-`db' }, '`my-\\`db`'],
    ['{local:t}', SINGLE, 'otel.t'],
    ['{local:t}', CLUSTER, 'otel.t_local'],
    ['{table:t}', CLUSTER, 'otel.t'],
    ['{on_cluster}', SINGLE, undefined],
    ['{on_cluster}', CLUSTER, undefined],
    ['{on_cluster}', on, "ON CLUSTER 'main'"],
    ['{local:t} {engine:MergeTree}', SINGLE, 'otel.t MergeTree'],
    [
      '{local:t} {engine:MergeTree}',
      CLUSTER,
      "otel.t_local ReplicatedMergeTree('/clickhouse/tables/{shard}/otel/t_local', '{replica}')",
    ],
    ['{local:t} {engine:MergeTree}', { ...CLUSTER, replicated: false }, 'otel.t_local MergeTree'],
    ['{local:t} {engine:ReplacingMergeTree(version)}', SINGLE, 'otel.t ReplacingMergeTree(version)'],
    [
      '{local:t} {engine:ReplacingMergeTree(version)}',
      CLUSTER,
      'otel.t_local ReplicatedReplacingMergeTree(' +
        "'/clickhouse/tables/{shard}/otel/t_local', '{replica}', version)",
    ],
    [
      '{distributed:t:cityHash64(TraceId)}',
      CLUSTER,
      "Distributed('main', 'otel', 't_local', cityHash64(TraceId))",
    ],
    ['{ttl:traces:toDateTime(Timestamp)}', SINGLE, 'TTL toDateTime(Timestamp) + toIntervalDay(30)'],
    ['{ttl:metrics:toDateTime(TimeUnix)}', SINGLE, undefined],
    ['x {ttl:traces:toDateTime(Timestamp)}', ANCIENT, 'x'],
    ['SETTINGS a = 1 {deduplication}', SINGLE, 'SETTINGS a = 1, non_replicated_deduplication_window = 90000'],
    [
      'SETTINGS a = 1 {deduplication}',
      CLUSTER,
      'SETTINGS a = 1, replicated_deduplication_window = 90000' +
        ', replicated_deduplication_window_seconds = 90000',
    ],
    [
      'SETTINGS a = 1 {deduplication}',
      { ...SHARDED, outageHoursMax: 1, storagePolicy: "it's cold" },
      "SETTINGS a = 1, non_replicated_deduplication_window = 10000, storage_policy = 'it\\'s cold'",
    ],
    ['{distributed:t:\n  concat(a, \'  \')}', SHARDED, "Distributed('main', 'otel', 't_local', concat(a, '  '))"],
    ['SETTINGS a = 1 {deduplication}', OLD, 'SETTINGS a = 1'],
    ["SETTINGS a = 1 {setting:b = 'x y'}", SINGLE, "SETTINGS a = 1, b = 'x y'"],
    ["SETTINGS a = 1 {setting:b = 'x y'}", OLD, 'SETTINGS a = 1'],
    ["'{shard}' '{replica}' '{uuid}'", SINGLE, "'{shard}' '{replica}' '{uuid}'"],
  ])('%s', (text, context, sql) => {
    expect(renderOne(text, context)).toBe(sql);
  });
});

test('the sharding keys of the Distributed tables are those that the gateway computes', () => {
  const declared = [...schema(SHARDED).matchAll(/Distributed\('main', 'otel', '(\w+)_local', (.*?)\);\n/gs)];
  const flat = (sql: string) => sql.replace(/\s+/g, '');
  expect(Object.fromEntries(declared.map(([, table = '', key = '']) => [table, flat(key)]))).toEqual({
    ...Object.fromEntries(Object.entries(SHARDING_KEYS).map(([table, key]) => [table, flat(key)])),
    otel_traces_trace_id_ts: flat(TRACE_KEY),
  });
});

test.each([
  [1, { blocks: 10_000, seconds: 7_200 }],
  [2, { blocks: 10_800, seconds: 10_800 }],
  [24, { blocks: 90_000, seconds: 90_000 }],
  [54, { blocks: 198_000, seconds: 198_000 }],
  [55, { blocks: 200_000, seconds: 201_600 }],
  [8_760, { blocks: 200_000, seconds: 31_539_600 }],
])('the window of an outage of %d hours', (hours, window) => {
  expect(deduplicationWindow(hours)).toEqual(window);
});

test('docs/migrations.md explains every placeholder, and no other', () => {
  const page = readFileSync(new URL('../../docs/migrations.md', import.meta.url), 'utf8');
  const table = page.slice(page.indexOf('### Placeholders'), page.indexOf('### Conditions'));
  const explained = [...table.matchAll(/^\| `\{([a-z_]+)/gm)].map(([, name]) => name);
  expect(explained.sort()).toEqual(Object.keys(PLACEHOLDERS).sort());
});

describe('conditions', () => {
  const choose = (condition: string) => `x\n-- @if ${condition}\ny\n-- @else\nz\n-- @end`;
  test.each([
    ['server >= 26.7', SINGLE, 'x\ny'],
    ['server >= 26.8', SINGLE, 'x\nz'],
    ['server >= 25.12', SINGLE, 'x\ny'],
    ['server < 26.7', SINGLE, 'x\nz'],
    ['server < 27.0', SINGLE, 'x\ny'],
    ['setting anything', SINGLE, 'x\ny'],
    ['setting anything', OLD, 'x\nz'],
    ['cluster', SINGLE, 'x\nz'],
    ['cluster', CLUSTER, 'x\ny'],
    ['replicated', CLUSTER, 'x\ny'],
    ['replicated', { ...CLUSTER, replicated: false }, 'x\nz'],
  ])('%s', (condition, context, sql) => {
    expect(renderOne(choose(condition), context)).toBe(sql);
  });

  test('nest', () => {
    const text = '-- @if cluster\na\n-- @if server >= 26.2\nb\n-- @else\nc\n-- @end\n-- @else\nd\n-- @end';
    expect(renderOne(text, CLUSTER)).toBe('a\nb');
    expect(renderOne(text, { ...CLUSTER, server: OLD.server })).toBe('a\nc');
    expect(renderOne(text, SINGLE)).toBe('d');
  });

  test('a step of which nothing is left is not run', () => {
    expect(renderOne('-- @if cluster\na\n-- @end', SINGLE)).toBeUndefined();
  });

  test.each([
    [
      'an unknown condition',
      '-- @if moon\na\n-- @end',
      /"-- @if moon" isn't understood: wanted is "server >= 26\.2"/,
    ],
    ['no end', '-- @if cluster\na', /an "-- @if" has no "-- @end"/],
    ['no if', 'a\n-- @end', /"-- @end" has no "-- @if"/],
    ['two elses', '-- @if cluster\na\n-- @else\nb\n-- @else\nc\n-- @end', /"-- @else" has no "-- @if"/],
  ])('%s is refused', (_, text, message) => {
    expect(() => renderOne(text, SINGLE)).toThrow(ConfigurationError);
    expect(() => renderOne(text, SINGLE)).toThrow(message);
  });
});

test('Distributed tables are for clusters only', () => {
  const migration = parseMigration(
    'own',
    1,
    '0001_x.sql',
    `-- @step local instant
CREATE TABLE IF NOT EXISTS {local:t} {on_cluster} (n UInt64) ENGINE = {engine:MergeTree} ORDER BY n;
-- @step distributed instant
CREATE TABLE IF NOT EXISTS {table:t} {on_cluster} AS {local:t} ENGINE = {distributed:t:n};`,
  );
  expect(renderMigration(migration, SINGLE)).toHaveLength(1);
  expect(renderMigration(migration, CLUSTER)[1]).toEqual({
    kind: 'distributed',
    cost: 'instant',
    sql:
      'CREATE TABLE IF NOT EXISTS otel.t AS otel.t_local ENGINE = ' +
      "Distributed('main', 'otel', 't_local', n)",
  });
});
