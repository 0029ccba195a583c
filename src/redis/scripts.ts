/** Lua scripts by their digest. A Redis that restarted has forgotten them: the text is sent again. */
import { createHash } from 'node:crypto';
import { Fault } from '../base/errors.ts';
import type { DurableCommands, RedisCommands } from './client.ts';
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
  run(redis: RedisCommands, keys: readonly string[], args: readonly CommandPart[]): Promise<Reply> {
    return this.#run(keys, args, (parts, key) => redis.command(parts, key));
  }

  /**
   * The same for what has to be as safe as `redis.durability` says: rejects as `RedisClient.durably` does.
   * The script must write something also when it finds that nothing is left to do: only what was written on
   * the same connection is waited for.
   */
  runDurably(
    redis: DurableCommands,
    keys: readonly [string, ...string[]],
    args: readonly CommandPart[],
  ): Promise<Reply> {
    return this.#run(keys, args, (parts) => redis.durably(parts, keys[0]));
  }

  async #run(
    keys: readonly string[],
    args: readonly CommandPart[],
    send: (parts: readonly CommandPart[], key: string | undefined) => Promise<Reply>,
  ): Promise<Reply> {
    const rest = [keys.length, ...keys, ...args];
    const [key] = keys;
    try {
      return await send(['EVALSHA', this.#sha, ...rest], key);
    } catch (error) {
      if (!(error instanceof Fault) || error.code !== 'redis_noscript') throw error;
    }
    // With its text, from which Redis learns it again: nobody can make it forget in between.
    return send(['EVAL', this.#text, ...rest], key);
  }
}
