/**
 * Goal: connections that carry no whole request (bytes that are no protocol, lies about lengths, frames cut in
 * half, uploads given up, clients that leave before their answer) end without harm: nothing is stored of
 * them, nothing stays in flight, the neighbours are served, and /metrics tells of them.
 */
import { type ClientHttp2Session, constants } from 'node:http2';
import { describe, expect, test } from 'vitest';
import { seededRandom } from '../oracle/random.ts';
import { head, talk, wire } from '../receive/support.ts';
import { EXPORT, frame, openSession, sendFrames } from '../support/clients.ts';
import { PATIENCE_MS } from '../support/program.ts';
import { tracesRequest } from '../support/requests.ts';
import { eventually } from '../support/services.ts';
import { useUnharmedProgram } from './support.ts';

const MIB = 2 ** 20;
const SEED = 20_261_122;
const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
const answered = (text: string) => text.includes('\r\n\r\n');

const unharmed = useUnharmedProgram();
const { counting, refusing } = unharmed;

/** Its spans have a service of their own, so that nobody takes them for a neighbour's. */
function wholeRequest(number: number): Buffer {
  return Buffer.from(tracesRequest(2, number).toString('latin1').replace('\x04test', '\x04gone'), 'latin1');
}

async function storedOf(numbers: readonly number[]): Promise<{ rows: number; spans: number }> {
  const list = numbers.map((number) => number + 1).join(', ');
  const [row] = await unharmed.program.rows<{ rows: number; spans: number }>(
    `SELECT count() AS rows, uniqExact(SpanId) AS spans FROM otel.otel_traces
       WHERE ServiceName = 'gone' AND reinterpretAsUInt32(reverse(unhex(substring(SpanId, 1, 8)))) IN (${list})`,
  );
  return row ?? { rows: 0, spans: 0 };
}

describe('what is no protocol', { timeout: 2 * PATIENCE_MS }, () => {
  test.each(['httpPort', 'grpcPort'] as const)('random bytes to %s', async (port) => {
    const random = seededRandom(SEED);
    for (let i = 0; i < 30; i++) {
      const bytes = Uint8Array.from({ length: 1 + random.int(2000) }, () => random.int(256));
      const { socket, closed } = await wire(unharmed.program[port]);
      socket.end(bytes);
      await closed;
    }
  });

  test('HTTP/1.1 to the gRPC port, and HTTP/2 to the HTTP port', async () => {
    const { grpcPort, httpPort } = unharmed.program;
    await talk(grpcPort, `GET / HTTP/1.1\r\nHost: x\r\n\r\n`, () => false);
    const refused = await talk(httpPort, PREFACE, answered);
    expect(refused).toMatch(/^HTTP\/1\.1 (400|404|505) /);
    expect(refused).not.toContain(' 200 ');
  });

  test('garbage after a good start of HTTP/2', async () => {
    const random = seededRandom(SEED);
    for (let i = 0; i < 20; i++) {
      const noise = Buffer.from(Uint8Array.from({ length: 500 }, () => random.int(256)));
      const { socket, closed } = await wire(unharmed.program.grpcPort);
      socket.end(Buffer.concat([Buffer.from(PREFACE), noise]));
      await closed;
    }
  });

  test('headers that never end are answered 431', async () => {
    const endless = `POST /v1/logs HTTP/1.1\r\nHost: x\r\nX-Long: ${'x'.repeat(100_000)}`;
    expect(await talk(unharmed.program.httpPort, endless, answered)).toMatch(/^HTTP\/1\.1 431 /);
  });
});

describe('lies in Content-Length', { timeout: 2 * PATIENCE_MS }, () => {
  const body = wholeRequest(1);

  test.each([
    ['no number', 'abc', /^HTTP\/1\.1 400 /],
    ['negative', '-5', /^HTTP\/1\.1 400 /],
    ['two of them', `${body.length}, 7`, /^HTTP\/1\.1 400 /],
    ['with a sign', `+${body.length}`, /^HTTP\/1\.1 400 /],
    ['beyond the limit', '1000000000000', /^HTTP\/1\.1 413 /],
    ['beyond any number', '9'.repeat(40), /^HTTP\/1\.1 (400|413) /],
  ])('%s: %s', async (_, length, answer) => {
    const text = head('/v1/traces', { 'Content-Length': length });
    const said = await talk(unharmed.program.httpPort, Buffer.concat([Buffer.from(text), body]), answered);
    expect(said).toMatch(answer);
  });

  test('together with chunks is refused: such requests smuggle others', async () => {
    const both = head('/v1/traces', { 'Content-Length': body.length, 'Transfer-Encoding': 'chunked' });
    const chunk = `${body.length.toString(16)}\r\n${body.toString('latin1')}\r\n0\r\n\r\n`;
    const bytes = Buffer.concat([Buffer.from(both), Buffer.from(chunk, 'latin1')]);
    expect(await talk(unharmed.program.httpPort, bytes, answered)).toMatch(/^HTTP\/1\.1 400 /);
  });

  test('longer than the body: nothing is stored, and it counts as gone', async () => {
    await counting('requests_total', { transport: 'http', code: '499' }, async () => {
      const text = head('/v1/traces', { 'Content-Length': body.length + 1 });
      const { socket, closed, text: said } = await wire(unharmed.program.httpPort);
      socket.end(Buffer.concat([Buffer.from(text), body]));
      await closed;
      expect(said()).not.toContain(' 200 ');
      return 1;
    });
  });

  test('shorter than the body: what follows is no request', async () => {
    const text = head('/v1/traces', { 'Content-Length': body.length - 40 });
    const bytes = Buffer.concat([Buffer.from(text), body]);
    const said = await talk(unharmed.program.httpPort, bytes, () => false);
    expect(said).not.toContain(' 200 ');
  });

  test('chunks of no length', async () => {
    const text = head('/v1/traces', { 'Transfer-Encoding': 'chunked' });
    for (const chunk of ['zz\r\nabc', '-1\r\nabc', 'ffffffffffffffffff\r\nabc']) {
      const said = await talk(unharmed.program.httpPort, `${text}${chunk}\r\n0\r\n\r\n`, () => false);
      expect(said).not.toContain(' 200 ');
    }
  });
});

