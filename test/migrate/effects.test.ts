// Goal: on a current server, each kind of statement is recognised as missing before it was run and as done
// after it, whatever way types and names are written in; and an apply that is repeated over a migration
// whose later steps changed what earlier ones made does nothing twice.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type ClickHouse, close, command, createClickHouse } from '../../src/clickhouse/client.ts';
import { factsOf } from '../../src/migrate/effects.ts';
import { migrateApply } from '../../src/migrate/run.ts';
import { type HostView, survey } from '../../src/migrate/survey.ts';
import { silent, useClickHouse, withTempDir } from '../support/services.ts';
import { useContext, writeMigrations } from './fixture.ts';

const clickhouse = useClickHouse();
const contextFor = useContext(clickhouse);
let server: ClickHouse;
let view: HostView;
beforeAll(async () => {
  server = createClickHouse(clickhouse.url, { insertTimeoutMs: 60_000, queryTimeoutMs: 60_000 }, silent);
  [view] = (await survey(contextFor({ database: 'effects' }))).views as [HostView];
  await clickhouse.query('CREATE DATABASE effects');
});
afterAll(() => close(server));

const look = async (sql: string, later: readonly string[] = []) => (await factsOf(view, sql, later)).state;

/** One after the other on one table; each finds what the ones before it left. */
describe('a statement', () => {
  const T = 'effects.t';
  test.each([
    [
      `CREATE TABLE IF NOT EXISTS ${T} (n UInt64, c String, d Date) ENGINE = MergeTree PARTITION BY d ORDER BY n`,
      'missing',
      'done',
    ],
    [`ALTER TABLE ${T} ADD COLUMN i INT`, 'missing', 'done'],
    [
      `ALTER TABLE ${T} ADD COLUMN IF NOT EXISTS m Map(LowCardinality(String),String) CODEC(ZSTD(1)) AFTER c`,
      'missing',
      'done',
    ],
    [`ALTER TABLE ${T} ADD COLUMN e Nested(a String, b UInt8)`, 'missing', 'done'],
    [`ALTER TABLE ${T} ADD COLUMN \`odd name\` Nullable(String) DEFAULT NULL`, 'missing', 'done'],
    [`ALTER TABLE ${T} ADD COLUMN x UInt8, ADD COLUMN y UInt8`, 'missing', 'done'],
    [`ALTER TABLE ${T} MODIFY COLUMN i BIGINT`, 'missing', 'done'],
    [`ALTER TABLE ${T} MODIFY COLUMN c CODEC(ZSTD(3))`, 'unknown', 'done'],
    [`ALTER TABLE ${T} MODIFY COLUMN x DEFAULT y + 1`, 'unknown', 'done'],
    [`ALTER TABLE ${T} MODIFY COLUMN x REMOVE DEFAULT`, 'missing', 'done'],
    [`ALTER TABLE ${T} RENAME COLUMN y TO z`, 'missing', 'done'],
    [`ALTER TABLE ${T} DROP COLUMN x`, 'missing', 'done'],
    [`ALTER TABLE ${T} DROP COLUMN IF EXISTS x`, 'done', 'done'],
    [`ALTER TABLE ${T} COMMENT COLUMN z 'the last'`, 'unknown', 'done'],
    [`ALTER TABLE ${T} ADD INDEX by_c c TYPE bloom_filter(0.01) GRANULARITY 1`, 'missing', 'done'],
    [`ALTER TABLE ${T} MATERIALIZE INDEX by_c`, 'unknown', 'done'],
    [`ALTER TABLE ${T} DROP INDEX by_c`, 'missing', 'done'],
    [`ALTER TABLE ${T} ADD CONSTRAINT positive CHECK n > 0`, 'missing', 'done'],
    [`ALTER TABLE ${T} DROP CONSTRAINT positive`, 'missing', 'done'],
    [`ALTER TABLE ${T} MODIFY TTL d + INTERVAL 3 YEAR`, 'unknown', 'unknown'],
    [`ALTER TABLE ${T} REMOVE TTL`, 'missing', 'done'],
    [`ALTER TABLE ${T} MODIFY SETTING min_level_for_wide_part = 1`, 'unknown', 'done'],
    [`ALTER TABLE ${T} RESET SETTING min_level_for_wide_part`, 'unknown', 'done'],
    [`ALTER TABLE ${T} UPDATE c = concat(c, 'x') WHERE n <> 3 AND c == ''`, 'unknown', 'done'],
    [`ALTER TABLE ${T} DELETE WHERE n IN (5, 6)`, 'unknown', 'done'],
    [`INSERT INTO ${T} (n) VALUES (1)`, 'unknown', 'unknown'],
    [`OPTIMIZE TABLE ${T} FINAL`, 'unknown', 'unknown'],
    [`CREATE VIEW IF NOT EXISTS effects.v AS SELECT n FROM ${T}`, 'missing', 'done'],
    [`CREATE MATERIALIZED VIEW IF NOT EXISTS effects.mv TO ${T} AS SELECT n FROM ${T}`, 'missing', 'done'],
    ['DROP VIEW IF EXISTS effects.mv', 'missing', 'done'],
    [`CREATE TABLE IF NOT EXISTS effects.new AS ${T}`, 'missing', 'done'],
    [`RENAME TABLE ${T} TO effects.t_old, effects.new TO ${T}`, 'missing', 'done'],
    ['DROP TABLE IF EXISTS effects.t_old', 'missing', 'done'],
    [`TRUNCATE TABLE IF EXISTS ${T}`, 'unknown', 'unknown'],
  ])('%s', async (sql, before, after) => {
    expect(await look(sql)).toBe(before);
    await command(server, sql, { mutations_sync: '1' });
    expect(await look(sql)).toBe(after);
  });
});

