/**
 * The log in Redis of one metric's series, as one gateway writes and reads it: one for each half of the
 * window, an entry is base64 of three fingerprints. What others have let in is known here once it is read;
 * what this gateway has let in and nobody wrote yet is to be written.
 */
import { Fingerprints, type SeriesFilter } from './series-filter.ts';

/** An entry is 12 bytes, so 16 characters, and can be read by itself. */
const FINGERPRINTS_OF_ENTRY = 3;
const FINGERPRINT_BYTES = 4;
/** A log that holds more than so many times the limit isn't taken in any further. */
const BEYOND_MAX = 2;

/** One half of the window. */
export interface Half {
  /** Counted up by this process: how old something is. */
  readonly turn: number;
  /** Since 1970, the same for all gateways. */
  readonly startSeconds: number;
  readonly seconds: number;
}

/** One log's part in an exchange. */
export interface SeriesPart {
  readonly key: string;
  readonly offset: number;
  /** Empty: only read. */
  readonly text: string;
  /**
   * What the script answered for it.
   * @param entries what others have written, read up to `offset`
   */
  done(offset: number, entries: string, answered: SeriesAnswer): void;
  /** There was no answer. */
  failed(): void;
}

export interface SeriesAnswer {
  /** There was room for the text. */
  readonly wasStored: boolean;
  /** All that others have written was read. */
  readonly isAtEnd: boolean;
}

interface Place {
  readonly key: string;
  offset: number;
}

export class SeriesLog {
  readonly #name: string;
  readonly #filter: SeriesFilter;
  readonly #seriesMax: () => number;
  #half: Half;
  #current: Place;
  /** Until it is read to its end once more after its half is over. */
  #previous: Place | undefined;
  /** What was read since the half began, until it is known what others have written. */
  #read: Fingerprints | undefined = new Fingerprints();
  #unwritten: number[] = [];

  constructor(tenant: string, hash: number, filter: SeriesFilter, half: Half, seriesMax: () => number) {
    this.#name = `${hexOf(hash)}:${tenant}`;
    this.#filter = filter;
    this.#seriesMax = seriesMax;
    this.#half = half;
    this.#current = this.#placeAt(half.startSeconds);
    this.#previous = this.#placeAt(half.startSeconds - half.seconds);
  }

  /** A series that this gateway has let in. */
  note(fingerprint: number): void {
    if (this.#read === undefined) this.#unwritten.push(fingerprint);
  }

  /** What is to be exchanged. @param fingerprintsMax what may be written at most */
  parts(half: Half, fingerprintsMax: number): SeriesPart[] {
    this.#turnTo(half);
    const parts = [this.#currentPart(fingerprintsMax)];
    if (this.#previous !== undefined) parts.push(this.#previousPart(this.#previous));
    return parts;
  }

  #turnTo(half: Half): void {
    const { startSeconds } = this.#half;
    if (half.startSeconds === startSeconds) return;
    const follows = half.startSeconds - half.seconds === startSeconds;
    this.#previous = follows ? this.#current : this.#placeAt(half.startSeconds - half.seconds);
    this.#current = this.#placeAt(half.startSeconds);
    this.#half = half;
    this.#read = new Fingerprints();
    this.#unwritten = [];
  }

  #currentPart(fingerprintsMax: number): SeriesPart {
    const place = this.#current;
    const written = this.#unwritten.splice(-Math.max(1, fingerprintsMax));
    return {
      key: place.key,
      offset: place.offset,
      text: textOf(written),
      done: (offset, entries, { wasStored, isAtEnd }) => {
        place.offset = offset;
        this.#take(place, entries);
        if (isAtEnd && this.#current === place) this.#caughtUp();
        // Without room others don't learn of them: the log of the next half begins empty.
        if (!wasStored) this.#unwritten = [];
      },
      failed: () => {
        if (this.#current === place) for (const fingerprint of written) this.#unwritten.push(fingerprint);
      },
    };
  }

  #previousPart(place: Place): SeriesPart {
    return {
      key: place.key,
      offset: place.offset,
      text: '',
      done: (offset, entries, { isAtEnd }) => {
        place.offset = offset;
        this.#take(place, entries);
        if (isAtEnd && this.#previous === place) this.#previous = undefined;
      },
      failed: () => undefined,
    };
  }

  /** Others' series. By when the answer comes, the current half may have become the previous one. */
  #take(place: Place, entries: string): void {
    const isCurrent = this.#current === place;
    if (!isCurrent && this.#previous !== place) return;
    const countMax = this.#seriesMax() * BEYOND_MAX;
    const bytes = Buffer.from(entries, 'base64');
    for (let at = 0; at + FINGERPRINT_BYTES <= bytes.length; at += FINGERPRINT_BYTES) {
      const fingerprint = bytes.readInt32LE(at);
      if (fingerprint === 0) continue;
      if (!isCurrent) this.#filter.recall(fingerprint);
      else this.#filter.see(fingerprint, countMax);
      if (isCurrent && this.#read?.has(fingerprint) === false) this.#read.add(fingerprint);
    }
  }

  /** From now on only what is new is written; before that what is known here and to nobody else. */
  #caughtUp(): void {
    const read = this.#read;
    if (read === undefined) return;
    this.#read = undefined;
    for (const fingerprint of this.#filter.current()) {
      if (!read.has(fingerprint)) this.#unwritten.push(fingerprint);
    }
  }

  #placeAt(startSeconds: number): Place {
    return { key: `${halfKey(startSeconds)}:${this.#name}`, offset: 0 };
  }
}

/** One hash tag: an exchange is one script, so all logs are in one slot of a Redis Cluster. */
export function halfKey(startSeconds: number): string {
  return `sluice:{series}:${startSeconds}`;
}

export function hexOf(hash: number): string {
  return (hash >>> 0).toString(16).padStart(8, '0');
}

/** Whole entries: the last fingerprint is repeated, which says nothing new. */
function textOf(fingerprints: readonly number[]): string {
  const last = fingerprints.at(-1);
  if (last === undefined) return '';
  const count = Math.ceil(fingerprints.length / FINGERPRINTS_OF_ENTRY) * FINGERPRINTS_OF_ENTRY;
  const bytes = Buffer.alloc(count * FINGERPRINT_BYTES);
  for (let i = 0; i < count; i++) bytes.writeInt32LE(fingerprints[i] ?? last, i * FINGERPRINT_BYTES);
  return bytes.toString('base64');
}
