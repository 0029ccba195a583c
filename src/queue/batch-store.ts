/**
 * The batches in Redis. Enter: fragments. Leave: sealed batches, their bytes, and the books. Everything that
 * changes state is one script (lua/). Fails with the Faults of src/redis, and with `batch_*` when Redis lost
 * a batch's bytes.
 */
import { randomBytes } from 'node:crypto';
import { assert, Fault, type Retry } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Settings } from '../config/settings.ts';
import type { Fragment, SealedBatch } from '../model/batch.ts';
import { type Signal, signalOf } from '../model/signal.ts';
import { RedisClient } from '../redis/client.ts';
import type { Reply } from '../redis/replies.ts';
import type { CommandPart } from '../redis/resp.ts';
import { type ShardCounts, parseCounts } from './counts.ts';
import { batchKey, jobKeyPrefix, keyPrefix, parseDescription } from './keys.ts';
import { SCRIPTS } from './scripts.ts';

export interface AppendResult {
  /** Batches that this call sealed: theirs is the job of making jobs for them. */
  readonly sealed: readonly SealedBatch[];
  /** How long the oldest open batch of the shard has been collecting; `undefined` when none is open. */
  readonly openAgeMsMax: number | undefined;
  /** Bytes of fragments in the shard: open, sealed and dead letters. */
  readonly queueBytes: number;
}

/** The items that the fragments of an append hold: as many as they have rows. */
export interface Items {
  readonly signal: Signal;
  readonly accepted: number;
}

export interface BatchStoreOptions {
  readonly redis: Settings['redis'];
  readonly batch: Settings['batch'];
  readonly logger: Logger;
}

/** About how much of a batch is asked for at once: what a reader costs in Redis' output buffers. */
const READ_BYTES = 1_048_576;

export class BatchStore {
  readonly #batch: Settings['batch'];
  readonly #logger: Logger;
  readonly #redis: RedisClient;
  readonly #queueBytes = new Map<number, number>();
  #queueBytesSum = 0;
  /** Never used twice, even when Redis was emptied: ClickHouse would drop rows under an old token. */
  readonly #idSeed = randomBytes(12).toString('hex');
  #idCounter = 0;

  constructor(options: BatchStoreOptions) {
    this.#batch = options.batch;
    this.#logger = options.logger;
    this.#redis = new RedisClient(options);
  }

  /** For inspectRedis and whoever else has a short question. */
  get redis(): RedisClient {
    return this.#redis;
  }

  /** Resolves when Redis answers; rejects with the Fault of the first try (it is tried on until `close`). */
  connect(): Promise<void> {
    return this.#redis.connect();
  }

  /** Ends all connections; what is under way rejects. */
  close(): void {
    this.#redis.close();
  }

  /** Bytes that batches took in Redis when it was last asked, all shards; 0 before. */
  get queueBytes(): number {
    return this.#queueBytesSum;
  }

