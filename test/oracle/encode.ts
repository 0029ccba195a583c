/**
 * A protobuf encoder from plain objects over proto/fields.ts, for tests. With `Chaos` it writes the same
 * message in one of the many ways that the encoding allows and decoders must accept: fields in any order,
 * numbers packed or not or in several chunks, overwritten earlier values, submessages in pieces, unknown
 * fields and groups, overlong varints.
 */
import { type Field, MESSAGES, type MessageName, type Scalar } from '../../proto/fields.ts';
import { wireTypeOf } from './decode.ts';
import type { Random } from './random.ts';

/**
 * Strings are written as UTF-8. A Uint8Array is written as it is: for a string, for bytes, or for a whole
 * submessage.
 */
export type Plain = number | bigint | boolean | string | Uint8Array | PlainMessage | readonly Plain[];
export interface PlainMessage {
  readonly [field: string]: Plain | undefined;
}

/** How probable each liberty is, from 0 to 1. */
export interface Chaos {
  readonly random: Random;
  readonly shuffle: number;
  readonly unpacked: number;
  readonly overwritten: number;
  readonly split: number;
  readonly unknown: number;
  readonly overlong: number;
}

type MaybeChaos = Chaos | undefined;

export function fullChaos(random: Random): Chaos {
  return { random, shuffle: 0.5, unpacked: 0.5, overwritten: 0.1, split: 0.2, unknown: 0.15, overlong: 0.05 };
}

/** One occurrence of a field. Occurrences with the same key keep their order when fields are shuffled. */
interface Piece {
  readonly key: string;
  readonly bytes: Uint8Array;
}

/** `overlong`: at least so many bytes. */
function varint(value: bigint, overlong: number): Uint8Array {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  do {
    bytes.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  } while (rest > 0n);
  for (let index = bytes.length; index < overlong; index++) bytes.push(0x80);
  bytes.push((bytes.pop() ?? 0) & 0x7f);
  return Uint8Array.from(bytes);
}

/** Tags and lengths are 32-bit varints: not every decoder takes more than five bytes for one. */
function varint32(value: number, chaos: MaybeChaos): Uint8Array {
  return varint(BigInt(value), chaos?.random.chance(chaos.overlong) ? 1 + chaos.random.int(5) : 1);
}

function tag(number: number, wireType: number, chaos: MaybeChaos): Uint8Array {
  return varint32(number * 8 + wireType, chaos);
}

function withLength(bytes: Uint8Array, chaos: MaybeChaos): Uint8Array {
  return Buffer.concat([varint32(bytes.byteLength, chaos), bytes]);
}

function asBigInt(value: Plain): bigint {
  if (typeof value === 'bigint') return value;
  if (typeof value === 'boolean') return value ? 1n : 0n;
  return BigInt(Number(value));
}

function asBytes(value: Plain): Uint8Array {
  if (value instanceof Uint8Array) return value;
  return Buffer.from(String(value), 'utf8');
}

function scalar(type: Scalar, value: Plain, chaos: MaybeChaos): Uint8Array {
  const fixed = Buffer.alloc(8);
  switch (type) {
    case 'string':
    case 'bytes':
      return withLength(asBytes(value), chaos);
    case 'fixed32':
      fixed.writeUInt32LE(Number(value));
      return fixed.subarray(0, 4);
    case 'fixed64':
    case 'sfixed64':
      fixed.writeBigUInt64LE(BigInt.asUintN(64, asBigInt(value)));
      return fixed;
    case 'double':
      fixed.writeDoubleLE(Number(value));
      return fixed;
    case 'sint32': {
      const number = asBigInt(value);
      return varint(number < 0n ? -2n * number - 1n : 2n * number, overlongOf(chaos));
    }
    default:
      return varint(asBigInt(value), overlongOf(chaos));
  }
}

