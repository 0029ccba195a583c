/**
 * Goal: whatever a client sends, the program answers with a clear status and a reason in the request's own
 * encoding, and counts it; it doesn't crash, hang or grow. After every test here nothing is left in flight,
 * and the requests of a good neighbour are stored.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { createGzip, gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import { SIGNALS, type Signal } from '../../src/model/signal.ts';
import { DecodeError, decode } from '../oracle/decode.ts';
import { type PlainMessage, encode } from '../oracle/encode.ts';
import { encodeJson } from '../oracle/json-encode.ts';
import { seededRandom } from '../oracle/random.ts';
import { SAMPLES } from '../oracle/samples.ts';
import { bareCall } from '../receive/support.ts';
import {
  type Answer,
  EXPORT,
  JS,
  PB,
  frame,
  openSession,
  readHttp,
  sendFrames,
  sendHttp,
} from '../support/clients.ts';
import { judge } from '../support/otlp.ts';
import { PATIENCE_MS } from '../support/program.ts';
import { tracesRequest } from '../support/requests.ts';
import { eventually } from '../support/services.ts';
import { TRANSPORTS, useUnharmedProgram } from './support.ts';

const MIB = 2 ** 20;
const TRACE_ID = Buffer.alloc(16, 1);
const SPAN_ID = Buffer.alloc(8, 2);

const unharmed = useUnharmedProgram();
const { send, counting, refusing } = unharmed;

function sendJson(signal: Signal, body: Uint8Array): Promise<Answer> {
  return sendHttp(unharmed.program.http, signal, body, { contentType: JS });
}

/** With a session of its own, because one that was answered before its message ended may be gone. */
async function sendFrame(signal: Signal, piece: Uint8Array, encoding = ''): Promise<Answer> {
  const session = openSession(unharmed.program.grpcPort);
  try {
    return await sendFrames(session, signal, [piece], encoding);
  } finally {
    session.destroy();
  }
}

function traces(service: string, ...spans: readonly PlainMessage[]): Uint8Array {
  const resource = { attributes: [{ key: 'service.name', value: { stringValue: service } }] };
  const all = spans.map((span) => ({ traceId: TRACE_ID, spanId: SPAN_ID, ...span }));
  return encode(REQUESTS.traces, { resourceSpans: [{ resource, scopeSpans: [{ spans: all }] }] });
}

function asJson(signal: Signal, message: Uint8Array): Uint8Array {
  const json = encodeJson(REQUESTS[signal], decode(REQUESTS[signal], message));
  if (json === undefined) throw new Error('not to be said in JSON');
  return json;
}

/** What is stored of a service, once `rows` rows are. */
function stored(service: string, rows: number, columns: string): Promise<Record<string, unknown>[]> {
  return eventually(`${rows} rows of ${service}`, async () => {
    const found = await unharmed.program.rows(
      `SELECT ${columns} FROM otel.otel_traces WHERE ServiceName = '${service}'`,
    );
    return found.length >= rows && found;
  }, PATIENCE_MS);
}

describe('broken bodies', { timeout: 2 * PATIENCE_MS }, () => {
  test.each(SIGNALS)('%s cut short at many places', async (signal) => {
    const whole = encode(REQUESTS[signal], SAMPLES[signal]);
    const cuts = Array.from({ length: 60 }, (_, i) => Math.floor((whole.length * i) / 60));
    await counting('requests_refused_total', { signal, reason: 'malformed' }, async () => {
      let refused = 0;
      for (const cut of cuts) {
        const body = whole.subarray(0, cut);
        const isBad = judge(signal, body) instanceof DecodeError;
        for (const transport of TRANSPORTS) {
          const { kind, message } = await send(transport, signal, body);
          expect(kind === 'bad', `${transport}, ${cut} bytes: ${kind} ${message}`).toBe(isBad);
          if (isBad) expect(message).toMatch(/byte \d+/);
          if (isBad) refused++;
        }
      }
      return refused;
    });
    const json = asJson(signal, whole);
    for (const cut of cuts.slice(1)) {
      const body = json.subarray(0, Math.floor((cut * json.length) / whole.length));
      const { kind, message } = await sendJson(signal, body);
      expect([kind, message]).toEqual(['bad', expect.stringMatching(/byte \d+/)]);
    }
  });

  test.each(TRANSPORTS)('random bytes over %s', async (transport) => {
    const random = seededRandom(20_261_121);
    for (let i = 0; i < 150; i++) {
      const signal = random.pick(SIGNALS);
      const body = Uint8Array.from({ length: 1 + random.int(300) }, () => random.int(256));
      const { kind } = await send(transport, signal, body);
      expect(kind === 'bad', Buffer.from(body).toString('hex')).toBe(
        judge(signal, body) instanceof DecodeError,
      );
    }
  });

  test.each(['gzip', 'zstd', 'deflate'])('what is no %s', async (encoding) => {
    const body = randomBytes(1000);
    const sent = () => sendHttp(unharmed.program.http, 'logs', body, { encoding });
    await refusing('undecodable_body', 'bad', new RegExp(encoding), sent);
    const framed = () => sendFrame('logs', frame(body, 1), encoding);
    await refusing('undecodable_body', 'bad', new RegExp(encoding), framed);
  });

  test('gzip that is cut short', async () => {
    const body = gzipSync(tracesRequest(10)).subarray(0, -20);
    const sent = () => sendHttp(unharmed.program.http, 'traces', body, { encoding: 'gzip' });
    await refusing('undecodable_body', 'bad', /gzip/, sent);
  });
});

