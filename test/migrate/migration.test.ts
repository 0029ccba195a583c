// Goal: the format of docs/migrations.md is read as it says, and every mistake in a file is refused by
// file, line and remedy.
import { describe, expect, test } from 'vitest';
import { ConfigurationError } from '../../src/base/errors.ts';
import { parseMigration } from '../../src/migrate/migration.ts';
import { createTable } from './fixture.ts';

const parse = (text: string) => parseMigration('own', 1, '0001_x.sql', text);

describe('a migration', () => {
  test('is its steps, each with where it runs, its cost, its statement and its line', () => {
    const { steps } = parse(`-- Says what it is for.

-- @step local instant
CREATE TABLE IF NOT EXISTS {local:a} {on_cluster} (
    n UInt64 -- a comment at the end of a line stays; only whole lines go
    -- a whole line
) ENGINE = {engine:MergeTree} ORDER BY n;

-- @step view rewrites
ALTER TABLE {database}.v {on_cluster} MODIFY QUERY SELECT ';' AS s`);
    expect(steps).toEqual([
      {
        kind: 'local',
        cost: 'instant',
        line: 3,
        text:
          'CREATE TABLE IF NOT EXISTS {local:a} {on_cluster} (\n' +
          '    n UInt64 -- a comment at the end of a line stays; only whole lines go\n' +
          ') ENGINE = {engine:MergeTree} ORDER BY n',
      },
      {
        kind: 'view',
        cost: 'rewrites',
        line: 9,
        text: "ALTER TABLE {database}.v {on_cluster} MODIFY QUERY SELECT ';' AS s",
      },
    ]);
  });

  test.each([
    ['a comment', (text: string) => `-- new\n${text}\n  -- and here`],
    ['line ends of Windows', (text: string) => text.replaceAll('\n', '\r\n')],
    ['blanks at the end of lines', (text: string) => text.replaceAll('\n', '  \n')],
    ['empty lines', (text: string) => text.replaceAll('\n', '\n\n')],
  ])('has the same checksum with %s', (_, change) => {
    expect(parse(change(createTable('a'))).checksum).toBe(parse(createTable('a')).checksum);
  });

  test.each([
    ['a column', (text: string) => text.replace('UInt64', 'UInt32')],
    ['its cost', (text: string) => text.replace('instant', 'rewrites')],
    ['a condition', (text: string) => text.replace('CREATE', '-- @if cluster\n-- @end\nCREATE')],
    ['another step', (text: string) => text + createTable('b')],
  ])('has another checksum with a change of %s', (_, change) => {
    expect(parse(change(createTable('a'))).checksum).not.toBe(parse(createTable('a')).checksum);
  });
});

describe('is refused', () => {
  const statement =
    'CREATE TABLE IF NOT EXISTS {local:a} {on_cluster} (n UInt64) ENGINE = {engine:MergeTree} ORDER BY n';
  test.each([
    ['an empty file', '-- nothing', /line 1: no step: each begins with a line like "-- @step local instant"/],
    [
      'a statement before the first step',
      `${statement};`,
      /line 1: a statement stands before the first "-- @step" line/,
    ],
    [
      'an unknown place',
      `-- @step everywhere instant\n${statement}`,
      /line 1: "-- @step everywhere instant" isn't understood/,
    ],
    [
      'an unknown cost',
      `-- @step local cheap\n${statement}`,
      /where local, distributed, view and cost instant, rewrites, drops/,
    ],
    ['a step without cost', `-- @step local\n${statement}`, /isn't understood/],
    [
      'a step without statement',
      '-- @step local instant\n-- @if cluster\n-- @end',
      /line 1: the step has no statement/,
    ],
    [
      'DDL without {on_cluster}',
      `-- @step local instant\n${statement.replace('{on_cluster}', '')}`,
      /needs \{on_cluster\}/,
    ],
    [
      'CREATE that cannot be repeated',
      `-- @step local instant\n${statement.replace('IF NOT EXISTS', '')}`,
      /CREATE needs IF NOT EXISTS/,
    ],
    [
      'DROP that cannot be repeated',
      '-- @step local drops\nDROP TABLE {local:a} {on_cluster}',
      /DROP needs IF EXISTS/,
    ],
    [
      'an undeclared loss',
      '-- @step local instant\nALTER TABLE {local:a} {on_cluster} DROP COLUMN IF EXISTS n',
      /the step loses data but is declared "instant": declare it "drops"/,
    ],
    [
      'EXCHANGE, which undoes itself when it is repeated',
      '-- @step local instant\nEXCHANGE TABLES {local:a} AND {local:b} {on_cluster}',
      /EXCHANGE can not be told from its opposite.*write RENAME TABLE a TO a_old, b TO a/,
    ],
    [
      'an unknown placeholder',
      `-- @step local instant\n${statement.replace('{local:', '{lokal:')}`,
      /\{lokal:a\} is no placeholder; known are \{database\} \{on_cluster\} \{local\}/,
    ],
    [
      'a placeholder without its argument',
      `-- @step local instant\n${statement.replace('{local:a}', '{local}')}`,
      /\{local\} isn't understood: wanted is something like \{local:otel_traces\}/,
    ],
    [
      'a placeholder with too much',
      `-- @step local instant\n${statement.replace('{on_cluster}', '{on_cluster} {database:x}')}`,
      /\{database:x\} isn't understood/,
    ],
    [
      'a TTL of no signal',
      `-- @step local instant\n${statement} {ttl:profiles:Timestamp}`,
      /\{ttl:profiles:Timestamp\} isn't/,
    ],
    [
      'an engine without its table',
      '-- @step local instant\nCREATE TABLE IF NOT EXISTS t {on_cluster} (n UInt8) ' +
        'ENGINE = {engine:MergeTree} ORDER BY n',
      /\{engine:MergeTree\} needs a \{local:…\} in its statement/,
    ],
    [
      'a local step after a view',
      `${createTable('a').replace('local instant', 'view instant')}${createTable('b')}`,
      /line 4: a local step comes after a view step: .*the order is local, distributed, view/,
    ],
  ])('%s', (_, text, message) => {
    expect(() => parse(text)).toThrow(ConfigurationError);
    expect(() => parse(text)).toThrow(message);
    expect(() => parse(text)).toThrow('0001_x.sql, line');
  });

  test.each([
    'TRUNCATE TABLE IF EXISTS {local:a} {on_cluster}',
    'DELETE FROM {local:a} {on_cluster} WHERE n = 1',
    'ALTER TABLE {local:a} {on_cluster} DELETE WHERE n = 1',
    "ALTER TABLE {local:a} {on_cluster} DROP PARTITION '2026-01-01'",
    'ALTER TABLE {local:a} {on_cluster} CLEAR COLUMN n',
  ])('a loss that is declared otherwise: %s', (statement) => {
    expect(() => parse(`-- @step local rewrites\n${statement}`)).toThrow(
      /declared "rewrites": declare it "drops"/,
    );
    expect(parse(`-- @step local drops\n${statement}`).steps).toHaveLength(1);
  });
});
