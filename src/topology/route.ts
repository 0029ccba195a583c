/**
 * Which shard a row goes to. The rule is that of ClickHouse's Distributed tables: the remainder of the key's
 * hash by the sum of all weights falls into a shard's interval; with one shard that is always shard 0. The
 * transcoder keeps to the same rule on its hot path, and src/transcode/sharding.ts says what the hashes are.
 */
import { assert } from '../base/errors.ts';
import type { Topology } from './topology.ts';

/**
 * The shard for a row, the same for the same hash as long as the topology is the same.
 * @param hash of the row's sharding key, a whole number from 0 to 2^53 - 1
 */
export function shardOf({ shards }: Topology, hash: number): number {
  assert(Number.isSafeInteger(hash) && hash >= 0, `${hash} is no hash`);
  const sum = shards.reduce((total, shard) => total + shard.weight, 0);
  assert(sum > 0, 'a topology has a shard with a weight');
  let rest = hash % sum;
  for (const shard of shards) {
    if (rest < shard.weight) return shard.shard;
    rest -= shard.weight;
  }
  throw new Error('unreachable: the rest is below the sum of the weights');
}
