/** Lua scripts by their digest. A Redis that restarted has forgotten them: the text is sent again. */
import { createHash } from 'node:crypto';
import { Fault } from '../base/errors.ts';
import type { RedisCommands } from './client.ts';
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
   * Runs the script. Payloads in `args` must stay as they are until the promise settles. Rejects as
   * `RedisCommands.command` does; a script that was not known has changed nothing before it is repeated.
   */
  async run(redis: RedisCommands, keys: readonly string[], args: readonly CommandPart[]): Promise<Reply> {
    const command = ['EVALSHA', this.#sha, keys.length, ...keys, ...args];
    const [key] = keys;
    try {
      return await redis.command(command, key);
    } catch (error) {
      if (!(error instanceof Fault) || error.code !== 'redis_noscript') throw error;
    }
    await redis.command(['SCRIPT', 'LOAD', this.#text], key);
    return redis.command(command, key);
  }
}
