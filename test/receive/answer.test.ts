/**
 * Goal: the table of all verdicts and their codes on both transports. A change of this table is a change of
 * what clients do with their data: the rows of the OTLP obligations that ask for each line stand beside it.
 */
import { describe, expect, test } from 'vitest';
import { LATER_REASONS, NEVER_REASONS, type NeverReason, SHARE_REASONS, later, never } from '../../src/model/outcome.ts';
import {
  MESSAGE_BYTES_MAX,
  type Reply,
  type WrongCall,
  grpcAnswer,
  httpAnswer,
  notGrpc,
} from '../../src/receive/answer.ts';
import { status } from './support.ts';

/** [HTTP, gRPC, rows] */
const NEVER: Readonly<Record<NeverReason, readonly [number, number, string]>> = {
  malformed: [400, 3, '9, 21'],
  undecodable_body: [400, 3, '9, 21'],
  too_large: [413, 8, '3, 15'],
  too_many_items: [413, 8, '3, 15'],
  unauthenticated: [401, 16, '9, 21'],
  forbidden: [403, 7, '9, 21'],
  unsupported_encoding: [415, 12, '1, 10'],
  unsupported_content_type: [415, 3, '13, 21'],
};
const WRONG: Readonly<Record<WrongCall, readonly [number, number, string]>> = {
  unknown_path: [404, 12, '14'],
  wrong_method: [405, 12, '13'],
  unknown_service: [404, 5, '14'],
};
const HTTP_RETRIED = new Set([429, 502, 503, 504]);
const GRPC_RETRIED = new Set([1, 4, 10, 11, 14, 15]);

test.each(NEVER_REASONS)('never %s', (reason) => {
  const [http, grpc] = NEVER[reason];
  const reply = never(reason, 'because');
  expect(httpAnswer(reply, 'traces', 'protobuf')).toMatchObject({ code: http, retryAfterSeconds: undefined });
  expect(grpcAnswer(reply, 'traces')).toEqual({
    code: grpc,
    message: 'because',
    details: undefined,
    frame: undefined,
  });
  expect(HTTP_RETRIED).not.toContain(http);
  expect(GRPC_RETRIED).not.toContain(grpc);
});

test.each(Object.keys(WRONG) as WrongCall[])('wrong %s', (reason) => {
  const [http, grpc] = WRONG[reason];
  const reply: Reply = { kind: 'wrong', reason, message: 'because' };
  expect(httpAnswer(reply, 'traces', 'text')).toMatchObject({ code: http, body: 'because\n' });
  expect(grpcAnswer(reply, 'traces').code).toBe(grpc);
});

test.each([
  ...LATER_REASONS.map((reason) => [reason, 503, 14] as const),
  ...SHARE_REASONS.map((reason) => [reason, 429, 8] as const),
])('later %s: rows 9, 11, 20, 22', (reason, http, grpc) => {
  const reply = later(reason, 'because', 1234.5);
  expect(httpAnswer(reply, 'traces', 'protobuf')).toMatchObject({ code: http, retryAfterSeconds: 2 });
  const answer = grpcAnswer(reply, 'traces');
  expect(answer.code).toBe(grpc);
  const details = status(Buffer.from(answer.details ?? '', 'base64'));
  expect(details).toMatchObject({ code: grpc, message: 'because' });
  expect(details.retryDelayMs).toBeCloseTo(1234.5, 3);
});

test('a surprise is for later too, and says nothing about our insides', () => {
  const reply: Reply = { kind: 'surprise', retryAfterMs: 1 };
  expect(httpAnswer(reply, 'logs', 'json')).toMatchObject({ code: 503, retryAfterSeconds: 1 });
  expect(grpcAnswer(reply, 'logs')).toMatchObject({ code: 14 });
});

test.each([
  [0, 1],
  [1, 1],
  [1000, 1],
  [1001, 2],
  [4999.9, 5],
])('a delay of %s ms is Retry-After: %s', (ms, seconds) => {
  expect(httpAnswer(later('draining', '', ms), 'traces', 'json').retryAfterSeconds).toBe(seconds);
});

test('those who do not speak gRPC on its port get a status of HTTP', () => {
  expect([notGrpc('wrong_method'), notGrpc('unsupported_content_type')]).toEqual([405, 415]);
});

describe('messages', () => {
  const shown = (message: string) => httpAnswer(never('malformed', message), 'traces', 'text').body;

  test('the longest that is kept whole, and the first that is cut', () => {
    expect(shown('a'.repeat(MESSAGE_BYTES_MAX))).toBe(`${'a'.repeat(MESSAGE_BYTES_MAX)}\n`);
    expect(shown('a'.repeat(MESSAGE_BYTES_MAX + 1))).toBe(`${'a'.repeat(MESSAGE_BYTES_MAX - 3)}…\n`);
  });

  test.each(['é', '€', '😀', 'a😀', 'ab€'])('cut between characters: %s', (unit) => {
    const text = String(shown(unit.repeat(MESSAGE_BYTES_MAX)));
    expect(text).not.toContain('\uFFFD');
    expect(Buffer.byteLength(text)).toBeLessThanOrEqual(MESSAGE_BYTES_MAX + 1);
    expect(Buffer.byteLength(text)).toBeGreaterThan(MESSAGE_BYTES_MAX - 8);
  });

  test.each([
    ['plain ~ text', 'plain ~ text'],
    ['100 %', '100 %25'],
    ['a\r\nb', 'a%0D%0Ab'],
    ['€ \u007f', '%E2%82%AC %7F'],
    ['', ''],
  ])('grpc-message of %j is %s', (message, encoded) => {
    expect(grpcAnswer(never('malformed', message), 'traces').message).toBe(encoded);
  });
});
