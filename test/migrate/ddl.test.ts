// Goal: what a statement does is read rightly, in every form in which migrations write it and servers show
// it; and what isn't known is left as text, never misread.
import { describe, expect, test } from 'vitest';
import type { AlterCommand } from '../../src/migrate/alter.ts';
import { type CreateTable, type CreateView, parseDdl } from '../../src/migrate/ddl.ts';
import { spell, tokenize } from '../../src/migrate/lexer.ts';

describe('one line of SQL, whatever the blanks, quotes and comments', () => {
  test.each([
    ['a  +\n b', 'a + b'],
    ['`a`.`b c`', 'a.`b c`'],
    ['"a"', 'a'],
    ['f( a,b )', 'f(a, b)'],
    ['(a,b)', '(a, b)'],
    ["concat(item.1,'=',item.2)", "concat(item.1, '=', item.2)"],
    [
      'arrayMap(x->x.1, m::Array(Tuple(String, String)))',
      'arrayMap(x -> x.1, m::Array(Tuple(String, String)))',
    ],
    ["m[ 'k' ]", "m['k']"],
    ["'it''s' -- why\n, 'b\\\\c'", "'it\\'s', 'b\\\\c'"],
    ['/* no */ a /* yes */', 'a'],
    ['1.5e-3 * 0x1F', '1.5e-3 * 0x1F'],
    ['a.1.2', 'a.1.2'],
    ['SELECT a FROM (SELECT 1)', 'SELECT a FROM (SELECT 1)'],
    ['a IN (1,2) AND (b)', 'a IN (1, 2) AND (b)'],
    ['and(a, b)', 'and(a, b)'],
    ['f(-1, - 2)', 'f(-1, -2)'],
    ['a -1', 'a - 1'],
    ["'open", "'open'"],
  ])('%j', (text, line) => {
    expect(spell(tokenize(text))).toBe(line);
    expect(spell(tokenize(line))).toBe(line);
  });
});

const created = (sql: string) => parseDdl(sql) as CreateTable;
const viewed = (sql: string) => parseDdl(sql) as CreateView;
const column = { type: '', default: undefined, codec: undefined, comment: undefined, ttl: undefined };

