/**
 * Everything of a storm that runs: two ClickHouse servers as shards, Redis, three gateways and two writers as
 * processes of bin/sluice, and a proxy on every link between them and from the clients.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { environmentFor, run } from '../../support/program.ts';
import { eventually } from '../../support/services.ts';
import { CLUSTER, StormClickHouse, placeIn } from './clickhouse.ts';
import { GATEWAYS, SHARDS, WRITERS } from './plan.ts';
import { StormProxy } from './proxy.ts';
import { type StormRedis, type Variant, startCluster, startSentinel, startStandalone } from './redis.ts';
import { Role } from './role.ts';

/**
 * Everything quicker than its default, so that a storm of a minute sees retries, sweeps and timeouts too; and
 * a window for resends that doesn't depend on the load.
 */
const PACE: Readonly<Record<string, string>> = {
  SLUICE_RESEND_WINDOW_SECONDS: '300',
  SLUICE_REDIS_TIMEOUT_MS: '2000',
  SLUICE_BATCH_ROWS_MAX: '20000',
  SLUICE_CLICKHOUSE_CLUSTER: CLUSTER,
  SLUICE_CLICKHOUSE_WATCH_MS: '1000',
  SLUICE_CLICKHOUSE_HEALTH_CHECK_MS: '500',
  SLUICE_CLICKHOUSE_REPLICA_RETURN_MS: '500',
  SLUICE_CLICKHOUSE_INSERT_TIMEOUT_MS: '6000',
  SLUICE_CLICKHOUSE_QUERY_TIMEOUT_MS: '3000',
  SLUICE_WRITE_RETRY_MS_MIN: '100',
  SLUICE_WRITE_RETRY_MS_MAX: '2000',
  SLUICE_WRITE_SWEEP_MS: '500',
  // Not `auto`: a role that starts while Redis' memory is made small would take that for its bound.
  SLUICE_QUEUE_BYTES_MAX: '512MiB',
  SLUICE_DRAIN_MS_MAX: '10000',
};

const START_MS_MAX = 90_000;

/** The two data ports of a gateway, behind their proxies. */
export interface Front {
  readonly http: StormProxy;
  readonly grpc: StormProxy;
}

export interface World {
  readonly dir: string;
  readonly redis: StormRedis;
  readonly clickhouse: readonly StormClickHouse[];
  /** By name; gateways first. */
  readonly roles: ReadonlyMap<string, Role>;
  readonly fronts: readonly Front[];
  /** By the names of plan.ts. */
  readonly links: ReadonlyMap<string, StormProxy>;
  readonly redisLinks: boolean;
  stop(): Promise<void>;
}

export interface WorldOptions {
  /** An empty folder; the caller removes it. Data and logs go there. */
  readonly dir: string;
  readonly variant: Variant;
  readonly incident: (text: string) => void;
  /** Settings of all roles that win over those of the storm. */
  readonly extra?: Readonly<Record<string, string>>;
}

