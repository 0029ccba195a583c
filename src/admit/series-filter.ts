/**
 * Which time series of one metric were seen lately: exact in what it knows, compact in how.
 *
 * A series is the low half of its hash, its fingerprint, in a table with open addressing. Memory: 4 bytes a
 * slot, of which three in eight to three in four are taken, so 5.3 to 10.7 bytes for each series and
 * generation, 64 bytes at least. Two series with one fingerprint count as one: among n known series a new
 * one looks known with a probability of n / 2^32 (1 in 4,300 at a million), and is let in beyond the limit.
 * That is all the harm: a series that is known is always found, which a Bloom filter promises too, but that
 * can't say how many it holds, nor hand them to other gateways.
 *
 * A table that is full doubles at once: 2 ms at 50,000 series, 20 to 35 ms at a million (measured), once
 * each; in the next half of the window it begins with the size that it had.
 */

/** Of one half of the window. Fingerprints are signed 32-bit numbers other than 0. */
export class Fingerprints {
  #slots: Int32Array;
  /** A slot is the upper bits of a product. */
  #shift: number;
  #count = 0;

  /** @param expected about how many there will be */
  constructor(expected = 0) {
    this.#shift = SHIFT_MAX;
    while (expected * FILL_DIVISOR > (FULL_SHARE << (32 - this.#shift)) && this.#shift > SHIFT_MIN) {
      this.#shift -= 1;
    }
    this.#slots = new Int32Array(2 ** (32 - this.#shift));
  }

  get count(): number {
    return this.#count;
  }

  has(fingerprint: number): boolean {
    const slots = this.#slots;
    const mask = slots.length - 1;
    let slot = Math.imul(fingerprint, MULTIPLIER) >>> this.#shift;
    for (;;) {
      const found = slots[slot];
      if (found === fingerprint) return true;
      if (found === 0) return false;
      slot = (slot + 1) & mask;
    }
  }

  /** One that isn't in it. */
  add(fingerprint: number): void {
    if ((this.#count + 1) * FILL_DIVISOR > this.#slots.length * FULL_SHARE) this.#grow();
    this.#place(fingerprint);
    this.#count += 1;
  }

  /** All of them, in no order; the caller's. */
  values(): Int32Array {
    return this.#slots.filter((fingerprint) => fingerprint !== 0);
  }

  #place(fingerprint: number): void {
    const slots = this.#slots;
    const mask = slots.length - 1;
    let slot = Math.imul(fingerprint, MULTIPLIER) >>> this.#shift;
    while (slots[slot] !== 0) slot = (slot + 1) & mask;
    slots[slot] = fingerprint;
  }

  #grow(): void {
    const before = this.#slots;
    this.#shift -= 1;
    this.#slots = new Int32Array(before.length * 2);
    for (const fingerprint of before) if (fingerprint !== 0) this.#place(fingerprint);
  }
}

/** 16 slots at least, 2^26 at most to begin with. */
const SHIFT_MAX = 28;
const SHIFT_MIN = 6;
/** At most three slots in four are taken. */
const FULL_SHARE = 3;
const FILL_DIVISOR = 4;
/**
 * Odd, and of this process alone: nobody can choose series that all fall on one place of its tables
 * (multiplicative hashing: Dietzfelbinger et al., 1997).
 */
const MULTIPLIER = (Math.floor(Math.random() * 2 ** 31) * 2 + 1) | 0;

/** By the low half of a series' hash. */
export function fingerprintOf(low: number): number {
  const fingerprint = low | 0;
  return fingerprint === 0 ? 1 : fingerprint;
}

/**
 * `known`: seen in this half of the window; `added`: from now on; `beyond`: not, since there are too many.
 */
export type Seen = 'known' | 'added' | 'beyond';

/**
 * The series of one metric in two halves of the window. One is known from when it is seen until a whole half
 * has gone by without it: for half a window at least, for a whole one at most.
 */
export class SeriesFilter {
  #current = new Fingerprints();
  #previous = new Fingerprints();
  /** Those that are in both. */
  #renewed = 0;

  /** Different series in both halves. */
  get count(): number {
    return this.#current.count + this.#previous.count - this.#renewed;
  }

  /** One is seen. It is only new among fewer than `seriesMax`; those that are known always stay. */
  see(fingerprint: number, seriesMax: number): Seen {
    if (this.#current.has(fingerprint)) return 'known';
    const isRenewed = this.#previous.has(fingerprint);
    if (!isRenewed && this.count >= seriesMax) return 'beyond';
    if (isRenewed) this.#renewed += 1;
    this.#current.add(fingerprint);
    return 'added';
  }

  /** One that another gateway saw in the half before this one. */
  recall(fingerprint: number): void {
    if (this.#previous.has(fingerprint)) return;
    this.#previous.add(fingerprint);
    if (this.#current.has(fingerprint)) this.#renewed += 1;
  }

  /** Those seen in this half; the caller's. */
  current(): Int32Array {
    return this.#current.values();
  }

  /** The next half of the window begins. What it will hold is about what the last one did. */
  turn(): void {
    this.#previous = this.#current;
    this.#current = new Fingerprints(this.#previous.count);
    this.#renewed = 0;
  }
}
