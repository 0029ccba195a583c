/**
 * `sluice up`: what a developer's machine needs beside gateway and writer. A Redis and a ClickHouse are
 * started only where no URL of one's own is given; the tables are brought up to date in either case.
 */
import { join } from 'node:path';
import { Fault } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Loaded } from '../config/load.ts';
import type { Settings } from '../config/settings.ts';
import { openDataDir } from '../embedded/data-dir.ts';
import { startEmbeddedRedis } from '../embedded/redis.ts';
import type { EmbeddedService } from '../embedded/service.ts';
import { EMBEDDED_CLUSTER, startEmbeddedShards } from '../embedded/shards.ts';
import { adoptTables } from '../migrate/adopt.ts';
import { HOST_BEHIND } from '../migrate/apply.ts';
import { adoptionLines } from '../migrate/repair-lines.ts';
import { type MigrateContext, migrateApply } from '../migrate/run.ts';
import type { Lifecycle } from './lifecycle.ts';
import { withLockedMigrations } from './migrate.ts';

/** @returns the settings with the URLs of what was started; several ClickHouse servers are a cluster */
export async function startEmbedded(loaded: Loaded, lifecycle: Lifecycle, logger: Logger): Promise<Settings> {
  const { settings } = loaded;
  const ownRedis = isGiven(loaded, 'redis.url');
  const ownClickHouse = isGiven(loaded, 'clickhouse.urls');
  if (ownRedis && ownClickHouse) return settings;
  const { embedded, redis, clickhouse } = settings;
  const folder = openDataDir(embedded.dataDir, embedded.diskFreeBytesMin);
  lifecycle.add('data folder', async () => folder.release());
  const started = { redisUrl: redis.url, urls: clickhouse.urls, cluster: clickhouse.cluster };
  if (!ownClickHouse) {
    const services = await startEmbeddedShards({
      dataDir: folder.path,
      count: embedded.shards,
      httpPort: embedded.clickhouseHttpPort,
      tcpPort: embedded.clickhouseTcpPort,
      logger,
    });
    for (const [shard, service] of services.entries()) {
      keep(service, `embedded ClickHouse${services.length > 1 ? ` ${shard + 1}` : ''}`, lifecycle);
    }
    started.urls = services.map(({ url }) => url);
    started.cluster = services.length > 1 ? EMBEDDED_CLUSTER : '';
  }
  if (!ownRedis) {
    const service = await startEmbeddedRedis({
      dataDir: join(folder.path, 'redis'),
      port: embedded.redisPort,
      logger,
      appendfsync: redis.durability === 'always' ? 'always' : 'everysec',
    });
    keep(service, 'embedded Redis', lifecycle);
    started.redisUrl = service.url;
  }
  return {
    ...settings,
    redis: { ...redis, url: started.redisUrl },
    clickhouse: { ...clickhouse, urls: started.urls, cluster: started.cluster },
  };
}

/** @param settings what `startEmbedded` has made of those that were loaded */
export async function applyMigrations(
  loaded: Loaded,
  settings: Settings,
  version: string,
  logger: Logger,
): Promise<void> {
  const apply = async (context: MigrateContext) => {
    try {
      return await migrateApply(context);
    } catch (error) {
      const grown = error instanceof Fault && error.code === HOST_BEHIND;
      if (!grown || isGiven(loaded, 'clickhouse.urls')) throw error;
      await growShards(context, logger);
      return migrateApply(context);
    }
  };
  const reports = await withLockedMigrations(settings, version, logger, { wait: true }, apply);
  for (const { host, applied, ttlChanged } of reports) {
    const names = applied.map(({ name }) => name);
    logger.info({ host, applied: names, ttlChanged: ttlChanged.length }, 'tables are up to date');
  }
}

/**
 * Embedded servers that were fewer when they were last started: on a cluster of one's own `adopt` and
 * `repair` are for an operator to decide.
 */
async function growShards(context: MigrateContext, logger: Logger): Promise<void> {
  for (const adoption of await adoptTables(context)) {
    for (const line of adoptionLines(adoption)) logger.debug(line);
    const { host, failures, repair } = adoption;
    const [failure] = [...failures, ...(repair?.failures ?? [])];
    if (failure !== undefined) throw new Fault('grow_failed', 'never', `${host}: ${failure}`);
  }
}

function isGiven(loaded: Loaded, key: string): boolean {
  return loaded.list.some(({ definition, origin }) => definition.key === key && origin !== 'default');
}

/** Ends with the lifecycle; ending before it is a failure of the whole. */
function keep(service: EmbeddedService, name: string, lifecycle: Lifecycle): void {
  lifecycle.add(name, () => service.stop());
  service.ended.then((how) => {
    if (lifecycle.stopping) return;
    lifecycle.fail(`the ${name} (pid ${service.pid}) ended by itself: ${how}`);
  });
}
