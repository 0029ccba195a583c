/**
 * The Redis of the settings, whatever its topology: one server, the master that sentinels name, or the
 * masters of a cluster. Whoever uses it names the key that a command is about, and needn't know more.
 */
import { assert } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Address } from '../config/settings.ts';
import type { Instruments } from '../metrics/instruments.ts';
import { type RedisSettings, accessOf, sentinelAccessOf } from './access.ts';
import { ClusterNodes } from './cluster.ts';
import type { LeanConnection } from './lean.ts';
import { RedisNode } from './node.ts';
import { ReplicaWait } from './replicas.ts';
import type { Reply } from './replies.ts';
import type { CommandPart } from './resp.ts';
import { Sentinels } from './sentinel.ts';
import { parseRedisUrl } from './url.ts';

/** What a script or a short question needs. */
export interface RedisCommands {
  /**
   * Sends one command. Payloads (Uint8Array parts) are not copied: they must stay as they are until the
   * promise settles. Rejects with a Fault as `LeanConnection.command` does.
   * @param key one that the command is about: its slot decides which node of a cluster is asked
   */
  command(parts: readonly CommandPart[], key?: string): Promise<Reply>;
}

/** What a change needs that has to last. */
export interface DurableCommands extends RedisCommands {
  durably(parts: readonly CommandPart[], key: string): Promise<Reply>;
}

export interface RedisClientOptions {
  readonly redis: RedisSettings;
  readonly logger: Logger;
  readonly instruments?: Pick<Instruments, 'redisUp' | 'redisReconnects' | 'replicasMissing'> | undefined;
}

/** What topologies differ in. */
interface Nodes {
  readonly ready: boolean;
  readonly masters: readonly LeanConnection[];
  connect(): Promise<void>;
  homeOf(key: string): Address | undefined;
  /** Lets the action talk to the node of the key, to another one when the key has moved there. */
  send<T>(key: string | undefined, action: (node: RedisNode) => Promise<T>): Promise<T>;
  close(): void;
}

export class RedisClient implements DurableCommands {
  readonly #nodes: Nodes;
  readonly #replicaWait: ReplicaWait | undefined;
  readonly #instruments: RedisClientOptions['instruments'];
  /** Where the readers that were given out belong. */
  readonly #homes = new WeakMap<LeanConnection, RedisNode>();
  #up = false;
  #wasUp = false;

  /** @throws ConfigurationError where the URL or a TLS file of the settings is of no use */
  constructor(options: RedisClientOptions) {
    this.#instruments = options.instruments;
    this.#instruments?.redisUp.set(0);
    this.#nodes = nodesOf(options, () => this.#note());
    this.#replicaWait = options.redis.durability === 'replicated' ? new ReplicaWait(options) : undefined;
  }

  /** Whether commands can be sent now, to every node that keys may lie on. */
  get ready(): boolean {
    return this.#nodes.ready;
  }

  /** Resolves when Redis answers; rejects with the Fault of the first try (it is tried on until `close`). */
  connect(): Promise<void> {
    return this.#nodes.connect();
  }

  command(parts: readonly CommandPart[], key?: string): Promise<Reply> {
    return this.#nodes.send(key, (node) => node.connection.command(parts));
  }

  /**
   * The same, and what `redis.durability` asks for beyond the answer: with `replicated`, that so many
   * replicas have what this command has written.
   * @throws Fault also as `ReplicaWait.send`
   */
  durably(parts: readonly CommandPart[], key: string): Promise<Reply> {
    const wait = this.#replicaWait;
    if (wait === undefined) return this.command(parts, key);
    return this.#nodes.send(key, (node) => wait.send(node, parts));
  }

  /** A connection to the node of a key, for streams. The caller's until `giveReader`. @throws Fault */
  takeReader(key: string): Promise<LeanConnection> {
    return this.#nodes.send(key, async (node) => {
      const reader = await node.take();
      this.#homes.set(reader, node);
      return reader;
    });
  }

  giveReader(reader: LeanConnection): void {
    const home = this.#homes.get(reader);
    assert(home !== undefined, 'a reader that was taken here is given back');
    home.give(reader);
  }

  /** Connections to all masters, to look at them one by one. */
  get masters(): readonly LeanConnection[] {
    return this.#nodes.masters;
  }

  /** The server that the key lies on; `undefined` while that is unknown. */
  homeOf(key: string): Address | undefined {
    return this.#nodes.homeOf(key);
  }

  /** Ends all connections; what is under way rejects. */
  close(): void {
    this.#nodes.close();
    this.#note();
  }

  #note(): void {
    const up = this.#nodes.ready;
    if (up === this.#up) return;
    this.#up = up;
    this.#instruments?.redisUp.set(up ? 1 : 0);
    if (up && this.#wasUp) this.#instruments?.redisReconnects.inc();
    this.#wasUp ||= up;
  }
}

function nodesOf({ redis, logger }: RedisClientOptions, onChange: () => void): Nodes {
  const target = parseRedisUrl(redis.url);
  const access = accessOf(redis, target);
  const { timeoutMs } = redis;
  const common = { timeoutMs, logger, onChange };
  if (target.kind === 'cluster') return new ClusterNodes({ ...common, nodes: target.nodes, access });
  if (target.kind === 'standalone') {
    const endpoint = { ...access, ...target.address };
    return new OneNode(new RedisNode({ ...common, endpoint, masterOnly: true }));
  }
  const sentinels = new Sentinels({ ...target, access: sentinelAccessOf(redis, target), timeoutMs, logger });
  const endpoint = async () => ({ ...access, ...(await sentinels.master()) });
  return new OneNode(new RedisNode({ ...common, endpoint, masterOnly: true }), sentinels);
}

/** Every key lies on the one master. */
class OneNode implements Nodes {
  readonly #node: RedisNode;
  readonly #sentinels: Sentinels | undefined;

  constructor(node: RedisNode, sentinels?: Sentinels) {
    this.#node = node;
    this.#sentinels = sentinels;
  }

  get ready(): boolean {
    return this.#node.ready;
  }

  get masters(): readonly LeanConnection[] {
    return [this.#node.connection];
  }

  connect(): Promise<void> {
    const { connection } = this.#node;
    this.#sentinels?.watch(
      () => connection.endpoint,
      () => connection.giveUp(),
    );
    return this.#node.connect();
  }

  homeOf(): Address | undefined {
    return this.#node.connection.endpoint;
  }

  send<T>(_key: string | undefined, action: (node: RedisNode) => Promise<T>): Promise<T> {
    return action(this.#node);
  }

  close(): void {
    this.#sentinels?.close();
    this.#node.close();
  }
}
