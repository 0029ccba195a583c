/**
 * The body of one insert: the bytes of a batch as they come from the store, counted, and whole or not at all.
 * ClickHouse takes a chunked body as complete when it sees the last chunk. So the end is only let through
 * after exactly as many bytes as were sealed; whatever else happens breaks the body off, and the server gives
 * the insert up.
 */
import { Fault } from '../base/errors.ts';
import type { SealedBatch } from '../model/batch.ts';

export class Body {
  readonly #batch: SealedBatch;
  readonly #chunks: AsyncIterator<Uint8Array>;
  #first: Uint8Array | undefined;
  #bytes = 0;
  /** Whether the end was let through: only then the server may have taken the insert. */
  ended = false;
  /** What the store threw, or the Fault of a wrong length. Tells a failed source from a failed server. */
  failure: { readonly error: unknown } | undefined;

  constructor(batch: SealedBatch, chunks: AsyncIterable<Uint8Array>) {
    this.#batch = batch;
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  /**
   * Waits for the first bytes, before a connection is taken for the rest.
   * @returns false if there are none: the batch is gone
   * @throws as the store does; `failure` is set then, here and below
   */
  async begin(): Promise<boolean> {
    this.#first = await this.#next();
    return this.#first !== undefined;
  }

  /** The bytes, each chunk asked for when the one before it was taken. Once, after `begin`. */
  async *chunks(): AsyncGenerator<Uint8Array, void, undefined> {
    for (let chunk = this.#first; chunk !== undefined; chunk = await this.#next()) yield chunk;
  }

  /** Ends the reading of the store, wherever it is. Has to be called however the insert went. */
  async close(): Promise<void> {
    await this.#chunks.return?.();
  }

  async #next(): Promise<Uint8Array | undefined> {
    try {
      for (;;) {
        const { done, value } = await this.#chunks.next();
        if (done) return this.#ended();
        this.#bytes += value.length;
        if (this.#bytes > this.#batch.bytes) throw this.#wrongLength(`${this.#bytes} or more`);
        if (value.length > 0) return value;
      }
    } catch (error) {
      this.failure = { error };
      throw error;
    }
  }

  #ended(): undefined {
    const whole = this.#bytes === this.#batch.bytes;
    if (!whole && this.#bytes > 0) throw this.#wrongLength(`only ${this.#bytes}`);
    this.ended = true;
  }

  /** Worth another try: a batch that another writer finishes and removes meanwhile looks like this too. */
  #wrongLength(given: string): Fault {
    const { id, bytes } = this.#batch;
    const message = `batch ${id} was sealed with ${bytes} bytes, the queue gave ${given}`;
    return new Fault('batch_incomplete', 'here', message);
  }
}
