// Goal: `sluice migrate` as an operator meets it on a cluster: what it prints, on which stream, and its exit
// codes.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { MigrationLock } from '../../src/migrate/lock.ts';
import { useFarm } from '../support/farm.ts';
import { run } from '../support/program.ts';
import { freePort, makeTempDir, removeTempDir, silent, useRedis } from '../support/services.ts';
import { redisSettings } from '../support/settings.ts';
import { EVENTS, createTable, writeMigrations } from './fixture.ts';

const farm = useFarm({ shards: 2, replicas: 1 });
const redis = useRedis();
let dir: string;
beforeAll(() => {
  dir = makeTempDir();
  writeMigrations(dir, { '0001_events.sql': EVENTS['0001_events.sql'] ?? '' });
});
afterAll(() => removeTempDir(dir));

function migrate(args: readonly string[], more: Readonly<Record<string, string>> = {}) {
  return run(['migrate', ...args], {
    SLUICE_CLICKHOUSE_URL: farm.urls,
    SLUICE_CLICKHOUSE_CLUSTER: farm.name,
    SLUICE_CLICKHOUSE_DATABASE: 'cli',
    SLUICE_MIGRATIONS_DIR: dir,
    SLUICE_REDIS_URL: redis.url,
    SLUICE_LOG_LEVEL: 'error',
    NODE_OPTIONS: '',
    ...more,
  });
}

test('plan, apply, status, verify, repair: texts for people, JSON for programs, and exit codes', async () => {
  const names = farm.hosts.map(({ name }) => name);
  const plan = await migrate(['plan']);
  expect(plan).toMatchObject({ code: 3, stderr: '' });
  expect(plan.stdout).toContain(`runs on ${names.join(', ')} (cli.events_local is not there)`);
  expect(plan.stdout.match(/CREATE TABLE IF NOT EXISTS cli\.events_local/g)).toHaveLength(1);

  const apply = await migrate(['apply']);
  expect(apply.code).toBe(0);
  expect(apply.stderr).toMatch(/^\[1\/4\] \d+\.\d s {2}0001_events\.sql on 127\.0\.0\.1:\d+$/m);
  expect(apply.stdout).toMatch(/1 migrations applied/);

  const again = await migrate(['apply', '--json']);
  expect([again.code, again.stderr]).toEqual([0, '']);
  expect(JSON.parse(again.stdout)).toMatchObject(names.map((host) => ({ host, applied: [] })));

  const status = await migrate(['status']);
  expect(status.stdout).toMatch(/^1 +0001_events\.sql +applied +[0-9a-f]{12} /m);
  expect(await migrate(['plan'])).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('nothing to do'),
  });
  expect(await migrate(['verify'])).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('as declared'),
  });
  expect(await migrate(['repair', '--dry-run'])).toMatchObject({ code: 0 });
  const grants = await migrate(['grants']);
  expect(grants).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('GRANT INSERT ON cli.otel_logs_local'),
  });
});

test('a step that loses data is exit code 2, and runs with --allow-drops', async () => {
  writeMigrations(dir, {
    '0002_third.sql': createTable('third'),
    '0003_less.sql': '-- @step local drops\nDROP TABLE IF EXISTS {local:third} {on_cluster}',
  });
  const refused = await migrate(['apply']);
  expect(refused.code).toBe(2);
  expect(refused.stderr).toMatch(/0003_less\.sql: DROP TABLE IF EXISTS cli\.third_local\n.*--allow-drops/s);
  expect(await migrate(['apply', '--allow-drops'])).toMatchObject({ code: 0 });
});

test('another migrator is exit code 1 and named; without Redis it is 2, unless nobody asks for a lock', async () => {
  const lock = await MigrationLock.acquire({
    redis: redisSettings(redis.url),
    target: farm.name,
    database: 'cli',
    lockMs: 30_000,
    waitMsMax: 0,
    version: '9.9.9',
    logger: silent,
  });
  const held = await migrate(['apply']);
  expect(held.code).toBe(1);
  expect(held.stderr).toContain(`pid ${process.pid}, sluice 9.9.9`);
  // What changes nothing asks nobody.
  expect((await migrate(['plan'])).code).toBe(0);
  await lock.release();

  const away = { SLUICE_REDIS_URL: `redis://127.0.0.1:${await freePort()}` };
  const refused = await migrate(['apply'], away);
  expect(refused.code).toBe(2);
  expect(refused.stderr).toContain('--no-lock');
  expect((await migrate(['apply', '--no-lock'], away)).code).toBe(0);
});

test('a host that is away is exit code 1 for apply and a difference for plan', async () => {
  const down = farm.host(2, 1);
  await down.stop('SIGKILL');
  try {
    const apply = await migrate(['apply']);
    expect(apply.code).toBe(1);
    expect(apply.stderr).toContain(down.name);
    const plan = await migrate(['plan']);
    expect(plan.code).toBe(3);
    expect(plan.stdout).toContain(`${down.name}: refused: `);
    expect(await migrate(['status'])).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('ECONNREFUSED'),
    });
  } finally {
    await down.start();
  }
});
