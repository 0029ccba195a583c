/** Goal: what browsers are told over HTTP, and how the HTTP port opens, counts and closes. */
import { createServer } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { ConfigurationError } from '../../src/base/errors.ts';
import { createLogger } from '../../src/base/log.ts';
import type { Verdict } from '../../src/model/outcome.ts';
import { listenHttp } from '../../src/receive/http.ts';
import {
  ADMITTED,
  type Front,
  type FrontOptions,
  PB,
  admissionOf,
  empty,
  http,
  metric,
  startFront,
  until,
  wire,
} from './support.ts';

const LIMIT = 100_000;
let front: Front;

async function start(options: FrontOptions = {}): Promise<Front> {
  front = await startFront({ requestBytesMax: LIMIT, ...options });
  return front;
}

/** A promise that the test resolves: for an ingest that waits. */
function gate(): { open: (verdict: Verdict) => void; opened: Promise<Verdict> } {
  let open: (verdict: Verdict) => void = () => undefined;
  const opened = new Promise<Verdict>((resolve) => {
    open = resolve;
  });
  return { open, opened };
}

afterEach(async () => {
  await empty(front);
  await front.close();
  expect(await metric(front, 'connections', { transport: 'http' })).toBe(0);
});

describe('browsers', () => {
  const origin = 'https://shop.example';
  const ask = {
    origin,
    'access-control-request-method': 'POST',
    'access-control-request-headers': 'content-type,x-key',
  };

  test('a listed origin is allowed, in the preflight and on every answer', async () => {
    await start({ http: { corsOrigins: [origin] } });
    const preflight = await http(front, '/v1/traces', '', ask, 'OPTIONS');
    expect(preflight.status).toBe(204);
    expect(preflight.headers).toMatchObject({
      'access-control-allow-origin': origin,
      'access-control-allow-methods': 'POST',
      'access-control-allow-headers': 'content-type,x-key',
      vary: 'Origin',
    });
    for (const path of ['/v1/traces', '/nope']) {
      const reply = await http(front, path, 'x', { 'content-type': PB, origin });
      expect(reply.headers).toMatchObject({ 'access-control-allow-origin': origin, vary: 'Origin' });
    }
  });

  test('others are told nothing', async () => {
    await start({ http: { corsOrigins: [origin] } });
    for (const method of ['OPTIONS', 'POST']) {
      const reply = await http(front, '/v1/traces', '', { ...ask, origin: 'https://evil.example' }, method);
      expect(Object.keys(reply.headers).filter((name) => name.startsWith('access-control'))).toEqual([]);
      expect(reply.headers.vary).toBe('Origin');
    }
  });

  test('with * everybody is allowed', async () => {
    await start({ http: { corsOrigins: ['*'] } });
    const reply = await http(front, '/v1/traces', 'x', { 'content-type': PB, origin: 'https://any.example' });
    expect(reply.headers['access-control-allow-origin']).toBe('*');
    expect((await http(front, '/v1/traces', 'x')).headers['access-control-allow-origin']).toBeUndefined();
  });

  test('without a list there is no CORS at all', async () => {
    await start();
    const preflight = await http(front, '/v1/traces', '', ask, 'OPTIONS');
    expect([preflight.status, preflight.headers.allow, preflight.headers.vary]).toEqual([
      405,
      'POST',
      undefined,
    ]);
  });
});

describe('the port', () => {
  const options = () => ({
    addr: { host: '127.0.0.1', port: front.http.port },
    requestBytesMax: LIMIT,
    connectionsMax: 10,
    connectionsPerAddressMax: 0,
    tls: undefined,
    corsOrigins: [],
    sourceHeader: 'x-sluice-source',
    ingest: { take: async () => ADMITTED },
    door: admissionOf(front.door),
    instruments: front.instruments,
    logger: createLogger('silent', 'json'),
  });

  test('a second listener on it is refused in words that name the setting', async () => {
    await start();
    const refused = listenHttp(options());
    await expect(refused).rejects.toThrow(ConfigurationError);
    await expect(refused).rejects.toThrow(/SLUICE_HTTP_ADDR.*127\.0\.0\.1:\d+.*taken/);
  });

  test('so is one that another program has, and an address of another machine', async () => {
    await start();
    const other = createServer();
    await new Promise<void>((listening) => other.listen(0, '127.0.0.1', listening));
    const port = (other.address() as { port: number }).port;
    await expect(listenHttp({ ...options(), addr: { host: '127.0.0.1', port } })).rejects.toThrow(
      /SLUICE_HTTP_ADDR/,
    );
    await new Promise((closed) => other.close(closed));
    await expect(listenHttp({ ...options(), addr: { host: '192.0.2.1', port: 0 } })).rejects.toThrow(
      /no such address/,
    );
  });

  test('closing lets answers in flight finish, and takes no new connections', async () => {
    const { open, opened } = gate();
    await start({ answer: () => opened });
    const idle = await wire(front.http.port);
    const inside = http(front, '/v1/traces', 'x');
    await until(() => front.taken.length === 1);
    const closing = front.http.close(20_000);
    await expect(wire(front.http.port)).rejects.toThrow(/ECONNREFUSED/);
    open(ADMITTED);
    const reply = await inside;
    // No offer to keep it. (The client has asked to close it, so `Connection: close` isn't repeated.)
    expect([reply.status, reply.headers['keep-alive']]).toEqual([200, undefined]);
    await closing;
    await idle.closed;
  });

  test('closing has a deadline', async () => {
    const { open, opened } = gate();
    await start({ answer: () => opened });
    const inside = http(front, '/v1/traces', 'x');
    const failed = expect(inside).rejects.toThrow(/socket hang up|ECONNRESET/);
    await until(() => front.taken.length === 1);
    await front.http.close(50);
    await failed;
    open(ADMITTED);
  });

  test('requests are counted by signal, encoding and code', async () => {
    await start();
    await http(front, '/v1/traces', 'x');
    await http(front, '/v1/logs', '{}', { 'content-type': 'application/json' });
    await http(front, '/nope', 'x');
    const labels = { transport: 'http' };
    expect(
      await metric(front, 'requests_total', {
        ...labels,
        signal: 'traces',
        encoding: 'protobuf',
        code: '200',
      }),
    ).toBe(1);
    expect(
      await metric(front, 'requests_total', { ...labels, signal: 'logs', encoding: 'json', code: '200' }),
    ).toBe(1);
    expect(await metric(front, 'requests_total', { ...labels, signal: 'none', code: '404' })).toBe(1);
  });
});
