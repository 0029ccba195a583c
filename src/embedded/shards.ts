/**
 * Several embedded ClickHouse servers as the shards of one cluster: what a sharded installation looks like,
 * on one machine. One replica a shard, since the embedded server knows no Keeper.
 */
import { join } from 'node:path';
import type { Logger } from '../base/log.ts';
import { startEmbeddedClickHouse } from './clickhouse.ts';
import type { EmbeddedService } from './service.ts';

/** Its name in system.clusters. */
export const EMBEDDED_CLUSTER = 'sluice';

export interface EmbeddedShardsOptions {
  /** The first server's data is in `clickhouse` of it, the others' in `clickhouse-2` and so on. */
  readonly dataDir: string;
  readonly count: number;
  /** Of the first server; those of the others follow one by one. */
  readonly httpPort: number;
  readonly tcpPort: number;
  readonly logger: Logger;
}

/**
 * Starts them, shard by shard; whatever was started is stopped again when one of them fails.
 * @throws ConfigurationError as startEmbeddedClickHouse
 */
export async function startEmbeddedShards(options: EmbeddedShardsOptions): Promise<EmbeddedService[]> {
  const { dataDir, count, httpPort, tcpPort, logger } = options;
  const ports = Array.from({ length: count }, (_, shard) => tcpPort + shard);
  const definition = clusterXml(EMBEDDED_CLUSTER, ports);
  const services: EmbeddedService[] = [];
  try {
    for (const [shard, port] of ports.entries()) {
      const service = await startEmbeddedClickHouse({
        dataDir: join(dataDir, shard === 0 ? 'clickhouse' : `clickhouse-${shard + 1}`),
        httpPort: httpPort + shard,
        tcpPort: port,
        configXml: count === 1 ? '' : definition + macrosXml(shard),
        logger,
      });
      services.push(service);
    }
  } catch (error) {
    await Promise.all(services.map((service) => service.stop()));
    throw error;
  }
  return services;
}

/** The definition of a cluster: a shard of one server on loopback for each port of the native protocol. */
export function clusterXml(
  name: string,
  tcpPorts: readonly number[],
  weights: readonly number[] = [],
): string {
  const shards = tcpPorts.map((port, shard) => {
    const replica = `<replica><host>127.0.0.1</host><port>${port}</port></replica>`;
    const rules = `<weight>${weights[shard] ?? 1}</weight><internal_replication>true</internal_replication>`;
    return `<shard>${rules}${replica}</shard>`;
  });
  return `<remote_servers><${name}>${shards.join('')}</${name}></remote_servers>`;
}

/** What the server of a shard (from 0) calls itself. */
export function macrosXml(shard: number): string {
  return `<macros><shard>${String(shard + 1).padStart(2, '0')}</shard><replica>r1</replica></macros>`;
}
