/**
 * Goal: the load generator understands answers as OTLP clients must, whatever shape they arrive in, and its
 * figures of latency hide nothing.
 */
import { createServer, type Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { createCorpus } from '../../bench/corpus.ts';
import { Scrambler, windowOfToday } from '../../bench/identity.ts';
import { Lane, Load } from '../../bench/load.ts';
import { type Answer, partialSuccess, retryDelayMs, statusMessage } from '../../bench/send/answer.ts';
import { HttpSender, parseResponse } from '../../bench/send/http.ts';
import { Ledger } from '../../bench/send/ledger.ts';
import type { Sender } from '../../bench/send/sender.ts';
import { encode } from '../oracle/encode.ts';

describe('HTTP answers', () => {
  const text = (answer: ReturnType<typeof parseResponse>) =>
    typeof answer === 'object'
      ? { ...answer, headers: undefined, body: Buffer.from(answer.body).toString() }
      : answer;
  test.each([
    ['HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi', { status: 200, body: 'hi', closes: false }],
    [
      'HTTP/1.1 200 OK\r\nCONTENT-LENGTH:2\r\nConnection: Close\r\n\r\nhi',
      { status: 200, body: 'hi', closes: true },
    ],
    ['HTTP/1.0 503 Later\r\nContent-Length: 0\r\n\r\n', { status: 503, body: '', closes: true }],
    [
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n',
      { body: 'abcd' },
    ],
    ['HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n', { status: 429 }],
  ])('%j', (answer, wanted) => {
    const bytes = Buffer.from(answer);
    expect(text(parseResponse(bytes))).toMatchObject(wanted);
    // However few bytes are missing, it waits for them.
    for (let length = 0; length < bytes.length; length++)
      expect(parseResponse(bytes.subarray(0, length))).toBeUndefined();
  });
  test('what is no HTTP/1.1 is refused', () => {
    expect(parseResponse(Buffer.from('HTTP/2 200\r\n\r\n'))).toBe('invalid');
    expect(parseResponse(Buffer.from('220 smtp.example.com\r\n\r\n'))).toBe('invalid');
  });
});

describe('bodies of answers', () => {
  const partial = { partialSuccess: { rejectedSpans: 7n, errorMessage: 'too old' } };
  test('partial success', () => {
    const wanted = { rejected: 7, message: 'too old' };
    expect(partialSuccess(encode('ExportTraceServiceResponse', partial), 'protobuf')).toEqual(wanted);
    const json = { partialSuccess: { rejectedLogRecords: '7', errorMessage: 'too old' } };
    expect(partialSuccess(Buffer.from(JSON.stringify(json)), 'json')).toEqual(wanted);
  });
  test.each(['', '{}', '<html>', '[1', 'null'])('none in %j', (body) => {
    expect(partialSuccess(Buffer.from(body), 'json')).toEqual({ rejected: 0, message: '' });
    expect(partialSuccess(Buffer.alloc(0), 'protobuf')).toEqual({ rejected: 0, message: '' });
  });
  test('the message of a status', () => {
    expect(statusMessage(encode('RpcStatus', { code: 14, message: 'full' }), 'protobuf')).toBe('full');
    expect(statusMessage(Buffer.from('{"code":14,"message":"full"}'), 'json')).toBe('full');
    expect(statusMessage(Buffer.from('Bad Gateway'), 'json')).toBe('Bad Gateway');
  });
  test('the delay of a RetryInfo', () => {
    const delay = encode('RetryInfo', { retryDelay: { seconds: 2n, nanos: 500_000_000 } });
    const details = [{ typeUrl: 'type.googleapis.com/google.rpc.RetryInfo', value: delay }];
    expect(retryDelayMs(encode('RpcStatus', { code: 8, details }))).toBe(2500);
    expect(retryDelayMs(encode('RpcStatus', { code: 8, message: 'no' }))).toBeUndefined();
  });
});

describe('an HTTP connection', () => {
  /** A server of bytes: what it does with each connection it gets. */
  async function against<T>(
    serve: (socket: Socket) => void,
    body: (sender: HttpSender) => Promise<T>,
    timeoutMs = 60_000,
  ): Promise<T> {
    const server = createServer((socket) => {
      socket.on('error', () => socket.destroy());
      serve(socket);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const target = { host: '127.0.0.1', port: (server.address() as { port: number }).port };
    const sender = new HttpSender({ target, format: 'protobuf', compression: 'none', timeoutMs });
    try {
      return await body(sender);
    } finally {
      sender.close();
      await new Promise((resolve) => server.close(resolve));
    }
  }
  const frame = Buffer.alloc(100);

  test('is kept, and opened again after the server has closed it', async () => {
    let connections = 0;
    const close = 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n';
    const keep = 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n';
    const serve = (socket: Socket) => {
      connections++;
      let requests = 0;
      socket.on('data', () => {
        if (++requests % 3 === 0) socket.end(close);
        else socket.write(keep);
      });
    };
    const codes = await against(serve, async (sender) => {
      const answers: Answer[] = [];
      for (let index = 0; index < 7; index++) answers.push(await sender.send('traces', frame));
      return answers.map(({ code }) => code);
    });
    expect(codes).toEqual(Array(7).fill('200'));
    expect(connections).toBe(3);
  });
  test('that is cut, silent or talks nonsense is no answer', async () => {
    const cut = await against(
      (socket) => socket.on('data', () => socket.destroy()),
      (sender) => sender.send('logs', frame),
    );
    expect(cut.kind).toBe('unanswered');
    const silent = await against(
      (socket) => socket.resume(),
      (sender) => sender.send('logs', frame),
      300,
    );
    expect(silent).toMatchObject({ kind: 'unanswered', code: 'timeout' });
    const nonsense = await against(
      (socket) => socket.on('data', () => socket.end('hello\r\n\r\n')),
      (sender) => sender.send('logs', frame),
    );
    expect(nonsense).toMatchObject({ kind: 'unanswered', code: 'protocol' });
  });
  test('Retry-After is understood', async () => {
    const answer = 'HTTP/1.1 503 Later\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n';
    const got = await against(
      (socket) => socket.on('data', () => socket.write(answer)),
      (sender) => sender.send('logs', frame),
    );
    expect(got).toMatchObject({ kind: 'refused', retryable: true, retryAfterMs: 3000 });
  });
});

describe('the ledger', () => {
  test('adds up', () => {
    const ledger = new Ledger();
    const [whole, rejected, lost, refused, silent, doubled] = [5, 6, 7, 8, 9, 10].map((items) =>
      ledger.issue(items),
    );
    for (const request of [whole, lost, doubled]) ledger.acknowledge(request ?? 0, 0);
    ledger.acknowledge(rejected ?? 0, 2);
    ledger.refuse(refused ?? 0);
    const stored = [
      { request: whole, copies: 5, items: 5 },
      { request: rejected, copies: 4, items: 4 },
      { request: lost, copies: 3, items: 3 },
      { request: silent, copies: 9, items: 9 },
      { request: doubled, copies: 25, items: 10 },
    ].map((row) => ({ ...row, request: row.request ?? 0 }));
    const audit = ledger.audit(stored);
    expect(audit).toMatchObject({ acknowledged: 26, stored: 22, missing: 4, doubled: 15 });
    expect(audit).toMatchObject({ unacknowledgedStored: 9, refusedStored: 0 });
    expect(audit.examples).toHaveLength(2);
  });
  test('of more requests than it had room for', () => {
    const ledger = new Ledger();
    for (let index = 0; index < 5000; index++) ledger.acknowledge(ledger.issue(3), 0);
    expect(ledger.audit([])).toMatchObject({ acknowledged: 15_000, missing: 15_000 });
    expect(() => ledger.audit([{ request: 5001, copies: 1, items: 1 }])).toThrow('request 5001');
  });
});

test('ids are scrambled without loss', () => {
  const scrambler = new Scrambler();
  const pairs = [
    [1, 1],
    [1, 2],
    [2, 1],
    [0xffffffff, 0],
    [123_456, 65_535],
  ] as const;
  for (const [request, item] of pairs) {
    scrambler.scramble(request, item, 0xdeadbeef);
    expect([scrambler.first, scrambler.second]).not.toEqual([request, item]);
    scrambler.unscramble(scrambler.first, scrambler.second, 0xdeadbeef);
    expect([scrambler.first, scrambler.second]).toEqual([request, item]);
  }
});

describe('the load', () => {
  const options = { compression: 'none', seconds: 60, retries: 0 } as const;
  const acknowledged: Answer = { kind: 'acknowledged', code: '200', rejected: 0, message: '' };
  const laneOf = (requests: number) => {
    const corpus = { signal: 'traces', format: 'protobuf', seed: 1, requestItems: 1, run: 1 } as const;
    return new Lane('traces', createCorpus({ ...corpus, requests, window: windowOfToday(Date.now()) }));
  };

  test('at a fixed rate counts the wait behind a stalled request (no coordinated omission)', async () => {
    let calls = 0;
    const sender: Sender = {
      send: async () => {
        if (++calls === 1) await new Promise((resolve) => setTimeout(resolve, 400));
        return acknowledged;
      },
      close: () => undefined,
    };
    // 100 requests a second, one at a time: those of the first 400 ms are all late, by 200 ms in the middle.
    const load = new Load([laneOf(1)], { ...options, rate: 100, itemsMax: 40 });
    await load.run([sender]);
    expect(calls).toBe(40);
    expect(load.statistics.latency.summary().p50).toBeGreaterThan(150);
  });
  test('never has one template in two requests at once', async () => {
    const inFlight = new Set<Buffer>();
    const sender = (): Sender => ({
      send: async (_, frame) => {
        expect(inFlight.has(frame)).toBe(false);
        inFlight.add(frame);
        await new Promise((resolve) => setImmediate(resolve));
        inFlight.delete(frame);
        return acknowledged;
      },
      close: () => undefined,
    });
    const load = new Load([laneOf(4)], { ...options, rate: undefined, itemsMax: 200 });
    await load.run([sender(), sender(), sender(), sender()]);
    expect(load.statistics.acknowledgedItems).toBe(200);
  });
  test('sends the same bytes again', async () => {
    const seen: string[] = [];
    const sender: Sender = {
      send: async (_, frame) => {
        seen.push(frame.toString('hex'));
        const refused = {
          kind: 'refused',
          code: '503',
          retryable: true,
          retryAfterMs: 1,
          message: '',
        } as const;
        return seen.length < 3 ? refused : acknowledged;
      },
      close: () => undefined,
    };
    const load = new Load([laneOf(1)], { ...options, rate: undefined, itemsMax: 1, retries: 2 });
    await load.run([sender]);
    expect(seen).toHaveLength(3);
    expect(new Set(seen).size).toBe(1);
    expect(load.statistics).toMatchObject({ retries: 2, acknowledgedItems: 1 });
  });
});
