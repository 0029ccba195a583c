/**
 * Goal: a gateway that leaves waits for those who have been asking whether it is ready, until they have heard three
 * times that it isn't; not for those who asked once, not for those who have stopped, and never beyond its bound.
 */
import { expect, test } from 'vitest';
import { Notice } from '../../src/app/notice.ts';
import { sleep } from '../../src/base/clock.ts';
import { until } from '../receive/support.ts';

const BOUND_MS = 60_000;
const NOBODY = [] as readonly string[];

/** Begins to leave; `over` says whether it has waited long enough. */
function leave(notice: Notice, msMax = BOUND_MS): { over: () => boolean; given: Promise<void> } {
  let over = false;
  const given = notice.given(msMax).then(() => {
    over = true;
  });
  return { over: () => over, given };
}

test.each([
  ['nobody asks', NOBODY],
  ['somebody asked once', ['a']],
  ['several did, once each', ['a', 'b']],
])('nobody is waited for: %s', async (_, asked) => {
  const notice = new Notice();
  for (const who of asked) notice.asked(who);
  await leave(notice).given;
});

test('two who watch are told three times each', async () => {
  const notice = new Notice();
  for (const who of ['a', 'b', 'a', 'b']) notice.asked(who);
  const sinceMs = performance.now();
  const { over, given } = leave(notice);
  for (const who of ['a', 'a', 'a', 'b', 'b']) notice.asked(who);
  await sleep(100);
  const wasOver = over();
  // Who asks so often and is silent for so long has stopped.
  expect(wasOver && performance.now() - sinceMs < 900).toBe(false);
  notice.asked('b');
  await given;
});

test('who comes only now knows at once', async () => {
  const notice = new Notice();
  const { given } = leave(notice);
  notice.asked('a');
  notice.asked('a');
  await given;
});

test('who stops asking is not waited for any longer', async () => {
  const notice = new Notice();
  for (let times = 0; times < 2; times++) notice.asked('a');
  const { over } = leave(notice);
  notice.asked('a');
  await until(over);
});

test('the bound holds', async () => {
  const notice = new Notice();
  notice.asked('a');
  await sleep(5);
  notice.asked('a');
  await leave(notice, 50).given;
});

test('of very many who ask the first are forgotten', async () => {
  const notice = new Notice();
  for (let times = 0; times < 2; times++) for (let who = 0; who <= 100; who++) notice.asked(`${who}`);
  await leave(notice, 50).given;
});
