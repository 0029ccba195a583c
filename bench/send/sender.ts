/** How requests leave: one interface for all protocols, and what they have in common. */
import { gzipSync, zstdCompressSync, constants } from 'node:zlib';
import type { Signal } from '../../src/model/signal.ts';
import { FRAME_HEAD_BYTES, type Format } from '../template.ts';
import type { Answer } from './answer.ts';

export const PROTOCOLS = ['grpc', 'http-protobuf', 'http-json'] as const;
export type Protocol = (typeof PROTOCOLS)[number];
export const COMPRESSIONS = ['none', 'gzip', 'zstd'] as const;
export type Compression = (typeof COMPRESSIONS)[number];

export interface Target {
  readonly host: string;
  readonly port: number;
}

/** What may carry one request at a time: an HTTP connection, or a stream's worth of an HTTP/2 connection. */
export interface Sender {
  /**
   * Sends the request and resolves with what became of it; never rejects. A lost connection is opened again
   * by the next call.
   * @param frame FRAME_HEAD_BYTES of room, which gRPC writes to, and the (compressed) body; not to be changed
   *   until the promise resolves
   */
  send(signal: Signal, frame: Buffer): Promise<Answer>;
  close(): void;
}

export interface SenderOptions {
  readonly target: Target;
  readonly format: Format;
  readonly compression: Compression;
  /** Without an answer for this long the request counts as unanswered and its connection is closed. */
  readonly timeoutMs: number;
  /** Further ones of each request, names in lower case. */
  readonly headers?: Readonly<Record<string, string>>;
  /** The address of this machine to connect from. */
  readonly localAddress?: string;
}

export function formatOf(protocol: Protocol): Format {
  return protocol === 'http-json' ? 'json' : 'protobuf';
}

/** The fast levels: what is measured is the server, and the generator shares the machine with it. */
const GZIP = { level: 1 };
const ZSTD = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };

/** @returns the frame itself where nothing is compressed, else a new one */
export function compressFrame(frame: Buffer, compression: Compression): Buffer {
  if (compression === 'none') return frame;
  const body = frame.subarray(FRAME_HEAD_BYTES);
  const packed = compression === 'gzip' ? gzipSync(body, GZIP) : zstdCompressSync(body, ZSTD);
  const compressed = Buffer.allocUnsafe(FRAME_HEAD_BYTES + packed.length);
  compressed.set(packed, FRAME_HEAD_BYTES);
  return compressed;
}
