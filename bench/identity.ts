/**
 * How every item that is sent can be found again: which run, which request of the run and which item of the
 * request it is stands in its ids (spans, log records) or in its times (data points). One aggregate query
 * then says which requests lack items and which have some twice, without a list of what was sent.
 *
 * Ids of spans and log records look random, as real ones do: plain counters would make the ids compress to
 * nothing and every figure of the storage too good. So each pair of 32-bit words goes through a scramble that
 * can be undone, here and in SQL:
 *   SpanId  = scramble(request, item), keyed by the run
 *   TraceId = scramble(run, word 2) and scramble(request, trace of the request), the latter keyed by the run
 * Data points keep their few attributes (a unique one would make each a series of its own); a point is the
 * only one of its run at its nanosecond:
 *   StartTimeUnix = a moment that belongs to the run
 *   TimeUnix      = start of the window + request * 65,536 ns + item
 */
import { assert } from '../src/base/errors.ts';

/** Items of a request are numbered from 1 and stay below this. */
export const REQUEST_ITEMS_MAX = 65_535;
const NS_PER_REQUEST = 65_536;

/** The times of a run: all within one UTC day, so that inserts touch one partition as live data does. */
export interface Window {
  readonly startNs: bigint;
  readonly lengthNs: number;
}

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;

/**
 * What has passed of today (UTC), but an hour at least: neither retention nor limits on old records touch it.
 */
export function windowOfToday(nowMs: number): Window {
  const startMs = Math.floor(nowMs / DAY_MS) * DAY_MS;
  return { startNs: BigInt(startMs) * 1_000_000n, lengthNs: Math.max(nowMs - startMs, HOUR_MS) * 1e6 };
}

/** Points of the run carry this start: up to 72 minutes before the window, by the run's number. */
export function pointStartNs(run: number, window: Window): bigint {
  return window.startNs - BigInt(run) * 1000n;
}

/** ns after the start of the window. */
export function pointOffsetNs(request: number, item: number, window: Window): number {
  const offsetNs = request * NS_PER_REQUEST + item;
  assert(offsetNs < window.lengthNs, `request ${request} fits into the window of ${window.lengthNs} ns`);
  return offsetNs;
}

/** Two words at a time: results stand in the fields, so that no object is made per item. */
export class Scrambler {
  first = 0;
  second = 0;

  /** A bijection of 64 bits (three rounds of a Feistel network): different pairs stay different. */
  scramble(first: number, second: number, key: number): void {
    let left = (first ^ round(second, key)) >>> 0;
    const right = (second ^ round(left, ROUND_2)) >>> 0;
    left = (left ^ round(right, ROUND_3)) >>> 0;
    this.first = left;
    this.second = right;
  }

  unscramble(first: number, second: number, key: number): void {
    let left = (first ^ round(second, ROUND_3)) >>> 0;
    const right = (second ^ round(left, ROUND_2)) >>> 0;
    left = (left ^ round(right, key)) >>> 0;
    this.first = left;
    this.second = right;
  }
}

const MULTIPLIER = 0x85ebca6b;
const ROUND_2 = 0x9e3779b9;
const ROUND_3 = 0x7f4a7c15;
/** The run itself is scrambled with a key that every run knows. */
export const RUN_KEY = 0x51ce0001;

function round(word: number, key: number): number {
  const product = Math.imul(word ^ key, MULTIPLIER);
  return product ^ (product >>> 15);
}

/**
 * `count` words (32 bits, big-endian) of a hex id column as SQL aliases `<prefix>0`, `<prefix>1`…
 * A column that doesn't hold hex gives some number, which then belongs to no run.
 */
function wordsSql(column: string, prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => {
    const digits = `substring(${column}, ${index * 8 + 1}, 8)`;
    return `reinterpretAsUInt32(reverse(unhex(${digits}))) AS ${prefix}${index}`;
  });
}

function roundSql(word: string, key: number): string {
  const product = `toUInt32(bitXor(${word}, toUInt32(${key >>> 0})) * toUInt32(${MULTIPLIER}))`;
  return `bitXor(${product}, bitShiftRight(${product}, 15))`;
}

/** Undoes `scramble` in SQL: defines the aliases `<name>_first` and `<name>_second`. */
function unscrambleSql(first: string, second: string, key: number, name: string): string[] {
  return [
    `bitXor(${first}, ${roundSql(second, ROUND_3)}) AS ${name}_left`,
    `bitXor(${second}, ${roundSql(`${name}_left`, ROUND_2)}) AS ${name}_second`,
    `bitXor(${name}_left, ${roundSql(`${name}_second`, key)}) AS ${name}_first`,
  ];
}

/** A condition for rows of the run, and expressions for the request and the item of such a row. */
export interface RowIdentitySql {
  /** For a WITH clause. */
  readonly aliases: readonly string[];
  readonly condition: string;
  readonly request: string;
  readonly item: string;
}

/** For tables with TraceId, SpanId and Timestamp. */
export function idsSql(run: number, window: Window): RowIdentitySql {
  return {
    aliases: [
      ...wordsSql('TraceId', 'trace_word', 3),
      ...wordsSql('SpanId', 'span_word', 2),
      ...unscrambleSql('trace_word0', 'trace_word1', RUN_KEY, 'run'),
      ...unscrambleSql('span_word0', 'span_word1', run, 'span'),
    ],
    condition: `${timeSql('Timestamp', window)} AND run_first = ${run} AND run_second = trace_word2`,
    request: 'span_first',
    item: 'span_second',
  };
}

/** For tables with StartTimeUnix and TimeUnix in nanoseconds. */
export function pointsSql(run: number, window: Window): RowIdentitySql {
  const start = `fromUnixTimestamp64Nano(${pointStartNs(run, window)}, 'UTC')`;
  return {
    aliases: [`toUnixTimestamp64Nano(TimeUnix) - ${window.startNs} AS offset_ns`],
    condition: `${timeSql('TimeUnix', window)} AND StartTimeUnix = ${start}`,
    request: `toUInt32(intDiv(offset_ns, ${NS_PER_REQUEST}))`,
    item: `toUInt32(modulo(offset_ns, ${NS_PER_REQUEST}))`,
  };
}

/** Lets the server skip what is outside the window. */
export function timeSql(column: string, window: Window): string {
  const end = window.startNs + BigInt(window.lengthNs);
  const moment = (ns: bigint): string => `fromUnixTimestamp64Nano(${ns}, 'UTC')`;
  return `${column} >= ${moment(window.startNs)} AND ${column} < ${moment(end)}`;
}
