/**
 * Goal: the books agree with themselves at every scrape and with the tables in the end. All signals under load, with
 * records that are refused, requests that are sent twice, and processes that are restarted in between: accepted =
 * written + waiting + dead + dropped always, and written = count() once nothing waits.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { sleep } from '../../src/base/clock.ts';
import { SIGNALS, type Signal, TABLES, signalOf } from '../../src/model/signal.ts';
import { encode } from '../oracle/encode.ts';
import { requestOf } from '../oracle/samples.ts';
import { GrpcClient, sendHttp } from '../support/clients.ts';
import { type Program, environmentFor, run, sample, start } from '../support/program.ts';
import {
  type TestClickHouse,
  type TestRedis,
  eventually,
  makeTempDir,
  removeTempDir,
  startClickHouse,
  startRedis,
} from '../support/services.ts';

const STATES = ['accepted', 'written', 'waiting', 'dead', 'dropped'] as const;
type Ledger = Readonly<Record<(typeof STATES)[number], number>>;

const GOOD = 4;
const BAD = 2;
const PAUSE_MS = 15;
const SCRAPE_EVERY_MS = 50;
/** A machine that does much else at the same time takes long to start a process. */
const PHASE_MS_MAX = 90_000;

const dataDir = makeTempDir();
let redis: TestRedis;
let clickhouse: TestClickHouse;
let environment: Record<string, string>;
/** All that run now. */
let programs: Program[] = [];

beforeAll(async () => {
  [redis, clickhouse] = await Promise.all([startRedis(), startClickHouse()]);
  environment = await environmentFor(dataDir, {
    SLUICE_REDIS_URL: redis.url,
    SLUICE_CLICKHOUSE_URL: clickhouse.url,
    SLUICE_BATCH_AGE_MS_MAX: '100',
    // However long a restart takes: what nobody answered before is sent again after it.
    SLUICE_RESEND_WINDOW_SECONDS: '600',
  });
  expect(await run(['migrate', 'apply'], environment)).toMatchObject({ code: 0 });
});
afterAll(async () => {
  await Promise.all(programs.map((program) => program.end()));
  await Promise.all([redis?.stop(), clickhouse?.stop()]);
  removeTempDir(dataDir);
});

const TIME = BigInt(Date.now()) * 1_000_000n;
const MESSAGES = {
  traces: 'ExportTraceServiceRequest',
  logs: 'ExportLogsServiceRequest',
  metrics: 'ExportMetricsServiceRequest',
} as const;

/** One record: what is bad of it has no place in a table. */
function recordOf(signal: Signal, name: string, good: boolean) {
  const [traceId, spanId] = [new Uint8Array(good ? 16 : 3).fill(7), new Uint8Array(8).fill(9)];
  if (signal === 'traces') return { traceId, spanId, name, startTimeUnixNano: TIME, endTimeUnixNano: TIME };
  // After what DateTime64(9) can hold.
  const timeUnixNano = good ? TIME : 2n ** 63n + 1n;
  if (signal === 'logs') return { timeUnixNano, body: { stringValue: name } };
  return { name, gauge: { dataPoints: [{ timeUnixNano, asDouble: 0.5 }] } };
}

/** @param number makes it another request than all others */
function request(signal: Signal, number: number): Uint8Array {
  const records = Array.from({ length: GOOD + BAD }, (_, i) => recordOf(signal, `${number}-${i}`, i < GOOD));
  return encode(MESSAGES[signal], requestOf(signal, records));
}

let numbers = 0;

/** Sends all the time, each third request twice; a request that nobody took is sent until somebody does. */
class Load {
  /** Records of different requests that were acknowledged. */
  readonly accepted: Record<Signal, number> = { traces: 0, metrics: 0, logs: 0 };
  readonly #ending = new AbortController();
  readonly #clients: readonly Promise<void>[];

  constructor(http: string, grpcPort: number) {
    this.#clients = SIGNALS.flatMap((signal) => {
      const grpc = new GrpcClient(grpcPort);
      return [
        this.#client(signal, (body) => sendHttp(http, signal, body).then(({ kind }) => kind)),
        this.#client(signal, (body) => grpc.send(signal, body).then(({ kind }) => kind)).finally(() =>
          grpc.close(),
        ),
      ];
    });
  }

  async stop(): Promise<void> {
    this.#ending.abort();
    await Promise.all(this.#clients);
  }

  async #client(signal: Signal, send: (body: Uint8Array) => Promise<string>): Promise<void> {
    while (!this.#ending.signal.aborted) {
      const number = numbers++;
      const body = request(signal, number);
      for (let times = number % 3 === 0 ? 2 : 1; times > 0; times--) {
        while ((await send(body).catch(notThere)) !== 'partial') await sleep(PAUSE_MS);
      }
      this.accepted[signal] += GOOD;
      await sleep(PAUSE_MS);
    }
  }
}

