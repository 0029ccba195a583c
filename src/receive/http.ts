/**
 * OTLP over HTTP/1.1: which requests are OTLP's, and the life of the port (docs/otlp.md, rows 13 to 23).
 *
 * On uWebSockets.js, which parses requests, answers `Expect: 100-continue`, and refuses by itself what is no
 * HTTP/1.1 (505), malformed (400) or has headers over 16 KiB (431). It has no limit on bodies:
 * http-exchange.ts has. Two of its habits show outside. A connection is cut after about 10 s without a
 * request, so answers carry a `Keep-Alive` hint; and a request sent before the answer to the one before it
 * ends the connection, since answers wait for Redis: RFC 9112 (9.3.2) tells clients not to pipeline what
 * isn't idempotent, and none of OTLP's does.
 */
import type { Logger } from '../base/log.ts';
import { ENCODINGS, encodingOf } from '../compress/inflate.ts';
import type { Address } from '../config/settings.ts';
import type { Instruments } from '../metrics/instruments.ts';
import { never } from '../model/outcome.ts';
import { SIGNALS, type Signal } from '../model/signal.ts';
import { type Credentials, NO_CREDENTIALS } from '../model/tenant.ts';
import { whyNotListen } from './addresses.ts';
import { type BodyFormat, CONTENT_TYPES, NO_CONTENT } from './answer.ts';
import { BufferPool } from './buffers.ts';
import { Cors, type Header } from './cors.ts';
import { Counts } from './counts.ts';
import { HttpExchange, type HttpShared } from './http-exchange.ts';
import { type Admission, type Ingest, REQUEST_ID_HEADER, requestIdOf, sourceOf } from './ingest.ts';
import {
  type App,
  type HttpRequest,
  type HttpResponse,
  type ListenSocket,
  listenExclusively,
  uWS,
} from './uws.ts';

export interface HttpOptions {
  readonly addr: Address;
  readonly requestBytesMax: number;
  readonly connectionsMax: number;
  readonly corsOrigins: readonly string[];
  /** The header in which clients name themselves, in lower case. */
  readonly sourceHeader: string;
  readonly ingest: Ingest;
  readonly door: Admission;
  readonly instruments: Instruments;
  readonly logger: Logger;
}

export interface HttpListener {
  /** The real one where 0 was asked for. */
  readonly port: number;
  /**
   * Accepts no more connections, and goes on taking requests on those that are open: each answer says
   * `Connection: close` and ends its own. Resolves when none is left, or when those that are had no request
   * for a moment: after `msMax` at the latest, which cuts off what is inside. So leave the door open.
   */
  close(msMax: number): Promise<void>;
}

const DRAIN_POLL_MS = 10;
/**
 * A connection can't be told that it is about to be closed, but with an answer. Clients that send at least
 * this often get one; the others find it closed while they don't use it, as after every idle time.
 */
const LINGER_MS = 500;
const PATHS = SIGNALS.map((signal) => `/v1/${signal}`).join(', ');

/** @throws ConfigurationError when the address can't be had */
export async function listenHttp(options: HttpOptions): Promise<HttpListener> {
  const { addr } = options;
  const shared: HttpShared = {
    requestBytesMax: options.requestBytesMax,
    sourceHeader: options.sourceHeader,
    ingest: options.ingest,
    door: options.door,
    counts: new Counts(options.instruments, 'http'),
    pool: new BufferPool(),
    logger: options.logger,
    open: new Set(),
    connections: 0,
    tracing: options.logger.isLevelEnabled('debug'),
    draining: false,
  };
  const app = uWS.App();
  boundConnections(app, shared, options.connectionsMax);
  addRoutes(app, shared, new Cors(options.corsOrigins));
  const socket = await listenExclusively(app, addr.host, addr.port);
  if (socket === false) throw await whyNotListen('SLUICE_HTTP_ADDR', addr);
  let closing: Promise<void> | undefined;
  return {
    port: uWS.us_socket_local_port(socket),
    close(msMax) {
      // Once only: uWebSockets.js doesn't check what it is given, and a second time ends the process.
      closing ??= close(app, socket, shared, msMax);
      return closing;
    },
  };
}

function boundConnections(app: App, shared: HttpShared, connectionsMax: number): void {
  const { counts } = shared;
  const follow = (res: HttpResponse, change: number) => {
    shared.connections += change;
    if (change > 0) counts.connected();
    else counts.disconnected();
    if (change > 0 && shared.connections > connectionsMax) {
      counts.connectionRefused();
      res.close();
    }
  };
  app.filter(follow);
}

