/**
 * Bodies as they were sent → their bytes, never more than a bound.
 *
 * Enters: a whole request body and its content encoding. Leaves: the bytes, or which of two refusals it is;
 * nothing is thrown, since both are the client's doing. A body is inflated in steps and given up at the first
 * byte over the bound, so a bomb costs no more than an honest body of that size.
 * What is strict: a body must be used up exactly. Cut short, followed by garbage or failing its checksum, it
 * is corrupt; half of a request must not be stored as if it were the whole.
 */
import zlib from 'node:zlib';
import { messageOf } from '../base/errors.ts';
import { declaredContentBytes, readZstdFrame, type ZstdFrame } from './zstd-frame.ts';

/**
 * The OTLP specification asks for none and gzip; collectors can be configured to send the others over HTTP.
 */
export const ENCODINGS = ['identity', 'gzip', 'deflate', 'zstd'] as const;
export type Encoding = (typeof ENCODINGS)[number];

export type InflateResult =
  | { readonly kind: 'ok'; readonly bytes: Uint8Array }
  | { readonly kind: 'too_large' }
  | { readonly kind: 'corrupt'; readonly message: string };

const TOO_LARGE: InflateResult = { kind: 'too_large' };

/**
 * `none` is gRPC's name for identity, `x-gzip` is RFC 9110's old name, `zlib` is what the collector calls
 * deflate.
 */
const NAMES: ReadonlyMap<string, Encoding> = new Map([
  ['', 'identity'],
  ['none', 'identity'],
  ['identity', 'identity'],
  ['gzip', 'gzip'],
  ['x-gzip', 'gzip'],
  ['deflate', 'deflate'],
  ['zlib', 'deflate'],
  ['zstd', 'zstd'],
]);

/**
 * The encoding that a Content-Encoding (or grpc-encoding) header names; undefined when it isn't supported.
 */
export function encodingOf(header: string | undefined): Encoding | undefined {
  return NAMES.get((header ?? '').trim().toLowerCase());
}

/**
 * What a body claims to hold is believed up to this ratio: memory for a lie would cost us, not its sender.
 */
const RATIO_BELIEVED_MAX = 32;
/** What node:zlib wants of a chunk at least, bytes. */
const CHUNK_BYTES_MIN = 64;
/** Each frame costs a decompressor: without a bound, a body of empty frames would buy minutes. */
const ZSTD_FRAMES_MAX = 1024;
/** Windows that senders declare although their data is small: encoders at their best level ask for 32 MiB. */
const ZSTD_WINDOW_LOG_MIN = 25;
/** 128 MiB, zstd's own default limit. */
const ZSTD_WINDOW_LOG_MAX = 27;

/**
 * Inflates a whole body, synchronously: a thread pool's hand-over costs more than inflating a usual body.
 * `bytes` of an identity body is `body` itself; otherwise it is newly allocated and the caller's.
 * @param bytesMax the largest result that is let in; one byte more is `too_large`.
 */
export function inflate(body: Uint8Array, encoding: Encoding, bytesMax: number): InflateResult {
  switch (encoding) {
    case 'identity':
      return body.length > bytesMax ? TOO_LARGE : { kind: 'ok', bytes: body };
    case 'gzip':
      return inflateWith(zlib.gunzipSync, body, encoding, gzipSizeHint(body), bytesMax);
    case 'deflate':
      return inflateWith(
        hasZlibHeader(body) ? zlib.inflateSync : zlib.inflateRawSync,
        body,
        encoding,
        body.length * 4,
        bytesMax,
      );
    case 'zstd':
      return inflateZstd(body, bytesMax);
  }
}

/**
 * About how large the body will be when inflated, bytes: for choosing how it is processed, never for trusting
 * it. Never less than the body itself.
 */
export function inflatedSizeHint(body: Uint8Array, encoding: Encoding): number {
  switch (encoding) {
    case 'identity':
      return body.length;
    case 'gzip':
      return gzipSizeHint(body);
    case 'deflate':
      return body.length * 8;
    case 'zstd':
      return Math.max(body.length, declaredContentBytes(body) ?? body.length * 8);
  }
}

/** What `info: true` returns; @types/node declares the plain Buffer only. */
interface InfoResult {
  readonly buffer: Uint8Array;
  readonly engine: { readonly bytesWritten: number };
}

type InflateSync = typeof zlib.gunzipSync | typeof zlib.inflateSync | typeof zlib.inflateRawSync;