test('what stands in its place and is of another kind is a conflict', async () => {
  await clickhouse.query('CREATE TABLE effects.log (n UInt64) ENGINE = Log');
  await clickhouse.query('CREATE TABLE effects.plain (n UInt64) ENGINE = MergeTree ORDER BY n');
  const create = (table: string, engine: string) =>
    `CREATE TABLE IF NOT EXISTS effects.${table} (n UInt64) ENGINE = ${engine}`;
  expect(await look(create('log', 'MergeTree ORDER BY n'))).toBe('conflict');
  expect(await look(create('plain', "ReplicatedMergeTree('/p', 'r') ORDER BY n"))).toBe('conflict');
  expect(await look(create('plain', "Distributed('c', 'effects', 'log')"))).toBe('conflict');
  expect(await look('CREATE VIEW IF NOT EXISTS effects.plain AS SELECT 1')).toBe('conflict');
  expect(await look(create('plain', 'MergeTree ORDER BY n'))).toBe('done');
});

test('a column that is there with another type is missing, unless a later step made it so', async () => {
  await clickhouse.query('CREATE TABLE effects.typed (n UInt64, c UInt64) ENGINE = MergeTree ORDER BY n');
  const add = 'ALTER TABLE effects.typed ADD COLUMN c UInt32';
  expect(await look(add)).toBe('missing');
  expect(await look(add, ['ALTER TABLE effects.typed MODIFY COLUMN c UInt64'])).toBe('done');
  expect(await look(add, ['ALTER TABLE effects.other MODIFY COLUMN c UInt64'])).toBe('missing');
  expect(
    await look('ALTER TABLE effects.typed ADD COLUMN b UInt8', [
      'ALTER TABLE effects.typed RENAME COLUMN b TO c',
    ]),
  ).toBe('done');
  expect(
    await look('CREATE TABLE effects.typed_new (n UInt64)', [
      'RENAME TABLE effects.typed_new TO effects.typed',
    ]),
  ).toBe('done');
});

test('an apply that was interrupted before its row was written does nothing twice', () =>
  withTempDir(async (dir) => {
    const context = contextFor({ database: 'twice', migrationsDir: dir });
    writeMigrations(dir, {
      '0001_first.sql':
        '-- @step local instant\nCREATE TABLE IF NOT EXISTS {local:t} {on_cluster} (n UInt64, old String) ENGINE = {engine:MergeTree} ORDER BY n',
      '0002_all.sql': [
        'local instant\nALTER TABLE {local:t} {on_cluster} ADD COLUMN c UInt32',
        "local rewrites\nALTER TABLE {local:t} {on_cluster} UPDATE c = c + 1 WHERE old = ''",
        'local instant\nALTER TABLE {local:t} {on_cluster} MODIFY COLUMN c UInt64',
        'local instant\nALTER TABLE {local:t} {on_cluster} RENAME COLUMN c TO e',
        'local drops\nALTER TABLE {local:t} {on_cluster} DROP COLUMN old',
        'local instant\nCREATE TABLE IF NOT EXISTS {local:t_new} {on_cluster} (n UInt64, e UInt64) ENGINE = {engine:MergeTree} ORDER BY (n, e)',
        'local instant\nRENAME TABLE {local:t} TO {local:t_old}, {local:t_new} TO {local:t} {on_cluster}',
      ]
        .map((step) => `-- @step ${step}\n`)
        .join('\n'),
    });
    await migrateApply(context, { allowDrops: true });
    await clickhouse.query("ALTER TABLE twice.sluice_migrations DELETE WHERE origin = 'own' AND number = 2", {
      mutations_sync: '1',
    });
    const ran: string[] = [];
    await migrateApply(context, {
      allowDrops: true,
      progress: ({ what, step }) => void (what === 'ran' && ran.push(step.sql[0] ?? '')),
    });
    expect(ran).toEqual([]);
    const rows = await clickhouse.rows<{ name: string }>(
      "SELECT name FROM system.tables WHERE database = 'twice' AND name LIKE 't%' ORDER BY name",
    );
    expect(rows.map(({ name }) => name)).toEqual(['t', 't_old']);
  }));
