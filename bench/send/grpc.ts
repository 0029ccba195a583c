/**
 * OTLP/gRPC on node:http2: unary calls with prepared headers and the body uncopied. Which codes are retried:
 * "Failures" and "OTLP/gRPC Throttling" of the OTLP specification.
 */
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  type IncomingHttpHeaders,
} from 'node:http2';
import type { Signal } from '../../src/model/signal.ts';
import { FRAME_HEAD_BYTES } from '../template.ts';
import { type Answer, partialSuccess, retryDelayMs, unanswered } from './answer.ts';
import type { Sender, SenderOptions } from './sender.ts';

const SERVICES: Readonly<Record<Signal, string>> = {
  traces: 'opentelemetry.proto.collector.trace.v1.TraceService',
  logs: 'opentelemetry.proto.collector.logs.v1.LogsService',
  metrics: 'opentelemetry.proto.collector.metrics.v1.MetricsService',
};
/** CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS. */
const RETRYABLE: readonly number[] = [1, 4, 10, 11, 14, 15];
/** Retried only when the server says when. */
const RESOURCE_EXHAUSTED = 8;

/** One HTTP/2 connection, opened when first needed and again after it was lost; shared by several senders. */
export class GrpcConnection {
  readonly #options: SenderOptions;
  #session: ClientHttp2Session | undefined;

  constructor(options: SenderOptions) {
    this.#options = options;
  }

  /** A sender for one more request at a time over this connection. */
  sender(): Sender {
    return new GrpcSender(this, this.#options);
  }

  /** @throws when the connection was lost in this very moment; the next call opens another */
  request(headers: Readonly<Record<string, string>>): ClientHttp2Stream {
    this.#session ??= this.#open();
    return this.#session.request(headers);
  }

  close(): void {
    this.#session?.destroy();
    this.#session = undefined;
  }

  #open(): ClientHttp2Session {
    const { host, port } = this.#options.target;
    const session = connect(`http://${host}:${port}`);
    const forget = (): void => {
      if (this.#session === session) this.#session = undefined;
    };
    // Each stream reports the error of its session as its own; here it only means: open another.
    session.on('error', forget);
    session.on('goaway', forget);
    session.on('close', forget);
    return session;
  }
}

class GrpcSender implements Sender {
  readonly #connection: GrpcConnection;
  readonly #timeoutMs: number;
  readonly #headers: Readonly<Record<Signal, Readonly<Record<string, string>>>>;
  readonly #compressed: number;

  constructor(connection: GrpcConnection, options: SenderOptions) {
    this.#connection = connection;
    this.#timeoutMs = options.timeoutMs;
    this.#compressed = options.compression === 'none' ? 0 : 1;
    this.#headers = {
      traces: headersOf('traces', options),
      logs: headersOf('logs', options),
      metrics: headersOf('metrics', options),
    };
  }

  send(signal: Signal, frame: Buffer): Promise<Answer> {
    frame[0] = this.#compressed;
    frame.writeUInt32BE(frame.length - FRAME_HEAD_BYTES, 1);
    return new Promise((resolve) => {
      try {
        this.#call(this.#connection.request(this.#headers[signal]), frame, resolve);
      } catch (error) {
        this.#connection.close();
        resolve(unanswered('connection', String(error)));
      }
    });
  }

  /** Resolves with whatever ends the stream first. */
  #call(stream: ClientHttp2Stream, frame: Buffer, resolve: (answer: Answer) => void): void {
    const chunks: Buffer[] = [];
    let head: IncomingHttpHeaders = {};
    let trailers: IncomingHttpHeaders = {};
    let failure: Answer | undefined;
    stream.setTimeout(this.#timeoutMs, () => {
      failure = unanswered('timeout', `no answer within ${this.#timeoutMs} ms`);
      stream.close();
    });
    stream.on('response', (headers) => {
      head = headers;
    });
    stream.on('trailers', (headers) => {
      trailers = headers;
    });
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('error', (error: NodeJS.ErrnoException) => {
      failure ??= unanswered(error.code ?? 'connection', error.message);
    });
    stream.on('close', () => {
      // A refusal may come as trailers only, and then the server may reset the stream: the status counts.
      const status = trailers['grpc-status'] ?? head['grpc-status'];
      if (status !== undefined)
        return resolve(verdict(Number(status), { ...head, ...trailers }, Buffer.concat(chunks)));
      resolve(failure ?? unanswered('connection', 'the stream ended without a status'));
    });
    stream.end(frame);
  }

  close(): void {
    this.#connection.close();
  }
}

function headersOf(signal: Signal, { compression, headers }: SenderOptions): Record<string, string> {
  return {
    ':method': 'POST',
    ':path': `/${SERVICES[signal]}/Export`,
    'content-type': 'application/grpc',
    te: 'trailers',
    ...(compression === 'none' ? {} : { 'grpc-encoding': compression }),
    ...headers,
  };
}

function verdict(status: number, headers: IncomingHttpHeaders, body: Buffer): Answer {
  const code = `grpc ${status}`;
  if (status === 0)
    return { kind: 'acknowledged', code, ...partialSuccess(body.subarray(FRAME_HEAD_BYTES), 'protobuf') };
  const details = headers['grpc-status-details-bin'];
  const retryAfterMs = typeof details === 'string' ? retryDelayMs(Buffer.from(details, 'base64')) : undefined;
  return {
    kind: 'refused',
    code,
    retryable: RETRYABLE.includes(status) || (status === RESOURCE_EXHAUSTED && retryAfterMs !== undefined),
    retryAfterMs,
    message: percentDecoded(String(headers['grpc-message'] ?? '')),
  };
}

function percentDecoded(text: string): string {
  return text.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}