/** Resolves when the tables are made and every role has started. */
export async function startWorld(options: WorldOptions): Promise<World> {
  const stops: (() => Promise<unknown>)[] = [];
  const stop = async () => {
    for (const step of stops.splice(0).reverse()) await step();
  };
  try {
    return { ...(await build(options, stops)), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function build(options: WorldOptions, stops: (() => Promise<unknown>)[]): Promise<Omit<World, 'stop'>> {
  const { dir, variant, incident, extra = {} } = options;
  const logs = join(dir, 'logs');
  mkdirSync(logs, { recursive: true });
  const clickhouse = await startShards(dir, stops);
  const redis = await startRedis(variant, join(dir, 'redis'));
  stops.push(() => redis.stop());
  const links = new Map<string, StormProxy>();
  stops.push(async () => await Promise.all([...links.values()].map((link) => link.stop())));
  const link = async (name: string, port: number) => {
    const proxy = await StormProxy.start(port);
    links.set(name, proxy);
    return proxy;
  };
  const addresses = clickhouse.map(({ place, url }) => [`127.0.0.1:${place.tcpPort}`, url] as const);
  const roles = new Map<string, Role>();
  let redisLinks = false;
  const environmentOf = async (name: string, through: boolean) => {
    const toRedis = await redis.linkFor(name);
    if (toRedis.link !== undefined) {
      links.set(`${name}>redis`, toRedis.link);
      redisLinks = true;
    }
    const reached: (readonly [string, string])[] = [];
    for (const [shard, [host, url]] of addresses.entries()) {
      const port = (clickhouse[shard] as StormClickHouse).place.httpPort;
      if (!through) reached.push([host, url]);
      else reached.push([host, `http://127.0.0.1:${(await link(`${name}>clickhouse-${shard}`, port)).port}`]);
    }
    return environmentFor(join(dir, name), {
      ...PACE,
      ...toRedis.environment,
      SLUICE_CLICKHOUSE_URL: reached.map(([, url]) => url).join(','),
      SLUICE_CLICKHOUSE_ADDRESSES: reached.map(([host, url]) => `${host}=${url}`).join(','),
      ...extra,
    });
  };
  const add = (name: string, role: 'gateway' | 'writer', environment: Record<string, string>) => {
    roles.set(name, new Role({ name, role, environment, dir: logs, incident }));
  };
  const fronts: Front[] = [];
  for (let n = 0; n < GATEWAYS; n++) {
    const environment = await environmentOf(`gateway-${n}`, false);
    const http = await link(`http>gateway-${n}`, portOf(environment.SLUICE_HTTP_ADDR));
    const grpc = await link(`grpc>gateway-${n}`, portOf(environment.SLUICE_GRPC_ADDR));
    fronts.push({ http, grpc });
    add(`gateway-${n}`, 'gateway', environment);
    if (n === 0) await migrate(environment);
  }
  for (let n = 0; n < WRITERS; n++) add(`writer-${n}`, 'writer', await environmentOf(`writer-${n}`, true));
  stops.push(async () => await Promise.all([...roles.values()].map((role) => role.end('SIGKILL'))));
  // Unlike the servers, roles don't end with whoever has started them.
  const orphaned = () => [...roles.values()].forEach((role) => void role.end('SIGKILL'));
  process.once('exit', orphaned);
  stops.push(async () => process.off('exit', orphaned));
  for (const role of roles.values()) role.start();
  await allStarted(roles);
  return { dir, redis, clickhouse, roles, fronts, links, redisLinks };
}

async function startShards(dir: string, stops: (() => Promise<unknown>)[]): Promise<StormClickHouse[]> {
  const names = Array.from({ length: SHARDS }, (_, shard) => join(dir, `clickhouse-${shard}`));
  const places = await Promise.all(names.map(placeIn));
  const servers = places.map((_, shard) => new StormClickHouse(places, shard));
  stops.push(async () => await Promise.all(servers.map((server) => server.stop())));
  await Promise.all(servers.map((server) => server.start()));
  return servers;
}

function startRedis(variant: Variant, dataDir: string): Promise<StormRedis> {
  if (variant === 'sentinel') return startSentinel();
  return variant === 'cluster' ? startCluster() : startStandalone(dataDir);
}

async function migrate(environment: Readonly<Record<string, string>>): Promise<void> {
  const { code, stdout, stderr } = await run(['migrate', 'apply'], environment);
  if (code !== 0) throw new Error(`the tables could not be made:\n${stdout}\n${stderr}`);
}

/** @throws Error naming those that haven't */
export async function allStarted(roles: ReadonlyMap<string, Role>, msMax = START_MS_MAX): Promise<void> {
  for (const role of roles.values()) {
    await eventually(`${role.name} is up, see its log`, () => role.isStarted(), msMax);
  }
}

function portOf(address = ''): number {
  return Number(address.split(':').at(-1));
}
