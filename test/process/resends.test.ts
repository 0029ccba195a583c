/**
 * Goal: who sends a request again, to whichever gateway and over whichever transport, gets the same answer,
 * and the records are stored once; whoever names another source, or comes after the window, is somebody else.
 */
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { GrpcClient, sendHttp } from '../support/clients.ts';
import { PATIENCE_MS, type Program, START_MS_MAX, environmentFor, start } from '../support/program.ts';
import { largeTracesRequest, logsRequest, tracesRequest } from '../support/requests.ts';
import { eventually, freePort, makeTempDir, removeTempDir } from '../support/services.ts';

const dataDir = makeTempDir();
let up: Program;
/** A second gateway on the same Redis. */
let gateway: Program;
const clients: GrpcClient[] = [];
const SLOW = { timeout: START_MS_MAX };

beforeAll(async () => {
  const short = { SLUICE_BATCH_AGE_MS_MAX: '50', SLUICE_EMBEDDED_SHARDS: '2', SLUICE_RESEND_SOURCES: 'hasty=1' };
  up = await start('up', await environmentFor(dataDir, short));
  const { SLUICE_EMBEDDED_REDIS_PORT: port, ...environment } = up.environment;
  const addresses: Record<string, string> = {};
  for (const name of ['GRPC', 'HTTP', 'ADMIN']) addresses[`SLUICE_${name}_ADDR`] = `127.0.0.1:${await freePort()}`;
  gateway = await start('gateway', {
    ...environment,
    ...addresses,
    SLUICE_REDIS_URL: `redis://127.0.0.1:${port}/0`,
    SLUICE_CLICKHOUSE_URL: up.clickhouse,
    SLUICE_CLICKHOUSE_CLUSTER: 'sluice',
  });
  clients.push(new GrpcClient(up.grpcPort), new GrpcClient(gateway.grpcPort));
});

afterAll(async () => {
  for (const client of clients) client.close();
  await gateway?.end();
  await up?.end();
  removeTempDir(dataDir);
});

/** When all that was accepted by the time of the call is there. Repetitions don't count as accepted. */
async function stored(table: string, signal: string): Promise<number> {
  const counts = await Promise.all([up, gateway].map((of) => of.metric('items_accepted_total', { signal })));
  const accepted = counts.reduce((sum, count) => sum + count, 0);
  const count = async () => (await up.rows<{ n: number }>(`SELECT count() AS n FROM otel.${table}`))[0]?.n ?? 0;
  await eventually('everything is written', async () => (await count()) >= accepted, PATIENCE_MS);
  return count();
}

test('over HTTP and gRPC, compressed or not, to either gateway', SLOW, async () => {
  const before = await stored('otel_traces', 'traces');
  const body = tracesRequest(40, 1);
  const answers = [
    await sendHttp(up.http, 'traces', body),
    await sendHttp(gateway.http, 'traces', body),
    await sendHttp(gateway.http, 'traces', gzipSync(body), { encoding: 'gzip' }),
    await clients[0]?.send('traces', body),
    await clients[1]?.send('traces', body),
  ];
  expect(answers.map((answer) => answer?.kind)).toEqual(Array(5).fill('accept'));
  expect((await stored('otel_traces', 'traces')) - before).toBe(40);
  const found = { signal: 'traces', found: 'cache' };
  expect(await up.metric('requests_repeated_total', found)).toBe(1);
  expect(await gateway.metric('requests_repeated_total', found)).toBe(2);
  expect(await gateway.metric('requests_repeated_total', { signal: 'traces', found: 'redis' })).toBe(1);
  const duplicates = await Promise.all([up, gateway].map((of) => of.metric('items_duplicate_total', { signal: 'traces' })));
  expect(duplicates).toEqual([40, 120]);
});

test('in one group with others, many at once', SLOW, async () => {
  const before = await stored('otel_traces', 'traces');
  const bodies = Array.from({ length: 30 }, (_, i) => tracesRequest(7, 100 + i));
  const send = (of: Program, which: readonly Buffer[]) => Promise.all(which.map((body) => sendHttp(of.http, 'traces', body)));
  const rebuilds = await gateway.metric('resend_rebuilds_total');
  const first = await send(up, bodies.filter((_, i) => i % 3 === 0));
  // New ones among them, which only this gateway has.
  const again = await send(gateway, bodies);
  for (const answer of [...first, ...again]) expect(answer).toMatchObject({ kind: 'accept', message: '' });
  expect(await gateway.metric('resend_rebuilds_total')).toBeGreaterThan(rebuilds);
  expect((await stored('otel_traces', 'traces')) - before).toBe(210);
  const [row] = await up.rows<{ n: number }>(`SELECT uniqExact(TraceId) AS n FROM otel.otel_traces WHERE SpanId >= '00000065'`);
  expect(row?.n).toBe(210);
});

test('a large one, through the lane of its own', SLOW, async () => {
  const before = await stored('otel_traces', 'traces');
  const { body, spans } = largeTracesRequest(5_000_000, 'large');
  for (const of of [up, gateway, gateway]) {
    expect(await sendHttp(of.http, 'traces', body)).toMatchObject({ kind: 'accept' });
  }
  expect((await stored('otel_traces', 'traces')) - before).toBe(spans);
});

test('other sources are somebody else, and each has its window', SLOW, async () => {
  const before = await stored('otel_logs', 'logs');
  const body = logsRequest(3, 'once');
  const send = async (source: string) => {
    const headers = { 'content-type': 'application/x-protobuf', 'x-sluice-source': source };
    const answer = await fetch(`${gateway.http}/v1/logs`, { method: 'POST', headers, body: new Uint8Array(body) });
    await answer.arrayBuffer();
    expect(answer.status).toBe(200);
  };
  for (const source of ['a', 'a', 'b', '', 'a']) await send(source);
  expect((await stored('otel_logs', 'logs')) - before).toBe(9);
  await send('hasty');
  await eventually('its second is over', async () => {
    await send('hasty');
    return (await stored('otel_logs', 'logs')) - before > 12;
  }, PATIENCE_MS);
  expect((await stored('otel_logs', 'logs')) - before).toBe(15);
});
