/** Goal: the gRPC port's health service, its bounds at their edges, and how it opens and closes. */
import { connect as http2Connect } from 'node:http2';
import { describe, expect, test } from 'vitest';
import { ConfigurationError } from '../../src/base/errors.ts';
import { createLogger } from '../../src/base/log.ts';
import { type GrpcOptions, listenGrpc } from '../../src/receive/grpc.ts';
import { KEEP_ALIVE_MS, LIMIT, MESSAGE, bare, callInside, client, endLater, front, gate, start } from './grpc-front.ts';
import { ADMITTED, EXPORT, admissionOf, bareCall, call, empty, frame, metric, until, wire } from './support.ts';

describe('health', () => {
  const CHECK = '/grpc.health.v1.Health/Check';
  const ask = (service: string) => Buffer.concat([Buffer.from([10, service.length]), Buffer.from(service)]);

  test.each([
    ['SERVING', 1],
    ['NOT_SERVING', 2],
  ] as const)('%s, for the whole server and each service', async (status, number) => {
    await start({ grpc: { health: () => status } });
    const one = client();
    for (const question of [
      Buffer.alloc(0),
      ask(''),
      ask('opentelemetry.proto.collector.logs.v1.LogsService'),
    ]) {
      expect((await call(one, CHECK, question)).body).toEqual(Buffer.from([8, number]));
    }
  });

  test('an unknown service is NOT_FOUND, nonsense is INVALID_ARGUMENT, Watch is UNIMPLEMENTED', async () => {
    await start();
    const one = client();
    expect((await call(one, CHECK, ask('nope'))).code).toBe(5);
    expect((await call(one, CHECK, Buffer.from([10, 99, 1]))).code).toBe(3);
    expect((await call(one, CHECK, Buffer.alloc(2000))).code).toBe(3);
    expect((await call(one, '/grpc.health.v1.Health/Watch', Buffer.alloc(0))).code).toBe(12);
  });

  test('it answers while the door is full', async () => {
    await start({ door: { requestsInFlightMax: 0 } });
    expect((await call(client(), CHECK, Buffer.alloc(0))).code).toBe(0);
  });
});

describe('bounds', () => {
  test('requests in flight: the last one is let in, the next is told to come back', async () => {
    const { open, opened } = gate();
    await start({ door: { requestsInFlightMax: 2 }, answer: () => opened });
    const one = client();
    const inside = [call(one, EXPORT.traces, MESSAGE), call(one, EXPORT.traces, MESSAGE)];
    await until(() => front.taken.length === 2);
    expect((await call(one, EXPORT.traces, MESSAGE)).code).toBe(14);
    open();
    expect((await Promise.all(inside)).map((r) => r.code)).toEqual([0, 0]);
  });

  test('bytes in flight: the last byte is let in, the next is told to come back', async () => {
    await start({ door: { bytesInFlightMax: 1005 } });
    expect((await call(client(), EXPORT.traces, Buffer.alloc(1000))).code).toBe(0);
    expect((await call(client(), EXPORT.traces, Buffer.alloc(1001))).code).toBe(14);
  });

  test('connections: the last one is served, the next is closed', async () => {
    await start({ grpc: { connectionsMax: 2 } });
    const [first, second] = [client(), client()];
    expect((await call(first, EXPORT.traces, MESSAGE)).code).toBe(0);
    expect((await call(second, EXPORT.traces, MESSAGE)).code).toBe(0);
    const third = await wire(front.grpc.port);
    await third.closed;
    expect(await metric(front, 'requests_refused_total', { reason: 'connections' })).toBe(1);
    expect((await call(first, EXPORT.traces, MESSAGE)).code).toBe(0);
  });

  test('streams of one session: those over the limit wait or are refused', async () => {
    const { open, opened } = gate();
    await start({ answer: () => opened, door: { requestsInFlightMax: 1000 } });
    const session = http2Connect(`http://127.0.0.1:${front.grpc.port}`);
    endLater(() => session.destroy());
    await new Promise((known) => session.once('remoteSettings', known));
    expect(session.remoteSettings.maxConcurrentStreams).toBe(256);
    const calls = Array.from({ length: 300 }, () => bareCall(session, EXPORT.traces, [frame(MESSAGE)]));
    await until(() => front.taken.length === 256);
    expect(front.door.requestsInFlight).toBe(256);
    open();
    const replies = await Promise.all(calls);
    const served = replies.filter((r) => r.trailers['grpc-status'] === '0').length;
    const refused = replies.filter((r) => r.rstCode === 7).length;
    expect(served).toBeGreaterThanOrEqual(256);
    expect(served + refused).toBe(300);
  });

  test('streams that are opened and reset in a flood end the session', async () => {
    await start();
    const session = bare();
    for (let i = 0; i < 3000 && !session.destroyed; i++) {
      const stream = session.request({
        ':method': 'POST',
        ':path': EXPORT.traces,
        'content-type': 'application/grpc',
      });
      stream.on('error', () => stream.destroy());
      stream.close(8);
      if (i % 50 === 0) await new Promise(setImmediate);
    }
    await until(() => session.destroyed);
    expect((await call(client(), EXPORT.traces, MESSAGE)).code).toBe(0);
  });

  test('a session without a call is ended after keepAliveMs, one with a call is not', async () => {
    const { open, opened } = gate();
    await start({ grpc: { keepAliveMs: KEEP_ALIVE_MS }, answer: () => opened });
    const idle = bare();
    await new Promise<void>((ended) => idle.once('close', () => ended()));
    const busy = await callInside();
    const another = bare();
    await new Promise<void>((ended) => another.once('close', () => ended()));
    open();
    expect((await busy.replied).trailers['grpc-status']).toBe('0');
  });

  test('a message that stops arriving is given up, and everything is given back', async () => {
    await start({ grpc: { keepAliveMs: KEEP_ALIVE_MS } });
    const half = frame(MESSAGE).subarray(0, 9);
    const reply = await bareCall(bare(), EXPORT.traces, [half], {}, { end: false });
    expect([reply.headers[':status'], reply.rstCode]).toEqual([undefined, 8]);
    await empty(front);
  });

  test('a message that drips in is given up, however often a byte comes', async () => {
    await start({ grpc: { keepAliveMs: KEEP_ALIVE_MS } });
    const session = bare();
    const stream = session.request({
      ':method': 'POST',
      ':path': EXPORT.traces,
      'content-type': 'application/grpc',
    });
    stream.on('error', () => stream.destroy());
    stream.write(frame(Buffer.alloc(0), 0, LIMIT));
    const drip = setInterval(() => stream.write(Buffer.alloc(1)), 5);
    endLater(() => clearInterval(drip));
    await until(() => stream.closed);
    clearInterval(drip);
    expect(stream.rstCode).toBe(8);
  });

  test('a declared length over the limit is refused before anything is read', async () => {
    await start();
    const declared = { 'content-length': String(LIMIT + 6) };
    const reply = await bareCall(bare(), EXPORT.traces, [], declared, { end: false });
    expect(reply.headers['grpc-status']).toBe('8');
  });

  test('a connection that never speaks HTTP/2 is ended', async () => {
    await start({ grpc: { keepAliveMs: KEEP_ALIVE_MS } });
    const { closed, socket } = await wire(front.grpc.port);
    socket.resume();
    await closed;
  });
});

