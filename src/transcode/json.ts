/**
 * OTLP/JSON → the same request as protobuf bytes, so that one hot path and one set of rules do for both.
 *
 * Enters: the text of an Export<Signal>ServiceRequest. Leaves: its protobuf bytes; `Malformed` where the text
 * is no JSON, or a value can't be what its field is. The rules are those of the OTLP specification, section
 * "JSON Protobuf Encoding", and for the rest proto3's JSON mapping:
 * - keys in lowerCamelCase only; others are unknown and passed over, like every key that isn't in the table;
 * - ids in hexadecimal digits, enums as integers (their names are understood too), bytes in base64;
 * - integers and doubles as numbers or strings, with every digit; `NaN` and infinities as strings;
 * - `null` is a field that isn't there;
 * - a key that comes twice is what it is in protobuf: the last scalar wins, messages merge, lists append.
 *
 * JSON.parse won't do: it rounds 64-bit integers, and its tree of objects costs more than everything after
 * it. This reads the text once, guided by the table of json-fields.ts, and writes as it reads. The length of
 * a message, which protobuf wants before it, is filled in when the message ends.
 */
import type { Signal } from '../model/signal.ts';
import { copyPlainKey, copyPlainText } from './json-attribute.ts';
import {
  BACKSLASH,
  CLOSE_BRACE,
  CLOSE_BRACKET,
  COMMA,
  isDigit,
  JsonCursor,
  LOWER_F,
  LOWER_N,
  LOWER_T,
  MINUS,
  OPEN_BRACE,
  OPEN_BRACKET,
  QUOTE,
} from './json-cursor.ts';
import {
  ANY_VALUE,
  type FieldType,
  KEY_VALUE,
  KIND,
  type MessageType,
  REQUEST_TYPES,
} from './json-fields.ts';
import {
  INT32,
  INT64,
  Integer,
  type IntegerRange,
  readDouble,
  readInteger,
  UINT32,
  UINT64,
} from './json-numbers.ts';
import { copyBase64, copyHex, copyString, readText, skipString } from './json-strings.ts';
import { ProtobufWriter } from './json-writer.ts';

/**
 * Levels of JSON from one AnyValue to the next: of a kvlistValue the value, its list, the array, the pair.
 */
const LEVELS_PER_VALUE = 4;
/** More than the levels of any request around its AnyValues (15: the exemplars of a metric). */
const LEVELS_AROUND = 64;
/** The call stack holds about twice as many, before any function is optimised. */
const LEVELS_CEILING = 2048;
/** From here on a message's length gets the most bytes: no message is moved again by each level around it. */
const DEEP_LEVEL = 18;
const DEEP_LENGTH_BYTES = 5;
/** Set aside for the length of a packed list: it holds about a hundred numbers more often than more. */
const PACKED_LENGTH_BYTES = 2;

/** What the values of integer kinds may be, by kind. */
const RANGES: Readonly<Record<number, IntegerRange>> = {
  [KIND.enum]: INT32,
  [KIND.int64]: INT64,
  [KIND.uint32]: UINT32,
  [KIND.uint64]: UINT64,
  [KIND.sint32]: INT32,
  [KIND.fixed32]: UINT32,
  [KIND.fixed64]: UINT64,
  [KIND.sfixed64]: INT64,
};

const cursor: JsonCursor = new JsonCursor();
const writer = new ProtobufWriter();
const integer = new Integer();
let levelsMax = 0;

/**
 * Converts a whole request.
 * @param json only read during the call.
 * @param nestingMax how deep AnyValues may nest. Somewhat deeper ones are still converted, so that the
 * transcoder
 *   can refuse the record that has them; far deeper ones make the whole request malformed.
 * @returns a view into memory that the next call writes over.
 * @throws Malformed with the offset in `json`, bytes.
 */
export function jsonToProtobuf(signal: Signal, json: Uint8Array, nestingMax: number): Uint8Array {
  cursor.load(json);
  writer.reset();
  levelsMax = Math.min(nestingMax * LEVELS_PER_VALUE + LEVELS_AROUND, LEVELS_CEILING);
  // A byte order mark is allowed to be ignored (RFC 8259, 8.1), and some senders write it.
  if (json[0] === 0xef && json[1] === 0xbb && json[2] === 0xbf) cursor.at = 3;
  if (cursor.peek() !== OPEN_BRACE) cursor.unexpected('an object, the request,');
  copyMessage(REQUEST_TYPES[signal], 1);
  cursor.peek();
  if (!cursor.done) cursor.unexpected('nothing behind the request');
  return writer.bytes.subarray(0, writer.at);
}

