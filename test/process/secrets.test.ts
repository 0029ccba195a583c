/**
 * Goal: no secret leaves the program but where it belongs. Every setting that may hold one has one of its own here, and
 * all that the program prints, logs, answers and measures is searched for each, also while things fail.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hashToken } from '../../src/admit/tokens.ts';
import { DEFINITIONS } from '../../src/config/definitions.ts';
import { RedisServer } from '../redis/server.ts';
import { GrpcClient, sendHttp } from '../support/clients.ts';
import { type Program, begin, environmentFor, run, start } from '../support/program.ts';
import { tracesRequest } from '../support/requests.ts';
import { eventually, makeTempDir, removeTempDir } from '../support/services.ts';
import { type Shards, startShards } from '../support/shards.ts';

const MS_MAX = 240_000;
const SECRETS = new Map<string, string>();

/** A secret that is found in whatever form: as it is, and in the headers of HTTP. */
function plant(name: string, user = ''): string {
  const secret = `${randomBytes(9).toString('hex')}`;
  SECRETS.set(name, secret);
  if (user !== '') SECRETS.set(`${name} as a header`, btoa(`${user}:${secret}`).replace(/=+$/, ''));
  return secret;
}

const REDIS = plant('redis.url');
const SENTINEL = plant('redis.sentinelPassword');
const FIRST = plant('clickhouse.urls', 'first');
const MAPPED = plant('clickhouse.addresses', 'mapped');
/** For what is refused because of its secret. */
const WRONG = plant('a wrong password', 'first');
const token = (name: string) => {
  const text = `slc_${plant(name)}${plant(`${name}, its end`)}`;
  SECRETS.set(`${name}, its hash`, hashToken(text).slice('sha256:'.length));
  return text;
};
const ADMIN = token('admin.tokens');
const TENANT = token('tenants.list');
const UNKNOWN = token('a token that nobody knows');

/** The names of the secrets in it, which should be none. */
function found(text: string): string[] {
  return [...SECRETS].filter(([, secret]) => text.includes(secret)).map(([name]) => name);
}

let redis: RedisServer;
let shards: Shards;
let dir = '';
let settings: Record<string, string> = {};

const user = (name: string, password: string) =>
  `<${name}><password>${password}</password><networks><ip>127.0.0.1</ip></networks>
    <profile>default</profile><quota>default</quota><access_management>1</access_management></${name}>`;

beforeAll(async () => {
  dir = makeTempDir();
  redis = await RedisServer.start('--requirepass', REDIS);
  shards = await startShards(1, { usersXml: user('first', FIRST) + user('mapped', MAPPED) });
  const [server] = shards.servers;
  settings = await environmentFor(dir, {
    SLUICE_REDIS_URL: `redis://:${REDIS}@127.0.0.1:${redis.port}/0`,
    SLUICE_REDIS_SENTINEL_PASSWORD: SENTINEL,
    SLUICE_CLICKHOUSE_URL: `http://first:${FIRST}@127.0.0.1:${server?.httpPort}`,
    SLUICE_CLICKHOUSE_CLUSTER: shards.name,
    SLUICE_CLICKHOUSE_ADDRESSES:
      `127.0.0.1:${server?.tcpPort}=http://mapped:${MAPPED}@127.0.0.1:${server?.httpPort}`,
    SLUICE_ADMIN_TOKENS: hashToken(ADMIN),
    SLUICE_TENANTS: JSON.stringify([{ name: 'shop', tokens: [hashToken(TENANT)] }]),
    SLUICE_CLICKHOUSE_HEALTH_CHECK_MS: '500',
    SLUICE_BATCH_AGE_MS_MAX: '50',
    SLUICE_WRITE_RETRY_MS_MIN: '50',
    SLUICE_WRITE_RETRY_MS_MAX: '200',
    SLUICE_LOG_LEVEL: 'trace',
    SLUICE_LOG_FORMAT: 'json',
  });
}, MS_MAX);
afterAll(async () => {
  await shards?.stop();
  await redis?.remove();
  removeTempDir(dir);
});

test('every setting that may hold a secret has one here', () => {
  const holding = DEFINITIONS.filter(({ kind }) => kind.holdsSecret).map(({ key }) => key);
  expect(holding.filter((key) => !SECRETS.has(key))).toEqual([]);
  const texts = Object.entries(settings).filter(([, value]) => found(value).length > 0);
  const names = DEFINITIONS.filter(({ kind }) => kind.holdsSecret).map(({ env }) => env);
  expect(texts.map(([name]) => name).sort()).toEqual(names.toSorted());
});

