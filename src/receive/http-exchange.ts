/**
 * One OTLP request over HTTP, from its headers to its answer: bounds first, then bytes. The library that
 * speaks HTTP calls in from outside, with two rules of its own (http-wire.ts): a response is never touched
 * after it was aborted or ended, and a piece of a body is only valid during its callback.
 */
import type { Logger } from '../base/log.ts';
import type { Encoding } from '../compress/inflate.ts';
import { type Verdict, never } from '../model/outcome.ts';
import type { Signal } from '../model/signal.ts';
import { DEFAULT_TENANT, type Credentials } from '../model/tenant.ts';
import { GONE, type BodyFormat, type HttpAnswer, type Reply, httpAnswer } from './answer.ts';
import { type BufferPool, PooledBody } from './buffers.ts';
import type { Header } from './cors.ts';
import type { CountedSignal, Counts } from './counts.ts';
import type { WireResponse } from './http-wire.ts';
import { type Admission, type Ingest, type Ticket, ask } from './ingest.ts';
import { IDLE_SECONDS_MIN } from './uws.ts';

/** What all exchanges of a listener share. */
export interface HttpShared {
  readonly requestBytesMax: number;
  readonly sourceHeader: string;
  readonly ingest: Ingest;
  readonly door: Admission;
  readonly counts: Counts;
  readonly pool: BufferPool;
  readonly logger: Logger;
  readonly open: Set<HttpExchange>;
  /** Requests get an id for the log, which costs something: only where it tells of single ones. */
  readonly tracing: boolean;
  /** Open ones, with a request or without. */
  connections: number;
  /** Set when the listener closes: connections end with their answer. */
  draining: boolean;
}

/** What is read from the headers of a request, while they can be read. */
export interface HttpHead {
  readonly signal: CountedSignal;
  readonly format: BodyFormat;
  /** -1 when the length isn't declared: a chunked body. */
  readonly declaredBytes: number;
  /** Further headers of the answer: CORS, Allow. */
  readonly headers: readonly Header[];
  readonly headOnly: boolean;
}

/**
 * The rest of a body that is refused early is read and thrown away, because a client that is still sending
 * when the connection closes may see the reset and not the answer. Bodies of this many limits at most.
 */
const DISCARD_FACTOR = 4;
/** Who has paused for so long isn't sending any more, but waits for an answer. */
const PAUSE_MS = 200;
/** Who is still sending then, be it a byte at a time, is answered all the same. */
const DISCARD_MS_MAX = 5_000;
/** A hint for clients (RFC 2068, 19.7.1), a second before the earliest moment that uWebSockets.js cuts. */
const KEEP_ALIVE = `timeout=${IDLE_SECONDS_MIN - 1}`;

export class HttpExchange {
  readonly #shared: HttpShared;
  readonly #res: WireResponse;
  readonly #head: HttpHead;
  readonly #startedMs = performance.now();
  /**
   * `refusing`: the answer is known, and waits for the end of the body. `gone`: the client left while the
   * request was being stored, which goes on without it. From `gone` and `done` on, hands off the
   * response.
   */
  #state: 'reading' | 'refusing' | 'asking' | 'gone' | 'done' = 'reading';
  #refusal: Reply | undefined;
  #refusedMs = 0;
  #pause: NodeJS.Timeout | undefined;
  #encoding: Encoding = 'identity';
  #source = '';
  #requestId: string | undefined;
  #ticket: Ticket | undefined;
  #body: PooledBody | undefined;
  #arrivedBytes = 0;

  constructor(shared: HttpShared, res: WireResponse, head: HttpHead) {
    this.#shared = shared;
    this.#res = res;
    this.#head = head;
    shared.open.add(this);
    res.onAborted(() => this.#aborted());
  }

  /** Lets the request in and reads its body. Within the handler of the route. */
  accept(
    signal: Signal,
    credentials: Credentials,
    encoding: Encoding,
    source: string,
    requestId: string | undefined,
  ): void {
    const entered = this.#enter(signal, credentials);
    if (entered.kind === 'ticket') {
      this.#ticket = entered;
      this.#encoding = encoding;
      this.#source = source;
      this.#requestId = requestId;
      this.#res.onData((piece, last) => this.#arrived(signal, bytesOf(piece), last));
    } else {
      this.refuse(entered);
    }
  }

  /** Answers without reading the body first. Within the handler of the route. */
  refuse(reply: Reply): void {
    if (this.#chunked || this.#shared.draining) {
      this.#answerAtEnd(reply);
      this.#res.onData((piece, last) => this.#discarded(piece.byteLength, last));
    } else {
      this.#answer(reply, this.#head.declaredBytes > DISCARD_FACTOR * this.#shared.requestBytesMax);
    }
  }

  /**
   * For a body without a known end, and for a connection that ends with its answer: what is still to come is
   * read first, within bounds. Else a reset could overtake the answer to a client that is still sending.
   */
  #answerAtEnd(reply: Reply): void {
    this.#state = 'refusing';
    this.#refusal = reply;
    this.#refusedMs = performance.now();
    this.#pause = setTimeout(() => this.#answer(reply, true), PAUSE_MS);
    this.#giveBack();
  }

