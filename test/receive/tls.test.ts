/**
 * Goal: TLS on both ports against real clients: who is let in, what is known of them, what is counted of the
 * others, and a new certificate under load without a failed request.
 */
import { Agent, request } from 'node:https';
import { join } from 'node:path';
import { type ConnectionOptions, connect as tlsConnect } from 'node:tls';
import grpc from '@grpc/grpc-js';
import { OTLPLogExporter as LogGrpc } from '@opentelemetry/exporter-logs-otlp-grpc';
import { OTLPLogExporter as LogProto } from '@opentelemetry/exporter-logs-otlp-proto';
import { OTLPTraceExporter as TraceJson } from '@opentelemetry/exporter-trace-otlp-http';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';
import * as trace from '@opentelemetry/sdk-trace';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import type { TlsFiles, TlsSettings } from '../../src/base/tls.ts';
import type { Credentials } from '../../src/model/tenant.ts';
import type { Admission, Ticket } from '../../src/receive/ingest.ts';
import { makeTempDir, removeTempDir } from '../support/services.ts';
import { Authority, type Issued } from './authority.ts';
import { EXPORT, type Front, PB, metric, startFront, until, wire } from './support.ts';
import { open, replace } from './tls-front.ts';

const dir = makeTempDir();
const authority = new Authority(dir, 'ours');
const stranger = new Authority(dir, 'theirs');
const server = authority.issue('server');
const names = 'DNS:agent.example,URI:spiffe://shop/agent,email:ops@shop.example,IP:10.0.0.1';
const client = authority.issue('client', { commonName: 'agent-7', names });
const wrongClient = stranger.issue('client');
const endedClient = authority.issue('ended', { days: -1 });

let front: Front;
let tls: TlsFiles;
const seen: Credentials[] = [];
const closing: (() => unknown)[] = [];

/** Lets everybody in, and remembers what they have shown. */
const door: Admission = {
  credentialHeaders: { authorization: 'authorization', apiKey: 'x-api-key', tenant: '' },
  enter({ credentials }): Ticket {
    seen.push(credentials);
    return { kind: 'ticket', tenant: 'default', grow: () => undefined, leave: () => undefined };
  },
};

async function start(more: Partial<TlsSettings> = {}): Promise<void> {
  tls = open({ ...server, ...more });
  front = await startFront({ http: { tls, door }, grpc: { tls, door } });
}

afterEach(async () => {
  for (const close of closing.splice(0)) close();
  seen.length = 0;
  await front.close();
  tls.close();
});
afterAll(() => removeTempDir(dir));

const REQUIRED = { clientCaFile: authority.file, clientAuth: 'required' } as const;
const OPTIONAL = { clientCaFile: authority.file, clientAuth: 'optional' } as const;

/** One request over HTTPS: its status, or the code of what went wrong. */
function overHttp(shown: Partial<Issued> = {}, agent: Agent | false = false): Promise<number | string> {
  return new Promise((resolve) => {
    const { cert, key } = shown;
    const where = { host: '127.0.0.1', port: front.http.port, path: '/v1/traces', method: 'POST' };
    const options = { ...where, ca: authority.pem, cert, key, agent, headers: { 'content-type': PB } };
    const sent = request(options, (answer) => {
      answer.resume();
      answer.on('end', () => resolve(answer.statusCode ?? 0));
    });
    sent.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    sent.end('x');
  });
}

function grpcClient(shown: Partial<Issued> = {}): grpc.Client {
  const credentials = grpc.credentials.createSsl(authority.pem, shown.key ?? null, shown.cert ?? null);
  const made = new grpc.Client(`127.0.0.1:${front.grpc.port}`, credentials, {
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_retries': 0,
  });
  closing.push(() => made.close());
  return made;
}

/** One call: its code. */
function send(made: grpc.Client): Promise<number> {
  const same = (bytes: Buffer) => bytes;
  return new Promise((resolve) => {
    made.makeUnaryRequest(EXPORT.traces, same, same, Buffer.from('x'), (error) => resolve(error?.code ?? 0));
  });
}

const refused = (transport: string, reason: string) =>
  metric(front, 'connections_refused_total', { transport, reason });

