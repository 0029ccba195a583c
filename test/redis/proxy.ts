/** A small TCP proxy in front of a server, with which a test breaks connections where it wants to. */
import { once } from 'node:events';
import net, { type AddressInfo, type Socket } from 'node:net';

export class CuttingProxy {
  /**
   * Answers are cut after so many bytes of each connection: the rest is never sent, the connection is closed.
   */
  cutAnswersAfterBytes = Number.POSITIVE_INFINITY;
  /** Bytes of answers that went through, all connections. */
  answerBytes = 0;
  /** Connections made so far. */
  connections = 0;
  readonly #server: net.Server;
  readonly #sockets = new Set<Socket>();

  private constructor(targetPort: number) {
    this.#server = net.createServer((client) => this.#join(client, net.connect(targetPort, '127.0.0.1')));
  }

  static async start(targetPort: number): Promise<CuttingProxy> {
    const proxy = new CuttingProxy(targetPort);
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

  async stop(): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #join(client: Socket, target: Socket): void {
    this.connections += 1;
    let sent = 0;
    for (const socket of [client, target]) {
      this.#sockets.add(socket);
      // The other side hears of it through its own close.
      socket.on('error', () => socket.destroy());
      socket.on('close', () => {
        this.#sockets.delete(socket);
        client.destroy();
        target.destroy();
      });
    }
    client.pipe(target);
    target.on('data', (chunk: Buffer) => {
      const allowed = chunk.subarray(0, Math.max(0, this.cutAnswersAfterBytes - sent));
      sent += allowed.length;
      this.answerBytes += allowed.length;
      const goOn = client.write(allowed);
      if (allowed.length < chunk.length) client.end(() => client.destroy());
      else if (!goOn) target.pause();
    });
    client.on('drain', () => target.resume());
  }
}
