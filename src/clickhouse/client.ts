/**
 * Connections to ClickHouse servers: @clickhouse/client over HTTP with keep-alive.
 * In: URLs and SQL. Out: rows, and what a server is and knows. Every error leaves as a Fault (codes.ts).
 */
import { readFileSync } from 'node:fs';
import { Agent } from 'node:https';
import {
  type ClickHouseClient,
  ClickHouseLogLevel,
  type ClickHouseSettings,
  type ErrorLogParams,
  type LogParams,
  type Logger as ClientLogger,
  type WarnLogParams,
  createClient,
} from '@clickhouse/client';
import { ConfigurationError, Fault, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { hidePassword } from '../config/kinds.ts';
import type { Settings } from '../config/settings.ts';
import { classify } from './codes.ts';

/** How a server is entered, beside its URL: bounds in time, and files of TLS for URLs with https. */
export interface ClickHouseAccess
  extends Pick<Settings['clickhouse'], 'insertTimeoutMs' | 'queryTimeoutMs'> {
  /** PEM files; empty: the system's authorities, no certificate of our own. */
  readonly tlsCaFile?: string;
  readonly tlsCertFile?: string;
  readonly tlsKeyFile?: string;
}

/** One server. The client is for `write`, which streams bodies; all others use `query` and `command`. */
export interface ClickHouse {
  readonly client: ClickHouseClient;
  /** `host:port`, for messages and labels. */
  readonly host: string;
  readonly queryTimeoutMs: number;
}

export interface ServerInfo {
  readonly version: { readonly major: number; readonly minor: number; readonly patch: number };
  readonly timezone: string;
  hasSetting(name: string): boolean;
  hasMergeTreeSetting(name: string): boolean;
}

/** Below the server's keep_alive_timeout (3 s before 23.11): a socket that it closes first fails a call. */
const IDLE_SOCKET_MS = 2500;
/** Slower than any timeout of a call, so that those, which name what they waited for, come first. */
const SOCKET_GRACE_MS = 5000;
const CONNECTIONS_MAX = 16;
/** Otherwise a server may answer 200 first and append its error to the body, where nobody looks. */
const WHOLE_ANSWER = { wait_end_of_query: 1 } as const;

/**
 * A client for the server at `url`; connects at the first call.
 * @param url `http(s)://user:password@host:port`, user and password percent-encoded; a path is kept
 * @throws ConfigurationError when the URL or a file of TLS can't be used
 */
export function createClickHouse(
  url: string,
  access: ClickHouseAccess,
  logger: Logger,
  connectionsMax = CONNECTIONS_MAX,
): ClickHouse {
  const { origin, host, pathname, username, password } = parseClickHouseUrl(url);
  const http_agent = origin.startsWith('https:') ? agentOf(access, connectionsMax) : undefined;
  const client = createClient({
    ...(http_agent === undefined ? {} : { http_agent }),
    url: origin,
    pathname,
    username,
    password,
    application: 'sluice',
    max_open_connections: connectionsMax,
    request_timeout: Math.max(access.insertTimeoutMs, access.queryTimeoutMs) + SOCKET_GRACE_MS,
    // Bodies are compressed already, answers are small.
    compression: { request: false, response: false },
    keep_alive: { enabled: true, idle_socket_ttl: IDLE_SOCKET_MS, eagerly_destroy_stale_sockets: true },
    log: {
      LoggerClass: bridgeTo(logger),
      level: logger.isLevelEnabled('debug') ? ClickHouseLogLevel.WARN : ClickHouseLogLevel.OFF,
    },
  });
  return { client, host, queryTimeoutMs: access.queryTimeoutMs };
}

/**
 * Read anew for each client; undefined leaves everything to the system. An agent of ours, since the client's
 * own option for a certificate means that nobody has a password.
 */
function agentOf(access: ClickHouseAccess, maxSockets: number): Agent | undefined {
  const { tlsCaFile = '', tlsCertFile = '', tlsKeyFile = '' } = access;
  if ((tlsCertFile === '') !== (tlsKeyFile === '')) {
    throw new ConfigurationError(
      'SLUICE_CLICKHOUSE_TLS_CERT_FILE and SLUICE_CLICKHOUSE_TLS_KEY_FILE belong together: one is empty',
    );
  }
  if (tlsCaFile === '' && tlsCertFile === '') return undefined;
  return new Agent({
    keepAlive: true,
    maxSockets,
    ...(tlsCaFile === '' ? {} : { ca: read('TLS_CA_FILE', tlsCaFile) }),
    ...(tlsCertFile === '' ? {} : { cert: read('TLS_CERT_FILE', tlsCertFile) }),
    ...(tlsKeyFile === '' ? {} : { key: read('TLS_KEY_FILE', tlsKeyFile) }),
  });
}

function read(setting: string, file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    const why = messageOf(error);
    throw new ConfigurationError(`SLUICE_CLICKHOUSE_${setting} is ${file}, which can't be read: ${why}`);
  }
}

export interface ParsedUrl {
  readonly origin: string;
  readonly host: string;
  /** Empty where there is none. */
  readonly pathname: string;
  readonly username: string;
  readonly password: string;
}

