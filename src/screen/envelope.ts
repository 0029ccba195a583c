/**
 * A request that is written anew where it has to be: what doesn't change is copied in long ranges, and
 * nothing is written before the first change. The messages around a record are opened only if something in
 * them changes.
 */
import { Sink } from './sink.ts';

const LEVELS_MAX = 4;

export class Envelope {
  readonly #request: Uint8Array;
  /** Where records are written to after `replace`. */
  #sink: Sink | undefined;
  /** What of the request is in the sink, or left out on purpose. */
  #copied = 0;
  #depth = 0;
  readonly #tags = new Int32Array(LEVELS_MAX);
  readonly #headers = new Int32Array(LEVELS_MAX);
  readonly #contents = new Int32Array(LEVELS_MAX);
  /** Where a level begins in the sink, and its content; -1 while it isn't opened. */
  readonly #begins = new Int32Array(LEVELS_MAX);
  readonly #opened = new Int32Array(LEVELS_MAX);

  constructor(request: Uint8Array) {
    this.#request = request;
  }

  /** Begins the message whose field begins at `header` and whose content begins at `content`. */
  enter(tag: number, header: number, content: number): void {
    const level = this.#depth++;
    this.#tags[level] = tag;
    this.#headers[level] = header;
    this.#contents[level] = content;
    this.#opened[level] = -1;
  }

  /** Ends it. */
  leave(end: number): void {
    const level = --this.#depth;
    const opened = this.#opened[level] as number;
    if (opened < 0) return;
    const sink = this.#flush(end);
    sink.close(opened);
  }

  /** Ends it, and leaves it out as a whole. */
  remove(end: number): void {
    const level = --this.#depth;
    if ((this.#opened[level] as number) >= 0) {
      (this.#sink as Sink).at = this.#begins[level] as number;
      this.#copied = end;
    } else this.replace(this.#headers[level] as number, end);
  }

  /** Leaves [start, end) out; what stands in its place is written into the sink that is returned. */
  replace(start: number, end: number): Sink {
    for (let level = 0; level < this.#depth; level++) {
      if ((this.#opened[level] as number) >= 0) continue;
      const sink = this.#flush(this.#headers[level] as number);
      this.#begins[level] = sink.at;
      this.#opened[level] = sink.open(this.#tags[level] as number);
      this.#copied = this.#contents[level] as number;
    }
    const sink = this.#flush(start);
    this.#copied = end;
    return sink;
  }

  #flush(to: number): Sink {
    this.#sink ??= new Sink(this.#request.length + (this.#request.length >>> 4));
    this.#sink.raw(this.#request, this.#copied, to);
    this.#copied = to;
    return this.#sink;
  }

  /** The request as it is now: itself when nothing changed. */
  bytes(): Uint8Array {
    if (this.#sink === undefined) return this.#request;
    const sink = this.#flush(this.#request.length);
    return sink.bytes.subarray(0, sink.at);
  }
}
