/**
 * From a body as it came over the wire to protobuf bytes: inflated within the limit, JSON turned into
 * protobuf.
 */
import { inflate, type Encoding } from '../compress/inflate.ts';
import { Malformed } from '../model/block.ts';
import type { NeverReason } from '../model/outcome.ts';
import type { Signal } from '../model/signal.ts';
import { jsonToProtobuf } from '../transcode/json.ts';

export interface EncodedRequest {
  readonly signal: Signal;
  readonly format: 'protobuf' | 'json';
  readonly encoding: Encoding;
  readonly tenant: string;
  readonly source: string;
  /** Only where the log tells of it. */
  readonly requestId: string | undefined;
  readonly body: Uint8Array;
  /** Whether it stays as it is until the request is answered. */
  readonly isKept: boolean;
}

export type Decoded =
  /** `bytes` may be a view of the body or of a buffer that the next call reuses. */
  | { readonly kind: 'ok'; readonly bytes: Uint8Array }
  | { readonly kind: 'too_large' }
  | { readonly kind: 'never'; readonly reason: NeverReason; readonly message: string };

export function decodeRequest(request: EncodedRequest, bytesMax: number, nestingMax: number): Decoded {
  const inflated = inflate(request.body, request.encoding, bytesMax);
  if (inflated.kind === 'too_large') return { kind: 'too_large' };
  if (inflated.kind === 'corrupt') {
    return {
      kind: 'never',
      reason: 'undecodable_body',
      message: `the body is no valid ${request.encoding}: ${inflated.message}`,
    };
  }
  if (request.format === 'protobuf') return { kind: 'ok', bytes: inflated.bytes };
  try {
    return { kind: 'ok', bytes: jsonToProtobuf(request.signal, inflated.bytes, nestingMax) };
  } catch (error) {
    if (error instanceof Malformed) return malformed(request, error);
    throw error;
  }
}

export function malformed(request: EncodedRequest, error: Malformed): Decoded & { kind: 'never' } {
  const what = request.format === 'json' ? 'OTLP/JSON' : 'OTLP protobuf';
  return {
    kind: 'never',
    reason: 'malformed',
    message: `the body is no valid ${what} for ${request.signal}: ${error.message}`,
  };
}

export function tooLargeMessage(bytesMax: number): string {
  const limit = `${bytesMax} bytes after decompression (SLUICE_REQUEST_BYTES_MAX)`;
  return `the request is larger than ${limit}; send smaller batches`;
}
