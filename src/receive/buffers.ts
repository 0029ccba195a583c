/**
 * Where bodies are put together that arrive in pieces: buffers in classes of powers of two, used again and
 * again, since a fresh one per body is garbage outside of the heap, which forces full collections.
 */

/** Small, since a thousand slow clients that have sent one byte each hold one each. */
const CLASS_BYTES_MIN = 4 * 1024;
/** Larger ones are rare: they are let go after use, so that one huge request doesn't stay in memory. */
const CLASS_BYTES_MAX = 4 * 1024 * 1024;
/** What the pool keeps while nobody uses it. */
const IDLE_BYTES_MAX = 32 * 1024 * 1024;
/** A declared length is believed up to this many times what has arrived. */
const TRUST_FACTOR = 4;

export class BufferPool {
  readonly #free = new Map<number, Buffer[]>();
  #idleBytes = 0;

  get idleBytes(): number {
    return this.#idleBytes;
  }

  /** A buffer of at least `bytes`, with any content. The caller's until `give`. */
  take(bytes: number): Buffer {
    const size = Math.max(CLASS_BYTES_MIN, 2 ** Math.ceil(Math.log2(bytes)));
    const buffer = this.#free.get(size)?.pop();
    if (buffer === undefined) return Buffer.allocUnsafeSlow(size > CLASS_BYTES_MAX ? bytes : size);
    this.#idleBytes -= size;
    return buffer;
  }

  /** The other end of `take`: the buffer is the pool's again. */
  give(buffer: Buffer): void {
    const size = buffer.length;
    if (size > CLASS_BYTES_MAX || this.#idleBytes + size > IDLE_BYTES_MAX) return;
    const free = this.#free.get(size);
    if (free === undefined) this.#free.set(size, [buffer]);
    else free.push(buffer);
    this.#idleBytes += size;
  }
}

/**
 * One body that arrives in pieces. What is allocated follows what has arrived, never only what was declared.
 */
export class PooledBody {
  readonly #pool: BufferPool;
  /** 0 when unknown. */
  readonly #declaredBytes: number;
  #buffer: Buffer | undefined;
  #length = 0;

  constructor(pool: BufferPool, declaredBytes: number) {
    this.#pool = pool;
    this.#declaredBytes = declaredBytes;
  }

  get length(): number {
    return this.#length;
  }

  /** Copies `piece`. Whether there is room for it has been asked before (the size limit, the ticket). */
  append(piece: Uint8Array): void {
    const length = this.#length + piece.length;
    const buffer = this.#withRoomFor(length);
    buffer.set(piece, this.#length);
    this.#length = length;
  }

  /** All pieces, valid until `release`. */
  view(): Uint8Array {
    return this.#buffer?.subarray(0, this.#length) ?? new Uint8Array(0);
  }

  release(): void {
    if (this.#buffer !== undefined) this.#pool.give(this.#buffer);
    this.#buffer = undefined;
    this.#length = 0;
  }

  #withRoomFor(length: number): Buffer {
    const old = this.#buffer;
    if (old !== undefined && old.length >= length) return old;
    const hint =
      this.#declaredBytes >= length ? Math.min(this.#declaredBytes, TRUST_FACTOR * length) : 2 * length;
    const grown = this.#pool.take(hint);
    if (old !== undefined) {
      grown.set(old.subarray(0, this.#length));
      this.#pool.give(old);
    }
    this.#buffer = grown;
    return grown;
  }
}
