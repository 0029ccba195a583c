/**
 * Goal: the program with a Redis and a ClickHouse of the operator's own: used and not started again; gateway
 * and writer as processes of their own; either service away, refusing or wrongly configured, with words that
 * tell what to do, and nothing that was acknowledged lost.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { sendHttp } from '../support/clients.ts';
import { type Program, begin, environmentFor, isReady, run, start, untilReady } from '../support/program.ts';
import { tracesRequest } from '../support/requests.ts';
import {
  eventually,
  freePort,
  makeTempDir,
  removeTempDir,
  startClickHouse,
  startRedis,
  useClickHouse,
  useRedis,
  withRedis,
} from '../support/services.ts';

const PASSWORD = 'correct-horse';
const SPANS = 5;
const RETRY_SOON = { SLUICE_WRITE_RETRY_MS_MIN: '50', SLUICE_WRITE_RETRY_MS_MAX: '200' };
/** Of what takes a second or two on a machine that has nothing else to do. */
const PATIENCE_MS = 60_000;
/** A test starts up to ten programs one after another. */
vi.setConfig({ testTimeout: 180_000, hookTimeout: 120_000 });

const redis = useRedis();
const clickhouse = useClickHouse({
  usersXml: `<operator><password>${PASSWORD}</password><networks><ip>::/0</ip></networks>
    <profile>default</profile><quota>default</quota></operator>`,
});

/** What a test has started and not ended itself, last first. */
let cleanUps: (() => unknown)[] = [];
let databases = 0;

afterEach(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
  cleanUps = [];
});

/** Settings for a program with a data folder and databases of its own; `extra` wins. */
async function settings(extra: Readonly<Record<string, string>> = {}): Promise<Record<string, string>> {
  const dataDir = makeTempDir();
  cleanUps.push(() => removeTempDir(dataDir));
  databases++;
  return environmentFor(join(dataDir, 'data'), {
    SLUICE_REDIS_URL: `redis://127.0.0.1:${redis.port}/${databases}`,
    SLUICE_CLICKHOUSE_URL: clickhouse.url,
    SLUICE_CLICKHOUSE_DATABASE: `own${databases}`,
    ...extra,
  });
}

/** Another process beside one with these settings: the same services, other ports. */
async function beside(environment: Readonly<Record<string, string>>): Promise<Record<string, string>> {
  const { SLUICE_REDIS_URL, SLUICE_CLICKHOUSE_URL, SLUICE_CLICKHOUSE_DATABASE } = environment;
  const shared = { SLUICE_REDIS_URL, SLUICE_CLICKHOUSE_URL, SLUICE_CLICKHOUSE_DATABASE };
  return settings(shared as Record<string, string>);
}

function keep(program: Program): Program {
  cleanUps.push(() => program.end('SIGKILL'));
  return program;
}

async function starting(role: string, environment: Readonly<Record<string, string>>): Promise<Program> {
  return keep(await start(role, environment));
}

function without(environment: Readonly<Record<string, string>>, name: string): Record<string, string> {
  return Object.fromEntries(Object.entries(environment).filter(([other]) => other !== name));
}

async function sendSpans(program: Program, requests: number): Promise<void> {
  for (let number = 0; number < requests; number++) {
    const answer = await sendHttp(program.http, 'traces', tracesRequest(SPANS, number));
    expect(answer).toMatchObject({ kind: 'accept', message: '' });
  }
}

async function untilStored(program: Program, database: string, spans: number): Promise<void> {
  await eventually(`${spans} spans in ${database}`, async () => {
    const sql = `SELECT count() AS rows, uniqExact(SpanId) AS spans FROM ${database}.otel_traces`;
    const [row] = await program.rows<{ rows: number; spans: number }>(sql);
    expect(row?.rows).toBe(row?.spans);
    return row?.spans === spans;
  }, PATIENCE_MS);
}

/** A line comes through a pipe of its own, and may be later than what is known of the program otherwise. */
function untilLogged(program: Program, words: RegExp): Promise<boolean> {
  return eventually(String(words), () => words.test(program.stderr()), PATIENCE_MS);
}

function isListening(port: string | undefined): Promise<boolean> {
  return fetch(`http://127.0.0.1:${port}`).then(
    () => true,
    // Redis is no HTTP server, but it is one: only a refused connection is nobody.
    (error: Error) => (error.cause as NodeJS.ErrnoException).code !== 'ECONNREFUSED',
  );
}

async function configure(url: string, name: string, value: string): Promise<void> {
  const client = new Redis(url);
  await client.config('SET', name, value);
  client.disconnect();
}

/** What an admin path answers. */
async function look(program: Program, path: string): Promise<{ status: number; text: string }> {
  const reply = await fetch(`${program.admin}/${path}`);
  return { status: reply.status, text: await reply.text() };
}

