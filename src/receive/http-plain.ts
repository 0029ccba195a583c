/**
 * HTTP/1.1 without TLS, on uWebSockets.js, which parses requests, answers `Expect: 100-continue`, and refuses
 * by itself what is no HTTP/1.1 (505), malformed (400) or has headers over 16 KiB (431). It has no limit on
 * bodies: http-exchange.ts has. Two of its habits show outside. A connection is cut after about 10 s without
 * a request, so answers carry a `Keep-Alive` hint; and a request sent before the answer to the one before it
 * ends the connection, since answers wait for Redis: RFC 9112 (9.3.2) tells clients not to pipeline what
 * isn't idempotent, and none of OTLP's does.
 */
import { SIGNALS } from '../model/signal.ts';
import { whyNotListen } from './addresses.ts';
import type { Cors } from './cors.ts';
import type { HttpOptions, WireListener } from './http.ts';
import type { HttpShared } from './http-exchange.ts';
import { answerPreflight, receive, refuseMethod, refusePath } from './http-routes.ts';
import { type App, type HttpRequest, type HttpResponse, listenExclusively, uWS } from './uws.ts';

/** @throws ConfigurationError when the address can't be had */
export async function listenPlain(
  options: HttpOptions,
  shared: HttpShared,
  cors: Cors,
): Promise<WireListener> {
  const { addr } = options;
  const app = uWS.App();
  boundConnections(app, shared, options.connectionsMax);
  addRoutes(app, shared, cors);
  const socket = await listenExclusively(app, addr.host, addr.port);
  if (socket === false) throw await whyNotListen('SLUICE_HTTP_ADDR', addr);
  // Each only once: uWebSockets.js doesn't check what it is given, and a second time ends the process.
  return {
    port: uWS.us_socket_local_port(socket),
    stopListening: () => uWS.us_listen_socket_close(socket),
    async end() {
      app.close();
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
      counts.connectionRefused('connections');
      res.close();
    }
  };
  app.filter(follow);
}

type Handler = (res: HttpResponse, req: HttpRequest) => void;

function addRoutes(app: App, shared: HttpShared, cors: Cors): void {
  const framed = (handler: Handler) => (res: HttpResponse, req: HttpRequest) => {
    if (isWellFramed(req)) handler(res, req);
    // Without an answer: after one, what is already here would be read as the next request.
    else res.close();
  };
  for (const signal of SIGNALS) {
    app.post(`/v1/${signal}`, framed((res, req) => receive(shared, cors, signal, res, req)));
    if (cors.enabled) app.options(`/v1/${signal}`, framed((res, req) => answerPreflight(cors, res, req)));
    app.any(`/v1/${signal}`, framed((res, req) => refuseMethod(shared, cors, signal, res, req)));
  }
  app.any('/*', framed((res, req) => refusePath(shared, cors, res, req)));
}

/**
 * Whether everybody sees its end at the same place (RFC 9112, 6.3): uWebSockets.js takes the first of several
 * lengths, and every coding for chunks.
 */
function isWellFramed(req: HttpRequest): boolean {
  let lengths = 0;
  let codings = 0;
  let isChunked = true;
  req.forEach((name, value) => {
    if (name === 'content-length') lengths += 1;
    else if (name === 'transfer-encoding') {
      codings += 1;
      isChunked = value.toLowerCase() === 'chunked';
    }
  });
  return lengths <= 1 && codings <= 1 && isChunked;
}
