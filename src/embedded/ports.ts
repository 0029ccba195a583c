/**
 * Whether a port can still be had. Asked before a child is started, because the child's own message names
 * no setting.
 */
import { createServer } from 'node:net';
import { ConfigurationError, messageOf } from '../base/errors.ts';

export const LOOPBACK = '127.0.0.1';

/** A port that a service wants to have. */
export interface PortWish {
  readonly port: number;
  /** The setting that changes it. */
  readonly setting: string;
  /** In messages: "the embedded Redis". */
  readonly what: string;
}

/**
 * Binds the port and lets go of it again. Between this and the child's own bind somebody else may take it:
 * the child then ends, and its log says so.
 * @throws ConfigurationError that names the port and the setting that changes it.
 */
export async function assertPortFree({ port, setting, what }: PortWish): Promise<void> {
  const problem = await bindError(port);
  if (problem === undefined) return;
  throw new ConfigurationError(
    `port ${port} for ${what} can't be had on ${LOOPBACK} (${problem}): end the program that has it, ` +
      `or set ${setting} to a free port`,
  );
}

function bindError(port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => {
      resolve(error.code === 'EADDRINUSE' ? 'it is taken' : messageOf(error));
    });
    server.listen({ port, host: LOOPBACK, exclusive: true }, () => server.close(() => resolve(undefined)));
  });
}
