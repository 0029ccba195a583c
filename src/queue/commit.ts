/**
 * Group commit, one per signal. Enter: requests. Leave: one append to Redis for all requests that came while
 * the append before was under way. Nothing waits when idle, and groups grow by themselves under load.
 *
 *   submit → open blocks → (closed, compressed) → fragments → store.append, per shard → its promises
 *
 * A request is acknowledged with its group, once every shard has its part, never before. A group that fails,
 * if only on one shard, fails as a whole: its clients send again.
 */
import { sleep, tickMs } from '../base/clock.ts';
import { assert } from '../base/errors.ts';
import type { Instruments } from '../metrics/instruments.ts';
import type { Fragment, Layout } from '../model/batch.ts';
import type { OpenBlocks } from '../model/block.ts';
import type { Outcome } from '../model/outcome.ts';
import type { Signal } from '../model/signal.ts';
import type { AppendResult, Items } from './batch-store.ts';

/**
 * Makes the stored form of a block. The result is newly allocated; the block is only read during the call.
 */
export interface BlockCompressor {
  readonly layout: Layout;
  compress(block: Uint8Array): Uint8Array;
}

export interface GroupCommitOptions {
  readonly signal: Signal;
  readonly blocks: OpenBlocks;
  readonly compressor: BlockCompressor;
  readonly store: {
    append(shard: number, fragments: readonly Fragment[], items: Items): Promise<AppendResult>;
  };
  /** Open blocks of about this size become fragments of the group without waiting for its commit. */
  readonly fragmentBytesMax: number;
  /** What an append to a shard did: sealed batches want jobs. Must return at once. */
  readonly onStored: (shard: number, result: AppendResult) => void;
  readonly instruments: Pick<Instruments, 'commitSeconds' | 'commits' | 'fragmentBytes'>;
}

/** Of one append: what Redis has to copy in one go while everybody else waits. Then the next group begins. */
const COMMIT_BYTES_MAX = 8_388_608;
/**
 * With several shards a group is as many appends, and small blocks cost the more CPU a row. Therefore groups
 * begin so far apart for each further shard, unless they are larger than so many bytes (before compression)
 * for each. Whoever sends alone doesn't wait either.
 */
const GATHER_MS = 1;
const GATHER_MS_MAX = 10;
const GATHER_BYTES = 131_072;

interface Waiter {
  readonly outcome: Outcome;
  readonly resolve: (outcome: Outcome) => void;
  readonly reject: (error: unknown) => void;
}

/** Requests that are stored together. */
interface Group {
  readonly waiters: Waiter[];
  /** Blocks that were closed already, and fragments made elsewhere. */
  readonly fragments: Fragment[];
  fragmentBytes: number;
  /** Records accepted of all its requests. */
  accepted: number;
}

/** What a shard gets of a group: one append. */
interface Part {
  readonly shard: number;
  readonly fragments: Fragment[];
  rows: number;
}

export class GroupCommit {
  readonly #options: GroupCommitOptions;
  /** Groups that were full before their turn came, oldest first. */
  readonly #full: Group[] = [];
  /** The group that requests join; what is in the open blocks belongs to it. */
  #group: Group = newGroup();
  #running = false;
  #drained: (() => void)[] = [];
  /** Shards that rows go to. */
  #shards = 1;
  #startedAtMs = Number.NEGATIVE_INFINITY;
  /** Ends the wait for a larger group. */
  #gathering: AbortController | undefined;

  constructor(options: GroupCommitOptions) {
    this.#options = options;
  }

