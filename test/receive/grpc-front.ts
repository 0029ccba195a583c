/**
 * What the tests of the gRPC port share: one front a test, its clients, and all of it ended and found empty
 * afterwards.
 */
import type grpc from '@grpc/grpc-js';
import { afterEach } from 'vitest';
import type { Verdict } from '../../src/model/outcome.ts';
import {
  ADMITTED,
  type Front,
  type FrontOptions,
  bareSession,
  empty,
  metric,
  startFront,
  stockClient,
  until,
} from './support.ts';

export const LIMIT = 100_000;
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
