/**
 * Where Redis is, read from its URL: one server, the master that sentinels know under a name, or a cluster.
 *
 *     redis://user:password@host:6379/0
 *     redis+sentinel://user:password@sentinel1:26379,sentinel2:26379/name/0
 *     redis+cluster://user:password@node1:6379,node2:6379
 *
 * With rediss in front it is TLS. User and password are Redis' own, also beside sentinels. No message that is
 * made here repeats a part of the URL that a password may have slipped into.
 */
import { ConfigurationError } from '../base/errors.ts';
import type { Address } from '../config/settings.ts';

export interface Credentials {
  readonly username?: string;
  readonly password?: string;
}

interface Common extends Credentials {
  readonly tls: boolean;
}

export type RedisTarget =
  | (Common & { readonly kind: 'standalone'; readonly address: Address; readonly db: number })
  | (Common & {
      readonly kind: 'sentinel';
      readonly sentinels: readonly Address[];
      /** Under which the sentinels know the master. */
      readonly name: string;
      readonly db: number;
    })
  | (Common & { readonly kind: 'cluster'; readonly nodes: readonly Address[] });

const EXAMPLES = {
  standalone: 'redis://user:password@127.0.0.1:6379/0',
  sentinel: 'redis+sentinel://user:password@10.0.0.1:26379,10.0.0.2:26379,10.0.0.3:26379/mymaster',
  cluster: 'redis+cluster://user:password@10.0.0.1:6379,10.0.0.2:6379,10.0.0.3:6379',
} as const;
const REDIS_PORT = 6379;
const SENTINEL_PORT = 26379;
const PORT_MAX = 65_535;

type Kind = RedisTarget['kind'];

/** @throws ConfigurationError in words, with an example; it never repeats the password */
export function parseRedisUrl(url: string): RedisTarget {
  const scheme = /^(rediss?)(?:\+(sentinel|cluster))?:\/\//i.exec(url);
  if (scheme === null) {
    throw new ConfigurationError(
      'the Redis URL has no known scheme: wanted is redis://, redis+sentinel:// or redis+cluster://, or ' +
        `rediss for TLS; e.g. ${EXAMPLES.standalone}`,
    );
  }
  const kind = (scheme[2]?.toLowerCase() ?? 'standalone') as Kind;
  const [authority = '', ...path] = url.slice(scheme[0].length).split('/');
  const at = authority.lastIndexOf('@');
  const common: Common = {
    tls: scheme[1]?.toLowerCase() === 'rediss',
    ...credentialsOf(authority.slice(0, Math.max(at, 0))),
  };
  const addresses = addressesOf(authority.slice(at + 1), kind);
  const [first] = addresses;
  // A slash at the end says nothing.
  const segments = path.at(-1) === '' ? path.slice(0, -1) : path;
  if (kind === 'cluster') {
    if (databaseOf(segments, 0, kind) !== 0) {
      throw wrong('names a database, but a cluster has only number 0: leave it out', kind);
    }
    return { kind, ...common, nodes: addresses };
  }
  if (kind === 'sentinel') {
    const name = decoded(segments[0] ?? '');
    if (!/^[^\s]+$/.test(name)) {
      throw wrong("has no master's name behind the sentinels (what follows `sentinel monitor`)", kind);
    }
    return { kind, ...common, sentinels: addresses, name, db: databaseOf(segments, 1, kind) };
  }
  if (first === undefined || addresses.length > 1) {
    throw wrong('names several hosts: say redis+sentinel:// or redis+cluster:// for them', kind);
  }
  return { kind, ...common, address: first, db: databaseOf(segments, 0, kind) };
}

/** For logs and messages: where it is, without user and password. @throws as parseRedisUrl */
export function describeRedis(url: string): string {
  const target = parseRedisUrl(url);
  if (target.kind === 'standalone') return showAddress(target.address);
  if (target.kind === 'cluster') return `the cluster of ${target.nodes.map(showAddress).join(', ')}`;
  return `master ${target.name} of the sentinels ${target.sentinels.map(showAddress).join(', ')}`;
}

export function showAddress({ host, port }: Address): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

function credentialsOf(text: string): Credentials {
  if (text === '') return {};
  const colon = text.indexOf(':');
  const username = decoded(colon < 0 ? text : text.slice(0, colon));
  const password = colon < 0 ? '' : decoded(text.slice(colon + 1));
  return {
    ...(username === '' ? {} : { username }),
    ...(password === '' ? {} : { password }),
  };
}

function addressesOf(text: string, kind: Kind): Address[] {
  const port = kind === 'sentinel' ? SENTINEL_PORT : REDIS_PORT;
  return text.split(',').map((one) => {
    const match = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::(\d{1,5}))?$/i.exec(one);
    const host = match?.[1] ?? match?.[2];
    if (text === '' || one.startsWith(':')) throw wrong('names no host', kind);
    if (host === undefined) {
      throw wrong("can't be read: a host has a stray character, or user or password is not encoded", kind);
    }
    const address = { host, port: match?.[3] === undefined ? port : Number(match[3]) };
    if (address.port < 1 || address.port > PORT_MAX) throw wrong(`has a port that is none`, kind);
    return address;
  });
}

function databaseOf(segments: readonly string[], from: number, kind: Kind): number {
  const [text = '0', ...more] = segments.slice(from);
  if (!/^\d{1,4}$/.test(text) || more.length > 0) {
    throw wrong('does not end as it should: the database, where one is given, is a number', kind);
  }
  return Number(text);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    if (!(cause instanceof URIError)) throw cause;
    throw new ConfigurationError('a part of the Redis URL is not percent-encoded: write % as %25');
  }
}

function wrong(what: string, kind: Kind): ConfigurationError {
  return new ConfigurationError(`the Redis URL ${what}. Wanted is one like ${EXAMPLES[kind]}`);
}
