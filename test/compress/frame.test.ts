/**
 * Goal: each block becomes one zstd frame that others read, the kept context never mixes blocks, and it can
 * be missing.
 */
import zlib from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { createFrameCompressor, keptContext, publicCompressor } from '../../src/compress/frame.ts';
import { readZstdFrame } from '../../src/compress/zstd-frame.ts';

const LEVELS = [-50, -7, -5, -1, 1, 3, 9];
const SIZES = [0, 1, 100, (1 << 17) - 1, 1 << 17, (1 << 17) + 1, 300_000, 9 << 20];

function block(bytes: number, seed: number): Uint8Array {
  const random = Buffer.alloc(bytes);
  for (let i = 0, state = seed; i < bytes; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    // Half noise, half repetition.
    random[i] = (i & 64) === 0 ? state >>> 24 : i >> 7;
  }
  return random;
}

describe.each(LEVELS)('level %i', (level) => {
  test('what comes out is one frame of what went in', () => {
    const compressor = createFrameCompressor(level);
    expect(compressor.layout).toBe('z1');
    for (const bytes of level > 3 ? SIZES.slice(0, 5) : SIZES) {
      const input = block(bytes, bytes + 1);
      const frame = compressor.compress(input);
      expect(readZstdFrame(frame, 0)?.end).toBe(frame.length);
      expect(Buffer.compare(zlib.zstdDecompressSync(frame), input)).toBe(0);
    }
  });

  test("frames stay the caller's, and equal those of the public way", () => {
    const kept = keptContext(level);
    if (kept === undefined) throw new Error('this Node has no context to keep: see frame.ts');
    const blocks = [3, 70_000, 10, 250_000, 10].map((bytes, index) => block(bytes, index + 7));
    const frames = blocks.map((bytes) => kept(bytes));
    expect(frames).toEqual(blocks.map((bytes) => publicCompressor(level)(bytes)));
  });

  test('a view into the middle of a larger memory is compressed alone', () => {
    const memory = block(500_000, 5);
    const view = memory.subarray(1001, 201_001);
    const frame = createFrameCompressor(level).compress(view);
    expect(Buffer.compare(zlib.zstdDecompressSync(frame), view)).toBe(0);
  });
});

test("frames that can't be made smaller are whole", () => {
  const noise = Buffer.alloc(1 << 20);
  for (let i = 0, state = 9; i < noise.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    noise[i] = state >>> 24;
  }
  const frame = createFrameCompressor(1).compress(noise);
  expect(Buffer.compare(zlib.zstdDecompressSync(frame), noise)).toBe(0);
});

test('frames follow one another', () => {
  const { compress } = createFrameCompressor(1);
  const first = compress(block(5000, 1));
  const second = compress(block(7000, 2));
  const both = Buffer.concat([first, second]);
  expect(readZstdFrame(both, 0)?.end).toBe(first.length);
  expect(readZstdFrame(both, first.length)?.end).toBe(both.length);
});

test('off is a copy, in a layout of its own', () => {
  const { layout, compress } = createFrameCompressor('off');
  expect(layout).toBe('r1');
  const input = block(1000, 3);
  const copy = compress(input);
  input.fill(0);
  expect(Buffer.compare(copy, block(1000, 3))).toBe(0);
});

test('level -1, which Node would read as "not set", is not level 3', () => {
  const input = block(100_000, 4);
  expect(createFrameCompressor(-1).compress(input)).toEqual(createFrameCompressor(-2).compress(input));
});

test.each([
  ['nothing of them', { _handle: undefined, _writeState: undefined }],
  ['a handle without the call', { _handle: {} }],
  ['no state', { _writeState: undefined }],
  ['a call that does nothing', { _handle: { writeSync() {} } }],
  ['another state', { _writeState: new Uint32Array(2) }],
])('a Node that has %s of the internals compresses the public way', (_, internals) => {
  const { layout, compress } = createFrameCompressor(1, (options) =>
    Object.assign(zlib.createZstdCompress(options), internals),
  );
  const input = block(50_000, 6);
  expect(layout).toBe('z1');
  expect(compress(input)).toEqual(publicCompressor(1)(input));
});

test('a context that fails later is left for the public way, block by block', () => {
  let calls = 0;
  const { compress } = createFrameCompressor(1, (options) => {
    const stream = zlib.createZstdCompress(options);
    const handle = Reflect.get(stream, '_handle') as { writeSync(...parameters: unknown[]): void };
    const writeSync = (...parameters: unknown[]) => {
      // The self-test, and one block.
      if (++calls <= 6) handle.writeSync(...parameters);
    };
    return Object.assign(stream, { _handle: { writeSync } });
  });
  for (let seed = 1; seed < 5; seed++) {
    const input = block(60_000, seed);
    expect(compress(input)).toEqual(publicCompressor(1)(input));
  }
  expect(calls).toBe(7);
});