/** Copies the object at the cursor as fields of a message. `level` counts objects and arrays around it. */
function copyMessage(type: MessageType, level: number): void {
  if (level > levelsMax) refuseNesting();
  cursor.at++;
  if (cursor.peek() === CLOSE_BRACE) {
    cursor.at++;
    return;
  }
  let before: FieldType | undefined;
  do {
    cursor.peek();
    const guess = before === undefined ? type.first : before.next;
    const field = readKey(type, guess);
    cursor.colon();
    const byte = cursor.peek();
    if (field === undefined) {
      skipValue(byte, level + 1);
    } else {
      if (field !== guess) {
        if (before === undefined) type.first = field;
        else before.next = field;
      }
      before = field;
      copyField(field, byte, level + 1);
    }
  } while (isMore(CLOSE_BRACE));
}

/** Steps over a key; undefined is one that isn't in the table. */
function readKey(type: MessageType, guess: FieldType | undefined): FieldType | undefined {
  if (guess !== undefined && isAtKey(guess)) {
    cursor.at += guess.keyBytes;
    return guess;
  }
  for (const field of type.fields) {
    if (!isAtKey(field)) continue;
    cursor.at += field.keyBytes;
    return field;
  }
  const start = cursor.at;
  if (cursor.bytes[start] !== QUOTE) cursor.unexpected('a key');
  skipText();
  if (!cursor.bytes.subarray(start, cursor.at).includes(BACKSLASH)) return undefined;
  cursor.at = start;
  return type.byKey.get(readText(cursor, writer));
}

/** Whether the key at the cursor is the field's, closing quote included. */
function isAtKey(field: FieldType): boolean {
  const { view } = cursor;
  const { keyWords } = field;
  let at = cursor.at;
  const last = keyWords.length - 1;
  for (let i = 0; i < last; i++, at += 4) {
    if (view.getInt32(at, true) !== keyWords[i]) return false;
  }
  return ((view.getInt32(at, true) ^ (keyWords[last] as number)) & field.lastWordMask) === 0;
}

/** Steps over the comma (true) or the closing bracket (false) behind a value. */
function isMore(close: typeof CLOSE_BRACE | typeof CLOSE_BRACKET): boolean {
  const byte = cursor.peek();
  if (byte !== COMMA && byte !== close) cursor.unexpected(`',' or '${String.fromCharCode(close)}'`);
  cursor.at++;
  return byte === COMMA;
}

/** Copies the value of a key, which begins with `byte`. */
function copyField(field: FieldType, byte: number, level: number): void {
  if (byte === LOWER_N) {
    cursor.readNull();
  } else if (field.repeated) {
    if (byte !== OPEN_BRACKET) refuseType(field, 'an array');
    copyArray(field, level);
  } else {
    copyValue(field, byte, level);
  }
}

function copyArray(field: FieldType, level: number): void {
  if (level > levelsMax) refuseNesting();
  cursor.at++;
  if (cursor.peek() === CLOSE_BRACKET) {
    cursor.at++;
    return;
  }
  if (field.packed) {
    copyPacked(field);
    return;
  }
  const mayBePlain = field.message === KEY_VALUE && level + 2 < DEEP_LEVEL;
  do {
    const byte = cursor.peek();
    if (!mayBePlain || !copyAttribute(field, level + 1)) copyValue(field, byte, level + 1);
  } while (isMore(CLOSE_BRACKET));
}

/**
 * Copies an attribute of the usual form; false, with nothing read or written, where it is of another. It is
 * read twice then, and what is inside of it again: DEEP_LEVEL bounds that too.
 */
function copyAttribute(field: FieldType, level: number): boolean {
  const start = cursor.at;
  const written = writer.at;
  writer.reserve(cursor.end - start);
  writer.varint32(field.tag);
  const pair = writer.open(1);
  if (copyPlainKey(cursor, writer)) {
    const value = writer.open(1);
    if (!copyPlainText(cursor, writer)) copyMessage(ANY_VALUE, level + 1);
    writer.close(value, 1);
    if (cursor.bytes[cursor.at] === CLOSE_BRACE) {
      cursor.at++;
      writer.close(pair, 1);
      return true;
    }
  }
  cursor.at = start;
  writer.at = written;
  return false;
}

function copyPacked(field: FieldType): void {
  writer.reserve(cursor.end - cursor.at);
  writer.varint32(field.tag);
  const start = writer.open(PACKED_LENGTH_BYTES);
  do {
    const byte = cursor.peek();
    writer.reserve(cursor.end - cursor.at);
    copyScalar(field, byte);
  } while (isMore(CLOSE_BRACKET));
  writer.close(start, PACKED_LENGTH_BYTES);
}