describe('up', () => {
  test('with both services given starts neither, brings the tables up to date and writes', async () => {
    const environment = await settings();
    const program = await starting('up', environment);
    await sendSpans(program, 2);
    await untilStored(program, environment.SLUICE_CLICKHOUSE_DATABASE ?? '', 2 * SPANS);
    for (const name of ['CLICKHOUSE_HTTP', 'CLICKHOUSE_TCP', 'REDIS']) {
      expect(await isListening(environment[`SLUICE_EMBEDDED_${name}_PORT`]), name).toBe(false);
    }
    expect(existsSync(environment.SLUICE_DATA_DIR ?? '')).toBe(false);
    expect(await program.end()).toEqual({ code: 0, signal: null });
    expect(await clickhouse.query('SELECT 1')).toBe('1\n');
  });

  test.each([
    ['SLUICE_REDIS_URL', 'SLUICE_EMBEDDED_REDIS_PORT', 'SLUICE_EMBEDDED_CLICKHOUSE_HTTP_PORT'],
    ['SLUICE_CLICKHOUSE_URL', 'SLUICE_EMBEDDED_CLICKHOUSE_HTTP_PORT', 'SLUICE_EMBEDDED_REDIS_PORT'],
  ])('with only %s given starts the other one', async (given, own, embedded) => {
    const other = given === 'SLUICE_REDIS_URL' ? 'SLUICE_CLICKHOUSE_URL' : 'SLUICE_REDIS_URL';
    const environment = without(await settings(), other);
    const program = await starting('up', environment);
    await sendSpans(program, 1);
    await untilStored(program, environment.SLUICE_CLICKHOUSE_DATABASE ?? '', SPANS);
    expect(await isListening(environment[own])).toBe(false);
    expect(await isListening(environment[embedded])).toBe(true);
    expect(await program.end()).toEqual({ code: 0, signal: null });
  });
});

describe('gateway and writer as processes of their own', () => {
  test('data flows from one to the other, and each tells of its part', async () => {
    const environment = await settings();
    expect((await run(['migrate', 'apply'], environment)).code).toBe(0);
    const gateway = await starting('gateway', environment);
    const writer = await starting('writer', await beside(environment));
    expect(gateway.stdout()).toBe(
      `sluice ready: OTLP gRPC 127.0.0.1:${gateway.grpcPort}, OTLP HTTP 127.0.0.1:${gateway.httpPort}, admin ${gateway.admin}\n`,
    );
    expect(writer.stdout()).toBe(`sluice ready: writer, admin ${writer.admin}\n`);
    expect(await isListening(String(writer.httpPort))).toBe(false);

    await sendSpans(gateway, 4);
    await untilStored(writer, environment.SLUICE_CLICKHOUSE_DATABASE ?? '', 4 * SPANS);
    const traces = { signal: 'traces' };
    await eventually('the writer counts', async () => {
      return (await writer.metric('items_written_total', traces)) === 4 * SPANS;
    });
    expect(await gateway.metric('items_accepted_total', traces)).toBe(4 * SPANS);
    expect(await gateway.metric('items_written_total', traces)).toBe(0);
    expect(await writer.metric('items_accepted_total', traces)).toBe(0);
    for (const program of [gateway, writer]) {
      await eventually('an empty queue', async () => (await program.metric('queue_items', traces)) === 0);
      for (const path of ['health', 'ready', 'startup']) expect((await look(program, path)).status).toBe(200);
    }
    for (const program of [gateway, writer]) expect(await program.end()).toEqual({ code: 0, signal: null });
  });

  test('what a gateway has taken waits for the writer that comes later', async () => {
    const environment = await settings();
    const gateway = await starting('gateway', environment);
    await sendSpans(gateway, 3);
    await eventually('a queue', async () => (await gateway.metric('queue_items')) === 3 * SPANS);
    expect(await gateway.end()).toEqual({ code: 0, signal: null });
    expect((await run(['migrate', 'apply'], environment)).code).toBe(0);
    const writer = await starting('writer', environment);
    await untilStored(writer, environment.SLUICE_CLICKHOUSE_DATABASE ?? '', 3 * SPANS);
  });
});

