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

let logsRequests = 0;

/** ExportLogsServiceRequest with `records` records of this body; each request has another time. */
export function logsRequest(records: number, body = 'hello'): Buffer {
  const now = BigInt(Date.now()) * 1_000_000n + BigInt(logsRequests++ % 1_000_000);
  const list = Array.from({ length: records }, () => message(2, fixed64(1, now), message(5, text(1, body))));
  return message(1, message(1, attribute(1, 'service.name', 'test')), message(2, ...list));
}

/** Stands in a template where each span has its number, eight digits in hexadecimal. */
const NUMBER = '########';
const SPAN_ID_HEAD = 'cafe0000';
const ATTRIBUTES = Array.from(
  { length: 12 },
  (_, i) => [`attribute.${i}`, `value-${i}-${'x'.repeat(20)}`] as const,
);

export interface LargeRequest {
  readonly body: Buffer;
  readonly spans: number;
}

/**
 * ExportTraceServiceRequest of at most `bytes` with as many spans of about 550 bytes as fit. Number, name, span
 * id and the attribute `number` of each say the same, so that a mix-up shows.
 */
export function largeTracesRequest(bytes: number, service: string): LargeRequest {
  const time = BigInt(Date.now()) * 1_000_000n;
  const span = message(
    2,
    message(1, Buffer.alloc(16, 1)),
    message(2, Buffer.from(`${SPAN_ID_HEAD}00000000`, 'hex')),
    text(5, `span-${NUMBER}`),
    fixed64(7, time),
    fixed64(8, time + 1000n),
    attribute(9, 'number', NUMBER),
    ...ATTRIBUTES.map(([key, value]) => attribute(9, key, value)),
  );
  const inName = span.indexOf(NUMBER);
  const inAttribute = span.indexOf(NUMBER, inName + 1);
  const inSpanId = span.indexOf(Buffer.from(SPAN_ID_HEAD, 'hex')) + 4;
  const spans = Math.floor((bytes - 100) / span.length);
  const all = Buffer.alloc(spans * span.length);
  for (let number = 0; number < spans; number++) {
    const at = number * span.length;
    span.copy(all, at);
    all.writeUInt32BE(number, at + inSpanId);
    all.write(hexOf(number), at + inName);
    all.write(hexOf(number), at + inAttribute);
  }
  const resource = message(1, attribute(1, 'service.name', service));
  return { body: message(1, resource, message(2, all)), spans };
}

/** The same spans in OTLP/JSON. */
export function largeTracesJson(bytes: number, service: string): LargeRequest {
  const time = BigInt(Date.now()) * 1_000_000n;
  const json = ([key, value]: readonly [string, string]) => ({ key, value: { stringValue: value } });
  const template = JSON.stringify({
    traceId: '01'.repeat(16),
    spanId: `${SPAN_ID_HEAD}${NUMBER}`,
    name: `span-${NUMBER}`,
    startTimeUnixNano: String(time),
    endTimeUnixNano: String(time + 1000n),
    attributes: [['number', NUMBER] as const, ...ATTRIBUTES].map(json),
  });
  const resource = JSON.stringify({ attributes: [json(['service.name', service])] });
  const parts = template.split(NUMBER);
  const spans = Math.floor((bytes - 200) / (template.length + 1));
  const all = Array.from({ length: spans }, (_, number) => parts.join(hexOf(number))).join(',');
  const body = `{"resourceSpans":[{"resource":${resource},"scopeSpans":[{"spans":[${all}]}]}]}`;
  return { body: Buffer.from(body), spans };
}

function hexOf(number: number): string {
  return number.toString(16).padStart(8, '0');
}

/** Counts the stored spans of such a request: all, different ones, and those that are as they were sent. */
export function largeSpansQuery(service: string): string {
  return `SELECT count() AS rows, uniqExact(SpanId) AS spans, countIf(
      SpanId = concat('${SPAN_ID_HEAD}', substring(SpanName, 6)) AND SpanAttributes['number'] = substring(SpanName, 6)
      AND length(SpanAttributes) = ${ATTRIBUTES.length + 1} AND Duration = 1000
    ) AS whole FROM otel.otel_traces WHERE ServiceName = '${service}'`;
}
