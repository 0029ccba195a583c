/**
 * Goal: ClickHouse goes away under load, is full or has too many parts: batches wait without a failed attempt,
 * and when it is mended they are written at once, oldest first and with fresh ones in between, each span once.
 */
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { PATIENCE_MS, type Program, environmentFor, run, start } from '../support/program.ts';
import { tracesRequest } from '../support/requests.ts';
import {
  type TestClickHouse, type TestRedis, eventually, freePort, makeTempDir, removeTempDir, startClickHouse, startRedis,
} from '../support/services.ts';

const SPANS = 10;
const BATCH_AGE_MS = 100;
/** How many further batches wait when ClickHouse is back, at least: a few seconds' worth. */
const BACKLOG_BATCHES = 30;
/** Younger batches are fresh: clients that stand still for less leave some. */
const BACKLOG_MS = 3_000;
/** A probe finds it within two seconds. */
const RETURN_MS_MAX = 25_000;
const RETRY_MS_MAX = 500;
/** Each batch is an insert of its own here, one after the other. */
const WRITTEN_MS_MAX = 2 * PATIENCE_MS;
const PAUSE_MS = 10;
const JOBS = '{s0}:insert:';
const SEALED = '{s0}:sealed';
/** The number of a span's request, and the insert that brought it: parts are not merged here. */
const INSERTS = `SELECT toUInt32(splitByChar('_', _part)[2]) AS insert,
    min(reinterpretAsUInt32(reverse(unhex(substring(SpanId, 1, 8))))) - 1 AS request, count() AS rows
  FROM otel.otel_traces GROUP BY _part ORDER BY insert`;

let redis: TestRedis;
let keys: Redis;
let clickhouse: TestClickHouse;
let program: Program;
let dataDir: string;
let next = 0;
let stopLoad: (() => Promise<void>) | undefined;
const acknowledged: number[] = [];

async function startServer(): Promise<TestClickHouse> {
  const { httpPort = await freePort(), tcpPort = await freePort() } = clickhouse ?? {};
  return startClickHouse({ dataDir: `${dataDir}/clickhouse`, httpPort, tcpPort });
}

beforeAll(async () => {
  dataDir = makeTempDir();
  redis = await startRedis();
  keys = new Redis(redis.url);
  clickhouse = await startServer();
  const environment = await environmentFor(dataDir, {
    SLUICE_REDIS_URL: redis.url,
    SLUICE_CLICKHOUSE_URL: clickhouse.url,
    SLUICE_BATCH_AGE_MS_MAX: String(BATCH_AGE_MS),
    SLUICE_WRITE_INSERTS_IN_FLIGHT_MAX: '1',
    SLUICE_WRITE_BACKLOG_MS: String(BACKLOG_MS),
    SLUICE_WRITE_RETRY_MS_MIN: '50',
    SLUICE_WRITE_RETRY_MS_MAX: String(RETRY_MS_MAX),
    // Parts are not merged here.
    SLUICE_PRESSURE_PARTS_PERCENT_MAX: '1000',
  });
  expect(await run(['migrate', 'apply'], environment)).toMatchObject({ code: 0 });
  await alter('MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1');
  program = await start('all', environment);
});
afterAll(async () => {
  await program?.end();
  keys?.disconnect();
  await clickhouse?.stop();
  await redis?.stop();
  removeTempDir(dataDir);
});

async function alter(what: string): Promise<void> {
  await clickhouse.query(`ALTER TABLE otel.otel_traces ${what}`);
}

