/**
 * Goal: a request whose end two servers may see at different places is refused and its connection ended,
 * since what follows the end that a proxy sees would be somebody else's request (RFC 9112, 6.3 and 11.2).
 */
import { expect, test } from 'vitest';
import { PB } from '../support/clients.ts';
import { tracesRequest } from '../support/requests.ts';
import { answersIn, saidTo, useAttackedProgram } from './support.ts';

/** Its service isn't the neighbour's: the rows are counted after each attack. */
const BODY = tracesRequest(1, 0xdead).toString('latin1').replace('\x04test', '\x04evil');
const CHUNKS = `${BODY.length.toString(16)}\r\n${BODY}\r\n0\r\n\r\n`;
const LENGTH = `Content-Length: ${BODY.length}\r\n`;

const attacked = useAttackedProgram();

test.each([
  ['two lengths, the first the right one', `${LENGTH}Content-Length: 5\r\n`, BODY],
  ['two lengths that are the same', LENGTH + LENGTH, BODY],
  ['a coding that nobody knows', 'Transfer-Encoding: xchunked\r\n', CHUNKS],
  ['chunks that aren\'t the last coding', 'Transfer-Encoding: chunked, identity\r\n', CHUNKS],
  ['chunks of something else', 'Transfer-Encoding: gzip, chunked\r\n', CHUNKS],
  ['two codings', 'Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n', CHUNKS],
])('%s', async (_, headers, body) => {
  await attacked.surviving(async () => {
    const head = `POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: ${PB}\r\n${headers}\r\n`;
    const hidden = `POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: ${PB}\r\n${LENGTH}\r\n${BODY}`;
    const said = await saidTo(attacked.program.httpPort, Buffer.from(head + body + hidden, 'latin1'));
    expect(said.closed).toBe(true);
    expect(answersIn(said.text)).not.toContain('200');
  });
});

test('chunks in capitals are chunks', async () => {
  await attacked.surviving(async () => {
    const head = `POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: ${PB}\r\nTransfer-Encoding: Chunked\r\n\r\n`;
    const said = await saidTo(attacked.program.httpPort, `${head}0\r\n\r\n`);
    expect(answersIn(said.text)).toEqual(['200']);
  });
});
