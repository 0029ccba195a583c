/**
 * Which server it is that answers: by what it says of itself over HTTP, and what other servers hear when they
 * ask a member of the cluster over the native protocol. Two answers of one server are equal, so this finds
 * out which URL leads to which `host:port` of system.clusters, also where all share one name (port forwards,
 * loopback).
 */
import type { Fault } from '../base/errors.ts';
import { type ClickHouse, query } from '../clickhouse/client.ts';
import { literal } from '../clickhouse/quote.ts';
import { type Member, differ, nameOf } from './definition.ts';

export interface ServerIdentity {
  readonly hostName: string;
  /** Of the database `system`: tells servers on one machine apart. */
  readonly dataPath: string;
  /** Undefined where the version has none (before 21) or has not made one. */
  readonly uuid: string | undefined;
  /** Of the native protocol; undefined where the version doesn't tell. */
  readonly tcpPort: number | undefined;
}

/** What came of asking a member over the native protocol. */
export type NativeAnswer =
  | { readonly state: 'up'; readonly identity: ServerIdentity }
  | { readonly state: 'down'; readonly why: string }
  /** Nobody may ask (grants), or the answer makes no sense: nothing is known. */
  | { readonly state: 'unknown'; readonly why: string };

export interface Credentials {
  readonly username: string;
  readonly password: string;
}

const NO_UUID = '00000000-0000-0000-0000-000000000000';
/** What is true of the member itself, not of the way to it. */
const DOWN_CODES: ReadonlySet<string> = new Set([
  'ALL_CONNECTION_TRIES_FAILED',
  'NO_REMOTE_SHARD_AVAILABLE',
  'CODE_519',
  'NETWORK_ERROR',
  'SOCKET_TIMEOUT',
  'DNS_ERROR',
  'POCO_EXCEPTION',
  'CODE_1000',
  'clickhouse_timeout',
  'TIMEOUT_EXCEEDED',
]);
/** The port of the native protocol with TLS by default; system.clusters doesn't tell. */
const SECURE_PORT = 9440;

/** What is known of both has to be equal. */
export function sameServer(one: ServerIdentity, other: ServerIdentity): boolean {
  return (
    one.hostName === other.hostName &&
    one.dataPath === other.dataPath &&
    !differ(one.uuid, other.uuid) &&
    !differ(one.tcpPort, other.tcpPort)
  );
}

export function uuidOf(text: string | undefined): string | undefined {
  return text === undefined || text === NO_UUID ? undefined : text;
}

/**
 * Asks `server` to ask a member who it is, with the same user and password. Never rejects.
 * @param known of `server`: what its version doesn't know isn't asked for
 */
export async function identityOverNative(
  server: ClickHouse,
  member: Member,
  { username, password }: Credentials,
  known: ServerIdentity,
  msMax: number,
): Promise<NativeAnswer> {
  const table = member.port === SECURE_PORT ? 'remoteSecure' : 'remote';
  const user =
    username === 'default' && password === '' ? '' : `, ${literal(username)}, ${literal(password)}`;
  const from = `${table}(${literal(nameOf(member))}, system, databases${user}) WHERE name = 'system'`;
  const ask = async (further: string): Promise<NativeAnswer> => {
    const sql = `SELECT hostName() AS host, data_path AS path${further} FROM ${from}`;
    // The text has a password inside: old versions would keep it in their log of queries.
    const settings = { log_queries: 0, connections_with_failover_max_tries: '1' } as const;
    const [row] = await query<IdentityRow>(server, sql, settings, msMax);
    if (row === undefined) return { state: 'unknown', why: `${nameOf(member)} answered with nothing` };
    const identity = { hostName: row.host, dataPath: row.path, uuid: uuidOf(row.uuid), tcpPort: row.port };
    return { state: 'up', identity };
  };
  try {
    return await ask(
      known.tcpPort === undefined ? '' : ', toString(serverUUID()) AS uuid, tcpPort() AS port',
    );
  } catch (error) {
    const { code, message } = error as Fault;
    const tooOld = code === 'UNKNOWN_FUNCTION' || code === 'CODE_46';
    if (!tooOld) return { state: DOWN_CODES.has(code) ? 'down' : 'unknown', why: message };
    return ask('').catch((again: Fault) => ({ state: 'unknown', why: again.message }));
  }
}

interface IdentityRow {
  readonly host: string;
  readonly path: string;
  readonly uuid?: string;
  readonly port?: number;
}
