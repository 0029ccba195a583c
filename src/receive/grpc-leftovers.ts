/**
 * Streams that have their answer while the client still sends. Nearly all end within milliseconds, so they
 * are looked at together, a few times a second: a flood of refusals sets no timers and listens to nothing.
 */
import { type ServerHttp2Stream, constants } from 'node:http2';
import { tickMs } from '../base/clock.ts';

/** How long a client may go on sending after its answer, ms; up to a look longer. */
const DISCARD_MS_MAX = 2_000;
const LOOK_MS = 100;

/** One that was still open when it was looked at. */
interface Leftover {
  readonly stream: ServerHttp2Stream;
  readonly dueMs: number;
}

export class Leftovers {
  readonly #track: (stream: ServerHttp2Stream) => void;
  /** Since the last look. */
  #answered: ServerHttp2Stream[] = [];
  #open: Leftover[] = [];
  #timer: NodeJS.Timeout | undefined;

  /** @param track is told of those that stay open */
  constructor(track: (stream: ServerHttp2Stream) => void) {
    this.#track = track;
  }

  /**
   * Ends a client that goes on sending after its answer. Clients stop by themselves when they see it; what
   * they have sent by then is read and thrown away, so that it doesn't fill the session's window. A reset at
   * once would overtake the answer: grpc-core then reports the reset. NO_ERROR is what RFC 9113 (8.1) has for
   * it.
   */
  add(stream: ServerHttp2Stream): void {
    if (stream.readableEnded) return;
    stream.resume();
    this.#answered.push(stream);
    this.#timer ??= this.#later();
  }

  #look(): void {
    const nowMs = tickMs();
    const open = this.#open.filter(({ stream }) => !stream.closed);
    for (const { stream, dueMs } of open) if (nowMs >= dueMs) stream.close(constants.NGHTTP2_NO_ERROR);
    for (const stream of this.#answered) {
      if (stream.closed) continue;
      this.#track(stream);
      open.push({ stream, dueMs: nowMs + DISCARD_MS_MAX });
    }
    this.#open = open;
    this.#answered = [];
    this.#timer = open.length === 0 ? undefined : this.#later();
  }

  #later(): NodeJS.Timeout {
    return setTimeout(() => this.#look(), LOOK_MS).unref();
  }
}
