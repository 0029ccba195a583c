/** What a server answered to a request, told apart as the OTLP specification tells a client to. */
import type { Format } from '../template.ts';

/**
 * `code` is the HTTP status, `grpc 14`, or what happened to the connection: the label under which it is
 * counted.
 */
export type Answer =
  /** Stored, but for the items that the server counted as rejected. */
  | {
      readonly kind: 'acknowledged';
      readonly code: string;
      readonly rejected: number;
      readonly message: string;
    }
  /** Answered with a refusal: nothing of it is stored. */
  | {
      readonly kind: 'refused';
      readonly code: string;
      readonly retryable: boolean;
      readonly retryAfterMs: number | undefined;
      readonly message: string;
    }
  /** No answer: nobody knows whether it is stored. Clients send it again. */
  | { readonly kind: 'unanswered'; readonly code: string; readonly message: string };

export function unanswered(code: string, message: string): Answer {
  return { kind: 'unanswered', code, message };
}

/** Rejected items and the message of an Export<Signal>ServiceResponse; zero and empty where it has none. */
export function partialSuccess(body: Uint8Array, format: Format): { rejected: number; message: string } {
  if (format === 'json') return partialSuccessOfJson(body);
  const partial = submessage(body, 1);
  return {
    rejected: Number(varintField(partial, 1)),
    message: Buffer.from(submessage(partial, 2)).toString(),
  };
}

interface JsonResponse {
  readonly partialSuccess?: {
    readonly rejectedSpans?: unknown;
    readonly rejectedLogRecords?: unknown;
    readonly rejectedDataPoints?: unknown;
    readonly errorMessage?: unknown;
  };
}

function partialSuccessOfJson(body: Uint8Array): { rejected: number; message: string } {
  const partial = (jsonOf(body) as JsonResponse | undefined)?.partialSuccess ?? {};
  const count = partial.rejectedSpans ?? partial.rejectedLogRecords ?? partial.rejectedDataPoints ?? 0;
  return { rejected: Number(count), message: String(partial.errorMessage ?? '') };
}

/** The message of a google.rpc.Status; the raw text where the body is none. */
export function statusMessage(body: Uint8Array, format: Format): string {
  const text = Buffer.from(body).toString();
  if (format === 'json') return String((jsonOf(body) as { message?: unknown } | undefined)?.message ?? text);
  return Buffer.from(submessage(body, 2)).toString() || text.replace(/[^\x20-\x7e]/g, '.');
}

const TYPE_RETRY_INFO = 'google.rpc.RetryInfo';

/** The delay of the RetryInfo in an encoded google.rpc.Status; undefined where it has none. */
export function retryDelayMs(status: Uint8Array): number | undefined {
  for (const { number, bytes } of fieldsOf(status)) {
    if (number !== 3 || bytes === undefined) continue;
    if (!Buffer.from(submessage(bytes, 1)).toString().endsWith(TYPE_RETRY_INFO)) continue;
    const delay = submessage(submessage(bytes, 2), 1);
    return Number(varintField(delay, 1)) * 1000 + Number(varintField(delay, 2)) / 1e6;
  }
  return undefined;
}

function jsonOf(body: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(body).toString());
  } catch (error) {
    // Proxies answer in HTML: then there is simply no OTLP answer inside.
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

const NO_BYTES = new Uint8Array(0);

function submessage(message: Uint8Array, field: number): Uint8Array {
  let found: Uint8Array = NO_BYTES;
  for (const { number, bytes } of fieldsOf(message))
    if (number === field && bytes !== undefined) found = bytes;
  return found;
}

function varintField(message: Uint8Array, field: number): bigint {
  let found = 0n;
  for (const { number, varint } of fieldsOf(message))
    if (number === field && varint !== undefined) found = varint;
  return found;
}

interface WireField {
  readonly number: number;
  readonly varint?: bigint;
  readonly bytes?: Uint8Array;
}

/**
 * The fields up to the end, or up to where the bytes stop being protobuf: an answer is shown, never trusted.
 */
function fieldsOf(message: Uint8Array): WireField[] {
  const fields: WireField[] = [];
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = message[at++];
      if (byte === undefined) return value;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    return value;
  };
  while (at < message.length) {
    const tag = Number(varint());
    const number = tag >>> 3;
    if ((tag & 7) === 0) fields.push({ number, varint: varint() });
    else if ((tag & 7) === 2) {
      const length = Number(varint());
      fields.push({ number, bytes: message.subarray(at, at + length) });
      at += length;
    } else break;
  }
  return fields;
}
