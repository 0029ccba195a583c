/** One running program for the tests that mistreat it, and what each of them looks at afterwards. */
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import type { Signal } from '../../src/model/signal.ts';
import { type Answer, GrpcClient, sendHttp } from '../support/clients.ts';
import {
  PATIENCE_MS, type Program, environmentFor, start, untilIdle,
} from '../support/program.ts';
import { tracesRequest } from '../support/requests.ts';
import { eventually, makeTempDir, removeTempDir } from '../support/services.ts';

export const TRANSPORTS = ['http', 'grpc'] as const;
export type Transport = (typeof TRANSPORTS)[number];
export type Labels = Readonly<Record<string, string>>;

export interface Unharmed {
  /** Only while tests run. */
  readonly program: Program;
  /** One protobuf request, not compressed. */
  send(transport: Transport, signal: Signal, body: Uint8Array): Promise<Answer>;
  /** The counter grows by just what the body returns. */
  counting(name: string, labels: Labels, body: () => Promise<number>): Promise<void>;
  /** One request that is refused whole: the answer's kind, its words, and the reason that is counted. */
  refusing(reason: string, kind: string, words: RegExp, sent: () => Promise<Answer>): Promise<void>;
}

/**
 * One program for all tests of the file. After each of them nothing may be in flight, and what a good
 * neighbour sends then over both transports is stored: the program has suffered no harm.
 */
export function useUnharmedProgram(): Unharmed {
  let running: Program | undefined;
  let grpc: GrpcClient | undefined;
  let dataDir = '';
  let neighbours = 0;

  beforeAll(async () => {
    dataDir = makeTempDir();
    // Many of these tests send the same bytes over every transport, and count copies.
    const settings = { SLUICE_BATCH_AGE_MS_MAX: '20', SLUICE_RESEND_WINDOW_SECONDS: '0' };
    running = await start('up', await environmentFor(dataDir, settings));
    grpc = new GrpcClient(running.grpcPort);
  });
  afterAll(async () => {
    grpc?.close();
    await running?.end();
    removeTempDir(dataDir);
  });
  afterEach(async () => {
    await untilIdle(unharmed.program);
    for (const transport of TRANSPORTS) {
      const answer = await unharmed.send(transport, 'traces', tracesRequest(1, neighbours++));
      expect(answer).toMatchObject({ kind: 'accept', message: '' });
    }
    await eventually(`${neighbours} requests of good neighbours`, async () => {
      const [row] = await unharmed.program.rows<{ n: number }>(
        `SELECT uniqExact(SpanId) AS n FROM otel.otel_traces WHERE ServiceName = 'test'`,
      );
      return row?.n === neighbours;
    }, PATIENCE_MS);
  });

  const unharmed: Unharmed = {
    get program() {
      return defined(running);
    },
    send(transport, signal, body) {
      if (transport === 'http') return sendHttp(defined(running).http, signal, body);
      return defined(grpc).send(signal, body);
    },
    async counting(name, labels, body) {
      const { program } = unharmed;
      const before = await program.metric(name, labels);
      const times = await body();
      await eventually(`${times} more of ${name} ${JSON.stringify(labels)}`, async () => {
        return (await program.metric(name, labels)) - before === times;
      }, PATIENCE_MS);
    },
    refusing(reason, kind, words, sent) {
      return unharmed.counting('requests_refused_total', { reason }, async () => {
        const answer = await sent();
        expect(answer.kind).toBe(kind);
        expect(answer.message).toMatch(words);
        return 1;
      });
    },
  };
  return unharmed;
}

function defined<T>(value: T | undefined): T {
  if (value === undefined)
    throw new Error('the program runs only while the tests do: use it inside of a test');
  return value;
}
