/**
 * Goal: SIGTERM under load loses nothing. What was acknowledged is in ClickHouse once after the next start,
 * what is inside is finished, what comes too late is told to come back or finds the connection closed, and
 * the exit code says whether all parts stopped in time.
 */
import { connect } from 'node:net';
import { expect, test } from 'vitest';
import { head, wire } from '../receive/support.ts';
import { GrpcClient, sendHttp } from '../support/clients.ts';
import { type Program, environmentFor, start, withUp } from '../support/program.ts';
import { tracesRequest } from '../support/requests.ts';
import { eventually, makeTempDir, removeTempDir } from '../support/services.ts';

const SPANS = 10;
const CLIENTS = 6;
const PAUSE_MS = 10;
const pause = () => new Promise((resolve) => setTimeout(resolve, PAUSE_MS));

/** What became of the requests of a load, by their numbers. */
interface Load {
  readonly acknowledged: number[];
  readonly told: number[];
  readonly cutOff: number[];
  /** Resolves when all clients have stopped. */
  readonly over: Promise<unknown>;
}

/** Half of the clients over HTTP, half over gRPC, each sending all the time until the program has ended. */
function load(program: Program): Load {
  const result = { acknowledged: [], told: [], cutOff: [] } as Omit<Load, 'over'>;
  let ended = false;
  program.ended.then(() => {
    ended = true;
  });
  let next = 0;
  const client = async (index: number) => {
    const grpc = index % 2 === 0 ? undefined : new GrpcClient(program.grpcPort);
    while (!ended) {
      const number = next++;
      const body = tracesRequest(SPANS, number);
      try {
        const { kind } = await (grpc?.send('traces', body) ?? sendHttp(program.http, 'traces', body));
        if (kind === 'accept') result.acknowledged.push(number);
        else expect(kind).toBe('later');
        if (kind === 'later') result.told.push(number);
      } catch (error) {
        // fetch: the connection was closed, or nobody listens any more.
        if (!(error instanceof TypeError)) throw error;
        result.cutOff.push(number);
      }
      if (result.acknowledged.at(-1) !== number) await pause();
    }
    grpc?.close();
  };
  return { ...result, over: Promise.all(Array.from({ length: CLIENTS }, (_, index) => client(index))) };
}

/** Every acknowledged request is there, and none twice. */
async function expectStored(program: Program, acknowledged: readonly number[]): Promise<void> {
  const sql = `SELECT reinterpretAsUInt32(reverse(unhex(substring(SpanId, 1, 8)))) - 1 AS request,
      count() AS rows, uniqExact(SpanId) AS spans FROM otel.otel_traces GROUP BY request`;
  const read = async () => {
    const rows = await program.rows<{ request: number; rows: number; spans: number }>(sql);
    return new Map(rows.map((row) => [row.request, row]));
  };
  await eventually(`${acknowledged.length} requests`, async () => {
    const found = await read();
    return acknowledged.every((number) => found.get(number)?.spans === SPANS);
  });
  const found = await read();
  expect([...found.values()].filter(({ rows, spans }) => rows !== spans)).toEqual([]);
}

/** The first half of a request over HTTP, sent; `finish` sends the rest and gives the answer. */
async function halfAnUpload(program: Program, number: number) {
  const body = tracesRequest(SPANS, number);
  const { socket, text } = await wire(program.httpPort);
  socket.write(head('/v1/traces', { 'Content-Length': body.length }));
  socket.write(body.subarray(0, 100));
  await eventually('the upload is inside', async () => (await program.metric('bytes_in_flight')) >= 100);
  const finish = async () => {
    socket.write(body.subarray(100));
    return eventually('an answer', () => /^HTTP\/1\.1 (\d+) /.exec(text())?.[1]);
  };
  return { finish };
}

async function untilDraining(program: Program): Promise<void> {
  await eventually('/ready says that it drains', async () => {
    const reply = await fetch(`${program.admin}/ready`);
    return reply.status === 503 && (await reply.text()).includes('draining');
  });
}

function refusesConnections(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(false);
    });
    socket.once('error', () => resolve(true));
  });
}

test('SIGTERM under load over HTTP and gRPC: what was acknowledged is there after the next start', async () => {
  const dataDir = makeTempDir();
  try {
    const environment = await environmentFor(dataDir);
    const first = await start('up', environment);
    const { acknowledged, over } = load(first);
    await eventually('some load', () => acknowledged.length > 300);
    expect(await first.end('SIGTERM')).toEqual({ code: 0, signal: null });
    await over;
    const second = await start('up', environment);
    try {
      await expectStored(second, acknowledged);
    } finally {
      expect(await second.end()).toEqual({ code: 0, signal: null });
    }
  } finally {
    removeTempDir(dataDir);
  }
});

test('a request inside is finished while new ones are told to come back, over both transports', async () => {
  const dataDir = makeTempDir();
  try {
    const environment = await environmentFor(dataDir);
    const first = await start('up', environment);
    const inside = 900_000;
    const upload = await halfAnUpload(first, inside);
    const { acknowledged, told, over } = load(first);
    await eventually('some load', () => acknowledged.length > 50);
    const ended = first.end('SIGTERM');
    await untilDraining(first);
    // sendHttp and the gRPC client check that the answers carry Retry-After and no code that loses data.
    await eventually('clients that were told to come back', () => told.length > 20);
    const grpc = new GrpcClient(first.grpcPort);
    expect((await grpc.send('traces', tracesRequest(1, 910_000))).kind).toBe('later');
    grpc.close();
    expect(await upload.finish()).toBe('200');
    expect(await ended).toEqual({ code: 0, signal: null });
    await over;
    const second = await start('up', environment);
    try {
      await expectStored(second, [...acknowledged, inside]);
    } finally {
      await second.end();
    }
  } finally {
    removeTempDir(dataDir);
  }
});

test('an upload that never ends is cut off at SLUICE_DRAIN_MS_MAX, and the exit code is 1', async () => {
  await withUp(
    async (program) => {
      await halfAnUpload(program, 1);
      expect(await program.end('SIGTERM')).toEqual({ code: 1, signal: null });
      expect(program.stderr()).toContain('SLUICE_DRAIN_MS_MAX');
    },
    { SLUICE_DRAIN_MS_MAX: '1000' },
  );
});

test('a second SIGTERM ends the program at once, with all that it had started', async () => {
  await withUp(async (program) => {
    await halfAnUpload(program, 1);
    process.kill(program.pid, 'SIGTERM');
    await untilDraining(program);
    // Long before the 25 s that the drain may take: the test's own limit would not do.
    const late = new Promise((resolve) => setTimeout(resolve, 10_000, 'late').unref());
    expect(await Promise.race([program.end('SIGTERM'), late])).toEqual({ code: 1, signal: null });
    for (const name of ['CLICKHOUSE_HTTP', 'CLICKHOUSE_TCP', 'REDIS']) {
      const port = Number(program.environment[`SLUICE_EMBEDDED_${name}_PORT`]);
      await eventually(`${name} is gone`, () => refusesConnections(port));
    }
  });
});