describe('wrong addresses', { timeout: 2 * PATIENCE_MS }, () => {
  const call = (path: string, method: string, headers: Record<string, string>) => {
    const body = method === 'POST' ? { body: tracesRequest(1) } : {};
    return fetch(`${unharmed.program.http}${path}`, { method, headers, ...body });
  };

  test.each([
    ['POST', '/v1/traces', { 'content-type': 'text/plain' }, 415, /text\/plain.*application\/x-protobuf/],
    ['POST', '/v1/traces', { 'content-type': 'application/grpc' }, 415, /application\/grpc/],
    ['POST', '/v1/traces', {}, 415, /without Content-Type/],
    ['POST', '/v1/nope', { 'content-type': PB }, 404, /\/v1\/nope.*\/v1\/traces/],
    ['POST', '/', { 'content-type': JS }, 404, /OTLP is received at/],
    ['POST', '/v1development/profiles', { 'content-type': PB }, 404, /profiles/],
    ['GET', '/v1/logs', {}, 405, /GET.*POST/],
    ['PUT', '/v1/metrics', { 'content-type': PB }, 405, /PUT.*POST/],
    ['DELETE', '/v1/traces', { 'content-type': JS }, 405, /DELETE.*POST/],
  ] as const)('HTTP: %s %s %j is %i', async (method, path, headers, code, words) => {
    await counting('requests_total', { transport: 'http', code: String(code) }, async () => {
      const reply = await call(path, method, headers);
      expect(reply.status).toBe(code);
      expect(await reply.text()).toMatch(words);
      if (code === 405) expect(reply.headers.get('allow')).toContain('POST');
      return 1;
    });
  });

  test('HTTP: an encoding that nobody knows is 415, in the encoding of the request', async () => {
    for (const contentType of [PB, JS]) {
      const sent = () =>
        sendHttp(unharmed.program.http, 'logs', Buffer.from('{}'), { contentType, encoding: 'br' });
      await refusing('unsupported_encoding', '415', /br.*gzip/, sent);
    }
  });

  test('gRPC: unknown methods and encodings are UNIMPLEMENTED, what is no gRPC gets an HTTP status', async () => {
    const session = openSession(unharmed.program.grpcPort);
    await counting('requests_total', { transport: 'grpc', code: '12' }, async () => {
      for (const path of ['/nope.Service/Export', EXPORT.logs.replace('Export', 'Import'), '/']) {
        const { headers } = await bareCall(session, path, [frame(tracesRequest(1))]);
        expect(headers['grpc-status']).toBe('12');
        expect(decodeURIComponent(String(headers['grpc-message']))).toContain(path);
      }
      return 3;
    });
    const unknown = () => sendFrame('logs', frame(randomBytes(9), 1), 'snappy');
    await refusing('unsupported_encoding', '415', /snappy.*gzip/, unknown);
    const json = await bareCall(session, EXPORT.logs, [], { 'content-type': 'application/json' });
    expect(json.headers[':status']).toBe(415);
    const got = await bareCall(session, EXPORT.logs, [], { ':method': 'GET' });
    expect(got.headers[':status']).toBe(405);
    session.destroy();
  });
});