  #discarded(bytes: number, last: boolean): void {
    if (this.#state !== 'refusing' || this.#refusal === undefined) return;
    this.#arrivedBytes += bytes;
    this.#pause?.refresh();
    const isTooMuch = this.#arrivedBytes > DISCARD_FACTOR * this.#shared.requestBytesMax;
    const isTooLong = performance.now() - this.#refusedMs > DISCARD_MS_MAX;
    if (last || isTooMuch || isTooLong) this.#answer(this.#refusal, !last);
  }

  /** One piece of the body, valid only now. */
  #arrived(signal: Signal, piece: Uint8Array, last: boolean): void {
    if (this.#state === 'refusing') this.#discarded(piece.length, last);
    if (this.#state !== 'reading') return;
    this.#arrivedBytes += piece.length;
    const tooLarge = this.#arrivedBytes > this.#shared.requestBytesMax;
    const refusal = tooLarge ? this.#tooLarge() : this.#ticket?.grow(piece.length);
    if (refusal !== undefined && !last && (this.#chunked || this.#shared.draining)) {
      this.#answerAtEnd(refusal);
    } else if (refusal !== undefined) {
      this.#answer(refusal, false);
    } else if (last && this.#body === undefined) {
      this.#ask(signal, [piece]);
    } else {
      this.#body ??= new PooledBody(this.#shared.pool, this.#head.declaredBytes);
      this.#body.append(piece);
      if (last) this.#ask(signal, this.#body.handOver());
    }
  }

  get #chunked(): boolean {
    return this.#head.declaredBytes < 0;
  }

  #enter(signal: Signal, credentials: Credentials): Ticket | Verdict {
    const declaredBytes = Math.max(this.#head.declaredBytes, 0);
    if (declaredBytes > this.#shared.requestBytesMax) return this.#tooLarge();
    return this.#shared.door.enter({ signal, declaredBytes, credentials });
  }

  #ask(signal: Signal, body: readonly Uint8Array[]): void {
    this.#state = 'asking';
    const { ingest, logger } = this.#shared;
    const format = this.#head.format === 'json' ? 'json' : 'protobuf';
    const [encoding, source, requestId] = [this.#encoding, this.#source, this.#requestId];
    // A body in one piece is the server's, one in pieces lies in the pool until the answer.
    const isKept = this.#body !== undefined;
    const tenant = this.#ticket?.tenant ?? DEFAULT_TENANT;
    const request = { signal, format, encoding, tenant, source, requestId, body, isKept } as const;
    const reply = ask(ingest, request, logger);
    reply.then((known) => this.#answer(known, false));
  }

  /** @param endConnection when what is still to come of the body shall not be read */
  #answer(reply: Reply, endConnection: boolean): void {
    if (this.#state === 'gone') this.#finish(GONE.http);
    if (this.#state === 'done') return;
    const signal = this.#head.signal === 'none' ? 'traces' : this.#head.signal;
    const answer = httpAnswer(reply, signal, this.#head.format);
    this.#shared.counts.refused(this.#head.signal, reply);
    this.#finish(answer.code);
    this.#res.cork(() => this.#write(answer, endConnection || this.#shared.draining));
  }

  #write(answer: HttpAnswer, endConnection: boolean): void {
    const res = this.#res;
    res.writeStatus(answer.status).writeHeader('Content-Type', answer.contentType);
    for (const [name, value] of this.#head.headers) res.writeHeader(name, value);
    const retryAfter = answer.retryAfterSeconds;
    if (retryAfter !== undefined) res.writeHeader('Retry-After', String(retryAfter));
    if (answer.challenge !== undefined) res.writeHeader('WWW-Authenticate', answer.challenge);
    if (!endConnection) res.writeHeader('Keep-Alive', KEEP_ALIVE);
    if (this.#head.headOnly) res.endWithoutBody(Buffer.byteLength(answer.body), endConnection);
    else res.end(answer.body, endConnection);
  }

  #aborted(): void {
    if (this.#state === 'asking') this.#state = 'gone';
    else if (this.#state !== 'done') this.#finish(GONE.http);
  }

  #giveBack(): void {
    this.#ticket?.leave();
    this.#body?.release();
    this.#body = undefined;
  }

  /** The one place where every exchange ends. */
  #finish(code: number): void {
    this.#state = 'done';
    clearTimeout(this.#pause);
    this.#giveBack();
    this.#shared.open.delete(this);
    const { signal, format } = this.#head;
    const seconds = (performance.now() - this.#startedMs) / 1000;
    const encoding = format === 'text' ? 'none' : format;
    this.#shared.counts.answered(signal, encoding, code, seconds, this.#arrivedBytes);
  }

  #tooLarge(): Verdict {
    const limit = `${this.#shared.requestBytesMax} bytes (SLUICE_REQUEST_BYTES_MAX)`;
    return never('too_large', `the body is larger than ${limit}; send smaller batches`);
  }
}

/** A view, never a copy. */
function bytesOf(piece: ArrayBuffer | Uint8Array): Uint8Array {
  return piece instanceof Uint8Array ? piece : new Uint8Array(piece);
}
