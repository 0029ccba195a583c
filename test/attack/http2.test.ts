/**
 * Goal: a client that speaks HTTP/2 to hurt gets its stream reset or its connection ended, in time and at a
 * bounded price, while the neighbours are served; and calls that are only strange are taken.
 */
import { describe, expect, test } from 'vitest';
import { frame } from '../support/clients.ts';
import { tracesRequest } from '../support/requests.ts';
import { eventually } from '../support/services.ts';
import {
  ACK, CALL, END_HEADERS, END_STREAM, ERROR, type Fields, type H2, NOTHING, SETTINGS_ACK, TYPE, block, data,
  frameOf, h2, headers, hpackField, hpackInteger, rstStream, settings, uint32, windowUpdate,
} from './frames.ts';
import { useAttackedProgram } from './support.ts';

const attacked = useAttackedProgram({
  // Strange calls are sent several times, and counted.
  SLUICE_RESEND_WINDOW_SECONDS: '0',
});
const { surviving, counting } = attacked;

/** Of no span: what is let through of a hostile call must not show in the tables. */
const EMPTY = frame(NOTHING);
const FULL = frame(tracesRequest(1, 0xdead));
const PADDED = 8;

const times = (n: number, of: (i: number) => Uint8Array) => Buffer.concat(Array.from({ length: n }, (_, i) => of(i)));
const streamOf = (i: number) => 1 + 2 * i;
const ping = frameOf(TYPE.ping, 0, 0, Buffer.alloc(8));
const goaway = frameOf(TYPE.goaway, 0, 0, Buffer.alloc(8));

async function connected(hello?: Uint8Array): Promise<H2> {
  const connection = await h2(attacked.program.grpcPort, hello);
  await connection.write(SETTINGS_ACK);
  return connection;
}

/** A connection of its own for one attack, which is closed afterwards. */
async function attack(body: (connection: H2) => Promise<void>, hello?: Uint8Array): Promise<void> {
  await surviving(async () => {
    const connection = await connected(hello);
    try {
      await body(connection);
    } finally {
      connection.destroy();
    }
  });
}

describe('floods end their connection', () => {
  /** What is written again and again, until the connection has ended or all of it was taken. */
  const WRITES_MAX = 100;
  test.each([
    ['SETTINGS', settings()],
    ['acknowledgements of SETTINGS', frameOf(TYPE.settings, ACK, 0, NOTHING)],
    ['SETTINGS that change the table back and forth', Buffer.concat([settings([1, 0]), settings([1, 2 ** 32 - 1])])],
    ['PING', ping],
    ['PRIORITY', frameOf(TYPE.priority, 0, 1, Buffer.from([0, 0, 0, 0, 16]))],
    ['GOAWAY', goaway],
    ['unknown frames', frameOf(0x42, 0, 0, Buffer.alloc(20))],
    ['frames with half a window', windowUpdate(0, 1)],
  ])('%s, whose answers nobody reads: bounded', async (_, piece) => {
    const many = times(5000, () => piece);
    await attack(async (connection) => {
      connection.stopReading();
      for (let i = 0; i < WRITES_MAX && !connection.isClosed(); i++) await connection.write(many);
    });
  });

  test('streams that are opened and reset at once', () =>
    attack(async (connection) => {
      for (let write = 0; write < 20; write++) {
        const first = write * 500;
        const pair = (i: number) =>
          Buffer.concat([headers(streamOf(first + i)), rstStream(streamOf(first + i), 8)]);
        await connection.write(times(500, pair));
      }
      await eventually('the end', connection.isClosed);
    }));

  test.each([
    ['full', hpackField('x', 'y'.repeat(100))],
    ['empty', NOTHING],
  ])('CONTINUATION without end, %s', (_, piece) =>
    attack(async (connection) => {
      await connection.write(frameOf(TYPE.headers, 0, 1, block(CALL)));
      const many = times(1000, () => frameOf(TYPE.continuation, 0, 1, piece));
      for (let i = 0; i < WRITES_MAX && !connection.isClosed(); i++) await connection.write(many);
      await eventually('the end', connection.isClosed);
    }),
  );

  test('DATA without a byte', () =>
    attack(async (connection) => {
      await connection.write(headers(1));
      const many = times(1000, () => data(1, NOTHING));
      for (let i = 0; i < WRITES_MAX && !connection.isClosed(); i++) await connection.write(many);
      await eventually('the end', connection.isClosed);
    }));

  test('more streams than a session may have', () =>
    attack(async (connection) => {
      await connection.write(times(1000, (i) => headers(streamOf(i))));
      await eventually('the end', connection.isClosed);
    }));
});

