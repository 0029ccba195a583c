/**
 * A Redis of our own, from the redis-server of the machine: append-only file, no eviction, loopback only.
 * What a request's acknowledgement means depends on these settings, so they are given here and not left to
 * a file.
 */
import { accessSync, constants, mkdirSync } from 'node:fs';
import { connect } from 'node:net';
import { delimiter, join, resolve } from 'node:path';
import { ConfigurationError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { LOOPBACK } from './ports.ts';
import { type EmbeddedService, startService } from './service.ts';

/** Loading a large append-only file takes time; 1 GiB was read in under 10 s. */
const START_MS_MAX = 120_000;
const STOP_MS_MAX = 15_000;
const PROBE_MS_MAX = 2_000;
const MIB = 1024 * 1024;
/** 80 % of it, the default bound of the queue, is 1 GiB. */
const MEMORY_BYTES_MAX = 1_280 * MIB;

export interface EmbeddedRedisOptions {
  /** Its own folder. Created when missing. */
  readonly dataDir: string;
  readonly port: number;
  readonly logger: Logger;
  /** `everysec` survives the death of the process, `always` also that of the machine. Default `everysec`. */
  readonly appendfsync?: 'everysec' | 'always';
  /** At this it refuses writes (it never evicts). Default 1,280 MiB. */
  readonly memoryBytesMax?: number;
}

/**
 * Starts the server and resolves when it answers PING, after its append-only file is loaded. It ends with
 * the process (thread) that started it where util-linux' setpriv is there; elsewhere the next start ends a
 * leftover first.
 * @throws ConfigurationError: redis-server missing, port taken (names the setting), or it didn't start.
 */
export async function startEmbeddedRedis(options: EmbeddedRedisOptions): Promise<EmbeddedService> {
  const server = findProgram('redis-server');
  if (server === undefined) {
    throw new ConfigurationError(
      'redis-server is not on the PATH: install it (Debian and Ubuntu: apt-get install redis-server), ' +
        'or set SLUICE_REDIS_URL to a Redis of your own, for example redis://127.0.0.1:6379/0',
    );
  }
  const dir = resolve(options.dataDir);
  mkdirSync(dir, { recursive: true });
  const setpriv = findProgram('setpriv');
  const mortal = setpriv === undefined ? [server] : [setpriv, '--pdeathsig', 'TERM', server];
  const [command, ...prefix] = mortal as [string, ...string[]];
  return startService({
    name: 'Redis',
    command,
    args: [...prefix, ...serverArguments(options, dir)],
    dir,
    url: `redis://${LOOPBACK}:${options.port}/0`,
    ports: [{ port: options.port, setting: 'SLUICE_EMBEDDED_REDIS_PORT', what: 'the embedded Redis' }],
    logFile: `${dir}/redis.log`,
    probe: () => ping(options.port),
    startMsMax: START_MS_MAX,
    stopMsMax: STOP_MS_MAX,
    logger: options.logger,
  });
}

function serverArguments(options: EmbeddedRedisOptions, dir: string): string[] {
  const settings: Record<string, string | number> = {
    port: options.port,
    bind: LOOPBACK,
    dir,
    logfile: 'redis.log',
    save: '',
    appendonly: 'yes',
    appendfsync: options.appendfsync ?? 'everysec',
    'maxmemory-policy': 'noeviction',
    maxmemory: options.memoryBytesMax ?? MEMORY_BYTES_MAX,
    // The data set is small and short-lived, the file grows by all that passes: rewriting it at the default
    // 64 MiB would fork every few seconds under load.
    'auto-aof-rewrite-min-size': 512 * MIB,
    'aof-load-truncated': 'yes',
    'lazyfree-lazy-user-del': 'yes',
    daemonize: 'no',
  };
  return Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]);
}

/** A bare PING, answered `-LOADING` while the append-only file is read. */
function ping(port: number): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect(port, LOOPBACK, () => socket.write('PING\r\n'));
    const end = (ready: boolean) => {
      socket.destroy();
      done(ready);
    };
    socket.setTimeout(PROBE_MS_MAX, () => end(false));
    socket.once('data', (answer) => end(answer.toString('latin1').startsWith('+PONG')));
    socket.once('error', () => end(false));
    socket.once('close', () => end(false));
  });
}

function findProgram(name: string): string | undefined {
  const folders = (process.env.PATH ?? '').split(delimiter).filter((folder) => folder !== '');
  return folders
    .map((folder) => join(folder, name))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK);
        return true;
      } catch {
        return false; // not in this folder
      }
    });
}