describe('ClickHouse', () => {
  test('is away when `all` starts, then has no tables, then has them: the backlog drains', async () => {
    const [httpPort, tcpPort] = [await freePort(), await freePort()];
    const SLUICE_CLICKHOUSE_URL = `http://127.0.0.1:${httpPort}`;
    const environment = await settings({ ...RETRY_SOON, SLUICE_CLICKHOUSE_URL });
    const program = await starting('all', environment);
    await sendSpans(program, 3);
    await eventually('a try that failed', async () => {
      return (await program.metric('inserts_total', { outcome: 'later' })) > 0;
    });
    expect((await look(program, 'ready')).status).toBe(200);
    const late = await startClickHouse({ httpPort, tcpPort });
    cleanUps.push(() => late.stop());
    await untilLogged(program, /otel_traces/);
    await sendSpans(program, 3);
    expect((await run(['migrate', 'apply'], environment)).code).toBe(0);
    await eventually('all written', async () => {
      return (await program.metric('items_written_total')) === 6 * SPANS;
    }, PATIENCE_MS);
    expect(await program.metric('items_deadlettered_total')).toBe(0);
    const [row] = await late.rows<{ n: string }>(
      `SELECT count() AS n FROM ${environment.SLUICE_CLICKHOUSE_DATABASE}.otel_traces`,
    );
    expect(row?.n).toBe(String(6 * SPANS));
    expect(await program.end()).toEqual({ code: 0, signal: null });
  });

  test('refuses the password: said clearly, batches wait, and the right one drains them', async () => {
    const withPassword = (password: string) =>
      clickhouse.url.replace('http://', `http://operator:${password}@`);
    const wrong = await settings({ ...RETRY_SOON, SLUICE_CLICKHOUSE_URL: withPassword('wrong-donkey') });
    const right = { ...wrong, SLUICE_CLICKHOUSE_URL: withPassword(PASSWORD) };
    expect((await run(['migrate', 'apply'], right)).code).toBe(0);

    const migrate = await run(['migrate', 'plan'], wrong);
    expect(migrate.code).toBe(1);
    expect(migrate.stderr).toMatch(/operator.*[Aa]uthentication failed|[Aa]uthentication failed.*operator/s);
    expect(migrate.stderr).not.toContain('wrong-donkey');

    const first = await starting('all', wrong);
    await sendSpans(first, 2);
    await eventually('a try that failed', async () => {
      return (await first.metric('inserts_total', { outcome: 'later' })) > 0;
    });
    await untilLogged(first, /operator: Authentication failed/);
    expect(first.stderr()).not.toContain('wrong-donkey');
    await eventually('the books', async () => (await first.metric('queue_items')) === 2 * SPANS);
    expect(await first.metric('items_deadlettered_total')).toBe(0);
    expect(await first.end()).toEqual({ code: 0, signal: null });

    await starting('writer', right);
    const database = wrong.SLUICE_CLICKHOUSE_DATABASE;
    await eventually('all spans', async () => {
      const sql = `SELECT count() AS n FROM ${database}.otel_traces`;
      return (await clickhouse.rows<{ n: string }>(sql))[0]?.n === String(2 * SPANS);
    }, PATIENCE_MS);
  });
});