describe('CREATE TABLE', () => {
  test('as a migration writes it', () => {
    const ddl = created(`CREATE TABLE IF NOT EXISTS otel.t_local ON CLUSTER 'main'
(
    Timestamp DateTime64(9) CODEC(Delta, ZSTD(1)),
    Events Nested (Name LowCardinality(String), Attributes Map(String, String)) CODEC(ZSTD(1)),
    Rate UInt64 MATERIALIZED greatest(toUInt64OrZero(A['Rate']), 1) CODEC(T64, ZSTD(1)), -- why
    Items Array(String) ALIAS arrayMap(item -> item.1, A),
    INDEX idx_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1,
    CONSTRAINT positive CHECK Rate > 0,
    PROJECTION p (SELECT Rate ORDER BY Rate)
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/otel/t_local', '{replica}')
PARTITION BY toDate(Timestamp)
ORDER BY (ServiceName, Timestamp)
TTL toDateTime(Timestamp) + toIntervalDay(30)
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1
    , mode = 'single_stream';`);
    expect(ddl).toMatchObject({
      kind: 'create table',
      name: { database: 'otel', table: 't_local' },
      onCluster: 'main',
      ifNotExists: true,
      like: undefined,
      select: '',
      engine: {
        name: 'ReplicatedMergeTree',
        args: ["'/clickhouse/tables/{shard}/otel/t_local'", "'{replica}'"],
      },
      partitionBy: 'toDate(Timestamp)',
      orderBy: '(ServiceName, Timestamp)',
      primaryKey: '',
      ttl: 'toDateTime(Timestamp) + toIntervalDay(30)',
      indices: [{ name: 'idx_id', expression: 'TraceId', type: 'bloom_filter(0.001)', granularity: 1 }],
      rules: [
        { kind: 'constraint', name: 'positive', text: 'CHECK Rate > 0' },
        { kind: 'projection', name: 'p', text: '(SELECT Rate ORDER BY Rate)' },
      ],
    });
    expect([...ddl.settings]).toEqual([
      ['index_granularity', '8192'],
      ['ttl_only_drop_parts', '1'],
      ['mode', "'single_stream'"],
    ]);
    expect(ddl.columns).toEqual([
      { ...column, name: 'Timestamp', type: 'DateTime64(9)', codec: 'Delta, ZSTD(1)' },
      {
        ...column,
        name: 'Events',
        type: 'Nested(Name LowCardinality(String), Attributes Map(String, String))',
        codec: 'ZSTD(1)',
      },
      {
        ...column,
        name: 'Rate',
        type: 'UInt64',
        default: { kind: 'MATERIALIZED', expression: "greatest(toUInt64OrZero(A['Rate']), 1)" },
        codec: 'T64, ZSTD(1)',
      },
      {
        ...column,
        name: 'Items',
        type: 'Array(String)',
        default: { kind: 'ALIAS', expression: 'arrayMap(item -> item.1, A)' },
      },
    ]);
  });

  test('as an old server shows it', () => {
    const ddl = created(
      "CREATE TABLE e.t ( d Date DEFAULT toDate(at),  n UInt64 DEFAULT CAST(7, 'UInt64'),  `m.k` Array(String)) " +
        "ENGINE = Distributed('events', 'e', 't_local', n)",
    );
    expect(ddl.engine).toEqual({ name: 'Distributed', args: ["'events'", "'e'", "'t_local'", 'n'] });
    expect(ddl.columns.map(({ name, type }) => [name, type])).toEqual([
      ['d', 'Date'],
      ['n', 'UInt64'],
      ['m.k', 'Array(String)'],
    ]);
  });

  test.each<[string, Partial<CreateTable>]>([
    ['CREATE TABLE d.t AS d.other ENGINE = Log', { like: { database: 'd', table: 'other' } }],
    ['CREATE TABLE t ENGINE = Memory AS SELECT 1 AS n', { select: 'SELECT 1 AS n', like: undefined }],
    ["CREATE TABLE t (n Int8) ENGINE Memory COMMENT 'it''s'", { comment: "it's" }],
    ['CREATE TABLE t (n Int8, PRIMARY KEY (n)) ENGINE = MergeTree', { primaryKey: '(n)' }],
    [
      'CREATE TABLE t (n Int8) ENGINE = MergeTree PRIMARY KEY n ORDER BY (n, m) SAMPLE BY n',
      { primaryKey: 'n', orderBy: '(n, m)', sampleBy: 'n' },
    ],
    [
      "CREATE TABLE d.t UUID '00000000-0000-0000-0000-000000000001' (n Int8) ENGINE = Log",
      { name: { database: 'd', table: 't' } },
    ],
    ['ATTACH TABLE d.t (n Int8) ENGINE = Log', { kind: 'create table', name: { database: 'd', table: 't' } }],
    [
      'CREATE TABLE t (a DateTime) ENGINE = MergeTree ORDER BY a TTL a + INTERVAL 1 DAY DELETE WHERE b = 1, ' +
        "a + toIntervalDay(2) TO VOLUME 'cold' SETTINGS x = 1",
      { ttl: "a + INTERVAL 1 DAY DELETE WHERE b = 1, a + toIntervalDay(2) TO VOLUME 'cold'" },
    ],
  ])('%s', (sql, expected) => {
    expect(created(sql)).toMatchObject(expected);
  });

  test.each([
    [
      "a String COMMENT 'x' CODEC(NONE) TTL b + toIntervalDay(1)",
      { name: 'a', type: 'String', comment: 'x', codec: 'NONE', ttl: 'b + toIntervalDay(1)' },
    ],
    ['a DEFAULT 3', { name: 'a', type: '', default: { kind: 'DEFAULT', expression: '3' } }],
    ['a Int8 EPHEMERAL', { default: { kind: 'EPHEMERAL', expression: '' } }],
    ["a String NOT NULL DEFAULT ''", { type: 'String', default: { kind: 'DEFAULT', expression: "''" } }],
    ["a Enum8('x' = 1, 'y' = -2)", { type: "Enum8('x' = 1, 'y' = -2)" }],
    ['`index` UInt8', { name: 'index', type: 'UInt8' }],
    ['index UInt8', { name: 'index', type: 'UInt8' }],
    ['e.n Array(Int8)', { name: 'e.n', type: 'Array(Int8)' }],
    ['a Tuple(b String, c Array(UInt8))', { type: 'Tuple(b String, c Array(UInt8))' }],
  ])('the column %s', (text, expected) => {
    const ddl = created(`CREATE TABLE t (${text}, z Int8) ENGINE = Log`);
    expect(ddl.columns[0]).toMatchObject(expected);
    expect(ddl.columns).toHaveLength(2);
  });
});

