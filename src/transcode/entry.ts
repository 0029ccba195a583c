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
import { SIGNAL_LOGS, SIGNAL_TRACES } from './codes.ts';
import { Logs } from './logs.ts';
import { Metrics } from './metrics.ts';
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

/**
 * Appends the request in the input; leaves through the host's `fail` when it is malformed: call `restore`
 * then.
 */
export function append(handle: u32, n: u32): void {
  at(handle).append(n);
}

export function restore(handle: u32): void {
  at(handle).restore();
}

/** The counters of the last `append`: COUNTERS numbers of 4 bytes, whatever the handle. */
export function counters(): u32 {
  return COUNTS;
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
