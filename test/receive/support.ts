/**
 * Both listeners on free ports with an ingest of the test's own behind them, and clients of every kind before
 * them.
 */
import { type IncomingHttpHeaders, request as httpRequest } from 'node:http';
import { type ClientHttp2Session, connect as http2Connect } from 'node:http2';
import { request as httpsRequest } from 'node:https';
import { type Socket, connect as tcpConnect } from 'node:net';
import { TLSSocket, connect as tlsConnect } from 'node:tls';
import grpc from '@grpc/grpc-js';
import { Door, type DoorLimits } from '../../src/admit/door.ts';
import { createLogger } from '../../src/base/log.ts';
import type { TlsFiles } from '../../src/base/tls.ts';
import { inflate } from '../../src/compress/inflate.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import { NOTHING, type Verdict, never } from '../../src/model/outcome.ts';
import { type GrpcOptions, listenGrpc } from '../../src/receive/grpc.ts';
import { type HttpOptions, listenHttp } from '../../src/receive/http.ts';
import type { Admission, IngestRequest } from '../../src/receive/ingest.ts';

export const PB = 'application/x-protobuf';
export const JS = 'application/json';
export const EXPORT = {
  traces: '/opentelemetry.proto.collector.trace.v1.TraceService/Export',
  metrics: '/opentelemetry.proto.collector.metrics.v1.MetricsService/Export',
  logs: '/opentelemetry.proto.collector.logs.v1.LogsService/Export',
} as const;
export const ADMITTED: Verdict = { kind: 'admit', outcome: { ...NOTHING, accepted: 1 } };

/** What the ingest was given, with the body as it was after inflating. */
export type Taken = Omit<IngestRequest, 'body'> & { readonly bytes: Buffer };
export type Front = Awaited<ReturnType<typeof startFront>>;

/** What every front of a file is served with, where tests of the one way are run for another. */
export interface Served {
  readonly tls: TlsFiles;
  /** What clients trust. */
  readonly ca: Buffer;
}
let served: Partial<Served> & { readonly connectionsPerAddressMax?: number } = {};

export function serveAllWith(way: typeof served): void {
  served = way;
}

export interface FrontOptions {
  readonly answer?: (taken: Taken) => Verdict | Promise<Verdict>;
  readonly door?: Partial<DoorLimits>;
  readonly http?: Partial<HttpOptions>;
  readonly grpc?: Partial<GrpcOptions>;
  readonly requestBytesMax?: number;
}

/** Only the door's bounds: no tenants, no pressure. */
export function admissionOf(door: Door): Admission {
  return { credentialHeaders: undefined, enter: ({ declaredBytes }) => door.enter(declaredBytes) };
}

export async function startFront(options: FrontOptions = {}) {
  const instruments = createInstruments();
  const door = new Door(
    { requestsInFlightMax: 100, bytesInFlightMax: 1 << 26, ...options.door },
    instruments,
  );
  const requestBytesMax = options.requestBytesMax ?? 1 << 20;
  const taken: Taken[] = [];
  /** As the real ingest does: reads the body before it returns its promise, inflates it within the limit. */
  const take = async ({ body, ...rest }: IngestRequest): Promise<Verdict> => {
    const inflated = inflate(Buffer.concat(body), rest.encoding, requestBytesMax);
    if (inflated.kind === 'too_large') return never('too_large', 'larger than the limit after decompression');
    if (inflated.kind === 'corrupt') return never('undecodable_body', inflated.message);
    const seen = { ...rest, bytes: Buffer.from(inflated.bytes) };
    taken.push(seen);
    await new Promise(setImmediate);
    return options.answer?.(seen) ?? ADMITTED;
  };
  const logger = createLogger('silent', 'json');
  const common = {
    addr: { host: '127.0.0.1', port: 0 },
    requestBytesMax,
    connectionsMax: 100,
    connectionsPerAddressMax: served.connectionsPerAddressMax ?? 0,
    tls: served.tls,
    sourceHeader: 'x-sluice-source',
    ingest: { take },
    door: admissionOf(door),
  };
  const http = await listenHttp({ ...common, corsOrigins: [], instruments, logger, ...options.http });
  const health = () => 'SERVING' as const;
  const grpcListener = await listenGrpc({
    ...common,
    keepAliveMs: 60_000,
    health,
    instruments,
    logger,
    ...options.grpc,
  });
  const close = async () => {
    door.close();
    await Promise.all([http.close(500), grpcListener.close(500)]);
  };
  return { http, grpc: grpcListener, door, instruments, taken, close };
}

