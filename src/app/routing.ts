/**
 * The routing as a role holds it. Every role reads it from Redis once a second; who looks at ClickHouse
 * publishes it there: writers for as long as they run, a gateway only where nobody has done so before.
 */
import { sleep, tickMs } from '../base/clock.ts';
import { assert, ConfigurationError, Fault } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { localName } from '../migrate/placeholders.ts';
import { TABLES } from '../model/signal.ts';
import type { Check } from '../operate/checks.ts';
import {
  ONE_SHARD,
  type Routing,
  type RoutingStore,
  conflictOf,
  foreignCluster,
  nextRouting,
  sameRouting,
} from '../queue/routing.ts';
import type { Discovery } from '../topology/discover.ts';
import { isError } from '../topology/faults.ts';
import { type Topology, oneShard } from '../topology/topology.ts';

const READ_EVERY_MS_DEFAULT = 1_000;
/** While there is none yet. */
const WAIT_MS = 100;
const SAY_AFTER_MS = 2_000;
const SAY_EVERY_MS = 10_000;

export interface RoleRoutingOptions {
  readonly store: RoutingStore;
  /** Empty: one shard, nothing in Redis but a look whether a cluster uses it. */
  readonly cluster: string;
  /** The servers of an installation without a cluster. */
  readonly urls: readonly string[];
  /** What was last seen of ClickHouse, for who may publish; costs nothing. */
  readonly look: () => Discovery | undefined;
  /** Whether this role publishes for as long as it runs, or only where there is no routing yet. */
  readonly publishes: 'always' | 'first';
  /** Has to be done before rows are placed by a routing; if it fails, it is tried again a second later. */
  readonly adopting?: (routing: Routing) => Promise<void>;
  /** From then on the routing stays as it is. */
  readonly stopped: () => boolean;
  readonly logger: Logger;
  readonly readEveryMs?: number;
}

export class RoleRouting {
  readonly #options: RoleRoutingOptions;
  readonly #listeners: ((routing: Routing) => void)[] = [];
  readonly #stop = new AbortController();
  /** Ends the wait for the next round. */
  #nap = new AbortController();
  readonly #readEveryMs: number;
  #current: Routing | undefined;
  #topology: Topology | undefined;
  /** What was last seen when somebody else had published: they may have seen something newer. */
  #stale: Discovery | undefined;
  /** Whether Redis has none, although this role knows one: it was emptied. */
  #lost = false;
  /** Why there is none, or why it stays as it is although ClickHouse changed. For people. */
  #trouble: string | undefined;
  /** The sentence for a Redis that another cluster uses. */
  #foreign: string | undefined;

  constructor(options: RoleRoutingOptions) {
    this.#options = options;
    this.#readEveryMs = options.readEveryMs ?? READ_EVERY_MS_DEFAULT;
    const { cluster, urls } = options;
    if (cluster === '') this.#current = ONE_SHARD;
    if (cluster === '' && urls.length === 1) this.#topology = oneShard(urls);
  }

  /** Undefined until there is one. */
  get current(): Routing | undefined {
    return this.#current;
  }

  /** The newest topology that was seen and that batches which wait may be written to. */
  get topology(): Topology | undefined {
    return this.#topology;
  }

