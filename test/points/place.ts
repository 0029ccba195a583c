/**
 * Where the tests of the points happen: a Redis and a ClickHouse (or the shards of a cluster) for a file, and
 * in it scenes: gateways and writers as processes of their own, each behind proxies of its own.
 */
import { Redis } from 'ioredis';
import { afterAll, beforeAll, test } from 'vitest';
import { run } from '../support/program.ts';
import {
  type TestRedis, freePort, makeTempDir, removeTempDir, startClickHouse, startRedis,
} from '../support/services.ts';
import { type Shards, startShards } from '../support/shards.ts';
import { allTexts } from './redis-proxy.ts';
import { Scene } from './scene.ts';

/** A ClickHouse server as roles are told of it. */
export interface Host {
  readonly httpPort: number;
  readonly tcpPort: number;
}

export interface Place {
  readonly redisPort: number;
  readonly hosts: readonly Host[];
  /** Empty for a single server. */
  readonly cluster: string;
  /** A scene with a database of Redis for itself; the caller ends it. */
  open(): Scene;
  /** A test with a scene of its own. */
  readonly story: Point;
  /** kill -9, and a new one on the same data and port. */
  restartRedis(): Promise<void>;
  restartClickHouse(): Promise<void>;
  rows<Row>(sql: string): Promise<Row[]>;
  /** Changes a table of a single server. */
  alter(sql: string): Promise<unknown>;
}

/** A test of one point. */
export type Point = (name: string, body: (scene: Scene) => Promise<void>) => void;

/**
 * One scene for all points of a file, with roles that stay; each point starts those that it kills. Whatever
 * it does, its requests have to be there once in the end.
 * @param cast starts the roles that stay
 */
export function usePoints(place: Place, cast: (scene: Scene) => Promise<void>): Point {
  let scene: Scene | undefined;
  beforeAll(async () => {
    scene = place.open();
    await cast(scene);
  }, STORY_MS_MAX);
  afterAll(() => scene?.end());
  return (name, body) => {
    test(name, { timeout: STORY_MS_MAX }, async () => {
      const there = given(scene);
      await there.turnPage();
      await body(there);
      await there.expectExactlyOnce();
    });
  };
}

/** They take a few seconds; a machine that does much else may take long to start processes, one after another. */
export const STORY_MS_MAX = 240_000;
/** As many as Redis has by default. */
const DATABASES = 16;

/** @param shards servers of a cluster; 0 for one server that knows none */
export function usePlace(shards = 0): Place {
  const redisDir = makeTempDir();
  const ports = { redis: 0 };
  const running: { redis?: TestRedis; one?: One; shards?: Shards } = {};
  let database = 0;

  const launchRedis = async () => {
    running.redis = await startRedis({ dataDir: redisDir, port: ports.redis });
  };
  beforeAll(async () => {
    ports.redis = await freePort();
    const clickhouse = shards > 0 ? startShards(shards) : startOne();
    const [found] = await Promise.all([clickhouse, launchRedis()]);
    if ('define' in found) running.shards = found;
    else running.one = found;
    await migrate(place);
    await loadScripts(ports.redis);
  }, STORY_MS_MAX);
  afterAll(async () => {
    await Promise.all([running.redis?.stop(), running.one?.stop(), running.shards?.stop()]);
    removeTempDir(redisDir);
  });

  const place: Place = {
    get redisPort() {
      return ports.redis;
    },
    get hosts() {
      return running.shards?.servers ?? [given(running.one).host];
    },
    get cluster() {
      return running.shards?.name ?? '';
    },
    open() {
      if (database >= DATABASES) throw new Error(`Redis has ${DATABASES} databases: a scene is too many`);
      return new Scene(place, database++);
    },
    story(name, body) {
      test(name, { timeout: STORY_MS_MAX }, async () => {
        const scene = place.open();
        try {
          await body(scene);
        } finally {
          await scene.end();
        }
      });
    },
    async restartRedis() {
      await killed(given(running.redis));
      await launchRedis();
      await loadScripts(ports.redis);
    },
    async restartClickHouse() {
      await given(running.one).restart();
    },
    alter(sql) {
      return given(running.one).server().query(sql);
    },
    rows(sql) {
      const [server] = running.shards?.servers ?? [given(running.one).server()];
      return given(server).rows(sql);
    },
  };
  return place;
}

type One = Awaited<ReturnType<typeof startOne>>;

async function startOne() {
  const dataDir = makeTempDir();
  const host = { httpPort: await freePort(), tcpPort: await freePort() };
  let server = await startClickHouse({ dataDir, ...host });
  return {
    host,
    server: () => server,
    async restart() {
      await killed(server);
      server = await startClickHouse({ dataDir, ...host });
    },
    async stop() {
      await server.stop();
      removeTempDir(dataDir);
    },
  };
}

/** `stop` finds it gone then, and removes what it had written down about it. */
async function killed(service: { pid: number; ended: Promise<string>; stop(): Promise<void> }): Promise<void> {
  process.kill(service.pid, 'SIGKILL');
  await service.ended;
  await service.stop();
}

async function migrate({ hosts, cluster, redisPort }: Place): Promise<void> {
  const { code, stderr } = await run(['migrate', 'apply'], {
    SLUICE_CLICKHOUSE_URL: hosts.map(({ httpPort }) => `http://127.0.0.1:${httpPort}`).join(','),
    SLUICE_CLICKHOUSE_CLUSTER: cluster,
    SLUICE_REDIS_URL: `redis://127.0.0.1:${redisPort}/0`,
    SLUICE_RETENTION_DAYS_TRACES: '0',
  });
  if (code !== 0) throw new Error(`the tables could not be made: ${stderr}`);
}

/** So that no role has to send a text first, and the stops are at the runs that count. */
async function loadScripts(port: number): Promise<void> {
  const redis = new Redis({ port, host: '127.0.0.1' });
  for (const text of await allTexts()) await redis.script('LOAD', text);
  redis.disconnect();
}

function given<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('services run only while the tests do');
  return value;
}
