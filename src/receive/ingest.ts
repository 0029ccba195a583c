/**
 * What the listeners need of the rest of the program: somebody who takes a request, and somebody who lets it
 * in. `app` hands both over; the listeners don't know who they are.
 */
import { randomBytes } from 'node:crypto';
import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Encoding } from '../compress/inflate.ts';
import type { Verdict } from '../model/outcome.ts';
import type { Signal } from '../model/signal.ts';
import type { Credentials } from '../model/tenant.ts';
import type { Reply } from './answer.ts';

export interface IngestRequest {
  readonly signal: Signal;
  readonly format: 'protobuf' | 'json';
  readonly encoding: Encoding;
  /** Whose data it is. */
  readonly tenant: string;
  /** Who sent it, by its own word: what stands in the header for that (`sourceOf`), empty without. */
  readonly source: string;
  /** For the log, where it tells of single requests. */
  readonly requestId?: string | undefined;
  /**
   * As it came over the wire, never empty. One piece is only valid until `take` returns its promise: read or
   * copied by then, never kept. Several (of bodies above 4 MiB) are the taker's from then on, with the
   * buffers behind them.
   */
  readonly body: readonly Uint8Array[];
  /** Whether the one piece stays as it is until the promise has settled. */
  readonly isKept: boolean;
}

export interface Ingest {
  /**
   * Resolves when it is known what became of the request: `admit` only once everything accepted is safe in
   * Redis.
   */
  take(request: IngestRequest): Promise<Verdict>;
}

/** The right of one request to be inside (admit/door.ts). */
export interface Ticket {
  readonly kind: 'ticket';
  /** Whose request it is. */
  readonly tenant: string;
  /** Accounts for bytes that have arrived, before they are kept; or says why they can't be. */
  grow(bytes: number): Verdict | undefined;
  /** Gives everything back; in every path, once or more often. */
  leave(): void;
}

/** What is known of a request before its body. */
export interface Asking {
  readonly signal: Signal;
  /** 0 when the client doesn't say. */
  readonly declaredBytes: number;
  readonly credentials: Credentials;
}

/** Who lets requests in, before anything of their bodies is read (app/admission.ts). */
export interface Admission {
  /** Which headers `credentials` are read from; undefined while nobody has to show any. */
  readonly credentialHeaders: CredentialHeaders | undefined;
  enter(asking: Asking): Ticket | Verdict;
}

/** Names in lower case. */
export interface CredentialHeaders {
  readonly authorization: string;
  readonly apiKey: string;
  /** Empty where clients name no tenants. */
  readonly tenant: string;
}

/** The rest of a longer name doesn't count: nothing is refused because of its name. */
const SOURCE_LENGTH_MAX = 128;

/**
 * The source of a request, from the value of its header. There are no blanks around it: the listener for
 * HTTP/1.1 takes them away (RFC 9112, 5.1), and HTTP/2 doesn't let them through (RFC 9113, 8.2.1).
 */
export function sourceOf(header: string): string {
  if (header.length <= SOURCE_LENGTH_MAX) return header;
  // Copied, since a part of a string keeps all of it in memory, and sources are kept for a while.
  return Buffer.from(header.slice(0, SOURCE_LENGTH_MAX)).toString();
}

/** In which a client may name a request. */
export const REQUEST_ID_HEADER = 'x-request-id';
const REQUEST_ID_LENGTH_MAX = 128;

/** The name of a request in the log: the client's own, in characters that can be printed, or a random one. */
export function requestIdOf(header: string): string {
  const named = header.replaceAll(/[^\x20-\x7e]/g, '').slice(0, REQUEST_ID_LENGTH_MAX);
  return named === '' ? randomBytes(6).toString('hex') : named;
}

const SURPRISE_RETRY_MS_MIN = 1_000;
const SURPRISE_RETRY_MS_SPREAD = 4_000;

/**
 * Hands the request over. Never rejects: what nobody foresaw is logged and becomes an answer that clients
 * retry, since they throw their data away at any other (docs/otlp.md, rows 10 and 20). The body is read
 * before the promise is returned.
 */
export async function ask(ingest: Ingest, request: IngestRequest, logger: Logger): Promise<Reply> {
  try {
    const verdict = await ingest.take(request);
    const { requestId, signal } = request;
    if (requestId !== undefined) logger.debug({ requestId, signal, answer: verdict.kind }, 'request');
    return verdict;
  } catch (error) {
    const { signal, format, encoding } = request;
    logger.error(
      { err: error, signal, format, encoding },
      `a request failed unforeseen: ${messageOf(error)}`,
    );
    return {
      kind: 'surprise',
      retryAfterMs: SURPRISE_RETRY_MS_MIN + Math.random() * SURPRISE_RETRY_MS_SPREAD,
    };
  }
}
