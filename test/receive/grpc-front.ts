/**
 * What the tests of the gRPC port share: one front a test, its clients, and all of it ended and found empty
 * afterwards.
 */
import type grpc from '@grpc/grpc-js';
import { afterEach } from 'vitest';
import type { Verdict } from '../../src/model/outcome.ts';
import {
  ADMITTED,
  EXPORT,
  type Front,
  type FrontOptions,
  type Http2Reply,
  bareCall,
  bareSession,
  empty,
  frame,
  metric,
  startFront,
  stockClient,
  until,
} from './support.ts';

export const LIMIT = 100_000;
/** Short, for tests that wait until it is over. */
export const KEEP_ALIVE_MS = 250;
export let front: Front;
let closing: (() => unknown)[] = [];

export async function start(options: FrontOptions = {}): Promise<Front> {
  front = await startFront({ requestBytesMax: LIMIT, ...options });
  return front;
}

export function client(options: grpc.ClientOptions = {}) {
  const made = stockClient(front, options);
  closing.push(() => made.close());
  return made;
}

export function bare() {
  const session = bareSession(front);
  closing.push(() => session.destroy());
  return session;
}

/**
 * A call that the ingest has. Where sessions are kept for `KEEP_ALIVE_MS` only, a machine that stands still may end
 * one before its call has begun: then another one is made.
 */
export async function callInside(): Promise<{ readonly replied: Promise<Http2Reply> }> {
  const before = front.taken.length;
  for (;;) {
    const replied = bareCall(bare(), EXPORT.traces, [frame(MESSAGE)]);
    let over = false;
    replied.then(() => {
      over = true;
    });
    await until(() => over || front.taken.length > before);
    if (front.taken.length > before) return { replied };
  }
}

/** An ingest that waits until the test lets it go on. */
export function gate(): { open: () => void; opened: Promise<Verdict> } {
  let open: () => void = () => undefined;
  const opened = new Promise<Verdict>((resolve) => {
    open = () => resolve(ADMITTED);
  });
  return { open, opened };
}

/** Ends something after the test. */
export function endLater(close: () => unknown): void {
  closing.push(close);
}

export const MESSAGE = Buffer.from('message');

afterEach(async () => {
  for (const close of closing) close();
  closing = [];
  await empty(front);
  await front.close();
  await until(async () => (await metric(front, 'connections', { transport: 'grpc' })) === 0);
});
