/**
 * A protobuf decoder that knows nothing but proto/fields.ts: slow, plain, and written apart from the
 * transcoder, so that the two can be compared. Rules: the protobuf encoding guide. Last occurrence of a
 * singular field wins, submessages merge, setting a member of a oneof clears the others, repeated numbers
 * come packed or not, a known field with another wire type is unknown, unknown fields and whole groups are
 * skipped.
 */
import { type Field, MESSAGES, type MessageName, type Scalar } from '../../proto/fields.ts';

/**
 * Strings and bytes are "binary" strings, one char for each byte: nothing is lost, and order is byte order.
 */
export type Value = number | bigint | boolean | string | Message | readonly Value[];
/** Only fields that were present; 64-bit integers are bigint. */
export interface Message {
  [field: string]: Value;
}

export class DecodeError extends Error {
  readonly byteOffset: number;
  constructor(message: string, byteOffset: number) {
    super(`${message} at byte ${byteOffset}`);
    this.name = 'DecodeError';
    this.byteOffset = byteOffset;
  }
}

const FIELD_NUMBER_MAX = 2 ** 29 - 1;
const [VARINT, FIXED64, BYTES, GROUP, GROUP_END, FIXED32] = [0, 1, 2, 3, 4, 5];

const WIRE_TYPES: Readonly<Record<Scalar, number>> = {
  bool: VARINT,
  int32: VARINT,
  int64: VARINT,
  uint32: VARINT,
  uint64: VARINT,
  sint32: VARINT,
  enum: VARINT,
  fixed32: FIXED32,
  fixed64: FIXED64,
  sfixed64: FIXED64,
  double: FIXED64,
  string: BYTES,
  bytes: BYTES,
};

function isScalar(type: Field['type']): type is Scalar {
  return Object.hasOwn(WIRE_TYPES, type);
}

/** The wire type of one value of the field, not packed. */
export function wireTypeOf(type: Field['type']): number {
  return isScalar(type) ? WIRE_TYPES[type] : BYTES;
}

interface Entry {
  readonly name: string;
  readonly field: Field;
  /** The other members of its oneof. */
  readonly rivals: readonly string[];
}
const byNumber = new Map<MessageName, Map<number, Entry>>();

function entriesOf(message: MessageName): Map<number, Entry> {
  const known = byNumber.get(message);
  if (known !== undefined) return known;
  const all = Object.entries(MESSAGES[message]);
  const entries = all.map(([name, field]): [number, Entry] => {
    const siblings = all.filter(([, { oneof }]) => oneof !== undefined && oneof === field.oneof);
    const rivals = siblings.map(([other]) => other).filter((other) => other !== name);
    return [field.number, { name, field, rivals }];
  });
  const map = new Map(entries);
  byNumber.set(message, map);
  return map;
}

class Reader {
  readonly #bytes: Buffer;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  fail(message: string): never {
    throw new DecodeError(message, this.at);
  }

  #need(count: number, end: number): void {
    if (count > end - this.at) this.fail('truncated');
  }

  /** At most ten bytes; what a tenth has beyond 64 bits is dropped. */
  varint(end: number): bigint {
    let value = 0n;
    for (let index = 0; index < 10; index++) {
      this.#need(1, end);
      const byte = this.#bytes.readUInt8(this.at++);
      value |= BigInt(byte & 0x7f) << BigInt(7 * index);
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    return this.fail('varint of more than ten bytes');
  }

  tag(end: number): { readonly number: number; readonly wireType: number } {
    const tag = this.varint(end);
    const number = tag >> 3n;
    if (number < 1n || number > FIELD_NUMBER_MAX) this.fail('impossible field number');
    return { number: Number(number), wireType: Number(tag & 7n) };
  }

  /** Reads a length and gives the position where that many bytes end. */
  length(end: number): number {
    const length = this.varint(end);
    if (length > BigInt(end - this.at)) this.fail('a length beyond the end');
    return this.at + Number(length);
  }

  /** The bytes up to `end`, which is behind them then. */
  slice(end: number): Uint8Array {
    const bytes = this.#bytes.subarray(this.at, end);
    this.at = end;
    return bytes;
  }

  scalar(type: Scalar, end: number): Value {
    switch (WIRE_TYPES[type]) {
      case VARINT:
        return ofVarint(type, this.varint(end));
      case FIXED32:
        this.#need(4, end);
        this.at += 4;
        return this.#bytes.readUInt32LE(this.at - 4);
      case FIXED64:
        this.#need(8, end);
        this.at += 8;
        if (type === 'double') return this.#bytes.readDoubleLE(this.at - 8);
        if (type === 'sfixed64') return this.#bytes.readBigInt64LE(this.at - 8);
        return this.#bytes.readBigUInt64LE(this.at - 8);
      default: {
        const stop = this.length(end);
        const text = this.#bytes.toString('latin1', this.at, stop);
        this.at = stop;
        return text;
      }
    }
  }

  /** Skips a value of a field nobody asked for; a group is skipped with everything inside. */
  skip(number: number, wireType: number, end: number): void {
    const open: number[] = [];
    let field = { number, wireType };
    for (;;) {
      if (field.wireType === GROUP) open.push(field.number);
      else if (field.wireType === GROUP_END) {
        if (open.pop() !== field.number) this.fail('end of a group that was not begun');
      } else this.#skipOne(field.wireType, end);
      if (open.length === 0) return;
      field = this.tag(end);
    }
  }

  #skipOne(wireType: number, end: number): void {
    if (wireType === VARINT) this.varint(end);
    else if (wireType === BYTES) this.at = this.length(end);
    else if (wireType === FIXED64 || wireType === FIXED32) {
      const size = wireType === FIXED64 ? 8 : 4;
      this.#need(size, end);
      this.at += size;
    } else this.fail('impossible wire type');
  }
}

