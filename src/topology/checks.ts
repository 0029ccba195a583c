/**
 * Health checks: every replica of the topology is asked how it is, from time to time, and at once after
 * something failed there. What is found goes to the choice, which also says when the next check is due.
 */
import { sleep } from '../base/clock.ts';
import { Fault } from '../base/errors.ts';
import type { ReplicaChoice } from './choice.ts';
import type { ReplicaFacts } from './health.ts';
import type { Replica, Topology } from './topology.ts';

export interface HealthChecksOptions {
  readonly topology: () => Topology | undefined;
  readonly choice: ReplicaChoice;
  /** Asks a replica, which has an address; a Fault where it doesn't answer. */
  readonly ask: (replica: Replica) => Promise<ReplicaFacts>;
  readonly healthCheckMs: number;
  /** Is called with the topology from time to time, after the choice has taken it over. */
  readonly looked?: (topology: Topology) => void;
}

const TICK_MS_MAX = 250;

export class HealthChecks {
  readonly #options: HealthChecksOptions;
  readonly #timer: NodeJS.Timeout;
  /** By host. */
  readonly #running = new Map<string, Promise<void>>();
  #stopped = false;

  /** Asks from now on, until `stop`. */
  constructor(options: HealthChecksOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.look(), Math.min(TICK_MS_MAX, options.healthCheckMs));
    this.#timer.unref();
    this.look();
  }

  /** Begins whatever check is due. Of any number of calls a replica is asked once at a time. */
  look(): void {
    if (this.#stopped) return;
    const { choice, looked } = this.#options;
    const topology = this.#options.topology();
    if (topology === undefined) return;
    choice.keep(topology);
    looked?.(topology);
    for (const replica of topology.shards.flatMap(({ replicas }) => replicas)) {
      if (replica.url === undefined || this.#running.has(replica.host)) continue;
      if (choice.checkInMs(replica) > 0) continue;
      const running = this.#check(replica).finally(() => this.#running.delete(replica.host));
      this.#running.set(replica.host, running);
    }
  }

  /** Resolves when those of the replicas that are in doubt were asked again, or after `msMax`. */
  async settle(replicas: readonly Replica[], msMax: number): Promise<void> {
    const { choice } = this.#options;
    const doubted = replicas.filter((replica) => replica.url !== undefined && choice.isDoubted(replica));
    if (doubted.length === 0) return;
    this.look();
    const asked = new AbortController();
    void Promise.allSettled(doubted.map(({ host }) => this.#running.get(host))).then(() => asked.abort());
    await sleep(msMax, asked.signal);
  }

  /** Begins no further check, and resolves when the running ones have ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#timer);
    await Promise.allSettled(this.#running.values());
  }

  async #check(replica: Replica): Promise<void> {
    try {
      this.#options.choice.checked(replica, await this.#options.ask(replica));
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      if (!this.#stopped) this.#options.choice.checked(replica, error);
    }
  }
}
