/**
 * Clients of the two ports, for tests that drive the program from outside: one request, and its answer read by a
 * decoder that knows nothing of the program's own. An answer that isn't one of OTLP's is an error.
 */
import { type ClientHttp2Session, connect } from 'node:http2';
import grpc from '@grpc/grpc-js';
import { RESPONSES } from '../../proto/fields.ts';
import type { Signal } from '../../src/model/signal.ts';
import { decode, type Message } from '../oracle/decode.ts';
import { decodeJson } from '../oracle/json.ts';
import { messageIn, messagesIn, textIn } from '../oracle/text.ts';
import { bareCall, EXPORT, frame, JS, PB } from '../receive/support.ts';

export { EXPORT, frame, JS, PB };

/** In the words of the vectors' manifests, and `later` for what a client shall send again. */
export type AnswerKind =
  'accept' | 'partial' | 'bad' | '413' | '415' | 'later' | 'unauthenticated' | 'forbidden';

export interface Answer {
  readonly kind: AnswerKind;
  /** Status of HTTP, or of gRPC. */
  readonly code: number;
  /** Why, in the server's words; empty on full success. */
  readonly message: string;
  readonly rejected: number;
}

const HTTP_KINDS: Readonly<Record<number, AnswerKind>> = {
  400: 'bad',
  401: 'unauthenticated',
  403: 'forbidden',
  413: '413',
  415: '415',
  429: 'later',
  503: 'later',
};
const GRPC_KINDS: Readonly<Record<number, AnswerKind>> = {
  3: 'bad',
  7: 'forbidden',
  8: '413',
  12: '415',
  14: 'later',
  16: 'unauthenticated',
};

export interface Sent {
  readonly contentType?: string;
  readonly encoding?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** One Export request over HTTP. Rejects with a TypeError when the connection breaks. */
export async function sendHttp(
  origin: string,
  signal: Signal,
  body: Uint8Array,
  sent: Sent = {},
): Promise<Answer> {
  const { contentType = PB, encoding = '' } = sent;
  const headers = {
    ...sent.headers,
    'content-type': contentType,
    ...(encoding === '' ? {} : { 'content-encoding': encoding }),
  };
  const reply = await fetch(`${origin}/v1/${signal}`, { method: 'POST', headers, body });
  const bytes = new Uint8Array(await reply.arrayBuffer());
  return readHttp(signal, reply, bytes);
}

/** @throws Error when type, body or headers of the answer aren't as OTLP wants them. */
export function readHttp(signal: Signal, reply: Response, bytes: Uint8Array): Answer {
  const type = reply.headers.get('content-type');
  if (type !== PB && type !== JS) throw new Error(`an answer of ${type} with ${reply.status}`);
  if (reply.status === 200) {
    const of = type === PB ? decode : decodeJson;
    return { code: 200, ...success(signal, of(RESPONSES[signal], bytes)) };
  }
  const kind = HTTP_KINDS[reply.status];
  if (kind === undefined) throw new Error(`an answer that OTLP doesn't have: ${reply.status}`);
  const status = (type === PB ? decode : decodeJson)('RpcStatus', bytes);
  const message = textIn(status.message);
  if (message === '') throw new Error(`${reply.status} without a reason`);
  const returns = Number(reply.headers.get('retry-after') ?? 0) >= 1;
  if (returns !== (kind === 'later'))
    throw new Error(`${reply.status} ${returns ? 'with' : 'without'} Retry-After`);
  return { kind, code: reply.status, message, rejected: 0 };
}

function success(signal: Signal, response: Message): Omit<Answer, 'code'> {
  const partial = messageIn(response.partialSuccess) ?? {};
  const counts = {
    traces: partial.rejectedSpans,
    metrics: partial.rejectedDataPoints,
    logs: partial.rejectedLogRecords,
  };
  const rejected = Number(counts[signal] ?? 0n);
  const message = textIn(partial.errorMessage);
  if (rejected > 0 && message === '') throw new Error('rejected without a reason');
  return { kind: rejected > 0 ? 'partial' : 'accept', rejected, message };
}

const same = (bytes: Buffer) => bytes;

/** A stock gRPC client with a connection of its own; close it. */
export class GrpcClient {
  readonly #client: grpc.Client;

  constructor(port: number, compression: 'none' | 'gzip' = 'none') {
    this.#client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
      'grpc.enable_retries': 0,
      'grpc.default_compression_algorithm': compression === 'gzip' ? 2 : 0,
    });
  }

  /** One Export call. Never rejects: a broken connection is UNAVAILABLE, as for every gRPC client. */
  send(
    signal: Signal,
    body: Uint8Array,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Answer> {
    const metadata = new grpc.Metadata();
    for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
    return new Promise((resolve, reject) => {
      const done: grpc.requestCallback<Buffer> = (error, answer) => {
        try {
          const details = error?.metadata.get('grpc-status-details-bin')[0];
          resolve(readGrpc(signal, error?.code ?? 0, error?.details ?? '', details, answer));
        } catch (problem) {
          reject(problem);
        }
      };
      this.#client.makeUnaryRequest(EXPORT[signal], same, same, Buffer.from(body), metadata, done);
    });
  }

  close(): void {
    this.#client.close();
  }
}

/** @throws Error when the status or its details aren't as OTLP wants them. */
export function readGrpc(
  signal: Signal,
  code: number,
  message: string,
  details: string | Buffer | undefined,
  answer: Uint8Array | undefined,
): Answer {
  if (code === 0) return { code, ...success(signal, decode(RESPONSES[signal], answer ?? new Uint8Array())) };
  const kind = GRPC_KINDS[code];
  if (kind === undefined) throw new Error(`a status that OTLP doesn't have: ${code} ${message}`);
  if (message === '') throw new Error(`status ${code} without a reason`);
  const returns = Buffer.isBuffer(details) && messagesIn(decode('RpcStatus', details).details).length > 0;
  // RESOURCE_EXHAUSTED is for later with RetryInfo, and for good without.
  if (returns && code === 8) return { kind: 'later', code, message, rejected: 0 };
  if (returns && kind !== 'later') throw new Error(`status ${code} with RetryInfo`);
  return { kind, code, message, rejected: 0 };
}

/** A bare HTTP/2 session to a gRPC port, for what no stock client sends; destroy it. */
export function openSession(port: number): ClientHttp2Session {
  const session = connect(`http://127.0.0.1:${port}`);
  session.on('error', () => session.destroy());
  return session;
}

/** The bytes of a gRPC stream as they are, whole frames or not. */
export async function sendFrames(
  session: ClientHttp2Session,
  signal: Signal,
  pieces: readonly Uint8Array[],
  encoding = '',
): Promise<Answer> {
  const headers = encoding === '' ? {} : { 'grpc-encoding': encoding };
  const reply = await bareCall(session, EXPORT[signal], pieces, headers);
  const all = { ...reply.headers, ...reply.trailers };
  if (all['grpc-status'] === undefined) throw new Error(`no answer; the stream ended with ${reply.rstCode}`);
  const details = all['grpc-status-details-bin'];
  return readGrpc(
    signal,
    Number(all['grpc-status']),
    decodeURIComponent(String(all['grpc-message'] ?? '')),
    details === undefined ? undefined : Buffer.from(String(details), 'base64'),
    reply.body.subarray(5),
  );
}
