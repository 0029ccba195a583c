// Goal: statements fold into the tables that they make, whatever their order and form; expressions that mean
// the same have one form, others don't; and what can't be folded is noted, never taken for verified.
import { describe, expect, test } from 'vitest';
import { defaultOf, sameCodec, settingOf, typeOf } from '../../src/migrate/canonical.ts';
import { foldStatements } from '../../src/migrate/declared.ts';
import { canonicalExpression, canonicalQuery } from '../../src/migrate/expression.ts';
import { createText } from '../../src/migrate/write-ddl.ts';
import { parseDdl } from '../../src/migrate/ddl.ts';
import { revivingStatements, uncovered } from '../../src/migrate/replica.ts';
import { stateOf } from '../../src/migrate/state.ts';

const CREATE = `CREATE TABLE IF NOT EXISTS d.t (a UInt8, b String, n Nested(x Int8, y Int8), INDEX i a TYPE minmax)
ENGINE = MergeTree ORDER BY a TTL c SETTINGS s = 1`;

const fold = (...alters: readonly string[]) =>
  foldStatements([CREATE, ...alters.map((text) => `ALTER TABLE d.t ${text}`)]);
const columnsAfter = (...alters: readonly string[]) =>
  fold(...alters)
    .tables.get('d.t')
    ?.columns.map(({ name, type }) => `${name} ${type}`);
const NESTED = ['n.x Array(Int8)', 'n.y Array(Int8)'];

describe('ALTERs are folded into the table', () => {
  test.each<[string, readonly string[]]>([
    ['ADD COLUMN c Int8', ['a UInt8', 'b String', ...NESTED, 'c Int8']],
    ['ADD COLUMN c Int8 AFTER a', ['a UInt8', 'c Int8', 'b String', ...NESTED]],
    ['ADD COLUMN c Int8 FIRST', ['c Int8', 'a UInt8', 'b String', ...NESTED]],
    ['ADD COLUMN c Int8 AFTER n', ['a UInt8', 'b String', ...NESTED, 'c Int8']],
    ['ADD COLUMN IF NOT EXISTS b Int8', ['a UInt8', 'b String', ...NESTED]],
    [
      'ADD COLUMN n.z Array(Int8) AFTER n.x',
      ['a UInt8', 'b String', NESTED[0] ?? '', 'n.z Array(Int8)', NESTED[1] ?? ''],
    ],
    ['DROP COLUMN n', ['a UInt8', 'b String']],
    ['DROP COLUMN b, ADD COLUMN b Int8', ['a UInt8', ...NESTED, 'b Int8']],
    ['RENAME COLUMN b TO c', ['a UInt8', 'c String', ...NESTED]],
    ['MODIFY COLUMN b Int8', ['a UInt8', 'b Int8', ...NESTED]],
    ['MODIFY COLUMN b CODEC(NONE)', ['a UInt8', 'b String', ...NESTED]],
    ['MODIFY COLUMN b String AFTER n', ['a UInt8', ...NESTED, 'b String']],
    ['UPDATE b = 1 WHERE a = 1', ['a UInt8', 'b String', ...NESTED]],
  ])('%s', (alter, expected) => {
    expect(columnsAfter(alter)).toEqual(expected);
    expect(fold(alter).unverified).toEqual([]);
  });

  test('keys, TTL, settings, indices, comments', () => {
    const { tables, unverified } = fold(
      'MODIFY ORDER BY (a, b)',
      'REMOVE TTL',
      "MODIFY SETTING u = 'x', RESET SETTING s",
      'DROP INDEX i, ADD INDEX j b TYPE set(0)',
      "COMMENT COLUMN a 'first', MODIFY COLUMN b DEFAULT 'x', MODIFY COLUMN b CODEC(LZ4)",
      'MODIFY COLUMN b REMOVE DEFAULT',
      'FREEZE',
    );
    const table = tables.get('d.t');
    expect(table).toMatchObject({ orderBy: '(a, b)', primaryKey: 'a', ttl: '' });
    expect([...(table?.settings ?? [])]).toEqual([['u', "'x'"]]);
    expect(table?.indices.map(({ name }) => name)).toEqual(['j']);
    expect(table?.columns.slice(0, 2)).toMatchObject([
      { comment: 'first' },
      { codec: 'LZ4', default: undefined },
    ]);
    expect(unverified).toEqual(['d.t: FREEZE']);
  });

  test('tables are declared like others, renamed, exchanged and dropped', () => {
    const { tables, unverified } = foldStatements([
      CREATE,
      CREATE.replace('a UInt8', 'a Int64'),
      "CREATE TABLE d.face AS d.t ENGINE = Distributed('c', 'd', 't', a)",
      'CREATE TABLE d.u (z Int8) ENGINE = Log',
      'RENAME TABLE d.t TO d.w',
      'EXCHANGE TABLES d.w AND d.u',
      'CREATE TABLE d.gone (z Int8) ENGINE = Log',
      'DROP TABLE IF EXISTS d.gone',
      'ALTER TABLE d.unknown ADD COLUMN a Int8',
      'INSERT INTO d.u VALUES (1)',
      'SYSTEM FLUSH LOGS',
      'CREATE FUNCTION f AS x -> x',
    ]);
    expect([...tables.keys()].sort()).toEqual(['d.face', 'd.u', 'd.w']);
    expect(tables.get('d.u')?.columns[0]).toMatchObject({ name: 'a', type: 'UInt8' });
    expect(tables.get('d.face')?.columns).toHaveLength(4);
    expect(unverified).toEqual(['d.unknown: add column', 'CREATE FUNCTION f AS x -> x']);
  });

  test('a table is written so that it is read again as the same', () => {
    const state = fold("ADD COLUMN `c.d e` String DEFAULT 'x' COMMENT 'it''s' CODEC(LZ4)").tables.get('d.t');
    const again = state && parseDdl(createText(state));
    expect(again?.kind === 'create table' && stateOf(again)).toEqual(state);
  });
});