function inflateWith(
  inflateSync: InflateSync,
  body: Uint8Array,
  encoding: Encoding,
  sizeHint: number,
  bytesMax: number,
): InflateResult {
  try {
    const chunkSize = chunkBytes(sizeHint, body.length, bytesMax);
    const options = { maxOutputLength: bytesMax, chunkSize, info: true };
    const { buffer, engine } = inflateSync(body, options) as unknown as InfoResult;
    // zlib ends at the stream's end and leaves what follows; NUL bytes after a gzip member it even accepts.
    if (engine.bytesWritten !== body.length) {
      return corrupt(encoding, `${body.length - engine.bytesWritten} bytes follow the end of the data`);
    }
    return { kind: 'ok', bytes: buffer };
  } catch (error) {
    return refusal(encoding, error);
  }
}

function inflateZstd(body: Uint8Array, bytesMax: number): InflateResult {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  let frames = 0;
  for (let at = 0; at < body.length || frames === 0; frames++) {
    const frame = readZstdFrame(body, at);
    if (frame === undefined) return corrupt('zstd', `no complete frame at byte ${at}`);
    if (frames === ZSTD_FRAMES_MAX) return corrupt('zstd', `more than ${ZSTD_FRAMES_MAX} frames`);
    at = frame.end;
    if (frame.skippable) continue;
    const piece = inflateZstdFrame(body, frame, bytesMax - bytes, bytesMax);
    if (piece.kind !== 'ok') return piece;
    bytes += piece.bytes.length;
    pieces.push(piece.bytes);
  }
  return {
    kind: 'ok',
    bytes: pieces.length === 1 && pieces[0] !== undefined ? pieces[0] : Buffer.concat(pieces),
  };
}

/** `bytesLeft` is what the frames before have left of `bytesMax`. */
function inflateZstdFrame(
  body: Uint8Array,
  frame: ZstdFrame,
  bytesLeft: number,
  bytesMax: number,
): InflateResult {
  const declared = frame.contentBytes;
  const frameBytes = frame.end - frame.start;
  if (declared !== undefined && declared > bytesLeft) return TOO_LARGE;
  try {
    const bytes = zlib.zstdDecompressSync(body.subarray(frame.start, frame.end), {
      // 0 is no limit to Node; one byte is enough to see that there is something.
      maxOutputLength: Math.max(1, bytesLeft),
      chunkSize: chunkBytes(declared ?? frameBytes * 8, frameBytes, bytesLeft),
      params: { [zlib.constants.ZSTD_d_windowLogMax]: windowLogMax(bytesMax) },
    });
    return bytes.length > bytesLeft ? TOO_LARGE : { kind: 'ok', bytes };
  } catch (error) {
    return refusal('zstd', error);
  }
}

/**
 * The decompressor allocates the window that a frame declares: no more than about the bound on the result.
 */
function windowLogMax(bytesMax: number): number {
  const log = Math.ceil(Math.log2(Math.max(2, bytesMax)));
  return Math.min(ZSTD_WINDOW_LOG_MAX, Math.max(ZSTD_WINDOW_LOG_MIN, log));
}

/**
 * The size of the pieces that the result is allocated in. A right guess makes it one piece without a copy;
 * the few bytes more keep zlib from allocating another when the first is filled to the brim.
 */
function chunkBytes(sizeGuess: number, compressedBytes: number, bytesMax: number): number {
  return Math.min(sizeGuess, compressedBytes * RATIO_BELIEVED_MAX, bytesMax) + CHUNK_BYTES_MIN;
}

/** A gzip member ends with its size modulo 2^32; of several members this is only the last one's. */
function gzipSizeHint(body: Uint8Array): number {
  if (body.length < 18) return body.length;
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  return Math.max(body.length, view.getUint32(body.length - 4, true));
}

/**
 * HTTP's `deflate` is the zlib format (RFC 9110, 8.4.1.2), but many clients send raw deflate. A raw stream
 * that looks like this header would have to begin with a stored block whose padding bits are set, which no
 * encoder writes.
 */
function hasZlibHeader(body: Uint8Array): boolean {
  const method = body[0] ?? 0;
  const flags = body[1] ?? 0;
  return (method & 0x0f) === 8 && method >> 4 <= 7 && ((method << 8) | flags) % 31 === 0;
}

function refusal(encoding: Encoding, error: unknown): InflateResult {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return code === 'ERR_BUFFER_TOO_LARGE' ? TOO_LARGE : corrupt(encoding, messageOf(error));
}

function corrupt(encoding: Encoding, detail: string): InflateResult {
  return { kind: 'corrupt', message: `the body is not valid ${encoding}: ${detail}` };
}
