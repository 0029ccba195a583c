/** Goal: OTLP/JSON becomes the protobuf request that an independent reader of the same text sees, or is refused with a reason. */
import { describe, expect, test } from 'vitest';
import { MESSAGES, REQUESTS } from '../../proto/fields.ts';
import { Malformed } from '../../src/model/block.ts';
import type { Signal } from '../../src/model/signal.ts';
import { jsonToProtobuf } from '../../src/transcode/json.ts';
import { KIND, MESSAGE_TYPES } from '../../src/transcode/json-fields.ts';
import { decode, type Message } from '../oracle/decode.ts';
import { decodeJson } from '../oracle/json.ts';
import { bodyOf, isJson, readVectors } from '../support/otlp.ts';

const NESTING_MAX = 64;

function convert(signal: Signal, json: string | Uint8Array): Message {
  const bytes = typeof json === 'string' ? Buffer.from(json) : json;
  return decode(REQUESTS[signal], jsonToProtobuf(signal, bytes, NESTING_MAX));
}

function refusal(signal: Signal, json: string | Uint8Array): Malformed {
  try {
    convert(signal, json);
  } catch (error) {
    if (error instanceof Malformed) return error;
    throw error;
  }
  throw new Error(`was accepted: ${json}`);
}

/** JSON has empty lists where protobuf has nothing. */
function withoutEmptyLists(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutEmptyLists);
  if (typeof value !== 'object' || value === null) return value;
  const kept = Object.entries(value).filter(([, item]) => !Array.isArray(item) || item.length > 0);
  return Object.fromEntries(kept.map(([key, item]) => [key, withoutEmptyLists(item)]));
}

