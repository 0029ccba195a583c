/**
 * What a role has once for each shard. Shards appear while it runs; none ever goes away, since batches may be
 * bound to it.
 */
import { assert } from '../base/errors.ts';

export class PerShard<Part> {
  readonly #make: (shard: number) => Part;
  readonly #parts: Part[] = [];

  /** @param make the part of a shard, called once for each */
  constructor(make: (shard: number) => Part) {
    this.#make = make;
  }

  /** In the order of the shards. */
  get all(): readonly Part[] {
    return this.#parts;
  }

  /** Makes what is missing for so many shards. */
  grow(count: number): void {
    while (this.#parts.length < count) this.#parts.push(this.#make(this.#parts.length));
  }

  /** The part of a shard, made when it is asked for the first time. */
  of(shard: number): Part {
    if (shard >= this.#parts.length) this.grow(shard + 1);
    const part = this.#parts[shard];
    assert(part !== undefined, `shard ${shard} is a position`);
    return part;
  }
}
