/**
 * Real services for tests, on free ports and in folders of their own; everything ends with the test.
 * `useX()` at the top of a file or a `describe` gives one service to all of its tests; `withX(body)` one to
 * a body.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { createLogger } from '../../src/base/log.ts';
import { type EmbeddedClickHouseOptions, startEmbeddedClickHouse } from '../../src/embedded/clickhouse.ts';
import { type EmbeddedRedisOptions, startEmbeddedRedis } from '../../src/embedded/redis.ts';

export const silent = createLogger('silent', 'json');

/** A folder of its own; the caller removes it (`withTempDir` does so itself). */
export function makeTempDir(): string {
  return mkdtempSync(join(tmpdir(), 'sluice-test-'));
}

export function removeTempDir(dir: string): void {
  rmSync(dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
}

export async function withTempDir<T>(body: (dir: string) => Promise<T> | T): Promise<T> {
  const dir = makeTempDir();
  try {
    return await body(dir);
  } finally {
    removeTempDir(dir);
  }
}

/**
 * Below the range that the system takes the ports of outgoing connections from, so that none of those gets
 * in between.
 */
const PORT_FIRST = 12_000;
const PORT_COUNT = 20_000;
const given = new Set<number>();

/**
 * A port on which nobody listens now, on any address; never the same twice in one process, nor in two that
 * run at the same time: whoever starts a server on it, or starts one again, has it for himself.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = PORT_FIRST + Math.floor(Math.random() * PORT_COUNT);
    if (given.has(port) || !(await reserve(port)) || !(await canBind(port))) continue;
    given.add(port);
    return port;
  }
}

/** By a name that the kernel gives to one process only and takes back with its end; Linux knows such names. */
function reserve(port: number): Promise<boolean> {
  if (process.platform !== 'linux') return Promise.resolve(true);
  return new Promise((resolve) => {
    const holder = createServer();
    holder.once('error', () => resolve(false));
    holder.listen(`\0sluice-test-port-${port}`, () => resolve(true)).unref();
  });
}

function canBind(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: '0.0.0.0', exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/** What all tests need of a running service; `stop` also removes its folder where the helper had made it. */
export interface TestService {
  readonly url: string;
  readonly pid: number;
  readonly ended: Promise<string>;
  stop(): Promise<void>;
}

export interface TestClickHouse extends TestService {
  readonly httpPort: number;
  readonly tcpPort: number;
  readonly dataDir: string;
  /**
   * Runs one statement, with `body` (rows to insert) if given; the answer's text, or an Error with
   * ClickHouse's.
   */
  query(sql: string, params?: Record<string, string>, body?: string | Uint8Array): Promise<string>;
  /** The same for a SELECT, as objects. UInt64 and Int64 are strings, as JSON has no room for them. */
  rows<Row = Record<string, unknown>>(sql: string): Promise<Row[]>;
}

export interface TestRedis extends TestService {
  readonly port: number;
  readonly dataDir: string;
}

/** Starts a ClickHouse; with a `dataDir` of the caller's the folder stays when it is stopped. */
export async function startClickHouse(
  options: Partial<EmbeddedClickHouseOptions> = {},
): Promise<TestClickHouse> {
  const dataDir = options.dataDir ?? makeTempDir();
  const httpPort = options.httpPort ?? (await freePort());
  const tcpPort = options.tcpPort ?? (await freePort());
  const service = await startEmbeddedClickHouse({ logger: silent, ...options, dataDir, httpPort, tcpPort });
  const query: TestClickHouse['query'] = async (sql, params = {}, body) => {
    const url = new URL(service.url);
    for (const [name, value] of Object.entries(params)) url.searchParams.set(name, value);
    if (body !== undefined) url.searchParams.set('query', sql);
    const answer = await fetch(url, { method: 'POST', body: body ?? sql });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${text.trim()}\nquery: ${sql}`);
    return text;
  };
  const rows = async <Row>(sql: string) =>
    JSON.parse(
      `[${(await query(`${sql} FORMAT JSONEachRow`, JSON_PARAMS)).trim().replaceAll('\n', ',')}]`,
    ) as Row[];
  const stop = async () => {
    await service.stop();
    if (options.dataDir === undefined) removeTempDir(dataDir);
  };
  return {
    url: service.url,
    pid: service.pid,
    ended: service.ended,
    httpPort,
    tcpPort,
    dataDir,
    query,
    rows,
    stop,
  };
}

/** NaN and infinities as strings: without it they are null. */
const JSON_PARAMS = { output_format_json_quote_denormals: '1', output_format_json_quote_64bit_integers: '1' };

/** Starts a Redis; with a `dataDir` of the caller's the folder stays when it is stopped. */
export async function startRedis(options: Partial<EmbeddedRedisOptions> = {}): Promise<TestRedis> {
  const dataDir = options.dataDir ?? makeTempDir();
  const port = options.port ?? (await freePort());
  const service = await startEmbeddedRedis({ logger: silent, ...options, dataDir, port });
  const stop = async () => {
    await service.stop();
    if (options.dataDir === undefined) removeTempDir(dataDir);
  };
  return { url: service.url, pid: service.pid, ended: service.ended, port, dataDir, stop };
}

export async function withClickHouse<T>(
  body: (clickhouse: TestClickHouse) => Promise<T>,
  options: Partial<EmbeddedClickHouseOptions> = {},
): Promise<T> {
  const clickhouse = await startClickHouse(options);
  try {
    return await body(clickhouse);
  } finally {
    await clickhouse.stop();
  }
}

export async function withRedis<T>(
  body: (redis: TestRedis) => Promise<T>,
  options: Partial<EmbeddedRedisOptions> = {},
): Promise<T> {
  const redis = await startRedis(options);
  try {
    return await body(redis);
  } finally {
    await redis.stop();
  }
}

/**
 * One ClickHouse for all tests of the file or `describe` that calls this; use what it returns inside of
 * tests only.
 */
export function useClickHouse(options: Partial<EmbeddedClickHouseOptions> = {}): TestClickHouse {
  return useService(() => startClickHouse(options));
}

/**
 * One Redis for all tests of the file or `describe` that calls this; use what it returns inside of tests
 * only.
 */
export function useRedis(options: Partial<EmbeddedRedisOptions> = {}): TestRedis {
  return useService(() => startRedis(options));
}

function useService<Service extends TestService>(start: () => Promise<Service>): Service {
  let running: Service | undefined;
  beforeAll(async () => {
    running = await start();
  });
  afterAll(async () => {
    await running?.stop();
  });
  return new Proxy({} as Service, {
    get: (_, name) => {
      if (running === undefined)
        throw new Error('the service runs only while the tests do: use it inside of a test');
      return Reflect.get(running, name);
    },
  });
}

/**
 * Resolves once `check` gives something other than undefined or false; fails with `what` after `msMax`, which is only
 * for what never comes: any process may stand still for seconds while others have the machine.
 */
export async function eventually<T>(
  what: string,
  check: () => Promise<T | undefined | false> | T | undefined | false,
  msMax = 60_000,
): Promise<T> {
  const deadline = Date.now() + msMax;
  for (;;) {
    const value = await check();
    if (value !== undefined && value !== false) return value;
    if (Date.now() > deadline) throw new Error(`not within ${msMax} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
