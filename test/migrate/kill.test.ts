// Goal: a migrator that is killed with SIGKILL at any point, right before or after any of its statements was
// executed, leaves nothing that the next apply doesn't complete: the same tables, one row of the ledger
// for each migration on each host, no statement twice. In both modes, on replicas with ZooKeeper.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hasDifferences } from '../../src/migrate/run.ts';
import { useFarm } from '../support/farm.ts';
import { makeTempDir, removeTempDir } from '../support/services.ts';
import { EVENTS, migratorOf, schemaOf, writeMigrations } from './fixture.ts';
import { type Gate, openGate } from './gate.ts';

const MAIN = join(import.meta.dirname, '../../src/app/main.ts');
/** Migrators at the same time: starting one costs more than what it does. */
const LANES = 3;

const farm = useFarm({ shards: 1, replicas: 2 });
const dirs: string[] = [];
let gates: Gate[] = [];
beforeAll(async () => {
  gates = await Promise.all(Array.from({ length: LANES }, () => openGate(farm.hosts)));
});
afterAll(() => {
  for (const gate of gates) gate.close();
  for (const dir of dirs) removeTempDir(dir);
});

function dirFor(mode: string, files: Readonly<Record<string, string>>): string {
  const dir = join(makeTempDir(), mode);
  mkdirSync(dir);
  dirs.push(dirname(dir));
  writeMigrations(dir, files);
  return dir;
}

const databaseFor = (mode: string, at: number) => `kill_${mode.replace('-', '_')}_${at}`;

function environmentFor(gate: Gate, database: string, mode: string, dir: string): Record<string, string> {
  return {
    ...gate.environment,
    SLUICE_CLICKHOUSE_CLUSTER: farm.name,
    SLUICE_CLICKHOUSE_DATABASE: database,
    SLUICE_MIGRATIONS_DIR: dir,
    SLUICE_MIGRATIONS_MODE: mode,
    SLUICE_MIGRATIONS_WAIT_MS_MAX: '60000',
    SLUICE_LOG_LEVEL: 'error',
  };
}

/** Runs `migrate apply` in a process of its own. @returns the signal that ended it, or code and words */
async function applyIn(
  gate: Gate,
  environment: Readonly<Record<string, string>>,
  kill?: { readonly at: number; readonly when: 'before' | 'after' },
): Promise<string> {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('SLUICE_'));
  const child = spawn(process.execPath, [MAIN, 'migrate', 'apply', '--no-lock', '--json'], {
    env: { ...Object.fromEntries(inherited), ...environment },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (text: Buffer) => {
    said += text.toString();
  });
  gate.reset();
  if (kill !== undefined) gate.killAt(child, kill.at, kill.when);
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  return signal ?? `${code} ${said}`;
}

async function ledgerOf(database: string): Promise<string[]> {
  const sql = `SELECT number, count() FROM ${database}.sluice_migrations GROUP BY number ORDER BY number`;
  return Promise.all(farm.hosts.map((host) => host.query(sql)));
}

/** Through the queue of this old server an ALTER of a replicated table takes seconds: one is enough. */
const FEWER = {
  ...EVENTS,
  '0002_more.sql':
    '-- @step local instant\nALTER TABLE {local:events} {on_cluster} ADD COLUMN Size UInt32 DEFAULT 1',
};

// Right before a statement is right after the one before it: each way once, and both ends are there.
describe.each([
  ['per-host', 'after', EVENTS],
  ['on-cluster', 'before', FEWER],
] as const)('%s', (mode, when, files) => {
  test(`killed right ${when} each statement`, async () => {
    const dir = dirFor(mode, files);
    const [first] = gates as [Gate];
    const whole = databaseFor(mode, 0);
    expect(await applyIn(first, environmentFor(first, whole, mode, dir))).toBe('0 ');
    const count = first.statements.length;
    const declared = await Promise.all(farm.hosts.map((host) => schemaOf(host, whole)));
    expect(declared[0]).toHaveLength(5);
    expect(count).toBeGreaterThan(10);

    const points = Array.from({ length: count }, (_, index) => index + 1).values();
    const lane = async (gate: Gate) => {
      for (const at of points) {
        const database = databaseFor(mode, at);
        const environment = environmentFor(gate, database, mode, dir);
        expect(await applyIn(gate, environment, { at, when })).toBe('SIGKILL');
        const migrator = migratorOf(farm, {
          ...environment,
          SLUICE_CLICKHOUSE_URL: farm.urls,
          SLUICE_CLICKHOUSE_ADDRESSES: '',
        });
        await migrator.apply();
        const schemas = await Promise.all(farm.hosts.map((host) => schemaOf(host, database)));
        expect([at, schemas]).toEqual([at, declared]);
        expect([at, await ledgerOf(database)]).toEqual([at, ['1\t1\n2\t1\n', '1\t1\n2\t1\n']]);
        expect(hasDifferences(await migrator.plan())).toBe(false);
      }
    };
    await Promise.all(gates.map(lane));
  }, 300_000);
});