describe('commands', () => {
  beforeAll(async () => {
    const { code, stdout, stderr } = await run(['migrate', 'apply'], settings);
    expect([code, found(stdout + stderr)], stderr).toEqual([0, []]);
  }, MS_MAX);

  test.each([
    [['config', 'print'], 0],
    [['migrate', 'plan'], 0],
    [['migrate', 'grants'], 0],
    [['topology', 'show'], 0],
    [['deadletters', 'list'], 0],
    [['deadletters', 'show', 'nobody'], 1],
  ] as const)('%j', async (args, expected) => {
    const runs = await Promise.all([run(args, settings), run([...args, '--json'], settings)]);
    for (const { code, stdout, stderr } of runs) {
      expect(found(stdout + stderr)).toEqual([]);
      expect(code, stderr).toBe(expected);
    }
  }, MS_MAX);

  const wrongRedis = () => ({ SLUICE_REDIS_URL: `redis://:${WRONG}@127.0.0.1:${redis.port}/0` });
  const wrongClickHouse = () => ({
    SLUICE_CLICKHOUSE_ADDRESSES: '',
    SLUICE_CLICKHOUSE_URL: `http://first:${WRONG}@127.0.0.1:${shards.servers[0]?.httpPort}`,
  });
  test.each<[string, string[], () => Record<string, string>, number]>([
    ['gateway, a wrong password of Redis', ['gateway'], wrongRedis, 2],
    ['gateway, a password that is not encoded', ['gateway'], () => ({ SLUICE_REDIS_URL: `redis://:${WRONG}/%@h/0` }), 2],
    ['gateway, parameters', ['gateway'], () => ({ SLUICE_REDIS_URL: `redis://h/0?password=${WRONG}` }), 2],
    ['migrate, a wrong password of ClickHouse', ['migrate', 'plan'], wrongClickHouse, 1],
    ['topology, a wrong password of ClickHouse', ['topology', 'check'], wrongClickHouse, 3],
    ['migrate, a password that is not encoded', ['migrate', 'plan'],
      () => ({ SLUICE_CLICKHOUSE_URL: `http://first:%zz${WRONG}@127.0.0.1:1`, SLUICE_CLICKHOUSE_CLUSTER: '' }), 2],
    ['migrate, a password in parameters', ['migrate', 'plan'],
      () => ({ SLUICE_CLICKHOUSE_URL: `http://127.0.0.1:1/?password=${WRONG}`, SLUICE_CLICKHOUSE_CLUSTER: '' }), 2],
    ['migrate, nobody there', ['migrate', 'plan'],
      () => ({ SLUICE_CLICKHOUSE_URL: `http://first:${WRONG}@127.0.0.1:1`, SLUICE_CLICKHOUSE_CLUSTER: '' }), 1],
    ['topology, a mapping of nobody', ['topology', 'check'],
      () => ({ SLUICE_CLICKHOUSE_ADDRESSES: `nobody:9000=http://mapped:${WRONG}@127.0.0.1:1` }), 0],
    ['config, a token in the place of its hash', ['config', 'check'], () => ({ SLUICE_ADMIN_TOKENS: ADMIN }), 2],
    ['config, a tenant with the same', ['config', 'check'],
      () => ({ SLUICE_TENANTS: JSON.stringify([{ name: 'shop', tokens: [TENANT] }]) }), 2],
  ])('%s', async (_, args, wrong, expected) => {
    const { code, stdout, stderr } = await run(args, { ...settings, ...wrong() });
    expect(found(stdout + stderr)).toEqual([]);
    expect(code, stdout + stderr).toBe(expected);
  }, MS_MAX);

  test('a file that is no YAML, with all of them in it', async () => {
    const path = join(dir, 'broken.yaml');
    const lines = [...SECRETS.values()].map((secret) => `  url: "redis://:${secret}@h`);
    writeFileSync(path, `redis:\n${lines.join('\n')}`);
    const { code, stderr } = await run(['config', 'check'], { SLUICE_CONFIG: path });
    expect([code, found(stderr)]).toEqual([2, []]);
  });
});

/** It goes on like this for good. */
const untilItWaits = (program: Program) =>
  eventually('a word about Redis', () => /waiting for Redis|SLUICE_REDIS/.test(program.stderr()), 60_000);

