// Goal: on a real ClickHouse, apply brings an empty server to the declared tables, changes nothing the
// second time, goes on after an interruption at any statement, and refuses a history that was tampered
// with, leaving everything as it was.
import { copyFileSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { ConfigurationError, Fault, messageOf } from '../../src/base/errors.ts';
import { readHistories } from '../../src/migrate/history.ts';
import { renderMigration } from '../../src/migrate/render.ts';
import { hasDifferences, migrateApply, migratePlan, migrateStatus } from '../../src/migrate/run.ts';
import { type HostView, survey } from '../../src/migrate/survey.ts';
import { useClickHouse, withTempDir } from '../support/services.ts';
import { createTable, useContext, writeMigrations } from './fixture.ts';

const SQL = fileURLToPath(new URL('../../sql/', import.meta.url));
const clickhouse = useClickHouse();
const contextFor = useContext(clickhouse);

/** sluice's own migrations. */
const OWN = readdirSync(SQL)
  .filter((name) => name.endsWith('.sql'))
  .sort();

const ALL_TABLES = [
  'otel_logs',
  'otel_metrics_exponential_histogram',
  'otel_metrics_gauge',
  'otel_metrics_histogram',
  'otel_metrics_sum',
  'otel_metrics_summary',
  'otel_traces',
  'otel_traces_trace_id_ts',
  'otel_traces_trace_id_ts_mv',
  'sluice_migrations',
];

async function tablesOf(database: string): Promise<string[]> {
  const rows = await clickhouse.rows<{ name: string }>(
    `SELECT name FROM system.tables WHERE database = '${database}' ORDER BY name`,
  );
  return rows.map(({ name }) => name);
}

/** Every CREATE statement of a database, with its name taken out, to compare two. */
async function schemaOf(database: string): Promise<string[]> {
  const rows = await clickhouse.rows<{ text: string }>(
    `SELECT create_table_query AS text FROM system.tables WHERE database = '${database}' ORDER BY name`,
  );
  return rows.map(({ text }) => text.replaceAll(`${database}.`, ''));
}

describe('a fresh server', () => {
  test('plan changes nothing, apply makes every table, and then there is nothing to do', async () => {
    const context = contextFor({ database: 'fresh' });
    const [planned] = await migratePlan(context);
    expect(planned?.pending.map(({ name }) => name)).toEqual(OWN);
    expect(planned?.pending.flatMap(({ statements }) => statements)).toHaveLength(9);
    expect(await tablesOf('fresh')).toEqual([]);

    const [report] = await migrateApply(context);
    expect(report?.applied.map(({ name }) => name)).toEqual(OWN);
    expect(await tablesOf('fresh')).toEqual(ALL_TABLES);
    expect(hasDifferences(await migratePlan(context))).toBe(false);

    const before = await schemaOf('fresh');
    const ledger = await clickhouse.query('SELECT * FROM fresh.sluice_migrations ORDER BY number');
    expect(await migrateApply(context)).toEqual([
      { host: report?.host, applied: [], ttlChanged: [], settingsChanged: [] },
    ]);
    expect(await schemaOf('fresh')).toEqual(before);
    expect(await clickhouse.query('SELECT * FROM fresh.sluice_migrations ORDER BY number')).toBe(ledger);
  });

  test('a database whose name has to be quoted works as well', async () => {
    const context = contextFor({ database: "odd-`name'" });
    await migrateApply(context);
    expect(hasDifferences(await migratePlan(context))).toBe(false);
  });

  test('two migrators at once end with the same tables, each migration counted once', async () => {
    const context = contextFor({ database: 'twice' });
    await Promise.all([migrateApply(context), migrateApply(context)]);
    const [status] = await migrateStatus(context);
    expect(status?.migrations.map(({ number, state }) => [number, state])).toEqual(
      OWN.map((_, index) => [index + 1, 'applied']),
    );
    expect(hasDifferences(await migratePlan(context))).toBe(false);
  });
});

test('an interruption after any statement is mended by the next apply', async () => {
  await migrateApply(contextFor({ database: 'whole' }));
  const declared = await schemaOf('whole');
  const context = contextFor({});
  const [{ render }] = (await survey(context)).views as [HostView];
  for (let done = 0; done < 9; done++) {
    const database = `interrupted_${done}`;
    const statements = readHistories('sql').flatMap((migration) =>
      renderMigration(migration, { ...render, database }),
    );
    await clickhouse.query(`CREATE DATABASE ${database}`);
    for (const { sql } of statements.slice(0, done)) await clickhouse.query(sql);
    await migrateApply(contextFor({ database }));
    expect(await schemaOf(database)).toEqual(declared);
    await clickhouse.query(`DROP DATABASE ${database} SYNC`);
  }
});

describe('a history that does not fit the ledger', () => {
  /** Applies the program's own migrations as a folder of one's own, changes the folder, and applies again. */
  async function applyChanged(database: string, change: (dir: string) => void): Promise<string> {
    return withTempDir(async (dir) => {
      for (const name of OWN.slice(0, 3))
        copyFileSync(join(SQL, name), join(dir, name.replace('000', '010')));
      const context = contextFor({ database, migrationsDir: dir });
      await migrateApply(context);
      change(dir);
      writeMigrations(dir, { '0104_new.sql': createTable('never') });
      const before = await schemaOf(database);
      const [planned] = await migratePlan(context);
      expect(planned?.refusals).not.toEqual([]);
      expect(planned?.pending).toEqual([]);
      const error: unknown = await migrateApply(context).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(ConfigurationError);
      expect(await schemaOf(database)).toEqual(before);
      const [status] = await migrateStatus(context);
      expect(status?.refusals).toEqual(planned?.refusals);
      return messageOf(error);
    });
  }
  const rename = (dir: string, from: string, to: string) => {
    copyFileSync(join(dir, from), join(dir, to));
    rmSync(join(dir, from));
  };

  test('edited: refused by name', async () => {
    const edit = (dir: string) => {
      const file = join(dir, '0102_logs.sql');
      writeFileSync(file, readFileSync(file, 'utf8').replace('TraceFlags UInt8', 'TraceFlags UInt16'));
    };
    await expect(applyChanged('edited', edit)).resolves.toMatch(/0102_logs\.sql was edited after/);
  });

  test('missing: refused by name', async () => {
    const shorten = (dir: string) => {
      rmSync(join(dir, '0103_metrics.sql'));
      writeMigrations(dir, { '0103_other.sql': createTable('other') });
    };
    await expect(applyChanged('missing', shorten)).resolves.toMatch(
      /0103_other\.sql was edited after 0103_metrics\.sql/,
    );
  });

  test('reordered: refused by name', async () => {
    const swap = (dir: string) => {
      rename(dir, '0102_logs.sql', '0105_logs.sql');
      rename(dir, '0103_metrics.sql', '0102_metrics.sql');
      rename(dir, '0105_logs.sql', '0103_logs.sql');
    };
    await expect(applyChanged('reordered', swap)).resolves.toMatch(
      /0102_logs\.sql .* is now called 0103_logs\.sql.*0103_metrics\.sql .* is now called 0102_metrics\.sql/s,
    );
  });

  test('with a hole: refused before anything is asked', async () => {
    await withTempDir(async (dir) => {
      writeMigrations(dir, { '0001_a.sql': createTable('a'), '0003_c.sql': createTable('c') });
      await expect(migrateApply(contextFor({ database: 'hole', migrationsDir: dir }))).rejects.toThrow(
        /number 0002 is missing between 0001_a\.sql and 0003_c\.sql/,
      );
      expect(await tablesOf('hole')).toEqual([]);
    });
  });
});

describe("a folder of one's own", () => {
  test("is applied after the program's, and its next migration alone when it grows", () =>
    withTempDir(async (dir) => {
      const context = contextFor({ database: 'own', migrationsDir: dir });
      writeMigrations(dir, { '0001_team.sql': createTable('team') });
      const [first] = await migrateApply(context);
      expect(first?.applied.map(({ name }) => name)).toEqual([...OWN, '0001_team.sql']);
      writeMigrations(dir, {
        '0002_host.sql':
          '-- @step local instant\n' +
          'ALTER TABLE {local:otel_logs} {on_cluster} ADD COLUMN IF NOT EXISTS Host String\n' +
          "ALIAS ResourceAttributes['host.name']",
      });
      const [second] = await migrateApply(context);
      expect(second?.applied.map(({ name }) => name)).toEqual(['0002_host.sql']);
      expect(hasDifferences(await migratePlan(context))).toBe(false);
    }));

  test('a statement that fails is named with its migration; what came before stays', () =>
    withTempDir(async (dir) => {
      const context = contextFor({ database: 'failing', migrationsDir: dir });
      writeMigrations(dir, {
        '0001_good.sql': createTable('good'),
        '0002_bad.sql': createTable('bad').replace('UInt64', 'UInt65'),
      });
      const error: unknown = await migrateApply(context).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(Fault);
      expect(error).toHaveProperty(
        'message',
        expect.stringMatching(
          /^0002_bad\.sql on 127\.0\.0\.1:\d+: .*UInt65.*\nstatement: CREATE .* failing\.bad/s,
        ),
      );
      const [status] = await migrateStatus(context);
      expect(status?.migrations.at(-2)).toMatchObject({ name: '0001_good.sql', state: 'applied' });
      expect(status?.migrations.at(-1)).toEqual({
        origin: 'own',
        number: 2,
        name: '0002_bad.sql',
        state: 'pending',
      });
      writeMigrations(dir, { '0002_bad.sql': createTable('bad') });
      const [report] = await migrateApply(context);
      expect(report?.applied.map(({ name }) => name)).toEqual(['0002_bad.sql']);
    }));

  test('may hold the examples of docs/migrations.md', () =>
    withTempDir(async (dir) => {
      const page = readFileSync(new URL('../../docs/migrations.md', import.meta.url), 'utf8');
      const blocks = page.match(/(?:^ {4}.*\n|^\n(?= {4}))+/gm) ?? [];
      const examples = blocks
        .filter((block) => block.includes('-- @step'))
        .map((block) => block.replace(/^ {4}/gm, ''));
      expect(examples.length).toBeGreaterThan(2);
      writeMigrations(
        dir,
        Object.fromEntries(examples.map((text, index) => [`000${index + 1}_example.sql`, text])),
      );
      const [report] = await migrateApply(contextFor({ database: 'examples', migrationsDir: dir }));
      expect(report?.applied).toHaveLength(OWN.length + examples.length);
    }));

  test('a condition that is not understood is found before anything is run', () =>
    withTempDir(async (dir) => {
      const context = contextFor({ database: 'moon', migrationsDir: dir });
      writeMigrations(dir, {
        '0001_a.sql': createTable('a').replace('CREATE', '-- @if moon\n-- @end\nCREATE'),
      });
      await expect(migrateApply(context)).rejects.toThrow('"-- @if moon" isn\'t understood');
      expect(await tablesOf('moon')).toEqual([]);
    }));
});

test('a lock that is lost stops it before the next statement, with the reason, and the next apply goes on', async () => {
  const lost = new Fault('migrate_lock_lost', 'here', 'the lock of the migrator was lost');
  let checks = 0;
  const guard = async () => {
    checks += 1;
    if (checks === 5) throw lost;
  };
  const context = contextFor({ database: 'lost' });
  await expect(migrateApply({ ...context, guard })).rejects.toBe(lost);
  expect(checks).toBe(5);
  // The first check was for the ledger, the others for the first three tables.
  expect(await tablesOf('lost')).toHaveLength(1 + 3);
  await migrateApply(context);
  expect(await tablesOf('lost')).toEqual(ALL_TABLES);
});

test('status tells what was applied when, by which version and in what time', async () => {
  const context = contextFor({ database: 'stated', version: '1.2.3' });
  const [before] = await migrateStatus(context);
  expect(before?.migrations.map(({ state }) => state)).toEqual(OWN.map(() => 'pending'));
  await migrateApply(context);
  const [after] = await migrateStatus(context);
  expect(after?.migrations[0]).toEqual({
    origin: 'sluice',
    number: 1,
    name: '0001_traces.sql',
    state: 'applied',
    version: '1.2.3',
    appliedAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
    durationMs: expect.any(Number),
    checksum: expect.stringMatching(/^[0-9a-f]{64}$/),
  });
});
