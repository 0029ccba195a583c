/**
 * Goal: every encoding that clients send is read exactly, nothing over the bound is, and nothing cut or
 * tampered passes.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import zlib from 'node:zlib';
import { describe, expect, test } from 'vitest';
import {
  type Encoding,
  encodingOf,
  type InflateResult,
  inflate,
  inflatedSizeHint,
} from '../../src/compress/inflate.ts';

const TEXT = Buffer.from('spans, points and records; '.repeat(200));
const LIMIT = 1 << 20;

function okBytes(result: InflateResult): Buffer {
  if (result.kind !== 'ok') throw new Error(`expected ok, got ${JSON.stringify(result)}`);
  return Buffer.from(result.bytes);
}

/** Compresses without ever knowing the size, as a client does that streams. */
function zstdStreamed(chunks: readonly Uint8Array[]): Buffer {
  const program = `
    const zlib = require('node:zlib');
    const stream = zlib.createZstdCompress();
    stream.pipe(process.stdout);
    const chunks = JSON.parse(process.argv[1]).map((chunk) => Buffer.from(chunk, 'base64'));
    const next = () => chunks.length ? stream.write(chunks.shift(), () => stream.flush(next)) : stream.end();
    next();`;
  const input = JSON.stringify(chunks.map((chunk) => Buffer.from(chunk).toString('base64')));
  return execFileSync(process.execPath, ['-e', program, input], { maxBuffer: 1 << 26 });
}

function flipped(bytes: Buffer, index: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[index] = (copy[index] ?? 0) ^ 0x10;
  return copy;
}

const BODIES: readonly [name: string, encoding: Encoding, body: Buffer][] = [
  ['identity', 'identity', TEXT],
  ['gzip', 'gzip', zlib.gzipSync(TEXT)],
  [
    'gzip of several members',
    'gzip',
    Buffer.concat(
      [0, 2000, 4000].map((from, i) =>
        zlib.gzipSync(TEXT.subarray(from, i === 2 ? TEXT.length : from + 2000)),
      ),
    ),
  ],
  ['zlib', 'deflate', zlib.deflateSync(TEXT)],
  ['zlib, fastest', 'deflate', zlib.deflateSync(TEXT, { level: 1 })],
  ['zlib, small window', 'deflate', zlib.deflateSync(TEXT, { windowBits: 9 })],
  ['raw deflate', 'deflate', zlib.deflateRawSync(TEXT)],
  ['raw deflate, stored', 'deflate', zlib.deflateRawSync(TEXT, { level: 0 })],
  ['zstd', 'zstd', zlib.zstdCompressSync(TEXT)],
  [
    'zstd with checksum',
    'zstd',
    zlib.zstdCompressSync(TEXT, { params: { [zlib.constants.ZSTD_c_checksumFlag]: 1 } }),
  ],
  ['zstd streamed', 'zstd', zstdStreamed([TEXT.subarray(0, 1000), TEXT.subarray(1000)])],
  [
    'zstd of several frames',
    'zstd',
    Buffer.concat([
      zlib.zstdCompressSync(TEXT.subarray(0, 3000)),
      skippableFrame(100),
      zlib.zstdCompressSync(Buffer.alloc(0)),
      zstdStreamed([TEXT.subarray(3000)]),
    ]),
  ],
];

function skippableFrame(bytes: number): Buffer {
  const frame = Buffer.alloc(8 + bytes, 7);
  frame.writeUInt32LE(0x184d2a53, 0);
  frame.writeUInt32LE(bytes, 4);
  return frame;
}

describe('what is sent arrives', () => {
  test.each(BODIES)('%s', (_, encoding, body) => {
    expect(okBytes(inflate(body, encoding, LIMIT)).equals(TEXT)).toBe(true);
  });

  test.each(BODIES)('%s: the last size that is let in and the first that is not', (_, encoding, body) => {
    expect(inflate(body, encoding, TEXT.length).kind).toBe('ok');
    expect(inflate(body, encoding, TEXT.length - 1)).toEqual({ kind: 'too_large' });
  });

  test.each(BODIES)('%s: from the middle of a larger buffer', (_, encoding, body) => {
    const around = Buffer.concat([Buffer.alloc(13, 1), body, Buffer.alloc(5, 2)]);
    expect(okBytes(inflate(around.subarray(13, 13 + body.length), encoding, LIMIT)).equals(TEXT)).toBe(true);
  });

  test.each([
    ['identity', Buffer.alloc(0)],
    ['gzip', zlib.gzipSync('')],
    ['deflate', zlib.deflateSync('')],
    ['deflate', zlib.deflateRawSync('')],
    ['zstd', zlib.zstdCompressSync('')],
  ] as const)('nothing at all as %s', (encoding, body) => {
    expect(okBytes(inflate(body, encoding, LIMIT))).toHaveLength(0);
  });

  test("large bodies, whose size is a multiple of zlib's chunks", () => {
    const large = Buffer.alloc(1 << 20, 'abcdefghij');
    expect(okBytes(inflate(zlib.gzipSync(large), 'gzip', LIMIT)).equals(large)).toBe(true);
    expect(okBytes(inflate(zlib.deflateRawSync(large), 'deflate', LIMIT)).equals(large)).toBe(true);
    expect(okBytes(inflate(zlib.zstdCompressSync(large), 'zstd', LIMIT)).equals(large)).toBe(true);
  });
});

