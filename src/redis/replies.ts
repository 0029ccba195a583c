/** Readers of one reply each: as a value, or as a stream of an array's bulk bytes. */
import type { Fault } from '../base/errors.ts';
import { faultOfReply } from './faults.ts';
import { COLON, MINUS, type RespSink } from './resp.ts';

/** Integers as numbers, bulks as UTF-8 text; an error inside of an array stands there as its Fault. */
export type Reply = null | number | string | Fault | Reply[];

/** What a connection keeps per command it has sent, in order. */
export interface ReplyReader extends RespSink {
  /** True once the whole reply was read; nothing is fed to it afterwards. */
  readonly complete: boolean;
  /** On the monotonic clock, ms: when the connection counts as broken because of this reply. */
  readonly deadlineMs: number;
  /** More of the reply has arrived. */
  progress(nowMs: number): void;
  /** There will be no (more of the) reply. */
  fail(fault: Fault): void;
}

/** Gathers a reply and settles its promise. Meant for small replies: bulks are copied into strings. */
export class ValueReader implements ReplyReader {
  complete = false;
  readonly deadlineMs: number;
  readonly promise: Promise<Reply>;
  #resolve!: (reply: Reply) => void;
  #reject!: (fault: Fault) => void;
  /** Arrays that were begun and wait for elements, the innermost last. */
  readonly #open: { readonly items: Reply[]; left: number }[] = [];
  #pieces: Buffer[] = [];

  constructor(deadlineMs: number) {
    this.deadlineMs = deadlineMs;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  /** A value counts as a whole: a reply that trickles in is late all the same. */
  progress(): void {}

  fail(fault: Fault): void {
    this.complete = true;
    this.#reject(fault);
  }

  line(type: number, text: string): void {
    if (type === MINUS) this.#value(faultOfReply(text));
    else this.#value(type === COLON ? Number(text) : text);
  }

  nil(): void {
    this.#value(null);
  }

  array(length: number): void {
    if (length === 0) this.#value([]);
    else this.#open.push({ items: [], left: length });
  }

  bulkStart(): void {
    this.#pieces = [];
  }

  bulkBytes(view: Buffer): void {
    this.#pieces.push(view);
  }

  bulkEnd(): void {
    const [first, ...others] = this.#pieces;
    if (first === undefined) this.#value('');
    else this.#value((others.length === 0 ? first : Buffer.concat(this.#pieces)).toString('utf8'));
  }

  #value(value: Reply): void {
    let done = value;
    for (let array = this.#open.at(-1); array !== undefined; array = this.#open.at(-1)) {
      array.items.push(done);
      array.left -= 1;
      if (array.left > 0) return;
      this.#open.pop();
      done = array.items;
    }
    this.complete = true;
    if (done !== null && typeof done === 'object' && !Array.isArray(done)) this.#reject(done);
    else this.#resolve(done);
  }
}

/** Of bytes read and not yet taken: from here on the socket rests… */
const QUEUED_BYTES_HIGH = 262_144;
/** …until no more than these are left. */
const QUEUED_BYTES_LOW = 65_536;

/** The connection's side of a stream. */
export interface Flow {
  pause(): void;
  resume(): void;
  /** The consumer goes before the reply has ended: the rest of it makes the connection useless. */
  abandon(): void;
}

/**
 * The bytes of an array's bulks, one after the other, as views of what the socket read. The reader owns them:
 * the memory is not used again. While nobody takes them the socket rests, so at most about 256 KiB and one
 * read wait here.
 */
export class BulkStream implements ReplyReader, AsyncIterableIterator<Buffer> {
  complete = false;
  /** Bulks that were read to their end. */
  elements = 0;
  deadlineMs: number;
  readonly #timeoutMs: number;
  readonly #flow: Flow;
  #left = -1;
  #views: Buffer[] = [];
  #queuedBytes = 0;
  #paused = false;
  #fault: Fault | undefined;
  #waiting: { resolve: (result: IteratorResult<Buffer>) => void; reject: (fault: Fault) => void } | undefined;

  constructor(nowMs: number, timeoutMs: number, flow: Flow) {
    this.deadlineMs = nowMs + timeoutMs;
    this.#timeoutMs = timeoutMs;
    this.#flow = flow;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Rejects with the Fault of the reply or the connection, after the views that came before it. */
  next(): Promise<IteratorResult<Buffer>> {
    const view = this.#views.shift();
    if (view !== undefined) {
      this.#queuedBytes -= view.length;
      this.#rest();
      return Promise.resolve({ done: false, value: view });
    }
    if (this.#fault !== undefined) return Promise.reject(this.#fault);
    if (this.complete) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
  }

  /** Called by `for await` when its body is left early. */
  return(): Promise<IteratorResult<Buffer>> {
    this.#views = [];
    this.#queuedBytes = 0;
    if (!this.complete) this.#flow.abandon();
    return Promise.resolve({ done: true, value: undefined });
  }

  /** The time counts from the last bytes on, and not at all while we are the ones who don't read. */
  progress(nowMs: number): void {
    this.deadlineMs = this.#paused ? Number.POSITIVE_INFINITY : nowMs + this.#timeoutMs;
  }

  fail(fault: Fault): void {
    this.complete = true;
    this.#fault = fault;
    this.#end();
  }

  line(type: number, text: string): void {
    if (type === MINUS) this.fail(faultOfReply(text));
    else this.#element();
  }

  nil(): void {
    this.#element();
  }

  array(length: number): void {
    this.#left = length;
    if (length === 0) this.#end();
  }

  bulkStart(): void {}

  bulkBytes(view: Buffer): void {
    if (this.#waiting !== undefined) {
      this.#waiting.resolve({ done: false, value: view });
      this.#waiting = undefined;
      return;
    }
    this.#views.push(view);
    this.#queuedBytes += view.length;
    this.#rest();
  }

  bulkEnd(): void {
    this.elements += 1;
    this.#element();
  }

  #element(): void {
    this.#left -= 1;
    if (this.#left <= 0) this.#end();
  }

  #end(): void {
    this.complete = true;
    if (this.#paused) this.#resume();
    if (this.#waiting === undefined) return;
    if (this.#fault === undefined) this.#waiting.resolve({ done: true, value: undefined });
    else this.#waiting.reject(this.#fault);
    this.#waiting = undefined;
  }

  #rest(): void {
    if (this.complete) return;
    if (!this.#paused && this.#queuedBytes > QUEUED_BYTES_HIGH) {
      this.#paused = true;
      this.deadlineMs = Number.POSITIVE_INFINITY;
      this.#flow.pause();
    } else if (this.#paused && this.#queuedBytes <= QUEUED_BYTES_LOW) {
      this.#resume();
    }
  }

  #resume(): void {
    this.#paused = false;
    this.#flow.resume();
  }
}
