/**
 * Goal: this process' own readings: smoothed, so that one bad tick is no reason, and off where they are not limited.
 */
import { afterEach, expect, test } from 'vitest';
import type { PressureReason } from '../../src/admit/pressure.ts';
import { type Inside, Vitals } from '../../src/admit/vitals.ts';
import { settingsOf } from '../support/settings.ts';

const BOUNDS = { ...settingsOf().pressure, commitMsMax: 100, memoryBytesMax: 2 ** 30 };
let vitals: Vitals;
afterEach(() => vitals.stop());

function ratio(reason: PressureReason): number | undefined {
  return vitals.readings.find((reading) => reading.reason === reason)?.ratio;
}

test('one slow commit is no reason to refuse, however slow; slow ones in a row are, and it fades', () => {
  vitals = new Vitals(() => undefined);
  vitals.committed(60_000);
  vitals.tick(BOUNDS);
  expect(ratio('commit_slow')).toBe(0.5);
  for (let i = 0; i < 20; i++) {
    vitals.committed(1_100, 10);
    vitals.tick(BOUNDS);
  }
  expect(ratio('commit_slow')).toBeCloseTo(1.1, 1);
  // Commits that are slow are few: what lies between two of them says little.
  vitals.tick(BOUNDS);
  expect(ratio('commit_slow')).toBeGreaterThan(1);
  for (let i = 0; i < 200; i++) vitals.tick(BOUNDS);
  expect(ratio('commit_slow')).toBe(0);
});

test('what is inside, against its limits; nothing before there is a door', () => {
  let inside: Inside | undefined;
  vitals = new Vitals(() => inside);
  vitals.tick(BOUNDS);
  expect(ratio('requests_in_flight')).toBeUndefined();
  inside = { requests: 50, requestsMax: 100, bytes: 300, bytesMax: 100 };
  for (let i = 0; i < 40; i++) vitals.tick(BOUNDS);
  expect(ratio('requests_in_flight')).toBeCloseTo(0.5, 3);
  // One bad moment weighs no more than twice its limit.
  expect(ratio('bytes_in_flight')).toBeCloseTo(2, 3);
});

test('memory is measured, and off where it is not limited', () => {
  vitals = new Vitals(() => undefined);
  for (let i = 0; i < 40; i++) vitals.tick(BOUNDS);
  const { rss } = process.memoryUsage();
  expect((ratio('memory') ?? 0) * BOUNDS.memoryBytesMax).toBeGreaterThan(rss * 0.8);
  expect((ratio('memory') ?? 0) * BOUNDS.memoryBytesMax).toBeLessThan(rss * 1.2);
  vitals.tick({ ...BOUNDS, memoryBytesMax: 'auto' });
  const limited = process.constrainedMemory() > 0 && process.constrainedMemory() < 2 ** 50;
  if (!limited) expect(ratio('memory')).toBeUndefined();
});
