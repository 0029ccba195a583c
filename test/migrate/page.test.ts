// Goal: what docs/migrations.md shows can be followed by hand: its examples run as they stand, on one server,
// on shards, and those for very old servers on a replicated cluster of 18.16, per host and through its queue.
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Migration, parseMigration } from '../../src/migrate/migration.ts';
import type { RenderContext } from '../../src/migrate/placeholders.ts';
import { renderMigration } from '../../src/migrate/render.ts';
import { readHistories } from '../../src/migrate/history.ts';
import { useFarm } from '../support/farm.ts';
import { type Shards, startShards } from '../support/shards.ts';
import { eventually, useClickHouse } from '../support/services.ts';
import { SINGLE } from './fixture.ts';
import { KEPT, useTables } from './tables.ts';

const page = readFileSync(new URL('../../docs/migrations.md', import.meta.url), 'utf8');

/** The migrations between two headings, in their order. */
function examples(from: string, to: string): Migration[] {
  const section = page.slice(page.indexOf(from), page.indexOf(to));
  const blocks = section.match(/(?:^ {4}.*\n|^\n(?= {4}))+/gm) ?? [];
  return blocks
    .filter((block) => block.includes('-- @step'))
    .map((block, index) => {
      const name = `000${index + 1}_example.sql`;
      return parseMigration('own', index + 1, name, block.replace(/^ {4}/gm, ''));
    });
}

const team = examples('## Migrations of your own', '### Placeholders');
const old = examples('### On very old servers', '## What is refused');
const indices = examples('## Indices and part settings', 'Inserts don');
const sluices = readHistories('sql');

test('each is found', () => {
  expect([team, old, indices].map(({ length }) => length)).toEqual([2, 2, 2]);
});

describe('on a single server', () => {
  const clickhouse = useClickHouse();
  const tables = useTables(clickhouse);

  test('costs of teams are summed from spans, and indices are added', async () => {
    await tables.create(await tables.context(), [...sluices, ...team, ...indices]);
    await clickhouse.query(`INSERT INTO otel.otel_traces (Timestamp, ResourceAttributes)
      SELECT '2026-11-20 12:00:00', map('team', 'a') FROM numbers(3)`);
    expect(await clickhouse.rows('SELECT Team, Region, Spans FROM otel.team_costs')).toEqual([
      { Team: 'a', Region: 'all', Spans: '3' },
    ]);
  });
});

describe('on shards', () => {
  let shards: Shards;
  beforeAll(async () => {
    shards = await startShards(2);
  });
  afterAll(async () => {
    await shards.stop();
  });

  test('the same, seen through the face of either', async () => {
    const server = { version: { major: 26, minor: 7 }, hasMergeTreeSetting: () => true };
    const context = { ...SINGLE, cluster: 'main', retentionDays: KEPT, server };
    for (const { query } of shards.servers) {
      await run(query, context, [...sluices, ...team, ...indices]);
      await query(`INSERT INTO otel.otel_traces_local (Timestamp, ResourceAttributes)
        SELECT '2026-11-20 12:00:00', map('team', 'a') FROM numbers(3)`);
    }
    for (const { rows } of shards.servers) {
      expect(await rows('SELECT Team, Region, sum(Spans) AS spans FROM otel.team_costs GROUP BY ALL')).toEqual([
        { Team: 'a', Region: 'all', spans: '6' },
      ]);
    }
  });
});

describe('on 18.16 with replicas', () => {
  const farm = useFarm({ shards: 1, replicas: 2 });
  const known = ['replicated_deduplication_window', 'replicated_deduplication_window_seconds'];
  const context = (database: string, onCluster: boolean): RenderContext => ({
    ...SINGLE,
    database,
    cluster: farm.name,
    replicated: true,
    onCluster,
    storagePolicy: 'not there yet',
    server: { version: { major: 18, minor: 16 }, hasMergeTreeSetting: (name) => known.includes(name) },
  });
  const [create, widen] = old as [Migration, Migration];
  const both = () => [farm.host(1, 1), farm.host(1, 2)] as const;

  test.each([
    ['told to each host', 'each', false],
    ['through the DDL queue', 'queued', true],
  ])('%s', async (_, database, onCluster) => {
    const [first, second] = both();
    for (const host of onCluster ? [first] : both()) await run(host.query, context(database, onCluster), [create]);
    // The ALTER of a replicated table reaches the other replica by itself, that of its face does not.
    const [local, face] = renderMigration(widen, context(database, false));
    await first.query(local?.sql ?? '');
    for (const host of both()) await host.query(face?.sql ?? '');
    await eventually('the column on both', async () => {
      const names = `SELECT count() FROM system.columns
        WHERE database = '${database}' AND table = 'events_local' AND name = 'Team'`;
      return (await second.query(names)) === '1\n';
    });
    await first.query(`INSERT INTO ${database}.events_local (Day, At, Name, Amount)
      VALUES ('2026-11-20', '2026-11-20 12:00:00', 'a', 3)`);
    await eventually('the row on both', async () => {
      const [row, sum] = await Promise.all([
        second.query(`SELECT Name, Amount, Team FROM ${database}.events`),
        second.query(`SELECT Name, Amount FROM ${database}.event_sums_local`),
      ]);
      return row === 'a\t3\tnone\n' && sum === 'a\t3\n';
    });
  });
});

type Query = (sql: string) => Promise<string>;

async function run(query: Query, context: RenderContext, migrations: readonly Migration[]): Promise<void> {
  const cluster = context.onCluster ? ` ON CLUSTER '${context.cluster}'` : '';
  await query(`CREATE DATABASE IF NOT EXISTS ${context.database}${cluster}`);
  for (const migration of migrations) {
    for (const { sql } of renderMigration(migration, context)) await query(sql);
  }
}
