/**
 * Goal: three gateways and two writers are restarted one after another under load, and nobody notices. Clients
 * that know all addresses, and exporters of the SDK behind a load balancer, see no error that loses data and no
 * connection that ends under a request; every acknowledged span is in ClickHouse once.
 */
import http from 'node:http';
import grpc from '@grpc/grpc-js';
import { OTLPTraceExporter as TraceGrpc } from '@opentelemetry/exporter-trace-otlp-grpc';
import { OTLPTraceExporter as TraceJson } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPTraceExporter as TraceProto } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import * as trace from '@opentelemetry/sdk-trace';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { EXPORT, PB } from '../receive/support.ts';
import { PATIENCE_MS, type Program, environmentFor, run, start } from '../support/program.ts';
import { tracesRequest } from '../support/requests.ts';
import {
  type TestClickHouse,
  type TestRedis,
  eventually,
  makeTempDir,
  removeTempDir,
  startClickHouse,
  startRedis,
} from '../support/services.ts';
import { Balancer } from './balancer.ts';

const GATEWAYS = 3;
const WRITERS = 2;
const SPANS = 5;
/** Between two requests of a client: the machine shall not be the limit. */
const PAUSE_MS = 15;
/** Who sends less often may find an open connection closed when its gateway leaves (src/receive/http.ts). */
const SILENT_MS_MAX = 500;
/** A drain ends when all is done, and nobody waits for it: an order of magnitude lies between the two. */
const DRAIN_MS_MAX = 120_000;
const GAP_MS_MAX = 20_000;
/** How often a client tries: each address once, and once more the first. */
const TRIES_MAX = GATEWAYS + 1;

const dataDir = makeTempDir();
let redis: TestRedis;
let clickhouse: TestClickHouse;
let gateways: Program[];
let writers: Program[];
let balancer: Balancer;

beforeAll(async () => {
  [redis, clickhouse] = await Promise.all([startRedis(), startClickHouse()]);
  const environment = () =>
    environmentFor(dataDir, {
      SLUICE_REDIS_URL: redis.url,
      SLUICE_CLICKHOUSE_URL: clickhouse.url,
      SLUICE_BATCH_AGE_MS_MAX: '200',
      SLUICE_DRAIN_MS_MAX: String(DRAIN_MS_MAX),
    });
  expect(await run(['migrate', 'apply'], await environment())).toMatchObject({ code: 0 });
  // Writers first: they publish the routing that gateways wait for.
  writers = await Promise.all(Array.from({ length: WRITERS }, async () => start('writer', await environment())));
  gateways = await Promise.all(Array.from({ length: GATEWAYS }, async () => start('gateway', await environment())));
  balancer = await Balancer.start(gateways);
});
afterAll(async () => {
  await balancer?.stop();
  await Promise.all([...(gateways ?? []), ...(writers ?? [])].map((program) => program.end()));
  await Promise.all([redis?.stop(), clickhouse?.stop()]);
  removeTempDir(dataDir);
});

/** What the clients of one kind have seen. */
interface Seen {
  readonly name: string;
  /** Requests that were acknowledged, by their numbers. */
  readonly acknowledged: number[];
  /** What went wrong beyond "come back later" and "nobody listens there", in the clients' words. */
  readonly broken: string[];
  /** The most tries that one request needed. */
  tries: number;
  /** Of one client, between two acknowledgements. */
  gapMs: number;
}

/**
 * Tries a request at an address. `elsewhere` is "try the next one", an Error what loses data; `again` is
 * neither: the connection had ended while this client stood still.
 * @param silentMs since it heard of its last try
 */
type Send = (address: number, body: Buffer, silentMs: number) => Promise<Tried>;
type Tried = 'taken' | 'elsewhere' | 'again' | Error;

let next = 0;
let stopping = false;
const pause = () => new Promise((resolve) => setTimeout(resolve, PAUSE_MS));

