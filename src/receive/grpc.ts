/**
 * OTLP over gRPC: which calls are OTLP's, the bounds of sessions, and the life of the port (docs/otlp.md,
 * rows 1 to 14).
 *
 * A session is a client's connection with many calls on it. Windows of 1 MiB a stream and 4 MiB a session let
 * a usual message arrive without waiting for leave to go on (measured: docs/otlp.md).
 */
import {
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  createServer,
} from 'node:http2';
import type { AddressInfo } from 'node:net';
import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Address } from '../config/settings.ts';
import type { Instruments } from '../metrics/instruments.ts';
import type { Signal } from '../model/signal.ts';
import { cannotListen } from './addresses.ts';
import { notGrpc } from './answer.ts';
import { BufferPool } from './buffers.ts';
import { Counts } from './counts.ts';
import { ExportCall, type GrpcShared, refuseCall, stopSending } from './grpc-call.ts';
import { HEALTH_CHECK_PATH, type HealthStatus, answerHealthCheck } from './grpc-health.ts';
import type { Admission, Ingest } from './ingest.ts';

export interface GrpcOptions {
  readonly addr: Address;
  readonly requestBytesMax: number;
  readonly connectionsMax: number;
  /** A session without a call is kept this long. */
  readonly keepAliveMs: number;
  readonly ingest: Ingest;
  readonly door: Admission;
  readonly health: () => HealthStatus;
  readonly instruments: Instruments;
  readonly logger: Logger;
}

export interface GrpcListener {
  /** The real one where 0 was asked for. */
  readonly port: number;
  /**
   * Accepts no more connections, says so on all sessions (GOAWAY), lets calls inside finish, then ends the
   * sessions: after `msMax` at the latest. Close the door before, so that calls that are still coming are
   * told to come back later.
   */
  close(msMax: number): Promise<void>;
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
/** A connection that hasn't spoken HTTP/2 by then is no client. */
const HANDSHAKE_MS_MAX = 10_000;
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

/** @throws ConfigurationError when the address can't be had */
export async function listenGrpc(options: GrpcOptions): Promise<GrpcListener> {
  const counts = new Counts(options.instruments, 'grpc');
  const shared: GrpcShared = {
    requestBytesMax: options.requestBytesMax,
    stallMsMax: Math.min(STALL_MS_MAX, options.keepAliveMs),
    ingest: options.ingest,
    door: options.door,
    counts,
    pool: new BufferPool(),
    logger: options.logger,
  };
  const server = createServer({
    settings: {
      initialWindowSize: STREAM_WINDOW_BYTES,
      maxConcurrentStreams: STREAMS_PER_SESSION_MAX,
      maxHeaderListSize: HEADER_BYTES_MAX,
    },
    maxSessionInvalidFrames: INVALID_FRAMES_MAX,
    maxSessionRejectedStreams: REJECTED_STREAMS_MAX,
    streamResetBurst: STREAM_RESET_BURST,
    streamResetRate: STREAM_RESET_RATE,
    maxOutstandingPings: UNANSWERED_PINGS_MAX,
  });
  const sessions = new Set<ServerHttp2Session>();
  server.maxConnections = options.connectionsMax;
  server.on('drop', () => counts.connectionRefused());
  server.on('session', (session) => keepSession(session, sessions, options.keepAliveMs, counts));
  server.on('sessionError', (error) => options.logger.debug({ error: messageOf(error) }, 'gRPC session'));
  server.on('stream', (stream, headers) => route(shared, options.health, stream, headers));
  await listen(server, options.addr);
  const { port } = server.address() as AddressInfo;
  let closing: Promise<void> | undefined;
  return {
    port,
    close(msMax) {
      closing ??= close(server, sessions, msMax, options.logger);
      return closing;
    },
  };
}

function listen(server: Http2Server, addr: Address): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(cannotListen('SLUICE_GRPC_ADDR', addr, error)));
    server.listen({ host: addr.host, port: addr.port, exclusive: true }, resolve);
  });
}

function keepSession(
  session: ServerHttp2Session,
  sessions: Set<ServerHttp2Session>,
  keepAliveMs: number,
  counts: Counts,
): void {
  sessions.add(session);
  counts.connected();
  session.setLocalWindowSize(SESSION_WINDOW_BYTES);
  // Its first settings are the sign that somebody speaks HTTP/2.
  session.setTimeout(Math.min(HANDSHAKE_MS_MAX, keepAliveMs), () => session.destroy());
  session.once('remoteSettings', () => {
    session.removeAllListeners('timeout');
    session.setTimeout(keepAliveMs, () => session.close());
  });
  session.once('close', () => {
    sessions.delete(session);
    counts.disconnected();
  });
}

function route(
  shared: GrpcShared,
  health: () => HealthStatus,
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
): void {
  // A stream that breaks ends with `close`, where everything is given back; the error itself has no further
  // news.
  stream.on('error', (error) => shared.logger.debug({ error: messageOf(error) }, 'gRPC stream'));
  const wrong = wrongProtocol(headers[':method'], headers['content-type']);
  if (wrong !== undefined) {
    const status = notGrpc(wrong);
    shared.counts.answered('none', 'none', status, 0, 0);
    stream.respond(
      { ':status': status, ...(wrong === 'wrong_method' ? { allow: 'POST' } : {}) },
      { endStream: true },
    );
    stopSending(stream);
    return;
  }
  const path = headers[':path'] ?? '';
  const signal = SIGNAL_OF_PATH.get(path);
  if (signal !== undefined) {
    new ExportCall(shared, stream, signal, headers).accept(headers);
  } else if (path === HEALTH_CHECK_PATH) {
    answerHealthCheck(stream, shared.pool, SERVICE_NAMES, health);
  } else {
    refuseCall(shared, stream, {
      kind: 'wrong',
      reason: 'unknown_path',
      message: `there is no method ${path}`,
    });
  }
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

function close(
  server: Http2Server,
  sessions: ReadonlySet<ServerHttp2Session>,
  msMax: number,
  logger: Logger,
): Promise<void> {
  return new Promise((resolve) => {
    const deadline = setTimeout(() => {
      logger.warn({ sessions: sessions.size, msMax }, 'gRPC sessions were cut off');
      for (const session of sessions) session.destroy();
    }, msMax);
    // Resolves once the last session has gone.
    server.close(() => {
      clearTimeout(deadline);
      resolve();
    });
    for (const session of sessions) session.close();
  });
}
