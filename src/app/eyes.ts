/**
 * Who looks at ClickHouse to find out which shards there are: writers all the time, a gateway only until
 * there is a routing in Redis, and never where there is no cluster.
 */
import { tickMs } from '../base/clock.ts';
import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { Discoverer, type Discovery } from '../topology/discover.ts';
import { TopologyWatch } from '../topology/watch.ts';
import type { Role, RoleContext } from './roles.ts';
import type { RoleRoutingOptions } from './routing.ts';

export type Eyes = Pick<RoleRoutingOptions, 'look' | 'publishes'>;

/** A writer's eyes are open from now on. */
export function createEyes(role: Role, { settings, instruments, logger, lifecycle }: RoleContext): Eyes {
  const { clickhouse } = settings;
  if (role === 'gateway' && clickhouse.cluster === '') return { look: () => undefined, publishes: 'first' };
  const discoverer = new Discoverer(clickhouse, logger);
  lifecycle.add('ClickHouse connections of the topology', () => discoverer.close());
  const discover = () => discoverer.discover();
  if (role === 'gateway') {
    const glances = new Glances(discover, clickhouse.watchMs, logger);
    return { look: () => glances.look(), publishes: 'first' };
  }
  // Every round of the routing looks at what the watch has found last.
  const onChange = () => {};
  const watch = new TopologyWatch({ discover, everyMs: clickhouse.watchMs, instruments, logger, onChange });
  watch.start();
  lifecycle.add('topology', () => watch.stop());
  return { look: () => watch.discovery, publishes: 'always' };
}

/** Looks only when it is asked, in the background and not too often. */
export class Glances {
  readonly #discover: () => Promise<Discovery>;
  readonly #everyMs: number;
  readonly #logger: Logger;
  #last: Discovery | undefined;
  #looking = false;
  #lookedAtMs = Number.NEGATIVE_INFINITY;

  constructor(discover: () => Promise<Discovery>, everyMs: number, logger: Logger) {
    this.#discover = discover;
    this.#everyMs = everyMs;
    this.#logger = logger;
  }

  /** What the last look found. */
  look(): Discovery | undefined {
    if (!this.#looking && tickMs() - this.#lookedAtMs >= this.#everyMs) void this.#glance();
    return this.#last;
  }

  async #glance(): Promise<void> {
    this.#looking = true;
    try {
      this.#last = await this.#discover();
    } catch (error) {
      this.#logger.error({ reason: messageOf(error) }, 'could not look for the shards of the cluster');
    } finally {
      this.#looking = false;
      this.#lookedAtMs = tickMs();
    }
  }
}
