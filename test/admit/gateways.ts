/** Gateways that count time series, with a clock and limits of the test's own, and a real Redis between them. */
import { afterAll, beforeAll, beforeEach, expect } from 'vitest';
import { Cardinality } from '../../src/admit/cardinality.ts';
import { Fault } from '../../src/base/errors.ts';
import type { Settings } from '../../src/config/settings.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import type { RedisCommands } from '../../src/redis/client.ts';
import type { LeanConnection } from '../../src/redis/lean.ts';
import { RedisServer, silent } from '../redis/server.ts';
import { settingsOf } from '../support/settings.ts';

let server: RedisServer;
/** There while tests run, empty before each. */
export let redis: LeanConnection;
let nowMs: number;
let limits: Settings['limits'];
/** The first moment of a half of every window that tests use. */
export const START_MS = 1_699_999_200_000;
export const HALF_MS = 30 * 60_000;

export function useGateways(): void {
  beforeAll(async () => {
    server = await RedisServer.start();
    redis = await server.connect();
  });
  afterAll(async () => {
    redis.close();
    await server.remove();
  });
  beforeEach(async () => {
    nowMs = START_MS;
    limits = { ...settingsOf().limits, seriesMax: 10 };
    await redis.command(['FLUSHALL']);
  });
}

/** All gateways have the same clock. */
export function setTime(ms: number): void {
  nowMs = ms;
}

export function pass(ms: number): void {
  nowMs += ms;
}

/** All gateways have the same limits, of 10 series unless a test says otherwise. */
export function setLimits(changes: Partial<Settings['limits']>): void {
  limits = { ...limits, ...changes };
}

export const away: RedisCommands = {
  command: () => Promise.reject(new Fault('redis_unavailable', 'here', 'nobody is there')),
};

export interface Gateway {
  readonly cardinality: Cardinality;
  readonly instruments: ReturnType<typeof createInstruments>;
  /** What was said at level warn. */
  readonly warnings: string[];
}

export function gatewayOf(through: RedisCommands = redis): Gateway {
  const instruments = createInstruments();
  const warnings: string[] = [];
  const logger = silent.child({}, { level: 'silent' });
  logger.warn = (_: unknown, message?: string) => void warnings.push(message ?? '');
  const cardinality = new Cardinality({
    settings: () => limits,
    redis: through,
    instruments,
    logger,
    everyMs: 5,
    nowMs: () => nowMs,
  });
  return { cardinality, instruments, warnings };
}

/** Well mixed halves of a hash, the same for the same number. */
export function hashOf(number: number, salt: number): number {
  let hash = Math.imul(number + 1, 0x9e3779b1) ^ Math.imul(salt + 1, 0x85ebca6b);
  for (const prime of [0x85ebca6b, 0xc2b2ae35]) hash = Math.imul(hash ^ (hash >>> 15), prime);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** One point of each of these series. */
export function points(metric: number, series: Iterable<number>): Uint32Array {
  return Uint32Array.from([...series].flatMap((n) => [metric, hashOf(n, 1), hashOf(n, 2)]));
}

export function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}

/** The places of the points that are beyond the limit. */
export function beyond({ cardinality }: Gateway, series: Uint32Array, tenant = 'acme'): number[] {
  const found = cardinality.check(tenant, series);
  if (found === undefined) return [];
  const places = range(0, series.length / 3).filter((ordinal) => found.isBeyond(ordinal));
  expect(found.points).toBe(places.length);
  return places;
}

export async function exchange(...gateways: Gateway[]): Promise<void> {
  for (const { cardinality } of gateways) await cardinality.exchange();
}
