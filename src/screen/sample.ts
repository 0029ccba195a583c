/**
 * Which records a sampling rule keeps. By OpenTelemetry's consistent probability sampling: the last 7 bytes
 * of a trace id are its randomness R, and a trace is kept where R is at least the threshold (1 - p) * 2^56.
 * So every gateway decides the same for all spans and logs of a trace, and what a lower percentage keeps a
 * higher one keeps too.
 */
import { load32 } from './wire.ts';

/** Of 56 bits, in halves. */
export interface Threshold {
  readonly high: number;
  readonly low: number;
}

export function thresholdOf(percent: number): Threshold {
  const value = BigInt(Math.round(((100 - percent) / 100) * 2 ** 56));
  return { high: Number(value >> 32n), low: Number(value & 0xffffffffn) };
}

/** Whether the record at [start, end) is kept; its trace id is at `id`, -1 for none. */
export function keepsRecord(
  threshold: Threshold,
  bytes: Uint8Array,
  id: number,
  start: number,
  end: number,
): boolean {
  if (id >= 0 && isTraceId(bytes, id)) return keepsTrace(threshold, bytes, id);
  return keepsBytes(threshold, bytes, start, end);
}

/** Whether the trace whose id of 16 bytes is at `at` is kept. */
export function keepsTrace({ high, low }: Threshold, bytes: Uint8Array, at: number): boolean {
  const upper =
    ((bytes[at + 9] as number) << 16) | ((bytes[at + 10] as number) << 8) | (bytes[at + 11] as number);
  if (upper !== high) return upper > high;
  const below = ((bytes[at + 12] as number) << 24) | ((bytes[at + 13] as number) << 16);
  return (below | ((bytes[at + 14] as number) << 8) | (bytes[at + 15] as number)) >>> 0 >= low;
}

/** Whether the record without a trace id at [start, end) is kept: by a hash of its bytes. */
export function keepsBytes({ high, low }: Threshold, bytes: Uint8Array, start: number, end: number): boolean {
  let hash = 0x811c9dc5;
  for (let p = start; p < end; p++) hash = Math.imul(hash ^ (bytes[p] as number), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  hash = (hash ^ (hash >>> 16)) >>> 0;
  // The upper 32 of 56 bits.
  const upper = hash >>> 8;
  return upper !== high ? upper > high : (hash & 255) * 2 ** 24 >= low;
}

/** Whether the id at `at` is one: all zero is as good as none. */
export function isTraceId(bytes: Uint8Array, at: number): boolean {
  if (load32(bytes, at + 12) !== 0 || load32(bytes, at + 8) !== 0) return true;
  return load32(bytes, at + 4) !== 0 || load32(bytes, at) !== 0;
}