function overlongOf(chaos: MaybeChaos): number {
  return chaos?.random.chance(chaos.overlong) ? 1 + chaos.random.int(10) : 1;
}

function isMessageName(type: Field['type']): type is MessageName {
  return Object.hasOwn(MESSAGES, type);
}

function isPlainMessage(value: Plain): value is PlainMessage {
  return typeof value === 'object' && !Array.isArray(value) && !(value instanceof Uint8Array);
}

/** A value of the field with its tag. */
function single(field: Field, value: Plain, chaos: MaybeChaos): Uint8Array {
  const head = tag(field.number, wireTypeOf(field.type), chaos);
  if (!isMessageName(field.type)) return Buffer.concat([head, scalar(field.type, value, chaos)]);
  if (value instanceof Uint8Array) return Buffer.concat([head, withLength(value, chaos)]);
  if (!isPlainMessage(value)) throw new Error(`a ${field.type} is wanted, not ${typeof value}`);
  return Buffer.concat([head, withLength(encode(field.type, value, chaos), chaos)]);
}

/** Repeated numbers: one packed run, or runs and single values in turn. */
function numbers(field: Field, type: Scalar, values: readonly Plain[], chaos: MaybeChaos): Uint8Array[] {
  const out: Uint8Array[] = [];
  for (let index = 0; index < values.length; ) {
    const rest = values.length - index;
    if (chaos?.random.chance(chaos.unpacked)) {
      out.push(single(field, values[index] ?? 0, chaos));
      index++;
      continue;
    }
    const count = chaos?.random.chance(chaos.unpacked) ? 1 + chaos.random.int(rest) : rest;
    const run = values.slice(index, index + count).map((value) => scalar(type, value, chaos));
    out.push(tag(field.number, 2, chaos), withLength(Buffer.concat(run), chaos));
    index += count;
  }
  // Tag and run belong together: one piece for the whole list keeps them so.
  return out.length === 0 ? [] : [Buffer.concat(out)];
}

/** Gives two messages that merge into the given one. */
function halves(type: MessageName, message: PlainMessage, random: Random): [PlainMessage, PlainMessage] {
  const first: Record<string, Plain | undefined> = {};
  const second: Record<string, Plain | undefined> = {};
  for (const [name, value] of Object.entries(message)) {
    const field = MESSAGES[type][name];
    if (field?.repeated && Array.isArray(value)) {
      const cut = random.int(value.length + 1);
      first[name] = value.slice(0, cut);
      second[name] = value.slice(cut);
    } else if (random.chance(0.5)) first[name] = value;
    else second[name] = value;
  }
  return [first, second];
}

/** An earlier value of a scalar, or of a rival in the oneof, which the real value must replace. */
function decoy(type: MessageName, name: string, field: Field, chaos: Chaos): Uint8Array | undefined {
  const { random } = chaos;
  const rivals = Object.entries(MESSAGES[type]).filter(
    ([other, { oneof }]) => oneof !== undefined && oneof === field.oneof && other !== name,
  );
  const chosen = rivals.length > 0 && random.chance(0.5) ? random.pick(rivals)[1] : field;
  if (!isMessageName(chosen.type)) return single(chosen, random.pick([0, 1, 7, 100]), chaos);
  return chosen === field ? undefined : single(chosen, {}, chaos);
}

function piecesOf(
  type: MessageName, name: string, field: Field, value: Plain, chaos: MaybeChaos,
): Piece[] {
  const key = field.oneof ?? name;
  const piece = (bytes: Uint8Array): Piece => ({ key, bytes });
  if (field.repeated) {
    if (!Array.isArray(value)) throw new Error(`${type}.${name} wants a list`);
    const items: readonly Plain[] = value;
    if (!isMessageName(field.type) && wireTypeOf(field.type) !== 2) {
      return numbers(field, field.type, items, chaos).map(piece);
    }
    return items.map((item) => piece(single(field, item, chaos)));
  }
  const pieces: Piece[] = [];
  if (chaos?.random.chance(chaos.overwritten)) {
    const earlier = decoy(type, name, field, chaos);
    if (earlier !== undefined) pieces.push(piece(earlier));
  }
  if (isMessageName(field.type) && isPlainMessage(value) && chaos?.random.chance(chaos.split)) {
    const both = halves(field.type, value, chaos.random);
    pieces.push(...both.map((half) => piece(single(field, half, chaos))));
  } else pieces.push(piece(single(field, value, chaos)));
  return pieces;
}

