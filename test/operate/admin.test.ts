/**
 * Goal: the admin port says what is measured, turns 503 with the check that fails, tells what became of a batch,
 * and names its setting when taken.
 */
import { afterEach, expect, test } from 'vitest';
import { ConfigurationError } from '../../src/base/errors.ts';
import { unavailable } from '../../src/redis/faults.ts';
import { createLogger } from '../../src/base/log.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import type { BatchTrace } from '../../src/model/batch.ts';
import { type AdminOptions, type AdminServer, listenAdmin } from '../../src/operate/admin.ts';
import type { Check } from '../../src/operate/checks.ts';

let admin: AdminServer | undefined;
afterEach(async () => {
  await admin?.close();
  admin = undefined;
});

const GOOD: Check = { name: 'redis', ok: true, figure: 'connected', limit: 'connected' };
const BAD: Check = { name: 'queue_bytes', ok: false, figure: '11', limit: '10' };

async function start(
  checks: readonly Check[],
  port = 0,
  refresh = async () => {},
  more: Pick<AdminOptions, 'batch' | 'readyAsked'> = {},
) {
  const instruments = createInstruments();
  const source = () => checks;
  const logger = createLogger('silent', 'json');
  const addr = { host: '127.0.0.1', port };
  const sources = { health: () => [GOOD], ready: source, startup: source };
  admin = await listenAdmin({ addr, instruments, logger, ...sources, refresh, ...more });
  const base = `http://127.0.0.1:${admin.port}`;
  return { instruments, get: (path: string, method = 'GET') => fetch(`${base}${path}`, { method }) };
}

test.each([
  ['/health', [GOOD, BAD], 200],
  ['/ready', [GOOD], 200],
  ['/ready', [GOOD, BAD], 503],
  ['/ready?verbose', [GOOD], 200],
  ['/startup', [BAD], 503],
  ['/nowhere', [GOOD], 404],
] as const)('%s', async (path, checks, status) => {
  const { get } = await start(checks);
  expect((await get(path)).status).toBe(status);
});

test('a failing check is named with its figure and its limit', async () => {
  const { get } = await start([GOOD, BAD]);
  expect(await (await get('/ready')).json()).toEqual({ status: 'failing', checks: [GOOD, BAD] });
});

test('only GET and HEAD', async () => {
  const { get } = await start([GOOD]);
  const refused = await get('/ready', 'POST');
  expect(refused.status).toBe(405);
  expect(refused.headers.get('allow')).toBe('GET, HEAD');
  expect((await get('/ready', 'HEAD')).status).toBe(200);
});

test('a scrape brings the gauges up to date first, and an error in it is no hang', async () => {
  const refresh = async () => {
    instruments.queueItems.set({ signal: 'logs' }, 7);
  };
  const { instruments, get } = await start([GOOD], 0, () => refresh());
  expect(await (await get('/metrics')).text()).toContain('sluice_queue_items{signal="logs"} 7');
  await admin?.close();
  const broken = await start([GOOD], 0, () => Promise.reject(new Error('no such thing')));
  expect((await broken.get('/metrics')).status).toBe(500);
});

const TRACE: BatchTrace = {
  state: 'written',
  id: 'ab12-3-0',
  shard: 1,
  table: 'otel_logs',
  layout: 'z1',
  rows: 10,
  bytes: 2048,
  fragments: 2,
  sealedAtMs: 1_790_000_000_000,
  newestAtMs: 1_790_000_000_000,
  writtenAtMs: 1_790_000_000_500,
  replica: 'ch-1:8123',
  insertMs: 42,
};

test.each([
  ['one that is known', 'ab12-3-0', 200],
  ['one that nobody knows', 'ab12-4-0', 404],
  ['the longest id', 'a'.repeat(128), 404],
  ['one character more', 'a'.repeat(129), 400],
  ['no id', '', 400],
  ['what is no id', 'ab%7d:sealed', 400],
  ['another key', '..%2f', 400],
  ['a query does not belong to it', 'ab12-3-0?pretty', 200],
])('a batch: %s', async (_, id, status) => {
  const asked: string[] = [];
  const batch = async (wanted: string) => {
    asked.push(wanted);
    return wanted === TRACE.id ? TRACE : undefined;
  };
  const { get } = await start([GOOD], 0, undefined, { batch });
  const answer = await get(`/batches/${id}`);
  expect(answer.status).toBe(status);
  const body = await answer.json();
  if (status === 200) expect(body).toEqual(TRACE);
  else expect(body).toHaveProperty('error');
  // What can't be one is not asked for.
  expect(asked.length).toBe(status === 400 ? 0 : 1);
});

test('a batch while Redis is away: not now, which is not the same as unknown', async () => {
  const batch = () => Promise.reject(unavailable('no connection'));
  const { get } = await start([GOOD], 0, undefined, { batch });
  const answer = await get('/batches/ab12-3-0');
  expect(answer.status).toBe(503);
  expect(await answer.json()).toEqual({ error: 'no connection', code: 'redis_unavailable' });
});

test('who asks for /ready is noted, by address', async () => {
  const asked: string[] = [];
  const { get } = await start([BAD], 0, undefined, { readyAsked: (who) => asked.push(who) });
  await get('/ready');
  await get('/health');
  await get('/ready');
  expect(asked).toEqual(['127.0.0.1', '127.0.0.1']);
});

test('a port that is taken names the setting', async () => {
  await start([GOOD]);
  const first = admin;
  await expect(start([GOOD], first?.port)).rejects.toThrow(ConfigurationError);
  await expect(start([GOOD], first?.port)).rejects.toThrow(/SLUICE_ADMIN_ADDR/);
  admin = first;
});
