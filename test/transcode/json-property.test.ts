/**
 * Goal: any request, written as JSON in any of the ways that senders may choose, becomes that request; any
 * damage to it is refused as JSON.parse would refuse it, or understood as JSON.parse would understand it.
 */
import { describe, expect, test } from 'vitest';
import { type Field, type Fields, MESSAGES, type MessageName, REQUESTS } from '../../proto/fields.ts';
import { Malformed } from '../../src/model/block.ts';
import { SIGNALS, type Signal } from '../../src/model/signal.ts';
import { jsonToProtobuf } from '../../src/transcode/json.ts';
import { decode, type Message, type Value } from '../oracle/decode.ts';
import { type Random, seededRandom } from '../oracle/random.ts';
import { bodyOf, isJson, readVectors } from '../support/otlp.ts';

const NESTING_MAX = 64;
const HEX_FIELDS = new Set(['traceId', 'spanId', 'parentSpanId']);
const TEXTS = [
  '',
  'GET',
  'http.route',
  '/a"b\\c',
  'žluť',
  '😀',
  '\u0000\u001f\u007f',
  'x'.repeat(127),
  'y'.repeat(128),
  'tab\tnewline\n',
];
const DOUBLES = [
  0,
  -0,
  1,
  1.5,
  -2.25,
  0.1,
  1e21,
  1e-7,
  5e-324,
  123456789.125,
  Number.MAX_VALUE,
  Number.NaN,
  Infinity,
  -Infinity,
];

const binary = (text: string) => Buffer.from(text).toString('latin1');
const text = (latin1: string) => Buffer.from(latin1, 'latin1').toString();

function randomBigInt(random: Random, bits: number, signed: boolean): bigint {
  const magnitude = (BigInt(random.int(2 ** 32)) << 32n) | BigInt(random.int(2 ** 32));
  const shifted = magnitude >> BigInt(random.int(64));
  return signed ? BigInt.asIntN(bits, shifted) : BigInt.asUintN(bits, shifted);
}

function randomScalar(name: string, type: Field['type'], random: Random): Value {
  switch (type) {
    case 'string':
      return binary(random.pick(TEXTS));
    case 'bytes':
      return String.fromCharCode(
        ...Array.from({ length: HEX_FIELDS.has(name) ? 8 : random.int(40) }, () => random.int(256)),
      );
    case 'bool':
      return random.chance(0.5);
    case 'double':
      return random.chance(0.5) ? random.pick(DOUBLES) : random.int(1e9) / random.pick([1, 10, 1000, 7]);
    case 'int64':
    case 'sfixed64':
      return randomBigInt(random, 64, true);
    case 'uint64':
    case 'fixed64':
      return randomBigInt(random, 64, false);
    case 'uint32':
    case 'fixed32':
      return Number(randomBigInt(random, 32, false));
    default:
      return Number(randomBigInt(random, 32, true));
  }
}

function isMessage(type: Field['type']): type is MessageName {
  return type in MESSAGES;
}

/** Small at the leaves: `room` is what is left for depth. */
function randomMessage(type: MessageName, random: Random, room: number): Message {
  const message: Message = {};
  const fields = Object.entries(MESSAGES[type] as Fields);
  const chosen = new Map<string, string>();
  for (const [name, { oneof }] of fields)
    if (oneof !== undefined && random.chance(0.5)) chosen.set(oneof, name);
  for (const [name, field] of fields) {
    if (field.oneof !== undefined ? chosen.get(field.oneof) !== name : random.chance(0.3)) continue;
    const one = (): Value =>
      isMessage(field.type)
        ? randomMessage(field.type, random, room - 1)
        : randomScalar(name, field.type, random);
    if (room <= 0 && isMessage(field.type)) continue;
    if (!field.repeated) message[name] = one();
    else if (random.chance(0.8))
      message[name] = Array.from({ length: 1 + random.int(room > 6 ? 2 : 3) }, one);
  }
  return message;
}

