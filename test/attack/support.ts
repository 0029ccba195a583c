/**
 * The built program under attack: started with bounds that a test can reach, and watched from outside while
 * somebody mistreats it. A good neighbour sends all the time, on connections that it had before and on new
 * ones, and the process may neither grow nor keep descriptors.
 */
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { afterAll, beforeAll, expect, vi } from 'vitest';
import { type Answer, GrpcClient, sendHttp } from '../support/clients.ts';
import { type Program, environmentFor, start, untilIdle } from '../support/program.ts';
import { tracesRequest } from '../support/requests.ts';
import { eventually, makeTempDir, removeTempDir } from '../support/services.ts';

const MIB = 2 ** 20;
/** How much the process may grow at most while it is attacked; what a working set of buffers takes. */
const GROWTH_BYTES_MAX = 96 * MIB;
/** Sockets of the program's own to Redis and ClickHouse come and go. */
const DESCRIPTORS_SLACK = 8;
/** Between two requests of the neighbour. */
const NEIGHBOUR_MS = 25;
/** Nobody waits longer, also where test, program and Redis stand still for seconds one after another. */
const NEIGHBOUR_ANSWER_MS_MAX = 15_000;
/** A test takes a second or two, and many times as long where the machine has other things to do. */
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

/** What HTTP is served by (src/receive/http.ts), and the settings for that: a bound that is out of reach. */
export const HTTP_SERVERS = [
  ['uWebSockets.js', {}],
  ["node's server", { SLUICE_RECEIVE_CONNECTIONS_PER_ADDRESS_MAX: '10000' }],
] as const;

export interface Attacked {
  /** Only while tests run. */
  readonly program: Program;
  /**
   * Runs one attack while a neighbour sends over both transports, and checks afterwards that each of its
   * requests was answered in time and is stored, that the process hasn't grown beyond its bound, that all
   * descriptors are given back, and that nothing is in flight or stored of the attack.
   */
  surviving(attack: () => Promise<void>): Promise<void>;
  /** The counter grows by at least `times` (or just so many) while the body runs. */
  counting(name: string, labels: Readonly<Record<string, string>>, times: Times, body: () => Promise<void>):
    Promise<void>;
}

export type Times = { readonly least: number } | { readonly just: number };

/** One program for all tests of the file, with settings of its own. */
export function useAttackedProgram(settings: Readonly<Record<string, string>> = {}): Attacked {
  let running: Program | undefined;
  let dataDir = '';
  let neighbours = 0;

  beforeAll(async () => {
    dataDir = makeTempDir();
    const own = { SLUICE_BATCH_AGE_MS_MAX: '20', SLUICE_LOG_LEVEL: 'error', ...settings };
    running = await start('up', await environmentFor(dataDir, own));
    // What is loaded with the first requests isn't counted as growth.
    for (let i = 0; i < 20; i++) await sendHttp(running.http, 'traces', tracesRequest(1, neighbours++));
  });
  afterAll(async () => {
    await running?.end();
    removeTempDir(dataDir);
  });

  const attacked: Attacked = {
    get program() {
      if (running === undefined) throw new Error('the program runs only while the tests do');
      return running;
    },
    async surviving(attack) {
      const { program } = attacked;
      const neighbour = new Neighbour(program, () => neighbours++);
      await neighbour.greet();
      const descriptors = descriptorsOf(program.pid);
      const before = memoryBytes(program.pid, 'VmRSS');
      writeFileSync(`/proc/${program.pid}/clear_refs`, '5');
      const sending = neighbour.send();
      try {
        await attack();
      } finally {
        neighbour.stop();
        await sending;
      }
      await neighbour.greet();
      neighbour.close();
      expect(memoryBytes(program.pid, 'VmHWM') - before).toBeLessThan(GROWTH_BYTES_MAX);
      await untilIdle(program);
      await eventually(
        `${descriptors} descriptors as before`,
        () => descriptorsOf(program.pid) <= descriptors + DESCRIPTORS_SLACK,
        40_000,
      );
      const rows = await eventually(`${neighbours} rows of neighbours`, async () => {
        const [row] = await program.rows<{ rows: number; spans: number; others: number }>(
          `SELECT count() AS rows, uniqExact(SpanId) AS spans, countIf(ServiceName != 'test') AS others
             FROM otel.otel_traces`,
        );
        return row !== undefined && row.spans >= neighbours && row;
      }, 40_000);
      expect(rows).toEqual({ rows: neighbours, spans: neighbours, others: 0 });
    },
    async counting(name, labels, times, body) {
      const { program } = attacked;
      const before = await program.metric(name, labels);
      await body();
      await eventually(`${JSON.stringify(times)} more of ${name} ${JSON.stringify(labels)}`, async () => {
        const more = (await program.metric(name, labels)) - before;
        return 'just' in times ? more === times.just : more >= times.least;
      });
    },
  };
  return attacked;
}

