/**
 * Goal: the gRPC port against stock clients (grpc-js) and against what no stock client sends: broken frames,
 * wrong calls, floods, leaving early. Everything that was let in comes out again.
 */
import { randomBytes } from 'node:crypto';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import type grpc from '@grpc/grpc-js';
import { describe, expect, test } from 'vitest';
import { LIMIT, MESSAGE, bare, client, front, gate, start } from './grpc-front.ts';
import { EXPORT, bareCall, call, empty, fields, frame, until, wire } from './support.ts';

describe('stock clients', () => {
  test('messages of every size up to the limit arrive as they are', async () => {
    await start({ requestBytesMax: 3 << 20 });
    const one = client();
    const sizes = [0, 1, 16_378, 16_379, 16_380, 65_536, (3 << 20) - 1, 3 << 20];
    for (const size of sizes) {
      const bytes = randomBytes(size);
      expect((await call(one, EXPORT.metrics, bytes)).code).toBe(0);
      expect(front.taken.at(-1)?.bytes.equals(bytes)).toBe(true);
    }
    expect((await call(one, EXPORT.metrics, Buffer.alloc((3 << 20) + 1))).code).toBe(8);
  });

  test('many calls on one session, each with its own answer', async () => {
    await start({
      answer: ({ bytes }) => ({
        kind: 'admit',
        outcome: { accepted: 0, rejected: bytes[0] ?? 0, reasons: new Map(), warnings: new Map() },
      }),
    });
    const one = client();
    const replies = await Promise.all(
      Array.from({ length: 80 }, (_, i) => call(one, EXPORT.traces, Buffer.from([i + 1]))),
    );
    replies.forEach((reply, i) => {
      const partial = fields(reply.body ?? Buffer.alloc(0)).get(1)?.[0];
      expect(fields(partial as Buffer).get(1)).toEqual([i + 1]);
    });
  });

  test('a client that sends far more than the limit sees why, and can go on', async () => {
    await start();
    const one = client();
    for (let i = 0; i < 3; i++) expect((await call(one, EXPORT.traces, Buffer.alloc(8 << 20))).code).toBe(8);
    expect((await call(one, EXPORT.traces, MESSAGE)).code).toBe(0);
  });

  test('a deadline that passes: what was handed over is finished, then given back', async () => {
    const { open, opened } = gate();
    await start({ answer: () => opened });
    const one = client();
    // One that has passed before the request was on its way shows nothing.
    for (let ms = 250; front.taken.length === 0; ms *= 2) {
      const reply = await call(one, EXPORT.traces, MESSAGE, { deadline: Date.now() + ms });
      expect(reply.code).toBe(4);
    }
    expect(front.door.requestsInFlight).toBe(front.taken.length);
    open();
    await empty(front);
  });

  test('after the deadline nothing is answered, also when the client has not noticed it', async () => {
    const { open, opened } = gate();
    await start({ answer: () => opened });
    const replying = bareCall(bare(), EXPORT.traces, [frame(MESSAGE)], { 'grpc-timeout': '1m' });
    await until(() => front.taken.length === 1);
    await new Promise((resolve) => setTimeout(resolve, 5));
    open();
    const reply = await replying;
    expect([reply.headers[':status'], reply.rstCode]).toEqual([undefined, 8]);
  });

  test('a cancelled call: what was handed over is finished, then given back', async () => {
    const { open, opened } = gate();
    await start({ answer: () => opened });
    const made: grpc.ClientUnaryCall[] = [];
    const replying = call(client(), EXPORT.traces, MESSAGE, {}, (started) => made.push(started));
    await until(() => front.taken.length === 1);
    made[0]?.cancel();
    expect((await replying).code).toBe(1);
    expect(front.door.requestsInFlight).toBe(1);
    open();
    await empty(front);
  });
});

