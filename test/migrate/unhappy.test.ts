// Goal: on a real cluster, what goes wrong is said with the host's name and what to do, nothing is recorded
// that isn't done, and the next apply goes on where it is not done: hosts that are down, new or emptied,
// ZooKeeper away, a host that fails what others ran, steps that lose data, servers that are too old.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ConfigurationError } from '../../src/base/errors.ts';
import { hasDifferences } from '../../src/migrate/run.ts';
import { useFarm } from '../support/farm.ts';
import { makeTempDir, removeTempDir } from '../support/services.ts';
import { EVENTS, createTable, migratorOf, refusalOf, schemaOf, writeMigrations } from './fixture.ts';

const farm = useFarm();
let dir: string;
beforeAll(() => {
  dir = makeTempDir();
});
afterAll(() => removeTempDir(dir));

/** A folder and a database of its own for each test. */
let used = 0;
async function fresh(files: Readonly<Record<string, string>>, more: Readonly<Record<string, string>> = {}) {
  removeTempDir(dir);
  dir = makeTempDir();
  writeMigrations(dir, files);
  used += 1;
  const database = `unhappy_${used}`;
  const migrator = migratorOf(farm, {
    SLUICE_MIGRATIONS_DIR: dir,
    SLUICE_CLICKHOUSE_DATABASE: database,
    ...more,
  });
  return { database, migrator };
}
const FIRST = { '0001_events.sql': EVENTS['0001_events.sql'] ?? '' };

describe('a host that is down', () => {
  test('is named by plan, status and apply, which does nothing, and is no obstacle once it is back', async () => {
    const { database, migrator } = await fresh(FIRST);
    const down = farm.host(2, 1);
    await down.stop('SIGKILL');
    try {
      const plans = await migrator.plan();
      expect(plans.map(({ host }) => host)).toContain(down.name);
      expect(plans.find(({ host }) => host === down.name)?.refusals[0]).toMatch(
        /can't be reached: .*ECONNREFUSED/,
      );
      const states = await migrator.status();
      expect(states.find(({ host }) => host === down.name)?.missing).toMatch(/ECONNREFUSED/);
      expect(await refusalOf(migrator.apply())).toMatch(
        new RegExp(`nothing was applied.*${down.name} can't be reached.*topology check`, 's'),
      );
      expect(await schemaOf(farm.host(1, 1), database)).toEqual([]);
    } finally {
      await down.start();
    }
    await migrator.apply();
    expect(hasDifferences(await migrator.plan())).toBe(false);
  });

  test.each(['per-host', 'on-cluster'])(
    'in the middle of apply, %s: it is named, and completed when it is back',
    async (mode) => {
      const { database, migrator } = await fresh(FIRST, { SLUICE_MIGRATIONS_MODE: mode });
      const down = farm.host(2, 2);
      let stopping: Promise<void> | undefined;
      const progress = (_: unknown, step: number) => {
        if (step === 2) stopping ??= down.stop('SIGKILL');
      };
      try {
        const words = await refusalOf(
          migrator.apply({ progress }, { SLUICE_MIGRATIONS_WAIT_MS_MAX: '6000' }),
        );
        // By the name of either port: the one that was asked, or the one that the DDL queue knows.
        expect([words.includes(down.name), words.includes(`127.0.0.1:${down.tcpPort}`)]).toContain(true);
        expect(words).toMatch(/^0001_events\.sql, step [23] of 4/);
        const [status] = await migrator.status();
        expect(status?.migrations[0]?.state).toBe('pending');
      } finally {
        await stopping;
        await down.start();
      }
      await migrator.apply();
      const [first, ...others] = await Promise.all(farm.hosts.map((host) => schemaOf(host, database)));
      expect(first).toHaveLength(5);
      for (const schema of others) expect(schema).toEqual(first);
      expect(hasDifferences(await migrator.plan())).toBe(false);
    },
  );
});

test('ZooKeeper away: nothing is applied and that is said; apply goes on when it is back', async () => {
  const { database, migrator } = await fresh(FIRST);
  await farm.stopZooKeeper();
  try {
    expect(await refusalOf(migrator.apply({}, { SLUICE_MIGRATIONS_WAIT_MS_MAX: '3000' }))).toMatch(/Keeper/);
  } finally {
    await farm.startZooKeeper();
  }
  await expect.poll(() => migrator.apply(), { timeout: 90_000, interval: 250 }).toBeTruthy();
  expect(await schemaOf(farm.host(2, 2), database)).toHaveLength(5);
});