/** Sends one span over each transport, again and again. */
class Neighbour {
  readonly #program: Program;
  readonly #number: () => number;
  readonly #grpc: GrpcClient;
  #stopping = false;

  constructor(program: Program, number: () => number) {
    this.#program = program;
    this.#number = number;
    this.#grpc = new GrpcClient(program.grpcPort);
  }

  /** One request over each transport, answered in time. */
  async greet(): Promise<void> {
    await this.#answered(sendHttp(this.#program.http, 'traces', tracesRequest(1, this.#number())));
    await this.#answered(this.#grpc.send('traces', tracesRequest(1, this.#number())));
  }

  async send(): Promise<void> {
    while (!this.#stopping) {
      await this.greet();
      await new Promise((resolve) => setTimeout(resolve, NEIGHBOUR_MS));
    }
  }

  stop(): void {
    this.#stopping = true;
  }

  close(): void {
    this.#grpc.close();
  }

  async #answered(sent: Promise<Answer>): Promise<void> {
    const startedMs = performance.now();
    expect(await sent).toMatchObject({ kind: 'accept', message: '' });
    expect(performance.now() - startedMs).toBeLessThan(NEIGHBOUR_ANSWER_MS_MAX);
  }
}

function memoryBytes(pid: number, what: 'VmRSS' | 'VmHWM'): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(new RegExp(`^${what}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]) * 1024;
}

function descriptorsOf(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** A raw connection: what came back, and whether it is over. Never rejects once it is open. */
export interface Raw {
  readonly closed: Promise<void>;
  readonly isClosed: () => boolean;
  /** So far. */
  received(): Buffer;
  /** Resolves when the kernel has taken the bytes, or the connection is gone. */
  write(bytes: Uint8Array | string): Promise<void>;
  /** Stops reading, so that answers pile up at the server. */
  stopReading(): void;
  /** Half-closes: nothing more will be sent. */
  end(): void;
  destroy(): void;
}

/** @param from the address to connect from: all of 127.0.0.0/8 are this machine */
export function rawConnection(port: number, from = '127.0.0.1'): Promise<Raw> {
  return new Promise((resolve, reject) => {
    const pieces: Buffer[] = [];
    let gone = false;
    const socket = connect({ port, host: '127.0.0.1', localAddress: from, noDelay: true, allowHalfOpen: true });
    const closed = new Promise<void>((ended) => {
      socket.once('close', () => {
        gone = true;
        ended();
      });
    });
    socket.on('data', (piece: Buffer) => pieces.push(piece));
    // The server has ended its side: a connection that it has given up.
    socket.once('end', () => socket.destroy());
    socket.once('error', reject);
    socket.once('connect', () => {
      // A reset is one of the ways to end a connection, seen as `closed`.
      socket.removeListener('error', reject);
      socket.on('error', () => socket.destroy());
      resolve({
        closed,
        isClosed: () => gone,
        received: () => Buffer.concat(pieces),
        async write(bytes) {
          if (gone) return;
          const taken = new Promise<void>((done) => socket.write(bytes, () => done()));
          await Promise.race([taken, closed]);
        },
        stopReading: () => void socket.pause(),
        end: () => void socket.end(),
        destroy: () => void socket.destroy(),
      });
    });
  });
}

/** There is nothing at it, and the answer quotes it: a connection that gives it is still open. */
const NOWHERE = '/is-it-open';

/**
 * What an HTTP/1 server said to these bytes, and whether it has ended the connection then: otherwise it
 * answers one more request.
 * @param rest of a body that it has answered without
 */
export async function saidTo(port: number, bytes: Uint8Array | string, rest: Uint8Array | string = ''): Promise<{
  readonly text: string;
  readonly closed: boolean;
}> {
  const raw = await rawConnection(port);
  await raw.write(bytes);
  await eventually('an answer, or the end', () => raw.isClosed() || raw.received().includes('\r\n\r\n'));
  await raw.write(rest);
  await raw.write(`GET ${NOWHERE} HTTP/1.1\r\nHost: x\r\n\r\n`);
  await eventually('the end, or one more answer', () => raw.isClosed() || raw.received().includes(NOWHERE), 30_000);
  raw.destroy();
  const all = raw.received().toString('latin1');
  const quoted = all.indexOf(NOWHERE);
  if (quoted < 0) return { text: all, closed: true };
  return { text: all.slice(0, all.lastIndexOf('HTTP/1.1 ', quoted)), closed: false };
}

/** The status of each answer of HTTP/1.1 in the text. */
export function answersIn(text: string): string[] {
  // Not at the beginning of a line: a body before it ends without one.
  return [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => status ?? '');
}
