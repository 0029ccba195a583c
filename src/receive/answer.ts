/**
 * What a client is told: the only file that knows status codes, of HTTP and of gRPC (docs/otlp.md, rows 3 to
 * 11 and 17 to 22).
 *
 * Enters: what became of a request. Leaves: a status with its body in the request's own encoding. The rule
 * that everything hangs on: clients retry only HTTP 429, 502, 503, 504 and a few gRPC codes, and throw their
 * data away at any other. So what could pass later is 503 + Retry-After or UNAVAILABLE + RetryInfo, or 429
 * and RESOURCE_EXHAUSTED with the same where only this client has to wait; nothing else is.
 */
import { ITEM_NAMES, type Signal } from '../model/signal.ts';
import {
  type LaterReason, type NeverReason, type Outcome, SHARE_REASONS, type ShareReason, type Verdict,
} from '../model/outcome.ts';
import { exportResponse, retryInfo, rpcStatus } from './protobuf.ts';

/** Something that nobody foresaw: our fault, so the client keeps its data and sends it again. */
export interface Surprise {
  readonly kind: 'surprise';
  readonly retryAfterMs: number;
}

/** Requests that never reached OTLP: wrong address, wrong method. */
export type WrongCall = 'unknown_path' | 'wrong_method' | 'unknown_service';
export interface Wrong {
  readonly kind: 'wrong';
  readonly reason: WrongCall;
  readonly message: string;
}

export type Reply = Verdict | Surprise | Wrong;
export type BodyFormat = 'protobuf' | 'json' | 'text';

export interface HttpAnswer {
  /** Code and phrase, such as `200 OK`. */
  readonly status: string;
  readonly code: number;
  readonly contentType: string;
  readonly body: Uint8Array | string;
  /** Whole seconds, at least 1; only where the client shall come back. */
  readonly retryAfterSeconds: number | undefined;
  /** For WWW-Authenticate, which every 401 has to have (RFC 9110, 15.5.2). */
  readonly challenge: string | undefined;
}

export interface GrpcAnswer {
  readonly code: number;
  /** Percent-encoded, as the header `grpc-message` has it; empty for none. */
  readonly message: string;
  /** google.rpc.Status for `grpc-status-details-bin`, in base64; only where the client shall come back. */
  readonly details: string | undefined;
  /** One length-prefixed message; undefined for an answer that is only trailers. */
  readonly frame: Buffer | undefined;
}

interface Codes {
  readonly http: number;
  readonly grpc: number;
}

const OK: Codes = { http: 200, grpc: 0 };
const LATER: Codes = { http: 503, grpc: 14 };
/** A client that had its share: others are let in. */
const SHARE: Codes = { http: 429, grpc: 8 };
const NEVER: Readonly<Record<NeverReason, Codes>> = {
  malformed: { http: 400, grpc: 3 },
  undecodable_body: { http: 400, grpc: 3 },
  too_large: { http: 413, grpc: 8 },
  too_many_items: { http: 413, grpc: 8 },
  unauthenticated: { http: 401, grpc: 16 },
  forbidden: { http: 403, grpc: 7 },
  unsupported_encoding: { http: 415, grpc: 12 },
  unsupported_content_type: { http: 415, grpc: 3 },
};
const WRONG: Readonly<Record<WrongCall, Codes>> = {
  unknown_path: { http: 404, grpc: 12 },
  wrong_method: { http: 405, grpc: 12 },
  unknown_service: { http: 404, grpc: 5 },
};
/** The client went away before its answer: never sent, only counted (499 as nginx does, CANCELLED). */
export const GONE: Codes = { http: 499, grpc: 1 };
/** A preflight that was answered. */
export const NO_CONTENT = '204 No Content';

const PHRASES: Readonly<Record<number, string>> = {
  200: 'OK',
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  413: 'Content Too Large',
  415: 'Unsupported Media Type',
  429: 'Too Many Requests',
  503: 'Service Unavailable',
};

export const CONTENT_TYPES: Readonly<Record<BodyFormat, string>> = {
  protobuf: 'application/x-protobuf',
  json: 'application/json',
  text: 'text/plain; charset=utf-8',
};

/**
 * Longest message to a client, bytes of UTF-8. Row 4 asks for less than 4 MiB, but a gRPC message travels in
 * a header, up to three times as long, and stock clients take 8 KiB of those.
 */
export const MESSAGE_BYTES_MAX = 1024;

/** A key in X-Api-Key does as well, but no scheme of authentication is named after that. */
const CHALLENGE = 'Bearer';
const SURPRISE_MESSAGE = 'the request could not be processed; send it again';
const JSON_REJECTED: Readonly<Record<Signal, string>> = {
  traces: 'rejectedSpans',
  metrics: 'rejectedDataPoints',
  logs: 'rejectedLogRecords',
};

const FULL_SUCCESS: Readonly<Record<BodyFormat, HttpAnswer>> = {
  protobuf: httpOk('protobuf', Buffer.alloc(0)),
  json: httpOk('json', '{}'),
  text: httpOk('text', ''),
};
const GRPC_FULL_SUCCESS: GrpcAnswer = {
  code: OK.grpc,
  message: '',
  details: undefined,
  frame: frameOf(Buffer.alloc(0)),
};

