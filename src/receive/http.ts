/**
 * OTLP over HTTP/1.1: the port, whichever library serves it (docs/otlp.md, rows 15 to 23).
 *
 * Without TLS that is uWebSockets.js (http-plain.ts), which costs least. With TLS it is node's own server
 * (http-node.ts): uWebSockets.js doesn't tell which certificate a client has shown, and keeps the one it
 * started with. The same where the connections of one address are bounded, since uWebSockets.js doesn't tell
 * whose connection has ended. Both have the same bounds and hand requests to the same exchange
 * (http-exchange.ts).
 */
import type { Logger } from '../base/log.ts';
import type { TlsFiles } from '../base/tls.ts';
import type { Address } from '../config/settings.ts';
import type { Instruments } from '../metrics/instruments.ts';
import { BufferPool } from './buffers.ts';
import { Cors } from './cors.ts';
import { Counts } from './counts.ts';
import type { HttpShared } from './http-exchange.ts';
import { listenNode } from './http-node.ts';
import { listenPlain } from './http-plain.ts';
import type { Admission, Ingest } from './ingest.ts';

export interface HttpOptions {
  readonly addr: Address;
  readonly requestBytesMax: number;
  readonly connectionsMax: number;
  /** Of one address; 0 is any number. */
  readonly connectionsPerAddressMax: number;
  readonly corsOrigins: readonly string[];
  /** The header in which clients name themselves, in lower case. */
  readonly sourceHeader: string;
  readonly ingest: Ingest;
  readonly door: Admission;
  readonly instruments: Instruments;
  readonly logger: Logger;
  readonly tls: TlsFiles | undefined;
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

/** What a library's listener does of that. */
export interface WireListener {
  readonly port: number;
  /** Accepts no more connections; those that are open go on. */
  stopListening(): void;
  /** Ends what is open; only after that. Resolves when it is gone. */
  end(): Promise<void>;
}

const DRAIN_POLL_MS = 10;
/**
 * A connection can't be told that it is about to be closed, but with an answer. Clients that send at least
 * every half second get one; the others find it closed while they don't use it, as after every idle time.
 * Counted in looks: where this process stands still, what has come meanwhile is read between two of them.
 */
const LINGER_LOOKS = 500 / DRAIN_POLL_MS;

/** @throws ConfigurationError when the address can't be had */
export async function listenHttp(options: HttpOptions): Promise<HttpListener> {
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
  const cors = new Cors(options.corsOrigins);
  const needsNode = options.tls !== undefined || options.connectionsPerAddressMax > 0;
  const listener = await (needsNode ? listenNode : listenPlain)(options, shared, cors);
  let closing: Promise<void> | undefined;
  return {
    port: listener.port,
    close(msMax) {
      closing ??= close(listener, shared, msMax);
      return closing;
    },
  };
}

function close(listener: WireListener, shared: HttpShared, msMax: number): Promise<void> {
  shared.draining = true;
  listener.stopListening();
  const startedAtMs = performance.now();
  return new Promise((resolve) => {
    let looks = 0;
    const look = () => {
      const ms = performance.now() - startedAtMs;
      const requests = shared.open.size;
      const quiet = requests === 0 && (shared.connections === 0 || looks >= LINGER_LOOKS);
      looks += 1;
      if (!quiet && ms < msMax) return;
      clearInterval(timer);
      if (requests > 0) shared.logger.warn({ requests, msMax }, 'HTTP requests were cut off');
      listener.end().then(resolve);
    };
    const timer = setInterval(look, DRAIN_POLL_MS);
    look();
  });
}
