/**
 * Goal: the HTTP port against what clients and strangers do to it: framing, bounds at their edges, lies,
 * leaving early.
 */
import { afterEach, describe, expect, test } from 'vitest';
import type { Verdict } from '../../src/model/outcome.ts';
import {
  ADMITTED,
  type Front,
  type FrontOptions,
  PB,
  type Wire,
  empty,
  head,
  http,
  metric,
  reset,
  startFront,
  talk,
  until,
  wire,
} from './support.ts';

const LIMIT = 100_000;
const CHUNKED = { 'Transfer-Encoding': 'chunked' };
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

function chunk(bytes: Uint8Array | string): Buffer {
  return Buffer.concat([
    Buffer.from(`${bytes.length.toString(16)}\r\n`),
    Buffer.from(bytes),
    Buffer.from('\r\n'),
  ]);
}

/** uWebSockets.js can only close the connection then. */
const REFUSED = /^($|HTTP\/1\.1 400 )/;
const answered = (text: string) => text.includes('\r\n\r\n');

afterEach(async () => {
  await empty(front);
  await front.close();
  expect(await metric(front, 'connections', { transport: 'http' })).toBe(0);
});

describe('framing', () => {
  test('a chunked body in single bytes and slow pieces', async () => {
    await start();
    const { socket, text } = await wire(front.http.port);
    socket.write(head('/v1/logs', CHUNKED));
    for (const byte of 'slowly') {
      socket.write(chunk(byte));
      await new Promise(setImmediate);
    }
    socket.write(chunk(''));
    await until(() => answered(text()));
    expect(text()).toMatch(/^HTTP\/1\.1 200 /);
    expect(front.taken.map((t) => t.bytes.toString())).toEqual(['slowly']);
    socket.destroy();
  });

  test('a large body in many pieces arrives whole', async () => {
    await start({ requestBytesMax: 8 << 20 });
    const body = Buffer.from(Array.from({ length: 5 << 20 }, (_, i) => i * 31));
    expect((await http(front, '/v1/traces', body)).status).toBe(200);
    expect(
      (await http(front, '/v1/traces', body, { 'content-type': PB, 'transfer-encoding': 'chunked' })).status,
    ).toBe(200);
    for (const taken of front.taken) expect(taken.bytes.equals(body)).toBe(true);
  });

  test('Expect: 100-continue is answered before the body is sent', async () => {
    await start();
    const { socket, text } = await wire(front.http.port);
    socket.write(head('/v1/traces', { 'Content-Length': 3, Expect: '100-continue' }));
    await until(() => answered(text()));
    expect(text()).toMatch(/^HTTP\/1\.1 100 Continue\r\n/);
    socket.write('abc');
    await until(() => text().includes('HTTP/1.1 200 OK'));
    socket.destroy();
  });

  test('pipelined requests: nothing is answered for the wrong one, and the connection ends', async () => {
    await start();
    const { socket, closed, text } = await wire(front.http.port);
    socket.write(`${head('/v1/traces', { 'Content-Length': 1 })}x`.repeat(3));
    await closed;
    expect(text()).toBe('');
  });

  test.each([
    ['HTTP/1.0', `${head('/v1/traces', { 'Content-Length': 1 }, '1.0')}x`, /^HTTP\/1\.1 505 /],
    ['no Host', 'POST /v1/traces HTTP/1.1\r\nContent-Length: 1\r\n\r\nx', /^HTTP\/1\.1 400 /],
    ['two lengths', head('/v1/traces', { ...CHUNKED, 'Content-Length': 1 }), /^HTTP\/1\.1 400 /],
    ['a length twice', head('/v1/traces', { 'Content-Length': '1\r\nContent-Length: 1' }), REFUSED],
    ['another coding', head('/v1/traces', { 'Transfer-Encoding': 'gzip, chunked' }), REFUSED],
    ['no chunks', head('/v1/traces', { 'Transfer-Encoding': 'xchunked' }), REFUSED],
    ['a length that is no number', head('/v1/traces', { 'Content-Length': 'x1' }), /^HTTP\/1\.1 400 /],
    ['a negative length', head('/v1/traces', { 'Content-Length': -1 }), /^HTTP\/1\.1 400 /],
    ['a chunk that is no number', `${head('/v1/traces', CHUNKED)}zz\r\n`, /^HTTP\/1\.1 400 /],
    ['headers over the limit', head('/v1/traces', { 'X-Big': 'a'.repeat(17_000) }), /^HTTP\/1\.1 431 /],
    ['a preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', /^HTTP\/1\.1 (400|505) /],
  ])('%s is refused', async (_, bytes, wanted) => {
    await start();
    expect(await talk(front.http.port, bytes, answered)).toMatch(wanted);
    expect(front.taken).toEqual([]);
  });

  test('headers that proxies add are let in up to 16 KiB', async () => {
    await start();
    const request = `${head('/v1/traces', { 'X-Big': 'a'.repeat(15_000), 'Content-Length': 1 })}x`;
    expect(await talk(front.http.port, request, answered)).toMatch(/^HTTP\/1\.1 200 /);
  });
});