/** The answer over HTTP. `format` is that of the request; `text` when it is none that OTLP knows. */
export function httpAnswer(reply: Reply, signal: Signal, format: BodyFormat): HttpAnswer {
  if (reply.kind === 'admit') {
    const partial = partialSuccess(signal, reply.outcome);
    if (partial === undefined) return FULL_SUCCESS[format];
    if (format !== 'json') return httpOk(format, exportResponse(partial.rejected, partial.message));
    const { rejected, message } = partial;
    const count = rejected > 0 ? { [JSON_REJECTED[signal]]: String(rejected) } : {};
    return httpOk(format, JSON.stringify({ partialSuccess: { ...count, errorMessage: message } }));
  }
  const { http, grpc } = codesOf(reply);
  const message = shorten(messageOf(reply));
  const retryAfterSeconds =
    'retryAfterMs' in reply ? Math.max(1, Math.ceil(reply.retryAfterMs / 1000)) : undefined;
  const body = statusBody(grpc, message, format);
  return {
    status: `${http} ${PHRASES[http]}`,
    code: http,
    contentType: CONTENT_TYPES[format],
    body,
    retryAfterSeconds,
    challenge: http === NEVER.unauthenticated.http ? CHALLENGE : undefined,
  };
}

/** The answer over gRPC. */
export function grpcAnswer(reply: Reply, signal: Signal): GrpcAnswer {
  if (reply.kind === 'admit') {
    const partial = partialSuccess(signal, reply.outcome);
    if (partial === undefined) return GRPC_FULL_SUCCESS;
    return grpcMessage(exportResponse(partial.rejected, partial.message));
  }
  const code = codesOf(reply).grpc;
  const message = shorten(messageOf(reply));
  const details =
    'retryAfterMs' in reply
      ? rpcStatus(code, message, [retryInfo(Math.max(reply.retryAfterMs, 1))]).toString('base64')
      : undefined;
  return { code, message: percentEncode(message), details, frame: undefined };
}

/** A success over gRPC with this message. */
export function grpcMessage(message: Uint8Array): GrpcAnswer {
  return { ...GRPC_FULL_SUCCESS, frame: frameOf(message) };
}

/** What a gRPC port says to those who don't speak gRPC: the status of HTTP, by itself. */
export function notGrpc(reason: 'wrong_method' | 'unsupported_content_type'): number {
  return reason === 'wrong_method' ? WRONG.wrong_method.http : NEVER.unsupported_content_type.http;
}

function codesOf(reply: Exclude<Reply, { kind: 'admit' }>): Codes {
  if (reply.kind === 'never') return NEVER[reply.reason];
  if (reply.kind === 'wrong') return WRONG[reply.reason];
  return reply.kind === 'later' && isShare(reply.reason) ? SHARE : LATER;
}

function isShare(reason: LaterReason | ShareReason): reason is ShareReason {
  return (SHARE_REASONS as readonly string[]).includes(reason);
}

function messageOf(reply: Exclude<Reply, { kind: 'admit' }>): string {
  return reply.kind === 'surprise' ? SURPRISE_MESSAGE : reply.message;
}

/** undefined when everything was stored as it was sent: the field stays unset then (row 5). */
function partialSuccess(signal: Signal, outcome: Outcome): { rejected: number; message: string } | undefined {
  if (outcome.rejected === 0 && outcome.warnings.size === 0) return undefined;
  const parts: string[] = [];
  if (outcome.rejected > 0) {
    const all = outcome.accepted + outcome.rejected;
    parts.push(`${outcome.rejected} of ${all} ${ITEM_NAMES[signal]} rejected: ${listed(outcome.reasons)}`);
  }
  if (outcome.warnings.size > 0) parts.push(`stored with changes: ${listed(outcome.warnings)}`);
  return { rejected: outcome.rejected, message: shorten(parts.join('; ')) };
}

function listed(counts: ReadonlyMap<string, number>): string {
  return [...counts].map(([name, count]) => `${name} ${count}`).join(', ');
}

function httpOk(format: BodyFormat, body: Uint8Array | string): HttpAnswer {
  const status = `${OK.http} ${PHRASES[OK.http]}`;
  const contentType = CONTENT_TYPES[format];
  return { status, code: OK.http, contentType, body, retryAfterSeconds: undefined, challenge: undefined };
}

/** google.rpc.Status in the request's encoding (row 19). */
function statusBody(code: number, message: string, format: BodyFormat): Uint8Array | string {
  if (format === 'protobuf') return rpcStatus(code, message);
  return format === 'json' ? JSON.stringify({ code, message }) : `${message}\n`;
}

/** One gRPC message, uncompressed: a flag, its length in four bytes, itself. */
function frameOf(message: Uint8Array): Buffer {
  const frame = Buffer.alloc(5 + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, 5);
  return frame;
}

/** Cut at a character, so that it stays valid UTF-8. */
function shorten(message: string): string {
  if (message.length * 3 <= MESSAGE_BYTES_MAX) return message;
  const bytes = Buffer.from(message, 'utf8');
  if (bytes.length <= MESSAGE_BYTES_MAX) return message;
  let end = MESSAGE_BYTES_MAX - 3;
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1;
  return `${bytes.toString('utf8', 0, end)}…`;
}

/** gRPC over HTTP/2, "Status-Message": only bytes outside of space to tilde, and the percent sign itself. */
function percentEncode(message: string): string {
  if (/^[\x20-\x24\x26-\x7e]*$/.test(message)) return message;
  let encoded = '';
  for (const byte of Buffer.from(message, 'utf8')) {
    const plain = byte >= 0x20 && byte <= 0x7e && byte !== 0x25;
    encoded += plain ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return encoded;
}
