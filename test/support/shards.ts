/**
 * Embedded ClickHouse 26.7 servers as the shards of a cluster on loopback: system.clusters, macros and
 * Distributed tables, for tests with the real schema. One replica a shard: it has no Keeper.
 */
import { clusterXml, macrosXml } from '../../src/embedded/shards.ts';
import {
  type TestClickHouse, freePort, makeTempDir, removeTempDir, startClickHouse,
} from './services.ts';

export interface Shards {
  /** The cluster's name in system.clusters. */
  readonly name: string;
  /** All of them, also those that the definition doesn't name. Read it anew after `define`. */
  readonly servers: readonly TestClickHouse[];
  /** Comma-separated, for SLUICE_CLICKHOUSE_URL; they never change. */
  readonly urls: string;
  /**
   * Gives every server another definition: the first servers, one for each weight. This server reads its
   * configuration only when it starts, so they are restarted, one after the other.
   */
  define(weights: readonly number[]): Promise<void>;
  stop(): Promise<void>;
}

export interface ShardsOptions {
  readonly name?: string;
  readonly weights?: readonly number[];
  /** Servers that run but that the definition doesn't name yet. */
  readonly spare?: number;
  /** Further elements inside `<users>` of every server. */
  readonly usersXml?: string;
}

interface Place {
  readonly dataDir: string;
  readonly httpPort: number;
  readonly tcpPort: number;
}

/** Starts `count` servers that know each other. */
export async function startShards(count: number, options: ShardsOptions = {}): Promise<Shards> {
  const { name = 'main', weights = Array(count).fill(1), spare = 0, usersXml = '' } = options;
  const places: Place[] = [];
  for (let i = 0; i < count + spare; i++) {
    places.push({ dataDir: makeTempDir(), httpPort: await freePort(), tcpPort: await freePort() });
  }
  const servers: TestClickHouse[] = [];
  const start = (index: number, definition: readonly number[]) => {
    const place = places[index] as Place;
    const ports = places.slice(0, definition.length).map(({ tcpPort }) => tcpPort);
    const configXml = clusterXml(name, ports, definition) + macrosXml(index);
    return startClickHouse({ ...place, usersXml, configXml });
  };
  const stop = async () => {
    await Promise.all(servers.map((server) => server.stop()));
    for (const { dataDir } of places) removeTempDir(dataDir);
  };
  const settled = await Promise.allSettled(places.map((_, index) => start(index, weights)));
  for (const result of settled) if (result.status === 'fulfilled') servers.push(result.value);
  const failed = settled.find((result) => result.status === 'rejected');
  if (failed !== undefined) {
    await stop();
    throw failed.reason;
  }
  return {
    name,
    servers,
    urls: servers.map(({ url }) => url).join(','),
    async define(definition) {
      for (const index of places.keys()) {
        await servers[index]?.stop();
        servers[index] = await start(index, definition);
      }
    },
    stop,
  };
}