describe('header lists', () => {
  const huge = Buffer.concat([block(CALL), hpackField('x', 'y'.repeat(3900), true)]);
  const referring = Buffer.concat([block(CALL), times(16_000, () => hpackInteger(62, 7, 0x80))]);

  test('62 MB in 16 KB, a hundred times: each stream is reset before they are unpacked', () =>
    attack(async (connection) => {
      await connection.write(frameOf(TYPE.headers, END_HEADERS, 1, huge));
      for (let i = 1; i <= 100; i++) {
        await connection.write(frameOf(TYPE.headers, END_HEADERS, streamOf(i), referring));
      }
      await eventually('the last reset', () => connection.reset(streamOf(100)) === ERROR.enhanceYourCalm);
    }));

  test.each([
    ['500 of them', times(500, (i) => hpackField(`x${i}`, 'y'))],
    ['17 KB', Buffer.concat([hpackField('x', 'y'.repeat(8000)), hpackField('z', 'y'.repeat(8000))])],
  ])('%s', (_, more) =>
    attack(async (connection) => {
      const fields = Buffer.concat([block(CALL), more]);
      const [first, rest] = [fields.subarray(0, 16_000), fields.subarray(16_000)];
      await connection.write(Buffer.concat([
        frameOf(TYPE.headers, 0, 1, first), frameOf(TYPE.continuation, END_HEADERS, 1, rest),
      ]));
      await eventually('the reset', () => connection.reset(1) === ERROR.enhanceYourCalm);
    }),
  );

  const other = (name: string, value: string): Fields => [...CALL.filter(([known]) => known !== name), [name, value]];
  test.each([
    ['a name in capitals', [...CALL, ['X', 'y']]],
    ['connection', [...CALL, ['connection', 'close']]],
    ['transfer-encoding', [...CALL, ['transfer-encoding', 'chunked']]],
    ['two paths', [...CALL, [':path', '/x']]],
    ['no path', CALL.filter(([name]) => name !== ':path')],
    ['a pseudo-header after the others', other(':authority', 'x')],
    ['an unknown pseudo-header', [[':hostile', 'x'], ...CALL]],
    ['two content-lengths', [...CALL, ['content-length', String(FULL.length)], ['content-length', '5']]],
    ['a content-length that is longer than the body', [...CALL, ['content-length', '5000']]],
    ['a content-length that is shorter', [...CALL, ['content-length', '5']]],
    ['a content-length that is no number', [...CALL, ['content-length', '-1']]],
  ] as readonly (readonly [string, Fields])[])('%s: nothing is stored', (_, fields) =>
    attack(async (connection) => {
      await connection.write(Buffer.concat([headers(1, fields), data(1, FULL, END_STREAM)]));
      await eventually('a reset, or the end', () => connection.isClosed() || connection.reset(1) !== undefined);
    }),
  );
});

