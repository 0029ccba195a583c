/**
 * Goal: state is changed through the admin port only by who shows a token of the settings, as they are now;
 * everybody may read; and over TLS the port is as without.
 */
import { createHash } from 'node:crypto';
import { request } from 'node:https';
import { afterEach, expect, test } from 'vitest';
import { ConfigurationError } from '../../src/base/errors.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import { type AdminOptions, type AdminServer, listenAdmin } from '../../src/operate/admin.ts';
import { mayChange } from '../../src/operate/guard.ts';
import { Authority } from '../receive/authority.ts';
import { open } from '../receive/tls-front.ts';
import { silent, withTempDir } from '../support/services.ts';

let admin: AdminServer | undefined;
afterEach(async () => {
  await admin?.close();
  admin = undefined;
});

const hashOf = (token: string) => `sha256:${createHash('sha256').update(token).digest('hex')}`;
const good = () => [];

async function start(more: Partial<AdminOptions> = {}): Promise<string> {
  const sources = { health: good, ready: good, startup: good, refresh: async () => undefined };
  const addr = { host: '127.0.0.1', port: 0 };
  admin = await listenAdmin({ addr, instruments: createInstruments(), logger: silent, ...sources, ...more });
  return `http://127.0.0.1:${admin.port}`;
}

test.each([
  ['no hash: nobody may', 'Bearer one', [], 403],
  ['no header', '', [hashOf('one')], 401],
  ['the token', 'Bearer one', [hashOf('one')], 200],
  ['the second of two', 'Bearer two', [hashOf('one'), hashOf('two')], 200],
  ['another spelling of the scheme', 'bearer  one ', [hashOf('one')], 200],
  ['another token', 'Bearer one1', [hashOf('one')], 401],
  ['a part of it', 'Bearer on', [hashOf('one')], 401],
  ['the hash itself', `Bearer ${hashOf('one')}`, [hashOf('one')], 401],
  ['another scheme', 'Basic one', [hashOf('one')], 401],
  ['only the scheme', 'Bearer ', [hashOf('one')], 401],
  ['two tokens', 'Bearer one two', [hashOf('one')], 401],
  ['the longest token', `Bearer ${'a'.repeat(1024)}`, [hashOf('a'.repeat(1024))], 200],
  ['one character more', `Bearer ${'a'.repeat(1025)}`, [hashOf('a'.repeat(1025))], 401],
  ['a hash that is none', 'Bearer one', ['sha256:zz'], 401],
] as const)('%s', (_, header, hashes, status) => {
  expect(mayChange(header, hashes).status).toBe(status);
});

test('POST /reload: refused without a token, done with one, and tokens may change meanwhile', async () => {
  let tokens: string[] = [];
  let reloads = 0;
  const reload = async () => ({ changed: ['limits.mode'], reloads: ++reloads });
  const base = await start({ reload, tokens: () => tokens });
  const post = (token?: string) =>
    fetch(`${base}/reload`, {
      method: 'POST',
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    });
  expect((await post('one')).status).toBe(403);
  tokens = [hashOf('one')];
  const unnamed = await post();
  expect([unnamed.status, unnamed.headers.get('www-authenticate')]).toEqual([401, 'Bearer']);
  expect((await post('two')).status).toBe(401);
  expect(reloads).toBe(0);
  const done = await post('one');
  expect([done.status, await done.json()]).toEqual([200, { changed: ['limits.mode'], reloads: 1 }]);
  tokens = [hashOf('two')];
  expect((await post('one')).status).toBe(401);
  expect((await post('two')).status).toBe(200);
  const got = await fetch(`${base}/reload`, { headers: { authorization: 'Bearer two' } });
  expect([got.status, got.headers.get('allow'), reloads]).toEqual([405, 'POST', 2]);
});

test('settings that can not be used are told to who asked; anything else is a mistake of ours', async () => {
  let problem: Error = new ConfigurationError('limits.mode: the value "x" cannot be used');
  const reload = () => Promise.reject(problem);
  const base = await start({ reload, tokens: () => [hashOf('one')] });
  const post = () => fetch(`${base}/reload`, { method: 'POST', headers: { authorization: 'Bearer one' } });
  const refused = await post();
  expect([refused.status, await refused.json()]).toEqual([409, { error: problem.message }]);
  problem = new Error('unforeseen');
  expect((await post()).status).toBe(500);
});

test('where nothing can be reloaded there is no such path, and no status nobody gives', async () => {
  const base = await start();
  expect((await fetch(`${base}/reload`, { method: 'POST' })).status).toBe(405);
  for (const path of ['/reload', '/ha/status', '/series']) {
    expect((await fetch(base + path)).status).toBe(404);
  }
});

test('everybody may read, whatever the tokens are', async () => {
  const base = await start({
    tokens: () => [hashOf('one')],
    status: () => ({ level: 1 }),
    series: () => ({ metrics: [] }),
  });
  for (const path of ['/metrics', '/health', '/ready', '/startup']) {
    expect((await fetch(base + path)).status).toBe(200);
  }
  expect(await (await fetch(`${base}/ha/status`)).json()).toEqual({ level: 1 });
  expect(await (await fetch(`${base}/series?top=3`)).json()).toEqual({ metrics: [] });
});

test('over TLS, with a certificate of the client where one is required', async () => {
  await withTempDir(async (dir) => {
    const authority = new Authority(dir, 'ours');
    const own = authority.issue('server');
    const client = authority.issue('client');
    const tls = open({ ...own, clientCaFile: authority.file, clientAuth: 'required' });
    await start({ tls, status: () => ({ level: 0 }) });
    const get = (shown: { cert?: Buffer; key?: Buffer }) =>
      new Promise<number | string>((resolve) => {
        const where = { host: '127.0.0.1', port: admin?.port, path: '/ha/status', ca: authority.pem };
        const sent = request({ ...where, ...shown, agent: false }, (answer) => {
          answer.resume();
          resolve(answer.statusCode ?? 0);
        });
        sent.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
        sent.end();
      });
    expect(await get({ cert: client.cert, key: client.key })).toBe(200);
    expect(await get({})).toMatch(/^E/);
    tls.close();
  });
});