/** Sends requests one after another until `stop`; every one has to be acknowledged, or that rejects. */
function startLoad(): () => Promise<void> {
  let stopping = false;
  const sending = (async () => {
    for (; !stopping; next++) {
      const answer = await fetch(`${program.http}/v1/traces`, {
        method: 'POST',
        headers: { 'content-type': 'application/x-protobuf' },
        body: tracesRequest(SPANS, next),
      });
      await answer.arrayBuffer();
      expect(answer.status).toBe(200);
      acknowledged.push(next);
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  })();
  sending.catch(() => undefined);
  stopLoad = async () => {
    stopping = true;
    await sending;
  };
  return stopLoad;
}
afterEach(async () => stopLoad?.());

const paused = () => program.metric('writes_paused', { shard: '0' });
const stored = () => program.metric('inserts_total', { outcome: 'stored' });

async function spans(): Promise<{ rows: number; spans: number }> {
  const sql = 'SELECT count() AS rows, uniqExact(SpanId) AS spans FROM otel.otel_traces';
  return (await program.rows<{ rows: number; spans: number }>(sql))[0] ?? { rows: 0, spans: 0 };
}

async function untilAllStored(): Promise<void> {
  const wanted = acknowledged.length * SPANS;
  await eventually(`${wanted} spans`, async () => (await spans()).spans >= wanted, WRITTEN_MS_MAX);
  expect(await spans()).toEqual({ rows: wanted, spans: wanted });
  await eventually('nothing waits', async () => (await program.metric('queue_items')) === 0, PATIENCE_MS);
  expect(await program.metric('items_written_total', { signal: 'traces' })).toBe(wanted);
}

/** All that was acknowledged before the call is sealed: what was open then is the next to be. */
async function untilSealed(): Promise<void> {
  const before = await keys.zcard(SEALED);
  await eventually('a further batch', async () => (await keys.zcard(SEALED)) > before, PATIENCE_MS);
}

/** Attempts that BullMQ has counted, and jobs that it has put off or given up. */
async function burnt(): Promise<{ attempts: number; delayed: number; failed: number }> {
  const names = await keys.keys(`${JOBS}*-*-*`);
  const made = await Promise.all(names.filter((name) => !name.endsWith(':lock')).map((name) => keys.hget(name, 'atm')));
  return {
    attempts: made.reduce((sum, attempts) => sum + Number(attempts ?? 0), 0),
    delayed: await keys.zcard(`${JOBS}delayed`),
    failed: await keys.zcard(`${JOBS}failed`),
  };
}

describe('ClickHouse is killed under load', { timeout: 5 * PATIENCE_MS }, () => {
  /** Requests after it and before the next came while ClickHouse was away, and are backlog at its return. */
  let away = 0;
  let aged = 0;
  /** Requests after it were sent while it started again, or later. */
  let fresh = 0;

  test('while it is away batches wait, and no attempt is burnt', async () => {
    const stop = startLoad();
    await eventually('some inserts', async () => (await stored()) > 10, PATIENCE_MS);
    expect(await paused()).toBe(0);
    process.kill(clickhouse.pid, 'SIGKILL');
    await clickhouse.ended;
    away = next;
    const enough = (await keys.zcard(SEALED)) + BACKLOG_BATCHES;
    await eventually('a pause', async () => (await paused()) === 1, PATIENCE_MS);
    const before = { stored: await stored(), tried: await program.metric('inserts_total') };
    await eventually('a backlog', async () => (await keys.zcard(SEALED)) >= enough, PATIENCE_MS);
    aged = next;
    await untilSealed();
    await new Promise((resolve) => setTimeout(resolve, BACKLOG_MS));
    expect(await stored()).toBe(before.stored);
    // Batches are not tried in vain: probes are what looks for a return.
    expect((await program.metric('inserts_total')) - before.tried).toBeLessThanOrEqual(3);
    expect(await burnt()).toEqual({ attempts: 0, delayed: 0, failed: 0 });
    expect(await paused()).toBe(1);

    fresh = next;
    clickhouse = await startServer();
    await eventually('an insert', async () => (await stored()) > before.stored, RETURN_MS_MAX);
    await eventually('the end of the pause', async () => (await paused()) === 0, PATIENCE_MS);
    const freshOnes = `SELECT count() AS spans FROM otel.otel_traces
      WHERE reinterpretAsUInt32(reverse(unhex(substring(SpanId, 1, 8)))) - 1 > ${fresh}`;
    await eventually('a fresh batch', async () => {
      return ((await program.rows<{ spans: number }>(freshOnes))[0]?.spans ?? 0) > 0;
    }, WRITTEN_MS_MAX);
    await stop();
    await untilAllStored();
    expect(program.stderr().match(/batches wait/g)).toHaveLength(1);
    expect(program.stderr()).toMatch(/"batches":\d+,"msg":"inserts go on"/);
  });

  test('the backlog went oldest first, and a fresh batch did not wait for its end', async () => {
    const inserts = await program.rows<{ insert: number; request: number }>(INSERTS);
    // Not those of before: a writer that was slow by then may have had some backlog, and fresh ones among it.
    const backlog = inserts.filter(({ request }) => request > away && request < aged);
    expect(backlog.length).toBeGreaterThan(BACKLOG_BATCHES / 2);
    // In the order of their inserts, the old ones are in the order of their requests: but for the trial, which is
    // of another batch than the oldest if there was one in vain before the server was known to be away.
    const jumps = backlog.filter(({ request }, i) => i > 0 && request < (backlog[i - 1]?.request ?? 0));
    expect(jumps.length, JSON.stringify(jumps)).toBeLessThanOrEqual(1);
    const firstFresh = inserts.find(({ request }) => request > fresh)?.insert ?? Infinity;
    expect(firstFresh).toBeLessThan(backlog.at(-1)?.insert ?? 0);
  });
});

describe('ClickHouse answers but takes no inserts', { timeout: 5 * PATIENCE_MS }, () => {
  test.each([
    ['its disk is full', 'min_free_disk_bytes_to_perform_insert', `${2 ** 60}`],
    ['a table has too many parts', 'parts_to_throw_insert', '1'],
  ])('%s: batches wait and are not tried in a rush; mended, they pass', async (_, setting, value) => {
    await alter(`MODIFY SETTING ${setting} = ${value}`);
    const stop = startLoad();
    await eventually('a pause', async () => (await paused()) === 1, PATIENCE_MS);
    const triedBefore = await program.metric('inserts_total');
    const startedAtMs = performance.now();
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    await stop();
    // About 30 batches wait by now. One trial after another, with growing delays of up to 500 ms.
    const trials = (await program.metric('inserts_total')) - triedBefore;
    expect(trials).toBeLessThan(10 + (2.5 * (performance.now() - startedAtMs)) / RETRY_MS_MAX);
    expect(await paused()).toBe(1);
    expect(await program.metric('dead_letters')).toBe(0);
    await alter(`RESET SETTING ${setting}`);
    await eventually('the end of the pause', async () => (await paused()) === 0, PATIENCE_MS);
    await untilAllStored();
  });
});