describe('frames that break the rules end the connection with their code', () => {
  test.each([
    ['a window of 0 more for a stream', Buffer.concat([headers(1), windowUpdate(1, 0)]), ERROR.protocol],
    ['a window of 0 more for the session', windowUpdate(0, 0), ERROR.protocol],
    ['a stream window that overflows', Buffer.concat([headers(1), windowUpdate(1, 2 ** 31 - 1)]), ERROR.flowControl],
    ['a session window that overflows', windowUpdate(0, 2 ** 31 - 1), ERROR.flowControl],
    ['an initial window beyond its bound', settings([4, 2 ** 31]), ERROR.flowControl],
    ['half a setting', frameOf(TYPE.settings, 0, 0, Buffer.alloc(5)), ERROR.frameSize],
    ['SETTINGS on a stream', frameOf(TYPE.settings, 0, 1, NOTHING), ERROR.protocol],
    ['DATA on no stream', data(0, EMPTY), ERROR.protocol],
    ['DATA on a stream that isn\'t open', data(5, EMPTY), ERROR.protocol],
    ['HEADERS on no stream', headers(0), ERROR.protocol],
    ['HEADERS on a stream of the server', headers(2), ERROR.protocol],
    ['a reset of a stream that isn\'t open', rstStream(7, 0), ERROR.protocol],
    ['a push', frameOf(TYPE.pushPromise, END_HEADERS, 1, Buffer.concat([uint32(2), block(CALL)])), ERROR.protocol],
    ['a frame of 20 KB', Buffer.concat([headers(1), data(1, Buffer.alloc(20_000))]), ERROR.frameSize],
    ['a frame of 16 MB that never comes', Buffer.from([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]), ERROR.frameSize],
    ['a header block that is none', frameOf(TYPE.headers, END_HEADERS, 1, Buffer.alloc(9, 0xff)), ERROR.compression],
    ['DATA between two parts of a header block', Buffer.concat([
      frameOf(TYPE.headers, 0, 1, block(CALL)), data(1, EMPTY),
    ]), ERROR.protocol],
  ])('%s', async (_, bytes, code) => {
    const connection = await connected();
    await connection.write(bytes);
    await eventually('the end', connection.isClosed);
    expect(connection.goaway()).toBe(code);
  });

  test('a stream after GOAWAY is not taken', () =>
    attack(async (connection) => {
      await connection.write(Buffer.concat([goaway, headers(1), data(1, FULL, END_STREAM)]));
      await eventually('the end', connection.isClosed);
    }));

  test('a call whose trailers have a pseudo-header, or don\'t end it, is reset', () =>
    attack(async (connection) => {
      await connection.write(Buffer.concat([
        headers(1), data(1, FULL), headers(1, [[':path', '/']], END_HEADERS | END_STREAM),
        headers(3), data(3, FULL), headers(3, [['x', 'y']], END_HEADERS),
      ]));
      await eventually('resets', () => connection.reset(1) === ERROR.protocol && connection.reset(3) === ERROR.protocol);
    }));
});

describe('calls that are only strange are taken', () => {
  const served = { transport: 'grpc', code: '0' };
  const padding = Buffer.alloc(200);
  const bytewise = Array.from(EMPTY, (byte) => data(1, Buffer.from([byte])));

  test.each([
    ['a byte a frame', Buffer.concat([headers(1), ...bytewise, data(1, NOTHING, END_STREAM)])],
    ['with trailers', Buffer.concat([headers(1), data(1, EMPTY), headers(1, [['x', 'y']], END_HEADERS | END_STREAM)])],
    ['mostly padding', Buffer.concat([
      headers(1), frameOf(TYPE.data, PADDED | END_STREAM, 1, Buffer.concat([Buffer.from([200]), EMPTY, padding])),
    ])],
  ])('%s', (_, bytes) =>
    counting('requests_total', served, { least: 1 }, () =>
      attack(async (connection) => {
        await connection.write(bytes);
        await eventually('an answer', () => connection.frames().some(({ type }) => type === TYPE.headers));
      }),
    ),
  );

  test('16 messages in ten thousand frames of a byte each, at once', () =>
    counting('requests_total', { transport: 'grpc', code: '3' }, { just: 16 }, () =>
      attack(async (connection) => {
        const streams = Array.from({ length: 16 }, (_, i) => streamOf(i));
        await connection.write(Buffer.concat(streams.flatMap((stream) => [
          headers(stream), data(stream, frame(NOTHING, 0, 10_000)),
        ])));
        // 0x0f has a wire type that protobuf doesn't know.
        const round = Buffer.concat(streams.map((stream) => data(stream, Buffer.from([0x0f]))));
        for (let i = 0; i < 100; i++) await connection.write(times(100, () => round));
        await connection.write(Buffer.concat(streams.map((stream) => data(stream, NOTHING, END_STREAM))));
        const answers = () => connection.frames().filter(({ type }) => type === TYPE.headers).length;
        await eventually('answers', () => answers() === 16);
      }),
    ));
});
