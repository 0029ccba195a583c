// Goal: on 2 shards x 2 replicas of real servers, in both modes, apply makes the same tables on every host,
// does nothing the second time, changes replicated tables once per shard, and waits for what it began.
import { describe, expect, test } from 'vitest';
import { hasDifferences, migrateApply, migratePlan, migrateStatus } from '../../src/migrate/run.ts';
import type { MigrateContext } from '../../src/migrate/context.ts';
import { withMigrations } from '../../src/app/migrate.ts';
import { useFarm } from '../support/farm.ts';
import { silent, withTempDir } from '../support/services.ts';
import { EVENTS, farmSettings, schemaOf, writeMigrations } from './fixture.ts';

const farm = useFarm();

function migrating<T>(
  environment: Readonly<Record<string, string>>,
  body: (context: MigrateContext) => Promise<T>,
): Promise<T> {
  return withMigrations(farmSettings(farm, environment), '0.0.0', silent, body);
}

describe.each(['per-host', 'on-cluster'])('%s', (mode) => {
  const database = `fresh_${mode.replace('-', '_')}`;
  const settings = (dir: string) => ({
    SLUICE_MIGRATIONS_DIR: dir,
    SLUICE_MIGRATIONS_MODE: mode,
    SLUICE_CLICKHOUSE_DATABASE: database,
  });

  test('an empty cluster, again, and a further migration', () =>
    withTempDir(async (dir) => {
      const environment = settings(dir);
      writeMigrations(dir, { '0001_events.sql': EVENTS['0001_events.sql'] ?? '' });
      const before = await migrating(environment, migratePlan);
      expect(before.map(({ host }) => host)).toEqual(farm.hosts.map(({ name }) => name));
      for (const { pending } of before)
        expect(pending[0]?.statements.map(({ role }) => role)).toEqual(Array(4).fill('run'));

      const reports = await migrating(environment, migrateApply);
      expect(reports.map(({ applied }) => applied.map(({ name }) => name))).toEqual(
        Array(4).fill(['0001_events.sql']),
      );
      const [first, ...others] = await Promise.all(farm.hosts.map((host) => schemaOf(host, database)));
      expect(first).toHaveLength(5);
      for (const schema of others) expect(schema).toEqual(first);
      expect(hasDifferences(await migrating(environment, migratePlan))).toBe(false);

      const again = await migrating(environment, migrateApply);
      expect(again.map(({ applied }) => applied)).toEqual(Array(4).fill([]));

      await farm
        .host(1, 1)
        .query(`INSERT INTO ${database}.events_local (Day, Id, Kind) VALUES ('2026-01-01', 1, '')`);
      writeMigrations(dir, EVENTS);
      const planned = await migrating(environment, migratePlan);
      const roles = planned.map(({ pending }) => pending[0]?.statements.map(({ role }) => role));
      expect(roles).toEqual([
        ['run', 'run', 'run', 'run'],
        ['follow', 'follow', 'follow', 'run'],
        ['run', 'run', 'run', 'run'],
        ['follow', 'follow', 'follow', 'run'],
      ]);
      expect(planned[0]?.pending[0]?.statements[1]?.bytes).toBeGreaterThan(0);
      await migrating(environment, migrateApply);
      expect(hasDifferences(await migrating(environment, migratePlan))).toBe(false);
      for (const host of farm.hosts.slice(0, 2)) {
        expect((await host.query(`SELECT Kind, Size FROM ${database}.events_local`)).trim()).toBe('none\t1');
      }
      for (const { migrations } of await migrating(environment, migrateStatus)) {
        expect(migrations.map(({ number, state }) => [number, state])).toEqual([
          [1, 'applied'],
          [2, 'applied'],
        ]);
      }
    }));
});