/** One client that sends until it is told to stop, each request until somebody has taken it. */
async function client(seen: Seen, first: number, send: Send): Promise<void> {
  let address = first;
  let lastAtMs = performance.now();
  let heardAtMs = lastAtMs;
  while (!stopping) {
    const number = next++;
    const body = tracesRequest(SPANS, number);
    let tries = 1;
    for (;;) {
      const answer = await send(address, body, performance.now() - heardAtMs);
      heardAtMs = performance.now();
      if (answer === 'taken') break;
      if (answer === 'again') continue;
      if (answer instanceof Error) seen.broken.push(`${seen.name}: ${answer.message}`);
      address = (address + 1) % GATEWAYS;
      tries += 1;
      if (tries > 100) throw new Error(`${seen.name}: nobody takes request ${number}`);
    }
    seen.acknowledged.push(number);
    seen.tries = Math.max(seen.tries, tries);
    seen.gapMs = Math.max(seen.gapMs, performance.now() - lastAtMs);
    lastAtMs = performance.now();
    await pause();
  }
}

/** Plain HTTP on one connection that is kept. */
function keepAlive(): Send {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  return (address, body, silentMs) =>
    new Promise((resolve) => {
      const headers = { 'content-type': PB, 'content-length': body.length };
      const port = gateways[address]?.httpPort;
      const request = http.request({ host: '127.0.0.1', port, method: 'POST', path: '/v1/traces', agent, headers });
      const failed = (error: NodeJS.ErrnoException) => {
        const isOld = request.reusedSocket && silentMs > SILENT_MS_MAX;
        resolve(error.code === 'ECONNREFUSED' ? 'elsewhere' : isOld ? 'again' : error);
      };
      request.on('error', failed);
      request.on('response', (response) => {
        response.on('error', failed);
        response.on('end', () => {
          if (response.statusCode === 200) resolve('taken');
          else resolve(response.statusCode === 503 ? 'elsewhere' : new Error(`${response.statusCode}`));
        });
        response.resume();
      });
      request.end(body);
    });
}

const same = (bytes: Buffer) => bytes;

/** A stock gRPC channel that knows all addresses: moving on is its own business, so every error counts. */
function channel(first: number): Send {
  const ports = gateways.map((_, index) => gateways[(first + index) % GATEWAYS]?.grpcPort);
  const target = `ipv4:${ports.map((port) => `127.0.0.1:${port}`).join(',')}`;
  const stub = new grpc.Client(target, grpc.credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
  });
  return (_, body, silentMs) =>
    new Promise((resolve) => {
      stub.makeUnaryRequest(EXPORT.traces, same, same, body, (error) => {
        const isOld = error?.code === grpc.status.UNAVAILABLE && silentMs > SILENT_MS_MAX;
        resolve(isOld ? 'again' : (error ?? 'taken'));
      });
    });
}

const timeoutMillis = PATIENCE_MS;
const EXPORTERS = {
  grpc: () => new TraceGrpc({ url: `http://127.0.0.1:${balancer.grpcPort}`, timeoutMillis }),
  protobuf: () => new TraceProto({ url: `http://127.0.0.1:${balancer.httpPort}/v1/traces`, timeoutMillis }),
  json: () => new TraceJson({ url: `http://127.0.0.1:${balancer.httpPort}/v1/traces`, timeoutMillis }),
};

interface Sdk {
  readonly exported: number;
  readonly failed: string[];
}

/** An exporter of the SDK behind the load balancer, with its own way of trying again. */
async function sdk(protocol: keyof typeof EXPORTERS): Promise<Sdk> {
  const ended: trace.ReadableSpan[] = [];
  const provider = new trace.TracerProvider({
    resource: resourceFromAttributes({ 'service.name': `rolling-${protocol}` }),
    spanProcessors: [
      {
        onStart: () => undefined,
        onEnd: (span) => ended.push(span),
        forceFlush: async () => undefined,
        shutdown: async () => undefined,
      },
    ],
  });
  const tracer = provider.getTracer('rolling');
  const exporter = EXPORTERS[protocol]();
  const failed: string[] = [];
  let exported = 0;
  while (!stopping) {
    for (let i = 0; i < SPANS; i++) tracer.startSpan('rolling').end();
    const batch = ended.splice(0);
    await new Promise<void>((resolve) =>
      exporter.export(batch, ({ code, error }) => {
        if (code === 0) exported += batch.length;
        else failed.push(`${protocol}: ${error?.message}`);
        resolve();
      }),
    );
    await pause();
  }
  await exporter.shutdown();
  return { exported, failed };
}

