/** The Redis of a storm, in whichever topology: what roles connect to, and what is done to it. */
import type { EmbeddedService } from '../../../src/embedded/service.ts';
import { startEmbeddedRedis } from '../../../src/embedded/redis.ts';
import { LeanConnection } from '../../../src/redis/lean.ts';
import type { Reply } from '../../../src/redis/replies.ts';
import {
  type FarmNode, type RedisFarm, startRedisCluster, startSentinelTrio,
} from '../../support/redis-farm.ts';
import { eventually, freePort, silent } from '../../support/services.ts';
import { StormProxy } from './proxy.ts';

export const VARIANTS = ['standalone', 'sentinel', 'cluster'] as const;
export type Variant = (typeof VARIANTS)[number];

const ASK_MS_MAX = 2_000;

export interface StormRedis {
  /** Settings of a role; the second is its link to Redis, where there is one that can be broken. */
  linkFor(role: string): Promise<{ environment: Record<string, string>; link: StormProxy | undefined }>;
  /**
   * Resolves when every replica follows its master again: an acknowledgement that waited for one replica
   * survives one failure, not a second one before that is mended. @throws Error when that doesn't come about
   */
  whole(): Promise<void>;
  /** Kills what takes writes now (of a cluster: the n-th master, counted round), without a warning. */
  kill(nth: number): Promise<void>;
  /** Starts again what was killed, on the same data. */
  restart(): Promise<void>;
  /** The server that takes writes answers nothing until `thaw`. */
  freeze(nth: number): Promise<void>;
  thaw(): Promise<void>;
  /** One command at every server that takes writes. */
  everywhere(...parts: string[]): Promise<Reply[]>;
  /** One command about a key. */
  ask(key: string, ...parts: string[]): Promise<Reply>;
  stop(): Promise<void>;
}

/** One command over a connection of its own. @throws Fault */
export async function askRedis(port: number, parts: readonly string[]): Promise<Reply> {
  const endpoint = { host: '127.0.0.1', port, tls: false, db: 0 };
  const connection = new LeanConnection({ endpoint, timeoutMs: ASK_MS_MAX, logger: silent });
  try {
    await connection.connect();
    return await connection.command(parts);
  } finally {
    connection.close();
  }
}

/** One server with appendfsync everysec: what it has answered outlives its process. */
export async function startStandalone(dataDir: string): Promise<StormRedis> {
  const port = await freePort();
  const up = () => startEmbeddedRedis({ dataDir, port, logger: silent });
  let service: EmbeddedService = await up();
  const links: StormProxy[] = [];
  const signal = (name: NodeJS.Signals) => process.kill(service.pid, name);
  const ask = (parts: readonly string[]) => askRedis(port, parts);
  return {
    async linkFor() {
      const link = await StormProxy.start(port);
      links.push(link);
      return { environment: { SLUICE_REDIS_URL: `redis://127.0.0.1:${link.port}/0` }, link };
    },
    async whole() {
      await ask(['PING']);
    },
    async kill() {
      signal('SIGKILL');
      await service.ended;
    },
    async restart() {
      service = await up();
    },
    async freeze() {
      signal('SIGSTOP');
    },
    async thaw() {
      signal('SIGCONT');
    },
    everywhere: async (...parts) => [await ask(parts)],
    ask: (_key, ...parts) => ask(parts),
    async stop() {
      await Promise.all(links.map((link) => link.stop()));
      await service.stop();
    },
  };
}

const WHOLE_MS_MAX = 20_000;
/** Of the kills of a Redis with replicas, one in so many hits a replica. */
const REPLICA_EVERY = 4;

/** A master, two replicas and three sentinels. */
export async function startSentinel(): Promise<StormRedis> {
  const trio = await startSentinelTrio();
  const master = () => trio.master();
  const masters = async () => [await master()];
  return replicated(trio, { masters, masterOf: master, replicas: 2, forgetful: true });
}

/** Three masters with a replica each; the shards' keys lie on two of them. */
export async function startCluster(): Promise<StormRedis> {
  const cluster = await startRedisCluster();
  const masters = () => cluster.masters();
  const masterOf = (key: string) => cluster.master(key);
  return replicated(cluster, { masters, masterOf, replicas: 1, forgetful: false });
}

interface Masters {
  masters(): Promise<readonly FarmNode[]>;
  masterOf(key: string): Promise<FarmNode>;
  /** Of each master. */
  readonly replicas: number;
  /**
   * Whether its servers start as what they were at first, by their arguments, and not as what they had
   * become: a promoted one that is back before anybody noticed would follow a server that follows it.
   */
  readonly forgetful: boolean;
}

function replicated(farm: RedisFarm, options: Masters): StormRedis {
  const { masters, masterOf, replicas, forgetful } = options;
  const environment = {
    SLUICE_REDIS_URL: farm.url,
    SLUICE_REDIS_DURABILITY: 'replicated',
    SLUICE_REDIS_REPLICAS: '1',
  };
  const killed: FarmNode[] = [];
  const frozen: FarmNode[] = [];
  const nthMaster = async (nth: number) => {
    const all = await masters();
    return all[nth % all.length] as FarmNode;
  };
  const isReplaced = async (node: FarmNode) => !(await masters().catch(() => killed)).includes(node);
  const isWhole = async () => {
    const all = await masters();
    const words = await Promise.all(all.map((node) => node.ask('INFO', 'replication')));
    return words.every((word) => String(word).match(/state=online/g)?.length === replicas);
  };
  return {
    linkFor: async () => ({ environment, link: undefined }),
    async whole() {
      await eventually('every replica follows', () => isWhole().catch(() => false), WHOLE_MS_MAX);
    },
    async kill(nth) {
      const taking = await masters();
      const others = farm.nodes.filter((node) => !taking.includes(node) && node.running());
      const replica = nth % REPLICA_EVERY === 0 ? others[nth % others.length] : undefined;
      const node = replica ?? (await nthMaster(nth));
      killed.push(node);
      await node.kill();
    },
    async restart() {
      // One that doesn't start is tried again by whoever calls this again.
      for (const node of [...killed]) {
        if (forgetful) await eventually('another master', () => isReplaced(node), WHOLE_MS_MAX);
        if (!node.running()) await node.start();
        killed.splice(killed.indexOf(node), 1);
      }
    },
    async freeze(nth) {
      const node = await nthMaster(nth);
      frozen.push(node);
      node.signal('SIGSTOP');
    },
    async thaw() {
      for (const node of frozen.splice(0)) node.signal('SIGCONT');
    },
    everywhere: async (...parts) => Promise.all((await masters()).map((node) => node.ask(...parts))),
    ask: async (key, ...parts) => (await masterOf(key)).ask(...parts),
    stop: () => farm.stop(),
  };
}
