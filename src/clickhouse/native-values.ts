/**
 * The values of a Native block, row by row, as ClickHouse shows them in JSON: for an operator who looks at
 * what could not be stored. 64-bit integers and times are strings, since a number has no room for them, and
 * so are floats that JSON doesn't know. Bytes that are no UTF-8 are shown with U+FFFD.
 */
import { BlockError } from './native-types.ts';
import { type Place, type PlacedBlock, numberAt } from './native-walk.ts';

export type Value = string | number | boolean | readonly Value[] | { readonly [key: string]: Value };
export type Row = Readonly<Record<string, Value>>;

/** Gives the next value of a column. */
type Next = () => Value;

/** @throws BlockError for an id that is in no dictionary, when it comes to its row */
export function* valuesOf(bytes: Uint8Array, block: PlacedBlock): Generator<Row, void, undefined> {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const columns = block.columns.map(({ name, values }) => [name, reader(buffer, values)] as const);
  for (let row = 0; row < block.rows; row++) {
    yield Object.fromEntries(columns.map(([name, next]) => [name, next()]));
  }
}

function reader(bytes: Buffer, place: Place): Next {
  switch (place.kind) {
    case 'fixed':
      return fixedReader(bytes, place);
    case 'string':
      return stringReader(bytes, place.at);
    case 'low':
      return lowReader(bytes, place);
    case 'array': {
      const next = reader(bytes, place.of);
      const length = lengthReader(bytes, place.at);
      return () => times(length(), next);
    }
    case 'map': {
      const key = reader(bytes, place.key);
      const value = reader(bytes, place.value);
      const length = lengthReader(bytes, place.at);
      return () => Object.fromEntries(times(length(), () => [String(key()), value()] as const));
    }
    case 'tuple': {
      const all = place.of.map((each) => reader(bytes, each));
      return () => all.map((next) => next());
    }
  }
}

function times<T>(count: number, next: () => T): T[] {
  const values: T[] = [];
  for (let left = count; left > 0; left--) values.push(next());
  return values;
}

/** Lengths of arrays, from where each ends. */
function lengthReader(bytes: Buffer, at: number): () => number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let place = at;
  let last = 0;
  return () => {
    const end = numberAt(view, place);
    const length = end - last;
    place += 8;
    last = end;
    return length;
  };
}

function stringReader(bytes: Buffer, at: number): () => string {
  let place = at;
  return () => {
    let length = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[place++] ?? 0;
      length += (byte & 0x7f) * scale;
      if (byte < 0x80) break;
    }
    place += length;
    return bytes.toString('utf8', place - length, place);
  };
}

function lowReader(bytes: Buffer, place: Place & { readonly kind: 'low' }): Next {
  const keys = times(place.keys.count, stringReader(bytes, place.keys.at));
  let at = place.ids;
  return () => {
    const id = bytes.readUIntLE(at, Math.min(place.width, 6));
    at += place.width;
    const key = keys[id];
    if (key === undefined) throw new BlockError('malformed', `a dictionary of ${keys.length} has no ${id}`);
    return key;
  };
}

function fixedReader(bytes: Buffer, { at, type }: Place & { readonly kind: 'fixed' }): Next {
  let next = at;
  return () => {
    const here = next;
    next += type.bytes;
    switch (type.as) {
      case 'bool':
        return bytes.readUInt8(here) !== 0;
      case 'float':
        return shownFloat(type.bytes === 4 ? bytes.readFloatLE(here) : bytes.readDoubleLE(here));
      case 'int':
        return type.bytes === 8 ? String(bytes.readBigInt64LE(here)) : bytes.readIntLE(here, type.bytes);
      case 'uint':
        return type.bytes === 8 ? String(bytes.readBigUInt64LE(here)) : bytes.readUIntLE(here, type.bytes);
      case 'time':
        return shownTime(bytes.readBigInt64LE(here), type.digits);
      case 'uuid':
        return shownUuid(bytes.subarray(here, next));
      case 'bytes':
        return bytes.toString('utf8', here, next);
    }
  };
}

function shownFloat(value: number): Value {
  if (Number.isFinite(value)) return value;
  if (Number.isNaN(value)) return 'nan';
  return value > 0 ? 'inf' : '-inf';
}

/** In UTC, with so many digits of a second. */
function shownTime(value: bigint, digits: number): string {
  const scale = 10n ** BigInt(digits);
  const fraction = ((value % scale) + scale) % scale;
  const seconds = (value - fraction) / scale;
  const date = new Date(Number(seconds) * 1000);
  if (Number.isNaN(date.getTime())) return String(value);
  const text = date.toISOString().slice(0, -5).replace('T', ' ');
  return digits === 0 ? text : `${text}.${String(fraction).padStart(digits, '0')}`;
}

/** Two numbers of 64 bits, each with its lowest byte first. */
function shownUuid(bytes: Buffer): string {
  const [high, low] = [bytes.readBigUInt64LE(0), bytes.readBigUInt64LE(8)];
  const hex = [high, low].map((half) => half.toString(16).padStart(16, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
