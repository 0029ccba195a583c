/**
 * Goal: each type of field takes what proto3's JSON mapping and OTLP allow for it, and refuses everything
 * else by name.
 */
import { describe, expect, test } from 'vitest';
import { fieldsOf, refusal, refusedFields, WRAPPED, type Wrapping, wrap } from './json-support.ts';

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
    [
      'point',
      '"scale":-2147483648,"positive":{"offset":2147483647}',
      { scale: -(2 ** 31), positive: { offset: 2 ** 31 - 1 } },
    ],
    [
      'point',
      '"positive":{"bucketCounts":["18446744073709551615",0,1]}',
      { positive: { bucketCounts: [TOP, 0n, 1n] } },
    ],
    [
      'histogram',
      '"bucketCounts":[9007199254740993,"2"],"explicitBounds":["-Infinity",1e-7]',
      {
        bucketCounts: [9007199254740993n, 2n],
        explicitBounds: [Number.NEGATIVE_INFINITY, 1e-7],
      },
    ],
    // Enums: integers, known or not, and names.
    ['span', '"kind":2,"status":{"code":"2"}', { kind: 2, status: { code: 2 } }],
    ['span', '"kind":-7', { kind: -7 }],
    [
      'span',
      '"kind":"SPAN_KIND_CONSUMER","status":{"code":"STATUS_CODE_ERROR"}',
      { kind: 5, status: { code: 2 } },
    ],
    ['log', '"severityNumber":"SEVERITY_NUMBER_FATAL4"', { severityNumber: 24 }],
    ['log', '"severityNumber":"SEVERITY_NUMBER_DEBUG"', { severityNumber: 5 }],
    // Doubles.
    ['point', '"sum":-0.0', { sum: -0 }],
    [
      'point',
      '"sum":"NaN","min":"-Infinity","max":"Infinity"',
      { sum: Number.NaN, min: Number.NEGATIVE_INFINITY, max: Number.POSITIVE_INFINITY },
    ],
    [
      'point',
      '"sum":0.1,"min":123456789.123456789,"max":"1.5"',
      { sum: 0.1, min: Number('123456789.123456789'), max: 1.5 },
    ],
    [
      'point',
      '"sum":1.7976931348623157e308,"min":5e-324,"max":1e-400',
      { sum: Number.MAX_VALUE, min: Number.MIN_VALUE, max: 0 },
    ],
    [
      'point',
      '"sum":9007199254740993,"min":4.35,"max":0.30000000000000004',
      { sum: 9007199254740992, min: 4.35, max: 0.1 + 0.2 },
    ],
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
    [
      'span',
      '"name":null,"kind":null,"startTimeUnixNano":null,"status":null,"attributes":null,"traceId":null',
      {},
    ],
    [
      'log',
      '"body":null,"attributes":[{"key":"a","value":null},{"key":null,"value":{"stringValue":null}}]',
      {
        attributes: [{ key: 'a' }, { value: {} }],
      },
    ],
    // The last one of two; lists go on.
    ['span', '"name":"a","name":"","kind":1,"kind":3', { name: '', kind: 3 }],
    [
      'span',
      '"attributes":[{"key":"a"}],"attributes":[{"key":"b"}]',
      { attributes: [{ key: 'a' }, { key: 'b' }] },
    ],
    ['log', '"body":{"stringValue":"a","intValue":0}', { body: { intValue: 0n } }],
    // Attributes that look almost like the usual form.
    [
      'log',
      '"attributes":[{"key":"a","value":{"stringValue":"b","boolValue":true}}]',
      { attributes: [{ key: 'a', value: { boolValue: true } }] },
    ],
    [
      'log',
      '"attributes":[{"key":"a","value":{"stringValue":"b"},"x":[1]}]',
      {
        attributes: [{ key: 'a', value: { stringValue: 'b' } }],
      },
    ],
    [
      'log',
      '"attributes":[{"key":"a","value":{"intValue":7} },{"key":"b" ,"value":{}},{"value":{},"key":"c"}]',
      {
        attributes: [
          { key: 'a', value: { intValue: 7n } },
          { key: 'b', value: {} },
          { key: 'c', value: {} },
        ],
      },
    ],
    // Keys: only those of the table, whatever way they are written.
    [
      'span',
      '"trace_id":"00","Name":"x","nam":"y","names":"z","":0,"__proto__":{"a":1},"constructor":[]',
      {},
    ],
    ['span', '"n\\u0061me":"a","\\u006bind":4,"x\\ty":1', { name: 'a', kind: 4 }],
    ['span', '"x":{"a":[1,-2.5e-7,"\\ud800",true,false,null,{}],"":[[]]},"name":"after"', { name: 'after' }],
  ])('%s {%s}', (kind, fields, expected) => {
    expect(fieldsOf(kind, fields)).toEqual(expected);
  });

  test.each<[Wrapping, string, RegExp]>([
    [
      'span',
      '"startTimeUnixNano":18446744073709551616',
      /^startTimeUnixNano is out of the range of an unsigned integer of 64 bits at/,
    ],
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
    [
      'log',
      '"body":{"intValue":"9223372036854775808"}',
      /^intValue is out of the range of a signed integer of 64 bits/,
    ],
    ['log', '"body":{"intValue":-9223372036854775809}', /^intValue is out of the range/],
    ['log', '"flags":4294967296', /^flags is out of the range of an unsigned integer of 32 bits/],
    ['log', '"flags":-1', /^flags is out of the range/],
    [
      'log',
      '"severityNumber":2147483648',
      /^severityNumber is out of the range of a signed integer of 32 bits/,
    ],
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
    ['log', '"body":{"bytesValue":"AAH/A"}', /^bytesValue must be base64/],
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