describe('too much', { timeout: 2 * PATIENCE_MS }, () => {
  const LIMIT = /SLUICE_REQUEST_BYTES_MAX/;
  /** Peak of the resident memory since `forgetPeak`, bytes. */
  const peakBytes = () => {
    const status = readFileSync(`/proc/${unharmed.program.pid}/status`, 'utf8');
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
  };
  const forgetPeak = () => writeFileSync(`/proc/${unharmed.program.pid}/clear_refs`, '5');

  test('1 GiB in 1 MiB of gzip costs neither memory nor the neighbours', async () => {
    const zeros = Buffer.alloc(MIB);
    const source = Readable.from(Array.from({ length: 1024 }, () => zeros));
    const bomb = await buffer(source.pipe(createGzip()));
    expect(bomb.length).toBeLessThan(1.1 * MIB);
    forgetPeak();
    const before = peakBytes();
    for (const contentType of [PB, JS]) {
      const sent = () => sendHttp(unharmed.program.http, 'traces', bomb, { contentType, encoding: 'gzip' });
      await refusing('too_large', '413', LIMIT, sent);
    }
    // RESOURCE_EXHAUSTED with RetryInfo would throw here: clients would send it again.
    await refusing('too_large', '413', LIMIT, () => sendFrame('logs', frame(bomb, 1), 'gzip'));
    expect(peakBytes() - before).toBeLessThan(256 * MIB);
  });

  test('a frame and an endless body beyond the limit', async () => {
    const piece = frame(Buffer.alloc(10), 0, 2 ** 32 - 1);
    await refusing('too_large', '413', LIMIT, () => sendFrame('logs', piece));
    const zeros = Buffer.alloc(MIB);
    const endless = async () => {
      const body = Readable.toWeb(Readable.from(Array.from({ length: 80 }, () => zeros))) as ReadableStream;
      const init = { method: 'POST', headers: { 'content-type': PB }, duplex: 'half', body } as const;
      const reply = await fetch(`${unharmed.program.http}/v1/logs`, init);
      return readHttp('logs', reply, new Uint8Array(await reply.arrayBuffer()));
    };
    await refusing('too_large', '413', LIMIT, endless);
  });

  test('1 MiB attributes are stored whole, over every protocol', async () => {
    const [key, value] = [randomBytes(MIB / 2).toString('hex'), randomBytes(MIB / 2).toString('hex')];
    const body = traces('large-attribute', { attributes: [{ key, value: { stringValue: value } }] });
    for (const transport of TRANSPORTS) expect((await send(transport, 'traces', body)).kind).toBe('accept');
    expect((await sendJson('traces', asJson('traces', body))).kind).toBe('accept');
    const md5 = (text: string) => createHash('md5').update(text).digest('hex').toUpperCase();
    const columns = `hex(MD5(mapKeys(SpanAttributes)[1])) AS k, hex(MD5(mapValues(SpanAttributes)[1])) AS v`;
    const row = { k: md5(key), v: md5(value) };
    expect(await stored('large-attribute', 3, columns)).toEqual([row, row, row]);
  });

  test('a million empty resources are nothing, a million empty spans are a million refusals', async () => {
    const empty = Buffer.alloc(2_000_000, Buffer.from([0x0a, 0x00]));
    for (const transport of TRANSPORTS) expect((await send(transport, 'traces', empty)).kind).toBe('accept');
    const spans = Buffer.alloc(2_000_000, Buffer.from([0x12, 0x00]));
    const body = encode(REQUESTS.traces, { resourceSpans: [{ scopeSpans: [spans] }] });
    await counting('items_rejected_total', { signal: 'traces' }, async () => {
      const answer = await sendHttp(unharmed.program.http, 'traces', gzipSync(body), { encoding: 'gzip' });
      expect(answer).toMatchObject({ kind: 'partial', rejected: 1_000_000 });
      return 1_000_000;
    });
  });

  test('a value of 1,000 levels: its record is refused, and the others are stored', async () => {
    let value = encode('AnyValue', { stringValue: 'deep' });
    for (let level = 0; level < 1000; level++) {
      value = encode('AnyValue', { arrayValue: encode('ArrayValue', { values: [value] }) });
    }
    const deep = traces('deep', { name: 'whole' }, { attributes: [{ key: 'deep', value }] });
    const labels = { signal: 'traces', reason: 'nesting_too_deep' };
    await counting('items_rejected_total', labels, async () => {
      for (const transport of TRANSPORTS) {
        const answer = await send(transport, 'traces', deep);
        expect(answer).toMatchObject({ kind: 'partial', rejected: 1 });
        expect(answer.message).toContain('nesting_too_deep');
      }
      return 2;
    });
    const text = '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":#}]}]}]}';
    const arrays = `${'{"arrayValue":{"values":['.repeat(1000)}{}${']}}'.repeat(1000)}`;
    const json = Buffer.from(text.replace('#', arrays));
    await refusing('malformed', 'bad', /nested deeper than \d+ levels/, () => sendJson('logs', json));
    expect((await stored('deep', 2, 'SpanName')).map(({ SpanName }) => SpanName)).toEqual(['whole', 'whole']);
  });

  test('unknown groups: 100 levels are passed over, 1,000 are refused', async () => {
    const grouped = (levels: number) => {
      const group = Buffer.concat([Buffer.alloc(levels, 0x7b), Buffer.alloc(levels, 0x7c)]);
      return Buffer.concat([group, traces('grouped', { name: 'kept' })]);
    };
    expect((await send('http', 'traces', grouped(100))).kind).toBe('accept');
    await refusing('malformed', 'bad', /groups are nested too deep/, () =>
      send('grpc', 'traces', grouped(1000)),
    );
    expect(await stored('grouped', 1, 'SpanName')).toEqual([{ SpanName: 'kept' }]);
  });

  test('a million brackets and a million groups that nobody closes', async () => {
    for (const bracket of ['[', '{"a":']) {
      const text = Buffer.from(`{"unknown":${bracket.repeat(1_000_000)}`);
      await refusing('malformed', 'bad', /nested deeper/, () => sendJson('logs', text));
    }
    const sent = () => send('grpc', 'logs', Buffer.alloc(1_000_000, 0x7b));
    await refusing('malformed', 'bad', /byte/, sent);
  });
});

