/**
 * The admin port: /metrics for Prometheus, /health, /ready and /startup for Kubernetes, /batches/<id> for
 * whoever traces a record. In: GET requests. Out: text or JSON, 200, 404 or 503. It shares nothing with the
 * data ports, so it answers while they are full.
 */
import { type IncomingMessage, type Server, type ServerResponse, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ConfigurationError, Fault, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Address } from '../config/settings.ts';
import type { Instruments } from '../metrics/instruments.ts';
import type { BatchTrace } from '../model/batch.ts';
import { type CheckSource, report } from './checks.ts';

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
}

export interface AdminServer {
  readonly port: number;
  close(): Promise<void>;
}

const BATCHES = '/batches/';
const BATCH_ID_LENGTH_MAX = 128;
const BATCH_ID = new RegExp(`^[A-Za-z0-9_.:-]{1,${BATCH_ID_LENGTH_MAX}}$`);

/** @throws ConfigurationError when the address can't be had. */
export async function listenAdmin(options: AdminOptions): Promise<AdminServer> {
  const server = createServer((request, response) => {
    answer(options, request, response).catch((error: unknown) => {
      options.logger.error({ err: error, path: request.url }, 'admin request failed');
      if (!response.headersSent) response.writeHead(500, { 'content-type': 'text/plain' });
      response.end(`${messageOf(error)}\n`);
    });
  });
  server.headersTimeout = 10_000;
  server.requestTimeout = 10_000;
  server.maxConnections = 256;
  await listen(server, options.addr);
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
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
  if (request.method !== 'GET' && request.method !== 'HEAD') {
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
  const source = sourceOf(options, path);
  if (!source) {
    response.writeHead(404, { 'content-type': 'text/plain' });
    response.end('served here: /metrics /health /ready /startup /batches/<id>\n');
    return;
  }
  if (source === options.ready) options.readyAsked?.(request.socket.remoteAddress ?? '');
  const body = report(source);
  answerJson(response, body.status === 'ok' ? 200 : 503, body);
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
