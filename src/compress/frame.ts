/**
 * Finished blocks → what is stored in Redis: one zstd frame per block, or a copy of it.
 *
 * The public way to compress synchronously (zstdCompressSync) makes a new zstd context for each call, and
 * garbage of several times the frame. A stream keeps its context, but only compresses on the thread pool, and
 * a frame per commit is too small for that hand-over. So this room drives the context of one stream through
 * the call that zstdCompressSync itself uses: `_handle.writeSync`. It is an internal of Node, so it is proved
 * at the start by a self-test, and left for zstdCompressSync as soon as anything about it is not as expected.
 *
 * What that buys at level 1 on Node 22.23, CPU: 10 instead of 29 µs for a block of 4 KB, 67 instead of 85 µs
 * for 30 KB, 210 instead of 310 µs for 250 KB with the garbage collected, in 120 instead of 290 MB.
 */
import zlib from 'node:zlib';
import type { Layout } from '../model/batch.ts';

export interface FrameCompressor {
  /** How the bytes that `compress` returns are laid out. */
  readonly layout: Layout;
  /** Compresses one block, which is only read during the call. The result is new and the caller's. */
  compress(block: Uint8Array): Uint8Array;
}

/**
 * The public function that opens the stream whose context is kept; tests hand in one that lacks internals.
 */
export type OpenStream = (options: zlib.ZstdOptions) => zlib.ZstdCompress;

/** A compressor for one thread. Level as zstd counts it: negative is faster and larger. `off` only copies. */
export function createFrameCompressor(level: number | 'off', open: OpenStream = openStream): FrameCompressor {
  if (level === 'off') return { layout: 'r1', compress: copyOf };
  const publicWay = publicCompressor(level);
  const kept = keptContext(level, open);
  if (kept === undefined || !agree(kept, publicWay)) return { layout: 'z1', compress: publicWay };
  const compress = (block: Uint8Array) => kept(block) ?? publicWay(block);
  return { layout: 'z1', compress };
}

type Compress = (block: Uint8Array) => Uint8Array;

/** node:zlib reads a parameter of -1 as "not set", which would be level 3: its neighbour is meant. */
function parametersOf(level: number): Record<number, number> {
  return { [zlib.constants.ZSTD_c_compressionLevel]: level === -1 ? -2 : level };
}

/** Exported for the tests, which compare the two ways. */
export function publicCompressor(level: number): Compress {
  const params = parametersOf(level);
  return (block) => zlib.zstdCompressSync(block, { params, chunkSize: frameBytesMax(block.length) });
}

/** The part of a stream's handle that is used, with the types that it must turn out to have. */
interface Handle {
  writeSync(
    flush: number,
    input: Uint8Array,
    inputOffset: number,
    inputBytes: number,
    output: Uint8Array,
    outputOffset: number,
    outputBytes: number,
  ): void;
}

interface Internals {
  readonly handle: Handle;
  /** Written by each call: output bytes left, input bytes left. */
  readonly state: Uint32Array;
}

/** No call leaves as much input: it stays where a call failed before it could report. */
const NOT_REPORTED = 0xffffffff;
/** The scratch buffer for larger blocks isn't kept. */
const SCRATCH_BYTES_KEPT = 8 << 20;

type KeptContext = (block: Uint8Array) => Uint8Array | undefined;

function openStream(options: zlib.ZstdOptions): zlib.ZstdCompress {
  return zlib.createZstdCompress(options);
}

/**
 * A compressor that keeps one zstd context; undefined where Node doesn't have the internals. Exported for the
 * tests. It returns undefined for a block that it failed to compress, and for every block after that.
 */
export function keptContext(level: number, open: OpenStream = openStream): KeptContext | undefined {
  const stream = open({ params: parametersOf(level) });
  const internals = internalsOf(stream);
  if (internals === undefined) return undefined;
  const { handle, state } = internals;
  let broken = false;
  stream.on('error', () => {
    broken = true;
  });
  let scratch = new Uint8Array(1 << 16);
  return (block) => {
    if (broken) return undefined;
    // With room for the worst case, zstd ends the frame in this one call and writes without a buffer between.
    const bytesMax = frameBytesMax(block.length);
    if (scratch.length < bytesMax) scratch = new Uint8Array(bytesMax);
    const output = scratch;
    if (output.length > SCRATCH_BYTES_KEPT) scratch = new Uint8Array(1 << 16);
    state[0] = NOT_REPORTED;
    state[1] = NOT_REPORTED;
    handle.writeSync(zlib.constants.ZSTD_e_end, block, 0, block.length, output, 0, output.length);
    const outputLeft = state[0];
    if (state[1] !== 0 || outputLeft === 0 || outputLeft > output.length) {
      broken = true;
      return undefined;
    }
    return copyOf(output.subarray(0, output.length - outputLeft));
  };
}

function internalsOf(stream: object): Internals | undefined {
  const handle: unknown = Reflect.get(stream, '_handle');
  const state: unknown = Reflect.get(stream, '_writeState');
  if (typeof handle !== 'object' || handle === null || !(state instanceof Uint32Array)) return undefined;
  if (state.length !== 2 || typeof Reflect.get(handle, 'writeSync') !== 'function') return undefined;
  return { handle: handle as Handle, state };
}

/**
 * The self-test: sizes below, at and above zstd's block of 128 KiB, and that nothing is left of the one
 * before.
 */
function agree(kept: KeptContext, publicWay: Compress): boolean {
  for (const bytes of [0, 1, 1 << 17, 200_000, 1]) {
    const block = new Uint8Array(bytes).map((_, index) => (index * index) >> 7);
    const frame = kept(block);
    if (frame === undefined || Buffer.compare(frame, publicWay(block)) !== 0) return false;
    if (Buffer.compare(zlib.zstdDecompressSync(frame), block) !== 0) return false;
  }
  return true;
}

/** ZSTD_COMPRESSBOUND of zstd.h and a little more: a frame that just fits looks like one that doesn't. */
function frameBytesMax(blockBytes: number): number {
  const smallBlockMargin = blockBytes < 1 << 17 ? ((1 << 17) - blockBytes) >> 11 : 0;
  return blockBytes + Math.floor(blockBytes / 256) + smallBlockMargin + 64;
}

function copyOf(bytes: Uint8Array): Uint8Array {
  // Not from Buffer's pool: a fragment's size is far above it, and a view of the pool would keep its
  // neighbours alive.
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  copy.set(bytes);
  return copy;
}
