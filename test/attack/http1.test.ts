/**
 * Goal: whatever is wrong with the framing of an HTTP/1.1 request, its connection is refused or ended within
 * seconds, nothing of it is stored, nobody can hide a request in another's body, and the neighbours are
 * served meanwhile. (Broken bodies, wrong lengths: test/process/hostile and broken-connections.)
 */
import { describe, expect, test } from 'vitest';
import { PB } from '../support/clients.ts';
import { tracesRequest } from '../support/requests.ts';
import { eventually } from '../support/services.ts';
import { answersIn, rawConnection, saidTo, useAttackedProgram } from './support.ts';

/** uWebSockets.js looks at its connections every 4 s, and gives up those without a request after 10. */
const GIVEN_UP_MS_MAX = 18_000;

/** Its service isn't the neighbour's: the rows are counted after each attack. */
const BODY = Buffer.from(
  tracesRequest(1, 0xdead).toString('latin1').replace('\x04test', '\x04evil'),
  'latin1',
);
const LENGTH = `Content-Length: ${BODY.length}\r\n`;
const CHUNKED = 'Transfer-Encoding: chunked\r\n';
const SIZE = BODY.length.toString(16);

const attacked = useAttackedProgram();
const { surviving, counting } = attacked;

interface Message {
  readonly line?: string;
  readonly body?: Buffer | string;
  /** Ends the lines of the head. */
  readonly eol?: string;
}

function post(headers: string, message: Message = {}): Buffer {
  const { line = 'POST /v1/traces HTTP/1.1', body = BODY, eol = '\r\n' } = message;
  const head = [line, 'Host: x', `Content-Type: ${PB}`, ''].join(eol) + headers + eol;
  return Buffer.concat([
    Buffer.from(head, 'latin1'),
    typeof body === 'string' ? Buffer.from(body, 'latin1') : body,
  ]);
}

const around = (before: string, after: string) => `${before}${BODY.toString('latin1')}${after}`;
const chunks = around(`${SIZE}\r\n`, '\r\n0\r\n\r\n');

