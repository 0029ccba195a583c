// Goal: six migrators at once on a real cluster, as processes and in one: each step is done by exactly one of
// them, the others wait for it and find nothing to do, or leave with its name.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { hasDifferences } from '../../src/migrate/run.ts';
import { useFarm } from '../support/farm.ts';
import { run } from '../support/program.ts';
import { makeTempDir, removeTempDir, useRedis } from '../support/services.ts';
import { EVENTS, migratorOf, refusalOf, writeMigrations } from './fixture.ts';

const farm = useFarm();
const redis = useRedis();
let dir: string;
beforeAll(() => {
  dir = makeTempDir();
  writeMigrations(dir, EVENTS);
});
afterAll(() => removeTempDir(dir));

const six = <T>(body: (index: number) => Promise<T>) =>
  Promise.all(Array.from({ length: 6 }, (_, index) => body(index)));
const environmentFor = (database: string) => ({
  SLUICE_CLICKHOUSE_URL: farm.urls,
  SLUICE_CLICKHOUSE_CLUSTER: farm.name,
  SLUICE_CLICKHOUSE_DATABASE: database,
  SLUICE_MIGRATIONS_DIR: dir,
  SLUICE_REDIS_URL: redis.url,
  // The last one waits for five others.
  SLUICE_MIGRATIONS_WAIT_MS_MAX: '110000',
});

async function expectOnce(database: string): Promise<void> {
  for (const host of farm.hosts) {
    const sql = `SELECT number, count() FROM ${database}.sluice_migrations GROUP BY number ORDER BY number`;
    expect(await host.query(sql)).toBe('1\t1\n2\t1\n');
  }
  expect(hasDifferences(await migratorOf(farm, environmentFor(database)).plan())).toBe(false);
}

test('that wait: one applies all, five find nothing to do', async () => {
  const migrator = migratorOf(farm, environmentFor('waiting'));
  const reports = await six((index) => migrator.locked(`1.0.${index}`, true));
  const counts = reports.map(([first]) => first?.applied.length);
  expect(counts.sort()).toEqual([0, 0, 0, 0, 0, 2]);
  await expectOnce('waiting');
});

test('that do not wait: one applies all, five leave with its name', async () => {
  const migrator = migratorOf(farm, environmentFor('leaving'));
  const outcomes = await six(async (index) => {
    const work = migrator.locked(`1.0.${index}`, false);
    return work.then(
      (reports) => ({ applied: reports[0]?.applied.length, words: '' }),
      async () => ({ applied: -1, words: await refusalOf(work) }),
    );
  });
  expect(outcomes.filter(({ applied }) => applied === 2)).toHaveLength(1);
  // Who applied all, or who came after that and looked whether there was something left.
  const owners = outcomes.flatMap(({ applied = -1 }, index) => (applied >= 0 ? [`1\\.0\\.${index}`] : []));
  const held = new RegExp(`pid ${process.pid}, sluice (${owners.join('|')}), since`);
  const others = outcomes.filter(({ applied }) => applied === -1);
  // Who came after the end of the first found nothing to do.
  expect(others.length).toBeGreaterThan(0);
  for (const { words } of others) expect(words).toMatch(held);
  await expectOnce('leaving');
});

test('as processes: the command line waits with --wait', async () => {
  const ends = await six(() =>
    run(['migrate', 'apply', '--wait', '--json'], { ...environmentFor('processes'), NODE_OPTIONS: '' }),
  );
  for (const { code, stderr } of ends) expect([code, code === 0 ? '' : stderr]).toEqual([0, '']);
  const counts = ends.map(({ stdout }) => (JSON.parse(stdout) as [{ applied: unknown[] }])[0].applied.length);
  expect(counts.sort()).toEqual([0, 0, 0, 0, 0, 2]);
  await expectOnce('processes');
});