describe('the size limit', () => {
  /**
   * Sends three times the limit, and then the end of it. The server takes 200 ms without a byte for the end: a
   * try in which the machine stood still for so long says nothing.
   */
  async function untilReadToItsEnd(): Promise<Wire> {
    for (;;) {
      const connection = await wire(front.http.port);
      const { socket, text } = connection;
      const startedMs = performance.now();
      socket.write(head('/v1/traces', CHUNKED));
      for (let n = 0; n < 3; n++) socket.write(chunk(Buffer.alloc(LIMIT)));
      await until(() => front.door.bytesInFlight === 0 && front.door.requestsInFlight === 0);
      socket.write(chunk(''));
      await until(() => answered(text()));
      const hasStoodStill = performance.now() - startedMs >= 200 && text().includes('Connection: close');
      if (!hasStoodStill) return connection;
      socket.destroy();
    }
  }

  test('a declared length over it is refused before the body is read, one at it is not', async () => {
    await start();
    const over = head('/v1/traces', { 'Content-Length': LIMIT + 1 });
    expect(await talk(front.http.port, over, answered)).toMatch(/^HTTP\/1\.1 413 /);
    expect((await http(front, '/v1/traces', Buffer.alloc(LIMIT))).status).toBe(200);
    const absurd = head('/v1/traces', { 'Content-Length': 999_999_999_999_999 });
    expect(await talk(front.http.port, absurd, answered)).toMatch(/^HTTP\/1\.1 413 .*Connection: close\r\n/s);
  });

  test('a client that sends all of a refused body first sees the answer and goes on', async () => {
    await start();
    const body = Buffer.alloc(3 * LIMIT);
    const requests = Buffer.concat([
      Buffer.from(head('/v1/traces', { 'Content-Length': body.length })),
      body,
      Buffer.from(`${head('/v1/traces', { 'Content-Length': 1 })}x`),
    ]);
    const text = await talk(front.http.port, requests, (t) => t.includes('HTTP/1.1 200'));
    expect(text).toMatch(/^HTTP\/1\.1 413 /);
    expect(text).toContain('HTTP/1.1 200 OK');
  });

  test('a chunked body is refused at the first byte over it, without its end', async () => {
    await start();
    const { socket, text } = await wire(front.http.port);
    socket.write(head('/v1/traces', CHUNKED));
    socket.write(chunk(Buffer.alloc(LIMIT)));
    await until(() => front.door.bytesInFlight === LIMIT);
    expect(text()).toBe('');
    socket.write(chunk('x'));
    await until(() => answered(text()));
    expect(text()).toMatch(/^HTTP\/1\.1 413 /);
    socket.destroy();
    expect(front.taken).toEqual([]);
  });

  test('a chunked body over it is read on for a while, so that its answer is seen', async () => {
    await start();
    const { socket, text, closed } = await untilReadToItsEnd();
    expect(text()).toMatch(/^HTTP\/1\.1 413 /);
    expect(text()).not.toContain('Connection: close');
    socket.write(head('/v1/traces', CHUNKED));
    socket.write(chunk(Buffer.alloc(4 * LIMIT + 1)));
    await closed;
    expect(text()).toMatch(/HTTP\/1\.1 413 .*Connection: close\r\n/s);
  });

  test('a chunked body that is refused for something else is read to its end, or within bounds', async () => {
    await start();
    const refused = (bytes: Buffer) => Buffer.concat([Buffer.from(head('/nope', CHUNKED)), bytes]);
    const whole = await talk(front.http.port, refused(Buffer.concat([chunk('abc'), chunk('')])), answered);
    expect(whole).toMatch(/^HTTP\/1\.1 404 /);
    expect(whole).not.toContain('Connection: close');
    const endless = await talk(front.http.port, refused(chunk(Buffer.alloc(4 * LIMIT + 1))), answered);
    expect(endless).toMatch(/^HTTP\/1\.1 404 .*Connection: close\r\n/s);
  });
});

