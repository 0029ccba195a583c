/**
 * A TCP proxy on loopback that counts what goes to the server, and can be told to let less of it pass: all
 * connections share what passes in a second. Small pieces count, but don't wait their turn: a slow server
 * still answers whether it is there.
 */
import { type AddressInfo, type Server, type Socket, connect, createServer } from 'node:net';
import { sleep, tickMs } from '../../../src/base/clock.ts';

/** Heads of requests and small questions are below it, nearly all of an insert is above. */
const SMALL_BYTES_MAX = 1_400;

export class Brake {
  bytes = 0;
  readonly #servers: Server[] = [];
  readonly #sockets = new Set<Socket>();
  #bytesPerMs = Number.POSITIVE_INFINITY;
  #delayMs = 0;
  readonly #released = new AbortController();
  /** When the bytes that were let through so far are through. */
  #freeAtMs = 0;

  /** @returns the port to use instead */
  before(port: number): Promise<number> {
    const server = createServer({ noDelay: true }, (client) => this.#join(client, port));
    this.#servers.push(server);
    return new Promise((resolve) => {
      server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port));
    });
  }

  /** From now on. */
  slow(bytesPerSecond: number, delayMs: number): void {
    this.#bytesPerMs = bytesPerSecond / 1000;
    this.#delayMs = delayMs;
  }

  /** From now on everything passes as it comes; what waits its turn waits for that yet. */
  free(): void {
    this.#bytesPerMs = Number.POSITIVE_INFINITY;
    this.#delayMs = 0;
    this.#freeAtMs = 0;
  }

  close(): void {
    this.#released.abort();
    for (const socket of this.#sockets) socket.destroy();
    for (const server of this.#servers) server.close();
  }

  #join(client: Socket, port: number): void {
    const server = connect({ port, host: '127.0.0.1', noDelay: true });
    const pair = [client, server];
    for (const socket of pair) {
      this.#sockets.add(socket);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => {
        this.#sockets.delete(socket);
        for (const other of pair) other.destroy();
      });
    }
    void this.#carry(client, server, true);
    void this.#carry(server, client, false);
  }

  async #carry(from: Socket, to: Socket, counts: boolean): Promise<void> {
    try {
      for await (const piece of from as AsyncIterable<Buffer>) {
        if (counts) {
          this.bytes += piece.length;
          this.#freeAtMs = Math.max(this.#freeAtMs, tickMs()) + piece.length / this.#bytesPerMs;
        }
        const isBraked = counts && piece.length > SMALL_BYTES_MAX;
        const waitMs = Math.max(this.#delayMs, isBraked ? this.#freeAtMs - tickMs() : 0);
        if (waitMs > 0) await sleep(waitMs, this.#released.signal);
        if (!to.write(piece)) await drained(to);
      }
      to.end();
    } catch {
      // A connection that broke: the other side hears of it through its close.
      from.destroy();
    }
  }
}

/** Resolves when it takes more, or is gone. */
function drained(socket: Socket): Promise<void> {
  if (socket.destroyed) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      socket.off('drain', done);
      socket.off('close', done);
      resolve();
    };
    socket.on('drain', done);
    socket.on('close', done);
  });
}
