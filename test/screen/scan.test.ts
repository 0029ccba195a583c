/**
 * Goal: what the scan reads the quick way it reads as the slow way would: a record cut off anywhere is broken
 * and comes back, lengths at the edges of one, two and three bytes are read right, and a rule is passed over by
 * a name's first byte only if it doesn't hold.
 */
import { expect, test } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import { SIGNALS, type Signal } from '../../src/model/signal.ts';
import { compileScreen } from '../../src/screen/screen.ts';
import { decode } from '../oracle/decode.ts';
import { type Plain, encode } from '../oracle/encode.ts';
import { requestOf } from '../oracle/samples.ts';
import { isDecodable, rulesOf, settingsOf } from './support.ts';

const CONTEXT = { tenant: 'shop', nowMs: Date.now() };
const attribute = (key: string, value: string) => ({ key, value: { stringValue: value } });

function screenOf(...rules: readonly object[]) {
  return compileScreen(settingsOf({}, rulesOf(...rules)));
}

/** A varint of as many bytes as it needs. */
function varint(value: number): number[] {
  return value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)];
}

function field(tag: number, content: Uint8Array): Buffer {
  return Buffer.from([...varint(tag), ...varint(content.length), ...content]);
}

const ATTRIBUTES = [
  attribute('a', 'x'), { key: 'b', value: { intValue: 300n } }, { key: 'c', value: { doubleValue: 0.5 } },
  { key: 'd', value: { kvlistValue: { values: [attribute('e', 'y')] } } }, attribute('long', 'z'.repeat(200)),
];
/** Each with the tags of the messages around it, from the outermost one. */
const RECORDS: Readonly<Record<Signal, readonly [record: Plain, around: readonly number[]]>> = {
  traces: [{ name: 'n', kind: 2, startTimeUnixNano: 5n, attributes: ATTRIBUTES, flags: 257 }, [10, 18, 18]],
  logs: [{ severityNumber: 9, body: { stringValue: 'b'.repeat(130) }, attributes: ATTRIBUTES, flags: 1 }, [10, 18, 18]],
  metrics: [{ timeUnixNano: 5n, attributes: ATTRIBUTES, flags: 1 }, [10, 18, 18, 42, 10]],
};

/** The record's own bytes: the content of the innermost message. */
function contentOf(signal: Signal): Uint8Array {
  const [record, around] = RECORDS[signal];
  const metric = { name: 'm', gauge: { dataPoints: [record] } };
  let bytes: Uint8Array = encode(REQUESTS[signal], requestOf(signal, [signal === 'metrics' ? metric : record], {}, {}));
  for (const wanted of around) bytes = lastOf(bytes, wanted);
  return bytes;
}

/** The content of the last field with the tag; all have lengths below 16 KiB here. */
function lastOf(bytes: Uint8Array, wanted: number): Uint8Array {
  let found: Uint8Array = new Uint8Array();
  for (let p = 0; p < bytes.length; ) {
    const tag = bytes[p++] as number;
    const first = bytes[p++] as number;
    const n = first < 128 ? first : (first & 127) | ((bytes[p++] as number) << 7);
    if (tag === wanted) found = bytes.subarray(p, p + n);
    p += n;
  }
  return found;
}

test.each(SIGNALS)('%s cut off anywhere come back as they are if they are broken', (signal) => {
  const screen = screenOf(
    { name: 'redact', action: 'redact', keys: ['e', 'none'] },
    { name: 'drop', action: 'drop', when: [{ field: 'attributes.none', exists: false }] },
  );
  const content = contentOf(signal);
  const [, around] = RECORDS[signal];
  let broken = 0;
  for (let length = 0; length < content.length; length++) {
    const bytes = around.reduceRight<Uint8Array>((inner, tag) => field(tag, inner), content.subarray(0, length));
    // Nothing behind its last byte, and something.
    for (const request of [Uint8Array.from(bytes), Buffer.concat([bytes, field(18, bytes)]).subarray(0, bytes.length)]) {
      const { bytes: left, filtered } = screen.apply(signal, request, CONTEXT);
      if (isDecodable(signal, request)) expect(filtered).toEqual(new Map([['drop', 1]]));
      else {
        broken++;
        expect(left).toBe(request);
        expect(filtered.size).toBe(0);
      }
    }
  }
  expect(broken).toBeGreaterThan(content.length);
});