describe('heads', () => {
  const many = (n: number) => 'X-Many: y\r\n'.repeat(n);

  test.each([
    ['200 headers', post(many(200) + LENGTH), '431'],
    ['10,000 headers', post(many(10_000) + LENGTH), '431'],
    ['a header of 20 KB', post(`X-Long: ${'y'.repeat(20_000)}\r\n${LENGTH}`), '431'],
    ['a path of 20 KB', post(LENGTH, { line: `POST /${'y'.repeat(20_000)} HTTP/1.1` }), '431'],
    ['no Host', Buffer.concat([Buffer.from(`POST /v1/traces HTTP/1.1\r\n${LENGTH}\r\n`), BODY]), '400'],
    ['lines that end in LF', post(LENGTH.replace('\r', ''), { eol: '\n' }), '505'],
    ['a name that is empty', post(`: y\r\n${LENGTH}`), '505'],
    ['a zero byte in the path', post(LENGTH, { line: 'POST /v1/traces\0 HTTP/1.1' }), '505'],
    ['HTTP/1.0', post(LENGTH, { line: 'POST /v1/traces HTTP/1.0' }), '505'],
    ['HTTP/2.0', post(LENGTH, { line: 'POST /v1/traces HTTP/2.0' }), '505'],
    ['a proxy is wanted', post(LENGTH, { line: 'POST http://elsewhere/v1/traces HTTP/1.1' }), '505'],
    ['a tunnel is wanted', post('', { line: 'CONNECT elsewhere:80 HTTP/1.1', body: '' }), '505'],
  ])('%s: answered %# and ended', async (_, bytes, code) => {
    const said = await saidTo(attacked.program.httpPort, bytes);
    expect([answersIn(said.text), said.closed]).toEqual([[code], true]);
  });

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
    ['chunks with extensions', post(CHUNKED, { body: around(`${SIZE};a=b\r\n`, '\r\n0\r\n\r\n') })],
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

  test('those that stay unfinished, and those that drip in, are given up', { timeout: 40_000 }, () =>
    surviving(async () => {
      const { httpPort } = attacked.program;
      const open = async (name: string, bytes: Buffer) => {
        const raw = await rawConnection(httpPort);
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
      for (const { name, raw } of await Promise.all([...waiting, ...dripping])) {
        await eventually(`the end of: ${name}`, raw.isClosed, GIVEN_UP_MS_MAX);
        expect(answersIn(raw.received().toString('latin1')), name).not.toContain('200');
      }
    }),
  );
});

describe('one request hidden in another', () => {
  const inner = post(LENGTH).toString('latin1');
  const innerLength = `Content-Length: ${inner.length}\r\n`;

  test.each([
    ['of an unknown address', post(innerLength, { line: 'POST /nope HTTP/1.1', body: inner }), '404'],
    ['of a method without one', post(innerLength, { line: 'GET /v1/traces HTTP/1.1', body: inner }), '405'],
    ['of a type that is refused', Buffer.from(
      `POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n${innerLength}\r\n${inner}`, 'latin1',
    ), '415'],
    ['that is no protobuf', post(innerLength, { body: inner }), '400'],
  ])('in the body %s: it stays a body', async (_, bytes, code) => {
    await surviving(async () => {
      const said = await saidTo(attacked.program.httpPort, bytes);
      expect(answersIn(said.text)).toEqual([code]);
    });
  });

  test.each([
    ['a length beside chunks', post(LENGTH + CHUNKED, { body: chunks })],
    ['chunks beside a length', post(CHUNKED + LENGTH, { body: chunks })],
    ['a length beside identity', post(`Transfer-Encoding: identity\r\n${LENGTH}`)],
    ['identity alone', post('Transfer-Encoding: identity\r\n')],
    ['an empty length', post('Content-Length:\r\n')],
    ['a length in hexadecimal', post('Content-Length: 0x10\r\n')],
    ['two lengths in one', post('Content-Length: 5 5\r\n')],
    ['a chunk size in hexadecimal notation', post(CHUNKED, { body: '0x5\r\nabcde\r\n0\r\n\r\n' })],
    ['a chunk size beyond 64 bits', post(CHUNKED, { body: '10000000000000005\r\nabcde\r\n0\r\n\r\n' })],
    ['a chunk extension of 100 KB', post(CHUNKED, {
      body: around(`${SIZE};${'x'.repeat(100_000)}\r\n`, '\r\n0\r\n\r\n'),
    })],
  ])('%s: refused and ended', async (_, bytes) => {
    await surviving(async () => {
      const said = await saidTo(attacked.program.httpPort, bytes);
      expect(said.closed).toBe(true);
      expect(answersIn(said.text).filter((code) => code !== '400' && code !== '505')).toEqual([]);
    });
  });
});

describe('other protocols on the same port', () => {
  test('nobody is upgraded: the request is answered as it is', () =>
    surviving(async () => {
      const h2c = `Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n`;
      const { httpPort } = attacked.program;
      const said = await saidTo(httpPort, post(`${h2c}Content-Length: 0\r\n`, { body: '' }));
      expect(answersIn(said.text)).toEqual(['200']);
      const websocket = `Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n`;
      const line = 'GET /v1/traces HTTP/1.1';
      const key = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n';
      const refused = await saidTo(httpPort, post(websocket + key, { line, body: '' }));
      expect(answersIn(refused.text)).toEqual(['405']);
    }));

  test('a request before the answer to the one before ends the connection', () =>
    counting('requests_total', { transport: 'http', code: '400' }, { just: 0 }, () =>
      surviving(async () => {
        const raw = await rawConnection(attacked.program.httpPort);
        // Empty requests, which store nothing.
        const empty = post('Content-Length: 0\r\n', { body: '' });
        await raw.write(Buffer.concat(Array.from({ length: 1000 }, () => empty)));
        raw.end();
        await eventually('the end', raw.isClosed);
      }),
    ));
});
