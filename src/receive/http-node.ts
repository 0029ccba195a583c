/**
 * HTTP/1.1 on node's own server, with TLS or without, made to look like uWebSockets.js (http-wire.ts) and
 * bounded like it: HTTP/1.1 only (505), headers up to 16 KiB and 100 of them (431), no two lengths and no
 * request without a Host (400), about 10 s without a request, 16 KiB a second of a body, and no request
 * before the answer to the one before it: that ends the connection.
 */
import {
  type IncomingMessage, type Server as HttpServer, type ServerOptions, type ServerResponse, createServer,
} from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { type AddressInfo, Server as NetServer, type Socket } from 'node:net';
import type { ClientCertificate } from '../model/tenant.ts';
import { cannotListen } from './addresses.ts';
import { clientCertificateOf } from './certificate.ts';
import { HANDSHAKE_MS_MAX, boundConnections } from './connections.ts';
import type { Cors } from './cors.ts';
import type { HttpShared } from './http-exchange.ts';
import { route } from './http-routes.ts';
import type { HttpOptions, WireListener } from './http.ts';
import type { WireRequest, WireResponse } from './http-wire.ts';
import { HEADER_BYTES_MAX } from './uws.ts';

const HEADERS_MAX = 100;
/** Without a request, and within the body of one without a byte; uWebSockets.js cuts after 8 to 12 s. */
const IDLE_MS_MAX = 10_000;
const RECEIVE_BYTES_PER_MS_MIN = 16;
/** Until a request that has arrived is answered and its answer taken; the waits behind it end sooner. */
const ANSWER_MS_MAX = 120_000;
/** How often node and this file look for requests that take too long. */
const CHECK_EVERY_MS = 2_000;
const NOTHING = new Uint8Array(0);

/** @throws ConfigurationError when the address can't be had */
export async function listenNode(
  options: HttpOptions,
  shared: HttpShared,
  cors: Cors,
): Promise<WireListener> {
  const { tls } = options;
  const limits = limitsOf(options);
  const server = tls ? createSecureServer({ ...limits, ...tls.serverOptions }) : createServer(limits);
  server.timeout = IDLE_MS_MAX;
  // Counted by this file, which refuses; node would leave out the others without a word.
  server.maxHeadersCount = 0;
  const sockets = boundConnections(server, options, shared.counts, options.logger);
  server.on('connection', (socket: Socket) => follow(socket, shared));
  const connections = new WeakMap<Socket, Connection>();
  server.on('request', (req: IncomingMessage, res: ServerResponse) => {
    const { socket } = req;
    let connection = connections.get(socket);
    if (connection === undefined) {
      connection = new Connection(socket);
      connections.set(socket, connection);
    }
    take(connection, shared, cors, req, res);
  });
  await listen(server, options);
  const stopServing = tls && 'setSecureContext' in server ? tls.serve(server) : undefined;
  const gone = new Promise<void>((resolve) => server.once('close', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    stopListening() {
      stopServing?.();
      // Not http's own way, which would end the connections without a request at once.
      NetServer.prototype.close.call(server);
    },
    end() {
      for (const socket of sockets) socket.destroy();
      // Ends its look for slow requests; that it isn't listening any more is no news.
      server.close(() => undefined);
      return gone;
    },
  };
}

function limitsOf({ requestBytesMax }: HttpOptions): ServerOptions & { handshakeTimeout: number } {
  return {
    maxHeaderSize: HEADER_BYTES_MAX,
    handshakeTimeout: HANDSHAKE_MS_MAX,
    headersTimeout: HANDSHAKE_MS_MAX,
    requestTimeout: HANDSHAKE_MS_MAX + IDLE_MS_MAX + requestBytesMax / RECEIVE_BYTES_PER_MS_MIN,
    keepAliveTimeout: IDLE_MS_MAX,
    connectionsCheckingInterval: CHECK_EVERY_MS,
  };
}

function listen(server: HttpServer, { addr }: HttpOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(cannotListen('SLUICE_HTTP_ADDR', addr, error)));
    server.listen({ host: addr.host, port: addr.port, exclusive: true }, resolve);
  });
}

function follow(socket: Socket, shared: HttpShared): void {
  shared.connections += 1;
  shared.counts.connected();
  socket.once('close', () => {
    shared.connections -= 1;
    shared.counts.disconnected();
  });
}