describe('broken gRPC frames', { timeout: 2 * PATIENCE_MS }, () => {
  const message = wholeRequest(2);

  test.each([
    ['half a message', frame(message).subarray(0, 40), /before its message was complete/],
    ['half a prefix', frame(message).subarray(0, 3), /before its message was complete/],
    ['nothing', Buffer.alloc(0), /before its message was complete/],
    ['an unknown flag', frame(message, 7), /neither 0 nor 1/],
    ['two messages', Buffer.concat([frame(message), frame(message)]), /more bytes than the one message/],
    ['a length that is too short', frame(message, 0, 10), /more bytes than the one message/],
    ['compression without a name', frame(message, 1), /no grpc-encoding/],
  ])('%s', async (_, bytes, words) => {
    const session = openSession(unharmed.program.grpcPort);
    await refusing('malformed', 'bad', words, () => sendFrames(session, 'traces', [bytes]));
    session.destroy();
  });

  /** Calls whose messages stop half way, all inside. */
  const startHalfCalls = async (session: ClientHttp2Session, calls: number) => {
    const headers = { ':method': 'POST', ':path': EXPORT.traces, 'content-type': 'application/grpc' };
    const streams = Array.from({ length: calls }, () => session.request(headers));
    for (const stream of streams) {
      stream.on('error', () => stream.destroy());
      stream.write(frame(message).subarray(0, 50));
    }
    await eventually(`${calls} calls inside`, async () => {
      return (await unharmed.program.metric('requests_in_flight')) === calls;
    }, PATIENCE_MS);
    return streams;
  };

  test('calls that are cancelled in the middle of their message', async () => {
    const session = openSession(unharmed.program.grpcPort);
    // This client ends the stream before it resets it: the code may be that of half a message too.
    await counting('requests_total', { transport: 'grpc' }, async () => {
      const streams = await startHalfCalls(session, 10);
      for (const stream of streams) stream.close(constants.NGHTTP2_CANCEL);
      return streams.length;
    });
    session.destroy();
  });

  test('a connection that dies under its calls: they count as gone, not as refused', async () => {
    const session = openSession(unharmed.program.grpcPort);
    await counting('requests_refused_total', {}, async () => {
      await counting('requests_total', { transport: 'grpc', code: '1' }, async () => {
        const streams = await startHalfCalls(session, 10);
        session.destroy();
        return streams.length;
      });
      return 0;
    });
  });
});

describe('clients that leave', { timeout: 2 * PATIENCE_MS }, () => {
  test('20 uploads are given up half way', async () => {
    await counting('requests_total', { transport: 'http', code: '499' }, async () => {
      const wires = await Promise.all(Array.from({ length: 20 }, () => wire(unharmed.program.httpPort)));
      for (const { socket } of wires) {
        socket.write(head('/v1/traces', { 'Content-Length': MIB }));
        socket.write(Buffer.alloc(MIB / 2));
      }
      await eventually('their bytes are inside', async () => {
        return (await unharmed.program.metric('bytes_in_flight')) === 10 * MIB;
      }, PATIENCE_MS);
      for (const { socket } of wires) socket.resetAndDestroy();
      return wires.length;
    });
  });

  test('whole requests whose clients do not wait for the answer are stored once or not at all', async () => {
    const numbers = Array.from({ length: 40 }, (_, i) => 1000 + i);
    const accepted = await unharmed.program.metric('items_accepted_total', { signal: 'traces' });
    await counting('requests_total', { transport: 'http', signal: 'traces' }, async () => {
      for (const number of numbers) {
        const body = wholeRequest(number);
        const { socket } = await wire(unharmed.program.httpPort);
        const text = head('/v1/traces', { 'Content-Length': body.length });
        await new Promise((resolve) => socket.write(Buffer.concat([Buffer.from(text), body]), resolve));
        socket.destroy();
      }
      return numbers.length;
    });
    // The program knows what it took: that is what must be in the table.
    const taken = (await unharmed.program.metric('items_accepted_total', { signal: 'traces' })) - accepted;
    expect(taken).toBeGreaterThan(0);
    await eventually(`${taken} rows`, async () => (await storedOf(numbers)).spans === taken, PATIENCE_MS);
    expect(await storedOf(numbers)).toEqual({ rows: taken, spans: taken });
  });

  test('nothing of what was broken is stored', async () => {
    expect(await storedOf([1, 2])).toEqual({ rows: 0, spans: 0 });
  });
});
