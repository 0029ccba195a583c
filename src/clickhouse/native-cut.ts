/**
 * Rows of a Native block as a block of their own. Values are copied as they are; only the ends of arrays are
 * counted anew, and dictionaries are taken over whole, with keys that the rows may not use.
 */
import { assert } from '../base/errors.ts';
import { type Place, type PlacedBlock, numberAt } from './native-walk.ts';

/** Rows [from, to) of a block, at least one; the result is new. */
export function cutRows(bytes: Uint8Array, block: PlacedBlock, from: number, to: number): Uint8Array {
  assert(from >= 0 && from < to && to <= block.rows, `rows ${from} to ${to} of ${block.rows}`);
  const cut = new Cut(bytes);
  cut.put(varint(block.columns.length), varint(to - from));
  for (const { at, values } of block.columns) {
    cut.copy(at, values.at);
    cut.values(values, from, to);
  }
  return Buffer.concat(cut.pieces);
}

class Cut {
  readonly pieces: Uint8Array[] = [];
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  put(...pieces: readonly Uint8Array[]): void {
    this.pieces.push(...pieces);
  }

  copy(at: number, end: number): void {
    if (end > at) this.pieces.push(this.#bytes.subarray(at, end));
  }

  values(place: Place, from: number, to: number): void {
    switch (place.kind) {
      case 'fixed':
        this.copy(place.at + from * place.type.bytes, place.at + to * place.type.bytes);
        break;
      case 'string': {
        const first = this.#skip(place.at, from);
        this.copy(first, this.#skip(first, to - from));
        break;
      }
      case 'low':
        // Without values there is no dictionary either.
        if (from === to) break;
        this.copy(place.at, place.keys.end);
        this.put(uint64(to - from));
        this.copy(place.ids + from * place.width, place.ids + to * place.width);
        break;
      case 'array': {
        const [first, end] = this.#ends(place.at, from, to);
        this.values(place.of, first, end);
        break;
      }
      case 'map': {
        const [first, end] = this.#ends(place.at, from, to);
        this.values(place.key, first, end);
        this.values(place.value, first, end);
        break;
      }
      case 'tuple':
        for (const each of place.of) this.values(each, from, to);
    }
  }

  /** Puts the ends of arrays [from, to), from 0 on. @returns their first element, and the one behind them */
  #ends(at: number, from: number, to: number): readonly [first: number, end: number] {
    const first = from === 0 ? 0 : numberAt(this.#view, at + (from - 1) * 8);
    const ends = new DataView(new ArrayBuffer((to - from) * 8));
    let end = first;
    for (let index = from; index < to; index++) {
      end = numberAt(this.#view, at + index * 8);
      putNumber(ends, (index - from) * 8, end - first);
    }
    this.put(new Uint8Array(ends.buffer));
    return [first, end];
  }

  /** Behind so many strings. */
  #skip(at: number, strings: number): number {
    let next = at;
    for (let left = strings; left > 0; left--) {
      let length = 0;
      for (let scale = 1; ; scale *= 128) {
        const byte = this.#bytes[next++] ?? 0;
        length += (byte & 0x7f) * scale;
        if (byte < 0x80) break;
      }
      next += length;
    }
    return next;
  }
}

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 0x80);
  return Uint8Array.from([...bytes, rest]);
}

function uint64(value: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(8));
  putNumber(view, 0, value);
  return new Uint8Array(view.buffer);
}

function putNumber(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 2 ** 32, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}
