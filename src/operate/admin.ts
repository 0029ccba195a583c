/**
 * The admin port: /metrics for Prometheus, /health, /ready and /startup for Kubernetes, /batches/<id> for
 * whoever traces a record, /ha/status and /series for whoever asks what slows clients down. In: GET requests,
 * and POST /reload from who has a token (guard.ts). Out: text or JSON. It shares nothing with the data ports,
 * so it answers while they are full.
 */
import { type IncomingMessage, type Server, type ServerResponse, createServer } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { ConfigurationError, Fault, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { TlsFiles } from '../base/tls.ts';
import type { Address } from '../config/settings.ts';
import type { Instruments } from '../metrics/instruments.ts';
import type { BatchTrace } from '../model/batch.ts';
import { type CheckSource, report } from './checks.ts';
import { mayChange } from './guard.ts';

export interface AdminOptions {
  readonly addr: Address;
  readonly instruments: Instruments;
  readonly logger: Logger;
  /** Fails only when a restart is the way out. */
  readonly health: CheckSource;
  /** Fails while clients should go elsewhere. */
  readonly ready: CheckSource;
  /** Fails until the process has started. */
  readonly startup: CheckSource;
  /**
   * Brings gauges up to date that cost a round trip; called before each scrape, bounded by its own timeouts.
   */
  readonly refresh: () => Promise<void>;
  /** What became of a batch; undefined when nobody knows (any more). May reject with a Fault of Redis. */
  readonly batch?: (id: string) => Promise<BatchTrace | undefined>;
  /** Told of each question to /ready, before it is answered. @param who the address that asks */
  readonly readyAsked?: (who: string) => void;
  readonly tls?: TlsFiles | undefined;
  /** Hashes of the tokens with which something may be changed, as they are now; none: nobody may. */
  readonly tokens?: () => readonly string[];
  /** Reads the settings again, and says what became of it. May reject with a ConfigurationError. */
  readonly reload?: () => Promise<object>;
  /** How this process is doing: pressure, what it is held against. Of what is known already. */
  readonly status?: () => object;
  /** The metrics with the most time series. Of what is known already. */
  readonly series?: () => object;
}

export interface AdminServer {
  readonly port: number;
  close(): Promise<void>;
}

const BATCHES = '/batches/';
const RELOAD = '/reload';
const BATCH_ID_LENGTH_MAX = 128;
const BATCH_ID = new RegExp(`^[A-Za-z0-9_.:-]{1,${BATCH_ID_LENGTH_MAX}}$`);

/** Bounds of requests and connections; both are the same for everybody who asks. */
const REQUEST_MS_MAX = 10_000;
const CONNECTIONS_MAX = 256;

/** @throws ConfigurationError when the address can't be had. */
export async function listenAdmin(options: AdminOptions): Promise<AdminServer> {
  const { tls, instruments, logger } = options;
  const limits = {
    headersTimeout: REQUEST_MS_MAX,
    requestTimeout: REQUEST_MS_MAX,
    handshakeTimeout: REQUEST_MS_MAX,
    connectionsCheckingInterval: REQUEST_MS_MAX / 4,
  };
  const server = tls ? createSecureServer({ ...limits, ...tls.serverOptions }) : createServer(limits);
  server.maxConnections = CONNECTIONS_MAX;
  server.on('drop', () => instruments.connectionsRefused.inc({ transport: 'admin', reason: 'connections' }));
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    answer(options, request, response).catch((error: unknown) => {
      logger.error({ err: error, path: request.url }, 'admin request failed');
      if (!response.headersSent) response.writeHead(500, { 'content-type': 'text/plain' });
      response.end(`${messageOf(error)}\n`);
    });
  });
  await listen(server, options.addr);
  const stopServing = tls && 'setSecureContext' in server ? tls.serve(server) : undefined;
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        stopServing?.();
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listen(server: Server, { host, port }: Address): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(
        new ConfigurationError(
          `SLUICE_ADMIN_ADDR: ${host}:${port} can't be listened on (${error.code ?? error.message}); ` +
            'end what uses it, or set another address',
        ),
      );
    });
    server.listen({ host, port }, () => {
      server.removeAllListeners('error');
      resolve();
    });
  });
}

async function answer(
  options: AdminOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const path = (request.url ?? '/').split('?')[0] ?? '/';
  const { method } = request;
  if (path === RELOAD && options.reload !== undefined) {
    await answerReload(options, options.reload, request, response);
    return;
  }
  if (method !== 'GET' && method !== 'HEAD') {
    response.writeHead(405, { allow: 'GET, HEAD', 'content-type': 'text/plain' });
    response.end('only GET is served here\n');
    return;
  }
  if (path === '/metrics') {
    await options.refresh();
    response.writeHead(200, { 'content-type': options.instruments.registry.contentType });
    response.end(await options.instruments.registry.metrics());
    return;
  }
  if (path.startsWith(BATCHES)) {
    await answerBatch(options, path.slice(BATCHES.length), response);
    return;
  }
  const told = path === '/ha/status' ? options.status : path === '/series' ? options.series : undefined;
  if (told !== undefined) {
    answerJson(response, 200, told());
    return;
  }
  const source = sourceOf(options, path);
  if (!source) {
    response.writeHead(404, { 'content-type': 'text/plain' });
    response.end(`served here: ${servedBy(options).join(' ')}\n`);
    return;
  }
  if (source === options.ready) options.readyAsked?.(request.socket.remoteAddress ?? '');
  const body = report(source);
  answerJson(response, body.status === 'ok' ? 200 : 503, body);
}

function servedBy({ reload, status, series }: AdminOptions): string[] {
  return [
    '/metrics /health /ready /startup /batches/<id>',
    ...(status === undefined ? [] : ['/ha/status']),
    ...(series === undefined ? [] : ['/series']),
    ...(reload === undefined ? [] : ['/reload (POST)']),
  ];
}

async function answerReload(
  { tokens, logger }: AdminOptions,
  reload: () => Promise<object>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (request.method !== 'POST') {
    response.setHeader('allow', 'POST');
    answerJson(response, 405, { error: 'this is done with POST' });
    return;
  }
  const admitted = mayChange(request.headers.authorization ?? '', tokens?.() ?? []);
  if (admitted.status !== 200) {
    const { status, why } = admitted;
    logger.warn({ path: RELOAD, status, who: request.socket.remoteAddress }, 'refused on the admin port');
    if (status === 401) response.setHeader('www-authenticate', 'Bearer');
    answerJson(response, status, { error: why });
    return;
  }
  try {
    answerJson(response, 200, await reload());
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error;
    answerJson(response, 409, { error: error.message });
  }
}

async function answerBatch({ batch }: AdminOptions, id: string, response: ServerResponse): Promise<void> {
  if (!BATCH_ID.test(id)) {
    answerJson(response, 400, { error: `an id is up to ${BATCH_ID_LENGTH_MAX} letters, digits and -_.:` });
    return;
  }
  try {
    const trace = await batch?.(id);
    if (trace !== undefined) answerJson(response, 200, trace);
    else answerJson(response, 404, { error: `no batch ${id} is known here (docs/tracing-a-record.md)` });
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    answerJson(response, 503, { error: error.message, code: error.code });
  }
}

function answerJson(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(`${JSON.stringify(body)}\n`);
}

function sourceOf(options: AdminOptions, path: string): CheckSource | undefined {
  if (path === '/health') return options.health;
  if (path === '/ready') return options.ready;
  return path === '/startup' ? options.startup : undefined;
}
