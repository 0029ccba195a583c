/**
 * What the host calls: the exports of the WebAssembly module, and of the plain engine. A handle is the open
 * blocks of one signal; addresses lie in the engine's memory and move with it.
 *
 * Everything that is imported from here on is one text for two languages, TypeScript (the plain engine) and
 * AssemblyScript (the wasm engine). What that asks of it:
 * - 64-bit numbers never stand in variables: they are moved by address, or as two halves of u32.
 * - What the languages do differently (overflow, division, loads and stores) is left to memory.ts and its
 *   twin memory.as.ts; u32 is compared, added and shifted only where both agree.
 * - No strings, closures, exceptions, object literals or unions. Functions that give back two things leave
 *   the second in a global (POS, HIGH, MEMBER and so on): take it before the next call.
 * - `// @inline` before a function is a decorator of AssemblyScript, and a comment otherwise.
 * - No object per record: an object here lives as long as the open blocks.
 */
import { setCounts, setTimes } from './bounds.ts';
import { SIGNAL_LOGS, SIGNAL_TRACES } from './codes.ts';
import { Logs } from './logs.ts';
import { Metrics } from './metrics.ts';
import { setSeries } from './series.ts';
import type { SignalBlocks } from './signal-blocks.ts';
import { COUNTS } from './tally.ts';
import { TEXTS } from './texts.ts';
import { Traces } from './traces.ts';

const opened: SignalBlocks[] = [];

function at(handle: u32): SignalBlocks {
  return opened[handle] as SignalBlocks;
}

/** New open blocks of a signal (SIGNAL_… of codes.ts), for good: their handle. */
export function open(signal: u32, nestingMax: u32): u32 {
  if (signal === SIGNAL_TRACES) opened.push(new Traces(nestingMax));
  else if (signal === SIGNAL_LOGS) opened.push(new Logs(nestingMax));
  else opened.push(new Metrics(nestingMax));
  return opened.length - 1;
}

/** Where the host puts the words of codes.ts, once per memory. */
export function texts(): u32 {
  return TEXTS;
}

/** Where the host puts `n` bytes with the heads of a table's columns. */
export function heads(handle: u32, table: u32, n: u32): u32 {
  return at(handle).blocks.headsOf(table).open(n);
}

/** Where the host puts the ends of the shards' intervals, 4 bytes each: the sums of the weights so far. */
export function intervals(handle: u32): u32 {
  return at(handle).router.open();
}

/** From now on rows are shared out among so many shards (SHARDS_MAX at most), by their intervals. */
export function route(handle: u32, shards: u32): void {
  at(handle).router.begin(shards);
}

/** Where the host puts a request of `n` bytes. */
export function input(handle: u32, n: u32): u32 {
  return at(handle).inputFor(n);
}

/** Where the host puts the name of the tenant of later requests, `n` bytes; 0: they have none. */
export function tenant(handle: u32, n: u32): u32 {
  return at(handle).tenantFor(n);
}

// What holds for each `append` from now on, whatever the handle (bounds.ts, series.ts).

/** What no record may have more of; 0 is any number. */
export function boundCounts(attributes: u32, valueBytes: u32, events: u32, links: u32): void {
  setCounts(attributes, valueBytes, events, links);
}

/** The upper halves of the first and the last time; whether values may not be nested too deep. */
export function boundTimes(first: u32, last: u32, nesting: boolean): void {
  setTimes(first, last, nesting);
}

/** Whether series are wanted, and the halves of their seed. */
export function wantSeries(wanted: boolean, seedLow: u32, seedHigh: u32): void {
  setSeries(wanted, seedLow, seedHigh);
}

/**
 * Appends the request in the input, and tells whether it did: not when a record exceeds a bound. Leaves
 * through the host's `fail` when it is malformed: call `restore` then.
 */
export function append(handle: u32, n: u32): boolean {
  return at(handle).append(n);
}

/** Takes back what the last `append` added, or had added when it failed. */
export function restore(handle: u32): void {
  at(handle).restore();
}

/** The counters of the last `append`: COUNTERS numbers of 4 bytes, whatever the handle. */
export function counters(): u32 {
  return COUNTS;
}

/** The series of the last request: 12 bytes for each data point; and how many bytes. */
export function series(handle: u32): u32 {
  return at(handle).series.base;
}

export function seriesBytes(handle: u32): u32 {
  return at(handle).series.size();
}

export function rows(handle: u32): u32 {
  return at(handle).blocks.rows;
}

export function bytes(handle: u32): u32 {
  return at(handle).blocks.bytes;
}

/**
 * Ends the open blocks. Where the host finds them: numbers of 4 bytes, CLOSED_HEAD of them (where the first
 * block is, how many there are), then CLOSED_BLOCK for each (shard, table, rows, how far behind the first it
 * begins, bytes).
 */
export function close(handle: u32): u32 {
  return at(handle).close();
}
