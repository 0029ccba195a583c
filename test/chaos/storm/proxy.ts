/**
 * A TCP proxy on loopback that misbehaves as networks do: cuts connections at once or after so many bytes in
 * one direction, delays what passes, or stops passing anything while both ends believe that all is well.
 */
import { once } from 'node:events';
import net, { type AddressInfo, type Socket } from 'node:net';
import { sleep } from '../../../src/base/clock.ts';

export type Direction = 'requests' | 'answers';

export class StormProxy {
  /** Each chunk is held for so long, in both directions. */
  delayMs = 0;
  readonly #server: net.Server;
  readonly #targetPort: number;
  readonly #sockets = new Set<Socket>();
  /** Bytes that may still pass in a direction; whichever connection uses them up is cut. */
  readonly #allowance = new Map<Direction, number>();
  #halted = false;
  #goOn: (() => void)[] = [];

  private constructor(targetPort: number) {
    this.#targetPort = targetPort;
    this.#server = net.createServer({ noDelay: true }, (client) => this.#join(client));
  }

  static async start(targetPort: number): Promise<StormProxy> {
    const proxy = new StormProxy(targetPort);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Cuts all connections that are open now. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Once: the connection that carries the last of these bytes ends with them. */
  cutAfter(direction: Direction, bytes: number): void {
    this.#allowance.set(direction, bytes);
  }

  /** Passes nothing on, and still takes new connections. */
  halt(): void {
    this.#halted = true;
  }

  /** As if nothing had been: what was held goes on its way. */
  heal(): void {
    this.delayMs = 0;
    this.#allowance.clear();
    this.#halted = false;
    for (const goOn of this.#goOn.splice(0)) goOn();
  }

  async stop(): Promise<void> {
    this.heal();
    this.#server.close();
    this.cut();
    await once(this.#server, 'close');
  }

  #join(client: Socket): void {
    const target = net.connect({ port: this.#targetPort, host: '127.0.0.1', noDelay: true });
    const pair = [client, target];
    for (const socket of pair) {
      this.#sockets.add(socket);
      // The other side hears of it through its own close.
      socket.on('error', () => socket.destroy());
      socket.on('close', () => {
        this.#sockets.delete(socket);
        for (const other of pair) other.destroy();
      });
    }
    void this.#carry(client, target, 'requests');
    void this.#carry(target, client, 'answers');
  }

  async #carry(from: Socket, to: Socket, direction: Direction): Promise<void> {
    try {
      for await (const chunk of from) {
        while (this.#halted) await new Promise<void>((resolve) => this.#goOn.push(resolve));
        if (this.delayMs > 0) await sleep(this.delayMs);
        const passed = this.#allowed(chunk as Buffer, direction);
        const drained = to.write(passed);
        if (passed.length < (chunk as Buffer).length) return await this.#break(from, to);
        if (!drained) await Promise.race([once(to, 'drain'), once(to, 'close')]);
      }
      to.end();
    } catch {
      from.destroy(); // a connection that broke: the other one is told by its close
    }
  }

  #allowed(chunk: Buffer, direction: Direction): Buffer {
    const left = this.#allowance.get(direction);
    if (left === undefined) return chunk;
    if (left > chunk.length) this.#allowance.set(direction, left - chunk.length);
    else this.#allowance.delete(direction);
    // At least a byte is missing of the chunk that uses it up.
    return left > chunk.length ? chunk : chunk.subarray(0, Math.min(left, chunk.length - 1));
  }

  /** What was let through arrives, and nothing after it. */
  async #break(from: Socket, to: Socket): Promise<void> {
    from.destroy();
    to.end();
    await once(to, 'close');
  }
}
