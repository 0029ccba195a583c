/**
 * OTLP/HTTP on a plain socket: a prepared head, the body uncopied, and no more parsing of the answer than
 * needed. A client library would cost more CPU than the whole rest of the generator, on the cores that the
 * server needs.
 */
import { connect, type Socket } from 'node:net';
import type { Signal } from '../../src/model/signal.ts';
import { FRAME_HEAD_BYTES } from '../template.ts';
import { type Answer, partialSuccess, statusMessage, unanswered } from './answer.ts';
import type { Sender, SenderOptions } from './sender.ts';

/** OTLP/HTTP: clients retry these and nothing else. */
const RETRYABLE: readonly number[] = [429, 502, 503, 504];
const ANSWER_BYTES_MAX = 8 * 1024 * 1024;
const HEAD_END = '\r\n\r\n';

interface Pending {
  readonly resolve: (answer: Answer) => void;
  readonly timer: NodeJS.Timeout;
}

/** One connection with keep-alive, one request at a time. */
export class HttpSender implements Sender {
  readonly #options: SenderOptions;
  #socket: Socket | undefined;
  #pending: Pending | undefined;
  #received: Buffer = Buffer.alloc(0);

  constructor(options: SenderOptions) {
    this.#options = options;
  }

  send(signal: Signal, frame: Buffer): Promise<Answer> {
    return new Promise((resolve) => {
      const { timeoutMs } = this.#options;
      const timer = setTimeout(() => this.#fail('timeout', `no answer within ${timeoutMs} ms`), timeoutMs);
      this.#pending = { resolve, timer };
      this.#received = Buffer.alloc(0);
      this.#socket ??= this.#open();
      const socket = this.#socket;
      socket.cork();
      socket.write(this.#head(signal, frame.length - FRAME_HEAD_BYTES), 'latin1');
      socket.write(frame.subarray(FRAME_HEAD_BYTES));
      socket.uncork();
    });
  }

  close(): void {
    this.#fail('closed', 'closed by the load generator');
    this.#socket?.destroy();
    this.#socket = undefined;
  }

  #open(): Socket {
    const { target, localAddress } = this.#options;
    const socket = connect({ ...target, ...(localAddress === undefined ? {} : { localAddress }), noDelay: true });
    const lost = (code: string, message: string): void => {
      // A socket that was given up already must not end the request of its successor.
      if (this.#socket === socket) this.#fail(code, message);
    };
    socket.on('data', (chunk) => this.#receive(socket, chunk));
    socket.on('error', (error: NodeJS.ErrnoException) => lost(error.code ?? 'connection', error.message));
    socket.on('close', () => lost('connection', 'the server closed the connection'));
    return socket;
  }

  #head(signal: Signal, bodyBytes: number): string {
    const { target, format, compression, headers = {} } = this.#options;
    const type = format === 'json' ? 'application/json' : 'application/x-protobuf';
    const encoding = compression === 'none' ? '' : `Content-Encoding: ${compression}\r\n`;
    const host = `Host: ${target.host}:${target.port}\r\n`;
    const more = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`).join('');
    return (
      `POST /v1/${signal} HTTP/1.1\r\n${host}Content-Type: ${type}\r\n${encoding}${more}` +
      `Content-Length: ${bodyBytes}${HEAD_END}`
    );
  }

  #receive(socket: Socket, chunk: Buffer): void {
    if (this.#pending === undefined || socket !== this.#socket) return;
    const received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk]);
    this.#received = received;
    const answer = received.length > ANSWER_BYTES_MAX ? 'invalid' : parseResponse(received);
    if (answer === undefined) return;
    if (answer === 'invalid') {
      this.#fail('protocol', 'the answer is not HTTP/1.1, or longer than 8 MiB');
      return;
    }
    if (answer.closes) this.#drop();
    this.#finish(this.#verdict(answer));
  }

  #verdict({ status, headers, body }: HttpResponse): Answer {
    const { format } = this.#options;
    const code = String(status);
    if (status >= 200 && status < 300) return { kind: 'acknowledged', code, ...partialSuccess(body, format) };
    const seconds = Number(headers.get('retry-after'));
    return {
      kind: 'refused',
      code,
      retryable: RETRYABLE.includes(status),
      retryAfterMs: seconds > 0 ? seconds * 1000 : undefined,
      message: statusMessage(body, format),
    };
  }

  #fail(code: string, message: string): void {
    this.#drop();
    this.#finish(unanswered(code, message));
  }

  #drop(): void {
    this.#socket?.destroy();
    this.#socket = undefined;
  }

  #finish(answer: Answer): void {
    const pending = this.#pending;
    if (pending === undefined) return;
    this.#pending = undefined;
    clearTimeout(pending.timer);
    pending.resolve(answer);
  }
}

interface HttpResponse {
  readonly status: number;
  /** By lower-case name. */
  readonly headers: ReadonlyMap<string, string>;
  readonly body: Uint8Array;
  readonly closes: boolean;
}

/** @returns undefined while bytes are missing */
export function parseResponse(received: Buffer): HttpResponse | 'invalid' | undefined {
  const headEnd = received.indexOf(HEAD_END, 0, 'latin1');
  if (headEnd < 0) return undefined;
  const [statusLine = '', ...lines] = received.toString('latin1', 0, headEnd).split('\r\n');
  const match = /^HTTP\/1\.([01]) (\d{3})/.exec(statusLine);
  if (match === null) return 'invalid';
  const rest = received.subarray(headEnd + HEAD_END.length);
  const status = Number(match[2]);
  // An interim answer (100 Continue) precedes the real one.
  if (status < 200) return parseResponse(rest);
  const headers = new Map(
    lines.map((line): [string, string] => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    }),
  );
  const body = bodyOf(headers, rest);
  if (body === undefined) return undefined;
  const closes = match[1] === '0' || headers.get('connection')?.toLowerCase() === 'close';
  return { status, headers, body, closes };
}

function bodyOf(headers: ReadonlyMap<string, string>, rest: Buffer): Uint8Array | undefined {
  if (headers.get('transfer-encoding')?.toLowerCase().includes('chunked')) return dechunk(rest);
  const length = Number(headers.get('content-length') ?? 0);
  return rest.length < length ? undefined : rest.subarray(0, length);
}

function dechunk(bytes: Buffer): Uint8Array | undefined {
  const chunks: Buffer[] = [];
  for (let at = 0; ; ) {
    const lineEnd = bytes.indexOf('\r\n', at, 'latin1');
    if (lineEnd < 0) return undefined;
    const size = Number.parseInt(bytes.toString('latin1', at, lineEnd), 16);
    const end = lineEnd + 2 + size;
    if (!(end + 2 <= bytes.length)) return undefined;
    if (size === 0) return Buffer.concat(chunks);
    chunks.push(bytes.subarray(lineEnd + 2, end));
    at = end + 2;
  }
}
