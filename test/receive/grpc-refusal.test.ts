/**
 * Goal: a call that is refused at its headers. Its answer is complete and counted once, also in a flood; a
 * client that goes on sending is ended and holds nothing up meanwhile.
 */
import { sensitiveHeaders } from 'node:http2';
import { describe, expect, test } from 'vitest';
import { type Verdict, later, never } from '../../src/model/outcome.ts';
import type { Admission } from '../../src/receive/ingest.ts';
import { MESSAGE, bare, client, endLater, front, start } from './grpc-front.ts';
import {
  ADMITTED, EXPORT, type Http2Reply, bareCall, call, frame, metric, status, until,
} from './support.ts';

const DELAY_MS = 1_500;
const BUSY = later('queue_full', 'the queue is full: 100 %', DELAY_MS);

/** A port that refuses everything, until it is told otherwise. */
async function refusing(verdict: () => Verdict = () => BUSY): Promise<{ letIn: () => void }> {
  let isShut = true;
  const door: Admission = {
    credentialHeaders: undefined,
    enter: ({ declaredBytes }) => (isShut ? verdict() : front.door.enter(declaredBytes)),
  };
  await start({ answer: () => ADMITTED, grpc: { door } });
  return {
    letIn() {
      isShut = false;
    },
  };
}

function delayOf({ headers }: Http2Reply): number | undefined {
  return status(Buffer.from(String(headers['grpc-status-details-bin']), 'base64')).retryDelayMs;
}

describe('the answer', () => {
  test.each<[string, Verdict, string, string, number | undefined]>([
    ['everybody waits', BUSY, '14', 'the queue is full: 100 %25', DELAY_MS],
    ['a tenant waits', later('tenant_rate', 'too fast', DELAY_MS), '8', 'too fast', DELAY_MS],
    ['the shortest delay', later('draining', 'gone', 0), '14', 'gone', 1],
    ['a delay of a day', later('tenant_quota', 'used up', 86_400_000), '8', 'used up', 86_400_000],
    ['never', never('forbidden', 'not yours'), '7', 'not yours', undefined],
  ])('%s: only trailers', async (_, verdict, code, message, delayMs) => {
    await refusing(() => verdict);
    const reply = await bareCall(bare(), EXPORT.traces, [frame(MESSAGE)]);
    expect(reply.headers).toMatchObject({
      ':status': 200,
      'content-type': 'application/grpc+proto',
      'grpc-status': code,
      'grpc-message': message,
    });
    expect([reply.trailers, reply.body.length, reply.rstCode]).toEqual([{}, 0, 0]);
    if (delayMs === undefined) expect(reply.headers).not.toHaveProperty('grpc-status-details-bin');
    else expect(delayOf(reply)).toBe(delayMs);
  });

  test('its details are kept out of the table of headers: each has a delay of its own', async () => {
    let delayMs = 1_000;
    await refusing(() => later('queue_full', 'full', ++delayMs));
    const session = bare();
    for (let i = 1; i <= 100; i++) {
      const reply = await bareCall(session, EXPORT.traces, [frame(MESSAGE)]);
      expect(delayOf(reply)).toBe(1_000 + i);
      expect(Reflect.get(reply.headers, sensitiveHeaders)).toEqual(['grpc-status-details-bin']);
    }
  });

  test.each([0, 1, 70_000, 8 << 20])('a stock client with %i bytes sees it', async (bytes) => {
    await refusing();
    const one = client();
    for (let i = 0; i < 3; i++) {
      const reply = await call(one, EXPORT.logs, Buffer.alloc(bytes));
      expect([reply.code, reply.message]).toEqual([14, BUSY.kind === 'later' ? BUSY.message : '']);
      expect(status(reply.details ?? Buffer.alloc(0)).retryDelayMs).toBe(DELAY_MS);
    }
  });
});

describe('counting', () => {
  test.each([
    ['a full queue', () => BUSY, {}, 'queue_full', '14'],
    ['an unknown encoding', () => ADMITTED, { 'grpc-encoding': 'snappy' }, 'unsupported_encoding', '12'],
  ])('%s: each call once', async (_, verdict, headers: Record<string, string>, reason, code) => {
    await refusing(verdict);
    const session = bare();
    for (let i = 0; i < 3; i++) await bareCall(session, EXPORT.metrics, [frame(MESSAGE)], headers);
    const labels = { signal: 'metrics', transport: 'grpc' };
    expect(await metric(front, 'requests_refused_total', { signal: 'metrics' })).toBe(3);
    expect(await metric(front, 'requests_refused_total', { signal: 'metrics', reason })).toBe(3);
    expect(await metric(front, 'requests_total')).toBe(3);
    expect(await metric(front, 'requests_total', { ...labels, encoding: 'protobuf', code })).toBe(3);
  });

  test('200 calls at once on one session: each is answered and counted', async () => {
    await refusing();
    const session = bare();
    const replies = await Promise.all(
      Array.from({ length: 200 }, () => bareCall(session, EXPORT.traces, [frame(Buffer.alloc(30_000))])),
    );
    expect(new Set(replies.map(({ headers }) => headers['grpc-status']))).toEqual(new Set(['14']));
    expect(await metric(front, 'requests_total', { code: '14' })).toBe(200);
    expect(front.taken).toEqual([]);
  });
});

describe('a client that goes on sending', () => {
  test('is ended without an error, and its session goes on', async () => {
    const { letIn } = await refusing();
    const session = bare();
    // More than the session's window: what isn't taken of it would keep the call after it waiting.
    const pieces = Array.from({ length: 100 }, () => Buffer.alloc(65_536));
    const sending = bareCall(session, EXPORT.traces, pieces, {}, { end: false });
    await until(async () => (await metric(front, 'requests_total', { code: '14' })) === 1);
    letIn();
    const next = await bareCall(session, EXPORT.traces, [frame(MESSAGE)]);
    expect(next.trailers['grpc-status']).toBe('0');
    const reply = await sending;
    expect([reply.headers['grpc-status'], reply.rstCode]).toEqual(['14', 0]);
    expect((await bareCall(session, EXPORT.traces, [frame(MESSAGE)])).trailers['grpc-status']).toBe('0');
  });

  test('is waited for when the port closes, until it is ended', async () => {
    await refusing();
    const session = bare();
    const sending = bareCall(session, EXPORT.traces, [], {}, { end: false });
    await until(async () => (await metric(front, 'requests_total', { code: '14' })) === 1);
    await front.grpc.close(60_000);
    expect((await sending).headers['grpc-status']).toBe('14');
  });

  test('and leaves takes nothing with it', async () => {
    await refusing();
    const session = bare();
    const leave = () => bareCall(session, EXPORT.traces, [], {}, { end: false });
    const leaving = Array.from({ length: 20 }, leave);
    await until(async () => (await metric(front, 'requests_total', { code: '14' })) === 20);
    session.destroy();
    await Promise.all(leaving);
    const other = bare();
    endLater(() => other.destroy());
    expect((await bareCall(other, EXPORT.traces, [frame(MESSAGE)])).headers['grpc-status']).toBe('14');
  });
});
