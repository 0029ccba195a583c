// Goal: a folder of migrations is read in order, and holes, doubles and wrong names are refused by name.
import { readdirSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { ConfigurationError } from '../../src/base/errors.ts';
import { historiesFor, readHistories, readHistory } from '../../src/migrate/history.ts';
import { withTempDir } from '../support/services.ts';
import { createTable, writeMigrations } from './fixture.ts';

const read = (files: Readonly<Record<string, string>>) =>
  withTempDir((dir) => {
    writeMigrations(dir, files);
    return readHistory(dir, 'own').map(({ number, name }) => ({ number, name }));
  });

describe('a folder', () => {
  test('gives its migrations by number, from any first number, and leaves other files alone', async () => {
    expect(
      await read({ '0101_b.sql': createTable('b'), '0100_a.sql': createTable('a'), 'README.md': 'x' }),
    ).toEqual([
      { number: 100, name: '0100_a.sql' },
      { number: 101, name: '0101_b.sql' },
    ]);
    expect(await read({})).toEqual([]);
  });

  test.each([
    ['a hole', ['0001_a.sql', '0003_c.sql'], /number 0002 is missing between 0001_a\.sql and 0003_c\.sql/],
    [
      'two files of one number',
      ['0001_a.sql', '0001_b.sql'],
      /0001_a\.sql and 0001_b\.sql have the same number/,
    ],
    ['a name without number', ['a.sql'], /a\.sql: the name of a migration is four digits/],
    ['a number of three digits', ['001_a.sql'], /the name of a migration is four digits/],
    ['capitals', ['0001_A.sql'], /the name of a migration is four digits/],
  ])('with %s is refused', async (_, names, message) => {
    const files = Object.fromEntries(names.map((name) => [name, createTable('a')]));
    await expect(read(files)).rejects.toThrow(ConfigurationError);
    await expect(read(files)).rejects.toThrow(message);
  });

  test('that is not there is refused with the setting', () => {
    expect(() => readHistory('/nowhere/sql', 'own')).toThrow(
      /\/nowhere\/sql can't be read \(ENOENT\): set SLUICE_MIGRATIONS_DIR/,
    );
  });
});

/** sluice's own migrations. */
const OWN = readdirSync(new URL('../../sql/', import.meta.url))
  .filter((name) => name.endsWith('.sql'))
  .sort();

describe('the histories of a start', () => {
  test("are the program's own alone by default, whatever folder it is started in", () =>
    withTempDir((dir) => {
      const before = process.cwd();
      process.chdir(dir);
      try {
        const migrations = readHistories('sql');
        expect(migrations.map(({ name }) => name)).toEqual(OWN);
        expect(new Set(migrations.map(({ origin }) => origin))).toEqual(new Set(['sluice']));
      } finally {
        process.chdir(before);
      }
    }));

  test('have those of a further folder after them, with numbers of their own', () =>
    withTempDir((dir) => {
      writeMigrations(dir, { '0001_own.sql': createTable('a') });
      const migrations = readHistories(dir);
      expect(migrations.map(({ origin, number }) => [origin, number])).toEqual([
        ...OWN.map((_, index) => ['sluice', index + 1]),
        ['own', 1],
      ]);
    }));

  test.each([
    [{ major: 23, minor: 8 }, ['sluice', 'own'], undefined],
    [{ major: 26, minor: 7 }, ['sluice', 'own'], undefined],
    [
      { major: 23, minor: 7 },
      ['own'],
      /need ClickHouse 23\.8, the oldest server has 23\.7: they are left out/,
    ],
    [{ major: 18, minor: 16 }, ['own'], /the oldest server has 18\.16/],
  ])('on a server of %o are %o', (version, origins, warning) =>
    withTempDir((dir) => {
      writeMigrations(dir, { '0001_own.sql': createTable('a') });
      const histories = historiesFor(dir, version);
      expect([...new Set(histories.migrations.map(({ origin }) => origin))]).toEqual(origins);
      if (warning === undefined) expect(histories.warning).toBeUndefined();
      else expect(histories.warning).toMatch(warning);
    }),
  );

  test('are refused on a server that is too old where nobody has any of their own', () => {
    expect(() => historiesFor('sql', { major: 22, minor: 3 })).toThrow(
      /need ClickHouse 23\.8, the oldest server has 22\.3: upgrade it, or set SLUICE_MIGRATIONS_DIR/,
    );
  });
});