describe('the port', () => {
  const options = (port: number): GrpcOptions => ({
    addr: { host: '127.0.0.1', port },
    requestBytesMax: LIMIT,
    connectionsMax: 10,
    connectionsPerAddressMax: 0,
    tls: undefined,
    keepAliveMs: 60_000,
    sourceHeader: 'x-sluice-source',
    ingest: { take: async () => ADMITTED },
    door: admissionOf(front.door),
    health: () => 'SERVING',
    instruments: front.instruments,
    logger: createLogger('silent', 'json'),
  });

  test('a second listener on it is refused in words that name the setting', async () => {
    await start();
    const refused = listenGrpc(options(front.grpc.port));
    await expect(refused).rejects.toThrow(ConfigurationError);
    await expect(refused).rejects.toThrow(/SLUICE_GRPC_ADDR.*127\.0\.0\.1:\d+.*taken/);
  });

  test('closing lets calls in flight finish, and takes no new connections', async () => {
    const { open, opened } = gate();
    await start({ answer: () => opened });
    const inside = call(client(), EXPORT.traces, MESSAGE);
    await until(() => front.taken.length === 1);
    const closed = front.grpc.close(20_000);
    await expect(wire(front.grpc.port)).rejects.toThrow(/ECONNREFUSED/);
    open();
    expect((await inside).code).toBe(0);
    await closed;
  });

  test('closing has a deadline', async () => {
    const { open, opened } = gate();
    await start({ answer: () => opened });
    const inside = call(client(), EXPORT.traces, MESSAGE);
    await until(() => front.taken.length === 1);
    await front.grpc.close(50);
    expect((await inside).code).toBe(14);
    open();
  });

  test('calls are counted by signal and code', async () => {
    await start();
    const one = client();
    await call(one, EXPORT.logs, MESSAGE);
    await call(one, '/nope/Nope', MESSAGE);
    const labels = { transport: 'grpc' };
    expect(
      await metric(front, 'requests_total', { ...labels, signal: 'logs', encoding: 'protobuf', code: '0' }),
    ).toBe(1);
    expect(await metric(front, 'requests_total', { ...labels, signal: 'none', code: '12' })).toBe(1);
  });
});