describe('one form', () => {
  test.each([
    ['a AND b AND c', 'and(a, and(b, c))'],
    ["(s != '') AND (at > toDateTime(0))", "s <> '' and at > TODATETIME(0)"],
    ['NOT a = 1', 'not(equals(a, 1))'],
    ['a BETWEEN 1 AND 2', '(a >= 1) AND (a <= 2)'],
    ['x::Array(Tuple(String, String))', "CAST(x, 'Array(Tuple(String, String))')"],
    ['CAST(x AS UInt8)', 'x::UInt8'],
    ["m['k']", "arrayElement(m, 'k')"],
    ['t.1', 'tupleElement(t, 1)'],
    ['[1, 2]', 'array(1, 2)'],
    ['(a, b)', 'tuple(a, b)'],
    ['a, b', '(a, b)'],
    ['(a)', 'a'],
    ['c + INTERVAL 1 DAY', 'c + toIntervalDay(1)'],
    ["c + INTERVAL '3 months'", 'c + toIntervalMonth(3)'],
    ['a ? b : c', 'if(a, b, c)'],
    ['CASE WHEN a THEN 1 ELSE 2 END', 'multiIf(a, 1, 2)'],
    ['count(*)', 'count()'],
    ['x -> (x + 1)', 'x -> x + 1'],
    ['a || b || c', 'concat(a, b, c)'],
    ['-1', '- 1'],
    ['a IS NOT NULL', 'isNotNull(a)'],
    ['quantile(0.9)(a)', 'quantile( 0.9 )( (a) )'],
    ['a NOT IN (1,2)', 'notIn(a, (1, 2))'],
    ['', 'tuple()'],
  ])('%s = %s', (one, other) => {
    expect(canonicalExpression(one)).toBe(canonicalExpression(other));
  });
  test.each([
    ['a - b - c', 'a - (b - c)'],
    ['a AND b OR c', 'a AND (b OR c)'],
    ['a', 'A'],
    ["'a'", "'A'"],
    ['a + 1', 'a + 2'],
    ['NOT a AND b', 'NOT (a AND b)'],
    ['(a, b)', '(b, a)'],
    ['f(a)', 'g(a)'],
  ])('%s is not %s', (one, other) => {
    expect(canonicalExpression(one)).not.toBe(canonicalExpression(other));
  });
  test.each([
    [
      'SELECT a, min(b) as m FROM d.t  WHERE (a != 1) GROUP BY a',
      'select a, MIN(b) AS m from `d`.`t` where a <> 1 group by (a)',
    ],
    ['SELECT a FROM (SELECT b AS a FROM t) ORDER BY a ASC', 'SELECT a FROM ( SELECT b a FROM t ) ORDER BY a'],
    ['WITH 1 AS x SELECT x', 'WITH 1 as x SELECT x'],
    ['SELECT a FROM t AS q INNER JOIN u ON q.a = u.a', 'SELECT a  FROM t AS q INNER JOIN u ON q.a = u.a'],
  ])('%s', (one, other) => {
    expect(canonicalQuery(one)).toBe(canonicalQuery(other));
  });
});

