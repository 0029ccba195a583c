/**
 * A real Redis on which the script of shares runs with a clock of the test's own: hours pass in moments, and
 * what was let in can be reckoned up exactly.
 */
import { readFileSync } from 'node:fs';
import type { RedisCommands } from '../../src/redis/client.ts';
import { Fault } from '../../src/base/errors.ts';
import { settingsOf } from '../support/settings.ts';
import type { Settings } from '../../src/config/settings.ts';

const SCRIPT = readFileSync(new URL('../../src/admit/lua/lease.lua', import.meta.url), 'utf8');
/** In front of the script: TIME is the last argument, in ms. */
const CLOCK = `local redis = setmetatable({ call = function(name, ...)
  if name == 'TIME' then
    local ms = tonumber(ARGV[#ARGV])
    return { string.format('%d', math.floor(ms / 1000)), string.format('%d', math.floor(ms % 1000 * 1000)) }
  end
  return redis.call(name, ...)
end }, { __index = redis })
`;

export class ClockedRedis implements RedisCommands {
  readonly #redis: RedisCommands;
  readonly #epochMs: () => number;
  /** Scripts that were run. */
  settlements = 0;
  /** While true Redis is away. */
  isAway = false;

  /** @param epochMs the time that Redis shall have, since 1970 */
  constructor(redis: RedisCommands, epochMs: () => number) {
    this.#redis = redis;
    this.#epochMs = epochMs;
  }

  command(parts: Parameters<RedisCommands['command']>[0]): ReturnType<RedisCommands['command']> {
    this.settlements += 1;
    if (this.isAway) return Promise.reject(new Fault('redis_unavailable', 'here', 'Redis is away'));
    return this.#redis.command(['EVAL', CLOCK + SCRIPT, ...parts.slice(2), this.#epochMs()]);
  }
}

/** @param tenants as they would stand in SLUICE_TENANTS */
export function shareSettings(
  tenants: readonly Readonly<Record<string, unknown>>[],
  environment: Readonly<Record<string, string>> = {},
): Settings {
  return settingsOf({ SLUICE_TENANTS: JSON.stringify(tenants), ...environment });
}

/** Seeded: mulberry32. */
export function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