describe('views', () => {
  test.each<[string, Partial<CreateView>]>([
    [
      'CREATE MATERIALIZED VIEW IF NOT EXISTS d.v ON CLUSTER c TO d.t AS SELECT a, min(b) AS m FROM d.s GROUP BY a',
      {
        materialized: true,
        ifNotExists: true,
        onCluster: 'c',
        target: { database: 'd', table: 't' },
        select: 'SELECT a, min(b) AS m FROM d.s GROUP BY a',
      },
    ],
    [
      "CREATE MATERIALIZED VIEW d.v TO d.t (`a` String) DEFINER = x SQL SECURITY DEFINER AS SELECT a FROM s COMMENT 'c'",
      { select: 'SELECT a FROM s', target: { database: 'd', table: 't' } },
    ],
    [
      'CREATE MATERIALIZED VIEW d.v REFRESH EVERY 1 HOUR TO d.t AS WITH 1 AS x SELECT x',
      { refresh: 'EVERY 1 HOUR', select: 'WITH 1 AS x SELECT x' },
    ],
    [
      'CREATE MATERIALIZED VIEW v ENGINE = MergeTree ORDER BY a POPULATE AS SELECT a FROM s',
      { target: undefined, orderBy: 'a', select: 'SELECT a FROM s' },
    ],
    ['CREATE VIEW d.v AS (SELECT 1)', { materialized: false, select: '(SELECT 1)' }],
  ])('%s', (sql, expected) => {
    expect(viewed(sql)).toMatchObject({ kind: 'create view', ...expected });
  });
});

const commandsOf = (text: string): readonly AlterCommand[] => {
  const ddl = parseDdl(`ALTER TABLE d.t ON CLUSTER 'c' ${text}`);
  return ddl.kind === 'alter' ? ddl.commands : [];
};