function addRoutes(app: App, shared: HttpShared, cors: Cors): void {
  for (const signal of SIGNALS) {
    app.post(`/v1/${signal}`, (res, req) => receive(shared, cors, signal, res, req));
    if (cors.enabled) app.options(`/v1/${signal}`, (res, req) => answerPreflight(cors, res, req));
    app.any(`/v1/${signal}`, (res, req) => {
      const allow: Header = ['Allow', cors.enabled ? 'POST, OPTIONS' : 'POST'];
      const message = `${req.getCaseSensitiveMethod()} is not supported here: send requests with POST`;
      const exchange = exchangeOf(shared, cors, signal, res, req, allow);
      exchange.refuse({ kind: 'wrong', reason: 'wrong_method', message });
    });
  }
  app.any('/*', (res, req) => {
    const message = `there is nothing at ${req.getUrl()}: OTLP is received at ${PATHS}`;
    exchangeOf(shared, cors, 'none', res, req).refuse({ kind: 'wrong', reason: 'unknown_path', message });
  });
}

function receive(shared: HttpShared, cors: Cors, signal: Signal, res: HttpResponse, req: HttpRequest): void {
  const exchange = exchangeOf(shared, cors, signal, res, req);
  const contentType = req.getHeader('content-type');
  const contentEncoding = req.getHeader('content-encoding');
  const encoding = encodingOf(contentEncoding);
  if (formatOf(contentType) === 'text') {
    const named = contentType === '' ? 'a request without Content-Type' : `the Content-Type ${contentType}`;
    const wanted = `use ${CONTENT_TYPES.protobuf} or ${CONTENT_TYPES.json}`;
    exchange.refuse(never('unsupported_content_type', `${named} is not supported: ${wanted}`));
  } else if (encoding === undefined) {
    const named = `the Content-Encoding ${contentEncoding}`;
    const wanted = `use ${ENCODINGS.join(', ')}`;
    exchange.refuse(never('unsupported_encoding', `${named} is not supported: ${wanted}`));
  } else {
    const named = shared.tracing ? requestIdOf(req.getHeader(REQUEST_ID_HEADER)) : undefined;
    const source = sourceOf(req.getHeader(shared.sourceHeader));
    exchange.accept(signal, credentialsOf(shared.door, req), encoding, source, named);
  }
}

function credentialsOf({ credentialHeaders }: Admission, req: HttpRequest): Credentials {
  if (credentialHeaders === undefined) return NO_CREDENTIALS;
  return {
    authorization: req.getHeader(credentialHeaders.authorization),
    apiKey: req.getHeader(credentialHeaders.apiKey),
    tenant: credentialHeaders.tenant === '' ? '' : req.getHeader(credentialHeaders.tenant),
    certificate: undefined,
  };
}

function exchangeOf(
  shared: HttpShared,
  cors: Cors,
  signal: Signal | 'none',
  res: HttpResponse,
  req: HttpRequest,
  ...headers: readonly Header[]
): HttpExchange {
  return new HttpExchange(shared, res, {
    signal,
    format: formatOf(req.getHeader('content-type')),
    declaredBytes: declaredBytesOf(req),
    headers: cors.enabled ? [...headers, ...cors.headers(req.getHeader('origin'))] : headers,
    headOnly: req.getCaseSensitiveMethod() === 'HEAD',
  });
}

/** Media types are case-insensitive and may have parameters (RFC 9110, 8.3.1). */
function formatOf(contentType: string): BodyFormat {
  if (contentType === CONTENT_TYPES.protobuf) return 'protobuf';
  if (contentType === CONTENT_TYPES.json) return 'json';
  const name = contentType.split(';', 1)[0]?.trim().toLowerCase();
  if (name === CONTENT_TYPES.protobuf) return 'protobuf';
  return name === CONTENT_TYPES.json ? 'json' : 'text';
}

/**
 * Without either header there is no body (RFC 9112, 6.3). A length that is no number counts as none:
 * uWebSockets.js checks it only after this, refuses it with 400 and ends the connection.
 */
function declaredBytesOf(req: HttpRequest): number {
  const declared = Number(req.getHeader('content-length'));
  if (Number.isSafeInteger(declared) && declared > 0) return declared;
  return req.getHeader('transfer-encoding') === '' ? 0 : -1;
}

function answerPreflight(cors: Cors, res: HttpResponse, req: HttpRequest): void {
  const headers = cors.preflight(req.getHeader('origin'), req.getHeader('access-control-request-headers'));
  res.writeStatus(NO_CONTENT);
  for (const [name, value] of headers) res.writeHeader(name, value);
  // No content and no Content-Length, as RFC 9110 (8.6) has it for a 204.
  res.endWithoutBody();
}

function close(app: App, socket: ListenSocket, shared: HttpShared, msMax: number): Promise<void> {
  shared.draining = true;
  uWS.us_listen_socket_close(socket);
  const startedAtMs = performance.now();
  return new Promise((resolve) => {
    const look = () => {
      const ms = performance.now() - startedAtMs;
      const requests = shared.open.size;
      const quiet = requests === 0 && (shared.connections === 0 || ms >= LINGER_MS);
      if (!quiet && ms < msMax) return;
      clearInterval(timer);
      if (requests > 0) shared.logger.warn({ requests, msMax }, 'HTTP requests were cut off');
      app.close();
      resolve();
    };
    const timer = setInterval(look, DRAIN_POLL_MS);
    look();
  });
}
