/** Small requests, written byte by byte, for tests that need data and do not care much which. */
import { randomBytes } from 'node:crypto';

/** A protobuf writer for the few fields that these requests have. */
function field(number: number, wireType: number, ...parts: (Uint8Array | number[])[]): Buffer {
  return Buffer.concat([varint(number * 8 + wireType), ...parts.map((part) => Buffer.from(part))]);
}

function varint(value: number): Buffer {
  const out: number[] = [];
  let rest = value;
  while (rest > 127) {
    out.push((rest % 128) | 128);
    rest = Math.floor(rest / 128);
  }
  return Buffer.from([...out, rest]);
}

function message(number: number, ...fields: Uint8Array[]): Buffer {
  const body = Buffer.concat(fields);
  return field(number, 2, varint(body.length), body);
}

const text = (number: number, value: string) => message(number, Buffer.from(value));

function fixed64(number: number, value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return field(number, 1, bytes);
}

const attribute = (number: number, key: string, value: string) =>
  message(number, text(1, key), message(2, text(1, value)));

/** ExportTraceServiceRequest with `spans` spans, all different; span ids are `requestNumber` and the span's number. */
export function tracesRequest(spans: number, requestNumber = 0): Buffer {
  const now = BigInt(Date.now()) * 1_000_000n;
  const list = Array.from({ length: spans }, (_, i) => {
    const spanId = Buffer.alloc(8);
    spanId.writeUInt32BE(requestNumber + 1, 0);
    spanId.writeUInt32BE(i + 1, 4);
    return message(
      2,
      message(1, randomBytes(16)),
      message(2, spanId),
      text(5, 'test'),
      fixed64(7, now),
      fixed64(8, now + 1000n),
      attribute(9, 'test.number', String(i)),
    );
  });
  return message(
    1,
    message(1, attribute(1, 'service.name', 'test')),
    message(2, message(1, text(1, 'scope')), ...list),
  );
}

/** ExportLogsServiceRequest with `records` records whose body is `text`. */
export function logsRequest(records: number, body = 'hello'): Buffer {
  const now = BigInt(Date.now()) * 1_000_000n;
  const list = Array.from({ length: records }, () => message(2, fixed64(1, now), message(5, text(1, body))));
  return message(1, message(1, attribute(1, 'service.name', 'test')), message(2, ...list));
}
