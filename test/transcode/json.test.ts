/**
 * Goal: OTLP/JSON becomes the protobuf request that an independent reader of the same text sees, or is
 * refused with a reason.
 */
import { describe, expect, test } from 'vitest';
import { MESSAGES, REQUESTS } from '../../proto/fields.ts';
import { Malformed } from '../../src/model/block.ts';
import { jsonToProtobuf } from '../../src/transcode/json.ts';
import { KIND, MESSAGE_TYPES } from '../../src/transcode/json-fields.ts';
import { decodeJson } from '../oracle/json.ts';
import { bodyOf, isJson, readVectors } from '../support/otlp.ts';
import { convert, fieldsOf, NESTING_MAX, refusal, refusedFields, wrap } from './json-support.ts';

/** JSON has empty lists where protobuf has nothing. */
function withoutEmptyLists(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutEmptyLists);
  if (typeof value !== 'object' || value === null) return value;
  const kept = Object.entries(value).filter(([, item]) => !Array.isArray(item) || item.length > 0);
  return Object.fromEntries(kept.map(([key, item]) => [key, withoutEmptyLists(item)]));
}

describe('recorded and hand-made requests', () => {
  /**
   * The oracle reads neither names of enums nor bytes that aren't UTF-8; both have tests of their own below.
   */
  const NOT_FOR_THE_ORACLE = /^(j-enum-names|j-utf8-bad)$/;
  const vectors = readVectors().filter((vector) => isJson(vector) && !NOT_FOR_THE_ORACLE.test(vector.id));

  test.each(vectors)('$id', (vector) => {
    const json = bodyOf(vector);
    if (vector.outcomes.includes('accept') && !vector.outcomes.includes('bad')) {
      expect(convert(vector.signal, json)).toEqual(
        withoutEmptyLists(decodeJson(REQUESTS[vector.signal], json)),
      );
    } else if (!vector.outcomes.includes('accept')) {
      expect(refusal(vector.signal, json).byteOffset).toBeLessThanOrEqual(json.length);
    } else {
      expect(() => jsonToProtobuf(vector.signal, json, NESTING_MAX)).not.toThrow(RangeError);
    }
  });

  test.each([
    ['j-bom', 'accepted'],
    ['j-bytes-url', 'accepted'],
    ['j-dup-json-keys', 'accepted'],
    ['j-snake-inner', 'accepted'],
    ['j-deep-any', 'refused'],
    ['j-null-top', 'refused'],
  ])('%s, where there is a choice, is %s', (id, choice) => {
    const vector = vectors.find((candidate) => candidate.id === id);
    if (vector === undefined) throw new Error(`no vector ${id}`);
    const act = () => convert(vector.signal, bodyOf(vector));
    if (choice === 'refused') expect(act).toThrow(Malformed);
    else expect(act()).toEqual(decodeJson(REQUESTS[vector.signal], bodyOf(vector)));
  });
});

test('the table of fields is that of proto/, both ways', () => {
  const reachable = new Map<string, unknown>();
  const visit = (name: keyof typeof MESSAGES) => {
    if (reachable.has(name)) return;
    const fields = Object.entries(MESSAGES[name]);
    reachable.set(
      name,
      Object.fromEntries(fields.map(([key, { number, type, repeated }]) => [key, [number, type, repeated]])),
    );
    for (const [, { type }] of fields) if (type in MESSAGES) visit(type as keyof typeof MESSAGES);
  };
  for (const request of Object.values(REQUESTS)) visit(request);
  const kinds = Object.entries(KIND);
  const typeOf = (kind: number) => kinds.find(([, value]) => value === kind)?.[0].replace('hex', 'bytes');
  const ours = [...MESSAGE_TYPES.values()].map(({ name, fields }) => [
    name,
    Object.fromEntries(
      fields.map((f) => [f.name, [f.number, f.message?.name ?? typeOf(f.kind), f.repeated]]),
    ),
  ]);
  expect(Object.fromEntries(ours)).toEqual(Object.fromEntries(reachable));
  const ids = [...MESSAGE_TYPES.values()].flatMap(({ fields }) =>
    fields.filter(({ kind }) => kind === KIND.hex),
  );
  expect(new Set(ids.map(({ name }) => name))).toEqual(new Set(['traceId', 'spanId', 'parentSpanId']));
});

describe('text', () => {
  const textOf = (json: string | Buffer) =>
    (fieldsOf('span', Buffer.concat([Buffer.from('"name":'), Buffer.from(json)])) as { name: string }).name;
  const binary = (text: string) => Buffer.from(text).toString('latin1');

  test.each([
    ['"\\"\\\\\\/\\b\\f\\n\\r\\t"', '"\\/\b\f\n\r\t'],
    ['"\\u0000\\u007f\\u0080\\u07FF\\u0800\\uffff"', '\0\x7f\x80\u07ff\u0800\uffff'],
    ['"\\ud83d\\ude00 \\uDBFF\\uDFFF"', '\u{1f600} \u{10ffff}'],
    ['"\\ud800"', '\ufffd'],
    ['"\\udc00x"', '\ufffdx'],
    ['"\\udc00\\udc00"', '\ufffd\ufffd'],
    ['"\\ud800\\u0041"', '\ufffdA'],
    ['"\\ud800\\ud83d\\ude00"', '\ufffd\u{1f600}'],
    ['"\\ud800\\n"', '\ufffd\n'],
    ['"žluťoučký 😀"', 'žluťoučký 😀'],
    ['"\u007f\u2028"', '\u007f\u2028'],
  ])('%s', (json, expected) => {
    expect(textOf(json)).toBe(binary(expected));
  });

  test('bytes that are not UTF-8 stay as they were sent', () => {
    const name = Buffer.from([0x61, 0xff, 0xc3, 0x80, 0xed, 0xa0, 0x80, 0xf8]);
    expect(textOf(Buffer.concat([Buffer.from('"'), name, Buffer.from('"')]))).toBe(name.toString('latin1'));
  });

  test('every length, with what ends it at every place of a word', () => {
    for (let length = 0; length < 300; length++) {
      const text = 'abcdefghijklmnopqrstuvwxyz'.repeat(12).slice(0, length);
      expect(textOf(`"${text}"`)).toBe(text);
      expect(textOf(`"${text}\\n${text}"`)).toBe(`${text}\n${text}`);
    }
    for (const length of [1 << 14, (1 << 14) - 1, 1 << 21, (1 << 21) - 1, 3 << 20]) {
      expect(textOf(`"${'x'.repeat(length)}"`)).toHaveLength(length);
    }
  });
});

