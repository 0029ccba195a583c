/**
 * Goal: frames that nobody needs, in floods: each ends its session or its stream, and everybody else goes on.
 * Written onto the connection byte by byte, since no client would.
 */
import { type Socket, connect } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { KEEP_ALIVE_MS, callInside, client, endLater, front, gate, start } from './grpc-front.ts';
import { EXPORT, call, empty, frame, metric, until } from './support.ts';

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const [DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION] = [0, 1, 4, 6, 8, 9] as const;
const [END_STREAM, END_HEADERS] = [1, 4];

function h2(type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** A header that isn't indexed, its name and value as they are (RFC 7541, 6.2.2). */
function header(name: string, value: string): Buffer {
  const text = (of: string) => {
    const bytes = Buffer.from(of);
    const length = bytes.length < 127 ? [bytes.length] : [127, ...varint(bytes.length - 127)];
    return Buffer.concat([Buffer.from(length), bytes]);
  };
  return Buffer.concat([Buffer.from([0]), text(name), text(value)]);
}

function varint(value: number): number[] {
  return value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)];
}

function callHeaders(...more: Buffer[]): Buffer {
  return Buffer.concat([
    header(':method', 'POST'),
    header(':scheme', 'http'),
    header(':path', EXPORT.traces),
    header(':authority', 'x'),
    header('content-type', 'application/grpc'),
    ...more,
  ]);
}

interface Speaker {
  readonly socket: Socket;
  readonly closed: Promise<void>;
}

/** A connection that has spoken HTTP/2, and reads what it gets unless it is told not to. */
async function speak(settings: Uint8Array = Buffer.alloc(0), allowHalfOpen = false): Promise<Speaker> {
  const socket = connect({ port: front.grpc.port, host: '127.0.0.1', allowHalfOpen });
  const closed = new Promise<void>((gone) => socket.on('close', () => gone()));
  socket.on('error', () => socket.destroy());
  socket.resume();
  endLater(() => socket.destroy());
  socket.write(Buffer.concat([PREFACE, h2(SETTINGS, 0, 0, settings)]));
  return { socket, closed };
}

afterEach(async () => {
  await empty(front);
});

/** Writes until the server has had enough; the test's own time limit is the bound. */
async function flood({ socket, closed }: Speaker, bytes: Buffer): Promise<void> {
  let ended = false;
  closed.then(() => {
    ended = true;
  });
  while (!ended) {
    if (socket.writable) socket.write(bytes);
    await new Promise(setImmediate);
  }
}

const many = (one: Buffer, count = 200) => Buffer.concat(new Array<Buffer>(count).fill(one));
const openCall = h2(HEADERS, END_HEADERS, 1, callHeaders());

describe('a session ends when it gets', () => {
  test.each<[string, () => Buffer, Buffer]>([
    ['empty pieces of a message without end', () => openCall, many(h2(DATA, 0, 1))],
    ['headers that never end', () => h2(HEADERS, 0, 1, callHeaders()), many(h2(CONTINUATION, 0, 1, header('a', 'b')))],
    ['windows that are opened by nothing', () => openCall, many(h2(WINDOW_UPDATE, 0, 0, Buffer.alloc(4)))],
    ['more settings than there are', () => Buffer.alloc(0),
      h2(SETTINGS, 0, 0, Buffer.concat(Array.from({ length: 17 }, () => Buffer.from([0, 3, 0, 0, 0, 9]))))],
  ])('%s', async (_, opening, bytes) => {
    await start();
    const speaker = await speak();
    speaker.socket.write(opening());
    await flood(speaker, bytes);
    expect((await call(client(), EXPORT.traces, Buffer.from('x'))).code).toBe(0);
  });

  test.each<[string, Buffer]>([
    ['PINGs', many(h2(PING, 0, 0, Buffer.alloc(8)))],
    ['SETTINGS', many(h2(SETTINGS, 0, 0))],
  ])('%s whose answers it does not take', async (_, bytes) => {
    await start();
    const speaker = await speak();
    speaker.socket.pause();
    const connections = () => metric(front, 'connections', { transport: 'grpc' });
    await until(async () => (await connections()) === 1);
    const gone = until(async () => (await connections()) === 0);
    let over = false;
    gone.then(() => {
      over = true;
    });
    while (!over && speaker.socket.writable) {
      speaker.socket.write(bytes);
      await new Promise(setImmediate);
    }
    await gone;
    expect((await call(client(), EXPORT.traces, Buffer.from('x'))).code).toBe(0);
  });
});

