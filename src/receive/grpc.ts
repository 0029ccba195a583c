/**
 * OTLP over gRPC: which calls are OTLP's, the bounds of sessions, and the life of the port (docs/otlp.md,
 * rows 1 to 14).
 *
 * A session is a client's connection with many calls on it. Windows of 1 MiB a stream and 4 MiB a session let
 * a usual message arrive without waiting for leave to go on (measured: docs/otlp.md).
 */
import {
  type Http2SecureServer, type Http2Server, type Http2Session, type IncomingHttpHeaders,
  type ServerHttp2Session, type ServerHttp2Stream, type ServerOptions, constants, createSecureServer,
  createServer,
} from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { TlsFiles } from '../base/tls.ts';
import type { Address } from '../config/settings.ts';
import type { Instruments } from '../metrics/instruments.ts';
import type { Signal } from '../model/signal.ts';
import type { ClientCertificate } from '../model/tenant.ts';
import { cannotListen } from './addresses.ts';
import { notGrpc } from './answer.ts';
import { BufferPool } from './buffers.ts';
import { clientCertificateOf } from './certificate.ts';
import { HANDSHAKE_MS_MAX, boundConnections } from './connections.ts';
import { Counts } from './counts.ts';
import { type GrpcShared, acceptCall, refuseCall } from './grpc-call.ts';
import { HEALTH_CHECK_PATH, type HealthStatus, answerHealthCheck } from './grpc-health.ts';
import { Leftovers } from './grpc-leftovers.ts';
import type { Admission, Ingest } from './ingest.ts';

export interface GrpcOptions {
  readonly addr: Address;
  readonly requestBytesMax: number;
  readonly connectionsMax: number;
  /** Of one address; 0 is any number. */
  readonly connectionsPerAddressMax: number;
  /** A session without a call is kept this long. */
  readonly keepAliveMs: number;
  /** The metadata in which clients name themselves, in lower case. */
  readonly sourceHeader: string;
  readonly ingest: Ingest;
  readonly door: Admission;
  /** @param who the address that asks */
  readonly health: (who: string) => HealthStatus;
  readonly instruments: Instruments;
  readonly logger: Logger;
  readonly tls: TlsFiles | undefined;
}

export interface GrpcListener {
  /** The real one where 0 was asked for. */
  readonly port: number;
  /**
   * Accepts no more connections, says so on all sessions (GOAWAY with NO_ERROR and the last call that is
   * taken: clients send later ones elsewhere by themselves), lets calls inside finish, then ends the
   * sessions: after `msMax` at the latest, which cuts off what is inside. So leave the door open.
   */
  close(msMax: number): Promise<void>;
}

/** What is known of a session. */
interface Held {
  /** Read once, since that costs a parse. */
  readonly certificate: ClientCertificate | undefined;
  streams: number;
}

/** What is open, for the end; of streams those whose client isn't done. */
interface Open {
  readonly sessions: Map<Http2Session, Held>;
  readonly sockets: ReadonlySet<Socket>;
  streams: number;
  closing: boolean;
}

const SERVICES: Readonly<Record<Signal, string>> = {
  traces: 'opentelemetry.proto.collector.trace.v1.TraceService',
  metrics: 'opentelemetry.proto.collector.metrics.v1.MetricsService',
  logs: 'opentelemetry.proto.collector.logs.v1.LogsService',
};
const SERVICE_NAMES: ReadonlySet<string> = new Set(Object.values(SERVICES));
const SIGNAL_OF_PATH: ReadonlyMap<string, Signal> = new Map([
  [`/${SERVICES.traces}/Export`, 'traces'],
  [`/${SERVICES.metrics}/Export`, 'metrics'],
  [`/${SERVICES.logs}/Export`, 'logs'],
]);

const STREAM_WINDOW_BYTES = 1 << 20;
const SESSION_WINDOW_BYTES = 1 << 22;
const STREAMS_PER_SESSION_MAX = 256;
const HEADER_BYTES_MAX = 16 * 1024;
const HEADERS_MAX = 100;
/** Entries of one SETTINGS frame; the standards know eight. */
const SETTINGS_MAX = 16;
/** A message that stops arriving for this long is given up. */
const STALL_MS_MAX = 15_000;
/**
 * Frames that make no sense, and streams over the limit, before a session is ended (node's default is 1,000).
 */
const INVALID_FRAMES_MAX = 100;
const REJECTED_STREAMS_MAX = 100;
/**
 * Streams that a client opens and resets at once ("rapid reset", CVE-2023-44487): a burst, then so many a
 * second.
 */
