/**
 * Goal: each row of the obligations of an OTLP server, seen from a client of the two ports. What lies behind
 * the ports is the test's own; rows about the contents of requests (16, 24 to 26) are about the ports not
 * touching them.
 */
import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, test } from 'vitest';
import { type Outcome, type Verdict, later, never } from '../../src/model/outcome.ts';
import { SIGNALS } from '../../src/model/signal.ts';
import {
  EXPORT,
  type Front,
  JS,
  PB,
  call,
  empty,
  fields,
  head,
  http,
  nested,
  startFront,
  status,
  stockClient,
  until,
  wire,
} from './support.ts';

const LIMIT = 100_000;
const RETRIED_OVER_HTTP = [429, 502, 503, 504];
const RETRIED_OVER_GRPC = [1, 4, 10, 11, 14, 15];
let front: Front;
let closing: (() => unknown)[] = [];

async function start(verdict?: Verdict | (() => Verdict | Promise<Verdict>)): Promise<Front> {
  const answer = typeof verdict === 'function' ? verdict : verdict === undefined ? undefined : () => verdict;
  front = await startFront({ requestBytesMax: LIMIT, ...(answer ? { answer } : {}) });
  return front;
}

function client() {
  const made = stockClient(front);
  closing.push(() => made.close());
  return made;
}

function partly(rejected: number, warnings: Outcome['warnings'] = new Map()): Verdict {
  const reasons: Outcome['reasons'] = rejected > 0 ? new Map([['span_id_invalid', rejected]]) : new Map();
  return { kind: 'admit', outcome: { accepted: 5, rejected, reasons, warnings } };
}

afterEach(async () => {
  for (const close of closing) close();
  closing = [];
  await empty(front);
  await front.close();
});

