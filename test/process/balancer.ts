/**
 * A load balancer as simple as they come: connections go in turn to the gateways whose /ready has said 200. It
 * asks from time to time, believes a gateway to be gone after some failures in a row, and doesn't try another
 * one when a connection is refused. So its clients see what the gateways do to those who aren't told at once.
 */
import { once } from 'node:events';
import net, { type AddressInfo, type Socket } from 'node:net';
import { sleep } from '../../src/base/clock.ts';
import type { Program } from '../support/program.ts';

type Backend = Pick<Program, 'admin' | 'httpPort' | 'grpcPort'>;

const ASK_EVERY_MS = 100;
const FAILURES_MAX = 3;

export class Balancer {
  readonly #failures: number[];
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
    this.#asking = Promise.all(backends.map((_, index) => this.#ask(index)));
  }

  /** The backends keep their ports when they are started again. */
  static async start(backends: readonly Backend[]): Promise<Balancer> {
    const balancer = new Balancer(backends);
    for (const port of ['httpPort', 'grpcPort'] as const) {
      const server = net.createServer((client) => balancer.#join(client, port));
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
      const ok = await fetch(`${this.#backends[index]?.admin}/ready`).then(
        async (reply) => {
          await reply.arrayBuffer();
          return reply.ok;
        },
        () => false,
      );
      this.#failures[index] = ok ? 0 : (this.#failures[index] ?? 0) + 1;
      await sleep(ASK_EVERY_MS, signal);
    }
  }

  #join(client: Socket, port: 'httpPort' | 'grpcPort'): void {
    const believed = this.#backends.filter((_, index) => this.believesIn(index));
    const backend = believed[this.#turn++ % Math.max(1, believed.length)];
    if (backend === undefined) {
      client.destroy();
      return;
    }
    const target = net.connect(backend[port], '127.0.0.1');
    for (const [socket, other] of [[client, target], [target, client]] as const) {
      this.#sockets.add(socket);
      socket.on('error', () => {
        if (socket === target && target.bytesRead === 0) this.refused += 1;
        other.resetAndDestroy();
      });
      socket.on('close', () => this.#sockets.delete(socket));
    }
    client.pipe(target);
    target.pipe(client);
  }
}