/** How a sender writes: chosen once, since a sender keeps its ways. */
interface Style {
  readonly random: Random;
  readonly spaces: readonly string[];
  readonly reorders: boolean;
  readonly intsAsText: number;
  readonly escapes: boolean;
  readonly adds: boolean;
}

function space({ random, spaces }: Style): string {
  return random.pick(spaces);
}

function shuffled<T>(items: readonly T[], random: Random): T[] {
  const keyed = items.map((item) => [random.int(1e9), item] as const);
  return keyed.sort(([a], [b]) => a - b).map(([, item]) => item);
}

function writeText(value: string, { random, escapes }: Style): string {
  const json = JSON.stringify(value);
  if (!escapes) return json;
  const units = Array.from({ length: value.length }, (_, i) => {
    const hex = value.charCodeAt(i).toString(16).padStart(4, '0');
    return `\\u${random.chance(0.5) ? hex : hex.toUpperCase()}`;
  });
  return random.chance(0.5) ? json : `"${units.join('')}"`;
}

function writeBytes(name: string, value: string, style: Style): string {
  const bytes = Buffer.from(value, 'latin1');
  const hex = bytes.toString('hex');
  if (HEX_FIELDS.has(name)) return `"${style.random.chance(0.5) ? hex : hex.toUpperCase()}"`;
  const base64 = bytes.toString(style.random.chance(0.5) ? 'base64' : 'base64url');
  return `"${style.random.chance(0.5) ? base64 : base64.replace(/=+$/, '')}"`;
}

function writeNumber(value: number | bigint, type: Field['type'], { random, intsAsText }: Style): string {
  if (typeof value === 'number' && !Number.isFinite(value)) return `"${value}"`;
  const plain = Object.is(value, -0) ? '-0' : String(value);
  const isInteger = type !== 'double';
  const scaled = isInteger && value !== 0 && value !== 0n && random.chance(0.1) ? `${plain}00e-2` : plain;
  return random.chance(intsAsText) ? `"${scaled}"` : scaled;
}

function writeValue(name: string, type: Field['type'], value: Value, style: Style): string {
  if (Array.isArray(value)) {
    const items = value.map(
      (item: Value) => `${space(style)}${writeValue(name, type, item, style)}${space(style)}`,
    );
    return `[${items.join(',')}]`;
  }
  if (isMessage(type)) return writeMessage(type, value as Message, style);
  if (typeof value === 'boolean') return String(value);
  if (type === 'bytes') return writeBytes(name, String(value), style);
  if (type === 'string') return writeText(text(String(value)), style);
  return writeNumber(value as number | bigint, type, style);
}

const ADDITIONS = ['"unknown":{"a":[1,"]}"]}', '"x_y":null', '"\\u0000":-1.5e+3', '"__proto__":{"spans":[]}'];

function writeMessage(type: MessageName, message: Message, style: Style): string {
  const { random } = style;
  const members = Object.entries(message).map(([name, value]) => {
    const field = (MESSAGES[type] as Fields)[name];
    if (field === undefined) throw new Error(`no field ${name}`);
    return `"${name}"${space(style)}:${space(style)}${writeValue(name, field.type, value, style)}`;
  });
  if (style.adds && random.chance(0.3)) members.push(random.pick(ADDITIONS));
  const ordered = style.reorders ? shuffled(members, random) : members;
  return `{${space(style)}${ordered.join(`${space(style)},${space(style)}`)}${space(style)}}`;
}

function randomStyle(random: Random): Style {
  return {
    random,
    spaces: random.pick([[''], [' '], ['', ' ', '\n\t', '\r\n    ']]),
    reorders: random.chance(0.5),
    intsAsText: random.pick([0, 1, 0.5]),
    escapes: random.chance(0.3),
    adds: random.chance(0.5),
  };
}