test.each([0, 1, 123, 124, 125, 126, 127, 128, 129, 16_380, 16_383, 16_384, 16_387, 70_000])(
  'keys, values and names of %i bytes are found, hidden and counted',
  (length) => {
    const text = 'x'.repeat(length);
    const key = `k${text}`.slice(0, 900);
    const screen = screenOf(
      { name: 'hide', action: 'redact', keys: [key] },
      { name: 'drop', action: 'drop', when: [{ field: 'attributes.last', equals: `l${text}` }] },
      { name: 'keep', action: 'keep', when: [{ field: 'name', equals: `n${text}` }] },
      { name: 'rest', action: 'drop' },
    );
    const inner = { key: 'in', value: { kvlistValue: { values: [attribute(key, text)] } } };
    const spans = [
      { name: `n${text}`, attributes: [attribute('first', text), inner, attribute('last', text)] },
      { name: `n${text}`, attributes: [attribute('first', text), attribute('last', `l${text}`)] },
      { name: text, attributes: [attribute(key, text)] },
    ];
    const request = encode(REQUESTS.traces, requestOf('traces', spans, {}, {}));
    const { bytes, filtered, redacted } = screen.apply('traces', request, CONTEXT);
    expect(filtered).toEqual(new Map([['drop', 1], ['rest', 1]]));
    expect(redacted).toEqual(new Map([['hide', 1]]));
    const hidden = { key: 'in', value: { kvlistValue: { values: [attribute(key, '***')] } } };
    const left = { ...spans[0], attributes: [attribute('first', text), hidden, attribute('last', text)] };
    const expected = encode(REQUESTS.traces, requestOf('traces', [left], {}, {}));
    expect(decode(REQUESTS.traces, bytes)).toEqual(decode(REQUESTS.traces, expected));
  },
);

test('rules on names hold whatever a name begins with', () => {
  const conditions: readonly (readonly [condition: object, names: readonly string[]])[] = [
    [{ equals: 'ab' }, ['ab']],
    [{ oneOf: ['ab', 'über', 'b'] }, ['ab', 'b', 'über']],
    [{ startsWith: '' }, ['ab', 'abc', 'b', 'über', 'x']],
    [{ startsWith: 'ü' }, ['über']],
    [{ matches: '^ab?' }, ['ab', 'abc']],
    [{ matches: '^ab|x' }, ['ab', 'abc', 'x']],
    [{ matches: 'b' }, ['ab', 'abc', 'b', 'über']],
    [{ equals: 'ab', oneOf: ['b', 'ab'], startsWith: 'a', matches: 'b$' }, ['ab']],
    [{ oneOf: ['b', 'ab'], matches: 'b' }, ['ab', 'b']],
    [{ exists: true }, ['ab', 'abc', 'b', 'über', 'x']],
    [{ exists: false }, ['']],
    [{ exists: false, equals: 'ab' }, []],
    [{ equals: '' }, []],
  ];
  for (const signal of SIGNALS) {
    for (const [condition, names] of conditions) {
      const screen = screenOf({ name: 'r', action: 'drop', when: [{ field: 'name', ...condition }] });
      const held = ['', 'ab', 'abc', 'b', 'über', 'x'].filter((name) => {
        const record = {
          traces: { name }, logs: { eventName: name }, metrics: { name, sum: { dataPoints: [{ asInt: 1n }] } },
        }[signal];
        const request = encode(REQUESTS[signal], requestOf(signal, [record], {}, {}));
        return screen.apply(signal, request, CONTEXT).filtered.size > 0;
      });
      expect([signal, condition, held]).toEqual([signal, condition, names]);
    }
  }
});

test('metrics in turn each have their own rules', () => {
  const metric = (name: string) => ({ name, gauge: { dataPoints: [{ asInt: 1n, attributes: [attribute('a', 'b')] }] } });
  const screen = screenOf(
    ...['x', 'y'].map((name) => ({
      name, action: 'redact', when: [{ field: 'name', startsWith: name }], keys: ['a'], replacement: name,
    })),
    { name: 'z', action: 'drop', when: [{ field: 'name', matches: 'z' }, { field: 'attributes.a', equals: 'b' }] },
  );
  const names = ['x', 'x', 'n', 'y', 'xz', 'z', 'x', 'n', 'z', 'y'];
  const request = encode(REQUESTS.metrics, requestOf('metrics', names.map(metric), {}, {}));
  const { filtered, redacted } = screen.apply('metrics', request, CONTEXT);
  expect(filtered).toEqual(new Map([['z', 3]]));
  expect(redacted).toEqual(new Map([['x', 3], ['y', 2]]));
});