function notThere(error: unknown): string {
  if (!(error instanceof TypeError)) throw error;
  return 'nobody listens';
}

function ledgerOf(text: string, signal: Signal): Ledger {
  const figures = STATES.map((state) => [state, sample(text, 'sluice_ledger_items', { signal, state })]);
  return Object.fromEntries(figures) as Ledger;
}

/** Scrapes whatever runs until the body has ended; the books that didn't add up, and how many were looked at. */
async function scraping(body: () => Promise<void>): Promise<{ wrong: object[]; looks: number }> {
  const wrong: object[] = [];
  let looks = 0;
  let over = false;
  const scrapes = (async () => {
    while (!over) {
      for (const { admin } of programs) {
        const text = await fetch(`${admin}/metrics`).then((reply) => reply.text()).catch(() => '');
        for (const signal of SIGNALS) {
          const ledger = ledgerOf(text, signal);
          const { accepted, written, waiting, dead, dropped } = ledger;
          if (accepted !== written + waiting + dead + dropped) wrong.push({ signal, ...ledger });
          if (accepted > 0) looks += 1;
        }
      }
      await sleep(SCRAPE_EVERY_MS);
    }
  })();
  try {
    await body();
  } finally {
    over = true;
    await scrapes;
  }
  return { wrong, looks };
}

async function rowsOf(signal: Signal): Promise<number> {
  const tables = TABLES.filter((table) => signalOf(table) === signal);
  const counts = await Promise.all(tables.map((table) => clickhouse.query(`SELECT count() FROM otel.${table}`)));
  return counts.map(Number).reduce((sum, count) => sum + count, 0);
}

/** Nothing waits, and what is written is what lies in the tables. */
async function expectAgreement(program: Program, accepted: Readonly<Record<Signal, number>>): Promise<void> {
  for (const signal of SIGNALS) {
    const all = accepted[signal];
    // The books may be a quarter of a second old.
    const ledger = await eventually(`${all} ${signal} accepted, none waits`, async () => {
      const found = ledgerOf(await (await fetch(`${program.admin}/metrics`)).text(), signal);
      return found.accepted >= all && found.waiting === 0 && found;
    }, PHASE_MS_MAX);
    expect({ signal, ...ledger }).toEqual({
      signal, accepted: all, written: all, waiting: 0, dead: 0, dropped: 0,
    });
    expect(await rowsOf(signal)).toBe(ledger.written);
  }
}

test('one process, then gateway and writer, restarted under load', { timeout: 300_000 }, async () => {
  programs = [await start('all', environment)];
  const [first] = programs as [Program];
  const load = new Load(first.http, first.grpcPort);
  const enough = (more: number) => {
    const wanted = SIGNALS.map((signal) => load.accepted[signal] + more * GOOD);
    const reached = () => SIGNALS.every((signal, i) => load.accepted[signal] >= (wanted[i] ?? 0));
    return eventually('some load', reached, PHASE_MS_MAX);
  };
  const { wrong, looks } = await scraping(async () => {
    await enough(30);
    // Killed, so that what was acknowledged in the last moment is known to Redis only.
    await first.end('SIGKILL');
    programs = [await start('all', environment)];
    await enough(30);
    await programs[0]?.end();
    const ports = await environmentFor(dataDir);
    const writerEnvironment = { ...environment, SLUICE_ADMIN_ADDR: ports.SLUICE_ADMIN_ADDR ?? '' };
    programs = await Promise.all([start('gateway', environment), start('writer', writerEnvironment)]);
    await enough(30);
    await programs[1]?.end();
    programs = [programs[0] as Program, await start('writer', writerEnvironment)];
    await enough(30);
    await load.stop();
    for (const program of programs) await expectAgreement(program, load.accepted);
  });
  expect(wrong).toEqual([]);
  expect(looks).toBeGreaterThan(50);
  const [gateway] = programs as [Program];
  for (const signal of SIGNALS) {
    expect(await gateway.metric('items_duplicate_total', { signal })).toBeGreaterThan(0);
    expect(await gateway.metric('items_rejected_total', { signal })).toBeGreaterThan(0);
  }
});
