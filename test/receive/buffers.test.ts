/**
 * Goal: bodies in pieces come out as they went in, what is allocated follows what arrived, and buffers are
 * used again.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BufferPool, PooledBody } from '../../src/receive/buffers.ts';
import { type FrameFault, GrpcMessage } from '../../src/receive/grpc-message.ts';
import { frame } from './support.ts';

const pieces = fc.array(fc.uint8Array({ maxLength: 9_000 }), { maxLength: 12 });

test('any pieces with any declared length come out whole', () => {
  const pool = new BufferPool();
  fc.assert(
    fc.property(pieces, fc.nat(100_000), (parts, declared) => {
      const body = new PooledBody(pool, declared);
      for (const part of parts) body.append(part);
      expect(Buffer.concat(parts).equals(Buffer.concat(body.handOver()))).toBe(true);
      body.release();
      expect(body.length).toBe(0);
    }),
  );
});

const MIB = 1 << 20;

test.each([
  ['the last that is one piece', 4 * MIB, 1],
  ['the first that is more', 4 * MIB + 1, 2],
  ['a large one', 9 * MIB + 5, 7],
])('%s: whole, and handed over with its buffers when it is more than one', (_, bytes, count) => {
  const pool = new BufferPool();
  const body = new PooledBody(pool, 0);
  const whole = Buffer.alloc(bytes, 'abcdefg');
  for (let at = 0; at < bytes; at += 300_000) body.append(whole.subarray(at, at + 300_000));
  const idleBefore = pool.idleBytes;
  const parts = body.handOver();
  expect(parts.length).toBe(count);
  expect(Buffer.concat(parts).equals(whole)).toBe(true);
  body.release();
  // Lent: back in the pool. Handed over: never seen there again.
  expect(pool.idleBytes > idleBefore).toBe(count === 1);
});

test('a declared length is not believed before bytes have come', () => {
  const taken: number[] = [];
  class Watched extends BufferPool {
    override take(bytes: number): Buffer {
      taken.push(bytes);
      return super.take(bytes);
    }
  }
  const body = new PooledBody(new Watched(), 1 << 30);
  body.append(Buffer.alloc(10));
  body.append(Buffer.alloc(10_000));
  expect(taken).toEqual([40, 40_040]);
  body.release();
});

test('a buffer that was given back is used again, and large ones are let go', () => {
  const pool = new BufferPool();
  const first = pool.take(5_000);
  expect(first.length).toBe(8192);
  pool.give(first);
  expect(pool.idleBytes).toBe(8192);
  expect(pool.take(8192)).toBe(first);
  expect(pool.idleBytes).toBe(0);
  pool.give(pool.take(5 << 20));
  expect(pool.idleBytes).toBe(0);
});

test('the pool keeps a bounded number of bytes', () => {
  const pool = new BufferPool();
  const all = Array.from({ length: 40 }, () => pool.take(1 << 20));
  for (const buffer of all) pool.give(buffer);
  expect(pool.idleBytes).toBe(32 << 20);
});

/** The frame cut into pieces at any places, through a reader with this limit. */
function read(bytes: Buffer, cuts: readonly number[], bytesMax: number): FrameFault | Buffer {
  const message = new GrpcMessage(new BufferPool(), bytesMax);
  const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).toSorted((a, b) => a - b), bytes.length];
  for (let i = 1; i < places.length; i++) {
    const fault = message.add(bytes.subarray(places[i - 1], places[i]));
    if (fault !== undefined) return fault;
  }
  return message.end() ?? Buffer.concat(message.handOver());
}

test('a gRPC message comes out whole wherever it was cut', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 500 }), fc.array(fc.nat(600), { maxLength: 8 }), (bytes, cuts) => {
      expect(read(frame(bytes), cuts, 500)).toEqual(Buffer.from(bytes));
    }),
  );
});

test.each<[string, Buffer, FrameFault]>([
  ['nothing at all', Buffer.alloc(0), 'cut_short'],
  ['half a prefix', Buffer.alloc(4), 'cut_short'],
  ['a prefix without its message', frame(Buffer.alloc(0), 0, 1), 'cut_short'],
  ['a message one byte short', frame(Buffer.alloc(9), 0, 10), 'cut_short'],
  ['one byte too many', frame(Buffer.alloc(11), 0, 10), 'second_message'],
  ['two messages', Buffer.concat([frame(Buffer.alloc(3)), frame(Buffer.alloc(3))]), 'second_message'],
  ['two empty messages', Buffer.concat([frame(Buffer.alloc(0)), frame(Buffer.alloc(0))]), 'second_message'],
  ['a flag of 2', frame(Buffer.alloc(3), 2), 'unknown_flag'],
  ['one byte over the limit', frame(Buffer.alloc(101)), 'too_large'],
  ['4 GiB declared', frame(Buffer.alloc(0), 0, 0xffffffff), 'too_large'],
])('%s is %s', (_, bytes, fault) => {
  for (const cuts of [[], [1], [4, 5, 6], [5]]) expect(read(bytes, cuts, 100)).toBe(fault);
});

test('the largest message is let in', () => {
  expect(read(frame(Buffer.alloc(100, 'x')), [50], 100)).toEqual(Buffer.alloc(100, 'x'));
});
