/**
 * Which replica of a shard is written to: the first, until it fails; then the next, and back to the first
 * after the last. It stays where it is while that works, so that a replica that comes and goes is not tried
 * by every batch.
 */
import { assert } from '../base/errors.ts';
import type { Replica, Topology } from './topology.ts';

export class ReplicaChoice {
  readonly #topology: Topology;
  /** Position of the chosen replica, per shard. */
  readonly #chosen: number[];

  constructor(topology: Topology) {
    this.#topology = topology;
    this.#chosen = topology.shards.map(() => 0);
  }

  /** The replica to try now. */
  of(shard: number): Replica {
    const replica = this.#topology.shards[shard]?.replicas[this.#chosen[shard] ?? 0];
    assert(replica, `a batch is for shard ${shard}, of which the topology knows no replica`);
    return replica;
  }

  /**
   * Moves the shard on from a replica that could not take an insert.
   * Does nothing if it moved on already: of several inserts that fail together only the first counts.
   */
  failed({ shard, replica }: Replica): void {
    if (this.#chosen[shard] !== replica) return;
    this.#chosen[shard] = (replica + 1) % (this.#topology.shards[shard]?.replicas.length ?? 1);
  }
}
