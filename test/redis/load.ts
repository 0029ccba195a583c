/** Many writes in flight at once, each of a member that no other writes, and what became of them. */
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import { Fault } from '../../src/base/errors.ts';
import type { RedisClient } from '../../src/redis/client.ts';
import { Script } from '../../src/redis/scripts.ts';
import { FAILOVER_MS_MAX } from '../support/redis-farm.ts';
import { eventually } from './server.ts';

const ADD = new Script("return redis.call('SADD', KEYS[1], ARGV[1])");
const IN_FLIGHT = 20;

export class Load {
  /** Members whose write was acknowledged, by key. */
  readonly acknowledged = new Map<string, string[]>();
  readonly faults: Fault[] = [];
  readonly #client: RedisClient;
  readonly #keys: readonly string[];
  #going = true;
  #sent = 0;
  readonly #writers: readonly Promise<void>[];

  /** Writes to all of the keys, as durably as the client's settings say, until `stop`. */
  constructor(client: RedisClient, keys: readonly string[]) {
    this.#client = client;
    this.#keys = keys;
    for (const key of keys) this.acknowledged.set(key, []);
    this.#writers = keys.flatMap((key) => Array.from({ length: IN_FLIGHT }, () => this.#write(key)));
  }

  /** Resolves when every key takes writes; what was acknowledged before doesn't count. */
  async flows(count = 100): Promise<void> {
    const before = this.#keys.map((key) => this.#of(key).length);
    const grown = () => this.#keys.every((key, i) => this.#of(key).length >= (before[i] ?? 0) + count);
    await eventually(grown, 'writes go through', FAILOVER_MS_MAX).catch((error) => {
      throw new Error(`no writes, last: ${this.faults.at(-1)?.message}`, { cause: error });
    });
  }

  /** Ends it, and holds that every fault is one that passes and that nothing acknowledged is missing. */
  async stop(): Promise<void> {
    this.#going = false;
    await Promise.all(this.#writers);
    const codes = new Set(this.faults.map(({ code, retry }) => `${code}, ${retry}`));
    codes.delete('redis_unavailable, here');
    codes.delete('replicas_missing, here');
    expect([...codes]).toEqual([]);
    for (const key of this.#keys) {
      const members = await this.#client.command(['SMEMBERS', key], key);
      const stored = new Set(Array.isArray(members) ? members : []);
      expect(this.#of(key).filter((member) => !stored.has(member))).toEqual([]);
    }
  }

  #of(key: string): string[] {
    return this.acknowledged.get(key) ?? [];
  }

  async #write(key: string): Promise<void> {
    while (this.#going) {
      const member = `m${this.#sent++}`;
      try {
        await ADD.runDurably(this.#client, [key], [member]);
        this.#of(key).push(member);
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        this.faults.push(error);
        await delay(10);
      }
    }
  }
}
