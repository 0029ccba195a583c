/**
 * Goal: SIGTERM under load loses nothing and refuses nothing that came in. What was acknowledged is in
 * ClickHouse once after the next start, what is inside is finished, open connections are told where they end,
 * load balancers are told before, and the exit code says whether all parts stopped in time.
 */
import { once } from 'node:events';
import type { ClientHttp2Session } from 'node:http2';
import { connect } from 'node:net';
import { expect, test } from 'vitest';
import { type Wire, bareCall, frame, head, startFront, until, wire } from '../receive/support.ts';
import { EXPORT, GrpcClient, openSession, sendHttp } from '../support/clients.ts';
import {
  PATIENCE_MS, type Program, START_MS_MAX, environmentFor, start, withUp,
} from '../support/program.ts';
import { tracesRequest } from '../support/requests.ts';
import { eventually, makeTempDir, removeTempDir } from '../support/services.ts';

const SPANS = 10;
const CLIENTS = 6;
const PAUSE_MS = 10;
/** Two starts of everything take long where much else runs, and so does a stop that shall be clean. */
const MS_MAX = START_MS_MAX;
const UNHURRIED = { SLUICE_DRAIN_MS_MAX: '120000' };
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
  }, PATIENCE_MS);
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

test('SIGTERM under load over HTTP and gRPC: what was acknowledged is there after the next start', {
  timeout: MS_MAX,
}, async () => {
  const dataDir = makeTempDir();
  try {
    const environment = await environmentFor(dataDir, UNHURRIED);
    const first = await start('up', environment);
    const { acknowledged, over } = load(first);
    await eventually('some load', () => acknowledged.length > 300, PATIENCE_MS);
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

/** A request on a connection that is open; its answer, whole. */
async function ask({ socket, text }: Wire, number: number): Promise<string> {
  const body = tracesRequest(SPANS, number);
  const before = text().length;
  socket.write(Buffer.concat([Buffer.from(head('/v1/traces', { 'Content-Length': body.length })), body]));
  return eventually('an answer', () => /^HTTP[\s\S]*\r\n\r\n/.exec(text().slice(before))?.[0]);
}

/** A call over gRPC that is half inside; `finish` sends the rest and gives its status. */
function halfACall(session: ClientHttp2Session, number: number) {
  const stream = session.request({
    ':method': 'POST',
    ':path': EXPORT.traces,
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  const message = frame(tracesRequest(SPANS, number));
  stream.write(message.subarray(0, 50));
  const finish = async () => {
    stream.end(message.subarray(50));
    stream.resume();
    const [trailers] = (await once(stream, 'trailers')) as [Record<string, unknown>];
    return trailers['grpc-status'];
  };
  return { finish };
}

test('what is inside is finished; an open connection is served once more and told that it ends', {
  timeout: MS_MAX,
}, async () => {
  const dataDir = makeTempDir();
  try {
    const environment = await environmentFor(dataDir, UNHURRIED);
    const first = await start('up', environment);
    const [uploadHttp, onOpenHttp, uploadGrpc, before] = [900_000, 910_000, 920_000, 930_000];
    const idle = await wire(first.httpPort);
    // The hint to keep the connection ends with the drain.
    expect(await ask(idle, before)).toMatch(/^HTTP\/1\.1 200 [\s\S]*keep-alive/i);
    const session = openSession(first.grpcPort);
    await once(session, 'remoteSettings');
    const goaway = once(session, 'goaway');
    const upload = await halfAnUpload(first, uploadHttp);
    const call = halfACall(session, uploadGrpc);
    await eventually('both are inside', async () => (await first.metric('requests_in_flight')) === 2);

    const ended = first.end('SIGTERM');
    await untilDraining(first);
    await eventually('HTTP is not listened for', () => refusesConnections(first.httpPort));
    await eventually('gRPC is not listened for', () => refusesConnections(first.grpcPort));
    expect(await ask(idle, onOpenHttp)).toMatch(/^HTTP\/1\.1 200 [\s\S]*\r\nConnection: close\r\n/i);
    await idle.closed;
    // NO_ERROR, and the call that is inside is among those that are finished.
    expect((await goaway).slice(0, 2)).toEqual([0, 1]);
    expect(await call.finish()).toBe('0');
    expect(await upload.finish()).toBe('200');
    expect(await ended).toEqual({ code: 0, signal: null });
    const second = await start('up', environment);
    try {
      await expectStored(second, [before, uploadHttp, onOpenHttp, uploadGrpc]);
    } finally {
      await second.end();
    }
  } finally {
    removeTempDir(dataDir);
  }
});

/** As in src/app/notice.ts: how long the next question is waited for, and ports stay open after the last. */
const QUESTION_MS_MAX = 900;
const SETTLE_MS = 500;

/**
 * Asks twice, ends the program, and is told three times while both ports take new connections.
 * @returns false when that can't be seen, since the machine stood still and the questions came too late
 */
async function isToldThreeTimes(program: Program): Promise<boolean> {
  const answers: number[] = [];
  let askedAtMs = performance.now();
  let gapMsMax = 0;
  const ask = async () => {
    const beforeMs = performance.now();
    const { status } = await fetch(`${program.admin}/ready`);
    answers.push(status);
    gapMsMax = Math.max(gapMsMax, performance.now() - askedAtMs);
    askedAtMs = beforeMs;
    return status;
  };
  const session = openSession(program.grpcPort);
  const health = async () => {
    const { body } = await bareCall(session, '/grpc.health.v1.Health/Check', [frame(new Uint8Array())]);
    return body.at(-1);
  };
  const [SERVING, NOT_SERVING] = [1, 2];
  const look = async () => {
    await eventually('/ready says that it leaves', async () => (await ask()) === 503);
    expect(await health()).toBe(NOT_SERVING);
    // New connections over both transports, as from a load balancer that hasn't noticed yet.
    expect((await sendHttp(program.http, 'traces', tracesRequest(1, 1))).kind).toBe('accept');
    const grpc = new GrpcClient(program.grpcPort);
    expect((await grpc.send('traces', tracesRequest(1, 2))).kind).toBe('accept');
    grpc.close();
    await ask();
    expect(await refusesConnections(program.httpPort)).toBe(false);
    await ask();
    expect(answers.slice(-3)).toEqual([503, 503, 503]);
  };
  expect(await health()).toBe(SERVING);
  await ask();
  await ask();
  gapMsMax = 0;
  const ended = program.end('SIGTERM');
  const looked = await look().then(() => undefined, (error: unknown) => ({ error }));
  const wasLate = gapMsMax > QUESTION_MS_MAX || performance.now() - askedAtMs > SETTLE_MS;
  if (looked !== undefined && !wasLate) throw looked.error;
  expect(await ended).toEqual({ code: 0, signal: null });
  session.destroy();
  return looked === undefined;
}

test('who has been asking whether it is ready is told three times before the ports close', {
  timeout: MS_MAX,
}, async () => {
  for (let isShown = false; !isShown; ) {
    await withUp(async (program) => {
      isShown = await isToldThreeTimes(program);
    }, UNHURRIED);
  }
});

test('a refusal during the drain reaches a client that is still sending', { timeout: MS_MAX }, async () => {
  const front = await startFront({ door: { bytesInFlightMax: 1_000_000 } });
  const [open, bystander] = await Promise.all([wire(front.http.port), wire(front.http.port)]);
  // Keeps the port open: an upload that has only begun.
  bystander.socket.write(head('/v1/traces', { 'Content-Length': 10 }));
  await until(() => front.door.requestsInFlight === 1);
  const closing = front.http.close(20_000);
  const bytes = 1_040_000;
  open.socket.write(head('/v1/traces', { 'Content-Length': bytes }));
  // As most clients do: all is sent before an answer is read, and a reset is the end.
  open.socket.pause();
  for (let sent = 0; sent < bytes; sent += 10_000) {
    await new Promise((resolve) => open.socket.write(Buffer.alloc(10_000), resolve));
    await new Promise(setImmediate);
  }
  open.socket.resume();
  await open.closed;
  expect(open.text()).toMatch(/^HTTP\/1\.1 503 [\s\S]*Connection: close/i);
  bystander.socket.write(Buffer.alloc(10));
  await closing;
  await front.close();
});

test('an upload that never ends is cut off at SLUICE_DRAIN_MS_MAX, and the exit code is 1', {
  timeout: MS_MAX,
}, async () => {
  await withUp(
    async (program) => {
      await halfAnUpload(program, 1);
      expect(await program.end('SIGTERM')).toEqual({ code: 1, signal: null });
      expect(program.stderr()).toContain('SLUICE_DRAIN_MS_MAX');
    },
    { SLUICE_DRAIN_MS_MAX: '1000' },
  );
});

test('a second SIGTERM ends the program at once, with all that it had started', {
  timeout: MS_MAX,
}, async () => {
  await withUp(async (program) => {
    await halfAnUpload(program, 1);
    process.kill(program.pid, 'SIGTERM');
    await untilDraining(program);
    expect(await program.end('SIGTERM')).toEqual({ code: 1, signal: null });
    expect(program.stderr()).toContain('ending without draining');
    for (const name of ['CLICKHOUSE_HTTP', 'CLICKHOUSE_TCP', 'REDIS']) {
      const port = Number(program.environment[`SLUICE_EMBEDDED_${name}_PORT`]);
      await eventually(`${name} is gone`, () => refusesConnections(port));
    }
  });
});