describe('strange values', { timeout: 2 * PATIENCE_MS }, () => {
  test('strings that are no UTF-8 are stored byte for byte', async () => {
    const bad = Buffer.from('61ff00fec328', 'hex');
    const attributes = [{ key: bad, value: { stringValue: bad } }];
    const body = traces('not-utf8', { name: bad, traceState: bad, attributes, status: { message: bad } });
    for (const transport of TRANSPORTS) expect((await send(transport, 'traces', body)).kind).toBe('accept');
    const columns = [
      'SpanName',
      'TraceState',
      'StatusMessage',
      'mapKeys(SpanAttributes)[1]',
      "SpanAttributes[unhex('61ff00fec328')]",
    ];
    const selected = columns.map((column, i) => `lower(hex(${column})) AS c${i}`).join(', ');
    const hexes = (await stored('not-utf8', 2, selected)).flatMap((row) => Object.values(row));
    expect(hexes).toEqual(Array(10).fill('61ff00fec328'));
  });

  test('time 0 is stored, the year 2500 is refused, and neither costs its neighbours', async () => {
    const year2500 = BigInt(Date.UTC(2500, 0)) * 1_000_000n;
    const body = traces(
      'times',
      { name: 'zero' },
      { name: 'far', startTimeUnixNano: year2500, endTimeUnixNano: year2500 },
      { name: 'now', startTimeUnixNano: 1_790_000_000_000_000_001n },
    );
    await counting('items_rejected_total', { reason: 'time_out_of_range' }, async () => {
      const answers = [
        await send('http', 'traces', body),
        await send('grpc', 'traces', body),
        await sendJson('traces', asJson('traces', body)),
      ];
      for (const answer of answers) {
        expect(answer).toMatchObject({ kind: 'partial', rejected: 1 });
        expect(answer.message).toContain('time_out_of_range');
      }
      return answers.length;
    });
    const rows = await stored('times', 6, 'SpanName, toUnixTimestamp64Nano(Timestamp)::String AS at');
    const found = rows.map(({ SpanName, at }) => `${SpanName} ${at}`).sort();
    const once = ['now 1790000000000000001', 'zero 0'];
    expect(found).toEqual(once.flatMap((row) => [row, row, row]));
  });

  test('NaN and infinities are values', async () => {
    const values = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    const dataPoints = values.map((asDouble) => ({ asDouble, timeUnixNano: 1_790_000_000_000_000_000n }));
    const metrics = [{ name: 'strange', gauge: { dataPoints } }];
    const body = encode(REQUESTS.metrics, { resourceMetrics: [{ scopeMetrics: [{ metrics }] }] });
    for (const transport of TRANSPORTS) expect((await send(transport, 'metrics', body)).kind).toBe('accept');
    expect((await sendJson('metrics', asJson('metrics', body))).kind).toBe('accept');
    const found = await eventually('9 points', async () => {
      const sql = `SELECT toString(Value) AS v FROM otel.otel_metrics_gauge WHERE MetricName = 'strange'`;
      const rows = await unharmed.program.rows<{ v: string }>(sql);
      return rows.length === 9 && rows;
    }, PATIENCE_MS);
    const once = ['-inf', 'inf', 'nan'];
    expect(found.map(({ v }) => v).sort()).toEqual(once.flatMap((value) => [value, value, value]));
  });
});
