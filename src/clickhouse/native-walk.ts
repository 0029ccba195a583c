/**
 * Where the values of a Native block lie. Enters: the bytes of blocks as they go over HTTP (client revision
 * 0). Leaves: for each column a tree of places, without a copy. The layout is told in transcode/native.ts.
 *
 * Bytes are not believed: a length that reaches beyond the end is an error before anything is allocated or
 * counted up to it. What isn't checked are ids of dictionaries, which matter only to who reads the values.
 */
import { BlockError, type ColumnType, parseType } from './native-types.ts';

/** Where so many values of one type lie; `at` is the first byte, `end` the one behind the last. */
export type Place = { readonly at: number; readonly end: number; readonly count: number } & (
  | { readonly kind: 'fixed'; readonly type: ColumnType & { readonly kind: 'fixed' } }
  | { readonly kind: 'string' }
  | { readonly kind: 'low'; readonly keys: Place; readonly ids: number; readonly width: number }
  | { readonly kind: 'array'; readonly of: Place }
  | { readonly kind: 'map'; readonly key: Place; readonly value: Place }
  | { readonly kind: 'tuple'; readonly of: readonly Place[] }
);

export interface PlacedColumn {
  readonly name: string;
  /** Of its head: name, type and the versions of its dictionaries. */
  readonly at: number;
  readonly values: Place;
}

export interface PlacedBlock {
  readonly rows: number;
  readonly columns: readonly PlacedColumn[];
  readonly end: number;
  /** About what it takes in the server's memory, rather too much than too little. */
  readonly memoryBytes: number;
}

/** Keys of the dictionary are in the block: all of 0x600, and the width of the ids in the lowest byte. */
const KEYS_HERE = 0x600;
const ID_WIDTHS = [1, 2, 4, 8] as const;
const LOW_VERSION = 1;
/** What a server adds to each string: its end among the others, and in old ones a zero. */
const STRING_EXTRA_BYTES = 9;
/** An id in memory may be wider than on the way: dictionaries grow when blocks are put together. */
const ID_BYTES = 4;

/** The block that begins at `start`. @throws BlockError */
export function placeBlock(bytes: Uint8Array, start = 0): PlacedBlock {
  return new Walk(bytes, start).block();
}

/** The first figures of a block, whatever comes behind them. @throws BlockError */
export function rowsClaimed(bytes: Uint8Array): number {
  const walk = new Walk(bytes, 0);
  walk.varint();
  return walk.varint();
}

class Walk {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at: number;
  #memoryBytes = 0;

  constructor(bytes: Uint8Array, start: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#at = start;
  }

  block(): PlacedBlock {
    const start = this.#at;
    const width = this.varint();
    const rows = this.varint();
    if (width === 0 && rows > 0) throw this.#malformed(`${rows} rows without a column`);
    const columns: PlacedColumn[] = [];
    for (let index = 0; index < width; index++) columns.push(this.#column(rows));
    return { rows, columns, end: this.#at, memoryBytes: this.#at - start + this.#memoryBytes };
  }

  #column(rows: number): PlacedColumn {
    const at = this.#at;
    const name = this.#text();
    const type = parseType(this.#text());
    if (rows > 0) this.#versions(type);
    return { name, at, values: this.#values(type, rows) };
  }

  /** They stand before everything else of their column. */
  #versions(type: ColumnType): void {
    if (type.kind === 'low') {
      const version = this.#number();
      if (version !== LOW_VERSION) throw this.#malformed(`a dictionary of version ${version}`);
    } else if (type.kind === 'array') this.#versions(type.of);
    else if (type.kind === 'map') {
      this.#versions(type.key);
      this.#versions(type.value);
    } else if (type.kind === 'tuple') for (const each of type.of) this.#versions(each);
  }

  #values(type: ColumnType, count: number): Place {
    const at = this.#at;
    switch (type.kind) {
      case 'fixed':
        this.#take(count, type.bytes);
        return { kind: 'fixed', type, at, end: this.#at, count };
      case 'string':
        return this.#strings(count);
      case 'low':
        return this.#low(count);
      case 'array': {
        const of = this.#values(type.of, this.#ends(count));
        return { kind: 'array', of, at, end: this.#at, count };
      }
      case 'map': {
        const pairs = this.#ends(count);
        const key = this.#values(type.key, pairs);
        const value = this.#values(type.value, pairs);
        return { kind: 'map', key, value, at, end: this.#at, count };
      }
      case 'tuple': {
        const of = type.of.map((each) => this.#values(each, count));
        return { kind: 'tuple', of, at, end: this.#at, count };
      }
    }
  }

  #strings(count: number): Place {
    const at = this.#at;
    // Each takes a byte at least.
    this.#room(count, 1);
    for (let left = count; left > 0; left--) this.#take(this.varint(), 1);
    this.#memoryBytes += count * STRING_EXTRA_BYTES;
    return { kind: 'string', at, end: this.#at, count };
  }

  #low(count: number): Place {
    const at = this.#at;
    if (count === 0) {
      const keys: Place = { kind: 'string', at, end: at, count: 0 };
      return { kind: 'low', keys, ids: at, width: 1, at, end: at, count };
    }
    const flags = this.#number();
    const width = ID_WIDTHS[flags - KEYS_HERE];
    if (width === undefined) throw this.#malformed(`a dictionary with the flags ${flags}`);
    const keys = this.#strings(this.#number());
    const ids = this.#number();
    if (ids !== count) throw this.#malformed(`${ids} ids for ${count} values`);
    const first = this.#at;
    this.#take(count, width);
    this.#memoryBytes += count * ID_BYTES;
    return { kind: 'low', keys, ids: first, width, at, end: this.#at, count };
  }

  /** Where each of so many arrays ends. @returns how many elements they have together */
  #ends(count: number): number {
    const at = this.#at;
    this.#take(count, 8);
    let last = 0;
    for (let index = 0; index < count; index++) {
      const end = numberAt(this.#view, at + index * 8);
      if (end < last) throw this.#malformed('an array that ends before it begins');
      last = end;
    }
    this.#room(last, 1);
    return last;
  }

  #text(): string {
    const bytes = this.varint();
    const at = this.#at;
    this.#take(bytes, 1);
    return Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset + at, bytes).toString('utf8');
  }

  #number(): number {
    const at = this.#at;
    this.#take(1, 8);
    return numberAt(this.#view, at);
  }

  varint(): number {
    let value = 0;
    for (let scale = 1; scale < Number.MAX_SAFE_INTEGER / 128; scale *= 128) {
      const byte = this.#bytes[this.#at];
      if (byte === undefined) throw this.#malformed('it is cut off');
      this.#at += 1;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
    throw this.#malformed('a number without end');
  }

  #take(count: number, bytes: number): void {
    this.#room(count, bytes);
    this.#at += count * bytes;
  }

  #room(count: number, bytes: number): void {
    if (count * bytes > this.#bytes.length - this.#at) throw this.#malformed('it is cut off');
  }

  #malformed(what: string): BlockError {
    return new BlockError('malformed', `${what}, at byte ${this.#at} of ${this.#bytes.length}`);
  }
}

/** Beyond 2^53 it is not exact, and larger than anything that it is compared with. */
export function numberAt(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true);
}