function ofVarint(type: Scalar, raw: bigint): Value {
  switch (type) {
    case 'bool':
      return raw !== 0n;
    case 'int64':
      return BigInt.asIntN(64, raw);
    case 'uint64':
      return raw;
    case 'uint32':
      return Number(BigInt.asUintN(32, raw));
    case 'sint32': {
      const half = BigInt.asUintN(32, raw) >> 1n;
      return Number((raw & 1n) === 0n ? half : -half - 1n);
    }
    default:
      return Number(BigInt.asIntN(32, raw));
  }
}

function listOf(into: Message, name: string): Value[] {
  const known = into[name];
  if (Array.isArray(known)) return known as Value[];
  const list: Value[] = [];
  into[name] = list;
  return list;
}

function isMessage(value: Value | undefined): value is Message {
  return typeof value === 'object' && !Array.isArray(value);
}

function readPacked(reader: Reader, type: Scalar, end: number, list: Value[]): void {
  const stop = reader.length(end);
  while (reader.at < stop) list.push(reader.scalar(type, stop));
}

/**
 * Singular submessages as `lazy` reads them: their pieces joined once no more can come, and not read at all
 * when a rival in the oneof came after them. The same for every valid message; of others some faults are not
 * seen.
 */
class Pieces {
  readonly #pieces = new Map<string, { readonly type: MessageName; readonly bytes: Uint8Array[] }>();

  add(name: string, type: MessageName, bytes: Uint8Array): void {
    const known = this.#pieces.get(name) ?? { type, bytes: [] };
    known.bytes.push(bytes);
    this.#pieces.set(name, known);
  }

  forget(name: string): void {
    this.#pieces.delete(name);
  }

  readInto(message: Message): void {
    for (const [name, { type, bytes }] of this.#pieces) {
      message[name] = decode(type, Buffer.concat(bytes), 'lazy');
    }
  }
}

function readMessage(reader: Reader, type: MessageName, end: number, into: Message, pieces?: Pieces): void {
  const entries = entriesOf(type);
  while (reader.at < end) {
    const { number, wireType } = reader.tag(end);
    const entry = entries.get(number);
    if (entry === undefined) {
      reader.skip(number, wireType, end);
      continue;
    }
    const { name, field, rivals } = entry;
    const wanted = wireTypeOf(field.type);
    const packed = field.repeated && wireType === BYTES && wanted !== BYTES;
    if (wireType !== wanted && !packed) {
      reader.skip(number, wireType, end);
      continue;
    }
    for (const rival of rivals) {
      delete into[rival];
      pieces?.forget(rival);
    }
    if (packed && isScalar(field.type)) readPacked(reader, field.type, end, listOf(into, name));
    else if (!isScalar(field.type)) readSubmessage(reader, name, field, end, into, pieces);
    else if (field.repeated) listOf(into, name).push(reader.scalar(field.type, end));
    else into[name] = reader.scalar(field.type, end);
  }
  pieces?.readInto(into);
}

function readSubmessage(
  reader: Reader,
  name: string,
  { type, repeated }: Field,
  end: number,
  into: Message,
  pieces: Pieces | undefined,
): void {
  if (isScalar(type)) return;
  const stop = reader.length(end);
  if (pieces !== undefined) {
    const bytes = reader.slice(stop);
    if (repeated) listOf(into, name).push(decode(type, bytes, 'lazy'));
    else pieces.add(name, type, bytes);
    return;
  }
  const known = repeated ? undefined : into[name];
  const message = isMessage(known) ? known : {};
  readMessage(reader, type, stop, message);
  if (repeated) listOf(into, name).push(message);
  else into[name] = message;
}

/**
 * @param reading `lazy` looks only into what counts in the end, as a fast decoder may (see Pieces).
 * @throws DecodeError when the bytes are no message.
 */
export function decode(type: MessageName, bytes: Uint8Array, reading: 'strict' | 'lazy' = 'strict'): Message {
  const message: Message = {};
  const pieces = reading === 'lazy' ? new Pieces() : undefined;
  readMessage(new Reader(bytes), type, bytes.byteLength, message, pieces);
  return message;
}