async function restart(programs: Program[], index: number, role: string): Promise<void> {
  const program = programs[index] as Program;
  expect(await program.end('SIGTERM')).toEqual({ code: 0, signal: null });
  programs[index] = await start(role, program.environment);
}

function watch(name: string): Seen {
  return { name, acknowledged: [], broken: [], tries: 0, gapMs: 0 };
}

test('gateways and writers, one after another, under load', { timeout: 400_000 }, async () => {
  const overHttp = watch('HTTP');
  const overGrpc = watch('gRPC');
  const clients = gateways.flatMap((_, index) => [
    client(overHttp, index, keepAlive()),
    client(overGrpc, index, channel(index)),
  ]);
  const exporters = Promise.all([sdk('grpc'), sdk('protobuf'), sdk('json')]);
  const goesOn = async () => {
    const counts = [overHttp, overGrpc].map(({ acknowledged }) => acknowledged.length);
    await eventually('all go on', () =>
      [overHttp, overGrpc].every(({ acknowledged }, i) => acknowledged.length > (counts[i] ?? 0) + 30),
      PATIENCE_MS,
    );
  };
  await goesOn();
  for (let index = 0; index < GATEWAYS; index++) {
    await restart(gateways, index, 'gateway');
    await eventually('the load balancer believes in it again', () => balancer.believesIn(index), PATIENCE_MS);
    await goesOn();
    if (index < WRITERS) await restart(writers, index, 'writer');
    await goesOn();
  }
  stopping = true;
  await Promise.all(clients);
  const sdks = await exporters;

  expect([...overHttp.broken, ...overGrpc.broken]).toEqual([]);
  expect(sdks.flatMap(({ failed }) => failed)).toEqual([]);
  expect(balancer.refused).toBe(0);
  // At any moment somebody takes it: nobody has to ask everyone twice.
  expect(overHttp.tries).toBeLessThanOrEqual(TRIES_MAX);
  expect(overGrpc.tries).toBe(1);
  // Measured on a quiet machine: under half a second. That of a drain would be somebody who waits to be told.
  expect(Math.max(overHttp.gapMs, overGrpc.gapMs)).toBeLessThan(GAP_MS_MAX);
  await expectStored([...overHttp.acknowledged, ...overGrpc.acknowledged]);
  const exported = sdks.reduce((sum, { exported }) => sum + exported, 0);
  const counts = `count() AS rows, uniqExact(SpanId) AS spans`;
  expect(
    await clickhouse.rows(`SELECT ${counts} FROM otel.otel_traces WHERE ServiceName LIKE 'rolling-%'`),
  ).toEqual([{ rows: String(exported), spans: String(exported) }]);
});

/** Every acknowledged request is there, each span once, and nothing waits any more. */
async function expectStored(acknowledged: readonly number[]): Promise<void> {
  const writer = writers[0] as Program;
  const spans = async () => {
    const sql = `SELECT uniqExact(SpanId) AS spans FROM otel.otel_traces WHERE ServiceName = 'test'`;
    return Number((await clickhouse.rows<{ spans: string }>(sql))[0]?.spans);
  };
  const wanted = acknowledged.length * SPANS;
  await eventually(`${wanted} spans`, async () => (await spans()) >= wanted, PATIENCE_MS);
  await eventually('nothing waits', async () => (await writer.metric('queue_items')) === 0, PATIENCE_MS);
  const rows = await clickhouse.rows<{ request: number; rows: string; spans: string }>(
    `SELECT reinterpretAsUInt32(reverse(unhex(substring(SpanId, 1, 8)))) - 1 AS request,
       count() AS rows, uniqExact(SpanId) AS spans FROM otel.otel_traces
     WHERE ServiceName = 'test' GROUP BY request`,
  );
  const spansOf = new Map(rows.map(({ request, spans }) => [Number(request), Number(spans)]));
  expect(acknowledged.filter((number) => spansOf.get(number) !== SPANS)).toEqual([]);
  expect(rows.filter(({ rows, spans }) => rows !== spans)).toEqual([]);
}