describe('recorded and hand-made requests', () => {
  /** The oracle reads neither names of enums nor bytes that aren't UTF-8; both have tests of their own below. */
  const NOT_FOR_THE_ORACLE = /^(j-enum-names|j-utf8-bad)$/;
  const vectors = readVectors().filter((vector) => isJson(vector) && !NOT_FOR_THE_ORACLE.test(vector.id));

  test.each(vectors)('$id', (vector) => {
    const json = bodyOf(vector);
    if (vector.outcomes.includes('accept') && !vector.outcomes.includes('bad')) {
      expect(convert(vector.signal, json)).toEqual(withoutEmptyLists(decodeJson(REQUESTS[vector.signal], json)));
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
    reachable.set(name, Object.fromEntries(fields.map(([key, { number, type, repeated }]) => [key, [number, type, repeated]])));
    for (const [, { type }] of fields) if (type in MESSAGES) visit(type as keyof typeof MESSAGES);
  };
  for (const request of Object.values(REQUESTS)) visit(request);
  const kinds = Object.entries(KIND);
  const typeOf = (kind: number) => kinds.find(([, value]) => value === kind)?.[0].replace('hex', 'bytes');
  const ours = [...MESSAGE_TYPES.values()].map(({ name, fields }) => [
    name,
    Object.fromEntries(fields.map((f) => [f.name, [f.number, f.message?.name ?? typeOf(f.kind), f.repeated]])),
  ]);
  expect(Object.fromEntries(ours)).toEqual(Object.fromEntries(reachable));
  const ids = [...MESSAGE_TYPES.values()].flatMap(({ fields }) => fields.filter(({ kind }) => kind === KIND.hex));
  expect(new Set(ids.map(({ name }) => name))).toEqual(new Set(['traceId', 'spanId', 'parentSpanId']));
});

/** The request whose one data point, span or record has these fields, and what is read from it. */
const WRAPPED = {
  span: ['traces', '{"resourceSpans":[{"scopeSpans":[{"spans":[{#}]}]}]}', ['resourceSpans', 'scopeSpans', 'spans']],
  log: ['logs', '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{#}]}]}]}', ['resourceLogs', 'scopeLogs', 'logRecords']],
  point: [
    'metrics',
    '{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"exponentialHistogram":{"dataPoints":[{#}]}}]}]}]}',
    ['resourceMetrics', 'scopeMetrics', 'metrics', 'exponentialHistogram', 'dataPoints'],
  ],
  histogram: [
    'metrics',
    '{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"histogram":{"dataPoints":[{#}]}}]}]}]}',
    ['resourceMetrics', 'scopeMetrics', 'metrics', 'histogram', 'dataPoints'],
  ],
} as const;
type Wrapping = keyof typeof WRAPPED;

function wrap(kind: Wrapping, fields: string | Buffer): Buffer {
  const [before = '', after = ''] = WRAPPED[kind][1].split('#');
  return Buffer.concat([Buffer.from(before), Buffer.from(fields), Buffer.from(after)]);
}

function fieldsOf(kind: Wrapping, fields: string | Buffer): unknown {
  let value: unknown = convert(WRAPPED[kind][0], wrap(kind, fields));
  for (const key of WRAPPED[kind][2]) {
    value = (value as Message)[key];
    if (Array.isArray(value)) value = value[0];
  }
  return value;
}

function refusedFields(kind: Wrapping, fields: string): Malformed {
  return refusal(WRAPPED[kind][0], wrap(kind, fields));
}

describe('values', () => {
  const TOP = 2n ** 64n - 1n;
  test.each<[Wrapping, string, unknown]>([
    // 64 bits, all digits, as numbers and strings.
    ['span', '"startTimeUnixNano":1795212000123456791', { startTimeUnixNano: 1795212000123456791n }],
    ['span', '"startTimeUnixNano":"18446744073709551615"', { startTimeUnixNano: TOP }],
    ['span', '"startTimeUnixNano":18446744073709551615', { startTimeUnixNano: TOP }],
    ['span', '"startTimeUnixNano":0', { startTimeUnixNano: 0n }],
    ['span', '"startTimeUnixNano":"-0"', { startTimeUnixNano: 0n }],
    ['span', '"startTimeUnixNano":1e3', { startTimeUnixNano: 1000n }],
    ['span', '"startTimeUnixNano":"1.5E+1"', { startTimeUnixNano: 15n }],
    ['span', '"startTimeUnixNano":1000.0', { startTimeUnixNano: 1000n }],
    ['span', '"startTimeUnixNano":1200e-2', { startTimeUnixNano: 12n }],
    ['span', '"startTimeUnixNano":18446744073709551615000e-3', { startTimeUnixNano: TOP }],
    ['span', '"startTimeUnixNano":0.000e9999999999', { startTimeUnixNano: 0n }],
    ['span', '"startTimeUnixNano":"\\u0031\\u0032"', { startTimeUnixNano: 12n }],
    ['log', '"body":{"intValue":"-9223372036854775808"}', { body: { intValue: -(2n ** 63n) } }],
    ['log', '"body":{"intValue":9223372036854775807}', { body: { intValue: 2n ** 63n - 1n } }],
    ['log', '"body":{"intValue":-4294967296}', { body: { intValue: -(2n ** 32n) } }],
    ['log', '"body":{"intValue":-1}', { body: { intValue: -1n } }],
    ['log', '"body":{"intValue":-1e2}', { body: { intValue: -100n } }],
    ['log', '"flags":4294967295', { flags: 4294967295 }],
    ['log', '"droppedAttributesCount":"4294967295"', { droppedAttributesCount: 4294967295 }],
    ['point', '"scale":-2147483648,"positive":{"offset":2147483647}', { scale: -(2 ** 31), positive: { offset: 2 ** 31 - 1 } }],
    ['point', '"positive":{"bucketCounts":["18446744073709551615",0,1]}', { positive: { bucketCounts: [TOP, 0n, 1n] } }],
    ['histogram', '"bucketCounts":[9007199254740993,"2"],"explicitBounds":["-Infinity",1e-7]', {
      bucketCounts: [9007199254740993n, 2n],
      explicitBounds: [Number.NEGATIVE_INFINITY, 1e-7],
    }],
    // Enums: integers, known or not, and names.
    ['span', '"kind":2,"status":{"code":"2"}', { kind: 2, status: { code: 2 } }],
    ['span', '"kind":-7', { kind: -7 }],
    ['span', '"kind":"SPAN_KIND_CONSUMER","status":{"code":"STATUS_CODE_ERROR"}', { kind: 5, status: { code: 2 } }],
    ['log', '"severityNumber":"SEVERITY_NUMBER_FATAL4"', { severityNumber: 24 }],
    ['log', '"severityNumber":"SEVERITY_NUMBER_DEBUG"', { severityNumber: 5 }],
    // Doubles.
    ['point', '"sum":-0.0', { sum: -0 }],
    ['point', '"sum":"NaN","min":"-Infinity","max":"Infinity"', { sum: Number.NaN, min: Number.NEGATIVE_INFINITY, max: Number.POSITIVE_INFINITY }],
    ['point', '"sum":0.1,"min":123456789.123456789,"max":"1.5"', { sum: 0.1, min: 123456789.123456789, max: 1.5 }],
    ['point', '"sum":1.7976931348623157e308,"min":5e-324,"max":1e-400', { sum: Number.MAX_VALUE, min: Number.MIN_VALUE, max: 0 }],
    ['point', '"sum":9007199254740993,"min":4.35,"max":0.30000000000000004', { sum: 9007199254740992, min: 4.35, max: 0.1 + 0.2 }],
    // Booleans, ids, bytes.
    ['log', '"body":{"boolValue":true}', { body: { boolValue: true } }],
    ['log', '"body":{"boolValue":false}', { body: { boolValue: false } }],
    ['span', '"traceId":"0aFf","spanId":""', { traceId: '\x0a\xff', spanId: '' }],
    ['span', '"traceId":"\\u0030a"', { traceId: '\x0a' }],
    ['log', '"body":{"bytesValue":"AAH//g=="}', { body: { bytesValue: '\x00\x01\xff\xfe' } }],
    ['log', '"body":{"bytesValue":"AAH__g"}', { body: { bytesValue: '\x00\x01\xff\xfe' } }],
    ['log', '"body":{"bytesValue":"AAH\\/\\/g=="}', { body: { bytesValue: '\x00\x01\xff\xfe' } }],
    ['log', '"body":{"bytesValue":""}', { body: { bytesValue: '' } }],
    // null is absent, for every type.
    ['span', '"name":null,"kind":null,"startTimeUnixNano":null,"status":null,"attributes":null,"traceId":null', {}],
    ['log', '"body":null,"attributes":[{"key":"a","value":null},{"key":null,"value":{"stringValue":null}}]', {
      attributes: [{ key: 'a' }, { value: {} }],
    }],
    // The last one of two; lists go on.
    ['span', '"name":"a","name":"","kind":1,"kind":3', { name: '', kind: 3 }],
    ['span', '"attributes":[{"key":"a"}],"attributes":[{"key":"b"}]', { attributes: [{ key: 'a' }, { key: 'b' }] }],
    ['log', '"body":{"stringValue":"a","intValue":0}', { body: { intValue: 0n } }],
    // Attributes that look almost like the usual form.
    ['log', '"attributes":[{"key":"a","value":{"stringValue":"b","boolValue":true}}]', { attributes: [{ key: 'a', value: { boolValue: true } }] }],
    ['log', '"attributes":[{"key":"a","value":{"stringValue":"b"},"x":[1]},{"key":"a","value":"s"}]'.replace(',{"key":"a","value":"s"}', ''), {
      attributes: [{ key: 'a', value: { stringValue: 'b' } }],
    }],
    ['log', '"attributes":[{"key":"a","value":{"intValue":7} },{"key":"b" ,"value":{}},{"value":{},"key":"c"}]', {
      attributes: [{ key: 'a', value: { intValue: 7n } }, { key: 'b', value: {} }, { key: 'c', value: {} }],
    }],
    // Keys: only those of the table, whatever way they are written.
    ['span', '"trace_id":"00","Name":"x","nam":"y","names":"z","":0,"__proto__":{"a":1},"constructor":[]', {}],
    ['span', '"n\\u0061me":"a","\\u006bind":4,"x\\ty":1', { name: 'a', kind: 4 }],
    ['span', '"x":{"a":[1,-2.5e-7,"\\ud800",true,false,null,{}],"":[[]]},"name":"after"', { name: 'after' }],
  ])('%s {%s}', (kind, fields, expected) => {
    expect(fieldsOf(kind, fields)).toEqual(expected);
  });

  test.each<[Wrapping, string, RegExp]>([
    ['span', '"startTimeUnixNano":18446744073709551616', /^startTimeUnixNano is out of the range of an unsigned integer of 64 bits at/],
    ['span', '"startTimeUnixNano":"99999999999999999999"', /^startTimeUnixNano is out of the range/],
    ['span', '"startTimeUnixNano":1e20', /^startTimeUnixNano is out of the range/],
    ['span', '"startTimeUnixNano":1e999999999999', /^startTimeUnixNano is out of the range/],
    ['span', '"startTimeUnixNano":-1', /^startTimeUnixNano is out of the range/],
    ['span', '"startTimeUnixNano":1.5', /^startTimeUnixNano must be an integer/],
    ['span', '"startTimeUnixNano":1e-1', /^startTimeUnixNano must be an integer/],
    ['span', '"startTimeUnixNano":""', /^startTimeUnixNano must be an integer/],
    ['span', '"startTimeUnixNano":" 1"', /^startTimeUnixNano must be an integer/],
    ['span', '"startTimeUnixNano":"+1"', /^startTimeUnixNano must be an integer/],
    ['span', '"startTimeUnixNano":"01"', /^startTimeUnixNano must be an integer/],
    ['span', '"startTimeUnixNano":"0x1"', /^startTimeUnixNano must be an integer/],
    ['span', '"startTimeUnixNano":"1', /string/],
    ['span', '"startTimeUnixNano":true', /^startTimeUnixNano must be an integer/],
    ['span', '"startTimeUnixNano":[1]', /^startTimeUnixNano must be an integer/],
    ['span', '"startTimeUnixNano":01', /','/],
    ['span', '"startTimeUnixNano":-', /a digit/],
    ['span', '"startTimeUnixNano":1.', /a digit/],
    ['log', '"body":{"intValue":"9223372036854775808"}', /^intValue is out of the range of a signed integer of 64 bits/],
    ['log', '"body":{"intValue":-9223372036854775809}', /^intValue is out of the range/],
    ['log', '"flags":4294967296', /^flags is out of the range of an unsigned integer of 32 bits/],
    ['log', '"flags":-1', /^flags is out of the range/],
    ['log', '"severityNumber":2147483648', /^severityNumber is out of the range of a signed integer of 32 bits/],
    ['point', '"scale":-2147483649', /^scale is out of the range/],
    ['span', '"kind":"SERVER"', /^kind must be an integer or a name of its enum/],
    ['span', '"kind":""', /^kind must be/],
    ['span', '"kind":"1.5"', /^kind must be an integer/],
    ['point', '"sum":"inf"', /^sum must be a number/],
    ['point', '"sum":NaN', /^sum must be a number/],
    ['point', '"sum":1e309', /^sum is larger than a double can be/],
    ['point', '"sum":{}', /^sum must be a number/],
    ['point', '"sum":.5', /^sum must be a number/],
    ['point', '"sum":1.e5', /a digit/],
    ['histogram', '"explicitBounds":[1,null]', /^explicitBounds must be a number/],
    ['histogram', '"bucketCounts":1', /^bucketCounts must be an array/],
    ['log', '"attributes":[null]', /^attributes must be an object/],
    ['log', '"attributes":{}', /^attributes must be an array/],
    ['log', '"attributes":[{"key":"a","value":"s"}]', /^value must be an object/],
    ['log', '"body":"text"', /^body must be an object/],
    ['log', '"body":{"boolValue":"true"}', /^boolValue must be true or false/],
    ['log', '"body":{"boolValue":tru}', /a value/],
    ['log', '"body":{"boolValue":truer}', /','/],
    ['log', '"body":nul', /a value/],
    ['log', '"body":{"stringValue":5}', /^stringValue must be a string/],
    ['log', '"body":{"bytesValue":"AAH"}'.replace('AAH', 'AAH/A'), /^bytesValue must be base64/],
    ['log', '"body":{"bytesValue":"AA="}', /^bytesValue must be base64/],
    ['log', '"body":{"bytesValue":"A A="}', /^bytesValue must be base64/],
    ['log', '"body":{"bytesValue":"===="}', /^bytesValue must be base64/],
    ['log', '"body":{"bytesValue":[1]}', /^bytesValue must be a string/],
    ['span', '"traceId":"abc"', /^traceId must be pairs of hexadecimal digits/],
    ['span', '"traceId":"zz"', /^traceId must be pairs/],
    ['span', '"traceId":7', /^traceId must be a string/],
    ['span', '"links":[{"spanId":"+lbMDyeZlbU="}]', /^spanId must be pairs/],
    ['span', '"name":"a\nb"', /closing quote/],
    ['span', '"name":"a\\x"', /an escape/],
    ['span', '"name":"\\u12g4"', /hexadecimal/],
    ['span', "'name':1", /a key/],
    ['span', 'name:1', /a key/],
    ['span', '"name" 1', /a colon/],
    ['span', '"name":"a",', /a key/],
    ['span', '"name":"a" "kind":1', /','/],
    ['span', '"x":[1,]', /a value/],
    ['span', '"x":{,}', /a key/],
    ['span', '"x":{"a":1,}', /a key/],
    ['span', '"x":[1 2]', /','/],
    ['span', '"x":[1}', /','/],
    ['span', '"x":undefined', /a value/],
    ['span', '"x":"\t"', /closing quote/],
    ['span', '"x":-01', /','/],
  ])('%s {%s} is refused', (kind, fields, reason) => {
    const error = refusedFields(kind, fields);
    expect(error.message).toMatch(reason);
    const before = WRAPPED[kind][1].indexOf('#');
    expect(error.byteOffset).toBeGreaterThanOrEqual(before);
    expect(error.byteOffset).toBeLessThanOrEqual(wrap(kind, fields).length);
  });

  test('offsets count from the first byte of the body, byte order mark included', () => {
    expect(refusal('logs', '{"resourceLogs":7}').byteOffset).toBe(16);
    expect(refusal('logs', '\ufeff{"resourceLogs":7}').byteOffset).toBe(19);
  });
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
  test.each(['', ' ', 'null', '[]', '"x"', '1', '{', '{"a":1', '{}{}', '{} x', '{},', '\0', '{}\0', '\ufeff', '\ufeff\ufeff{}'])(
    '%j is malformed',
    (json) => {
      expect(refusal('traces', json)).toBeInstanceOf(Malformed);
    },
  );

  test.each(['{}', ' \t\r\n{ \n} \n', '\ufeff{}', '{"resourceSpans":[]}', '{"resourceSpans":null}', '{"x":1}'])(
    '%j is an empty one',
    (json) => {
      expect(convert('traces', json)).toEqual({});
    },
  );

  test('another signal\'s request is one without anything known', () => {
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
      expect(convert('logs', '{"resourceLogs":[{"schemaUrl":"s"}]}')).toEqual({ resourceLogs: [{ schemaUrl: 's' }] });
    }
  });

  test('numbers that take more room in protobuf than in JSON', () => {
    const counts = new Array<number>(200_000).fill(0);
    expect(fieldsOf('histogram', `"explicitBounds":[${counts}]`)).toEqual({ explicitBounds: counts });
    expect(fieldsOf('log', `"attributes":[${new Array(100_000).fill('{}')}]`)).toMatchObject({ attributes: { length: 100_000 } });
  });

  test('digits without end take no time to speak of', () => {
    const digits = `1${'0'.repeat(1 << 20)}1`;
    expect(refusedFields('log', `"body":{"intValue":${digits}}`).message).toMatch(/out of the range/);
    expect(refusedFields('log', `"body":{"doubleValue":"${digits}"}`).message).toMatch(/larger than a double/);
    expect(refusedFields('log', `"body":{"doubleValue":"${digits}x"}`).message).toMatch(/must be a number/);
  });
});

describe('nesting', () => {
  const nested = (open: string, close: string, depth: number, inner: string) =>
    open.repeat(depth) + inner + close.repeat(depth);
  const LIST = ['{"arrayValue":{"values":[', ']}}'] as const;
  const MAP = ['{"kvlistValue":{"values":[{"key":"k","value":', '}]}}'] as const;

  test.each([LIST, MAP])('values nest somewhat deeper than allowed, so that their record can be told: %s', (open, close) => {
    const depths: number[] = [];
    for (const depth of [1, 5, 16, NESTING_MAX, NESTING_MAX + 1, NESTING_MAX + 10]) {
      const text = nested(open, close, depth, '{"stringValue":"inner"}');
      const decoded = JSON.stringify(fieldsOf('log', `"body":${text},"attributes":[{"key":"a","value":${text}}]`));
      depths.push(decoded.split(/arrayValue|kvlistValue/).length - 1);
      expect(decoded.split('inner')).toHaveLength(3);
    }
    expect(depths).toEqual([1, 5, 16, NESTING_MAX, NESTING_MAX + 1, NESTING_MAX + 10].map((depth) => depth * 2));
  });

  test.each([
    ['lists of values', LIST[0]],
    ['maps of values', MAP[0]],
  ])('100,000 %s are malformed', (_, open) => {
    expect(refusedFields('log', `"body":${open.repeat(100_000)}`).message).toMatch(/nested deeper than 320 levels/);
  });

  test.each(['[', '{"a":', '[{"a":', '{"resourceSpans":[', ' [\n'])('100,000 × %j in what is unknown are malformed', (open) => {
    expect(refusal('traces', `{"x":${open.repeat(100_000)}`).message).toMatch(/nested deeper/);
  });

  test('a limit that the stack could not hold is not tried', () => {
    const text = wrap('log', `"body":${MAP[0].repeat(100_000)}`);
    expect(() => jsonToProtobuf('logs', text, 1_000_000)).toThrow(/nested deeper than 2048 levels/);
  });
});
