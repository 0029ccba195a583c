/**
 * A real ClickHouse 26.7 without an installation: the npm package chdb brings it as a library, a child
 * process of ours becomes the server (clickhouse-child.ts). For development, tests and small installations;
 * HTTP and the native protocol on loopback. It has no Keeper, no replication, no ON CLUSTER and no
 * query_log.
 */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { totalmem } from 'node:os';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ConfigurationError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { ClickHouseChild } from './clickhouse-child.ts';
import { configXml, usersXml } from './clickhouse-config.ts';
import { LOOPBACK } from './ports.ts';
import { type EmbeddedService, startService } from './service.ts';

const START_MS_MAX = 60_000;
const STOP_MS_MAX = 10_000;
const PROBE_MS_MAX = 2_000;
const GIB = 1024 ** 3;
const CHILD = fileURLToPath(new URL('./clickhouse-child.ts', import.meta.url));

export interface EmbeddedClickHouseOptions {
  /** Its own folder: data, configuration and logs. Created when missing. */
  readonly dataDir: string;
  readonly httpPort: number;
  readonly tcpPort: number;
  readonly logger: Logger;
  /** Of the whole server. Default: half of the machine's memory, 4 GiB at most. */
  readonly memoryBytesMax?: number;
  /** Further elements inside `<clickhouse>`: remote_servers, macros, storage. */
  readonly configXml?: string;
  /**
   * Further elements inside `<users>`. The user `default`, without a password, stays: the server itself
   * needs it.
   */
  readonly usersXml?: string;
}

/**
 * Starts the server and resolves when it answers `/ping`. Rows acknowledged by an earlier run in the same
 * folder are there, also after a kill -9. It ends with the process (thread) that started it.
 * @throws ConfigurationError: port taken (names the setting), platform without the library, or it didn't
 *   start (with the tail of its log).
 */
export async function startEmbeddedClickHouse(options: EmbeddedClickHouseOptions): Promise<EmbeddedService> {
  const library = libraryPath();
  const dir = resolve(options.dataDir);
  const memoryBytesMax = options.memoryBytesMax ?? Math.floor(Math.min(totalmem() / 2, 4 * GIB));
  mkdirSync(`${dir}/data`, { recursive: true });
  writeFileSync(`${dir}/config.xml`, configXml({ dir, memoryBytesMax, configXml: options.configXml ?? '' }));
  writeFileSync(`${dir}/users.xml`, usersXml(memoryBytesMax, options.usersXml ?? ''));
  const url = `http://${LOOPBACK}:${options.httpPort}`;
  const child: ClickHouseChild = {
    library,
    configFile: `${dir}/config.xml`,
    dataPath: `${dir}/data`,
    host: LOOPBACK,
    httpPort: options.httpPort,
    tcpPort: options.tcpPort,
    logLevel: 'warning',
    parentPid: process.pid,
  };
  return startService({
    name: 'ClickHouse',
    command: process.execPath,
    args: [CHILD, JSON.stringify(child)],
    dir,
    // `clickhouse local` doesn't read the configuration's <timezone>.
    environment: { TZ: 'UTC' },
    url,
    ports: [
      {
        port: options.httpPort,
        setting: 'SLUICE_EMBEDDED_CLICKHOUSE_HTTP_PORT',
        what: "the embedded ClickHouse's HTTP",
      },
      {
        port: options.tcpPort,
        setting: 'SLUICE_EMBEDDED_CLICKHOUSE_TCP_PORT',
        what: "the embedded ClickHouse's own protocol",
      },
    ],
    logFile: `${dir}/error.log`,
    probe: () => ping(url),
    startMsMax: START_MS_MAX,
    stopMsMax: STOP_MS_MAX,
    logger: options.logger,
  });
}

async function ping(url: string): Promise<boolean> {
  try {
    const answer = await fetch(`${url}/ping`, { signal: AbortSignal.timeout(PROBE_MS_MAX) });
    await answer.arrayBuffer();
    return answer.ok;
  } catch {
    return false; // nobody listens yet: startService bounds how long that may last
  }
}

/** @throws ConfigurationError where npm has installed no library for this platform. */
function libraryPath(): string {
  const flavour = process.platform === 'linux' ? '-gnu' : '';
  const name = `@chdb/lib-${process.platform}-${process.arch}${flavour}`;
  const own = createRequire(import.meta.url);
  try {
    // The library is a dependency of chdb, not ours: it is looked for from there.
    const path = createRequire(own.resolve('chdb')).resolve(`${name}/libchdb.so`);
    if (process.platform === 'linux' && existsSync(path)) return path;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw cause;
  }
  throw new ConfigurationError(
    `there is no embedded ClickHouse for ${process.platform} ${process.arch} (npm package ${name}): ` +
      'set SLUICE_CLICKHOUSE_URL to a ClickHouse server, for example http://user:password@clickhouse:8123',
  );
}