describe('Redis', () => {
  test('is away when the gateway starts: not ready, until it comes', async () => {
    const port = await freePort();
    const program = keep(
      begin('gateway', await settings({ SLUICE_REDIS_URL: `redis://127.0.0.1:${port}/0` })),
    );
    await untilLogged(program, /SLUICE_REDIS_URL/);
    expect(await look(program, 'ready')).toMatchObject({
      status: 503,
      text: expect.stringContaining('redis'),
    });
    expect((await look(program, 'startup')).status).toBe(503);
    expect((await look(program, 'health')).status).toBe(200);
    expect(isReady(program)).toBe(false);
    const late = await startRedis({ port });
    cleanUps.push(() => late.stop());
    await untilReady(program);
    await eventually('/ready', async () => (await look(program, 'ready')).status === 200);
    expect((await look(program, 'startup')).status).toBe(200);
    await sendSpans(program, 1);
    expect(await program.end()).toEqual({ code: 0, signal: null });
  });

  test('is away for good: a program that waits for it can be stopped', async () => {
    const program = keep(
      begin('all', await settings({ SLUICE_REDIS_URL: `redis://127.0.0.1:${await freePort()}` })),
    );
    await untilLogged(program, /SLUICE_REDIS_URL/);
    expect(await program.end('SIGTERM')).toEqual({ code: 0, signal: null });
  });

  test('goes and comes back: clients are told to come back meanwhile, and nothing is lost', async () => {
    const [dataDir, port] = [makeTempDir(), await freePort()];
    cleanUps.push(() => removeTempDir(dataDir));
    const before = await startRedis({ dataDir, port });
    const environment = await settings({ SLUICE_REDIS_URL: before.url });
    const program = await starting('gateway', environment);
    await sendSpans(program, 2);
    await before.stop();
    const during = await sendHttp(program.http, 'traces', tracesRequest(SPANS, 100));
    expect(during).toMatchObject({ kind: 'later', code: 503 });
    await eventually('not ready', async () => (await look(program, 'ready')).status === 503);
    const after = await startRedis({ dataDir, port });
    cleanUps.push(() => after.stop());
    await eventually('ready', async () => (await look(program, 'ready')).status === 200);
    await sendSpans(program, 2);
    await eventually('the books', async () => (await program.metric('queue_items')) === 4 * SPANS);
    expect(await program.end()).toEqual({ code: 0, signal: null });
  });

  test.each([
    ['a wrong password', ':wrong-donkey@'],
    ['an unknown user', 'nobody:wrong-donkey@'],
    ['no password', ''],
  ])('wants a password and is given %s: exit code 2', async (_, credentials) => {
    await withRedis(async ({ port, url }) => {
      await configure(url, 'requirepass', PASSWORD);
      const given = { SLUICE_REDIS_URL: `redis://${credentials}127.0.0.1:${port}/0` };
      const refused = await run(['gateway'], await settings(given));
      expect(refused.code).toBe(2);
      expect(refused.stderr).toMatch(
        new RegExp(`SLUICE_REDIS_URL: 127\\.0\\.0\\.1:${port}: .*(WRONGPASS|NOAUTH)`),
      );
      expect(refused.stderr).not.toContain('wrong-donkey');
      const right = { SLUICE_REDIS_URL: `redis://:${PASSWORD}@127.0.0.1:${port}/0` };
      const program = await starting('gateway', await settings(right));
      await sendSpans(program, 1);
      await program.end();
    });
  });

  const ALWAYS = { SLUICE_REDIS_DURABILITY: 'always' };
  test.each([
    ['appendonly', 'no', ALWAYS, /appendonly is no, but durability is always.*Wanted is yes/],
    ['appendfsync', 'everysec', ALWAYS, /appendfsync is everysec, but durability is always/],
    ['maxmemory-policy', 'allkeys-lru', {}, /maxmemory-policy is allkeys-lru.*Wanted is noeviction/],
  ])('with %s %s and %j would lose what is acknowledged: exit code 2', async (name, value, extra, words) => {
    await withRedis(async ({ url }) => {
      await configure(url, name, value);
      const refused = await run(['gateway'], await settings({ SLUICE_REDIS_URL: url, ...extra }));
      expect(refused.code).toBe(2);
      expect(refused.stderr).toMatch(words);
    });
  });

  test('without its append-only file is taken with a warning, where nobody asked for more', async () => {
    await withRedis(async ({ url }) => {
      await configure(url, 'appendonly', 'no');
      const program = await starting('gateway', await settings({ SLUICE_REDIS_URL: url }));
      await untilLogged(program, /appendonly is no.*Wanted is yes/);
      await program.end();
    });
  });
});

describe('migrate', () => {
  interface Plan {
    readonly pending: readonly { readonly name: string; readonly statements: readonly unknown[] }[];
  }
  interface Status {
    readonly migrations: readonly { readonly number: number; readonly state: string }[];
  }
  const read = async <T>(step: string, environment: Record<string, string>, code: number): Promise<T> => {
    const { stdout, stderr, code: got } = await run(['migrate', step, '--json'], environment);
    expect(got, stderr).toBe(code);
    return (JSON.parse(stdout) as [T])[0];
  };

  test('plan ends with 3 while there is something to do, apply does it, status tells, plan ends with 0', async () => {
    const environment = await settings();
    const before = await read<Plan>('plan', environment, 3);
    expect(before.pending.length).toBeGreaterThanOrEqual(3);
    expect(before.pending.some(({ statements }) => statements.length > 0)).toBe(true);
    const waiting = await read<Status>('status', environment, 0);
    expect(waiting.migrations.map(({ state }) => state)).toEqual(before.pending.map(() => 'pending'));

    const report = await read<{ applied: { name: string }[] }>('apply', environment, 0);
    expect(report.applied.map(({ name }) => name)).toEqual(before.pending.map(({ name }) => name));
    const done = await read<Status>('status', environment, 0);
    expect(done.migrations.map(({ state }) => state)).toEqual(before.pending.map(() => 'applied'));
    expect((await read<Plan>('plan', environment, 0)).pending).toEqual([]);
    expect(await read('apply', environment, 0)).toMatchObject({ applied: [] });

    const text = await run(['migrate', 'plan'], environment);
    expect(text).toMatchObject({ code: 0, stdout: expect.stringContaining('nothing to do') });
    const retention = { ...environment, SLUICE_RETENTION_DAYS_LOGS: '7' };
    const changed = await run(['migrate', 'plan'], retention);
    expect(changed).toMatchObject({ code: 3, stdout: expect.stringContaining('TTL of otel_logs') });
  });

  test('a ClickHouse that is away is a failure, not a difference', async () => {
    const away = await settings({ SLUICE_CLICKHOUSE_URL: `http://127.0.0.1:${await freePort()}` });
    for (const step of ['plan', 'apply', 'status']) {
      const { code, stderr } = await run(['migrate', step], away);
      expect([step, code]).toEqual([step, 1]);
      expect(stderr).toContain('ECONNREFUSED');
    }
  });
});
