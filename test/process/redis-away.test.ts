/**
 * Goal: while Redis is away every request is answered at once, over both transports, with a code that clients retry and a
 * delay; nothing of it is kept, and when Redis is back so is the gateway, without a restart.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { encode } from '../oracle/encode.ts';
import { SAMPLES } from '../oracle/samples.ts';
import { head, wire } from '../receive/support.ts';
import { GrpcClient, openSession, sendFrames, sendHttp } from '../support/clients.ts';
import {
  PATIENCE_MS, type Program, START_MS_MAX, environmentFor, run, start, untilIdle,
} from '../support/program.ts';
import { tracesRequest } from '../support/requests.ts';
import {
  type TestRedis,
  eventually,
  freePort,
  makeTempDir,
  removeTempDir,
  startClickHouse,
  startRedis,
} from '../support/services.ts';

const dataDir = makeTempDir();
let port: number;
let redis: TestRedis;
let gateway: Program;

/** A gateway wants to know the shards: some writer has published them once. */
beforeAll(async () => {
  port = await freePort();
  redis = await startRedis({ dataDir, port });
  const clickhouse = await startClickHouse();
  const services = { SLUICE_REDIS_URL: redis.url, SLUICE_CLICKHOUSE_URL: clickhouse.url };
  const writerEnvironment = await environmentFor(dataDir, services);
  expect(await run(['migrate', 'apply'], writerEnvironment)).toMatchObject({ code: 0 });
  const writer = await start('writer', writerEnvironment);
  gateway = await start('gateway', await environmentFor(dataDir, services));
  await writer.end();
  await clickhouse.stop();
});
afterAll(async () => {
  await gateway?.end();
  await redis?.stop();
  removeTempDir(dataDir);
});

const REFUSED = { signal: 'traces', reason: 'redis_unavailable' };

test('Redis is killed and comes back', { timeout: START_MS_MAX }, async () => {
  const grpc = new GrpcClient(gateway.grpcPort);
  expect((await sendHttp(gateway.http, 'traces', tracesRequest(1, 1))).kind).toBe('accept');
  expect((await grpc.send('traces', tracesRequest(1, 2))).kind).toBe('accept');
  process.kill(redis.pid, 'SIGKILL');
  await redis.ended;
  const level = () => gateway.metric('backpressure_level');
  await eventually('the gateway notices', async () => (await level()) === 2, PATIENCE_MS);
  const refused = () => gateway.metric('requests_refused_total', REFUSED);
  const before = await refused();

  // The clients check that Retry-After and RetryInfo are there.
  expect(await sendHttp(gateway.http, 'traces', tracesRequest(1, 3))).toMatchObject({ code: 503 });
  expect(await grpc.send('traces', tracesRequest(1, 4))).toMatchObject({ code: 14 });
  // At once: a client that has sent the head of its request only is answered. Nothing of it is read or decoded.
  const slow = await wire(gateway.httpPort);
  slow.socket.write(head('/v1/traces', { 'Content-Length': 1_000_000 }));
  await eventually('an answer', () => /^HTTP\/1\.1 503 [\s\S]*Retry-After: [1-9]/i.test(slow.text()));
  slow.socket.destroy();
  const session = openSession(gateway.grpcPort);
  expect(await sendFrames(session, 'traces', [new Uint8Array(3)])).toMatchObject({ code: 14 });
  session.destroy();

  const many = Array.from({ length: 200 }, (_, i) => tracesRequest(20, 100 + i));
  const answers = await Promise.all(many.map((body) => sendHttp(gateway.http, 'traces', body)));
  expect(answers.filter(({ code }) => code !== 503)).toEqual([]);
  expect(await refused()).toBe(before + 204);
  // Nothing piles up.
  await untilIdle(gateway);

  redis = await startRedis({ dataDir, port });
  const samples = encode('ExportTraceServiceRequest', SAMPLES.traces);
  const taken = async () => (await grpc.send('traces', samples)).kind === 'accept';
  await eventually('requests are taken', taken, PATIENCE_MS);
  expect((await sendHttp(gateway.http, 'traces', tracesRequest(1, 5))).kind).toBe('accept');
  const ready = async () => (await fetch(`${gateway.admin}/ready`)).ok;
  await eventually('it is ready and open', async () => (await ready()) && (await level()) === 0, PATIENCE_MS);
  grpc.close();
});
