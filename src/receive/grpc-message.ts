/**
 * The one length-prefixed message of a unary call, read piece by piece (gRPC over HTTP/2,
 * "Length-Prefixed-Message": a flag, four bytes of length, the message). What a frame declares is checked
 * before anything of it is kept.
 */
import type { BufferPool } from './buffers.ts';
import { PooledBody } from './buffers.ts';

export const PREFIX_BYTES = 5;

/**
 * Why the bytes can't be the message of a unary call; the first is about the limit, the others are broken
 * frames.
 */
export type FrameFault = 'too_large' | 'second_message' | 'unknown_flag' | 'cut_short';

export class GrpcMessage {
  readonly #pool: BufferPool;
  readonly #bytesMax: number;
  readonly #prefix = Buffer.allocUnsafe(PREFIX_BYTES);
  #prefixBytes = 0;
  #declaredBytes = 0;
  /** The message when it came in one piece, which is the usual way of small ones: no copy. */
  #whole: Uint8Array | undefined;
  #body: PooledBody | undefined;

  constructor(pool: BufferPool, bytesMax: number) {
    this.#pool = pool;
    this.#bytesMax = bytesMax;
  }

  /** Whether the message says that it is compressed, in the encoding that the call's headers name. */
  get compressed(): boolean {
    return this.#prefix[0] === 1;
  }

  /** The message; only after `end` found nothing wrong. Owned as PooledBody.handOver says. */
  handOver(): readonly Uint8Array[] {
    if (this.#body !== undefined) return this.#body.handOver();
    return [this.#whole ?? new Uint8Array(0)];
  }

  /**
   * Takes a piece, which is this object's from now on. @returns what is wrong with it, at the first byte that
   * shows it
   */
  add(piece: Uint8Array): FrameFault | undefined {
    let rest = piece;
    if (this.#prefixBytes < PREFIX_BYTES) {
      const used = Math.min(PREFIX_BYTES - this.#prefixBytes, rest.length);
      this.#prefix.set(rest.subarray(0, used), this.#prefixBytes);
      this.#prefixBytes += used;
      if (this.#prefixBytes < PREFIX_BYTES) return undefined;
      this.#declaredBytes = this.#prefix.readUInt32BE(1);
      if ((this.#prefix[0] ?? 0) > 1) return 'unknown_flag';
      if (this.#declaredBytes > this.#bytesMax) return 'too_large';
      rest = rest.subarray(used);
    }
    if (rest.length === 0) return undefined;
    const had = this.#length;
    if (had + rest.length > this.#declaredBytes) return 'second_message';
    if (had === 0 && rest.length === this.#declaredBytes) {
      this.#whole = rest;
      return undefined;
    }
    this.#body ??= new PooledBody(this.#pool, this.#declaredBytes);
    this.#body.append(rest);
    return undefined;
  }

  get #length(): number {
    return this.#whole?.length ?? this.#body?.length ?? 0;
  }

  /** The client has ended its side. */
  end(): FrameFault | undefined {
    const complete = this.#prefixBytes === PREFIX_BYTES && this.#length === this.#declaredBytes;
    return complete ? undefined : 'cut_short';
  }

  release(): void {
    this.#whole = undefined;
    this.#body?.release();
    this.#body = undefined;
  }
}
