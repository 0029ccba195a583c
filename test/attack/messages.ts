/** Requests of HTTP/1.1 byte by byte, for what no client library would send. */
import { PB } from '../support/clients.ts';
import { tracesRequest } from '../support/requests.ts';

/** Its service isn't the neighbour's: the rows are counted after each attack. */
export const BODY = Buffer.from(
  tracesRequest(1, 0xdead).toString('latin1').replace('\x04test', '\x04evil'),
  'latin1',
);
export const LENGTH = `Content-Length: ${BODY.length}\r\n`;
export const CHUNKED = 'Transfer-Encoding: chunked\r\n';
/** As the size of a chunk. */
export const SIZE = BODY.length.toString(16);

export const around = (before: string, after: string) => `${before}${BODY.toString('latin1')}${after}`;
/** The body as one. */
export const chunks = around(`${SIZE}\r\n`, '\r\n0\r\n\r\n');

export interface Message {
  readonly line?: string;
  /** BODY where it isn't given. */
  readonly body?: Buffer | string;
  /** Ends the lines of the head. */
  readonly eol?: string;
}

export function post(headers: string, message: Message = {}): Buffer {
  const { line = 'POST /v1/traces HTTP/1.1', body = BODY, eol = '\r\n' } = message;
  const head = [line, 'Host: x', `Content-Type: ${PB}`, ''].join(eol) + headers + eol;
  return Buffer.concat([
    Buffer.from(head, 'latin1'),
    typeof body === 'string' ? Buffer.from(body, 'latin1') : body,
  ]);
}