describe('encodings', () => {
  test.each([
    ['gzip', gzipSync(MESSAGE)],
    ['zstd', zstdCompressSync(MESSAGE)],
    ['identity', MESSAGE],
  ])('%s with the flag that says so', async (name, bytes) => {
    await start();
    const flag = name === 'identity' ? 0 : 1;
    const reply = await bareCall(bare(), EXPORT.traces, [frame(bytes, flag)], { 'grpc-encoding': name });
    expect(reply.trailers['grpc-status']).toBe('0');
    expect(front.taken[0]?.bytes).toEqual(MESSAGE);
  });

  test('an encoding without the flag is a plain message', async () => {
    await start();
    await bareCall(bare(), EXPORT.traces, [frame(MESSAGE)], { 'grpc-encoding': 'gzip' });
    expect(front.taken[0]).toMatchObject({ encoding: 'identity', bytes: MESSAGE });
  });

  test('an unknown encoding is UNIMPLEMENTED and says which are known', async () => {
    await start();
    const reply = await bareCall(bare(), EXPORT.traces, [frame(MESSAGE, 1)], { 'grpc-encoding': 'snappy' });
    expect(reply.headers).toMatchObject({
      'grpc-status': '12',
      'grpc-accept-encoding': 'identity,gzip,deflate,zstd',
    });
  });

  test('the flag without an encoding, and a body that is none, are the client´s mistakes', async () => {
    await start();
    expect((await bareCall(bare(), EXPORT.traces, [frame(MESSAGE, 1)])).headers['grpc-status']).toBe('3');
    const broken = await bareCall(bare(), EXPORT.traces, [frame(MESSAGE, 1)], { 'grpc-encoding': 'gzip' });
    expect(broken.headers['grpc-status']).toBe('3');
  });
});

describe('broken frames', () => {
  test.each([
    ['nothing', []],
    ['half a prefix', [Buffer.alloc(3)]],
    ['half a message', [frame(MESSAGE).subarray(0, 9)]],
    ['two messages', [frame(MESSAGE), frame(MESSAGE)]],
    ['a flag of 7', [frame(MESSAGE, 7)]],
  ])('%s is INVALID_ARGUMENT', async (_, pieces) => {
    await start();
    const reply = await bareCall(bare(), EXPORT.traces, pieces);
    expect(reply.headers['grpc-status']).toBe('3');
    expect(reply.headers['grpc-message']).toMatch(/^broken gRPC frame: /);
    expect(front.taken).toEqual([]);
  });

  test('a length over the limit is refused at its prefix, without RetryInfo', async () => {
    await start();
    const prefix = frame(Buffer.alloc(0), 0, LIMIT + 1);
    const reply = await bareCall(bare(), EXPORT.traces, [prefix], {}, { end: false });
    expect(reply.headers['grpc-status']).toBe('8');
    expect(reply.headers['grpc-status-details-bin']).toBeUndefined();
  });

  test('random bytes on the port, before and after a preface', async () => {
    await start();
    for (let round = 0; round < 20; round++) {
      const { socket, closed } = await wire(front.grpc.port);
      const preface = round % 2 === 0 ? 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' : '';
      socket.end(Buffer.concat([Buffer.from(preface), randomBytes(300)]));
      socket.resume();
      await closed;
    }
    expect((await call(client(), EXPORT.traces, MESSAGE)).code).toBe(0);
  });

  test('a client that leaves in the middle of its message', async () => {
    await start();
    const session = bare();
    bareCall(session, EXPORT.traces, [frame(MESSAGE).subarray(0, 9)], {}, { end: false });
    await until(() => front.door.bytesInFlight === 9);
    session.destroy();
    await empty(front);
    expect(front.taken).toEqual([]);
  });
});

describe('wrong calls', () => {
  test.each([
    [{ ':method': 'GET' }, 405],
    [{ 'content-type': 'application/json' }, 415],
    [{ 'content-type': 'application/grpc+json' }, 415],
    [{ 'content-type': 'application/grpcx' }, 415],
  ])('%j is answered with the status of HTTP', async (headers, status) => {
    await start();
    const replies = bareCall(bare(), EXPORT.traces, [], headers as unknown as Record<string, string>, {
      end: !(':method' in headers),
    });
    expect((await replies).headers[':status']).toBe(status);
  });

  test.each(['application/grpc', 'application/grpc+proto', 'Application/gRPC; x=1'])(
    '%s is gRPC',
    async (type) => {
      await start();
      const reply = await bareCall(bare(), EXPORT.traces, [frame(MESSAGE)], { 'content-type': type });
      expect(reply.trailers['grpc-status']).toBe('0');
    },
  );

  test('an unknown method is UNIMPLEMENTED at once, whatever the client still sends', async () => {
    await start();
    const reply = await call(client(), '/nope.Service/Nope', Buffer.alloc(4 << 20));
    expect([reply.code, reply.message]).toEqual([12, 'there is no method /nope.Service/Nope']);
  });

  test('headers over the limit end the stream, not the server', async () => {
    await start();
    const session = bare();
    const big = (bytes: number) =>
      bareCall(session, EXPORT.traces, [frame(MESSAGE)], { 'x-big': 'a'.repeat(bytes) });
    // The limit holds once the client has confirmed the settings that say so; until then node's 64 KiB do.
    expect((await big(15_000)).trailers['grpc-status']).toBe('0');
    await big(17_000);
    expect(front.taken).toHaveLength(1);
    expect((await call(client(), EXPORT.traces, MESSAGE)).code).toBe(0);
  });
});