  /**
   * Appends the fragments to the open batches of their tables, all or none, and seals what reaches a bound.
   * Resolves once Redis has them. The caller owns the fragments' bytes and must leave them as they are until
   * then. After a Fault `redis_unavailable` they may have been stored or not: nobody may be told that they
   * are safe.
   */
  async append(shard: number, fragments: readonly Fragment[], items: Items): Promise<AppendResult> {
    assert(fragments.length > 0, 'an append has fragments');
    let rows = 0;
    const parts: CommandPart[] = [];
    for (const fragment of fragments) {
      const fits = fragment.shard === shard && signalOf(fragment.table) === items.signal;
      assert(fits && fragment.rows > 0, 'a fragment has rows of its shard and signal');
      rows += fragment.rows;
      parts.push(`${fragment.table}:${fragment.layout}`, fragment.rows, fragment.bytes);
    }
    assert(
      rows === items.accepted,
      `${items.accepted} items are as many rows, not ${rows} (${items.signal})`,
    );
    const { rowsMax, bytesMax, ageMsMax } = this.#batch;
    const head = [this.#nextIdBase(), items.signal, rows, rowsMax, bytesMax, ageMsMax];
    return this.#sealing(shard, await this.#run('append', shard, [...head, ...parts]));
  }

  /** Seals the open batches that reached the age bound. */
  async sealDue(shard: number): Promise<AppendResult> {
    const args = [this.#nextIdBase(), this.#batch.ageMsMax];
    return this.#sealing(shard, await this.#run('sealDue', shard, args));
  }

  /**
   * Removes a batch whose insert has returned and books it as written.
   * Resolves with false when that had happened before (or it was buried): then nothing has changed.
   */
  async finish(batch: SealedBatch): Promise<boolean> {
    const args = [batch.id, signalOf(batch.table), batch.rows, batch.bytes, batch.newestAtMs];
    return (await this.#run('finish', batch.shard, args)) === 1;
  }

  /**
   * Sets a batch aside that can never be written: its bytes and description stay in Redis, with the reason (a
   * short word) and the message. Resolves with false when it was finished or buried before.
   */
  async bury(batch: SealedBatch, reason: string, message: string): Promise<boolean> {
    const why = JSON.stringify({ reason, message, buriedAt: new Date().toISOString() });
    const args = [batch.id, signalOf(batch.table), batch.rows, batch.bytes, why];
    return (await this.#run('bury', batch.shard, args)) === 1;
  }

  /** The books of a shard at one moment; per signal, accepted = written + waiting + dead. */
  async counts(shard: number): Promise<ShardCounts> {
    const counts = parseCounts(await this.#run('counts', shard, []));
    this.#noteBytes(shard, counts.queueBytes + counts.deadBytes);
    return counts;
  }

  /** Ids of sealed batches that are not written yet, the oldest first. */
  async sealedIds(shard: number, limit: number): Promise<string[]> {
    const reply = await this.#ask(shard, ['ZRANGE', `${keyPrefix(shard)}sealed`, 0, limit - 1]);
    return texts(reply);
  }

  /** The sealed batches that have waited longest. */
  async oldest(shard: number, limit: number): Promise<SealedBatch[]> {
    const ids = await this.sealedIds(shard, limit);
    if (ids.length === 0) return [];
    const descriptions = await this.#ask(shard, ['HMGET', `${keyPrefix(shard)}meta`, ...ids]);
    assert(Array.isArray(descriptions), 'HMGET answers with an array');
    // A batch that is finished between the two questions has no description any more.
    const flat = ids.flatMap((id, i) => (typeof descriptions[i] === 'string' ? [id, descriptions[i]] : []));
    return this.#describe(shard, flat);
  }

  /** Whether the batch still waits to be written: false once it was finished or buried. */
  async isSealed(batch: SealedBatch): Promise<boolean> {
    return (await this.#ask(batch.shard, ['ZSCORE', `${keyPrefix(batch.shard)}sealed`, batch.id])) !== null;
  }

  /**
   * One page of the sealed batches, oldest first, that are older than `ageMsMin`: how many there were, and
   * those of them that have no job, without those that another version has to read.
   */
  async orphans(shard: number, ageMsMin: number, offset: number, limit: number): Promise<Orphans> {
    const reply = await this.#run('orphans', shard, [jobKeyPrefix(shard), ageMsMin, offset, limit]);
    assert(Array.isArray(reply) && typeof reply[0] === 'number', 'orphans answers with an array');
    return { seen: reply[0], batches: this.#describe(shard, texts(reply.slice(1))) };
  }

  /**
   * The bytes of a batch in the order of its fragments, as views that the reader owns; none at all for a
   * batch that was finished or buried meanwhile. Reads at the pace of the reader (well under 1 MiB lies in
   * between) over a connection of its own, which breaks when the reader leaves early.
   * @throws Fault `batch_incomplete` before the first byte (never) when Redis does not have every fragment of
   * a batch that waits, and at the end (here: another writer may just have finished it) when bytes are
   * missing. An insert must not be completed then.
   */
  async *fragments(batch: SealedBatch): AsyncGenerator<Uint8Array, void, undefined> {
    const key = batchKey(batch.shard, batch.id);
    const reader = await this.#redis.takeReader(key);
    try {
      const stored = await reader.command(['LLEN', key]);
      if (stored !== batch.fragments) {
        if (!(await this.isSealed(batch))) return;
        throw incomplete(batch, 'never', `${stored} of ${batch.fragments} fragments`);
      }
      const step = Math.max(1, Math.floor((READ_BYTES * batch.fragments) / Math.max(1, batch.bytes)));
      let bytes = 0;
      for (let from = 0; from < batch.fragments; from += step) {
        for await (const view of reader.stream(['LRANGE', key, from, from + step - 1])) {
          bytes += view.byteLength;
          yield view;
        }
      }
      if (bytes !== batch.bytes) throw incomplete(batch, 'here', `${bytes} of ${batch.bytes} bytes`);
    } finally {
      this.#redis.giveReader(reader);
    }
  }

  #run(script: keyof typeof SCRIPTS, shard: number, args: readonly CommandPart[]): Promise<Reply> {
    return SCRIPTS[script].run(this.#redis, [keyPrefix(shard)], args);
  }

  #ask(shard: number, parts: readonly CommandPart[]): Promise<Reply> {
    return this.#redis.command(parts, keyPrefix(shard));
  }

  /** The sum is asked for with every request. */
  #noteBytes(shard: number, bytes: number): void {
    this.#queueBytesSum += bytes - (this.#queueBytes.get(shard) ?? 0);
    this.#queueBytes.set(shard, bytes);
  }

  #nextIdBase(): string {
    this.#idCounter += 1;
    return `${this.#idSeed}-${this.#idCounter}`;
  }

  #sealing(shard: number, reply: Reply): AppendResult {
    assert(Array.isArray(reply), 'append and sealDue answer with an array');
    const [queueBytes, openAgeMs, ...sealed] = reply;
    assert(typeof queueBytes === 'number' && typeof openAgeMs === 'number', 'the answer begins with figures');
    this.#noteBytes(shard, queueBytes);
    return {
      sealed: this.#describe(shard, texts(sealed)),
      openAgeMsMax: openAgeMs < 0 ? undefined : openAgeMs,
      queueBytes,
    };
  }

  /** Batches from a flat list of ids and descriptions. One that this version can't read is left alone. */
  #describe(shard: number, flat: readonly string[]): SealedBatch[] {
    const batches: SealedBatch[] = [];
    for (let i = 0; i + 1 < flat.length; i += 2) {
      try {
        batches.push(parseDescription(shard, flat[i] ?? '', flat[i + 1] ?? ''));
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        this.#logger.warn({ reason: error.message }, 'a batch is left to another version');
      }
    }
    return batches;
  }
}

export interface Orphans {
  /** Batches on the page, with a job or without. Less than the limit: it was the last page. */
  readonly seen: number;
  readonly batches: readonly SealedBatch[];
}

function incomplete(batch: SealedBatch, retry: Retry, found: string): Fault {
  const name = `batch ${batch.id} of ${batch.table}, shard ${batch.shard}`;
  return new Fault('batch_incomplete', retry, `${name}: Redis has ${found}`);
}

function texts(reply: Reply): string[] {
  assert(Array.isArray(reply), 'Redis answers with an array');
  return reply.map(String);
}