describe('headers of a call', () => {
  /** Resolves to how the stream ended, for headers in two frames. */
  async function outcome(...more: Buffer[]): Promise<number | undefined> {
    const speaker = await speak();
    const got: Buffer[] = [];
    speaker.socket.on('data', (piece: Buffer) => got.push(piece));
    const block = callHeaders(...more);
    const [first, rest] = [block.subarray(0, 9_000), block.subarray(9_000)];
    speaker.socket.write(h2(HEADERS, 0, 1, first));
    speaker.socket.write(h2(CONTINUATION, END_HEADERS, 1, rest));
    speaker.socket.write(h2(DATA, END_STREAM, 1, frame(Buffer.from('x'))));
    const RST_STREAM = 3;
    let code: number | undefined;
    await until(() => {
      const frames = framesOf(Buffer.concat(got));
      const reset = frames.find(({ type, stream }) => type === RST_STREAM && stream === 1);
      code = reset?.payload.readUInt32BE(0);
      return reset !== undefined || frames.some(({ type, flags }) => type === HEADERS && (flags & 1) === 1);
    });
    speaker.socket.destroy();
    return code;
  }

  function framesOf(bytes: Buffer) {
    const frames: { type: number; flags: number; stream: number; payload: Buffer }[] = [];
    let at = 0;
    while (at + 9 <= bytes.length) {
      const length = bytes.readUIntBE(at, 3);
      if (at + 9 + length > bytes.length) break;
      const payload = bytes.subarray(at + 9, at + 9 + length);
      frames.push({ type: bytes[at + 3] ?? 0, flags: bytes[at + 4] ?? 0, stream: bytes.readUInt32BE(at + 5), payload });
      at += 9 + length;
    }
    return frames;
  }

  const extra = (count: number) => Array.from({ length: count }, (_, i) => header(`x-${i}`, 'v'));

  test('a hundred of them are let in, one more is not', async () => {
    await start();
    expect(await outcome(...extra(95))).toBeUndefined();
    expect(await outcome(...extra(96))).toBe(11);
  });

  test('15 KiB of them are let in, 17 KiB are not', async () => {
    await start();
    const big = (bytes: number) => header('x-big', 'v'.repeat(bytes));
    expect(await outcome(big(7_500), big(7_500))).toBeUndefined();
    expect(await outcome(big(8_500), big(8_500))).toBe(11);
  });

  test('a few bytes that stand for many (RFC 7541, 7.3) count as what they stand for', async () => {
    await start();
    // One header into the table of 4 KiB, and then named again and again by one byte.
    const stored = Buffer.concat([Buffer.from([0x40]), header('x-bomb', 'v'.repeat(3_500)).subarray(1)]);
    expect(await outcome(stored, Buffer.alloc(90, 0xbe))).toBe(11);
  });
});

describe('clients that take nothing', () => {
  const STREAMS = 90;
  /** INITIAL_WINDOW_SIZE 0: nothing of a message may be sent. */
  const SHUT = Buffer.from([0, 4, 0, 0, 0, 0]);

  test('an answer that a shut window keeps back holds no request inside', async () => {
    const { open, opened } = gate();
    await start({ answer: () => opened });
    const { socket } = await speak(SHUT);
    for (let i = 0; i < 20; i++) {
      socket.write(h2(HEADERS, END_HEADERS, 1 + 2 * i, callHeaders()));
      socket.write(h2(DATA, END_STREAM, 1 + 2 * i, frame(Buffer.from('x'))));
    }
    await until(() => front.taken.length === 20);
    expect(front.door.requestsInFlight).toBe(20);
    open();
    await empty(front);
    expect((await call(client(), EXPORT.traces, Buffer.from('x'))).code).toBe(0);
  });

  test('a session that was told to go, and stays, is cut off', async () => {
    await start({ grpc: { keepAliveMs: KEEP_ALIVE_MS } });
    // It takes notice of nothing: not of the farewell, not of the end of the server's side.
    await speak(Buffer.alloc(0), true);
    await until(async () => (await metric(front, 'connections', { transport: 'grpc' })) === 1);
    await until(async () => (await metric(front, 'connections', { transport: 'grpc' })) === 0);
  });

  test('streams without a byte are given up after a while, and hold nothing else up', async () => {
    await start({ grpc: { keepAliveMs: KEEP_ALIVE_MS } });
    const { socket } = await speak();
    for (let i = 0; i < STREAMS; i++) socket.write(h2(HEADERS, END_HEADERS, 1 + 2 * i, callHeaders()));
    await until(async () => (await metric(front, 'requests_total', { code: '1' })) === STREAMS);
    const { replied } = await callInside();
    expect((await replied).trailers['grpc-status']).toBe('0');
  });
});
