/**
 * Where the rows of a request lie that was stored in part before the shards changed. Rows are placed by the
 * routing of their time; a repetition that placed them by the newer one would put some of them on a second
 * shard. So for as long as requests of that time are remembered, each new one is looked for on all shards.
 */
import { tickMs } from '../base/clock.ts';
import { assert } from '../base/errors.ts';
import type { Settings } from '../config/settings.ts';
import type { BatchStore } from '../queue/batch-store.ts';
import type { Placing } from '../queue/commit.ts';
import { ROUTING_KEY } from '../queue/keys.ts';
import { type PastRouting, type Routing, remainderOf } from '../queue/routing.ts';

/** Beyond the window: requests that were under way when the routing changed. */
const SLACK_MS = 60_000;

export class Placements {
  readonly #store: BatchStore;
  /** The longest that a request was remembered for since the start. */
  #rememberedMs = 0;
  #generation = 0;
  #shards = 1;
  #past: readonly (PastRouting & { readonly goneAtMs: number })[] = [];

  constructor(store: BatchStore, resend: Settings['resend']) {
    this.#store = store;
    this.update(resend);
  }

  /** Other settings. */
  update(resend: Settings['resend']): void {
    this.#rememberedMs = Math.max(this.#rememberedMs, 1_000 * longestSeconds(resend) + SLACK_MS);
  }

  /**
   * Before rows are placed by a routing. From then on no shard takes rows that were placed by an older one,
   * but for repetitions: what a shard does not remember by then was not stored. @throws Fault of Redis
   */
  async adopt({ generation, shards, before = [] }: Routing): Promise<void> {
    await Promise.all(shards.map((_, shard) => this.#store.fence(shard, generation)));
    const nowMs = before.length > 0 ? await this.#nowMs() : 0;
    this.#generation = generation;
    this.#shards = shards.length;
    // On the monotonic clock: this machine's may be set meanwhile.
    this.#past = before.map((past) => {
      return { ...past, goneAtMs: tickMs() + past.untilMs - nowMs + this.#rememberedMs };
    });
  }

  /** Whether requests have to be looked for. */
  get lookNeeded(): boolean {
    return this.#past.some(({ goneAtMs }) => goneAtMs > tickMs());
  }

  /** How a request was placed when it came first; undefined for one that is new. @throws Fault of Redis */
  async of(mark: Uint8Array): Promise<Placing | undefined> {
    const shards = Array.from({ length: this.#shards }, (_, shard) => shard);
    const found = await Promise.all(shards.map((shard) => this.#store.placement(shard, mark)));
    const remainder = found.find((generation) => generation !== undefined);
    if (remainder === undefined || remainder === remainderOf(this.#generation)) return undefined;
    return this.#past.find(({ generation }) => remainderOf(generation) === remainder);
  }

  /** By Redis' clock. */
  async #nowMs(): Promise<number> {
    const time = await this.#store.redis.command(['TIME'], ROUTING_KEY);
    assert(Array.isArray(time), 'TIME answers with an array');
    return Number(time[0]) * 1_000;
  }
}

/** Any request may have been remembered for so long, whatever the traffic was. */
function longestSeconds(resend: Settings['resend']): number {
  const { windowSeconds, quietSeconds, busySeconds, fastSeconds, sources } = resend;
  const usual = windowSeconds === 'auto' ? [quietSeconds, busySeconds, fastSeconds] : [windowSeconds];
  return Math.max(...usual, ...sources.values());
}
