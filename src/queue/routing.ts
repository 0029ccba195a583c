/**
 * The routing: which shards there are and what share of the rows each gets. Writers, who watch ClickHouse,
 * publish it in Redis; gateways only read it. Shards are positions for ever, since batches in Redis are bound
 * to them: one that left stays with weight 0, and none may change its position.
 */
import { z } from 'zod';
import { assert, Fault } from '../base/errors.ts';
import type { RedisCommands } from '../redis/client.ts';
import { shardNamesMoved } from '../topology/moves.ts';
import type { Topology } from '../topology/topology.ts';
import { ROUTING_KEY } from './keys.ts';
import { jsonOf } from './read.ts';
import { SCRIPTS } from './scripts.ts';

export interface RoutedShard {
  /** The macro {shard} of its hosts; empty where nobody knew one so far. */
  readonly name: string;
  /** The share of the rows, in relation to the sum of all; 0 takes no new rows. */
  readonly weight: number;
}

export interface Routing {
  /** As in system.clusters; empty for servers that know no cluster. */
  readonly cluster: string;
  /** Grows by one with each change. 0 is a routing that was never published. */
  readonly generation: number;
  readonly shards: readonly RoutedShard[];
  /** What rows were placed by before, the newest first; `untilMs` by Redis' clock. Redis adds it. */
  readonly before?: readonly PastRouting[];
}

export interface PastRouting {
  readonly generation: number;
  readonly weights: readonly number[];
  readonly untilMs: number;
}

/** Routings that are kept in mind: more changes than this within a resend window are not expected. */
const PAST_MAX = 16;

/** As in append.lua: what a shard remembers of a generation beside the time. */
const GENERATIONS = 65_536;

/** Of a generation, or of the score of a request that was placed by it. */
export function remainderOf(generation: number): number {
  return generation % GENERATIONS;
}

/** Without a cluster there is one shard, and nothing in Redis. */
export const ONE_SHARD: Routing = { cluster: '', generation: 0, shards: [{ name: '', weight: 1 }] };

const SCHEMA = z.object({
  cluster: z.string(),
  generation: z.int().min(1),
  shards: z
    .array(z.object({ name: z.string(), weight: z.int().min(0) }))
    .refine((shards) => shards.some(({ weight }) => weight > 0)),
  before: z
    .array(z.object({ generation: z.int(), weights: z.array(z.int().min(0)), untilMs: z.number() }))
    .exactOptional(),
});

/** `overtaken`: somebody else published first. The others: the routing would lose shards, see the script. */
export type Published = 'published' | 'overtaken' | 'cluster' | 'fewer' | 'moved';

/** The routing in Redis. Rejects with the Faults of src/redis. */
export class RoutingStore {
  readonly #redis: RedisCommands;

  constructor(redis: RedisCommands) {
    this.#redis = redis;
  }

  /** What is published; `undefined` when nothing is. @throws Fault `routing_unreadable` (elsewhere) */
  async read(): Promise<Routing | undefined> {
    const text = await this.#redis.command(['GET', ROUTING_KEY], ROUTING_KEY);
    return text === null ? undefined : parseRouting(String(text));
  }

  /**
   * Publishes the routing, which has to be the next generation, unless another one than `previousGeneration`
   * (0 for none) is there by now.
   */
  async publish(previousGeneration: number, routing: Routing): Promise<Published> {
    assert(routing.generation === previousGeneration + 1, 'a change is the next generation');
    const args = [previousGeneration, JSON.stringify(routing), PAST_MAX];
    return (await SCRIPTS.publishRouting.run(this.#redis, [ROUTING_KEY], args)) as Published;
  }
}

/** @throws Fault `routing_unreadable` for what another version, or somebody else, has written */
export function parseRouting(text: string): Routing {
  const parsed = SCHEMA.safeParse(jsonOf(text));
  if (parsed.success) return parsed.data;
  const message = `${ROUTING_KEY} in Redis is no routing that this version can read: ${text.slice(0, 200)}`;
  throw new Fault('routing_unreadable', 'elsewhere', message);
}

export function sameRouting(one: Routing, other: Routing): boolean {
  return one.generation === other.generation && one.cluster === other.cluster && sameShards(one, other);
}

export type NextRouting =
  | { readonly kind: 'same' }
  | { readonly kind: 'changed'; readonly routing: Routing }
  /** The routing stays as it is. `message` says why, and what to do. */
  | { readonly kind: 'refused'; readonly message: string };

/**
 * What the routing becomes with this topology. Weights are those of the definition, but a shard that has had
 * none so far gets its first only when it is ready, and one that is not in the definition has none. Pure.
 * @param current undefined before the first
 * @param ready whether a replica of the shard (a position in the topology) has all tables
 */
export function nextRouting(
  current: Routing | undefined,
  topology: Topology,
  ready: (shard: number) => boolean,
): NextRouting {
  const conflict = conflictOf(current, topology);
  if (conflict !== undefined) return { kind: 'refused', message: conflict };
  const old = current?.shards ?? [];
  const count = Math.max(old.length, topology.shards.length);
  const shards = Array.from({ length: count }, (_, position): RoutedShard => {
    const before = old[position];
    const shard = topology.shards[position];
    // While none of its hosts can be asked, a shard has the name that it had.
    const name = shard?.name || before?.name || '';
    if (shard === undefined || shard.weight === 0) return { name, weight: 0 };
    return { name, weight: (before?.weight ?? 0) > 0 || ready(position) ? shard.weight : 0 };
  });
  if (shards.every(({ weight }) => weight === 0)) return { kind: 'refused', message: nobodyReady(topology) };
  const routing = { cluster: topology.cluster, generation: (current?.generation ?? 0) + 1, shards };
  if (current !== undefined && sameShards(current, routing)) return { kind: 'same' };
  return { kind: 'changed', routing };
}

/**
 * Why batches that are bound to the shards of the routing may not go to the shards of this topology, in
 * words; undefined where they may. Pure.
 */
export function conflictOf(current: Routing | undefined, { cluster, shards }: Topology): string | undefined {
  if (current === undefined) return undefined;
  if (current.cluster !== cluster) return foreignCluster(current.cluster, cluster);
  const names = (of: readonly { readonly name: string }[]) => of.map(({ name }) => name);
  return shardNamesMoved(names(current.shards), names(shards))?.message;
}

/** What to tell whoever finds another cluster's routing. */
export function foreignCluster(found: string, wanted: string): string {
  const own = wanted === '' ? 'no cluster is set' : `the cluster "${wanted}" is set`;
  return (
    `this Redis holds the batches of the cluster "${found}", but ${own} ` +
    '(SLUICE_CLICKHOUSE_CLUSTER, SLUICE_REDIS_URL)'
  );
}

function nobodyReady({ cluster, shards }: Topology): string {
  const weighty = shards.filter(({ weight }) => weight > 0).map(({ shard }) => shard + 1);
  if (weighty.length === 0) return `every shard of the cluster "${cluster}" has weight 0`;
  return (
    `the cluster "${cluster}" can't take rows: of its shards with a weight (${weighty.join(', ')}) ` +
    'none has a replica with all tables (sluice migrate apply, or repair for a new shard)'
  );
}

function sameShards({ shards }: Routing, other: Routing): boolean {
  if (shards.length !== other.shards.length) return false;
  return shards.every(({ name, weight }, position) => {
    const their = other.shards[position];
    return name === their?.name && weight === their.weight;
  });
}
