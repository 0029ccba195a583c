/**
 * Goal: replies are understood wherever the network cuts them, payloads leave without a copy, and bytes that
 * are no RESP end in a Fault instead of a wrong value.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Fault } from '../../src/base/errors.ts';
import { faultOfReply } from '../../src/redis/faults.ts';
import { type Reply, ValueReader } from '../../src/redis/replies.ts';
import { encodeCommand, RespParser, type RespSink } from '../../src/redis/resp.ts';

/** Feeds the chunks and gathers the replies, as a connection does. */
async function read(chunks: readonly Buffer[]): Promise<unknown[]> {
  const replies: Promise<unknown>[] = [];
  let reader = new ValueReader(0);
  const then = (event: () => void) => {
    event();
    if (!reader.complete) return;
    replies.push(reader.promise.catch((error) => ({ refused: error.message })));
    reader = new ValueReader(0);
  };
  const sink: RespSink = {
    line: (type, text) => then(() => reader.line(type, text)),
    nil: () => then(() => reader.nil()),
    array: (length) => then(() => reader.array(length)),
    bulkStart: () => reader.bulkStart(),
    bulkBytes: (view) => reader.bulkBytes(view),
    bulkEnd: () => then(() => reader.bulkEnd()),
  };
  const parser = new RespParser(sink);
  for (const chunk of chunks) parser.feed(chunk);
  return Promise.all(replies);
}

function encodeReply(reply: Reply): string {
  if (reply === null) return '$-1\r\n';
  if (typeof reply === 'number') return `:${reply}\r\n`;
  if (typeof reply === 'string') return `$${Buffer.byteLength(reply)}\r\n${reply}\r\n`;
  if (reply instanceof Error) return `-${reply.message}\r\n`;
  return `*${reply.length}\r\n${reply.map(encodeReply).join('')}`;
}

const SAMPLE =
  '+OK\r\n:-42\r\n$0\r\n\r\n$-1\r\n*-1\r\n$7\r\na\r\nb\r\nc\r\n' +
  '*0\r\n*3\r\n:1\r\n*2\r\n$1\r\nx\r\n*0\r\n$3\r\näb\r\n-ERR no\r\n+\r\n';
const SAMPLE_VALUES = [
  'OK',
  -42,
  '',
  null,
  null,
  'a\r\nb\r\nc',
  [],
  [1, ['x', []], 'äb'],
  { refused: 'Redis answered: ERR no' },
  '',
];

describe('RespParser', () => {
  it('reads the sample whole and in single bytes', async () => {
    const bytes = Buffer.from(SAMPLE);
    expect(await read([bytes])).toEqual(SAMPLE_VALUES);
    expect(await read(Array.from(bytes, (_, i) => bytes.subarray(i, i + 1)))).toEqual(SAMPLE_VALUES);
  });

  it('reads the sample cut at every byte', async () => {
    const bytes = Buffer.from(SAMPLE);
    for (let cut = 0; cut <= bytes.length; cut++) {
      expect(await read([bytes.subarray(0, cut), bytes.subarray(cut)])).toEqual(SAMPLE_VALUES);
    }
  });

  it('reads any replies cut anywhere', async () => {
    const { reply } = fc.letrec<{ reply: Reply; array: Reply[] }>((tie) => ({
      reply: fc.oneof(
        { maxDepth: 4 },
        fc.constant(null),
        fc.integer(),
        fc.string({ unit: 'binary' }),
        tie('array'),
      ),
      array: fc.array(tie('reply'), { maxLength: 5 }),
    }));
    await fc.assert(
      fc.asyncProperty(fc.array(reply, { maxLength: 6 }), fc.array(fc.nat()), async (replies, cuts) => {
        const bytes = Buffer.from(replies.map(encodeReply).join(''));
        const at = [0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
        const chunks = at.slice(1).map((end, i) => bytes.subarray(at[i], end));
        // Bytes that are no UTF-8 never leave a script; the generator's lone surrogates come back as they
        // were encoded.
        const expected = JSON.parse(JSON.stringify(replies), (_, value) =>
          typeof value === 'string' ? Buffer.from(value).toString() : value,
        );
        expect(await read(chunks)).toEqual(expected);
      }),
      { numRuns: 300 },
    );
  });

  it.each([
    ['an unknown type', '?5\r\n'],
    ['a length that is none', '$5x\r\n'],
    ['a negative length', '$-2\r\n'],
    ['a length above what Redis allows', '$600000000\r\n'],
    ['a bulk without its end', '$2\r\nabcd'],
    ['a line without carriage return', '+OK\n'],
    ['a line without end', `+${'x'.repeat(70_000)}`],
    ['an HTTP server', 'HTTP/1.1 400 Bad Request\r\n'],
  ])('refuses %s', async (_, text) => {
    await expect(read([Buffer.from(text)])).rejects.toMatchObject({
      name: 'Fault',
      code: 'redis_unavailable',
    });
  });

  it('never ends in anything but replies or a Fault', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 64 }), fc.nat(), async (bytes, at) => {
        const hostile = Buffer.from(SAMPLE);
        hostile.set(bytes.subarray(0, 8), at % (hostile.length - 8));
        try {
          await read([Buffer.from(bytes), hostile]);
        } catch (error) {
          expect(error).toBeInstanceOf(Fault);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe('encodeCommand', () => {
  it('counts bytes, not characters, and leaves payloads where they are', () => {
    const payload = Buffer.from([0, 13, 10, 255]);
    const pieces = encodeCommand(['SET', 'ä', payload, 7]);
    expect(pieces).toEqual(['*4\r\n$3\r\nSET\r\n$2\r\nä\r\n$4\r\n', payload, '\r\n$1\r\n7\r\n']);
    expect(pieces[1]).toBe(payload);
  });

  it('knows empty payloads', () => {
    expect(encodeCommand([new Uint8Array()]).join('')).toBe('*1\r\n$0\r\n\r\n');
  });
});

describe('faultOfReply', () => {
  it.each([
    ["OOM command not allowed when used memory > 'maxmemory'.", 'redis_full', 'here'],
    ['LOADING Redis is loading the dataset in memory', 'redis_unavailable', 'here'],
    ["READONLY You can't write against a read only replica.", 'redis_unavailable', 'here'],
    ['MISCONF Errors writing to the AOF file', 'redis_unavailable', 'here'],
    ['BUSY Redis is busy running a script.', 'redis_unavailable', 'here'],
    ['NOSCRIPT No matching script.', 'redis_noscript', 'here'],
    ['NOAUTH Authentication required.', 'redis_auth', 'never'],
    ['WRONGPASS invalid username-password pair', 'redis_auth', 'never'],
    ['ERR unknown command OOM', 'redis_error', 'never'],
    ['OOMPH is no code that is known', 'redis_error', 'never'],
    ['', 'redis_error', 'never'],
  ])('%s', (text, code, retry) => {
    expect(faultOfReply(text)).toMatchObject({ code, retry });
  });
});