describe('both transports', () => {
  test('OTLP 1: none and gzip are taken on both transports, zstd and deflate too', async () => {
    await start();
    const gzip = stockClient(front, { 'grpc.default_compression_algorithm': 2 });
    closing.push(() => gzip.close());
    const body = Buffer.alloc(5_000, 'a');
    expect((await call(client(), EXPORT.traces, body)).code).toBe(0);
    expect((await call(gzip, EXPORT.traces, body)).code).toBe(0);
    expect((await http(front, '/v1/traces', body)).status).toBe(200);
    expect(
      (await http(front, '/v1/traces', gzipSync(body), { 'content-type': PB, 'content-encoding': 'gzip' }))
        .status,
    ).toBe(200);
    const { zstdCompressSync, deflateSync } = await import('node:zlib');
    for (const [encoding, bytes] of [
      ['zstd', zstdCompressSync(body)],
      ['deflate', deflateSync(body)],
    ] as const) {
      expect(
        (await http(front, '/v1/traces', bytes, { 'content-type': PB, 'content-encoding': encoding })).status,
      ).toBe(200);
    }
    expect(front.taken.map((t) => t.encoding)).toEqual([
      'identity',
      'gzip',
      'identity',
      'gzip',
      'zstd',
      'deflate',
    ]);
    for (const taken of front.taken) expect(taken.bytes.equals(body)).toBe(true);
  });

  test('OTLP 2: the size of a gRPC message is limited, as it is sent and after decompression', async () => {
    await start();
    expect((await call(client(), EXPORT.logs, Buffer.alloc(LIMIT))).code).toBe(0);
    expect((await call(client(), EXPORT.logs, Buffer.alloc(LIMIT + 1))).code).toBe(8);
    const gzip = stockClient(front, { 'grpc.default_compression_algorithm': 2 });
    closing.push(() => gzip.close());
    expect((await call(gzip, EXPORT.logs, Buffer.alloc(LIMIT))).code).toBe(0);
    expect((await call(gzip, EXPORT.logs, Buffer.alloc(LIMIT + 1))).code).toBe(8);
  });

  test('OTLP 3: a message that is too large is RESOURCE_EXHAUSTED without RetryInfo', async () => {
    await start();
    const reply = await call(client(), EXPORT.traces, Buffer.alloc(10 * LIMIT));
    expect(reply.code).toBe(8);
    expect(reply.details).toBeUndefined();
    expect(reply.message).toContain('SLUICE_REQUEST_BYTES_MAX');
  });

  test('OTLP 4: however long the reason is, the response is small', async () => {
    await start(never('malformed', 'ä'.repeat(5_000_000)));
    const reply = await http(front, '/v1/traces', 'x');
    expect(reply.body.length).toBeLessThan(4 << 20);
    expect(status(reply.body).message).toMatch(/^ä+…$/);
    const overGrpc = await call(client(), EXPORT.traces, Buffer.from('x'));
    expect(overGrpc.code).toBe(3);
    expect(overGrpc.message).toMatch(/^ä+…$/);
  });

  test('OTLP 5: on full success partial_success is unset', async () => {
    await start();
    for (const signal of SIGNALS) {
      expect((await http(front, `/v1/${signal}`, 'x')).body).toHaveLength(0);
      expect((await http(front, `/v1/${signal}`, '{}', { 'content-type': JS })).body.toString()).toBe('{}');
      expect((await call(client(), EXPORT[signal], Buffer.from('x'))).body).toHaveLength(0);
    }
  });

  test('OTLP 6: an empty request is a success', async () => {
    await start();
    expect((await http(front, '/v1/traces', '')).status).toBe(200);
    expect((await http(front, '/v1/logs', '{}', { 'content-type': JS })).status).toBe(200);
    expect((await call(client(), EXPORT.metrics, Buffer.alloc(0))).code).toBe(0);
    expect(front.taken.map((t) => t.bytes.length)).toEqual([0, 2, 0]);
  });

  test('OTLP 7: partial_success says how many records were rejected, and why', async () => {
    await start(partly(3));
    const overHttp = fields(nested(fields((await http(front, '/v1/traces', 'x')).body).get(1)?.[0]));
    expect(overHttp.get(1)).toEqual([3]);
    expect(String(overHttp.get(2)?.[0])).toBe('3 of 8 spans rejected: span_id_invalid 3');
    const overGrpc = fields(
      nested(
        fields((await call(client(), EXPORT.logs, Buffer.from('x'))).body ?? Buffer.alloc(0)).get(1)?.[0],
      ),
    );
    expect(overGrpc.get(1)).toEqual([3]);
    const names = { traces: 'rejectedSpans', metrics: 'rejectedDataPoints', logs: 'rejectedLogRecords' };
    for (const signal of SIGNALS) {
      const reply = await http(front, `/v1/${signal}`, '{}', { 'content-type': JS });
      const { partialSuccess } = JSON.parse(reply.body.toString());
      expect(partialSuccess).toEqual({
        [names[signal]]: '3',
        errorMessage: expect.stringContaining('3 of 8'),
      });
    }
  });

  test('OTLP 8: a warning is 0 rejected with a message', async () => {
    await start(partly(0, new Map([['log_trace_id_dropped', 2]])));
    const partial = fields(nested(fields((await http(front, '/v1/logs', 'x')).body).get(1)?.[0]));
    expect(partial.has(1)).toBe(false);
    expect(String(partial.get(2)?.[0])).toBe('stored with changes: log_trace_id_dropped 2');
  });
});

describe('gRPC', () => {
  test('OTLP 9: bad data is INVALID_ARGUMENT, what may pass later is UNAVAILABLE', async () => {
    const verdicts = [never('malformed', 'cut at byte 7'), later('redis_unavailable', 'later', 1500)];
    await start(() => verdicts.shift() ?? never('malformed', ''));
    const bad = await call(client(), EXPORT.traces, Buffer.from('x'));
    expect([bad.code, bad.message]).toEqual([3, 'cut at byte 7']);
    expect((await call(client(), EXPORT.traces, Buffer.from('x'))).code).toBe(14);
  });

  test('OTLP 10: whatever may pass later has a code that clients retry, surprises too', async () => {
    const surprise = () => {
      throw new Error('nobody foresaw this');
    };
    const answers = [() => later('draining', '', 1000), () => later('redis_full', '', 1000), surprise];
    await start(() => answers.shift()?.() ?? never('malformed', ''));
    for (let i = 0; i < 3; i++) {
      const reply = await call(client(), EXPORT.traces, Buffer.from('x'));
      expect(RETRIED_OVER_GRPC).toContain(reply.code);
      expect(status(reply.details ?? Buffer.alloc(0)).retryDelayMs).toBeGreaterThan(0);
    }
  });

  test('OTLP 11: overload is UNAVAILABLE with a delay of one to five seconds, spread', async () => {
    front = await startFront({ door: { requestsInFlightMax: 0 } });
    const delays = new Set<number>();
    for (let i = 0; i < 20; i++) {
      const reply = await call(client(), EXPORT.traces, Buffer.from('x'));
      expect(reply.code).toBe(14);
      const { code, message, retryDelayMs = 0 } = status(reply.details ?? Buffer.alloc(0));
      expect([code, message]).toEqual([14, reply.message]);
      expect(retryDelayMs).toBeGreaterThanOrEqual(1000);
      expect(retryDelayMs).toBeLessThanOrEqual(5000);
      delays.add(retryDelayMs);
    }
    expect(delays.size).toBeGreaterThan(10);
  });

  test('OTLP 12: each transport listens on the address it is given', async () => {
    await start();
    expect(front.http.port).not.toBe(front.grpc.port);
    expect((await http(front, '/v1/traces', '')).status).toBe(200);
    expect((await call(client(), EXPORT.traces, Buffer.alloc(0))).code).toBe(0);
  });
});