/** Polls until `done`; the test's own time limit is the bound. */
export async function until(done: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await done())) await new Promise((resolve) => setTimeout(resolve, 5));
}

/** Nothing is inside any more: no request, no byte. */
export function empty(front: Front): Promise<void> {
  return until(() => front.door.requestsInFlight === 0 && front.door.bytesInFlight === 0);
}

/** The value of one series, 0 where it doesn't exist. */
export async function metric(
  front: Front,
  name: string,
  labels: Record<string, string> = {},
): Promise<number> {
  const found = await front.instruments.registry.getSingleMetric(`sluice_${name}`)?.get();
  const matches = (have: Partial<Record<string, string | number>>) =>
    Object.entries(labels).every(([k, v]) => have[k] === v);
  return (found?.values ?? []).filter((v) => matches(v.labels)).reduce((sum, v) => sum + v.value, 0);
}

export interface HttpReply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** One request with node's own client. */
export function http(
  front: Front,
  path: string,
  body: Uint8Array | string,
  headers: Record<string, string> = { 'content-type': PB },
  method = 'POST',
): Promise<HttpReply> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port: front.http.port, path, method, headers };
    const ask = served.tls ? httpsRequest : httpRequest;
    const sent = ask({ ...options, ca: served.ca, agent: false }, (response) => {
      const pieces: Buffer[] = [];
      response.on('data', (piece: Buffer) => pieces.push(piece));
      const { statusCode: status = 0, headers: answered } = response;
      response.on('end', () => resolve({ status, headers: answered, body: Buffer.concat(pieces) }));
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

/** A socket that remembers what it was sent. */
export interface Wire {
  readonly socket: Socket;
  readonly closed: Promise<void>;
  text(): string;
}

/** Breaks the connection off; over TLS the kernel chooses how. */
export function reset(socket: Socket): void {
  if (socket instanceof TLSSocket) socket.destroy();
  else socket.resetAndDestroy();
}

export function wire(port: number): Promise<Wire> {
  return new Promise((resolve, reject) => {
    const pieces: Buffer[] = [];
    const ready = () => resolve({ socket, closed, text });
    const socket: Socket = served.tls
      ? tlsConnect({ port, host: '127.0.0.1', ca: served.ca, ALPNProtocols: ['h2', 'http/1.1'] }, ready)
      : tcpConnect(port, '127.0.0.1', ready);
    const closed = new Promise<void>((gone) => socket.on('close', () => gone()));
    const text = () => Buffer.concat(pieces).toString('latin1');
    socket.on('data', (piece) => pieces.push(piece));
    // A reset is one of the ways in which a server ends a connection, seen as `closed`.
    socket.on('error', reject);
  });
}

/**
 * Sends bytes, and resolves to what came back once `done` says that it is enough, or the connection was
 * closed.
 */
export async function talk(
  port: number,
  bytes: Uint8Array | string,
  done: (text: string) => boolean,
): Promise<string> {
  const { socket, closed, text } = await wire(port);
  let gone = false;
  closed.then(() => {
    gone = true;
  });
  socket.write(bytes);
  await until(() => gone || done(text()));
  socket.destroy();
  return text();
}

export function head(path: string, headers: Record<string, string | number>, version = '1.1'): string {
  const lines = Object.entries({ Host: 'x', 'Content-Type': PB, ...headers }).map(
    ([k, v]) => `${k}: ${v}\r\n`,
  );
  return `POST ${path} HTTP/${version}\r\n${lines.join('')}\r\n`;
}

const same = (bytes: Buffer) => bytes;
const Client = grpc.makeGenericClientConstructor({}, 'Any');
export type StockClient = InstanceType<typeof Client>;

/** A stock client of grpc-js; close it at the end of the test. */
export function stockClient(front: Front, options: grpc.ClientOptions = {}): StockClient {
  const address = `127.0.0.1:${front.grpc.port}`;
  const own = { 'grpc.use_local_subchannel_pool': 1, 'grpc.enable_retries': 0 };
  const credentials = served.tls ? grpc.credentials.createSsl(served.ca) : grpc.credentials.createInsecure();
  return new Client(address, credentials, { ...own, ...options });
}

export interface GrpcReply {
  readonly code: number;
  readonly message: string;
  readonly details: Buffer | undefined;
  readonly body: Buffer | undefined;
}

/** One unary call of a stock client. */
export function call(
  client: StockClient,
  path: string,
  body: Uint8Array,
  options: grpc.CallOptions = {},
  started: (call: grpc.ClientUnaryCall) => unknown = () => undefined,
): Promise<GrpcReply> {
  return new Promise((resolve) => {
    const metadata = new grpc.Metadata();
    const made = client.makeUnaryRequest(
      path,
      same,
      same,
      Buffer.from(body),
      metadata,
      options,
      (error, answer) => {
        const details = error?.metadata.get('grpc-status-details-bin')[0];
        const bytes = Buffer.isBuffer(details) ? details : undefined;
        resolve({ code: error?.code ?? 0, message: error?.details ?? '', details: bytes, body: answer });
      },
    );
    started(made);
  });
}

/** One message with its length before it. */
export function frame(message: Uint8Array, flag = 0, length = message.length): Buffer {
  const prefix = Buffer.alloc(5);
  prefix[0] = flag;
  prefix.writeUInt32BE(length, 1);
  return Buffer.concat([prefix, message]);
}

export interface Http2Reply {
  readonly headers: Record<string, unknown>;
  readonly trailers: Record<string, unknown>;
  readonly body: Buffer;
  readonly rstCode: number;
}

/** A bare HTTP/2 session to the gRPC port, for what no stock client would send. */
export function bareSession(front: Front): ClientHttp2Session {
  const scheme = served.tls ? 'https' : 'http';
  const session = http2Connect(`${scheme}://127.0.0.1:${front.grpc.port}`, { ca: served.ca });
  session.on('error', () => session.destroy());
  return session;
}

/**
 * Sends the pieces as they are and resolves when the stream has closed. `end: false` leaves the client's side
 * open.
 */
export function bareCall(
  session: ClientHttp2Session,
  path: string,
  pieces: readonly Uint8Array[],
  headers: Record<string, string> = {},
  { end = true } = {},
): Promise<Http2Reply> {
  return new Promise((resolve) => {
    const base = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' };
    const stream = session.request({ ...base, ...headers });
    const body: Buffer[] = [];
    let [answered, trailers]: Record<string, unknown>[] = [{}, {}];
    stream.on('response', (given) => {
      answered = given;
    });
    stream.on('trailers', (given) => {
      trailers = given;
    });
    stream.on('data', (piece: Buffer) => body.push(piece));
    // Also after an error: the code of the reset says what happened.
    stream.on('error', () => stream.destroy());
    stream.on('close', () => {
      resolve({
        headers: answered ?? {},
        trailers: trailers ?? {},
        body: Buffer.concat(body),
        rstCode: stream.rstCode ?? 0,
      });
    });
    for (const piece of pieces) stream.write(piece);
    if (end) stream.end();
  });
}

/**
 * The fields of a protobuf message by number: numbers for varints, bytes for the rest. Independent of src.
 */
export function fields(message: Uint8Array): Map<number, (number | Buffer)[]> {
  const found = new Map<number, (number | Buffer)[]>();
  let at = 0;
  const varint = () => {
    let [value, scale, byte] = [0, 1, 0x80];
    while (byte >= 0x80) {
      byte = message[at++] ?? 0;
      value += (byte & 0x7f) * scale;
      scale *= 128;
    }
    return value;
  };
  while (at < message.length) {
    const tag = varint();
    if ((tag & 7) !== 0 && (tag & 7) !== 2) throw new Error(`wire type ${tag & 7} at ${at}`);
    const value = varint();
    const isNumber = (tag & 7) === 0;
    if (!isNumber) at += value;
    const list = found.get(tag >>> 3) ?? [];
    list.push(isNumber ? value : Buffer.from(message.subarray(at - value, at)));
    found.set(tag >>> 3, list);
  }
  return found;
}

/** google.rpc.Status */
export function status(message: Uint8Array): {
  code: number;
  message: string;
  retryDelayMs: number | undefined;
} {
  const read = fields(message);
  const any = read.get(3)?.[0];
  return {
    code: Number(read.get(1)?.[0] ?? 0),
    message: String(read.get(2)?.[0] ?? ''),
    retryDelayMs: retryDelay(any),
  };
}

function retryDelay(any: number | Buffer | undefined): number | undefined {
  if (!Buffer.isBuffer(any)) return undefined;
  const read = fields(any);
  if (String(read.get(1)?.[0]) !== 'type.googleapis.com/google.rpc.RetryInfo') return undefined;
  const duration = fields(nested(fields(nested(read.get(2)?.[0])).get(1)?.[0]));
  return Number(duration.get(1)?.[0] ?? 0) * 1000 + Number(duration.get(2)?.[0] ?? 0) / 1e6;
}

export function nested(value: number | Buffer | undefined): Buffer {
  return Buffer.isBuffer(value) ? value : Buffer.alloc(0);
}