describe('what is damaged is corrupt', () => {
  const compressed = BODIES.filter(([, encoding]) => encoding !== 'identity');

  test.each(compressed)('%s: cut anywhere', (_, encoding, body) => {
    for (let length = 0; length < body.length; length++) {
      const result = inflate(body.subarray(0, length), encoding, LIMIT);
      // Between two members or frames a cut can't be seen: what is there is complete.
      if (result.kind === 'ok') expect(TEXT.subarray(0, result.bytes.length).equals(result.bytes)).toBe(true);
      if (result.kind === 'ok') expect(['gzip of several members', 'zstd of several frames']).toContain(_);
    }
  });

  test.each(compressed)('%s: followed by garbage', (_, encoding, body) => {
    for (const garbage of [
      [0],
      [0, 0, 0, 0],
      [0x1f],
      [0x1f, 0x8b],
      [0x28, 0xb5, 0x2f, 0xfd],
      [...Buffer.from('trailing')],
    ]) {
      expect(inflate(Buffer.concat([body, Buffer.from(garbage)]), encoding, LIMIT).kind).toBe('corrupt');
    }
  });

  test('a checksum that does not fit', () => {
    const gzip = zlib.gzipSync(TEXT);
    expect(inflate(flipped(gzip, gzip.length - 6), 'gzip', LIMIT).kind).toBe('corrupt');
    expect(inflate(flipped(gzip, gzip.length - 2), 'gzip', LIMIT).kind).toBe('corrupt');
    const adler = zlib.deflateSync(TEXT);
    expect(inflate(flipped(adler, adler.length - 1), 'deflate', LIMIT).kind).toBe('corrupt');
    const zstd = zlib.zstdCompressSync(TEXT, { params: { [zlib.constants.ZSTD_c_checksumFlag]: 1 } });
    expect(inflate(flipped(zstd, zstd.length - 1), 'zstd', LIMIT).kind).toBe('corrupt');
  });

  test('something else altogether, with a message that names the encoding', () => {
    for (const encoding of ['gzip', 'deflate', 'zstd'] as const) {
      const result = inflate(Buffer.from('{"resourceSpans":[]}'), encoding, LIMIT);
      expect(result).toMatchObject({ kind: 'corrupt', message: expect.stringContaining(encoding) });
      expect(inflate(Buffer.alloc(0), encoding, LIMIT).kind).toBe('corrupt');
    }
  });

  test('random bytes and single bits never do more than be refused', () => {
    let seed = 1;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return Math.floor((seed / 2 ** 32) * below);
    };
    for (let round = 0; round < 300; round++) {
      for (const [, encoding, body] of BODIES) {
        const copy = Buffer.from(body);
        copy[random(copy.length)] = random(256);
        const result = inflate(copy, encoding, LIMIT);
        if (result.kind === 'ok') expect(result.bytes.length).toBeLessThanOrEqual(LIMIT);
      }
    }
  });
});

describe('recorded requests', () => {
  const VECTORS = resolve(import.meta.dirname, '../fixtures/vectors');
  interface Vector {
    readonly id: string;
    readonly ce: string;
    readonly file: string;
    readonly outcomes: readonly string[];
  }
  const vectors = ['corpus.json', 'edge.json']
    .flatMap((name) => JSON.parse(readFileSync(resolve(VECTORS, name), 'utf8')) as Vector[])
    .filter(({ ce }) => ce !== '');

  test.each(vectors)('$id', ({ ce, file, outcomes, id }) => {
    const encoding = encodingOf(ce);
    if (encoding === undefined) return expect(outcomes).toContain('415');
    const { kind } = inflate(readFileSync(resolve(VECTORS, file)), encoding, 64 << 20);
    if (outcomes.includes('413') && id.startsWith('bomb')) expect(kind).toBe('too_large');
    else if (outcomes.includes('accept') && id !== 'ce-gzip-trailing') expect(kind).toBe('ok');
    else expect(kind).toBe('corrupt');
  });
});