describe('stock exporters', () => {
  test('of the JavaScript SDK deliver over https and grpcs, with a certificate of their own', async () => {
    await start(REQUIRED);
    const { cert, key } = client;
    const httpAgentOptions = { ca: authority.pem, cert, key, keepAlive: true };
    const origin = `https://127.0.0.1:${front.http.port}`;
    const spans = new TraceJson({ url: `${origin}/v1/traces`, httpAgentOptions });
    const provider = new trace.TracerProvider({
      spanProcessors: [new trace.BatchSpanProcessor({ exporter: spans })],
    });
    provider.getTracer('t').startSpan('over https').end();
    await provider.shutdown();
    const credentials = grpc.credentials.createSsl(authority.pem, key, cert);
    for (const exporter of [
      new LogProto({ url: `${origin}/v1/logs`, httpAgentOptions }),
      new LogGrpc({ url: `https://127.0.0.1:${front.grpc.port}`, credentials }),
    ]) {
      const logs = new LoggerProvider({ processors: [new BatchLogRecordProcessor({ exporter })] });
      logs.getLogger('l').emit({ body: 'over TLS' });
      await logs.shutdown();
    }
    expect(front.taken.map(({ signal, format }) => [signal, format])).toEqual([
      ['traces', 'json'],
      ['logs', 'protobuf'],
      ['logs', 'protobuf'],
    ]);
    expect(front.taken.slice(1).every(({ bytes }) => bytes.includes('over TLS'))).toBe(true);
    expect(seen.map(({ certificate }) => certificate?.commonName)).toEqual(['agent-7', 'agent-7', 'agent-7']);
  });
});

const SHOWN = { commonName: 'agent-7', names: ['agent.example', 'spiffe://shop/agent', 'ops@shop.example'] };

describe('certificates of clients', () => {
  test('off: none is asked for, one that is there anyway says nothing', async () => {
    await start();
    for (const shown of [{}, client, wrongClient]) {
      expect(await overHttp(shown)).toBe(200);
      expect(await send(grpcClient(shown))).toBe(0);
    }
    expect(seen.map(({ certificate }) => certificate)).toEqual(new Array(6).fill(undefined));
  });

  test('required: only who has one of ours comes further than the handshake', async () => {
    await start(REQUIRED);
    expect(await overHttp(client)).toBe(200);
    expect(await send(grpcClient(client))).toBe(0);
    expect(seen.map(({ certificate }) => certificate)).toEqual([SHOWN, SHOWN]);
    let count = 0;
    for (const shown of [{}, wrongClient, endedClient]) {
      expect(await overHttp(shown)).toMatch(/^E/);
      expect(await send(grpcClient(shown))).toBe(14);
      count += 1;
      await until(async () => (await refused('http', 'certificate')) === count);
      await until(async () => (await refused('grpc', 'certificate')) >= count);
    }
    expect(seen).toHaveLength(2);
  });

  test('optional: none is as good as one of ours, a wrong one ends the connection', async () => {
    await start(OPTIONAL);
    for (const shown of [{}, client]) {
      expect(await overHttp(shown)).toBe(200);
      expect(await send(grpcClient(shown))).toBe(0);
    }
    expect(seen.map(({ certificate }) => certificate)).toEqual([undefined, undefined, SHOWN, SHOWN]);
    for (const shown of [wrongClient, endedClient]) {
      expect(await overHttp(shown)).toMatch(/^E/);
      expect(await send(grpcClient(shown))).toBe(14);
    }
    expect(seen).toHaveLength(4);
    await until(async () => (await refused('http', 'certificate')) === 2);
    await until(async () => (await refused('grpc', 'certificate')) >= 2);
  });

  test('a session that is resumed is still the same client', async () => {
    await start(OPTIONAL);
    const agent = new Agent({ keepAlive: false, maxCachedSessions: 10 });
    closing.push(() => agent.destroy());
    for (let i = 0; i < 4; i++) expect(await overHttp(client, agent)).toBe(200);
    expect(seen.map(({ certificate }) => certificate)).toEqual([SHOWN, SHOWN, SHOWN, SHOWN]);
  });
});

