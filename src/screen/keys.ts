/**
 * The attribute keys that rules ask for, found by their bytes. Most keys of a request are none of them: those
 * are told apart by their length and last byte alone.
 */
import { sameBytes } from './wire.ts';

export interface KeyEntry {
  readonly bytes: Uint8Array;
  readonly last: number | undefined;
  /** Where the scan notes the value for conditions; -1: nowhere. */
  readonly slot: number;
  /** Whether a rule replaces values under this key. */
  readonly isRedacted: boolean;
}

const MARKS = 1024;
/** The marks of a table without keys. */
export const NO_MARKS = new Uint8Array(MARKS);

export class KeyTable {
  /** How many slots the entries have. */
  readonly slots: number;
  /** At `markOf` of a key: not 0 if `find` may find it; never wrongly 0. */
  readonly marks = new Uint8Array(MARKS);
  /** The same, of the keys whose values are replaced. */
  readonly redactedMarks = new Uint8Array(MARKS);
  readonly #byLength: (KeyEntry[] | undefined)[] = [];

  /**
   * @param wanted keys whose values are asked for; the slot of each is its place
   * @param redacted keys whose values are replaced
   */
  constructor(wanted: readonly string[], redacted: Iterable<string>) {
    this.slots = wanted.length;
    const hidden = new Set(redacted);
    for (const key of new Set([...wanted, ...hidden])) {
      const bytes = Buffer.from(key);
      const entry = { bytes, last: bytes.at(-1), slot: wanted.indexOf(key), isRedacted: hidden.has(key) };
      const mark = markOf(bytes.length, entry.last ?? 0);
      this.marks[mark] = 1;
      if (entry.isRedacted) this.redactedMarks[mark] = 1;
      while (this.#byLength.length <= bytes.length) this.#byLength.push(undefined);
      const known = this.#byLength[bytes.length];
      if (known === undefined) this.#byLength[bytes.length] = [entry];
      else known.push(entry);
    }
  }

  find(bytes: Uint8Array, at: number, end: number): KeyEntry | undefined {
    const n = end - at;
    if (n >= this.#byLength.length) return undefined;
    const entries = this.#byLength[n];
    if (entries === undefined) return undefined;
    // Keys of a namespace begin alike.
    const last = bytes[end - 1];
    for (let i = 0; i < entries.length; i++) {
      const entry = entries[i] as KeyEntry;
      if (entry.last === last && sameBytes(bytes, at, entry.bytes)) return entry;
    }
    return undefined;
  }
}

/** Where the mark is of keys of this length with this last byte. */
export function markOf(length: number, last: number): number {
  return ((length << 5) ^ last) & (MARKS - 1);
}