  /** Called at once with the routing if there is one, and with each that follows. */
  onChange(listener: (routing: Routing) => void): void {
    this.#listeners.push(listener);
    if (this.#current !== undefined) listener(this.#current);
  }

  /**
   * Resolves when there is a routing, or when the role stops; waits as long as it takes, saying why.
   * @throws ConfigurationError when this Redis is another cluster's
   */
  async first(): Promise<void> {
    const { logger, cluster, stopped } = this.#options;
    let sayAtMs = tickMs() + SAY_AFTER_MS;
    for (;;) {
      await this.#round();
      if (this.#foreign !== undefined) throw new ConfigurationError(this.#foreign);
      if (this.#current !== undefined || stopped()) return;
      if (tickMs() > sayAtMs) {
        logger.warn({ cluster, reason: this.#why() }, 'waiting until the shards of the cluster are known');
        sayAtMs = tickMs() + SAY_EVERY_MS;
      }
      await sleep(WAIT_MS, this.#stop.signal);
    }
  }

  /** Keeps it up to date from now on. */
  start(): void {
    void this.#keepUp();
  }

  /** A round that is under way ends by itself. */
  stop(): void {
    this.#stop.abort();
  }

  /** For /ready. A routing that can't follow ClickHouse is no reason to send clients elsewhere. */
  check(): Check {
    const limit = 'known';
    if (this.#current === undefined) return { name: 'topology', ok: false, figure: this.#why(), limit };
    const { cluster, generation, shards } = this.#current;
    const count = shards.length === 1 ? '1 shard' : `${shards.length} shards`;
    const known = cluster === '' ? count : `${count}, generation ${generation}`;
    const but = this.#foreign ?? this.#trouble;
    return { name: 'topology', ok: true, figure: but === undefined ? known : `${known}; ${but}`, limit };
  }

  async #keepUp(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      this.#nap = new AbortController();
      const woken = AbortSignal.any([signal, this.#nap.signal]);
      await sleep(this.#readEveryMs, woken);
      if (!signal.aborted) await this.#round();
    }
  }

  /** Looks at once: somebody else knows a newer routing. */
  hurry(): void {
    this.#nap.abort();
  }

  /** Reads what is published, and publishes if it should be something else. Rejects for mistakes of ours. */
  async #round(): Promise<void> {
    const { store, cluster, publishes, logger } = this.#options;
    try {
      const stored = await store.read();
      this.#noteForeign(stored);
      if (this.#foreign !== undefined) return;
      if (cluster === '') return this.#seeServers();
      this.#lost = stored === undefined && this.#current !== undefined;
      if (stored !== undefined && (await this.#adopt(stored))) this.#stale = this.#options.look();
      if (publishes === 'always' || this.#current === undefined) await this.#follow();
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      if (error.code === 'routing_unreadable') this.#say(error.message);
      else logger.debug({ reason: error.message }, 'the routing could not be read or published');
    }
  }

  /** Without a cluster only the server may change: the one of several URLs that answers. */
  #seeServers(): void {
    if (this.#see()?.topology !== undefined) this.#trouble = undefined;
  }

  #noteForeign(stored: Routing | undefined): void {
    const { cluster, logger } = this.#options;
    const own = stored === undefined || stored.cluster === cluster;
    const foreign = own ? undefined : foreignCluster(stored.cluster, cluster);
    if (foreign !== undefined && foreign !== this.#foreign) logger.error(foreign);
    this.#foreign = foreign;
  }

  /** @returns whether it is another one than before */
  async #adopt(routing: Routing): Promise<boolean> {
    const { logger, stopped, adopting } = this.#options;
    if (stopped() || (this.#current !== undefined && sameRouting(this.#current, routing))) return false;
    await adopting?.(routing);
    this.#current = routing;
    const { generation, shards } = routing;
    logger.info({ generation, shards }, 'rows are shared out among these shards');
    for (const listener of this.#listeners) listener(routing);
    return true;
  }

  /** Makes the routing what ClickHouse is now. */
  async #follow(): Promise<void> {
    const seen = this.#see();
    if (seen?.topology === undefined || seen === this.#stale) return;
    const { topology } = seen;
    const next = nextRouting(this.#current, topology, (shard) => hasTables(seen, topology, shard));
    if (next.kind === 'refused') return this.#say(next.message);
    this.#say(missingOf(this.#current, topology));
    if (next.kind === 'changed') await this.#publish(next.routing);
    else if (this.#lost && this.#current !== undefined) await this.#publish(this.#current);
  }

  /** Takes over the topology of the last look, if it gave one. */
  #see(): Discovery | undefined {
    const seen = this.#options.look();
    if (seen?.topology === undefined) {
      // Who looks has logged the faults.
      this.#trouble = seen && reasonOf(seen);
    } else if (conflictOf(this.#current, seen.topology) === undefined) {
      this.#topology = seen.topology;
    }
    return seen;
  }

  async #publish(routing: Routing): Promise<void> {
    const previous = this.#lost ? 0 : (this.#current?.generation ?? 0);
    const { cluster, shards } = routing;
    const next = { cluster, generation: previous + 1, shards };
    const { store } = this.#options;
    const outcome = await store.publish(previous, next);
    // Read again: Redis has added what held before.
    if (outcome === 'published') await this.#adopt((await store.read()) ?? next);
    // Somebody else was faster; the next round reads what they published and goes on from there.
    else this.#options.logger.debug({ outcome }, 'the routing was published by somebody else');
  }

  /** Logs it once. */
  #say(trouble: string | undefined): void {
    if (trouble !== undefined && trouble !== this.#trouble) this.#options.logger.warn(trouble);
    this.#trouble = trouble;
  }

  #why(): string {
    if (this.#trouble !== undefined) return this.#trouble;
    const seen = this.#options.look();
    return seen === undefined ? 'ClickHouse was not asked yet' : 'the routing is not in Redis yet';
  }
}

/** Why a look at ClickHouse gave no topology. */
function reasonOf({ faults }: Discovery): string {
  const reasons = faults.filter(isError).map(({ message }) => message);
  assert(reasons.length > 0, 'without a topology there are errors');
  return reasons.join('; ');
}

/** Where the rows of a table lie: beside the Distributed table on a cluster, in the table itself without. */
export function localTable(table: string, cluster: string): string {
  return localName(table, { cluster: cluster === '' ? undefined : cluster });
}

/** Whether one of the shard's replicas has every table that rows are written to. */
function hasTables({ hosts }: Discovery, { cluster }: Topology, shard: number): boolean {
  const wanted = TABLES.map((table) => localTable(table, cluster));
  return hosts.some(
    (host) =>
      host.reachable && host.member?.shard === shard && wanted.every((name) => host.tables.includes(name)),
  );
}

/** Shards whose batches can't be written, because the definition has them no longer. */
function missingOf(current: Routing | undefined, { cluster, shards }: Topology): string | undefined {
  const missing = (current?.shards ?? []).slice(shards.length).map(({ name }, i) => {
    const number = shards.length + i + 1;
    return name === '' ? `${number}` : `${number} ("${name}")`;
  });
  if (missing.length === 0) return undefined;
  return (
    `the definition of the cluster "${cluster}" has no shard ${missing.join(', ')} any more: ` +
    'batches that are bound to it wait until it is back'
  );
}