describe('the request as a whole', () => {
  test.each([
    '',
    ' ',
    'null',
    '[]',
    '"x"',
    '1',
    '{',
    '{"a":1',
    '{}{}',
    '{} x',
    '{},',
    '\0',
    '{}\0',
    '\ufeff',
    '\ufeff\ufeff{}',
  ])('%j is malformed', (json) => {
    expect(refusal('traces', json)).toBeInstanceOf(Malformed);
  });

  test.each([
    '{}',
    ' \t\r\n{ \n} \n',
    '\ufeff{}',
    '{"resourceSpans":[]}',
    '{"resourceSpans":null}',
    '{"x":1}',
  ])('%j is an empty one', (json) => {
    expect(convert('traces', json)).toEqual({});
  });

  test("another signal's request is one without anything known", () => {
    expect(convert('metrics', '{"resourceLogs":[{"scopeLogs":[]}]}')).toEqual({});
  });

  test('it is only read, and its neighbours in memory are not', () => {
    const json = Buffer.from('xx{"resourceLogs":[{"schemaUrl":"s"}]}yy');
    const before = Buffer.from(json);
    expect(convert('logs', json.subarray(2, -2))).toEqual({ resourceLogs: [{ schemaUrl: 's' }] });
    expect(json.equals(before)).toBe(true);
  });

  test('large and small ones take turns', () => {
    const large = `{"resourceLogs":[{"schemaUrl":"${'y'.repeat(6 << 20)}"}]}`;
    for (let round = 0; round < 3; round++) {
      expect(convert('logs', large)).toEqual({ resourceLogs: [{ schemaUrl: 'y'.repeat(6 << 20) }] });
      expect(convert('logs', '{"resourceLogs":[{"schemaUrl":"s"}]}')).toEqual({
        resourceLogs: [{ schemaUrl: 's' }],
      });
    }
  });

  test('numbers that take more room in protobuf than in JSON', () => {
    const counts = new Array<number>(200_000).fill(0);
    expect(fieldsOf('histogram', `"explicitBounds":[${counts}]`)).toEqual({ explicitBounds: counts });
    expect(fieldsOf('log', `"attributes":[${new Array(100_000).fill('{}')}]`)).toMatchObject({
      attributes: { length: 100_000 },
    });
  });

  test('digits without end take no time to speak of', () => {
    const digits = `1${'0'.repeat(1 << 20)}1`;
    expect(refusedFields('log', `"body":{"intValue":${digits}}`).message).toMatch(/out of the range/);
    expect(refusedFields('log', `"body":{"doubleValue":"${digits}"}`).message).toMatch(
      /larger than a double/,
    );
    expect(refusedFields('log', `"body":{"doubleValue":"${digits}x"}`).message).toMatch(/must be a number/);
  });
});

describe('nesting', () => {
  const nested = (open: string, close: string, depth: number, inner: string) =>
    open.repeat(depth) + inner + close.repeat(depth);
  const LIST = ['{"arrayValue":{"values":[', ']}}'] as const;
  const MAP = ['{"kvlistValue":{"values":[{"key":"k","value":', '}]}}'] as const;

  test.each([LIST, MAP])(
    'values nest somewhat deeper than allowed, so that their record can be told: %s',
    (open, close) => {
      const depths: number[] = [];
      for (const depth of [1, 5, 16, NESTING_MAX, NESTING_MAX + 1, NESTING_MAX + 10]) {
        const text = nested(open, close, depth, '{"stringValue":"inner"}');
        const decoded = JSON.stringify(
          fieldsOf('log', `"body":${text},"attributes":[{"key":"a","value":${text}}]`),
        );
        depths.push(decoded.split(/arrayValue|kvlistValue/).length - 1);
        expect(decoded.split('inner')).toHaveLength(3);
      }
      expect(depths).toEqual(
        [1, 5, 16, NESTING_MAX, NESTING_MAX + 1, NESTING_MAX + 10].map((depth) => depth * 2),
      );
    },
  );

  test.each([
    ['lists of values', LIST[0]],
    ['maps of values', MAP[0]],
  ])('100,000 %s are malformed', (_, open) => {
    expect(refusedFields('log', `"body":${open.repeat(100_000)}`).message).toMatch(
      /nested deeper than 320 levels/,
    );
  });

  test.each(['[', '{"a":', '[{"a":', '{"resourceSpans":[', ' [\n'])(
    '100,000 × %j in what is unknown are malformed',
    (open) => {
      expect(refusal('traces', `{"x":${open.repeat(100_000)}`).message).toMatch(/nested deeper/);
    },
  );

  test('a limit that the stack could not hold is not tried', () => {
    const text = wrap('log', `"body":${MAP[0].repeat(100_000)}`);
    expect(() => jsonToProtobuf('logs', text, 1_000_000)).toThrow(/nested deeper than 2048 levels/);
  });
});
