/** Lua scripts by their digest. Redis forgets them when it restarts; then the text is sent once and the call repeated. */
import { createHash } from 'node:crypto';
import { Fault } from '../base/errors.ts';
import type { LeanConnection } from './lean.ts';
import type { Reply } from './replies.ts';
import type { CommandPart } from './resp.ts';

export class Script {
  readonly #text: string;
  readonly #sha: string;

  constructor(text: string) {
    this.#text = text;
    this.#sha = createHash('sha1').update(text).digest('hex');
  }

  /**
   * Runs the script. Payloads in `args` must stay as they are until the promise settles.
   * Rejects as `LeanConnection.command` does; a script that was not known has changed nothing before it is repeated.
   */
  async run(connection: LeanConnection, keys: readonly string[], args: readonly CommandPart[]): Promise<Reply> {
    const command = ['EVALSHA', this.#sha, keys.length, ...keys, ...args];
    try {
      return await connection.command(command);
    } catch (error) {
      if (!(error instanceof Fault) || error.code !== 'redis_noscript') throw error;
    }
    await connection.command(['SCRIPT', 'LOAD', this.#text]);
    return connection.command(command);
  }
}