test.each(SIGNALS)('%s: written in any way, read as what it is', (signal) => {
  for (let seed = 0; seed < 400; seed++) {
    const random = seededRandom(seed);
    const request = randomMessage(REQUESTS[signal], random, 4 + random.int(8));
    const json = writeMessage(REQUESTS[signal], request, randomStyle(random));
    const decoded = decode(REQUESTS[signal], jsonToProtobuf(signal, Buffer.from(json), NESTING_MAX));
    expect(decoded, `seed ${seed}: ${json}`).toEqual(request);
  }
});

describe('damage', () => {
  const bodies = readVectors()
    .filter((vector) => isJson(vector) && vector.outcomes.includes('accept') && vector.id !== 'j-bom')
    .map((vector) => ({ signal: vector.signal, json: Buffer.from(bodyOf(vector)) }))
    .filter(({ json }) => json.length < 20_000);

  /** Undefined when it is refused. One char for each byte, so that JSON.parse judges the grammar alone. */
  function parsed(json: Uint8Array): unknown {
    try {
      return JSON.parse(Buffer.from(json).toString('latin1')) as unknown;
    } catch (error) {
      if (error instanceof SyntaxError) return undefined;
      throw error;
    }
  }

  function check(signal: Signal, json: Uint8Array): void {
    const tree = parsed(json);
    let bytes: Uint8Array;
    try {
      bytes = jsonToProtobuf(signal, json, NESTING_MAX);
    } catch (error) {
      if (!(error instanceof Malformed)) throw error;
      expect(error.byteOffset).toBeLessThanOrEqual(json.length);
      // What JSON.parse can read is only refused for what it means.
      const isObject = typeof tree === 'object' && tree !== null && !Array.isArray(tree);
      if (isObject) expect(error.message).not.toMatch(/^the JSON text needs/);
      return;
    }
    if (tree === undefined)
      throw new Error(`accepted what is no JSON: ${Buffer.from(json).toString('latin1')}`);
    decode(REQUESTS[signal], bytes);
  }

  test('cut anywhere', () => {
    for (const { signal, json } of bodies.filter((body) => body.json.length < 2500)) {
      const end = json.lastIndexOf('}');
      for (let length = 0; length <= end; length++) {
        expect(() => jsonToProtobuf(signal, json.subarray(0, length), NESTING_MAX)).toThrow(Malformed);
      }
    }
  });

  test('bytes changed, removed, doubled and put in', () => {
    const random = seededRandom(7);
    const INSERTS = [
      '"',
      '\\',
      ',',
      ':',
      '{',
      '}',
      '[',
      ']',
      'null',
      '1e5',
      '-',
      '0',
      '\\u',
      '\0',
      '\xff',
      ' ',
      '\n',
      '{}',
      '""',
    ];
    for (let round = 0; round < 6000; round++) {
      const { signal, json } = random.pick(bodies);
      const at = random.int(json.length);
      const to = Math.min(json.length, at + random.int(12));
      const damaged = random.pick([
        () =>
          Buffer.concat([
            json.subarray(0, at),
            Buffer.from([(json[at] ?? 0) ^ (1 << random.int(8))]),
            json.subarray(at + 1),
          ]),
        () => Buffer.concat([json.subarray(0, at), json.subarray(to)]),
        () => Buffer.concat([json.subarray(0, to), json.subarray(at)]),
        () =>
          Buffer.concat([
            json.subarray(0, at),
            Buffer.from(random.pick(INSERTS), 'latin1'),
            json.subarray(at),
          ]),
      ])();
      check(signal, damaged);
    }
  });

  test('random bytes', () => {
    const random = seededRandom(8);
    const LETTERS = '{}[]",:\\ u0123456789eE+-.truefalsn';
    for (let round = 0; round < 4000; round++) {
      const junk = Array.from({ length: random.int(60) }, () => random.pick([...LETTERS])).join('');
      check(random.pick(SIGNALS), Buffer.from(junk));
      check(random.pick(SIGNALS), Buffer.from(`{"x":${junk}}`));
      check(random.pick(SIGNALS), Buffer.from(Array.from({ length: 40 }, () => random.int(256))));
    }
  });
});