/** @throws ConfigurationError that names the URL, without its password, and what is wanted */
export function parseClickHouseUrl(url: string): ParsedUrl {
  const refuse = (why: string) =>
    new ConfigurationError(
      `clickhouse.urls: ${hidePassword(url)} ${why}; wanted: http(s)://user:password@host:port, ` +
        'for example http://sluice:p%40ss@127.0.0.1:8123',
    );
  const parsed = URL.parse(url);
  if (!parsed || !['http:', 'https:'].includes(parsed.protocol)) throw refuse('is no http(s) URL');
  if (parsed.search !== '') throw refuse('has parameters after "?", which are not taken from a URL');
  const port = parsed.port || (parsed.protocol === 'https:' ? '443' : '80');
  try {
    return {
      origin: parsed.origin,
      host: `${parsed.hostname}:${port}`,
      pathname: parsed.pathname.replace(/\/+$/, ''),
      username: decodeURIComponent(parsed.username) || 'default',
      password: decodeURIComponent(parsed.password),
    };
  } catch (error) {
    if (error instanceof URIError) throw refuse('has a "%" in user or password that should be written %25');
    throw error;
  }
}

/**
 * Runs a query and gives all its rows as objects, keyed by column. 64-bit integers come as strings, whatever
 * the server's version. Not for results without bound: they are held in memory.
 * @throws Fault
 */
export async function query<Row>(
  server: ClickHouse,
  sql: string,
  settings: ClickHouseSettings = {},
  timeoutMs = server.queryTimeoutMs,
): Promise<Row[]> {
  return bounded(server, timeoutMs, undefined, async (abort_signal) => {
    const result = await server.client.query({
      query: sql,
      format: 'JSONEachRow',
      clickhouse_settings: { ...WHOLE_ANSWER, output_format_json_quote_64bit_integers: 1, ...settings },
      abort_signal,
    });
    return result.json<Row>();
  });
}

/**
 * Runs a statement that has no result, like DDL. Resolves when the server has finished it.
 * @throws Fault
 */
export async function command(
  server: ClickHouse,
  sql: string,
  settings: ClickHouseSettings = {},
  timeoutMs = server.queryTimeoutMs,
): Promise<void> {
  await bounded(server, timeoutMs, undefined, (abort_signal) =>
    server.client.command({
      query: sql,
      clickhouse_settings: { ...WHOLE_ANSWER, ...settings },
      abort_signal,
    }),
  );
}

/** What the server is and which settings it knows. Proves user and password, unlike a ping. @throws Fault */
export async function probe(server: ClickHouse): Promise<ServerInfo> {
  const names = (table: string) => query<{ name: string }>(server, `SELECT name FROM system.${table}`);
  const about = await query<{ version: string; timezone: string }>(
    server,
    'SELECT version() AS version, timezone() AS timezone',
  );
  const [settings, mergeTreeSettings] = await Promise.all([names('settings'), names('merge_tree_settings')]);
  const known = new Set(settings.map((row) => row.name));
  const knownOfMergeTree = new Set(mergeTreeSettings.map((row) => row.name));
  return {
    version: parseVersion(about[0]?.version ?? ''),
    timezone: about[0]?.timezone ?? '',
    hasSetting: (name) => known.has(name),
    hasMergeTreeSetting: (name) => knownOfMergeTree.has(name),
  };
}

/** `26.7.2.1` -> 26, 7, 2. Zeros where the text is no version. */
export function parseVersion(text: string): ServerInfo['version'] {
  const match = /^(\d+)\.(\d+)(?:\.(\d+))?/.exec(text);
  return { major: Number(match?.[1] ?? 0), minor: Number(match?.[2] ?? 0), patch: Number(match?.[3] ?? 0) };
}

/** Ends idle connections at once and running calls with them. */
export async function close(server: ClickHouse): Promise<void> {
  await server.client.close();
}

/**
 * Runs one call with a bound in time. The client's own timeout only watches for an idle socket, and its abort
 * error carries no code: both are known here, so here they get their Fault.
 * @param stop aborts the call from outside; its reason, where that is a Fault, is what is thrown
 * @throws Fault of any kind. `clickhouse_timeout` is retried `here`: the server may still be at it.
 */
export async function bounded<T>(
  server: ClickHouse,
  timeoutMs: number,
  stop: AbortSignal | undefined,
  call: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const late = `ClickHouse at ${server.host} didn't answer within ${timeoutMs} ms`;
  const timedOut = () => controller.abort(new Fault('clickhouse_timeout', 'here', late));
  const stopped = () => controller.abort(stop?.reason);
  const timer = setTimeout(timedOut, timeoutMs);
  stop?.addEventListener('abort', stopped, { once: true });
  try {
    // The client only listens for an abort to come: one that came before would be missed.
    stop?.throwIfAborted();
    return await call(controller.signal);
  } catch (error) {
    throw classify(controller.signal.aborted ? controller.signal.reason : error, server.host);
  } finally {
    clearTimeout(timer);
    stop?.removeEventListener('abort', stopped);
  }
}

/**
 * The client logs every failed call; so does who called, with more knowledge. Hence everything of it is
 * `debug`. It wants a class that it makes itself, without arguments.
 */
function bridgeTo(logger: Logger): new () => ClientLogger {
  const write = ({ module, message, args }: LogParams, err?: Error) =>
    logger.debug({ module, ...args, ...(err && { err }) }, message);
  return class implements ClientLogger {
    trace(params: LogParams) {
      write(params);
    }
    debug(params: LogParams) {
      write(params);
    }
    info(params: LogParams) {
      write(params);
    }
    warn(params: WarnLogParams) {
      write(params, params.err);
    }
    error(params: ErrorLogParams) {
      write(params, params.err);
    }
  };
}