function take(
  connection: Connection,
  shared: HttpShared,
  cors: Cors,
  req: IncomingMessage,
  res: ServerResponse,
): void {
  // What came together with the end of a handshake, or with a head, is read although that was refused.
  if (req.socket.destroyed || connection.isRefused) return;
  if (connection.unanswered !== undefined) {
    req.socket.destroy();
  } else if (req.httpVersion !== '1.1') {
    connection.refuse(res, 505);
  } else if (req.rawHeaders.length > 2 * HEADERS_MAX) {
    connection.refuse(res, 431);
  } else if ((req.headers['transfer-encoding'] ?? 'chunked').toLowerCase() !== 'chunked') {
    // Node refuses other codings only where chunks don't come last.
    connection.refuse(res, 400);
  } else {
    connection.unanswered = new NodeResponse(connection, req, res);
    route(shared, cors, connection.unanswered, new NodeRequest(connection, req));
  }
}

/** One at a time has a request. */
class Connection {
  readonly #socket: Socket;
  #certificate: ClientCertificate | 'unread' | undefined = 'unread';
  unanswered: NodeResponse | undefined;
  #isRefused = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.once('close', () => this.unanswered?.aborted());
  }

  /** It ends with its answer, and nothing that follows is a request. */
  get isRefused(): boolean {
    return this.#isRefused;
  }

  /** Because of a head. */
  refuse(res: ServerResponse, status: number): void {
    this.#isRefused = true;
    res.writeHead(status, { Connection: 'close' }).end();
  }

  get certificate(): ClientCertificate | undefined {
    if (this.#certificate === 'unread') this.#certificate = clientCertificateOf(this.#socket);
    return this.#certificate;
  }
}

class NodeRequest implements WireRequest {
  readonly #connection: Connection;
  readonly #req: IncomingMessage;

  constructor(connection: Connection, req: IncomingMessage) {
    this.#connection = connection;
    this.#req = req;
  }

  get certificate(): ClientCertificate | undefined {
    return this.#connection.certificate;
  }

  getHeader(name: string): string {
    const value = this.#req.headers[name];
    return typeof value === 'string' ? value : (value?.join(', ') ?? '');
  }

  getUrl(): string {
    const url = this.#req.url ?? '';
    const query = url.indexOf('?');
    return query < 0 ? url : url.slice(0, query);
  }

  getCaseSensitiveMethod(): string {
    return this.#req.method ?? '';
  }
}

class NodeResponse implements WireResponse {
  readonly #connection: Connection;
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  #aborted: (() => void) | undefined;
  #status = '200 OK';
  readonly #headers: string[] = [];

  constructor(connection: Connection, req: IncomingMessage, res: ServerResponse) {
    this.#connection = connection;
    this.#req = req;
    this.#res = res;
  }

  aborted(): void {
    this.#connection.unanswered = undefined;
    this.#aborted?.();
  }

  onAborted(handler: () => void): void {
    this.#aborted = handler;
  }

  onData(handler: (piece: Uint8Array, last: boolean) => void): void {
    const { socket } = this.#req;
    // Node has proved that it is a number, and ends the body there.
    const declaredBytes = Number(this.#req.headers['content-length'] ?? -1);
    const startedAtMs = performance.now();
    let arrivedBytes = 0;
    // Not with each piece: the size of a chunk can drip in for ever, and no piece comes of that.
    const watch = setInterval(() => {
      const patienceMs = IDLE_MS_MAX + arrivedBytes / RECEIVE_BYTES_PER_MS_MIN;
      if (performance.now() - startedAtMs > patienceMs) socket.destroy();
      if (socket.destroyed) clearInterval(watch);
    }, CHECK_EVERY_MS);
    const arrived = (piece: Uint8Array, last: boolean) => {
      if (last) {
        clearInterval(watch);
        socket.setTimeout(ANSWER_MS_MAX);
      }
      handler(piece, last);
    };
    this.#req.on('data', (piece: Buffer) => {
      arrivedBytes += piece.length;
      arrived(piece, arrivedBytes === declaredBytes);
    });
    this.#req.on('end', () => {
      if (arrivedBytes === 0 || arrivedBytes !== declaredBytes) arrived(NOTHING, true);
    });
  }

  cork(write: () => void): void {
    write();
  }

  writeStatus(status: string): WireResponse {
    this.#status = status;
    return this;
  }

  writeHeader(name: string, value: string): WireResponse {
    this.#headers.push(name, value);
    return this;
  }

  end(body: Uint8Array | string, endConnection = false): void {
    this.#head(Buffer.byteLength(body), endConnection);
    this.#res.end(body);
  }

  endWithoutBody(reportedLength?: number, endConnection = false): void {
    this.#head(reportedLength, endConnection);
    this.#res.end();
  }

  #head(length: number | undefined, endConnection: boolean): void {
    this.#connection.unanswered = undefined;
    if (length !== undefined) this.#headers.push('Content-Length', String(length));
    if (endConnection) this.#headers.push('Connection', 'close');
    this.#res.writeHead(Number(this.#status.slice(0, 3)), this.#status.slice(4), this.#headers);
  }
}