describe('ALTER TABLE', () => {
  test.each<[string, readonly object[]]>([
    ['ADD COLUMN a UInt8', [{ kind: 'add column', ifNotExists: false, position: undefined }]],
    [
      "ADD COLUMN IF NOT EXISTS a String DEFAULT 'AFTER' AFTER b.c, ADD COLUMN d Int8 FIRST",
      [
        { kind: 'add column', ifNotExists: true, position: { after: 'b.c' } },
        { kind: 'add column', position: { after: undefined } },
      ],
    ],
    [
      'MODIFY COLUMN a CODEC(ZSTD(3))',
      [{ kind: 'modify column', column: { ...column, name: 'a', codec: 'ZSTD(3)' } }],
    ],
    [
      'ALTER COLUMN a TYPE Int64',
      [{ kind: 'modify column', column: { ...column, name: 'a', type: 'Int64' } }],
    ],
    ['MODIFY COLUMN a REMOVE CODEC', [{ kind: 'remove of column', name: 'a', property: 'CODEC' }]],
    ['MODIFY COLUMN a MODIFY SETTING x = 1', [{ kind: 'other' }]],
    [
      'DROP COLUMN IF EXISTS a, RENAME COLUMN b TO c',
      [
        { kind: 'drop column', name: 'a', ifExists: true },
        { kind: 'rename column', from: 'b', to: 'c' },
      ],
    ],
    ["COMMENT COLUMN a 'x'", [{ kind: 'comment column', name: 'a', comment: 'x' }]],
    [
      'ADD INDEX IF NOT EXISTS i mapKeys(m) TYPE bloom_filter(0.01) GRANULARITY 4 FIRST, DROP INDEX j',
      [
        {
          kind: 'add index',
          position: { after: undefined },
          index: { name: 'i', expression: 'mapKeys(m)', type: 'bloom_filter(0.01)', granularity: 4 },
        },
        { kind: 'drop index', name: 'j' },
      ],
    ],
    [
      "ADD INDEX i Body TYPE text(tokenizer = 'splitByNonAlpha')",
      [{ kind: 'add index', index: { type: "text(tokenizer = 'splitByNonAlpha')", granularity: undefined } }],
    ],
    [
      'MODIFY SETTING a = 1, b = 2, RESET SETTING c, d',
      [
        {
          kind: 'modify setting',
          settings: new Map([
            ['a', '1'],
            ['b', '2'],
          ]),
        },
        { kind: 'reset setting', names: ['c', 'd'] },
      ],
    ],
    [
      'MODIFY TTL a + INTERVAL 1 DAY, b + toIntervalDay(2) DELETE, REMOVE TTL',
      [
        { kind: 'modify ttl', ttl: 'a + INTERVAL 1 DAY, b + toIntervalDay(2) DELETE' },
        { kind: 'remove ttl' },
      ],
    ],
    ['MODIFY ORDER BY (a, b)', [{ kind: 'modify order by', expression: '(a, b)' }]],
    ['MODIFY QUERY SELECT a, b FROM t', [{ kind: 'modify query', select: 'SELECT a, b FROM t' }]],
    [
      'UPDATE a = 1, b = 2 WHERE c IN (1, 2)',
      [{ kind: 'mutation', text: 'UPDATE a = 1, b = 2 WHERE c IN (1, 2)' }],
    ],
    ['(DELETE WHERE a = 1), (MATERIALIZE INDEX i)', [{ kind: 'mutation' }, { kind: 'mutation' }]],
    ['DROP PARTITION 202401', [{ kind: 'other', text: 'DROP PARTITION 202401' }]],
    [
      'ADD CONSTRAINT c CHECK a > 1, DROP PROJECTION p',
      [
        { kind: 'add rule', rule: { kind: 'constraint', name: 'c', text: 'CHECK a > 1' } },
        { kind: 'drop rule', what: 'projection', name: 'p' },
      ],
    ],
  ])('%s', (text, expected) => {
    expect(commandsOf(text)).toMatchObject(expected);
    expect(commandsOf(text)).toHaveLength(expected.length);
  });
});

test.each([
  [
    'DROP TABLE IF EXISTS d.t ON CLUSTER c SYNC',
    { kind: 'drop', what: 'table', ifExists: true, name: { database: 'd', table: 't' }, onCluster: 'c' },
  ],
  [
    'RENAME TABLE d.a TO d.b, d.c TO d.e ON CLUSTER c',
    {
      kind: 'rename',
      exchange: false,
      onCluster: 'c',
      pairs: [
        { from: { table: 'a' }, to: { table: 'b' } },
        { from: { table: 'c' }, to: { table: 'e' } },
      ],
    },
  ],
  ['EXCHANGE TABLES d.a AND d.b', { kind: 'rename', exchange: true }],
  ['CREATE DATABASE IF NOT EXISTS `my db`', { kind: 'create database', database: 'my db' }],
  ['OPTIMIZE TABLE d.t FINAL', { kind: 'other', text: 'OPTIMIZE TABLE d.t FINAL' }],
  ['INSERT INTO d.t  VALUES (1)', { kind: 'other', text: 'INSERT INTO d.t VALUES (1)' }],
  ['', { kind: 'other', text: '' }],
  ['CREATE', { kind: 'other' }],
  ['ALTER TABLE', { kind: 'other' }],
])('%s', (sql, expected) => {
  expect(parseDdl(sql)).toMatchObject(expected);
});
