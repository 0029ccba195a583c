/**
 * Looks at the cluster again and again. What the hosts agree on becomes the topology in use; while they
 * don't, or while something makes it unusable, the one in use stays. Each fault is logged when it begins and
 * when it ends.
 */
import { sleep } from '../base/clock.ts';
import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Instruments } from '../metrics/instruments.ts';
import type { Discovery } from './discover.ts';
import { type TopologyFault, counts, keyOf } from './faults.ts';
import { shardsMoved } from './moves.ts';
import type { Topology } from './topology.ts';

export interface TopologyWatchOptions {
  /** One look; another one begins `everyMs` after it has ended. */
  readonly discover: () => Promise<Discovery>;
  readonly everyMs: number;
  readonly instruments: Pick<Instruments, 'topologyShards' | 'topologyFaults' | 'topologyChanges'>;
  readonly logger: Logger;
  /**
   * Called with the first topology, and whenever members, addresses, weights or who answers have changed. The
   * next look waits for it; it is called again after the next change if it throws.
   */
  readonly onChange: (topology: Topology, discovery: Discovery) => void | Promise<void>;
}

const LOG_LEVEL = { error: 'error', warning: 'warn', note: 'info' } as const;

export class TopologyWatch {
  readonly #options: TopologyWatchOptions;
  readonly #ending = new AbortController();
  #running: Promise<void> | undefined;
  #topology: Topology | undefined;
  #discovery: Discovery | undefined;
  /** What was handed out last, members and who answered, as text to compare. */
  #told = '';
  #faults = new Map<string, TopologyFault>();

  constructor(options: TopologyWatchOptions) {
    this.#options = options;
  }

  /** In use; undefined until one was found. */
  get topology(): Topology | undefined {
    return this.#topology;
  }

  /** The last look, whatever became of it. */
  get discovery(): Discovery | undefined {
    return this.#discovery;
  }

  /** Begins with a look at once. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Resolves when nothing is called any more; a look under way is not waited for. */
  async stop(): Promise<void> {
    this.#ending.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#ending;
    const ended = new Promise<undefined>((resolve) =>
      signal.addEventListener('abort', () => resolve(undefined), { once: true }),
    );
    while (!signal.aborted) {
      try {
        const discovery = await Promise.race([this.#options.discover(), ended]);
        if (discovery !== undefined && !signal.aborted) await this.#take(discovery);
      } catch (error) {
        this.#options.logger.error({ err: error }, `a look at the cluster failed: ${messageOf(error)}`);
      }
      await sleep(this.#options.everyMs, signal);
    }
  }

  async #take(found: Discovery): Promise<void> {
    const { instruments, onChange } = this.#options;
    const moved = this.#topology && found.topology && shardsMoved(this.#topology, found.topology);
    const faults = moved === undefined ? found.faults : [...found.faults, moved];
    const usable = moved === undefined ? found.topology : undefined;
    const discovery: Discovery = { ...found, topology: usable, faults };
    this.#discovery = discovery;
    this.#log(faults);
    instruments.topologyFaults.set(faults.filter(counts).length);
    if (usable === undefined) return;
    if (this.#topology !== undefined && different(this.#topology, usable)) instruments.topologyChanges.inc();
    this.#topology = usable;
    instruments.topologyShards.set(usable.shards.length);
    const telling = JSON.stringify([usable, found.hosts.map(({ host, reachable }) => [host, reachable])]);
    if (telling === this.#told) return;
    await onChange(usable, discovery);
    this.#told = telling;
  }

  #log(faults: readonly TopologyFault[]): void {
    const { logger } = this.#options;
    const now = new Map(faults.map((fault) => [keyOf(fault), fault]));
    for (const [key, { severity, code, hosts, message }] of now) {
      if (!this.#faults.has(key)) logger[LOG_LEVEL[severity]]({ code, hosts }, message);
    }
    for (const [key, { code, hosts, message }] of this.#faults) {
      if (!now.has(key)) logger.info({ code, hosts }, `over: ${message}`);
    }
    this.#faults = now;
  }
}

function different(one: Topology, other: Topology): boolean {
  return JSON.stringify(one) !== JSON.stringify(other);
}
