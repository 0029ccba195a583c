/**
 * Goal: the user for Redis that docs/security.md describes is enough for the migrator, a gateway, a writer and
 * the commands beside them, in all they do here, and may do nothing to what isn't the program's.
 */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { sendHttp } from '../support/clients.ts';
import { type Program, environmentFor, run, start } from '../support/program.ts';
import { tracesRequest } from '../support/requests.ts';
import { eventually, makeTempDir, removeTempDir, useClickHouse, useRedis } from '../support/services.ts';

const PASSWORD = 'change-me';
vi.setConfig({ testTimeout: 60_000, hookTimeout: 120_000 });
const redis = useRedis();
const clickhouse = useClickHouse();
const dir = makeTempDir();
const programs: Program[] = [];
let admin: Redis;

/** The rules of the page, in the order in which they stand there. */
function rules(): string[] {
  const page = readFileSync(resolve(import.meta.dirname, '../../docs/security.md'), 'utf8');
  const block = /^ {4}ACL SETUSER sluice (.*(?:\n {4}.*)*)/m.exec(page)?.[1] ?? '';
  return block.split(/\s+/).filter(Boolean);
}

beforeAll(async () => {
  admin = new Redis(redis.port);
  await admin.call('ACL', 'SETUSER', 'sluice', ...rules());
});
afterAll(async () => {
  for (const program of programs) await program.end('SIGKILL');
  admin.disconnect();
  removeTempDir(dir);
});

async function settings(name: string): Promise<Record<string, string>> {
  return environmentFor(join(dir, name), {
    SLUICE_REDIS_URL: `redis://sluice:${PASSWORD}@127.0.0.1:${redis.port}`,
    SLUICE_CLICKHOUSE_URL: clickhouse.url,
    SLUICE_BATCH_AGE_MS_MAX: '20',
    SLUICE_WRITE_RETRY_MS_MIN: '50',
    SLUICE_WRITE_RETRY_MS_MAX: '100',
    SLUICE_LIMITS_SERIES_MAX: '100',
    SLUICE_TENANTS: JSON.stringify([{ name: 'shop', itemsPerSecond: 1e6, itemsPerDay: 1e9 }]),
    SLUICE_TENANTS_HEADER: 'x-tenant',
  });
}

async function running(role: string): Promise<Program> {
  const program = await start(role, await settings(role));
  programs.push(program);
  return program;
}

async function refusals(): Promise<string[]> {
  const log = (await admin.call('ACL', 'LOG')) as unknown[][];
  return log.map((entry) => entry.slice(0, 8).join(' '));
}

test('it is enough: migrate, receive, repeat, write, retry, stop; nothing of it is refused', async () => {
  expect(await run(['migrate', 'apply'], await settings('migrate'))).toMatchObject({ code: 0 });
  const [gateway, writer] = [await running('gateway'), await running('writer')];
  const send = async (body: Uint8Array) => (await sendHttp(gateway.http, 'traces', body)).kind;
  const bodies = Array.from({ length: 5 }, (_, n) => tracesRequest(2, n));
  // The first once more: a request carries the time at which it was made, so only its own bytes are a repetition.
  for (const body of [...bodies, ...bodies.slice(0, 1)]) expect(await send(body)).toBe('accept');
  const written = (rows: number) =>
    eventually(`${rows} rows`, async () => (await writer.metric('items_written_total')) === rows, 40_000);
  await written(10);
  // A table that is away for a while: batches fail, wait and are tried again.
  await clickhouse.query('RENAME TABLE otel.otel_traces TO otel.away');
  expect(await send(tracesRequest(2, 10))).toBe('accept');
  const inserts = await writer.metric('inserts_total');
  const tried = async () => (await writer.metric('inserts_total')) > inserts + 1;
  await eventually('two inserts that fail', tried, 40_000);
  await clickhouse.query('RENAME TABLE otel.away TO otel.otel_traces');
  await written(12);
  // From a lease of its rate and its quota.
  const shop = await sendHttp(gateway.http, 'traces', tracesRequest(2, 20), { headers: { 'x-tenant': 'shop' } });
  expect(shop.kind).toBe('accept');
  await written(14);
  for (const args of [['deadletters', 'list'], ['topology', 'check']]) {
    expect(await run(args, await settings(args[0] ?? ''))).toMatchObject({ code: 0 });
  }
  for (const program of programs.splice(0)) expect(await program.end()).toMatchObject({ code: 0 });
  expect(await refusals()).toEqual([]);
}, 240_000);

test.each([
  ['empty it', ['FLUSHALL']],
  ['list its keys', ['KEYS', '*']],
  ['walk over its keys', ['SCAN', '0']],
  ['change its configuration', ['CONFIG', 'SET', 'appendonly', 'no']],
  ['read keys of others', ['GET', 'theirs']],
  ['write keys of others', ['SET', 'theirs', 'x']],
  ['read keys of others in a script', ['EVAL', "return redis.call('get', 'theirs')", '0']],
  ['make users', ['ACL', 'SETUSER', 'me', 'on']],
  ['stop it', ['SHUTDOWN', 'NOSAVE']],
  ['listen', ['SUBSCRIBE', 'x']],
  ['copy it', ['REPLICAOF', '127.0.0.1', '1']],
])('it is not enough to %s', async (_, [name = '', ...args]) => {
  const client = new Redis({ port: redis.port, username: 'sluice', password: PASSWORD, lazyConnect: true });
  await client.connect();
  await expect(client.call(name, ...args)).rejects.toThrow(/NOPERM|No permissions|can't access/);
  client.disconnect();
});
