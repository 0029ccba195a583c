/**
 * The few protobuf messages that answers are made of, written by hand: Export*ServiceResponse of OTLP,
 * google.rpc.Status with RetryInfo, and a grpc.health.v1 answer. Their field numbers stand beside them. Never
 * on the path of a full success.
 */

const WIRE_VARINT = 0;
const WIRE_BYTES = 2;

/**
 * Export<Signal>ServiceResponse { partial_success = 1 { rejected_<items> = 1 (int64), error_message = 2 } }
 */
export function exportResponse(rejected: number, errorMessage: string): Buffer {
  return bytesField(1, Buffer.concat([varintField(1, rejected), stringField(2, errorMessage)]));
}

/** google.rpc.Status { code = 1 (int32), message = 2, details = 3 (Any) } */
export function rpcStatus(code: number, message: string, details: readonly Uint8Array[] = []): Buffer {
  return Buffer.concat([
    varintField(1, code),
    stringField(2, message),
    ...details.map((any) => bytesField(3, any)),
  ]);
}

/**
 * google.protobuf.Any { type_url = 1, value = 2 } of google.rpc.RetryInfo { retry_delay = 1 (Duration) },
 * google.protobuf.Duration { seconds = 1 (int64), nanos = 2 (int32) }
 */
export function retryInfo(delayMs: number): Buffer {
  const seconds = Math.floor(delayMs / 1000);
  const nanos = Math.round((delayMs - seconds * 1000) * 1e6);
  const duration = Buffer.concat([varintField(1, seconds), varintField(2, nanos)]);
  const typeUrl = stringField(1, 'type.googleapis.com/google.rpc.RetryInfo');
  return Buffer.concat([typeUrl, bytesField(2, bytesField(1, duration))]);
}

/** grpc.health.v1.HealthCheckResponse { status = 1 (enum) } */
export function healthResponse(status: number): Buffer {
  return varintField(1, status);
}

/**
 * grpc.health.v1.HealthCheckRequest { service = 1 }: the last one given, as protobuf has it.
 * @returns undefined when the bytes are no such message
 */
export function healthRequestService(message: Uint8Array): string | undefined {
  let service = '';
  let at = 0;
  while (at < message.length) {
    const tag = message[at++];
    const length = message[at++];
    // Names of services are shorter than 128 bytes, so a length of one byte is all that is understood.
    if (
      tag !== ((1 << 3) | WIRE_BYTES) ||
      length === undefined ||
      length > 127 ||
      at + length > message.length
    ) {
      return undefined;
    }
    service = Buffer.from(message.subarray(at, at + length)).toString('utf8');
    at += length;
  }
  return service;
}

/** Zero is left out, as proto3 does. */
function varintField(field: number, value: number): Buffer {
  return value === 0
    ? Buffer.alloc(0)
    : Buffer.from([...varint((field << 3) | WIRE_VARINT), ...varint(value)]);
}

function stringField(field: number, value: string): Buffer {
  return value === '' ? Buffer.alloc(0) : bytesField(field, Buffer.from(value, 'utf8'));
}

function bytesField(field: number, value: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([...varint((field << 3) | WIRE_BYTES), ...varint(value.length)]), value]);
}

/** Of a whole number from 0 to 2^53 - 1. */
function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  while (rest > 127) {
    bytes.push((rest % 128) | 128);
    rest = Math.floor(rest / 128);
  }
  bytes.push(rest);
  return bytes;
}
