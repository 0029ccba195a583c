/**
 * OTLP/JSON to the same messages that decode.ts gives, over the same table: ids in hex, bytes in base64,
 * 64-bit integers as strings or numbers (every digit counts), NaN and Infinity as strings, null is absent,
 * unknown keys are ignored. For valid requests only: what is wrong ends in any error.
 */
import { MESSAGES, type MessageName, type Scalar } from '../../proto/fields.ts';
import type { Message, Value } from './decode.ts';

/** A number with all its digits, before anything rounds it. */
class Digits {
  readonly source: string;
  constructor(source: string) {
    this.source = source;
  }
}

type Json = null | boolean | string | Digits | readonly Json[] | { readonly [key: string]: Json };
type Reviver = (this: unknown, key: string, value: unknown, context: { readonly source?: string }) => unknown;

function parse(text: string): Json {
  const keepDigits: Reviver = (_key, value, { source }) => {
    return typeof value === 'number' && source !== undefined ? new Digits(source) : value;
  };
  // The third argument of a reviver is newer than the types of JSON.parse.
  return JSON.parse(text, keepDigits as (key: string, value: unknown) => unknown) as Json;
}

const HEX_FIELDS = new Set(['traceId', 'spanId', 'parentSpanId']);

function binary(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1');
}

function integer(text: string): bigint {
  const exponent = /^(-?\d+)[eE]\+?(\d+)$/.exec(text);
  return exponent === null ? BigInt(text) : BigInt(exponent[1] ?? '') * 10n ** BigInt(exponent[2] ?? '');
}

function scalar(name: string, type: Scalar, json: Json): Value {
  const text = json instanceof Digits ? json.source : String(json);
  switch (type) {
    case 'string':
      return binary(text);
    case 'bytes':
      // Buffer reads both alphabets of base64, padded or not.
      return Buffer.from(text, HEX_FIELDS.has(name) ? 'hex' : 'base64').toString('latin1');
    case 'bool':
      return json === true;
    case 'double':
      return Number(text);
    case 'int64':
    case 'uint64':
    case 'fixed64':
    case 'sfixed64':
      return integer(text);
    default:
      return Number(text);
  }
}

function isMessageName(type: string): type is MessageName {
  return Object.hasOwn(MESSAGES, type);
}

function value(name: string, type: Scalar | MessageName, json: Json): Value {
  return isMessageName(type) ? message(type, json) : scalar(name, type, json);
}

function message(type: MessageName, json: Json): Message {
  if (json === null || typeof json !== 'object' || json instanceof Digits || Array.isArray(json)) {
    throw new Error(`an object is wanted for ${type}`);
  }
  const into: Message = {};
  for (const [key, held] of Object.entries(json)) {
    const field = MESSAGES[type][key];
    if (field === undefined || held === null) continue;
    const items: readonly Json[] = Array.isArray(held) ? held : [held];
    const values = items.map((item) => value(key, field.type, item));
    const [first] = values;
    if (field.repeated) into[key] = values;
    else if (first !== undefined) into[key] = first;
  }
  return into;
}

/** @param json UTF-8, with or without a byte order mark. */
export function decodeJson(type: MessageName, json: Uint8Array): Message {
  return message(type, parse(new TextDecoder().decode(json)));
}
