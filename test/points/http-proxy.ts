/**
 * A proxy before an HTTP server (ClickHouse, or the gateway's own port) that can stop or cut a request at an
 * exact step. It takes the whole request before it passes anything on, so that the steps don't depend on how
 * the bytes arrive.
 */
import { once } from 'node:events';
import { type IncomingMessage, type ServerResponse, createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ANY_ANSWER, type Place, Stop, Stops } from './stop.ts';

export interface Seen {
  readonly method: string;
  /** Path and query, percent-encoded no more. */
  readonly path: string;
}

/** Of an INSERT; all others are questions. */
export const isInsert = ({ path }: Seen) => /[?&]query=INSERT[ +]INTO/.test(path);
export const isExport = ({ path }: Seen) => path.startsWith('/v1/');

export interface HttpProxy {
  readonly port: number;
  readonly url: string;
  /** Requests that were wholly passed on so far. */
  passed(): number;
  /** Stops the next such request there. Others go on. */
  stopAt(fits: (seen: Seen) => boolean, place: Place): Stop;
  close(): Promise<void>;
}

export async function startHttpProxy(targetPort: number): Promise<HttpProxy> {
  const stops = new Stops<Seen>();
  let passed = 0;
  const server = createServer((incoming, answer) => {
    const seen = { method: incoming.method ?? '', path: decodeURIComponent(incoming.url ?? '') };
    const onPassed = () => {
      passed += 1;
    };
    handle({ targetPort, incoming, answer, stop: stops.take(seen)?.stop, onPassed }).catch(() => cut(incoming));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    passed: () => passed,
    stopAt: (fits, place) =>
      stops.add({ stop: new Stop('an HTTP request', place), fits, answerFits: ANY_ANSWER }),
    async close() {
      stops.clear();
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

interface Exchange {
  readonly targetPort: number;
  readonly incoming: IncomingMessage;
  readonly answer: ServerResponse;
  readonly stop: Stop | undefined;
  readonly onPassed: () => void;
}

/** Rejects when the connection to the server breaks; that of the client is cut then. */
async function handle({ targetPort, incoming, answer, stop, onPassed }: Exchange): Promise<void> {
  const { socket, method, url: path } = incoming;
  const body = await bytesOf(incoming);
  /** Whether it goes on at this step. Whoever was killed meanwhile sends nothing any more. */
  const passes = async (place: Place) =>
    stop?.place !== place || ((await stop.arrive()) === 'on' && !socket.destroyed);
  if (!(await passes('before'))) return cut(incoming);
  const headers = { ...incoming.headers, connection: 'close' };
  const outgoing = request({ host: '127.0.0.1', port: targetPort, method, path, headers, agent: false });
  const gone = () => outgoing.destroy();
  socket.once('close', gone);
  try {
    const answered = once(outgoing, 'response') as Promise<[IncomingMessage]>;
    // It may break while nobody waits for it yet.
    answered.catch(() => cut(incoming));
    const half = Math.ceil(body.length / 2);
    outgoing.write(body.subarray(0, half));
    if (!(await passes('half sent'))) return cut(incoming);
    outgoing.write(body.subarray(half));
    if (!(await passes('sent'))) return cut(incoming);
    outgoing.end(onPassed);
    const [from] = await answered;
    const reply = await bytesOf(from);
    if (!(await passes('after'))) return cut(incoming);
    const { connection: _, ...rest } = from.headers;
    answer.writeHead(from.statusCode ?? 500, rest);
    answer.flushHeaders();
    if (!(await passes('half answered'))) return cut(incoming);
    answer.end(reply);
  } finally {
    socket.off('close', gone);
  }
}

/** Its end ends the server's side too. */
function cut({ socket }: IncomingMessage): void {
  socket.destroy();
}

async function bytesOf(from: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of from) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
