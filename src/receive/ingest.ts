/**
 * What the listeners need of the rest of the program: somebody who takes a request, and somebody who lets it
 * in. `app` hands both over; the listeners don't know who they are.
 */
import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Encoding } from '../compress/inflate.ts';
import type { Verdict } from '../model/outcome.ts';
import type { Signal } from '../model/signal.ts';
import type { Reply } from './answer.ts';

export interface IngestRequest {
  readonly signal: Signal;
  readonly format: 'protobuf' | 'json';
  readonly encoding: Encoding;
  /**
   * As it came over the wire, never empty. One piece is only valid until `take` returns its promise: read or
   * copied by then, never kept. Several (of bodies above 4 MiB) are the taker's from then on, with the
   * buffers behind them.
   */
  readonly body: readonly Uint8Array[];
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
  /** Accounts for bytes that have arrived, before they are kept; or says why they can't be. */
  grow(bytes: number): Verdict | undefined;
  /** Gives everything back; in every path, once or more often. */
  leave(): void;
}

/** Who bounds the requests and bytes in flight (admit/door.ts). */
export interface Admission {
  enter(declaredBytes: number): Ticket | Verdict;
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
    return await ingest.take(request);
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
