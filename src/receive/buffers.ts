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
/** Of the buffers that a body above the largest class goes on in. */
const SEGMENT_BYTES = 1024 * 1024;
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
 * Up to 4 MiB it is one buffer of the pool; beyond that it goes on in buffers of its own, because copying it
 * together would make everybody else wait.
 */
export class PooledBody {
  readonly #pool: BufferPool;
  /** 0 when unknown. */
  readonly #declaredBytes: number;
  /** Full ones before `#buffer`; only of bodies above 4 MiB. */
  readonly #full: Buffer[] = [];
  #buffer: Buffer | undefined;
  /** Bytes used of `#buffer`. */
  #used = 0;
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
    this.#length += piece.length;
    if (this.#length <= CLASS_BYTES_MAX) {
      this.#put(this.#withRoomFor(this.#length), piece);
      return;
    }
    let rest = piece;
    while (rest.length > 0) {
      const buffer = this.#notFull();
      const room = buffer.length - this.#used;
      this.#put(buffer, rest.subarray(0, room));
      rest = rest.subarray(room);
    }
  }

  /**
   * The whole body. One piece is only lent, until `release`. Several are the caller's from now on, with the
   * buffers behind them; this body is empty then.
   */
  handOver(): readonly Uint8Array[] {
    const last = this.#buffer?.subarray(0, this.#used) ?? new Uint8Array(0);
    if (this.#full.length === 0) return [last];
    const pieces = [...this.#full.splice(0), last];
    this.#forget();
    return pieces;
  }

  release(): void {
    if (this.#buffer !== undefined) this.#pool.give(this.#buffer);
    this.#full.length = 0;
    this.#forget();
  }

  #forget(): void {
    this.#buffer = undefined;
    this.#used = 0;
    this.#length = 0;
  }

  #put(buffer: Buffer, piece: Uint8Array): void {
    buffer.set(piece, this.#used);
    this.#used += piece.length;
  }

  #withRoomFor(length: number): Buffer {
    const old = this.#buffer;
    if (old !== undefined && old.length >= length) return old;
    const hint =
      this.#declaredBytes >= length ? Math.min(this.#declaredBytes, TRUST_FACTOR * length) : 2 * length;
    const grown = this.#pool.take(Math.min(hint, CLASS_BYTES_MAX));
    if (old !== undefined) {
      grown.set(old.subarray(0, this.#used));
      this.#pool.give(old);
    }
    this.#buffer = grown;
    return grown;
  }

  /** A buffer with room, for a body above 4 MiB. */
  #notFull(): Buffer {
    const old = this.#buffer;
    if (old !== undefined && this.#used < old.length) return old;
    if (old !== undefined) this.#full.push(old);
    this.#buffer = Buffer.allocUnsafeSlow(SEGMENT_BYTES);
    this.#used = 0;
    return this.#buffer;
  }
}
