/**
 * One unary call over HTTP/2, from its headers to its trailers: what it may be for, its one message, its
 * answer. Written directly on node:http2, because @grpc/grpc-js costs more than transcoding does
 * (docs/otlp.md has the figures).
 */
import type { IncomingHttpHeaders, OutgoingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { constants, sensitiveHeaders } from 'node:http2';
import type { Logger } from '../base/log.ts';
import { ENCODINGS, type Encoding, encodingOf } from '../compress/inflate.ts';
import { type Verdict, never } from '../model/outcome.ts';
import type { Signal } from '../model/signal.ts';
import {
  type ClientCertificate, type Credentials, NO_CREDENTIALS,
} from '../model/tenant.ts';
import { GONE, type GrpcAnswer, type Reply, grpcAnswer } from './answer.ts';
import type { BufferPool } from './buffers.ts';
import type { CountedEncoding, CountedSignal, Counts } from './counts.ts';
import type { Leftovers } from './grpc-leftovers.ts';
import { type FrameFault, GrpcMessage, PREFIX_BYTES } from './grpc-message.ts';
import {
  type Admission, type Ingest, REQUEST_ID_HEADER, type Ticket, ask, requestIdOf, sourceOf,
} from './ingest.ts';

/** What all calls of a listener share. */
export interface GrpcShared {
  readonly requestBytesMax: number;
  readonly sourceHeader: string;
  /** Requests get an id for the log, which costs something: only where it tells of single ones. */
  readonly tracing: boolean;
  /** A message that stops arriving for this long is given up. */
  readonly stallMsMax: number;
  readonly ingest: Ingest;
  readonly door: Admission;
  readonly counts: Counts;
  readonly pool: BufferPool;
  readonly leftovers: Leftovers;
  readonly logger: Logger;
}

/** The right to send a message, and how it is encoded. */
interface Entered {
  readonly kind: 'entered';
  readonly encoding: Encoding;
  readonly ticket: Ticket;
}

/** A call that was let in. */
interface Begun extends Entered {
  readonly signal: Signal;
  /** By `performance.now()`. */
  readonly startedMs: number;
}

const CONTENT_TYPE = 'application/grpc+proto';
const ACCEPTED_ENCODINGS = ENCODINGS.join(',');
/** Slower senders are given up after `stallMsMax`: 16 KiB a second, as over HTTP. */
const RECEIVE_BYTES_PER_MS_MIN = 16;
/** How long a client may take to read its answer, ms. */
const ANSWER_MS_MAX = 15_000;
const OK_HEADERS: OutgoingHttpHeaders = {
  ':status': 200,
  'content-type': CONTENT_TYPE,
  'grpc-accept-encoding': ACCEPTED_ENCODINGS,
};
const OK_TRAILERS: OutgoingHttpHeaders = { 'grpc-status': '0' };
/** As gRPC has it: no `date`, which HTTP would have. */
const ONLY_TRAILERS = { endStream: true, sendDate: false };
/**
 * Never put into HPACK's table: delays are spread out, so no two details are alike, and they would push out
 * what all answers have in common.
 */
const DETAILS = 'grpc-status-details-bin';
const REFUSED_HEADERS: OutgoingHttpHeaders = { ...OK_HEADERS, [sensitiveHeaders]: [DETAILS] };

const FAULT_MESSAGES = {
  second_message: 'more bytes than the one message of a unary call',
  unknown_flag: 'the compressed flag of the message is neither 0 nor 1',
  cut_short: 'the call ended before its message was complete',
  unnamed_encoding: 'the message says that it is compressed, but no grpc-encoding says how',
} as const;

/**
 * Lets an Export call of OTLP in, or refuses it before anything is made for it: in a flood of calls that is
 * what each of them costs.
 * @returns whether it is in, and its message may come
 */
export function acceptCall(
  shared: GrpcShared,
  stream: ServerHttp2Stream,
  signal: Signal,
  headers: IncomingHttpHeaders,
  certificate: ClientCertificate | undefined,
): boolean {
  const startedMs = performance.now();
  const entered = enter(shared, signal, headers, certificate);
  if (entered.kind !== 'entered') {
    refuseCall(shared, stream, { reply: entered, signal, encoding: 'protobuf', startedMs });
    return false;
  }
  new ExportCall(shared, stream, headers, { ...entered, signal, startedMs });
  return true;
}

class ExportCall {
  readonly #shared: GrpcShared;
  readonly #stream: ServerHttp2Stream;
  readonly #signal: Signal;
  readonly #encoding: Encoding;
  readonly #ticket: Ticket;
  readonly #source: string;
  readonly #requestId: string | undefined;
  readonly #startedMs: number;
  /** When the client stops waiting, by `performance.now()`. */
  readonly #deadlineMs: number;
  readonly #message: GrpcMessage;
  #arrivedBytes = 0;
  /** `gone`: the client left while the request was being stored, which goes on without it. */
  #state: 'reading' | 'asking' | 'gone' | 'done' = 'reading';

  constructor(
    shared: GrpcShared,
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    { signal, encoding, ticket, startedMs }: Begun,
  ) {
    this.#shared = shared;
    this.#stream = stream;
    this.#signal = signal;
    this.#encoding = encoding;
    this.#ticket = ticket;
    this.#startedMs = startedMs;
    this.#source = sourceOf(String(headers[shared.sourceHeader] ?? ''));
    if (shared.tracing) this.#requestId = requestIdOf(String(headers[REQUEST_ID_HEADER] ?? ''));
    this.#deadlineMs = startedMs + timeoutMsOf(headers['grpc-timeout']);
    this.#message = new GrpcMessage(shared.pool, shared.requestBytesMax);
    stream.on('close', () => this.#closed());
    stream.setTimeout(shared.stallMsMax, () => this.#stalled());
    stream.on('data', (piece: Buffer) => this.#arrived(piece));
    stream.on('end', () => this.#ended());
  }

  #arrived(piece: Buffer): void {
    if (this.#state !== 'reading') return;
    this.#arrivedBytes += piece.length;
    const patienceMs = this.#shared.stallMsMax + this.#arrivedBytes / RECEIVE_BYTES_PER_MS_MIN;
    if (performance.now() - this.#startedMs > patienceMs) {
      this.#stalled();
      return;
    }
    const refusal = this.#ticket.grow(piece.length) ?? this.#refusalOf(this.#message.add(piece));
    if (refusal !== undefined) this.#answer(refusal);
  }

  #ended(): void {
    // A connection that dies under the call ends it too; that is for `#closed` to say.
    if (this.#state !== 'reading' || this.#stream.aborted) return;
    const unnamed = this.#message.compressed && this.#encoding === 'identity';
    const refusal = this.#refusalOf(this.#message.end() ?? (unnamed ? 'unnamed_encoding' : undefined));
    if (refusal === undefined) this.#ask();
    else this.#answer(refusal);
  }

  #ask(): void {
    this.#state = 'asking';
    this.#stream.setTimeout(0);
    const { ingest, logger } = this.#shared;
    const encoding = this.#message.compressed ? this.#encoding : 'identity';
    const body = this.#message.handOver();
    const [signal, source, requestId] = [this.#signal, this.#source, this.#requestId];
    const { tenant } = this.#ticket;
    const sent = { signal, format: 'protobuf', encoding, tenant, source, requestId, body } as const;
    const reply = ask(ingest, { ...sent, isKept: true }, logger);
    reply.then((known) => this.#answer(known));
  }

  #answer(reply: Reply): void {
    if (this.#state === 'gone') this.#finish(GONE.grpc);
    if (this.#state === 'done') return;
    // The client has given up at its deadline, and has no use for an answer.
    if (performance.now() >= this.#deadlineMs) {
      this.#finish(GONE.grpc);
      this.#stream.close(constants.NGHTTP2_CANCEL);
      return;
    }
    const answer = grpcAnswer(reply, this.#signal);
    this.#shared.counts.refused(this.#signal, reply);
    this.#finish(answer.code);
    sendAnswer(this.#stream, answer, this.#shared.leftovers);
  }

  #stalled(): void {
    if (this.#state !== 'reading') return;
    this.#finish(GONE.grpc);
    this.#stream.close(constants.NGHTTP2_CANCEL);
  }

  #closed(): void {
    if (this.#state === 'asking') this.#state = 'gone';
    else if (this.#state === 'reading') this.#finish(GONE.grpc);
  }

  /** The one place where everything is given back. */
  #finish(code: number): void {
    this.#state = 'done';
    this.#ticket.leave();
    this.#message.release();
    const seconds = (performance.now() - this.#startedMs) / 1000;
    this.#shared.counts.answered(this.#signal, 'protobuf', code, seconds, this.#arrivedBytes);
  }

  #refusalOf(fault: FrameFault | 'unnamed_encoding' | undefined): Verdict | undefined {
    if (fault === undefined) return undefined;
    if (fault === 'too_large') return tooLarge(this.#shared.requestBytesMax);
    return never('malformed', `broken gRPC frame: ${FAULT_MESSAGES[fault]}`);
  }
}

/** A call that ends before its message is read. */
interface Refusal {
  readonly reply: Reply;
  readonly signal: CountedSignal;
  readonly encoding: CountedEncoding;
  /** By `performance.now()`. */
  readonly startedMs: number;
}

export function refuseCall(
  { counts, leftovers }: GrpcShared,
  stream: ServerHttp2Stream,
  { reply, signal, encoding, startedMs }: Refusal,
): void {
  // The signal only says what a success has of it.
  const answer = grpcAnswer(reply, signal === 'none' ? 'traces' : signal);
  counts.refused(signal, reply);
  counts.answered(signal, encoding, answer.code, (performance.now() - startedMs) / 1000, 0);
  sendAnswer(stream, answer, leftovers);
}

/**
 * Ends the stream with this answer, unless it has one or is gone, and stops a client that is still sending.
 */
export function sendAnswer(stream: ServerHttp2Stream, answer: GrpcAnswer, leftovers: Leftovers): void {
  if (stream.destroyed || stream.closed || stream.headersSent) return;
  if (answer.frame !== undefined) {
    stream.respond(OK_HEADERS, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers(OK_TRAILERS));
    // A client that never opens its window doesn't take it. Not the stream's own timer, which starts anew
    // while anything else is sent to the session, such as answers to PINGs.
    const timer = setTimeout(() => stream.close(constants.NGHTTP2_CANCEL), ANSWER_MS_MAX);
    stream.once('close', () => clearTimeout(timer));
    stream.end(answer.frame);
    return;
  }
  const headers: OutgoingHttpHeaders = { ...REFUSED_HEADERS, 'grpc-status': answer.code };
  if (answer.message !== '') headers['grpc-message'] = answer.message;
  if (answer.details !== undefined) headers[DETAILS] = answer.details;
  stream.respond(headers, ONLY_TRAILERS);
  leftovers.add(stream);
}

function enter(
  { requestBytesMax, door }: GrpcShared,
  signal: Signal,
  headers: IncomingHttpHeaders,
  certificate: ClientCertificate | undefined,
): Entered | Verdict {
  const named = headers['grpc-encoding'];
  const encoding = encodingOf(typeof named === 'string' ? named : undefined);
  if (encoding === undefined) {
    const message = `the grpc-encoding ${String(named)} is not supported: use ${ENCODINGS.join(', ')}`;
    return never('unsupported_encoding', message);
  }
  const declaredBytes = declaredBytesOf(headers);
  if (declaredBytes > requestBytesMax + PREFIX_BYTES) return tooLarge(requestBytesMax);
  const credentials = credentialsOf(door, headers, certificate);
  const ticket = door.enter({ signal, declaredBytes, credentials });
  return ticket.kind === 'ticket' ? { kind: 'entered', encoding, ticket } : ticket;
}

function tooLarge(requestBytesMax: number): Verdict {
  const limit = `${requestBytesMax} bytes (SLUICE_REQUEST_BYTES_MAX)`;
  return never('too_large', `the message is larger than ${limit}; send smaller batches`);
}

function credentialsOf(
  { credentialHeaders }: Admission,
  headers: IncomingHttpHeaders,
  certificate: ClientCertificate | undefined,
): Credentials {
  if (credentialHeaders === undefined) return NO_CREDENTIALS;
  const { authorization, apiKey, tenant } = credentialHeaders;
  return {
    authorization: String(headers[authorization] ?? ''),
    apiKey: String(headers[apiKey] ?? ''),
    tenant: tenant === '' ? '' : String(headers[tenant] ?? ''),
    certificate,
  };
}

function declaredBytesOf(headers: IncomingHttpHeaders): number {
  const declared = Number(headers['content-length'] ?? 0);
  return Number.isSafeInteger(declared) && declared > 0 ? declared : 0;
}

const UNIT_MS: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1000,
  m: 1,
  u: 1e-3,
  n: 1e-6,
};

/** `grpc-timeout`: at most eight digits and a unit; anything else is as if it weren't there. */
function timeoutMsOf(header: string | string[] | undefined): number {
  const [, value, unit] = /^(\d{1,8})([HMSmun])$/.exec(String(header ?? '')) ?? [];
  return value === undefined || unit === undefined
    ? Number.POSITIVE_INFINITY
    : Number(value) * (UNIT_MS[unit] ?? 0);
}
