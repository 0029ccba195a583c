/** Why an address can't be listened on, in a sentence that names the setting to change. */
import { createServer } from 'node:net';
import { ConfigurationError, messageOf } from '../base/errors.ts';
import type { Address } from '../config/settings.ts';

const REASONS: ReadonlyMap<string, string> = new Map([
  ['EADDRINUSE', 'the port is taken by another program'],
  ['EADDRNOTAVAIL', 'this machine has no such address'],
  ['EACCES', 'this user may not use the port'],
  ['ENOTFOUND', 'the host name is not known'],
]);

/** For a listener that failed with `error`, an error of Node with a code. */
export function cannotListen(setting: string, addr: Address, error: unknown): ConfigurationError {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const reason = REASONS.get(code) ?? messageOf(error);
  const example = code === 'EADDRINUSE' ? `${addr.host}:${addr.port ^ 1}` : '0.0.0.0:14318';
  const wanted = `set ${setting} to a free address, such as ${example}`;
  return new ConfigurationError(
    `${setting}: cannot listen on ${addr.host}:${addr.port}: ${reason}; ${wanted}`,
  );
}

/** For a listener that only says that it failed: tries the address itself to learn why. */
export function whyNotListen(setting: string, addr: Address): Promise<ConfigurationError> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', (error) => resolve(cannotListen(setting, addr, error)));
    probe.listen({ host: addr.host, port: addr.port, exclusive: true }, () => {
      probe.close(() =>
        resolve(cannotListen(setting, addr, new Error('the address was taken a moment ago'))),
      );
    });
  });
}
