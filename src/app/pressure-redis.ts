/** Redis' memory against its maxmemory, as a reading: of the master that is fullest. */
import { Trend } from '../admit/pace.ts';
import { type Reading, secondsUntil } from '../admit/pressure.ts';
import { tickMs } from '../base/clock.ts';
import { Fault } from '../base/errors.ts';
import type { RedisClient } from '../redis/client.ts';

const GROWTH_MS = 10_000;
/** When it wasn't answered for so long, it isn't known. */
const KEPT_MS = 5_000;

interface Memory {
  readonly usedBytes: number;
  /** Above 0. */
  readonly maxBytes: number;
}

export class RedisMemory {
  readonly #redis: Pick<RedisClient, 'masters' | 'ready'>;
  readonly #growth = new Trend(GROWTH_MS);
  #memory: Memory | undefined;
  #askedAtMs = Number.NEGATIVE_INFINITY;
  #asking = false;

  constructor(redis: Pick<RedisClient, 'masters' | 'ready'>) {
    this.#redis = redis;
  }

  /** Never rejects. One question at a time. */
  async ask(): Promise<void> {
    if (this.#asking || !this.#redis.ready) return;
    this.#asking = true;
    try {
      const answers = this.#redis.masters.map((master) => master.command(['INFO', 'memory']));
      const memories = (await Promise.all(answers)).flatMap((answer) => parseMemory(String(answer)) ?? []);
      this.#memory = memories.sort((a, b) => b.usedBytes / b.maxBytes - a.usedBytes / a.maxBytes)[0];
      this.#askedAtMs = tickMs();
      if (this.#memory !== undefined) this.#growth.add(tickMs(), this.#memory.usedBytes);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#memory = undefined;
    } finally {
      this.#asking = false;
    }
  }

  /** None where Redis has no bound, or doesn't say. */
  readings(percentMax: number): Reading[] {
    if (this.#memory === undefined || tickMs() - this.#askedAtMs > KEPT_MS) return [];
    const { usedBytes: value, maxBytes } = this.#memory;
    const limit = Math.floor((maxBytes * percentMax) / 100);
    const inSeconds = secondsUntil(value, limit, this.#growth.perSecond);
    return [{ reason: 'redis_memory', value, limit, ratio: value / limit, inSeconds }];
  }
}

/** Of `INFO memory`. Undefined where there is no maxmemory. */
export function parseMemory(info: string): Memory | undefined {
  const figure = (name: string) => Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(info)?.[1] ?? 0);
  const maxBytes = figure('maxmemory');
  // What Redis itself doesn't reckon when it compares the two: buffers of replicas and of its log.
  const usedBytes = Math.max(0, figure('used_memory') - figure('mem_not_counted_for_evict'));
  return maxBytes === 0 ? undefined : { usedBytes, maxBytes };
}
