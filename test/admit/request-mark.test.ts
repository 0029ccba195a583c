/**
 * Goal: the same bytes of one signal and source have one mark in every gateway of an installation; any other
 * byte, length, signal, source or key gives another, in which every bit is as likely to differ as not.
 */
import { createCipheriv, createHmac, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { RequestMarks } from '../../src/admit/request-mark.ts';
import { SIGNALS } from '../../src/model/signal.ts';

const KEY = Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex');
const marks = new RequestMarks(KEY);
const LENGTHS = [0, 1, 15, 16, 17, 2_048, 65_536 + 1];

function bytesOf(length: number): Buffer {
  return Buffer.from(Array.from({ length }, (_, i) => (i * 31) & 0xff));
}

function flipped(bytes: Uint8Array, bit: number): Buffer {
  const changed = Buffer.from(bytes);
  changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
  return changed;
}

function bitsBetween(one: Uint8Array, other: Uint8Array): number {
  let bits = 0;
  for (const [i, byte] of one.entries()) {
    for (let rest = byte ^ (other[i] ?? 0); rest > 0; rest >>= 1) bits += rest & 1;
  }
  return bits;
}

describe.each(LENGTHS)('%i bytes', (length) => {
  const request = bytesOf(length);
  const mark = marks.mark('traces', '', request);

  test('16 bytes, the same for the same, wherever they lie', () => {
    expect(mark).toHaveLength(16);
    const elsewhere = Buffer.concat([randomBytes(3), request, randomBytes(5)]).subarray(3, 3 + length);
    expect(marks.mark('traces', '', elsewhere)).toEqual(mark);
    expect(new RequestMarks(Buffer.from(KEY)).mark('traces', '', new Uint8Array(request))).toEqual(mark);
    expect(marks.mark('traces', '', request)).not.toBe(mark);
  });

  test('another signal, source, key or length: another mark', () => {
    const others = [
      marks.mark('metrics', '', request),
      marks.mark('logs', '', request),
      marks.mark('traces', 'a', request),
      marks.mark('traces', 'b', request),
      marks.mark('logs', 'a', request),
      marks.mark('traces', '', Buffer.concat([request, Buffer.alloc(1)])),
      marks.mark('traces', '', Buffer.concat([Buffer.of(1), request])),
      marks.mark('traces', '', Buffer.concat([request, Buffer.alloc(16)])),
      new RequestMarks(flipped(KEY, 0)).mark('traces', '', request),
      new RequestMarks(flipped(KEY, 127)).mark('traces', '', request),
    ];
    const distinct = new Set([mark, ...others].map((each) => each.toString('hex')));
    expect(distinct.size).toBe(others.length + 1);
  });

  test('one bit: half of the mark', () => {
    const bits = Array.from({ length: Math.min(256, length * 8) }, (_, i) => (i * 8_191) % (length * 8));
    const distances = [...new Set(bits)].map((bit) =>
      bitsBetween(mark, marks.mark('traces', '', flipped(request, bit))),
    );
    for (const distance of distances) expect(distance).toBeGreaterThan(0);
    // 64 of 128, with a deviation of 5.7 for one of them: for the mean of 64 and more, 5 is far out.
    const mean = distances.reduce((sum, distance) => sum + distance, 0) / distances.length;
    if (distances.length >= 64) expect(Math.abs(mean - 64)).toBeLessThan(5);
  });
});

test('it is GMAC under a nonce of signal and source', () => {
  const nonce = createHmac('sha256', KEY).update('logs\0team').digest().subarray(0, 12);
  const gmac = createCipheriv('aes-128-gcm', KEY, nonce).setAAD(Buffer.from('request'));
  gmac.final();
  expect(marks.mark('logs', 'team', Buffer.from('request'))).toEqual(gmac.getAuthTag());
});

test('signal and source cannot be shifted into each other', () => {
  const request = bytesOf(10);
  const names = ['', 's', '\0', 'logs', '\0logs', 'traces\0', 'A', 'a'];
  const all = SIGNALS.flatMap((signal) => names.map((name) => marks.mark(signal, name, request).toString('hex')));
  expect(new Set(all).size).toBe(SIGNALS.length * names.length);
});

test('more sources than are kept: the mark of each stays what it is', () => {
  const request = bytesOf(10);
  const own = new RequestMarks(KEY);
  const markOf = (source: number) => own.mark('traces', `source ${source}`, request).toString('hex');
  const before = Array.from({ length: 2_500 }, (_, source) => markOf(source));
  expect(new Set(before).size).toBe(before.length);
  expect(before.map((_, source) => markOf(source))).toEqual(before);
});

test('equal exactly for what is equal', () => {
  const request = fc.record({
    signal: fc.constantFrom(...SIGNALS),
    source: fc.string({ maxLength: 2 }),
    bytes: fc.uint8Array({ maxLength: 40 }),
  });
  fc.assert(
    fc.property(request, request, fc.boolean(), (one, drawn, same) => {
      const other = same ? { ...drawn, signal: one.signal, source: one.source } : drawn;
      const named = one.signal === other.signal && one.source === other.source;
      const equal = named && Buffer.compare(one.bytes, other.bytes) === 0;
      const [a, b] = [one, other].map((each) => marks.mark(each.signal, each.source, each.bytes));
      expect(a?.equals(b ?? Buffer.alloc(0))).toBe(equal);
    }),
    { numRuns: 2_000 },
  );
});

test.each([0, 15, 17, 32])('a key of %i bytes is a mistake', (length) => {
  expect(() => new RequestMarks(Buffer.alloc(length))).toThrow(/16 bytes/);
});
