/**
 * A TCP link to a real server that the tests can slow down and cut: `node:net` in both directions, nothing
 * else.
 */
import { once } from 'node:events';
import { type AddressInfo, type Socket, connect, createServer } from 'node:net';

export interface Link {
  readonly url: string;
  /** Bytes that clients have sent and the link has taken. */
  bytesUp(): number;
  /** Takes nothing more from clients until `resume`. */
  pause(): void;
  resume(): void;
  /** The next answer to an insert is thrown away and its connection cut; checks go on. */
  loseNextAnswer(): void;
  stop(): Promise<void>;
}

export async function startLink(port: number): Promise<Link> {
  const clients = new Set<Socket>();
  let bytesUp = 0;
  let paused = false;
  let loseAnswer = false;
  const server = createServer((client) => {
    const upstream = connect(port, '127.0.0.1');
    const cut = () => {
      clients.delete(client);
      client.destroy();
      upstream.destroy();
    };
    clients.add(client);
    let inserts = false;
    if (paused) client.pause();
    client.on('data', (chunk) => {
      bytesUp += chunk.length;
      // Where a request begins; its head comes in one piece.
      if (/^(GET|POST) \//.test(chunk.toString('latin1', 0, 6))) inserts = chunk.includes('query=INSERT');
      if (upstream.write(chunk)) return;
      client.pause();
      upstream.once('drain', () => paused || client.resume());
    });
    upstream.on('data', (chunk) => {
      if (!loseAnswer || !inserts) return client.write(chunk);
      loseAnswer = false;
      return cut();
    });
    for (const socket of [client, upstream]) socket.on('error', cut).on('close', cut);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    bytesUp: () => bytesUp,
    pause() {
      paused = true;
      for (const client of clients) client.pause();
    },
    resume() {
      paused = false;
      for (const client of clients) client.resume();
    },
    loseNextAnswer() {
      loseAnswer = true;
    },
    async stop() {
      for (const client of clients) client.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
