/**
 * Connections that are hardly used: sessions of gRPC with a PING now and then, and connections of HTTP with a
 * request every few seconds. What the gateway ends is opened again.
 */
import { type Socket, connect } from 'node:net';
import { createCorpus } from '../../corpus.ts';
import { windowOfToday } from '../../identity.ts';
import type { Member } from '../../installation.ts';
import { HttpSender } from '../../send/http.ts';
import type { Target } from '../../send/sender.ts';

const HTTP_SHARE = 0.2;
const HTTP_EVERY_MS = 7_000;
const PING_EVERY_MS = 30_000;
/** A gateway that takes no connections isn't asked again at once. */
const REOPEN_MS = 1_000;
/** A system has 28,000 ports for connections from one address to one port. */
const CONNECTIONS_PER_ADDRESS = 5_000;
const AT_ONCE = 100;

/** RFC 9113: the preface, empty SETTINGS; PING; the acknowledgement of SETTINGS. */
const HELLO = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0', 'latin1');
const PING = Buffer.from('\0\0\x08\x06\0\0\0\0\0sluice!!', 'latin1');
const SETTINGS_ACK = Buffer.from('\0\0\0\x04\x01\0\0\0\0', 'latin1');

/** Connections that are kept for when they are needed. */
export class Sleepers {
  /** Ended by the gateway, and opened again. */
  cut = 0;
  readonly #grpc: Target;
  readonly #http: Target;
  readonly #timeoutMs: number;
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #closers: (() => void)[] = [];
  #closed = false;

  constructor(gateway: Member, timeoutMs: number) {
    this.#grpc = gateway.grpcTarget;
    this.#http = gateway.target;
    this.#timeoutMs = timeoutMs;
  }

  async open(count: number): Promise<void> {
    const overHttp = Math.round(count * HTTP_SHARE);
    for (let i = 0; i < count && !this.#closed; i += AT_ONCE) {
      const some = Array.from({ length: Math.min(AT_ONCE, count - i) }, (_, j) => i + j);
      await Promise.all(some.map((n) => (n < overHttp ? this.#keepHttp(n) : this.#keepGrpc(n))));
    }
  }

  close(): void {
    this.#closed = true;
    for (const timer of this.#timers) clearInterval(timer);
    for (const end of this.#closers) end();
  }

  #keepGrpc(n: number): Promise<void> {
    return new Promise((resolve) => {
      if (this.#closed) return resolve();
      const socket: Socket = connect({ ...this.#grpc, localAddress: addressOf(n), noDelay: true });
      socket.once('connect', () => socket.write(HELLO));
      socket.once('data', () => {
        socket.write(SETTINGS_ACK);
        resolve();
      });
      socket.resume();
      const timer = setInterval(() => socket.write(PING), PING_EVERY_MS);
      this.#timers.push(timer);
      this.#closers.push(() => socket.destroy());
      socket.on('error', () => socket.destroy());
      socket.once('close', () => {
        clearInterval(timer);
        resolve();
        if (this.#closed) return;
        this.cut += 1;
        this.#timers.push(setTimeout(() => void this.#keepGrpc(n), REOPEN_MS));
      });
    });
  }

  async #keepHttp(n: number): Promise<void> {
    const sending = { target: this.#http, format: 'protobuf', compression: 'none', timeoutMs: this.#timeoutMs } as const;
    const sender = new HttpSender({ ...sending, localAddress: addressOf(n) });
    const corpus = { signal: 'traces', format: 'protobuf', seed: n, run: n + 1 } as const;
    const [template] = createCorpus({ ...corpus, requests: 1, requestItems: 1, window: windowOfToday(Date.now()) });
    if (template === undefined) throw new Error('a corpus of one request');
    let request = 0;
    const send = async () => {
      template.stamp(++request);
      if ((await sender.send('traces', template.frame)).kind === 'unanswered') this.cut += 1;
    };
    this.#closers.push(() => sender.close());
    await send();
    if (this.#closed) return;
    this.#timers.push(setInterval(send, HTTP_EVERY_MS));
  }
}

function addressOf(n: number): string {
  return `127.0.3.${1 + Math.floor(n / CONNECTIONS_PER_ADDRESS)}`;
}
