/** Writes plain objects as protobuf bytes by the tables of proto/fields.ts, and notes where the slots are. */
import { type Field, MESSAGES, type MessageName, type Scalar } from '../proto/fields.ts';
import { assert } from '../src/base/errors.ts';
import { isSlot, type Encoded, type Mark, type Slot, type Tree, type Value } from './corpus/slot.ts';

const WIRE_VARINT = 0;
const WIRE_64 = 1;
const WIRE_BYTES = 2;
const WIRE_32 = 5;

const utf8 = new TextEncoder();

/**
 * @param message what the object is
 * @param tree fields that are undefined are left out; fields that are present are written, zero or not
 * @returns a buffer of its own
 */
export function encodeProtobuf(message: MessageName, tree: Tree): Encoded {
  const sink = new Sink();
  writeMessage(sink, message, tree);
  return sink.done();
}

/** Bytes that grow, and the marks in them. */
class Sink {
  #bytes = new Uint8Array(256);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;
  readonly #marks: Mark[] = [];

  done(): Encoded {
    return { bytes: this.#bytes.subarray(0, this.#length), marks: this.#marks };
  }

  mark(slot: Slot, width: number): void {
    this.#marks.push({ slot, position: this.#length });
    this.#reserve(width);
    this.#length += width;
  }

  varint(value: bigint): void {
    let rest = BigInt.asUintN(64, value);
    while (rest >= 0x80n) {
      this.#byte(Number(rest & 0x7fn) | 0x80);
      rest >>= 7n;
    }
    this.#byte(Number(rest));
  }

  tag(number: number, wire: number): void {
    this.varint(BigInt((number << 3) | wire));
  }

  fixed32(value: number): void {
    this.#reserve(4);
    this.#view.setUint32(this.#length, value, true);
    this.#length += 4;
  }

  fixed64(value: bigint): void {
    this.#reserve(8);
    this.#view.setBigUint64(this.#length, BigInt.asUintN(64, value), true);
    this.#length += 8;
  }

  double(value: number): void {
    this.#reserve(8);
    this.#view.setFloat64(this.#length, value, true);
    this.#length += 8;
  }

  raw(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** A finished inner message with its length before it; its marks move along. */
  nested(inner: Encoded): void {
    this.varint(BigInt(inner.bytes.length));
    for (const { slot, position } of inner.marks)
      this.#marks.push({ slot, position: position + this.#length });
    this.raw(inner.bytes);
  }

  #byte(value: number): void {
    this.#reserve(1);
    this.#bytes[this.#length++] = value;
  }

  #reserve(more: number): void {
    if (this.#length + more <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(this.#bytes.length * 2, this.#length + more));
    grown.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}

function writeMessage(sink: Sink, message: MessageName, tree: Tree): void {
  for (const [name, value] of Object.entries(tree)) {
    if (value === undefined) continue;
    const field = MESSAGES[message][name];
    assert(field !== undefined, `${message} has a field ${name}`);
    if (field.repeated) writeRepeated(sink, field, value as readonly Value[]);
    else writeField(sink, field, value);
  }
}

function writeRepeated(sink: Sink, field: Field, values: readonly Value[]): void {
  const { type } = field;
  if (!isScalar(type) || wireOf(type) === WIRE_BYTES) {
    for (const value of values) writeField(sink, field, value);
    return;
  }
  const packed = new Sink();
  for (const value of values) writeScalar(packed, type, value);
  sink.tag(field.number, WIRE_BYTES);
  sink.nested(packed.done());
}

function writeField(sink: Sink, field: Field, value: Value): void {
  const { type } = field;
  if (isScalar(type)) {
    sink.tag(field.number, wireOf(type));
    writeScalar(sink, type, value);
    return;
  }
  const inner = new Sink();
  writeMessage(inner, type, value as Tree);
  sink.tag(field.number, WIRE_BYTES);
  sink.nested(inner.done());
}

function writeScalar(sink: Sink, type: Scalar, value: Value): void {
  if (isSlot(value)) writeSlot(sink, type, value);
  else if (type === 'double') sink.double(Number(value));
  else if (type === 'fixed32') sink.fixed32(Number(value));
  else if (type === 'fixed64' || type === 'sfixed64') sink.fixed64(BigInt(value as bigint));
  else if (type === 'sint32') sink.varint(zigzag(Number(value)));
  else if (type === 'string' || type === 'bytes') writeBytes(sink, value as string | Uint8Array);
  else sink.varint(BigInt(value as bigint));
}

function writeSlot(sink: Sink, type: Scalar, slot: Slot): void {
  const width = slot.slot === 'trace' ? 16 : 8;
  if (type === 'bytes') sink.varint(BigInt(width));
  sink.mark(slot, width);
}

function writeBytes(sink: Sink, value: string | Uint8Array): void {
  const bytes = typeof value === 'string' ? utf8.encode(value) : value;
  sink.varint(BigInt(bytes.length));
  sink.raw(bytes);
}

function zigzag(value: number): bigint {
  return BigInt(((value << 1) ^ (value >> 31)) >>> 0);
}

function isScalar(type: Field['type']): type is Scalar {
  return !Object.hasOwn(MESSAGES, type);
}

function wireOf(type: Scalar): number {
  switch (type) {
    case 'double':
    case 'fixed64':
    case 'sfixed64':
      return WIRE_64;
    case 'fixed32':
      return WIRE_32;
    case 'string':
    case 'bytes':
      return WIRE_BYTES;
    default:
      return WIRE_VARINT;
  }
}