function unknownField(type: MessageName, chaos: Chaos, depth: number): Uint8Array {
  const { random } = chaos;
  const known = new Set(Object.values(MESSAGES[type]).map(({ number }) => number));
  const numbers = [17, 99, 1000, 20_000, 2 ** 29 - 1].filter((candidate) => !known.has(candidate));
  const number = random.pick(numbers);
  const wireType = random.pick(depth < 4 ? [0, 1, 2, 3, 5] : [0, 1, 2, 5]);
  const head = tag(number, wireType, chaos);
  if (wireType === 0) return Buffer.concat([head, varint(BigInt(random.int(2 ** 32)), overlongOf(chaos))]);
  if (wireType === 1) return Buffer.concat([head, Buffer.alloc(8, random.int(256))]);
  if (wireType === 5) return Buffer.concat([head, Buffer.alloc(4, random.int(256))]);
  if (wireType === 2) return Buffer.concat([head, withLength(Buffer.alloc(random.int(200), 0x0a), chaos)]);
  const inside = Array.from({ length: random.int(3) }, () => unknownField(type, chaos, depth + 1));
  return Buffer.concat([head, ...inside, tag(number, 4, chaos)]);
}

/** A known field with a wire type that it never has. */
function wrongWireType(type: MessageName, chaos: Chaos): Uint8Array {
  const field = chaos.random.pick(Object.values(MESSAGES[type]));
  const impossible = wireTypeOf(field.type) === 5 ? 1 : 5;
  return Buffer.concat([tag(field.number, impossible, chaos), Buffer.alloc(impossible === 5 ? 4 : 8, 0xff)]);
}

/** A random order of all pieces in which those of one key stay in theirs. */
function shuffled(pieces: readonly Piece[], random: Random): Piece[] {
  const keys = pieces.map(({ key }) => key);
  for (let index = keys.length - 1; index > 0; index--) {
    const other = random.int(index + 1);
    [keys[index], keys[other]] = [keys[other] ?? '', keys[index] ?? ''];
  }
  const queues = new Map<string, Piece[]>();
  for (const piece of pieces) queues.set(piece.key, [...(queues.get(piece.key) ?? []), piece]);
  return keys.map((key) => queues.get(key)?.shift()).filter((piece) => piece !== undefined);
}

/**
 * Without `chaos`: fields in the object's order, numbers packed, nothing twice.
 * @throws Error when the object has a field that the message lacks, or a value of another shape.
 */
export function encode(type: MessageName, message: PlainMessage, chaos?: Chaos): Uint8Array {
  let pieces: Piece[] = [];
  for (const [name, value] of Object.entries(message)) {
    if (value === undefined) continue;
    const field = MESSAGES[type][name];
    if (field === undefined) throw new Error(`${type} has no field ${name}`);
    pieces.push(...piecesOf(type, name, field, value, chaos));
  }
  if (chaos !== undefined) {
    const { random } = chaos;
    if (random.chance(chaos.unknown)) pieces.push({ key: 'unknown', bytes: unknownField(type, chaos, 0) });
    if (random.chance(chaos.unknown)) pieces.push({ key: 'wrong', bytes: wrongWireType(type, chaos) });
    if (random.chance(chaos.shuffle)) pieces = shuffled(pieces, random);
  }
  return Buffer.concat(pieces.map(({ bytes }) => bytes));
}