test('an error that nobody has caught, with a password hanging on it', { timeout: MS_MAX }, async () => {
  const path = join(dir, 'throws.mjs');
  const error = `Object.assign(new Error('uncaught'), { command: { name: 'auth', args: [process.env.PLANTED] } })`;
  writeFileSync(path, `if (process.env.PLANTED) process.once('SIGUSR2', () => { throw ${error} })`);
  const program = begin('gateway', {
    ...settings,
    SLUICE_REDIS_URL: 'redis://127.0.0.1:1',
    NODE_OPTIONS: `--import=file://${path}`,
    PLANTED: WRONG,
  });
  try {
    await untilItWaits(program);
    const { code } = await program.end('SIGUSR2');
    expect([code, found(program.stdout() + program.stderr())]).toEqual([1, []]);
    expect(program.stderr()).toMatch(/Error: uncaught\n +at /);
  } finally {
    await program.end('SIGKILL');
  }
});

async function lookAt(program: Program, path: string): Promise<string> {
  const reply = await fetch(`${program.admin}${path}`, { headers: { authorization: `Bearer ${UNKNOWN}` } });
  return `${JSON.stringify([...reply.headers])}${await reply.text()}`;
}

test('sentinels that nobody answers for', { timeout: MS_MAX }, async () => {
  const program = begin('gateway', {
    ...settings,
    SLUICE_REDIS_URL: `redis+sentinel://:${REDIS}@127.0.0.1:${redis.port},127.0.0.1:1/main`,
    ...(await environmentFor(dir, { SLUICE_LOG_LEVEL: 'trace', SLUICE_LOG_FORMAT: 'json' })),
  });
  try {
    await untilItWaits(program);
  } finally {
    await program.end('SIGKILL');
  }
  expect(found(program.stdout() + program.stderr())).toEqual([]);
});

test('a run in which everything happens', { timeout: MS_MAX }, async () => {
  const program = await start('all', settings);
  const answers: string[] = [];
  const send = async (headers: Record<string, string>, body: Uint8Array = tracesRequest(3)) => {
    const answer = await sendHttp(program.http, 'traces', body, { headers });
    answers.push(JSON.stringify(answer));
    return answer.kind;
  };
  const grpc = new GrpcClient(program.grpcPort);
  try {
    const shown = { authorization: `Bearer ${TENANT}`, 'x-request-id': 'a request' };
    expect(await send(shown)).toBe('accept');
    await eventually('an insert', async () => (await program.metric('items_written_total')) > 0);
    await send({ authorization: `Bearer ${UNKNOWN}` });
    await send({ 'x-api-key': UNKNOWN });
    await send({ ...shown, 'x-api-key': UNKNOWN });
    await send(shown, Buffer.from('not protobuf'));
    answers.push(JSON.stringify(await grpc.send('traces', tracesRequest(1), { authorization: `Bearer ${UNKNOWN}` })));
    answers.push(JSON.stringify(await grpc.send('traces', Buffer.from('not protobuf'), shown)));
    for (const path of ['/metrics', '/ready', '/health', '/startup', '/batches/nobody', '/nowhere']) {
      answers.push(await lookAt(program, path));
    }
    const written = await program.metric('items_written_total');
    await shards.servers[0]?.stop();
    expect(await send(shown)).toBe('accept');
    const failed = () => /insert/.test(program.stderr()) && /refused/i.test(program.stderr());
    await eventually('a failed insert', failed, 40_000);
    await eventually('a paused shard', async () => (await program.metric('writes_paused')) > 0, 40_000);
    answers.push(await lookAt(program, '/metrics'), await lookAt(program, '/ready'));
    expect(await program.metric('items_written_total')).toBe(written);
    await redis.kill();
    await eventually('Redis away', async () => (await program.metric('redis_up')) === 0);
    await send(shown);
    answers.push(await lookAt(program, '/metrics'), await lookAt(program, '/ready'));
    process.kill(program.pid, 'SIGHUP');
    await eventually('a reload', async () => {
      return (await program.metric('config_reloads_total', { outcome: 'unchanged' })) > 0;
    });
    await redis.up();
    await eventually('Redis back', async () => (await program.metric('redis_up')) === 1, 40_000);
    // Another password than the one that the program knows.
    const client = new Redis(`redis://:${REDIS}@127.0.0.1:${redis.port}`);
    await client.config('SET', 'requirepass', WRONG);
    await client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    await eventually('a refusal', () => /WRONGPASS/.test(program.stderr()));
    await send(shown);
    await client.config('SET', 'requirepass', REDIS);
    client.disconnect();
    await eventually('Redis back again', async () => (await program.metric('redis_up')) === 1);
  } finally {
    grpc.close();
    await program.end();
  }
  for (const answer of answers) expect(found(answer)).toEqual([]);
  expect(found(program.stdout())).toEqual([]);
  const leaking = program.stderr().split('\n').filter((line) => found(line).length > 0);
  expect(leaking).toEqual([]);
});