describe('bombs', () => {
  const GIB = 2 ** 30;
  /** 1 GiB of zeros, made of one flushed piece again and again. */
  function zeros(piece: (bytes: Buffer) => Buffer, tail: Buffer, head: Buffer): Buffer {
    const pieceBytes = 1 << 24;
    const flushed = piece(Buffer.alloc(pieceBytes));
    return Buffer.concat([head, ...new Array<Buffer>(GIB / pieceBytes).fill(flushed), tail]);
  }
  const fullFlush = (bytes: Buffer) =>
    zlib.deflateRawSync(bytes, { finishFlush: zlib.constants.Z_FULL_FLUSH });
  const gzipHead = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
  const sizeTrailer = Buffer.from([3, 0, 0, 0, 0, 0, 0, 0, 0, 0x40]);
  const rle = Buffer.alloc(4 * (GIB >> 17));
  for (let at = 0; at < rle.length; at += 4) rle.writeUInt32LE(((1 << 17) << 3) | 2, at);
  const zstdHead = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, (20 - 10) << 3]);
  const zstdSized = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x80, (20 - 10) << 3, 0, 0, 0, 0x40]);

  test.each([
    ['gzip', 'gzip', () => zeros(fullFlush, sizeTrailer, gzipHead)],
    [
      'gzip that lies about its size',
      'gzip',
      () => zeros(fullFlush, Buffer.from([3, 0, 0, 0, 0, 0, 9, 0, 0, 0]), gzipHead),
    ],
    ['raw deflate', 'deflate', () => zeros(fullFlush, Buffer.from([3, 0]), Buffer.alloc(0))],
    ['zstd', 'zstd', () => Buffer.concat([zstdHead, rle, Buffer.from([1, 0, 0])])],
    ['zstd with its size', 'zstd', () => Buffer.concat([zstdSized, rle, Buffer.from([1, 0, 0])])],
  ] as const)('1 GiB as %s', (_, encoding, make) => {
    const body = make();
    expect(body.length).toBeLessThan(1.2 * 2 ** 20);
    const before = process.resourceUsage().maxRSS;
    expect(inflate(body, encoding, 64 << 20)).toEqual({ kind: 'too_large' });
    // KiB: the bound's own 64 MiB and one copy of it at most, where 1 GiB would show.
    expect(process.resourceUsage().maxRSS - before).toBeLessThan(200 * 1024);
  });

  test('a small frame that declares a huge window is not given one', () => {
    const window = (log: number) => Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3, 1, 0, 0]);
    expect(inflate(window(25), 'zstd', LIMIT).kind).toBe('ok');
    expect(inflate(window(26), 'zstd', LIMIT).kind).toBe('corrupt');
    expect(inflate(window(26), 'zstd', 64 << 20).kind).toBe('ok');
    expect(inflate(window(31), 'zstd', 2 ** 30).kind).toBe('corrupt');
  });

  test('frames without end are refused at the first beyond 1024', () => {
    const empty = zlib.zstdCompressSync('');
    const frames = (count: number) => Buffer.concat(new Array<Buffer>(count).fill(empty));
    expect(inflate(frames(1024), 'zstd', LIMIT).kind).toBe('ok');
    expect(inflate(frames(1025), 'zstd', LIMIT).kind).toBe('corrupt');
  });
});

test.each([
  [undefined, 'identity'],
  ['', 'identity'],
  ['identity', 'identity'],
  ['none', 'identity'],
  ['gzip', 'gzip'],
  [' GZip ', 'gzip'],
  ['x-gzip', 'gzip'],
  ['deflate', 'deflate'],
  ['zlib', 'deflate'],
  ['ZSTD', 'zstd'],
  ['br', undefined],
  ['snappy', undefined],
  ['gzip, gzip', undefined],
  ['constructor', undefined],
] as const)('the header %s is %s', (header, encoding) => {
  expect(encodingOf(header)).toBe(encoding);
});

test('the size is guessed without inflating', () => {
  const large = Buffer.alloc(500_000, 'xyz');
  expect(inflatedSizeHint(large, 'identity')).toBe(500_000);
  expect(inflatedSizeHint(zlib.gzipSync(large), 'gzip')).toBe(500_000);
  expect(inflatedSizeHint(zlib.zstdCompressSync(large), 'zstd')).toBe(500_000);
  expect(inflatedSizeHint(Buffer.alloc(100), 'deflate')).toBe(800);
  expect(inflatedSizeHint(Buffer.alloc(100), 'zstd')).toBe(800);
  for (let length = 0; length < 20; length++) {
    expect(inflatedSizeHint(Buffer.alloc(length), 'gzip')).toBe(length);
    expect(
      inflatedSizeHint(Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0xe3]).subarray(0, length), 'zstd'),
    ).toBeGreaterThanOrEqual(0);
  }
});
