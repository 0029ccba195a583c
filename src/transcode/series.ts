/**
 * Names time series: a number of 64 bits for each data point, the same wherever and whenever a point of its
 * series comes. A series is a metric's name, a scope's name, the resource's attributes and the point's, as
 * they are stored and not as they were sent. Their order makes no difference, unless a point's keys repeat.
 *
 * A fingerprint for filters. It depends on a seed, so that nobody can aim at the series of others. One hash
 * goes on from the seed over all that makes a series; what points have in common is gone over once for them.
 */
import type { Bytes } from './bytes.ts';
import { addMixed, alloc, copy64, load32, mixText, scatter, store64 } from './memory.ts';

/** Whether series are wanted. */
export let NAMES_SERIES: boolean = false;

/**
 * How many attributes the point before had whose keys are gone over; NONE when there is no such point of the
 * same metric right before in the block.
 */
export let KEYS_KNOWN: u32 = 0;
const NONE: u32 = 0x7fffffff;

// Hashes, 8 bytes each: the beginning of all; that of the metric's name; and on the way to a series that of
// resource and scope, then with the metric, then with the keys of the attributes, then the series itself.
const SEED: u32 = alloc(8);
const NAME: u32 = alloc(8);
const SCOPE: u32 = alloc(8);
const METRIC: u32 = alloc(8);
const KEYS: u32 = alloc(8);
const SERIES: u32 = alloc(8);

/** The golden ratio: a seed of 0 begins with bits, too. */
const SEED_LOW: u32 = 0x7f4a7c15;
const SEED_HIGH: u32 = 0x9e3779b9;

/** The seed as two halves. */
export function setSeries(wanted: boolean, low: u32, high: u32): void {
  NAMES_SERIES = wanted;
  store64(SEED, (low ^ SEED_LOW) >>> 0, (high ^ SEED_HIGH) >>> 0);
}

/** Begins the sum of a resource's attributes in the 8 bytes at `sum`. */
export function beginSum(sum: u32): void {
  store64(sum, 0, 0);
}

/** Adds an attribute to it: the value as it is stored, its length before it. */
export function addPair(sum: u32, key: u32, keyLength: u32, value: u32, n: u32): void {
  mixText(KEYS, SEED, key, keyLength);
  addMixed(sum, KEYS, value, n);
}

/** The metrics that come are of this scope, and of the resource with this sum. */
export function enterScope(sum: u32, name: u32, n: u32): void {
  mixText(SCOPE, SEED, sum, 8);
  mixText(SCOPE, SCOPE, name, n);
}

/** The points that come are of this metric. */
export function enterMetric(name: u32, n: u32): void {
  mixText(NAME, SEED, name, n);
  mixText(METRIC, SCOPE, NAME, 8);
  scatter(NAME, NAME);
  KEYS_KNOWN = NONE;
}

/** The next point has other keys than the one before, so many; `addKey` for each, in their order. */
export function beginKeys(count: u32): void {
  copy64(KEYS, METRIC);
  KEYS_KNOWN = count;
}

export function addKey(p: u32, n: u32): void {
  mixText(KEYS, KEYS, p, n);
}

/** The series of a point with these keys and, in the same order, values as they are stored. */
export function nameSeries(values: u32, n: u32): void {
  mixText(SERIES, KEYS, values, n);
  scatter(SERIES, SERIES);
}

/**
 * Appends the hash of the metric's name and the point's series, 4 and 8 bytes.
 * @param isStored false: its row was taken back, and the numbers of its keys with it
 */
export function putSeries(to: Bytes, isStored: boolean): void {
  to.put32(load32(NAME));
  to.put64(SERIES);
  if (!isStored) KEYS_KNOWN = NONE;
}