const STREAM_RESET_BURST = 1000;
const STREAM_RESET_RATE = 33;
const UNANSWERED_PINGS_MAX = 10;
/** What a session may hold in node: its streams, their headers, and what the client doesn't take. */
const SESSION_MEMORY_MIB_MAX = 10;
/** How long an idle session without streams may take to go; streams have bounds of their own. */
const FAREWELL_MS_MAX = 30_000;
const DRAIN_POLL_MS = 10;
/** Clients close their side when they have read that we did; one that has vanished isn't waited for. */
const LINGER_MS = 500;

/**
 * Beside these node and its nghttp2 end a session by themselves for more than 1,000 answers to PING and
 * SETTINGS that the client doesn't take, for a header block in more than 8 pieces, and for empty frames (as
 * invalid ones).
 */
const LIMITS: ServerOptions & { handshakeTimeout: number } = {
  settings: {
    initialWindowSize: STREAM_WINDOW_BYTES,
    maxConcurrentStreams: STREAMS_PER_SESSION_MAX,
    maxHeaderListSize: HEADER_BYTES_MAX,
  },
  maxSettings: SETTINGS_MAX,
  maxHeaderListPairs: HEADERS_MAX,
  maxSessionMemory: SESSION_MEMORY_MIB_MAX,
  maxSessionInvalidFrames: INVALID_FRAMES_MAX,
  maxSessionRejectedStreams: REJECTED_STREAMS_MAX,
  streamResetBurst: STREAM_RESET_BURST,
  streamResetRate: STREAM_RESET_RATE,
  maxOutstandingPings: UNANSWERED_PINGS_MAX,
  handshakeTimeout: HANDSHAKE_MS_MAX,
};

/** @throws ConfigurationError when the address can't be had */
export async function listenGrpc(options: GrpcOptions): Promise<GrpcListener> {
  const counts = new Counts(options.instruments, 'grpc');
  const track = (stream: ServerHttp2Stream) => trackStream(stream, open);
  const shared: GrpcShared = {
    requestBytesMax: options.requestBytesMax,
    sourceHeader: options.sourceHeader,
    tracing: options.logger.isLevelEnabled('debug'),
    stallMsMax: Math.min(STALL_MS_MAX, options.keepAliveMs),
    ingest: options.ingest,
    door: options.door,
    counts,
    pool: new BufferPool(),
    leftovers: new Leftovers(track),
    logger: options.logger,
  };
  const { tls, logger } = options;
  const server = tls ? createSecureServer({ ...LIMITS, ...tls.serverOptions }) : createServer(LIMITS);
  const sockets = boundConnections(server, options, counts, logger);
  const open: Open = { sessions: new Map(), sockets, streams: 0, closing: false };
  server.on('session', (session) => keepSession(session, open, options.keepAliveMs, counts));
  server.on('sessionError', (error) => logger.debug({ error: messageOf(error) }, 'gRPC session'));
  // TLS without the agreement to speak HTTP/2.
  server.on('unknownProtocol', (socket: Socket) => {
    counts.connectionRefused('handshake');
    socket.destroy();
  });
  // A stream that breaks ends with `close`, where everything is given back; the error has no further news.
  const onStreamError = (error: unknown) => logger.debug({ error: messageOf(error) }, 'gRPC stream');
  const take = (
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    _flags: number,
    rawHeaders: readonly string[],
  ) => {
    stream.on('error', onStreamError);
    // Node's own bound begins when the client has confirmed our settings, if it ever does.
    if (lengthOf(rawHeaders) > HEADER_BYTES_MAX) stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
    else if (route(shared, options.health, stream, headers, heldOf(stream, open)?.certificate)) track(stream);
  };
  server.on('stream', take);
  await listen(server, options.addr);
  const stopServing = tls && 'setSecureContext' in server ? tls.serve(server) : undefined;
  const { port } = server.address() as AddressInfo;
  let closing: Promise<void> | undefined;
  return {
    port,
    close(msMax) {
      stopServing?.();
      closing ??= close(server, open, msMax, logger);
      return closing;
    },
  };
}

function lengthOf(headers: readonly string[]): number {
  let length = 0;
  for (const text of headers) length += text.length;
  return length;
}

function heldOf({ session }: ServerHttp2Stream, { sessions }: Open): Held | undefined {
  return session && sessions.get(session);
}

/** Counts it until it closes. */
function trackStream(stream: ServerHttp2Stream, open: Open): void {
  const held = heldOf(stream, open);
  open.streams += 1;
  if (held) held.streams += 1;
  stream.once('close', () => {
    open.streams -= 1;
    if (held) held.streams -= 1;
  });
}

