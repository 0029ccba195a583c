/**
 * What a listener counts. Series are looked up once each: naming labels anew costs more than all the rest of
 * counting.
 */
import type { Instruments } from '../metrics/instruments.ts';
import type { Signal } from '../model/signal.ts';
import type { Reply } from './answer.ts';

export type Transport = 'http' | 'grpc';
/** `none` for a request that named no signal, or none in an encoding that OTLP knows. */
export type CountedSignal = Signal | 'none';
export type CountedEncoding = 'protobuf' | 'json' | 'none';

/**
 * Too many connections of all or of one address; no certificate that was signed by the authorities, where one
 * is wanted; anything else in the handshake, such as no TLS at all.
 */
export type ConnectionRefusal = 'connections' | 'address' | 'certificate' | 'handshake';

interface Series {
  inc(): void;
}

export class Counts {
  readonly #instruments: Instruments;
  readonly #transport: Transport;
  readonly #requests = new Map<string, Series>();
  readonly #seconds = new Map<CountedSignal, { observe(seconds: number): void }>();
  readonly #bytes = new Map<CountedSignal, { inc(bytes: number): void }>();
  readonly #connections: { inc(): void; dec(): void };

  constructor(instruments: Instruments, transport: Transport) {
    this.#instruments = instruments;
    this.#transport = transport;
    this.#connections = instruments.connections.labels(transport);
  }

  connected(): void {
    this.#connections.inc();
  }

  disconnected(): void {
    this.#connections.dec();
  }

  /**
   * Once per request, when its answer is given or can no longer be. `code` is the status of the transport,
   * `bytes` what has arrived of its body.
   */
  answered(
    signal: CountedSignal,
    encoding: CountedEncoding,
    code: number,
    seconds: number,
    bytes: number,
  ): void {
    const key = `${signal} ${encoding} ${code}`;
    let requests = this.#requests.get(key);
    if (requests === undefined) {
      requests = this.#instruments.requests.labels(signal, this.#transport, encoding, String(code));
      this.#requests.set(key, requests);
    }
    requests.inc();
    let histogram = this.#seconds.get(signal);
    if (histogram === undefined) {
      histogram = this.#instruments.requestSeconds.labels(signal, this.#transport);
      this.#seconds.set(signal, histogram);
    }
    histogram.observe(seconds);
    if (bytes === 0) return;
    let total = this.#bytes.get(signal);
    if (total === undefined) {
      total = this.#instruments.requestBytes.labels(signal, this.#transport);
      this.#bytes.set(signal, total);
    }
    total.inc(bytes);
  }

  /** Requests refused whole, by reason; rare, so nothing is kept for it. */
  refused(signal: CountedSignal, reply: Reply): void {
    if (reply.kind === 'admit') return;
    const reason = reply.kind === 'surprise' ? 'surprise' : reply.reason;
    this.#instruments.requestsRefused.inc({ signal, reason });
  }

  /** A connection that was ended before it could send a request. */
  connectionRefused(reason: ConnectionRefusal): void {
    this.#instruments.connectionsRefused.inc({ transport: this.#transport, reason });
    if (reason === 'connections') this.#instruments.requestsRefused.inc({ signal: 'none', reason });
  }
}
