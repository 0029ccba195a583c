/**
 * Repeated requests that this gateway recognises by itself, by their marks (request-mark.ts): those that it
 * is storing now, and those that it has stored within their window. What it doesn't know here Redis may know:
 * the script that appends asks again, so this only saves work, and may forget at any time.
 *
 * A request that is remembered takes about 130 bytes (measured). How many may be is adapted to how short the
 * memory is.
 */
import { freemem, totalmem } from 'node:os';
import { tickMs } from '../base/clock.ts';
import type { Instruments } from '../metrics/instruments.ts';
import { NOTHING, type Outcome } from '../model/outcome.ts';

export interface ResendsOptions {
  /** Never fewer than these, while `entriesMax` lets them. */
  readonly entriesMin: number;
  readonly entriesMax: number;
  /** How short the memory is: 0 there is plenty … 1 there is none. */
  readonly pressure: () => number;
  readonly instruments: Pick<Instruments, 'resendCacheEntries' | 'resendCacheEntriesMax' | 'resendLookups'>;
  /** Monotonic. */
  readonly nowMs?: () => number;
}

/** Up to here `entriesMax` are remembered… */
const PRESSURE_LOW = 0.6;
/** …and from here on `entriesMin`. */
const PRESSURE_HIGH = 0.85;
/** Of the range between both, in one call of `refresh`. */
const STEP = 0.1;

export type Recalled =
  | { readonly kind: 'stored'; readonly outcome: Outcome }
  /** Settles as the promise that `begin` was given. */
  | { readonly kind: 'under_way'; readonly outcome: Promise<Outcome> };

interface Stored {
  /** Or how many records were accepted, where there is no more to say: of nearly every request. */
  readonly outcome: Outcome | number;
  readonly untilMs: number;
}

export class Resends {
  readonly #options: ResendsOptions;
  readonly #nowMs: () => number;
  /** As many as requests may be in flight (door.ts). */
  readonly #underWay = new Map<string, Promise<Outcome>>();
  /** In the order in which they were stored. */
  readonly #stored = new Map<string, Stored>();
  /**
   * Walks through them from the oldest on and is kept, since a Map's beginning is found slowly: every new
   * walk passes the places of all that were deleted there (measured: 12 µs, with 50,000 entries).
   */
  #walk = this.#stored.keys();
  /** Where the walk has come to; undefined when that is to be found out. */
  #oldest: string | undefined;
  #bound: number;
  #hits = 0;
  #misses = 0;

  constructor(options: ResendsOptions) {
    this.#options = options;
    this.#nowMs = options.nowMs ?? tickMs;
    this.#bound = this.#boundWanted();
    this.refresh();
  }

  /**
   * What is known of a request with this mark. Whoever gets `undefined` and stores it says so with `begin`
   * in the same turn of the event loop, so that a repetition which comes meanwhile finds it.
   */
  recall(mark: Uint8Array): Recalled | undefined {
    const name = nameOf(mark);
    const found = this.#underWayOf(name) ?? this.#storedOf(name);
    if (found === undefined) this.#misses += 1;
    else this.#hits += 1;
    return found;
  }

  /**
   * A request is under way until `stored` settles. Fulfilled, it is remembered for `windowSeconds` from then
   * on (0: not at all); rejected, it is forgotten.
   */
  begin(mark: Uint8Array, windowSeconds: number, stored: Promise<Outcome>): void {
    const name = nameOf(mark);
    this.#underWay.set(name, stored);
    const ended = () => {
      if (this.#underWay.get(name) === stored) this.#underWay.delete(name);
    };
    stored.then((outcome) => {
      ended();
      this.#remember(name, outcome, windowSeconds);
    }, ended);
  }

  /** Adapts the bound to the memory, forgets what has expired, sets the gauges. Once a second. */
  refresh(): void {
    const { instruments, entriesMin, entriesMax } = this.#options;
    const step = Math.ceil(Math.max(0, entriesMax - entriesMin) * STEP);
    const wanted = this.#boundWanted();
    this.#bound = Math.max(this.#bound - step, Math.min(this.#bound + step, wanted));
    this.#forgetExpired();
    this.#evict();
    instruments.resendCacheEntries.set(this.#stored.size + this.#underWay.size);
    instruments.resendCacheEntriesMax.set(this.#bound);
    instruments.resendLookups.inc({ result: 'hit' }, this.#hits);
    instruments.resendLookups.inc({ result: 'miss' }, this.#misses);
    this.#hits = 0;
    this.#misses = 0;
  }

  #underWayOf(name: string): Recalled | undefined {
    const outcome = this.#underWay.get(name);
    return outcome === undefined ? undefined : { kind: 'under_way', outcome };
  }

  #storedOf(name: string): Recalled | undefined {
    const entry = this.#stored.get(name);
    if (entry === undefined) return undefined;
    if (this.#nowMs() >= entry.untilMs) {
      this.#forget(name);
      return undefined;
    }
    const { outcome } = entry;
    return { kind: 'stored', outcome: typeof outcome === 'number' ? plain(outcome) : outcome };
  }

  #remember(name: string, outcome: Outcome, windowSeconds: number): void {
    if (windowSeconds <= 0) return;
    const isPlain = outcome.rejected === 0 && outcome.warnings.size === 0;
    // One that is there already has its turn anew.
    this.#forget(name);
    this.#stored.set(name, {
      outcome: isPlain ? outcome.accepted : outcome,
      untilMs: this.#nowMs() + windowSeconds * 1000,
    });
    this.#evict();
  }

  #evict(): void {
    while (this.#stored.size > this.#bound) this.#forget(this.#findOldest());
  }

  #forget(name: string): void {
    this.#stored.delete(name);
    if (this.#oldest === name) this.#oldest = undefined;
  }

  /** There is one. */
  #findOldest(): string {
    while (this.#oldest === undefined) {
      const next = this.#walk.next();
      // At its end a walk is over for good, even when more is stored later.
      if (next.done) this.#walk = this.#stored.keys();
      else this.#oldest = next.value;
    }
    return this.#oldest;
  }

  /** The oldest ones. With windows that differ, some expire behind others: those go when it is their turn. */
  #forgetExpired(): void {
    const nowMs = this.#nowMs();
    while (this.#stored.size > 0) {
      const oldest = this.#findOldest();
      if (nowMs < (this.#stored.get(oldest)?.untilMs ?? 0)) return;
      this.#forget(oldest);
    }
  }

  #boundWanted(): number {
    const { entriesMax, pressure } = this.#options;
    const entriesMin = Math.min(this.#options.entriesMin, entriesMax);
    const room = (PRESSURE_HIGH - pressure()) / (PRESSURE_HIGH - PRESSURE_LOW);
    return Math.round(entriesMin + (entriesMax - entriesMin) * Math.max(0, Math.min(1, room)));
  }
}

/**
 * How short the memory is: the part that this process has taken of what it may take, or the part of the
 * machine's that is taken, whichever is more. Reads /proc, about 0.1 ms.
 */
export function memoryPressure(): number {
  // Without a limit it is 0, or a number beyond all memory.
  const limit = process.constrainedMemory();
  const ours = process.memoryUsage.rss() / Math.min(limit > 0 ? limit : Number.POSITIVE_INFINITY, totalmem());
  return Math.min(1, Math.max(ours, 1 - freemem() / totalmem()));
}

/** A Map finds strings by their content; each byte is one character. */
function nameOf(mark: Uint8Array): string {
  return Buffer.from(mark.buffer, mark.byteOffset, mark.byteLength).toString('latin1');
}

function plain(accepted: number): Outcome {
  return { ...NOTHING, accepted };
}
