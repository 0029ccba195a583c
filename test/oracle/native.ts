/**
 * A decoder of ClickHouse Native blocks as they go over HTTP (client revision 0), independent of what writes
 * them. A block: columns, rows, then for each column its name, its type, the prefixes of its dictionaries,
 * its data. Strict: everything a careful server could stumble over is an error (offsets that fall, indexes
 * beyond the dictionary, a key twice in a dictionary, bytes left over).
 */
import { type Cell, doubleBits, type Row } from './rows.ts';

export interface NativeBlock {
  readonly columns: readonly { readonly name: string; readonly type: string }[];
  readonly rows: readonly Row[];
}

const KEYS_VERSION = 1n;
const INDEX_TYPE_MASK = 0xffn;
const ADDITIONAL_KEYS_ONLY = 0x600n;

class Cursor {
  readonly bytes: Buffer;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  fail(message: string): never {
    throw new Error(`native block: ${message} at byte ${this.at} of ${this.bytes.length}`);
  }

  take(count: number): number {
    if (count > this.bytes.length - this.at) this.fail('cut short');
    this.at += count;
    return this.at - count;
  }

  varint(): number {
    let value = 0;
    for (let scale = 1; scale < 2 ** 50; scale *= 128) {
      const byte = this.bytes.readUInt8(this.take(1));
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
    return this.fail('varint too long');
  }

  string(): string {
    const length = this.varint();
    const start = this.take(length);
    return this.bytes.toString('latin1', start, start + length);
  }

  uint64(): bigint {
    return this.bytes.readBigUInt64LE(this.take(8));
  }

  /** End offsets of `count` arrays. */
  offsets(count: number): number[] {
    let last = 0;
    return repeat(count, () => {
      const end = Number(this.uint64());
      if (end < last) this.fail('offsets fall');
      last = end;
      return end;
    });
  }
}

/** Not Array.from: a lie in a count must end at the first value that is missing, before memory is taken. */
function repeat<T>(count: number, read: () => T): T[] {
  const values: T[] = [];
  for (let index = 0; index < count; index++) values.push(read());
  return values;
}

const FIXED: Readonly<Record<string, (cursor: Cursor) => Cell>> = {
  UInt8: (cursor) => cursor.bytes.readUInt8(cursor.take(1)),
  UInt32: (cursor) => cursor.bytes.readUInt32LE(cursor.take(4)),
  UInt64: (cursor) => cursor.uint64(),
  Int32: (cursor) => cursor.bytes.readInt32LE(cursor.take(4)),
  'DateTime64(9)': (cursor) => cursor.bytes.readBigInt64LE(cursor.take(8)),
  Float64: (cursor) => doubleBits(cursor.bytes.readDoubleLE(cursor.take(8))),
  Bool: (cursor) => {
    const byte = cursor.bytes.readUInt8(cursor.take(1));
    return byte > 1 ? cursor.fail('a Bool of more than 1') : byte === 1;
  },
  String: (cursor) => cursor.string(),
};

/** The parameters of `Name(a, b)`, split at the commas of the first level; undefined for another name. */
function parameters(type: string, name: string): readonly string[] | undefined {
  if (!type.startsWith(`${name}(`) || !type.endsWith(')')) return undefined;
  const parts = [''];
  let depth = 0;
  for (const char of type.slice(name.length + 1, -1)) {
    if (char === '(') depth++;
    if (char === ')') depth--;
    if (char === ',' && depth === 0) parts.push('');
    else parts.push(`${parts.pop()}${char}`);
  }
  return parts.map((part) => part.trim());
}

function readPrefixes(cursor: Cursor, type: string): void {
  if (parameters(type, 'LowCardinality') !== undefined && cursor.uint64() !== KEYS_VERSION) {
    cursor.fail('unknown version of a dictionary');
  }
  const inner = parameters(type, 'Array') ?? parameters(type, 'Map') ?? [];
  for (const part of inner) readPrefixes(cursor, part);
}

function readDictionary(cursor: Cursor, type: string, count: number): Cell[] {
  if (type !== 'String') cursor.fail(`no dictionary of ${type} is known`);
  if (count === 0) return [];
  const flags = cursor.uint64();
  const width = Number(flags & INDEX_TYPE_MASK);
  if (flags - BigInt(width) !== ADDITIONAL_KEYS_ONLY || width > 2) cursor.fail(`unknown flags ${flags}`);
  const keys = repeat(Number(cursor.uint64()), () => cursor.string());
  if (new Set(keys).size !== keys.length) cursor.fail('a key twice in a dictionary');
  if (cursor.uint64() !== BigInt(count)) cursor.fail('another number of indexes than of values');
  const size = 2 ** width;
  return repeat(count, () => {
    const key = keys[cursor.bytes.readUIntLE(cursor.take(size), size)];
    return key ?? cursor.fail('an index beyond the dictionary');
  });
}

function readMap(cursor: Cursor, [key = '', value = '']: readonly string[], count: number): Cell[] {
  const ends = cursor.offsets(count);
  const total = ends.at(-1) ?? 0;
  const keys = readValues(cursor, key, total);
  const values = readValues(cursor, value, total);
  const pairs = keys.map((each, index): Cell => [each, values[index] ?? '']);
  return ends.map((end, index) => pairs.slice(ends[index - 1] ?? 0, end));
}

function readValues(cursor: Cursor, type: string, count: number): Cell[] {
  const fixed = FIXED[type];
  if (fixed !== undefined) return repeat(count, () => fixed(cursor));
  const keyType = parameters(type, 'LowCardinality')?.[0];
  if (keyType !== undefined) return readDictionary(cursor, keyType, count);
  const mapTypes = parameters(type, 'Map');
  if (mapTypes !== undefined) return readMap(cursor, mapTypes, count);
  const elementType = parameters(type, 'Array')?.[0];
  if (elementType === undefined) return cursor.fail(`unknown type ${type}`);
  const ends = cursor.offsets(count);
  const elements = readValues(cursor, elementType, ends.at(-1) ?? 0);
  return ends.map((end, index) => elements.slice(ends[index - 1] ?? 0, end));
}

function readBlock(cursor: Cursor): NativeBlock {
  const width = cursor.varint();
  const height = cursor.varint();
  const columns: { name: string; type: string; values: Cell[] }[] = [];
  for (let index = 0; index < width; index++) {
    const name = cursor.string();
    const type = cursor.string();
    if (height > 0) readPrefixes(cursor, type);
    columns.push({ name, type, values: readValues(cursor, type, height) });
  }
  const rows = Array.from({ length: height }, (_, row): Row => {
    return Object.fromEntries(columns.map(({ name, values }) => [name, values[row] ?? '']));
  });
  return { columns: columns.map(({ name, type }) => ({ name, type })), rows };
}

/**
 * All blocks of a body, one after another.
 * @throws Error that says what is wrong, and where.
 */
export function decodeNative(bytes: Uint8Array): NativeBlock[] {
  const cursor = new Cursor(bytes);
  const blocks: NativeBlock[] = [];
  while (cursor.at < bytes.byteLength) blocks.push(readBlock(cursor));
  return blocks;
}
