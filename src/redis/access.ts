/** How a Redis is entered, beside where it is: TLS and credentials, from the settings. */
import { readFileSync } from 'node:fs';
import type { SecureContextOptions } from 'node:tls';
import { ConfigurationError, messageOf } from '../base/errors.ts';
import type { Address, Settings } from '../config/settings.ts';
import type { Credentials, RedisTarget } from './url.ts';

export type RedisSettings = Settings['redis'];

export interface RedisAccess extends Credentials {
  /** Authorities and our own certificate; `true` is the system's authorities and none, `false` no TLS. */
  readonly tls: SecureContextOptions | boolean;
  readonly db: number;
}

/** One server, and all that is needed to talk to it. */
export interface RedisEndpoint extends Address, RedisAccess {}

/** For what wants an object; `undefined` is no TLS. A copy, since ioredis changes what it is given. */
export function tlsOptions({ tls }: RedisAccess): SecureContextOptions | undefined {
  if (typeof tls === 'boolean') return tls ? {} : undefined;
  return { ...tls };
}

/** Of Redis itself. @throws ConfigurationError where a file of the settings can't be read */
export function accessOf(settings: RedisSettings, target: RedisTarget): RedisAccess {
  const { username, password, tls } = target;
  return {
    tls: tls ? secured(settings) : false,
    db: target.kind === 'cluster' ? 0 : target.db,
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
  };
}

/** Of the sentinels, which have users of their own. @throws ConfigurationError as accessOf */
export function sentinelAccessOf(settings: RedisSettings, target: RedisTarget): RedisAccess {
  const { sentinelUsername: username, sentinelPassword: password, sentinelTls } = settings;
  const tls = sentinelTls === 'auto' ? target.tls : sentinelTls === 'on';
  return {
    tls: tls ? secured(settings) : false,
    db: 0,
    ...(username === '' ? {} : { username }),
    ...(password === '' ? {} : { password }),
  };
}

function secured({ tlsCaFile, tlsCertFile, tlsKeyFile }: RedisSettings): SecureContextOptions {
  if ((tlsCertFile === '') !== (tlsKeyFile === '')) {
    throw new ConfigurationError(
      'SLUICE_REDIS_TLS_CERT_FILE and SLUICE_REDIS_TLS_KEY_FILE belong together: one of them is empty',
    );
  }
  return {
    ...(tlsCaFile === '' ? {} : { ca: read('SLUICE_REDIS_TLS_CA_FILE', tlsCaFile) }),
    ...(tlsCertFile === '' ? {} : { cert: read('SLUICE_REDIS_TLS_CERT_FILE', tlsCertFile) }),
    ...(tlsKeyFile === '' ? {} : { key: read('SLUICE_REDIS_TLS_KEY_FILE', tlsKeyFile) }),
  };
}

function read(setting: string, file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new ConfigurationError(`${setting} is ${file}, which can't be read: ${messageOf(error)}`);
  }
}
