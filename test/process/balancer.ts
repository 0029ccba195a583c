/**
 * A load balancer as simple as they come: connections go in turn to the gateways whose /ready has said 200. It
 * asks from time to time, believes a gateway to be gone after some failures in a row, and doesn't try another
 * one when a connection is refused. So its clients see what the gateways do to those who aren't told at once.
 *
 * Gateways wait for its questions, but not for ever: where it stood still itself, it asks again before it
 * sends anybody on.
 */
import { once } from 'node:events';
import net, { type AddressInfo, type Socket } from 'node:net';
import { sleep } from '../../src/base/clock.ts';
import type { Program } from '../support/program.ts';

type Backend = Pick<Program, 'admin' | 'httpPort' | 'grpcPort'>;

const ASK_EVERY_MS = 100;
const FAILURES_MAX = 3;
/** What it knows is not older than this. Gateways wait for 900 ms for who asks as often (src/app/notice.ts). */
const KNOWN_MS_MAX = 600;
const WAIT_MS = 10;

export class Balancer {
  readonly #failures: number[];
  /** When the last question was put that has been answered. */
  readonly #askedAtMs: number[];
  readonly #servers: net.Server[] = [];
  readonly #sockets = new Set<Socket>();
  readonly #backends: readonly Backend[];
  readonly #ending = new AbortController();
  readonly #asking: Promise<unknown>;
  #turn = 0;
  /** Connections that a gateway it believed in refused or reset before it had sent a byte. */
  refused = 0;

  private constructor(backends: readonly Backend[]) {
    this.#backends = backends;
    this.#failures = backends.map(() => 0);
    this.#askedAtMs = backends.map(() => Number.NEGATIVE_INFINITY);
    this.#asking = Promise.all(backends.map((_, index) => this.#ask(index)));
  }

  /** The backends keep their ports when they are started again. */
  static async start(backends: readonly Backend[]): Promise<Balancer> {
    const balancer = new Balancer(backends);
    for (const port of ['httpPort', 'grpcPort'] as const) {
      const server = net.createServer((client) => void balancer.#join(client, port));
      balancer.#servers.push(server);
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
    }
    return balancer;
  }

  get httpPort(): number {
    return this.#port(0);
  }

  get grpcPort(): number {
    return this.#port(1);
  }

  /** Whether it sends connections to this one. */
  believesIn(index: number): boolean {
    return (this.#failures[index] ?? 0) < FAILURES_MAX;
  }

  async stop(): Promise<void> {
    this.#ending.abort();
    await this.#asking;
    for (const socket of this.#sockets) socket.destroy();
    for (const server of this.#servers) server.close();
  }

  #port(index: number): number {
    return (this.#servers[index]?.address() as AddressInfo | undefined)?.port ?? 0;
  }

  async #ask(index: number): Promise<void> {
    const { signal } = this.#ending;
    while (!signal.aborted) {
      const atMs = performance.now();
      const ok = await fetch(`${this.#backends[index]?.admin}/ready`).then(
        async (reply) => {
          await reply.arrayBuffer();
          return reply.ok;
        },
        () => false,
      );
      const failures = this.#isKnown(index, atMs) ? (this.#failures[index] ?? 0) + 1 : FAILURES_MAX;
      this.#failures[index] = ok ? 0 : failures;
      this.#askedAtMs[index] = atMs;
      await sleep(ASK_EVERY_MS, signal);
    }
  }

  #isKnown(index: number, atMs: number): boolean {
    return atMs - (this.#askedAtMs[index] ?? 0) <= KNOWN_MS_MAX;
  }

  async #join(client: Socket, port: 'httpPort' | 'grpcPort'): Promise<void> {
    this.#sockets.add(client);
    client.on('error', () => client.destroy());
    client.on('close', () => this.#sockets.delete(client));
    const isOld = (index: number) => this.believesIn(index) && !this.#isKnown(index, performance.now());
    while (this.#backends.some((_, index) => isOld(index)) && !client.destroyed) await sleep(WAIT_MS);
    const believed = this.#backends.filter((_, index) => this.believesIn(index));
    const backend = believed[this.#turn++ % Math.max(1, believed.length)];
    if (backend === undefined || client.destroyed) {
      client.destroy();
      return;
    }
    const target = net.connect(backend[port], '127.0.0.1');
    this.#sockets.add(target);
    target.on('close', () => this.#sockets.delete(target));
    target.on('error', () => {
      if (target.bytesRead === 0) this.refused += 1;
      client.resetAndDestroy();
    });
    client.on('error', () => target.resetAndDestroy());
    client.pipe(target);
    target.pipe(client);
  }
}
