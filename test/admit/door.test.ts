/** Goal: the door's bounds at their edges, and that whatever goes in comes out exactly once. */
import { describe, expect, test } from 'vitest';
import { Door, Ticket } from '../../src/admit/door.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';

const instruments = createInstruments();

function doorOf(requestsInFlightMax: number, bytesInFlightMax: number): Door {
  return new Door({ requestsInFlightMax, bytesInFlightMax }, instruments);
}

function enter(door: Door, declaredBytes = 0): Ticket {
  const entered = door.enter(declaredBytes);
  if (!(entered instanceof Ticket)) throw new Error(`turned away: ${entered.kind}`);
  return entered;
}

describe('requests in flight', () => {
  test('the last one is let in, the next is turned away, and comes in once somebody has left', () => {
    const door = doorOf(3, 100);
    const inside = [enter(door), enter(door), enter(door)];
    expect(door.enter(0)).toMatchObject({ kind: 'later', reason: 'requests_in_flight' });
    inside[0]?.leave();
    expect(door.enter(0)).toBeInstanceOf(Ticket);
    expect(door.requestsInFlight).toBe(3);
  });

  test('leaving twice counts once', () => {
    const door = doorOf(3, 100);
    const [first, second] = [enter(door), enter(door)];
    first.grow(10);
    second.grow(20);
    first.leave();
    first.leave();
    expect([door.requestsInFlight, door.bytesInFlight]).toEqual([1, 20]);
    second.leave();
    expect([door.requestsInFlight, door.bytesInFlight]).toEqual([0, 0]);
  });
});

describe('bytes in flight', () => {
  test('the last byte is let in, the next is turned away and not counted', () => {
    const door = doorOf(10, 100);
    const [first, second] = [enter(door), enter(door)];
    expect(first.grow(60)).toBeUndefined();
    expect(second.grow(40)).toBeUndefined();
    expect(second.grow(1)).toMatchObject({ kind: 'later', reason: 'bytes_in_flight' });
    expect(door.bytesInFlight).toBe(100);
    first.leave();
    expect(second.grow(60)).toBeUndefined();
    second.leave();
    expect(door.bytesInFlight).toBe(0);
  });

  test('a declared size that cannot fit is turned away, one that fits reserves nothing', () => {
    const door = doorOf(10, 100);
    const first = enter(door, 100);
    expect(door.bytesInFlight).toBe(0);
    expect(door.enter(101)).toMatchObject({ kind: 'later', reason: 'bytes_in_flight' });
    first.grow(1);
    expect(door.enter(100)).toMatchObject({ kind: 'later', reason: 'bytes_in_flight' });
    expect(door.requestsInFlight).toBe(1);
  });
});

test('a closed door turns everybody away, and those inside can still grow and leave', () => {
  const door = doorOf(10, 100);
  const inside = enter(door);
  door.close();
  expect(door.enter(0)).toMatchObject({ kind: 'later', reason: 'draining' });
  expect(inside.grow(10)).toBeUndefined();
  inside.leave();
  expect([door.requestsInFlight, door.bytesInFlight]).toEqual([0, 0]);
});

test('delays lie between one and five seconds and are spread', () => {
  const door = doorOf(0, 100);
  const delays = Array.from({ length: 200 }, () => {
    const verdict = door.enter(0);
    return verdict.kind === 'later' ? verdict.retryAfterMs : Number.NaN;
  });
  expect(Math.min(...delays)).toBeGreaterThanOrEqual(1000);
  expect(Math.max(...delays)).toBeLessThanOrEqual(5000);
  expect(new Set(delays).size).toBeGreaterThan(150);
});

test('a refusal names the number and the setting', () => {
  const full = doorOf(7, 100);
  for (let i = 0; i < 7; i++) enter(full);
  expect(full.enter(0)).toMatchObject({
    message: expect.stringMatching(/7 .*SLUICE_RECEIVE_REQUESTS_IN_FLIGHT_MAX/),
  });
  expect(doorOf(7, 100).enter(101)).toMatchObject({
    message: expect.stringMatching(/100 .*SLUICE_RECEIVE_BYTES_IN_FLIGHT_MAX/),
  });
});

test('the gauges follow', async () => {
  const door = doorOf(10, 100);
  enter(door).grow(42);
  const value = async (name: string) =>
    (await instruments.registry.getSingleMetric(name)?.get())?.values[0]?.value;
  expect(await value('sluice_requests_in_flight')).toBe(1);
  expect(await value('sluice_bytes_in_flight')).toBe(42);
});