/** Copies one value with its tag. A `null` is no value here: protobuf's lists have no holes. */
function copyValue(field: FieldType, byte: number, level: number): void {
  writer.reserve(cursor.end - cursor.at);
  writer.varint32(field.tag);
  const { message } = field;
  if (message === undefined) {
    copyScalar(field, byte);
    return;
  }
  if (byte !== OPEN_BRACE) refuseType(field, 'an object');
  const lengthBytes = level < DEEP_LEVEL ? message.lengthBytes : DEEP_LENGTH_BYTES;
  const start = writer.open(lengthBytes);
  copyMessage(message, level);
  writer.close(start, lengthBytes);
}

function copyScalar(field: FieldType, byte: number): void {
  const { kind } = field;
  if (kind <= KIND.bytes) {
    if (byte !== QUOTE) refuseType(field, 'a string');
    if (kind === KIND.string) copyString(cursor, writer);
    else if (kind === KIND.hex) copyHex(cursor, writer, field.name);
    else copyBase64(cursor, writer, field.name);
  } else if (kind === KIND.bool) {
    if (byte !== LOWER_T && byte !== LOWER_F) refuseType(field, 'true or false');
    writer.varint32(cursor.readBool() ? 1 : 0);
  } else if (kind === KIND.double) {
    if (!beginsNumber(byte)) refuseType(field, 'a number');
    writer.double(readDouble(cursor, writer, field.name));
  } else if (kind !== KIND.enum || byte !== QUOTE || !copyEnumName(field)) {
    if (!beginsNumber(byte)) refuseType(field, 'an integer');
    copyInteger(field);
  }
}

function copyInteger({ kind, name }: FieldType): void {
  readInteger(cursor, writer, name, RANGES[kind] ?? UINT64, integer);
  const { low, high } = integer;
  switch (kind) {
    case KIND.fixed64:
    case KIND.sfixed64:
      writer.fixed64(low, high);
      return;
    case KIND.fixed32:
      writer.fixed32(low);
      return;
    case KIND.sint32:
      writer.varint32(((low << 1) ^ (low >> 31)) >>> 0);
      return;
    default:
      writer.varint64(low, high);
  }
}

/** Whether the string at the cursor is an enum's name rather than a number; then its number is written. */
function copyEnumName({ enumValues, name }: FieldType): boolean {
  const first = cursor.bytes[cursor.at + 1] as number;
  if (isDigit(first) || first === MINUS) return false;
  const start = cursor.at;
  const value = enumValues?.get(readText(cursor, writer));
  if (value === undefined) cursor.refuse(`${name} must be an integer or a name of its enum`, start);
  writer.varint32(value);
  return true;
}

/** Steps over a value of any type, checking its syntax. */
function skipValue(byte: number, level: number): void {
  if (byte === OPEN_BRACE || byte === OPEN_BRACKET) skipNested(byte, level);
  else if (byte === QUOTE) skipText();
  else if (byte === LOWER_N) cursor.readNull();
  else if (byte === LOWER_T || byte === LOWER_F) cursor.readBool();
  else if (byte === MINUS || isDigit(byte)) cursor.skipNumber();
  else cursor.unexpected('a value');
}

function skipText(): void {
  writer.reserve(cursor.end - cursor.at);
  skipString(cursor, writer);
}

function skipNested(open: typeof OPEN_BRACE | typeof OPEN_BRACKET, level: number): void {
  if (level > levelsMax) refuseNesting();
  const close = open === OPEN_BRACE ? CLOSE_BRACE : CLOSE_BRACKET;
  cursor.at++;
  if (cursor.peek() === close) {
    cursor.at++;
    return;
  }
  do {
    if (open === OPEN_BRACE) {
      if (cursor.peek() !== QUOTE) cursor.unexpected('a key');
      skipText();
      cursor.colon();
    }
    skipValue(cursor.peek(), level + 1);
  } while (isMore(close));
}

/** Strings are numbers too: proto3's JSON mapping, which 64-bit integers need. */
function beginsNumber(byte: number): boolean {
  return byte === QUOTE || byte === MINUS || isDigit(byte);
}

function refuseType(field: FieldType, wanted: string): never {
  if (cursor.done) cursor.unexpected(`a value for ${field.name}`);
  cursor.refuse(`${field.name} must be ${wanted}`, cursor.at);
}

function refuseNesting(): never {
  cursor.refuse(`the JSON text is nested deeper than ${levelsMax} levels`, cursor.at);
}
