/** Goal: the admin port says what is measured, turns 503 with the check that fails, and names its setting when taken. */
import { afterEach, expect, test } from 'vitest';
import { ConfigurationError } from '../../src/base/errors.ts';
import { createLogger } from '../../src/base/log.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import { type AdminServer, listenAdmin } from '../../src/operate/admin.ts';
import type { Check } from '../../src/operate/checks.ts';

let admin: AdminServer | undefined;
afterEach(async () => {
  await admin?.close();
  admin = undefined;
});

const GOOD: Check = { name: 'redis', ok: true, figure: 'connected', limit: 'connected' };
const BAD: Check = { name: 'queue_bytes', ok: false, figure: '11', limit: '10' };

async function start(checks: readonly Check[], port = 0, refresh = async () => {}) {
  const instruments = createInstruments();
  const source = () => checks;
  const logger = createLogger('silent', 'json');
  const addr = { host: '127.0.0.1', port };
  const sources = { health: () => [GOOD], ready: source, startup: source };
  admin = await listenAdmin({ addr, instruments, logger, ...sources, refresh });
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

test('a port that is taken names the setting', async () => {
  await start([GOOD]);
  const first = admin;
  await expect(start([GOOD], first?.port)).rejects.toThrow(ConfigurationError);
  await expect(start([GOOD], first?.port)).rejects.toThrow(/SLUICE_ADMIN_ADDR/);
  admin = first;
});