describe('bounds', () => {
  test('connections: the last one is served, the next is closed until one is free again', async () => {
    await start({ http: { connectionsMax: 2 } });
    const [first, second] = [await wire(front.http.port), await wire(front.http.port)];
    await until(async () => (await metric(front, 'connections', { transport: 'http' })) === 2);
    // Over TLS it is closed in the handshake.
    await wire(front.http.port).then(({ closed }) => closed, () => undefined);
    expect(await metric(front, 'requests_refused_total', { reason: 'connections' })).toBe(1);
    second.socket.write(`${head('/v1/traces', { 'Content-Length': 1 })}x`);
    await until(() => answered(second.text()));
    first.socket.destroy();
    await until(async () => (await metric(front, 'connections', { transport: 'http' })) === 1);
    expect((await http(front, '/v1/traces', 'x')).status).toBe(200);
    second.socket.destroy();
  });

  test('requests in flight: the last one is let in, the next is told to come back', async () => {
    const { open, opened } = gate();
    await start({ door: { requestsInFlightMax: 2 }, answer: () => opened });
    const inside = [http(front, '/v1/traces', 'x'), http(front, '/v1/traces', 'x')];
    await until(() => front.taken.length === 2);
    expect((await http(front, '/v1/traces', 'x')).status).toBe(503);
    open(ADMITTED);
    expect((await Promise.all(inside)).map((r) => r.status)).toEqual([200, 200]);
    expect((await http(front, '/v1/traces', 'x')).status).toBe(200);
    expect(
      await metric(front, 'requests_refused_total', { signal: 'traces', reason: 'requests_in_flight' }),
    ).toBe(1);
  });

  test('bytes in flight: a body that grows over the bound half-way is told to come back', async () => {
    await start({ door: { bytesInFlightMax: 1000 } });
    expect((await http(front, '/v1/traces', Buffer.alloc(1000))).status).toBe(200);
    expect((await http(front, '/v1/traces', Buffer.alloc(1001))).status).toBe(503);
    const request = Buffer.concat([Buffer.from(head('/v1/traces', CHUNKED)), chunk(Buffer.alloc(1001))]);
    expect(await talk(front.http.port, request, answered)).toMatch(/^HTTP\/1\.1 503 .*Retry-After: \d/s);
  });

  test('a closed door: requests on open connections are told to come back', async () => {
    await start();
    front.door.close();
    const reply = await http(front, '/v1/traces', 'x');
    expect([reply.status, reply.headers['retry-after']]).toEqual([503, expect.stringMatching(/^[1-5]$/)]);
  });
});

describe('clients that leave or lie', () => {
  test('an upload that breaks off is not taken, and everything is given back', async () => {
    await start();
    for (const sent of ['', 'abc', 'a'.repeat(LIMIT - 1)]) {
      const { socket } = await wire(front.http.port);
      socket.write(head('/v1/traces', { 'Content-Length': LIMIT }) + sent);
      await until(() => front.door.requestsInFlight === 1 && front.door.bytesInFlight === sent.length);
      socket.destroy();
      await empty(front);
    }
    expect(front.taken).toEqual([]);
    expect(await metric(front, 'requests_total', { code: '499' })).toBe(3);
  });

  test('a body shorter than its length, and then the end of the connection, is not taken', async () => {
    await start();
    const { socket, closed } = await wire(front.http.port);
    socket.end(`${head('/v1/traces', { 'Content-Length': 50 })}abc`);
    await closed;
    expect(front.taken).toEqual([]);
  });

  test('a body longer than its length is not read into the next request', async () => {
    await start();
    const text = await talk(
      front.http.port,
      `${head('/v1/traces', { 'Content-Length': 2 })}abTRAILING\r\n\r\n`,
      answered,
    );
    expect(text).toMatch(/^HTTP\/1\.1 [245]\d\d /);
    expect(front.taken.every((t) => t.bytes.toString() === 'ab')).toBe(true);
  });

  test('a client that leaves before its answer: its request is finished, then given back', async () => {
    const { open, opened } = gate();
    await start({ answer: () => opened });
    const { socket } = await wire(front.http.port);
    socket.write(`${head('/v1/traces', { 'Content-Length': 1 })}x`);
    await until(() => front.taken.length === 1);
    reset(socket);
    await until(async () => (await metric(front, 'connections', { transport: 'http' })) === 0);
    expect(front.door.requestsInFlight).toBe(1);
    open(ADMITTED);
    await empty(front);
    expect(await metric(front, 'requests_total', { code: '499' })).toBe(1);
  });

  test('half-open requests keep nobody else waiting', async () => {
    await start();
    const slow = await Promise.all(Array.from({ length: 90 }, () => wire(front.http.port)));
    for (const { socket } of slow) socket.write('POST /v1/traces HTTP/1.1\r\nHost: x\r\nX-a: ');
    expect((await http(front, '/v1/traces', 'x')).status).toBe(200);
    expect(front.door.requestsInFlight).toBe(0);
    for (const { socket } of slow) socket.destroy();
    await until(async () => (await metric(front, 'connections', { transport: 'http' })) === 0);
  });

  test('random bytes, whole and cut off anywhere', async () => {
    await start();
    const request = Buffer.from(`${head('/v1/traces', { 'Content-Length': 20 })}${'x'.repeat(20)}`, 'latin1');
    let seed = 7;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
      return seed % below;
    };
    for (let round = 0; round < 60; round++) {
      const bytes = round % 2 === 0 ? Buffer.from(request) : Buffer.alloc(200);
      for (let i = 0; i < (round % 2 === 0 ? 3 : 200); i++) bytes[random(bytes.length)] = random(256);
      const { socket } = await wire(front.http.port);
      socket.write(bytes.subarray(0, random(bytes.length)));
      socket.end();
    }
    expect((await http(front, '/v1/traces', 'x')).status).toBe(200);
  });
});