  /**
   * Stores the records of one Export<Signal>ServiceRequest (protobuf; only read during the call). Resolves
   * once they are in Redis, at once when there are none. Rejects with Malformed (this request alone) or with
   * the Fault of the commit, the same for its whole group: then nothing may be assumed to be stored.
   */
  async submit(request: Uint8Array): Promise<Outcome> {
    const { blocks, fragmentBytesMax } = this.#options;
    const outcome = blocks.append(request);
    if (outcome.accepted === 0) return outcome;
    const stored = this.#join(outcome);
    if (blocks.bytes >= fragmentBytesMax) {
      this.#closeBlocks();
      this.#startNextWhenFull();
    }
    if (this.#gathering !== undefined && this.#isLarge()) this.#gathering.abort();
    return stored;
  }

  /**
   * Stores fragments that were made elsewhere, with the group that is open. They hold the records that
   * `outcome` counts as accepted, and belong to the commit until the promise settles. Resolves and rejects as
   * `submit`.
   */
  async submitFragments(fragments: readonly Fragment[], outcome: Outcome): Promise<Outcome> {
    if (outcome.accepted === 0) return outcome;
    for (const fragment of fragments) this.#add(fragment);
    const stored = this.#join(outcome);
    if (this.#group.fragmentBytes >= COMMIT_BYTES_MAX) this.#closeBlocks();
    this.#startNextWhenFull();
    return stored;
  }

  /** The weights of the shards for later requests; rows that are open stay with their shard. */
  route(weights: readonly number[]): void {
    this.#shards = weights.filter((weight) => weight > 0).length;
    this.#options.blocks.route(weights);
  }

  /**
   * Resolves when nothing is open and nothing under way. Does not keep new requests out: that is the door's
   * work.
   */
  drain(): Promise<void> {
    if (!this.#running) return Promise.resolve();
    return new Promise((resolve) => this.#drained.push(resolve));
  }

  #join(outcome: Outcome): Promise<Outcome> {
    this.#group.accepted += outcome.accepted;
    const stored = new Promise<Outcome>((resolve, reject) =>
      this.#group.waiters.push({ outcome, resolve, reject }),
    );
    if (!this.#running) {
      this.#running = true;
      // Not sooner: setImmediate comes after all sockets that are readable in this turn of the event loop, so
      // requests that arrived together share the first commit too. Against a microtask it saved 13 % of the
      // CPU per request at 16 connections, and cost an idle gateway no latency that could be measured.
      setImmediate(() => void this.#run());
    }
    return stored;
  }

  async #run(): Promise<void> {
    for (;;) {
      const waitMs = this.#gatherMs();
      if (waitMs > 0) await this.#gather(waitMs);
      const group = this.#next();
      if (group === undefined) break;
      await this.#commit(group);
    }
    this.#running = false;
    for (const resolve of this.#drained.splice(0)) resolve();
  }

  /** How long the next group should still wait for further requests. */
  #gatherMs(): number {
    if (this.#shards === 1 || this.#group.waiters.length === 0 || this.#isLarge()) return 0;
    const spacingMs = Math.min(GATHER_MS_MAX, GATHER_MS * (this.#shards - 1));
    return this.#startedAtMs + spacingMs - tickMs();
  }

  async #gather(waitMs: number): Promise<void> {
    this.#gathering = new AbortController();
    await sleep(waitMs, this.#gathering.signal);
    this.#gathering = undefined;
  }

  /** Whether waiting for further requests would save little. */
  #isLarge(): boolean {
    const { fragments } = this.#group;
    const full = this.#full.length > 0 || fragments.length > 0;
    return full || this.#options.blocks.bytes >= GATHER_BYTES * this.#shards;
  }

  #next(): Group | undefined {
    const full = this.#full.shift();
    if (full !== undefined) return full;
    if (this.#group.waiters.length === 0) return undefined;
    return this.#takeGroup();
  }

  #takeGroup(): Group {
    this.#closeBlocks();
    const group = this.#group;
    this.#group = newGroup();
    return group;
  }

  /** Whatever becomes of the appends, the group's requests get to know, and the next group has its turn. */
  async #commit(group: Group): Promise<void> {
    const { signal, instruments } = this.#options;
    const startedAtMs = tickMs();
    this.#startedAtMs = startedAtMs;
    const parts = partsOf(group);
    // All at once: they follow each other on one connection. All have to end before anybody is told.
    const ends = await Promise.allSettled(parts.map((part) => this.#append(part)));
    const failed = ends.find((end) => end.status === 'rejected');
    if (failed !== undefined) {
      instruments.commits.inc({ outcome: 'failed' });
      for (const { reject } of group.waiters) reject(failed.reason);
      return;
    }
    for (const { resolve, outcome } of group.waiters) resolve(outcome);
    instruments.commitSeconds.observe((tickMs() - startedAtMs) / 1000);
    instruments.commits.inc({ outcome: 'stored' });
    instruments.fragmentBytes.inc({ signal }, group.fragmentBytes);
  }

  async #append({ shard, fragments, rows }: Part): Promise<void> {
    const { signal, store, onStored } = this.#options;
    const result = await store.append(shard, fragments, { signal, accepted: rows });
    onStored(shard, result);
  }

  /** Makes fragments of the open blocks; they stay in the group whose requests filled them. */
  #closeBlocks(): void {
    const { blocks, compressor } = this.#options;
    if (blocks.rows === 0) return;
    const { layout } = compressor;
    for (const { shard, table, rows, bytes } of blocks.close()) {
      this.#add({ shard, table, layout, rows, bytes: compressor.compress(bytes) });
    }
  }

  #add(fragment: Fragment): void {
    this.#group.fragments.push(fragment);
    this.#group.fragmentBytes += fragment.bytes.byteLength;
  }

  /**
   * A full group waits for its turn; only possible when its blocks are closed, so that nobody's rows are
   * divided.
   */
  #startNextWhenFull(): void {
    if (this.#group.fragmentBytes < COMMIT_BYTES_MAX) return;
    this.#full.push(this.#group);
    this.#group = newGroup();
  }
}

/** @returns one part for each shard that the group has rows for, with its fragments in their order */
function partsOf({ fragments, accepted }: Group): Part[] {
  const parts: Part[] = [];
  let part: Part | undefined;
  let rows = 0;
  for (const fragment of fragments) {
    const { shard } = fragment;
    if (part?.shard !== shard) part = parts.find((other) => other.shard === shard);
    if (part === undefined) {
      part = { shard, fragments: [], rows: 0 };
      parts.push(part);
    }
    part.fragments.push(fragment);
    part.rows += fragment.rows;
    rows += fragment.rows;
  }
  assert(rows === accepted, `${accepted} accepted items are as many rows, not ${rows}`);
  return parts;
}

function newGroup(): Group {
  return { waiters: [], fragments: [], fragmentBytes: 0, accepted: 0 };
}
