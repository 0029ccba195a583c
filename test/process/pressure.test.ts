/**
 * Goal: two gateways that share a Redis slow down and refuse soon after each other, whatever it is that runs
 * short, and open again by themselves; each of them says so in /metrics, /ready and its answers.
 */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type Answer, sendHttp } from '../support/clients.ts';
import { type Program, environmentFor, run, start } from '../support/program.ts';
import { tracesRequest } from '../support/requests.ts';
import {
  type TestClickHouse, type TestRedis, eventually, freePort, makeTempDir, removeTempDir, startClickHouse, startRedis,
} from '../support/services.ts';

/** Of one gateway after the other: a second, and what a machine with other things to do may add. */
const APART_MS_MAX = 15_000;
/** Of what takes some seconds on a quiet one. */
const PATIENCE_MS = 60_000;
const PARTS_TO_DELAY = 100;
const SPANS = 200;

let redis: TestRedis;
let clickhouse: TestClickHouse;
let writer: Program;
let gateways: readonly Program[] = [];
let dataDir: string;
let sent = 0;

async function startServer(): Promise<TestClickHouse> {
  const { httpPort = await freePort(), tcpPort = await freePort() } = clickhouse ?? {};
  return startClickHouse({ dataDir: `${dataDir}/clickhouse`, httpPort, tcpPort });
}

beforeAll(async () => {
  dataDir = makeTempDir();
  redis = await startRedis();
  clickhouse = await startServer();
  const shared = {
    SLUICE_REDIS_URL: redis.url,
    SLUICE_CLICKHOUSE_URL: clickhouse.url,
    SLUICE_BATCH_AGE_MS_MAX: '50',
    SLUICE_QUEUE_BYTES_MAX: '1MiB',
    SLUICE_PRESSURE_HORIZON_SECONDS: '2',
    SLUICE_PRESSURE_PARTS_PERCENT_MAX: '100',
  };
  const environment = await environmentFor(dataDir, shared);
  expect(await run(['migrate', 'apply'], environment)).toMatchObject({ code: 0 });
  writer = await start('writer', environment);
  gateways = [
    await start('gateway', await environmentFor(dataDir, shared)),
    await start('gateway', await environmentFor(dataDir, shared)),
  ];
}, 180_000);
afterAll(async () => {
  for (const program of [...gateways, writer]) await program?.end();
  await clickhouse?.stop();
  await redis?.stop();
  removeTempDir(dataDir);
});
afterEach(() => both(0, PATIENCE_MS), 2 * PATIENCE_MS);

const levelOf = (gateway: Program) => gateway.metric('backpressure_level');

/** One of them has the level, or a higher one, and the other soon after. */
async function both(level: number, msMax: number): Promise<void> {
  const reached = async (gateway: Program) => {
    const now = await levelOf(gateway);
    return level === 0 ? now === 0 : now >= level;
  };
  await eventually(`level ${level} on one gateway`, async () => {
    const [one, other] = await Promise.all(gateways.map(reached));
    return one || other;
  }, msMax);
  for (const gateway of gateways)
    await eventually(`level ${level} on the other`, () => reached(gateway), APART_MS_MAX);
}

function send(gateway: Program): Promise<Answer> {
  sent += 1;
  return sendHttp(gateway.http, 'traces', tracesRequest(SPANS, sent));
}

/** A line comes through a pipe of its own, and may be later than what is known of the gateway otherwise. */
function untilLogged(gateway: Program, words: RegExp): Promise<boolean> {
  return eventually(String(words), () => words.test(gateway.stderr()));
}

test('too many parts in ClickHouse: slowing, refusing, and open again', { timeout: 300_000 }, async () => {
  await clickhouse.query('SYSTEM STOP MERGES otel.otel_logs');
  await clickhouse.query(`ALTER TABLE otel.otel_logs MODIFY SETTING parts_to_delay_insert = ${PARTS_TO_DELAY}`);
  // Rows that differ: repetitions of an insert are recognised.
  let rows = 0;
  const part = () => clickhouse.query(`INSERT INTO otel.otel_logs (Timestamp, Body) VALUES (now(), '${rows++}')`);
  for (let parts = 0; parts < PARTS_TO_DELAY * 0.9; parts++) await part();
  await both(1, PATIENCE_MS);
  for (const gateway of gateways) {
    // The writer's last look may have come before the last of them.
    await eventually('all parts to be known', async () => {
      const ratio = await gateway.metric('pressure_ratio', { reason: 'clickhouse_parts' });
      return Math.abs(ratio - 0.9) < 0.001;
    }, PATIENCE_MS);
    expect(await levelOf(gateway)).toBe(1);
    expect(await gateway.metric('backpressure_reason', { reason: 'clickhouse_parts' })).toBe(1);
  }
  for (let parts = 0; parts < PARTS_TO_DELAY * 0.11; parts++) await part();
  await both(2, PATIENCE_MS);
  for (const gateway of gateways) {
    const answer = await send(gateway);
    expect(answer).toMatchObject({ code: 503 });
    expect(answer.message).toMatch(/10\d parts, the limit is 100 \(SLUICE_PRESSURE_PARTS_PERCENT_MAX\)/);
    expect(await gateway.metric('requests_refused_total', { reason: 'clickhouse_parts' })).toBe(1);
    await untilLogged(gateway, /too many parts in a partition: clients are pushed back/);
  }
  await clickhouse.query('TRUNCATE TABLE otel.otel_logs');
  await both(0, PATIENCE_MS);
  for (const gateway of gateways) {
    expect((await send(gateway)).kind).toBe('accept');
    await untilLogged(gateway, /clickhouse_parts: clients are let in again/);
  }
});

test('ClickHouse is away: the queue fills, slows and refuses; back, all is open', { timeout: 300_000 }, async () => {
  process.kill(clickhouse.pid, 'SIGKILL');
  await clickhouse.ended;
  let sending = true;
  const codes = new Set<number>();
  const clients = gateways.map(async (gateway) => {
    while (sending) {
      codes.add((await send(gateway)).code);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  });
  await both(1, PATIENCE_MS);
  await both(2, 2 * PATIENCE_MS);
  sending = false;
  await Promise.all(clients);
  expect([...codes].sort()).toEqual([200, 503]);
  for (const gateway of gateways) {
    expect(await send(gateway)).toMatchObject({ code: 503, message: expect.stringMatching(/SLUICE_QUEUE_BYTES_MAX/) });
    expect(await gateway.metric('requests_refused_total', { reason: 'queue_full' })).toBeGreaterThan(0);
  }
  const ready = await Promise.all(gateways.map(async ({ admin }) => (await fetch(`${admin}/ready`)).status));
  expect(ready).toContain(503);
  clickhouse = await startServer();
  await both(0, PATIENCE_MS);
  for (const gateway of gateways) expect((await send(gateway)).kind).toBe('accept');
});
