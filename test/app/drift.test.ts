/**
 * Goal: a writer notices within a look that somebody changed a table by hand, says so once, and notices that
 * it was mended; where it can't know, there is no figure and the reason is said once. On a real server.
 */
import { createServer } from 'node:net';
import { pino } from 'pino';
import { afterEach, beforeAll, expect, test } from 'vitest';
import { DriftWatch } from '../../src/app/drift.ts';
import { withMigrations } from '../../src/app/migrate.ts';
import { withTopology } from '../../src/app/topology.ts';
import { loadSettings } from '../../src/config/load.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import { grantsFor } from '../../src/migrate/grants.ts';
import { repairHosts } from '../../src/migrate/repair.ts';
import { migrateApply } from '../../src/migrate/run.ts';
import type { Discovery } from '../../src/topology/discover.ts';
import { SINGLE } from '../migrate/fixture.ts';
import { eventually, freePort, silent, useClickHouse } from '../support/services.ts';

/** A user with these rights and no password. */
function userXml(name: string, grants: readonly string[]): string {
  const queries = grants.map((grant) => `<query>${grant}</query>`).join('');
  return `<${name}><no_password/><networks><ip>127.0.0.1</ip></networks><profile>default</profile>
    <quota>default</quota><grants>${queries}</grants></${name}>`;
}

/** As a careful administrator would have it who wrote the grants by hand. */
const INSERTS_ONLY = grantsFor(SINGLE, 'writer').filter((grant) => !/SHOW|sluice_migrations/.test(grant));
const clickhouse = useClickHouse({
  usersXml: userXml('writer', grantsFor(SINGLE, 'writer')) + userXml('blind', INSERTS_ONLY),
});

interface Line {
  readonly level: number;
  readonly msg: string;
  readonly host?: string;
  readonly reason?: string;
  readonly differences?: number;
  readonly lines?: readonly string[];
}

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

function settingsOf(user: string) {
  const url = clickhouse.url.replace('://', `://${user}@`);
  // Longer than any test: who waits for the end of a query would be seen.
  return loadSettings({ SLUICE_CLICKHOUSE_URL: url, SLUICE_CLICKHOUSE_QUERY_TIMEOUT_MS: '600000' }).settings;
}

beforeAll(async () => {
  await withMigrations(settingsOf('default'), '0.0.0', silent, (context) => migrateApply(context));
});

/** A watch that looks without a pause; what it found, and what it said from `info` on. */
async function watchAs(user: string) {
  const settings = settingsOf(user);
  const lines: Line[] = [];
  const logger = pino({ level: 'info' }, { write: (line: string) => lines.push(JSON.parse(line) as Line) });
  const instruments = createInstruments();
  const eyes: { seen: Discovery | undefined } = {
    seen: await withTopology(settings, silent, async (discovery) => discovery),
  };
  let looks = 0;
  const look = () => {
    looks += 1;
    return eyes.seen;
  };
  const watch = new DriftWatch({ settings, look, instruments, logger, everyMs: 50 });
  watch.start();
  stops.push(() => watch.stop());
  const figures = async () => (await instruments.schemaDrift.get()).values.map(({ value }) => value);
  const becomes = (wanted: string) =>
    eventually(`the figures are "${wanted}"`, async () => (await figures()).join() === wanted);
  /** Resolves after a whole further look. */
  const looksAgain = async () => {
    const wanted = looks + 2;
    await eventually('it has looked again', () => looks >= wanted);
  };
  return { watch, eyes, lines, figures, becomes, looksAgain };
}

test('an index and a column that are gone are drift until they are repaired, said once', async () => {
  const { lines, becomes, looksAgain } = await watchAs('writer');
  await becomes('0');
  expect(lines).toEqual([]);
  await clickhouse.query('ALTER TABLE otel.otel_traces DROP INDEX idx_duration');
  await becomes('1');
  await clickhouse.query('ALTER TABLE otel.otel_logs DROP COLUMN EventName');
  await becomes('2');
  await looksAgain();
  expect(lines).toHaveLength(1);
  const host = `127.0.0.1:${clickhouse.httpPort}`;
  expect(lines[0]).toMatchObject({ level: 40, host, differences: 1 });
  expect(lines[0]?.msg).toContain('`sluice migrate repair`');
  expect(lines[0]?.lines?.[0]).toBe('  otel.otel_traces');
  expect(lines[0]?.lines?.[1]).toMatch(/^ {4}index idx_duration: is missing/);
  await withMigrations(settingsOf('default'), '0.0.0', silent, (context) => repairHosts(context));
  await becomes('0');
  expect(lines.slice(1)).toMatchObject([{ level: 30, host, msg: 'over: the tables are as declared again' }]);
});

test('a user who may only insert knows nothing, and says so once', async () => {
  const { lines, figures, looksAgain } = await watchAs('blind');
  await looksAgain();
  await looksAgain();
  expect(await figures()).toEqual([]);
  expect(lines).toHaveLength(1);
  expect(lines[0]?.level).toBe(30);
  expect(lines[0]?.reason).toContain('SHOW TABLES');
});

test('a host that nobody sees any more has no figure', async () => {
  const { eyes, becomes, lines } = await watchAs('writer');
  await becomes('0');
  const { seen } = eyes;
  eyes.seen = undefined;
  await becomes('');
  eyes.seen = seen;
  await becomes('0');
  expect(lines).toEqual([]);
});

test('a ledger with migrations that this version has not: nothing is known, and it says which', async () => {
  const { becomes, lines, looksAgain } = await watchAs('writer');
  await becomes('0');
  await clickhouse.query(
    `INSERT INTO otel.sluice_migrations VALUES ('sluice', 99, '0099_later.sql', 'c', now(), 1, '9.0.0')`,
  );
  await becomes('');
  await looksAgain();
  expect(lines).toHaveLength(1);
  expect(lines[0]?.reason).toContain('0099_later.sql');
  await clickhouse.query('ALTER TABLE otel.sluice_migrations DELETE WHERE number = 99', {
    mutations_sync: '1',
  });
  await becomes('0');
});

/** What was seen, but with its hosts at another place. */
function movedTo(url: string, seen: Discovery | undefined): Discovery | undefined {
  return seen && { ...seen, hosts: seen.hosts.map((host) => ({ ...host, url })) };
}

test('a host that fails while it is asked keeps its last figure, quietly', async () => {
  const { eyes, figures, becomes, lines, looksAgain } = await watchAs('writer');
  await becomes('0');
  eyes.seen = movedTo('http://127.0.0.1:1', eyes.seen);
  await looksAgain();
  expect(await figures()).toEqual([0]);
  expect(lines).toEqual([]);
});

test('a host that never answers is no reason to wait at the end', async () => {
  const asked = Promise.withResolvers<void>();
  const server = createServer(() => asked.resolve());
  const port = await freePort();
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  const { watch, eyes, lines } = await watchAs('writer');
  eyes.seen = movedTo(`http://127.0.0.1:${port}`, eyes.seen);
  await asked.promise;
  // Long before the query would be given up: this test would be, too.
  await watch.stop();
  expect(lines).toEqual([]);
  await new Promise((resolve) => server.close(resolve));
});