describe('what is no handshake', () => {
  /** Resolves when the server has ended it, to whether the handshake was done. */
  function shake(port: number, options: ConnectionOptions): Promise<boolean> {
    return new Promise((resolve) => {
      const where = { host: '127.0.0.1', port, ca: authority.pem };
      const socket = tlsConnect({ ...where, ...options }, () => {
        resolve(true);
        socket.destroy();
      });
      socket.on('error', () => resolve(false));
      socket.on('close', () => resolve(false));
    });
  }
  const OLD: ConnectionOptions = { maxVersion: 'TLSv1.1', minVersion: 'TLSv1', ciphers: 'DEFAULT:@SECLEVEL=0' };

  test.each(['http', 'grpc'] as const)('%s: old versions and plain text are refused and counted', async (port) => {
    await start();
    expect(await shake(front[port].port, OLD)).toBe(false);
    await until(async () => (await refused(port, 'handshake')) === 1);
    expect(await shake(front[port].port, { maxVersion: 'TLSv1.2', ALPNProtocols: ['h2', 'http/1.1'] })).toBe(true);
    const { socket, closed } = await wire(front[port].port);
    socket.write('POST /v1/traces HTTP/1.1\r\nHost: x\r\n\r\n');
    await closed;
    await until(async () => (await refused(port, 'handshake')) === 2);
  });

  test('gRPC: a client that does not speak HTTP/2', async () => {
    await start();
    expect(await shake(front.grpc.port, { ALPNProtocols: ['http/1.1'] })).toBe(false);
    await until(async () => (await refused('grpc', 'handshake')) === 1);
    const bare = tlsConnect({ host: '127.0.0.1', port: front.grpc.port, ca: authority.pem });
    bare.on('error', () => bare.destroy());
    await new Promise<void>((ended) => bare.once('close', () => ended()));
    await until(async () => (await refused('grpc', 'handshake')) === 2);
  });

  test('who only looks whether the port is open is not counted', async () => {
    await start();
    for (const port of [front.http.port, front.grpc.port]) (await wire(port)).socket.destroy();
    await until(async () => (await metric(front, 'connections', { transport: 'http' })) === 0);
    expect(await metric(front, 'connections_refused_total')).toBe(0);
  });
});

describe('a new certificate', () => {
  /** Files that the test replaces. */
  function files() {
    const own = { certFile: join(dir, 'own.pem'), keyFile: join(dir, 'own.key') };
    const clientCaFile = join(dir, 'own-ca.pem');
    const put = (issued: Issued, ca: Buffer) => {
      // First: a look in between then shows a pair of the old ones or the new ones with them.
      replace(clientCaFile, ca);
      replace(own.certFile, issued.cert);
      replace(own.keyFile, issued.key);
    };
    put(server, authority.pem);
    return { settings: { ...own, clientCaFile, clientAuth: 'optional' } as const, put };
  }

  /** The common name of what a port shows. */
  function shownBy(port: number): Promise<string> {
    return new Promise((resolve) => {
      const options = { host: '127.0.0.1', port, ca: authority.pem, ALPNProtocols: ['h2', 'http/1.1'] };
      const socket = tlsConnect(options, () => {
        resolve(String(socket.getPeerCertificate().subject.CN));
        socket.destroy();
      });
    });
  }

  test('under load: no request fails, connections that are open go on, new ones see the new one', async () => {
    const { settings, put } = files();
    await start(settings);
    const agent = new Agent({ keepAlive: true, maxSockets: 2 });
    closing.push(() => agent.destroy());
    const open = grpcClient();
    let going = true;
    const results: (number | string)[] = [];
    const load = async (one: () => Promise<number | string>) => {
      while (going) results.push(await one());
    };
    const loads = [load(() => overHttp({}, agent)), load(() => overHttp()), load(() => send(open))];
    loads.push(
      load(async () => {
        const fresh = grpcClient();
        const code = await send(fresh);
        fresh.close();
        return code;
      }),
    );
    for (let round = 0; round < 6; round++) {
      const name = `round-${round}`;
      put(authority.issue(name, { commonName: name }), authority.pem);
      for (const port of [front.http.port, front.grpc.port]) {
        await until(async () => (await shownBy(port)) === name);
      }
    }
    going = false;
    await Promise.all(loads);
    expect(results.filter((result) => result !== 200 && result !== 0)).toEqual([]);
    expect(results.length).toBeGreaterThan(20);
  });

  test('new authorities: who was known to the old ones only is so no longer', async () => {
    const { settings, put } = files();
    await start(settings);
    const agent = new Agent({ keepAlive: false, maxCachedSessions: 10 });
    closing.push(() => agent.destroy());
    expect(await overHttp(client, agent)).toBe(200);
    const renewed = authority.issue('renewed', { commonName: 'renewed' });
    put(renewed, stranger.pem);
    await until(async () => (await shownBy(front.http.port)) === 'renewed');
    expect(await overHttp(client, agent)).toMatch(/^E/);
    expect(await overHttp(wrongClient)).toBe(200);
    expect(seen.map(({ certificate }) => certificate?.commonName)).toEqual(['agent-7', 'sluice']);
  });
});