describe('one host fails what the others ran', () => {
  test.each(['per-host', 'on-cluster'])(
    '%s: its words, where it is done, nothing recorded, and the rerun there',
    async (mode) => {
      const { database, migrator } = await fresh(FIRST, { SLUICE_MIGRATIONS_MODE: mode });
      await migrator.apply();
      const odd = farm.host(2, 2);
      // The path that the host wants for the table is taken by another one of the same name in Keeper.
      const path = `/clickhouse/tables/02/${database}/third_local`;
      await odd.query(
        `CREATE TABLE ${database}.in_the_way (n UInt64) ENGINE = ReplicatedMergeTree('${path}', 'r2') ORDER BY n`,
      );
      writeMigrations(dir, { '0002_third.sql': createTable('third') });
      const words = await refusalOf(migrator.apply());
      expect(words).toMatch(/^0002_third\.sql on /);
      expect(words).toContain(`not done on: ${odd.name}`);
      expect(words).toMatch(/Replica .* already exists/);
      expect(words).toMatch(/statement: CREATE TABLE .*third_local/);
      for (const { host, migrations } of await migrator.status()) {
        expect([host, migrations.at(-1)?.state]).toEqual([host, 'pending']);
      }
      const there = `SELECT count() FROM system.tables WHERE database = '${database}' AND name = 'third_local'`;
      expect(await Promise.all(farm.hosts.map((host) => host.query(there)))).toEqual([
        '1\n',
        '1\n',
        '1\n',
        '0\n',
      ]);

      await odd.query(`DROP TABLE ${database}.in_the_way`);
      const ran: string[] = [];
      await migrator.apply({ progress: ({ host, what }) => void (what === 'ran' && ran.push(host)) });
      expect(ran).toEqual([odd.name]);
      expect(hasDifferences(await migrator.plan())).toBe(false);
    },
  );

  test('a table of another kind in its place is no "exists already"', async () => {
    const { database, migrator } = await fresh(FIRST);
    const odd = farm.host(1, 2);
    for (const { query } of farm.hosts) await query(`CREATE DATABASE ${database}`);
    await odd.query(
      `CREATE TABLE ${database}.events_local (Day Date, Id UInt64, Kind String) ENGINE = MergeTree ORDER BY Id`,
    );
    const words = await refusalOf(migrator.apply());
    expect(words).toContain(
      `${odd.name}: ${database}.events_local is a MergeTree, not a ReplicatedMergeTree`,
    );
    expect(words).toContain('sluice migrate adopt');
  });

  test('a column of another type is no "exists already"', async () => {
    const { database, migrator } = await fresh(FIRST);
    await migrator.apply();
    const odd = farm.host(1, 1);
    await odd.query(`ALTER TABLE ${database}.events ADD COLUMN Size String`);
    writeMigrations(dir, EVENTS);
    const words = await refusalOf(migrator.apply());
    expect(words).toMatch(new RegExp(`^0002_more\\.sql, step 4 of 4 on ${odd.name}: .*already exists`));
    await odd.query(`ALTER TABLE ${database}.events DROP COLUMN Size`);
    await migrator.apply();
    expect(hasDifferences(await migrator.plan())).toBe(false);
  });
});

describe('a host without a ledger', () => {
  test('beside others that have one gets no old steps, but the name of the command', async () => {
    const { database, migrator } = await fresh(FIRST);
    await migrator.apply();
    const empty = farm.host(1, 2);
    await empty.query(`DROP DATABASE ${database}`);
    writeMigrations(dir, EVENTS);
    const words = await refusalOf(migrator.apply());
    expect(words).toContain(`${empty.name} lacks 0001_events.sql`);
    expect(words).toContain('sluice migrate repair');
    const plan = (await migrator.plan()).find(({ host }) => host === empty.name);
    expect(plan?.refusals.join()).toContain('sluice migrate repair');
    const rows = await empty.rows(`SELECT name FROM system.databases WHERE name = '${database}'`);
    expect(rows).toEqual([]);
  });

  test('of which only the last row is missing is completed by that row', async () => {
    const { database, migrator } = await fresh(EVENTS);
    await migrator.apply();
    const late = farm.host(2, 1);
    await late.query(`DROP TABLE ${database}.sluice_migrations`);
    const [ledger] = await farm
      .host(1, 1)
      .rows<{ text: string }>(
        `SELECT create_table_query AS text FROM system.tables WHERE database = '${database}' AND name = 'sluice_migrations'`,
      );
    await late.query(ledger?.text ?? '');
    await late.query(
      `INSERT INTO ${database}.sluice_migrations
      SELECT * FROM remote('127.0.0.1:${farm.host(1, 1).tcpPort}', ${database}, sluice_migrations) WHERE number = 1`,
    );
    const reports = await migrator.apply();
    expect(reports.map(({ applied }) => applied.length)).toEqual([0, 0, 1, 0]);
    expect(hasDifferences(await migrator.plan())).toBe(false);
  });
});

test('a step that loses data is refused before anything runs, and runs where it is allowed', async () => {
  const { database, migrator } = await fresh(FIRST);
  await migrator.apply();
  writeMigrations(dir, {
    '0002_third.sql': createTable('third'),
    '0003_less.sql': '-- @step local drops\nALTER TABLE {local:events} {on_cluster} DROP COLUMN Kind',
  });
  const [plan] = await migrator.plan();
  expect(plan?.pending[1]?.statements[0]).toMatchObject({ cost: 'drops', role: 'run' });
  await expect(migrator.apply()).rejects.toThrow(ConfigurationError);
  const words = await refusalOf(migrator.apply());
  expect(words).toMatch(/0003_less\.sql: ALTER TABLE .* DROP COLUMN Kind/);
  expect(words).toContain('--allow-drops');
  expect(await schemaOf(farm.host(1, 1), database)).toHaveLength(5);
  // The view reads the column: dropped first, as an operator would.
  for (const { query } of farm.hosts) await query(`DROP TABLE ${database}.kinds_mv`);
  await migrator.apply({ allowDrops: true });
  expect((await schemaOf(farm.host(2, 2), database)).join('\n')).not.toMatch(/events_local.*Kind/);
});

test("without a folder of one's own a server that is too old is refused with the version it has", async () => {
  const { migrator } = await fresh(FIRST, { SLUICE_MIGRATIONS_DIR: 'sql' });
  expect(await refusalOf(migrator.apply())).toMatch(/need ClickHouse 23\.8, the oldest server has 18\.16/);
});
