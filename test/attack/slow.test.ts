/**
 * Goal: a client that takes its time to hurt is given up within seconds, whether it doesn't send, sends a
 * byte at a time, or gives its answers no room to leave; it holds up neither the neighbours nor the program's
 * end. All of them at once, because waiting for them is what takes time here.
 */
import { expect, test } from 'vitest';
import { frame } from '../support/clients.ts';
import { eventually } from '../support/services.ts';
import { END_STREAM, NOTHING, SETTINGS_ACK, TYPE, data, frameOf, h2, headers, settings } from './frames.ts';
import { BODY, CHUNKED, LENGTH, chunks, post } from './messages.ts';
import { type Attacked, HTTP_SERVERS, answersIn, rawConnection, useAttackedProgram } from './support.ts';

/**
 * uWebSockets.js looks at its connections every 4 s, and gives up those without a request after 10; the rest is
 * for a machine that stands still.
 */
const GIVEN_UP_MS_MAX = 45_000;
const KEEP_ALIVE_MS = 8_000;
const CALLS = 200;
/** Until the streams are given up, which takes 15 s, with as much to spare; and then until the session is. */
const RESET_MS_MAX = 45_000;
const ENDED_MS_MAX = 4 * KEEP_ALIVE_MS;

/** uWebSockets.js takes them for heads that aren't complete yet. */
const UNFINISHED: readonly (readonly [string, Buffer])[] = [
  ['a fold', post(`X-Fold: y\r\n z\r\n${LENGTH}`)],
  ['a folded length', post('Content-Length: 1\r\n 2\r\n')],
  ['one line that ends in LF', post(`X: y\n${LENGTH}`)],
  ['a CR of its own', post(`X: y\rContent-Length: 5\r\n${LENGTH}`)],
  ['a zero byte in a value', post(`X: y\0z\r\n${LENGTH}`)],
  ['a zero byte in a name', post(`X\0: y\r\n${LENGTH}`)],
  ['a control character in a value', post(`X: y\x01\r\n${LENGTH}`)],
  ['a space before the colon of a length', post(`Content-Length : ${BODY.length}\r\n`)],
  ['a space before the colon of chunks', post('Transfer-Encoding : chunked\r\n', { body: chunks })],
  ['a vertical tab before chunked', post('Transfer-Encoding: \x0bchunked\r\n', { body: chunks })],
  ['a line without a colon', post(`X\r\n${LENGTH}`)],
  // No protobuf, since node's server takes them.
  ['chunks with extensions', post(CHUNKED, { body: '1;a=b\r\n\x0f\r\n0\r\n\r\n' })],
  ['a chunk of 2 GB', post(CHUNKED, { body: '7fffffff\r\nabcde' })],
  ['no end of the head', Buffer.from('POST /v1/traces HTTP/1.1\r\nHost: x\r\n')],
  ['no end of the line', Buffer.from('POST /v1/tra')],
  ['nothing at all', Buffer.alloc(0)],
];

/** Each byte of these is one more sign of life. */
const DRIPPING: readonly (readonly [string, Buffer, string])[] = [
  ['a head', Buffer.from('POST /v1/traces HTTP/1.1\r\nHost: x\r\n'), 'X: y\r\n'],
  ['a body', post('Content-Length: 1000000\r\n', { body: '' }), 'x'],
  ['chunks', post(CHUNKED, { body: '' }), '1\r\nx\r\n'],
  ['a chunk size', post(CHUNKED, { body: '' }), '0'],
];

const PROGRAMS = HTTP_SERVERS.map(([name, served]) => {
  const keepAlive = { SLUICE_RECEIVE_KEEP_ALIVE_MS: String(KEEP_ALIVE_MS) };
  return [name, useAttackedProgram({ ...served, ...keepAlive })] as const;
});

test.concurrent.each(PROGRAMS)('beside %s', async (_, attacked) => {
  await attacked.surviving(async () => {
    await Promise.all([giveUpRequests(attacked), giveUpSession(attacked)]);
  });
});

/** Requests over HTTP that stay unfinished, and those that drip in. */
async function giveUpRequests({ program }: Attacked): Promise<void> {
  const open = async (name: string, bytes: Buffer) => {
    const raw = await rawConnection(program.httpPort);
    await raw.write(bytes);
    return { name, raw };
  };
  const waiting = UNFINISHED.map(([name, bytes]) => open(name, bytes));
  const dripping = DRIPPING.flatMap(([name, bytes, drop]) =>
    Array.from({ length: 5 }, async () => {
      const one = await open(`dripping: ${name}`, bytes);
      const timer = setInterval(() => one.raw.write(drop), 200);
      one.raw.closed.then(() => clearInterval(timer));
      return one;
    }),
  );
  await Promise.all([...waiting, ...dripping].map(async (opening) => {
    const { name, raw } = await opening;
    await eventually(`the end of: ${name}`, raw.isClosed, GIVEN_UP_MS_MAX);
    expect(answersIn(raw.received().toString('latin1')), name).not.toContain('200');
  }));
}

/** A window of 0 (RFC 9113, 6.9.2): the streams are given up after a while, and then their session. */
async function giveUpSession({ program, counting }: Attacked): Promise<void> {
  const connection = await h2(program.grpcPort, settings([4, 0]));
  await connection.write(SETTINGS_ACK);
  // Empty requests, which store nothing.
  const calls = Array.from({ length: CALLS }, (_, i) => 1 + 2 * i).map((stream) =>
    Buffer.concat([headers(stream), data(stream, frame(NOTHING), END_STREAM)]),
  );
  await counting('requests_total', { transport: 'grpc', code: '0' }, { least: CALLS }, () =>
    connection.write(Buffer.concat(calls)),
  );
  // Signs of life don't help.
  const ping = frameOf(TYPE.ping, 0, 0, Buffer.alloc(8));
  const alive = setInterval(() => connection.write(ping), 500);
  try {
    const last = 2 * CALLS - 1;
    await eventually('the last reset', () => connection.reset(last) !== undefined, RESET_MS_MAX);
  } finally {
    clearInterval(alive);
  }
  await eventually('the end', connection.isClosed, ENDED_MS_MAX);
  expect(connection.frames().filter(({ type }) => type === TYPE.data)).toEqual([]);
}
