/**
 * Goal: whatever is wrong with the framing of an HTTP/1.1 request, its connection is refused or ended within
 * seconds, nothing of it is stored, nobody can hide a request in another's body, and the neighbours are
 * served meanwhile, by whichever of the two servers. (Those that drip in: slow. Broken bodies, wrong lengths:
 * test/process/hostile and broken-connections.)
 *
 * A request whose end two servers may see at different places is refused and its connection ended, since what
 * follows the end that a proxy sees would be somebody else's request (RFC 9112, 6.3 and 11.2).
 */
import { describe, expect, test } from 'vitest';
import { eventually } from '../support/services.ts';
import { BODY, CHUNKED, LENGTH, SIZE, around, chunks, post } from './messages.ts';
import { HTTP_SERVERS, answersIn, rawConnection, saidTo, useAttackedProgram } from './support.ts';

describe.each(HTTP_SERVERS)('on %s', (server, settings) => {
  const attacked = useAttackedProgram(settings);
  const { surviving, counting } = attacked;
  const isNode = server !== 'uWebSockets.js';

  /** All at once, each on a connection of its own; by name: what the server said to it, and did. */
  async function saidToAll(messages: Readonly<Record<string, Buffer>>): Promise<Record<string, string>> {
    const said: Record<string, string> = {};
    await surviving(async () => {
      await Promise.all(Object.entries(messages).map(async ([name, bytes]) => {
        const { text, closed } = await saidTo(attacked.program.httpPort, bytes);
        said[name] = [...answersIn(text), closed ? 'ended' : 'open'].join(' ');
      }));
    });
    return said;
  }

  test('heads that are refused', async () => {
    const many = (n: number) => 'X-Many: y\r\n'.repeat(n);
    // Node has one status for all that is no HTTP/1, and other views of what is meant for proxies.
    const [broken, proxied, tunnelled] = isNode
      ? ['400 ended', '404 open', 'ended']
      : ['505 ended', '505 ended', '505 ended'];
    const messages: readonly (readonly [string, Buffer, string])[] = [
      ['200 headers', post(many(200) + LENGTH), '431 ended'],
      ['10,000 headers', post(many(10_000) + LENGTH), '431 ended'],
      ['a header of 20 KB', post(`X-Long: ${'y'.repeat(20_000)}\r\n${LENGTH}`), '431 ended'],
      ['a path of 20 KB', post(LENGTH, { line: `POST /${'y'.repeat(20_000)} HTTP/1.1` }), '431 ended'],
      ['no Host', Buffer.from(`POST /v1/traces HTTP/1.1\r\n${LENGTH}\r\n${BODY}`), '400 ended'],
      ['lines that end in LF', post(LENGTH.replace('\r', ''), { eol: '\n' }), broken],
      ['a name that is empty', post(`: y\r\n${LENGTH}`), broken],
      ['a zero byte in the path', post(LENGTH, { line: 'POST /v1/traces\0 HTTP/1.1' }), broken],
      ['HTTP/1.0', post(LENGTH, { line: 'POST /v1/traces HTTP/1.0' }), '505 ended'],
      ['HTTP/2.0', post(LENGTH, { line: 'POST /v1/traces HTTP/2.0' }), '505 ended'],
      ['a proxy is wanted', post(LENGTH, { line: 'POST http://x/v1/traces HTTP/1.1' }), proxied],
      ['a tunnel is wanted', post('', { line: 'CONNECT x:80 HTTP/1.1', body: '' }), tunnelled],
    ];
    expect(await saidToAll(Object.fromEntries(messages))).toEqual(
      Object.fromEntries(messages.map(([name, , said]) => [name, said])),
    );
  });

  test('a request in the body of another that is refused stays a body', async () => {
    const inner = post(LENGTH).toString('latin1');
    const length = `Content-Length: ${inner.length}\r\n`;
    const text = `POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n${length}\r\n${inner}`;
    expect(await saidToAll({
      'to an unknown address': post(length, { line: 'POST /nope HTTP/1.1', body: inner }),
      'by a method that is not served': post(length, { line: 'GET /v1/traces HTTP/1.1', body: inner }),
      'of a type that is refused': Buffer.from(text, 'latin1'),
      'that is no protobuf': post(length, { body: inner }),
    })).toEqual({
      'to an unknown address': '404 open',
      'by a method that is not served': '405 open',
      'of a type that is refused': '415 open',
      'that is no protobuf': '400 open',
    });
  });

  test('lengths that nobody or not everybody understands', async () => {
    const said = await saidToAll({
      'a length beside chunks': post(LENGTH + CHUNKED, { body: chunks }),
      'chunks beside a length': post(CHUNKED + LENGTH, { body: chunks }),
      'a length beside identity': post(`Transfer-Encoding: identity\r\n${LENGTH}`),
      'identity alone': post('Transfer-Encoding: identity\r\n'),
      'an empty length': post('Content-Length:\r\n'),
      'a length in hexadecimal': post('Content-Length: 0x10\r\n'),
      'two lengths in one': post('Content-Length: 5 5\r\n'),
      'a chunk size in hexadecimal notation': post(CHUNKED, { body: '0x5\r\nabcde\r\n0\r\n\r\n' }),
      'a chunk size beyond 64 bits': post(CHUNKED, { body: '10000000000000005\r\nabcde\r\n0\r\n\r\n' }),
      'a chunk extension of 100 KB': post(CHUNKED, {
        body: around(`${SIZE};${'x'.repeat(100_000)}\r\n`, '\r\n0\r\n\r\n'),
      }),
    });
    for (const [name, answers] of Object.entries(said)) {
      // With an answer or without.
      expect(answers, name).toMatch(/^((400|413|505) )?ended$/);
    }
  });

  test('two servers would see the end at different places: nothing of what follows is answered', async () => {
    const hidden = post(LENGTH).toString('latin1');
    const whole = BODY.toString('latin1');
    const sent = (headers: string, body: string) => post(headers, { body: body + hidden });
    const said = await saidToAll({
      'two lengths, the first the right one': sent(`${LENGTH}Content-Length: 5\r\n`, whole),
      'two lengths that are the same': sent(LENGTH + LENGTH, whole),
      'a coding that nobody knows': sent('Transfer-Encoding: xchunked\r\n', chunks),
      'chunks that are not the last coding': sent('Transfer-Encoding: chunked, identity\r\n', chunks),
      'chunks of something else': sent('Transfer-Encoding: gzip, chunked\r\n', chunks),
      'two codings': sent('Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n', chunks),
    });
    for (const [name, answers] of Object.entries(said)) expect(answers, name).toMatch(/^(400 )?ended$/);
  });

  test('what is only unusual is taken: chunks in capitals, and the wish for another protocol', async () => {
    const h2c = 'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n';
    const websocket =
      'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n' +
      'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n';
    expect(await saidToAll({
      'chunks in capitals': post('Transfer-Encoding: Chunked\r\n', { body: '0\r\n\r\n' }),
      'HTTP/2': post(`${h2c}Content-Length: 0\r\n`, { body: '' }),
      'a web socket': post(websocket, { line: 'GET /v1/traces HTTP/1.1', body: '' }),
    })).toEqual({ 'chunks in capitals': '200 open', 'HTTP/2': '200 open', 'a web socket': '405 open' });
  });

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