type Server = Http2Server | Http2SecureServer;

function listen(server: Server, addr: Address): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(cannotListen('SLUICE_GRPC_ADDR', addr, error)));
    server.listen({ host: addr.host, port: addr.port, exclusive: true }, resolve);
  });
}

function keepSession(
  session: ServerHttp2Session,
  open: Open,
  keepAliveMs: number,
  counts: Counts,
): void {
  const { socket } = session;
  const held: Held = { certificate: clientCertificateOf(socket), streams: 0 };
  open.sessions.set(session, held);
  counts.connected();
  session.setLocalWindowSize(SESSION_WINDOW_BYTES);
  // Its first settings are the sign that somebody speaks HTTP/2.
  session.setTimeout(Math.min(HANDSHAKE_MS_MAX, keepAliveMs), () => session.destroy());
  const { remoteAddress, remotePort } = socket;
  let farewell: NodeJS.Timeout | undefined;
  const end = () => {
    session.close();
    // Closing waits until the client has taken everything and closes its side too. Who doesn't is cut off.
    const cutOff = () => {
      if (held.streams > 0) return;
      for (const raw of open.sockets) {
        if (raw.remotePort === remotePort && raw.remoteAddress === remoteAddress) raw.destroy();
      }
    };
    farewell ??= setInterval(cutOff, Math.min(FAREWELL_MS_MAX, keepAliveMs));
  };
  session.once('remoteSettings', () => {
    session.removeAllListeners('timeout');
    session.setTimeout(keepAliveMs, end);
  });
  session.once('close', () => {
    clearInterval(farewell);
    open.sessions.delete(session);
    counts.disconnected();
  });
  // It was accepted in the last moment.
  if (open.closing) session.close();
}

/** @returns whether the call goes on, and isn't answered already */
function route(
  shared: GrpcShared,
  health: (who: string) => HealthStatus,
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  certificate: ClientCertificate | undefined,
): boolean {
  // What came together with the end of a handshake is read although that has refused it.
  if (stream.session?.socket?.destroyed) return false;
  const wrong = wrongProtocol(headers[':method'], headers['content-type']);
  if (wrong !== undefined) {
    const status = notGrpc(wrong);
    shared.counts.answered('none', 'none', status, 0, 0);
    stream.respond(
      { ':status': status, ...(wrong === 'wrong_method' ? { allow: 'POST' } : {}) },
      { endStream: true },
    );
    shared.leftovers.add(stream);
    return false;
  }
  const path = headers[':path'] ?? '';
  const signal = SIGNAL_OF_PATH.get(path);
  if (signal !== undefined) return acceptCall(shared, stream, signal, headers, certificate);
  if (path === HEALTH_CHECK_PATH) {
    const who = stream.session?.socket.remoteAddress ?? '';
    answerHealthCheck(stream, shared, SERVICE_NAMES, () => health(who));
    return true;
  }
  const reply = { kind: 'wrong', reason: 'unknown_path', message: `there is no method ${path}` } as const;
  refuseCall(shared, stream, { reply, signal: 'none', encoding: 'none', startedMs: performance.now() });
  return false;
}

function wrongProtocol(
  method: string | undefined,
  contentType: string | undefined,
): 'wrong_method' | 'unsupported_content_type' | undefined {
  if (method !== 'POST') return 'wrong_method';
  // Also `application/grpc+proto` and parameters, but no other format of messages.
  return /^application\/grpc(\+proto)?\s*(;|$)/i.test(contentType ?? '')
    ? undefined
    : 'unsupported_content_type';
}

function close(server: Server, open: Open, msMax: number, logger: Logger): Promise<void> {
  open.closing = true;
  const startedAtMs = performance.now();
  let busyAtMs = startedAtMs;
  return new Promise((resolve) => {
    const look = () => {
      const now = performance.now();
      if (open.streams > 0) busyAtMs = now;
      if (now - startedAtMs < msMax && now - busyAtMs < LINGER_MS) return;
      clearInterval(timer);
      const calls = open.streams;
      if (calls > 0) logger.warn({ calls, msMax }, 'gRPC calls were cut off');
      for (const session of open.sessions.keys()) session.destroy();
      for (const socket of open.sockets) socket.destroy();
    };
    const timer = setInterval(look, DRAIN_POLL_MS);
    // Resolves once the last connection has gone.
    server.close(() => {
      clearInterval(timer);
      resolve();
    });
    for (const session of open.sessions.keys()) session.close();
  });
}