describe('HTTP', () => {
  test('OTLP 13: POST with protobuf and JSON on one port', async () => {
    await start();
    expect((await http(front, '/v1/traces', 'x', { 'content-type': PB })).status).toBe(200);
    expect(
      (await http(front, '/v1/traces', '{}', { 'content-type': 'Application/JSON; charset=utf-8' })).status,
    ).toBe(200);
    expect(front.taken.map((t) => t.format)).toEqual(['protobuf', 'json']);
    for (const method of ['GET', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
      const reply = await http(front, '/v1/traces', '', {}, method);
      expect([method, reply.status, reply.headers.allow]).toEqual([method, 405, 'POST']);
    }
  });

  test('OTLP 14: three paths, and an honest 404 or UNIMPLEMENTED for all others', async () => {
    await start();
    for (const signal of SIGNALS) expect((await http(front, `/v1/${signal}?x=1`, 'x')).status).toBe(200);
    expect(front.taken.map((t) => t.signal)).toEqual([...SIGNALS]);
    for (const path of ['/', '/v1/trace', '/v1/traces/', '/v1development/profiles']) {
      expect((await http(front, path, 'x')).status).toBe(404);
    }
    const profiles = '/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export';
    for (const path of [profiles, '/nope.Service/Export', EXPORT.logs.replace('Export', 'Nope')]) {
      expect((await call(client(), path, Buffer.from('x'))).code).toBe(12);
    }
  });

  test('OTLP 15: a body over the limit is 413, as it is sent and after decompression', async () => {
    await start();
    const gzip = { 'content-type': PB, 'content-encoding': 'gzip' };
    expect((await http(front, '/v1/logs', Buffer.alloc(LIMIT))).status).toBe(200);
    expect((await http(front, '/v1/logs', Buffer.alloc(LIMIT + 1))).status).toBe(413);
    expect((await http(front, '/v1/logs', gzipSync(Buffer.alloc(LIMIT)), gzip)).status).toBe(200);
    expect((await http(front, '/v1/logs', gzipSync(Buffer.alloc(LIMIT + 1)), gzip)).status).toBe(413);
  });

  test('OTLP 16: JSON is handed on as it is', async () => {
    await start();
    const json = '{"resourceSpans":[{"traceId":"5B8EFFF798038103D269B633813FC60C","x":[1,"2"]}]}';
    await http(front, '/v1/traces', json, { 'content-type': JS });
    expect(front.taken[0]).toEqual({
      signal: 'traces',
      format: 'json',
      encoding: 'identity',
      tenant: 'default',
      source: '',
      isKept: false,
      bytes: Buffer.from(json),
    });
  });

  test('OTLP 17: the response has the Content-Type of the request', async () => {
    const verdicts = [partly(0), never('malformed', 'bad'), later('redis_full', 'full', 1000)];
    for (const verdict of verdicts) {
      await start(verdict);
      for (const type of [PB, JS])
        expect((await http(front, '/v1/traces', 'x', { 'content-type': type })).headers['content-type']).toBe(
          type,
        );
      await front.close();
    }
    await start();
    for (const type of [PB, JS])
      expect((await http(front, '/nope', 'x', { 'content-type': type })).headers['content-type']).toBe(type);
  });

  test('OTLP 18: success is 200, partial success too', async () => {
    await start(partly(2));
    expect((await http(front, '/v1/traces', 'x')).status).toBe(200);
    expect((await http(front, '/v1/traces', '{}', { 'content-type': JS })).status).toBe(200);
  });

  test('OTLP 19: errors carry a google.rpc.Status in the encoding of the request', async () => {
    await start(never('malformed', 'cut at byte 7'));
    expect(status((await http(front, '/v1/traces', 'x')).body)).toEqual({
      code: 3,
      message: 'cut at byte 7',
      retryDelayMs: undefined,
    });
    const json = await http(front, '/v1/traces', 'x', { 'content-type': JS });
    expect(JSON.parse(json.body.toString())).toEqual({ code: 3, message: 'cut at byte 7' });
    for (const [path, headers, wanted] of [
      ['/v1/traces', { 'content-type': PB, 'content-encoding': 'snappy' }, 415],
      ['/nope', { 'content-type': PB }, 404],
    ] as const) {
      const reply = await http(front, path, 'x', headers);
      expect(reply.status).toBe(wanted);
      expect(status(reply.body).message).not.toBe('');
    }
    const unknown = await http(front, '/v1/traces', 'x', { 'content-type': 'text/xml' });
    expect([unknown.status, unknown.headers['content-type']]).toEqual([415, 'text/plain; charset=utf-8']);
  });

  test('OTLP 20: whatever may pass later has a status that clients retry, surprises too', async () => {
    const surprise = () => {
      throw new Error('nobody foresaw this');
    };
    const answers = [() => later('draining', '', 1000), () => later('redis_full', '', 1000), surprise];
    await start(() => answers.shift()?.() ?? never('malformed', ''));
    for (let i = 0; i < 3; i++) {
      const reply = await http(front, '/v1/traces', 'x');
      expect(RETRIED_OVER_HTTP).toContain(reply.status);
      expect(Number(reply.headers['retry-after'])).toBeGreaterThanOrEqual(1);
    }
  });

  test('OTLP 21: what cannot be decoded is 400, without Retry-After', async () => {
    await start(never('malformed', 'no'));
    const reply = await http(front, '/v1/traces', 'x');
    expect([reply.status, reply.headers['retry-after']]).toEqual([400, undefined]);
    const gzip = { 'content-type': PB, 'content-encoding': 'gzip' };
    expect((await http(front, '/v1/traces', 'not gzip', gzip)).status).toBe(400);
  });

  test('OTLP 22: overload is 503 with Retry-After in whole seconds', async () => {
    front = await startFront({ door: { requestsInFlightMax: 0 } });
    const reply = await http(front, '/v1/traces', 'x');
    expect(reply.status).toBe(503);
    expect(reply.headers['retry-after']).toMatch(/^[1-5]$/);
  });

  test('OTLP 23: connections are kept, and clients are told for how long', async () => {
    await start();
    const request = head('/v1/traces', { 'Content-Length': 1 });
    const { socket, text } = await wire(front.http.port);
    for (let i = 1; i <= 3; i++) {
      socket.write(`${request}x`);
      await until(() => text().split('HTTP/1.1 200 OK').length === i + 1);
    }
    expect(text()).toMatch(/Keep-Alive: timeout=\d+\r\n/);
    expect(text()).not.toContain('Connection: close');
    socket.destroy();
    const one = client();
    for (let i = 0; i < 3; i++) expect((await call(one, EXPORT.traces, Buffer.from('x'))).code).toBe(0);
  });
});

describe('contents', () => {
  const untouched = async (bytes: Buffer) => {
    await start();
    await http(front, '/v1/traces', bytes);
    await call(client(), EXPORT.traces, bytes);
    expect(front.taken.map((t) => t.bytes)).toEqual([bytes, bytes]);
  };

  test('OTLP 24: unknown fields are handed on', () => untouched(Buffer.from('fa3f0378797a', 'hex')));
  test('OTLP 25: empty envelopes are handed on', () => untouched(Buffer.from('0a000a021200', 'hex')));
  test('OTLP 26: every byte of a value is handed on', () =>
    untouched(Buffer.from(Array.from({ length: 256 }, (_, i) => i))));
});