test('codecs, types, settings and defaults as servers write them', () => {
  expect(sameCodec('Delta, ZSTD', 'Delta(8), ZSTD(1)', 'DateTime64(9)')).toBe(true);
  expect(sameCodec('Delta', 'Delta(8)', 'DateTime')).toBe(false);
  expect(sameCodec('Delta', 'Delta(1)', 'UInt8')).toBe(true);
  expect(sameCodec('Default', undefined, 'String')).toBe(true);
  expect(sameCodec('ZSTD(1)', 'ZSTD(3)', 'String')).toBe(false);
  expect(sameCodec('T64', "T64('bit')", 'UInt64')).toBe(true);
  expect(typeOf('Array( integer )')).toBe('Array(Int32)');
  expect([settingOf("'x'"), settingOf('true'), settingOf('0')]).toEqual(['x', '1', '0']);
  const column = { name: 'n', type: 'UInt64', codec: undefined, comment: undefined, ttl: undefined };
  const withDefault = (expression: string) => ({
    ...column,
    default: { kind: 'DEFAULT' as const, expression },
  });
  expect(defaultOf(withDefault("CAST(7, 'UInt64')"))).toBe(defaultOf(withDefault('7')));
  expect(defaultOf(withDefault("CAST(7, 'UInt8')"))).not.toBe(defaultOf(withDefault('7')));
});

test('parts are there when larger ones cover them', () => {
  const part = (partition_id: string, min_block: number, max_block: number) => ({
    partition_id,
    min_block: `${min_block}`,
    max_block: `${max_block}`,
  });
  const wanted = [part('a', 1, 1), part('a', 2, 4), part('b', 1, 1)];
  expect(uncovered(wanted, [part('a', 0, 4)])).toEqual([part('b', 1, 1)]);
  expect(uncovered(wanted, [part('a', 1, 3), part('b', 1, 1)])).toEqual([part('a', 2, 4)]);
});

test('a lost replica is forgotten by Keeper where servers can, else attached twice', () => {
  const ddl = parseDdl(CREATE);
  if (ddl.kind !== 'create table') throw new Error('it creates a table');
  const replica = { path: '/clickhouse/tables/01/d/t', name: 'r2' };
  const clone = { state: stateOf(ddl), sql: CREATE, peer: undefined, source: '', replica };
  expect(revivingStatements({ major: 24, clone })).toEqual([
    "SYSTEM DROP REPLICA 'r2' FROM ZKPATH '/clickhouse/tables/01/d/t'",
    CREATE,
  ]);
  const attach = CREATE.replace('CREATE TABLE IF NOT EXISTS', 'ATTACH TABLE');
  expect(revivingStatements({ major: 18, clone })).toEqual([attach, 'DETACH TABLE d.t', attach]);
});
