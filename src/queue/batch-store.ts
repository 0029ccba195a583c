/**
 * The batches in Redis. Enter: fragments. Leave: sealed batches, their bytes, and the books. Everything that
 * changes state is one script (lua/). Fails with the Faults of src/redis, and with `batch_*` when Redis lost
 * a batch's bytes.
 */
import { randomBytes } from 'node:crypto';
import { assert, Fault, type Retry } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Settings } from '../config/settings.ts';
import type { BatchTrace, Fragment, SealedBatch } from '../model/batch.ts';
import { type Signal, signalOf } from '../model/signal.ts';
import { RedisClient, type RedisClientOptions } from '../redis/client.ts';
import type { Reply } from '../redis/replies.ts';
import type { CommandPart } from '../redis/resp.ts';
import { type ShardCounts, parseCounts } from './counts.ts';
import { batchKey, jobKeyPrefix, keyPrefix, parseDescription } from './keys.ts';
import { payload } from './payload.ts';
import { texts } from './read.ts';
import { remainderOf } from './routing.ts';
import { SCRIPTS } from './scripts.ts';
import { traceBatch } from './trace.ts';

export interface AppendResult {
  /**
   * Requests of this append, by position, that the shard has already. If there are any, nothing was stored:
   * the rest has to be appended again without them.
   */
  readonly known: readonly number[];
  /** Requests that were stored, but for which there was no room to remember them. */
  readonly forgotten: number;
  /** The name of the batch that each fragment went to, if it was asked for. */
  readonly batches: readonly string[];
  /** Batches that this call sealed: theirs is the job of making jobs for them. */
  readonly sealed: readonly SealedBatch[];
  /** How long the oldest open batch of the shard has been collecting; `undefined` when none is open. */
  readonly openAgeMsMax: number | undefined;
  /** Bytes of fragments in the shard: open, sealed and dead letters. */
  readonly queueBytes: number;
}

/** A request as Redis remembers it, so that a repetition is recognised. */
export interface RequestMemo {
  /** 16 bytes. */
  readonly mark: Uint8Array;
  readonly seconds: number;
  /** Of the routing that its rows were placed by. */
  readonly generation: number;
}

/** What the fragments of an append hold. */
export interface Items {
  readonly signal: Signal;
  /** As many as the fragments have rows. */
  readonly accepted: number;
  /** Of the routing that holds: the append is refused when there is a newer one. */
  readonly generation: number;
  readonly requests: readonly RequestMemo[];
}

export interface BatchStoreOptions {
  readonly redis: Settings['redis'];
  readonly batch: Settings['batch'];
  readonly queue: Settings['queue'];
  readonly resend: Settings['resend'];
  readonly instruments?: RedisClientOptions['instruments'];
  readonly logger: Logger;
}

/** How an insert went, for whoever asks for its batch later. */
export interface InsertFacts {
  readonly replica: string;
  readonly insertMs: number;
}


const UNKNOWN_INSERT: InsertFacts = { replica: '', insertMs: 0 };
const NOTHING_APPENDED: AppendResult = {
  known: [],
  forgotten: 0,
  batches: [],
  sealed: [],
  openAgeMsMax: undefined,
  queueBytes: 0,
};

export class BatchStore {
  readonly #options: BatchStoreOptions;
  readonly #redis: RedisClient;
  readonly #queueBytes = new Map<number, number>();
  #queueBytesSum = 0;
  /** Never used twice, even when Redis was emptied: ClickHouse would drop rows under an old token. */
  readonly #idSeed = randomBytes(12).toString('hex');
  #idCounter = 0;

  constructor(options: BatchStoreOptions) {
    this.#options = options;
    const { redis, instruments, logger } = options;
    this.#redis = new RedisClient({ redis, logger, ...(instruments && { instruments }) });
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
   * Appends the fragments to the open batches of their tables, all or none, and seals what reaches a bound;
   * none when one of the requests is known already. Resolves once Redis has them, with the durability that
   * the settings promise. The caller owns the fragments' bytes and must leave them as they are until
   * then. After a Fault `redis_unavailable` they may have been stored or not: nobody may be told that they
   * are safe. `routing_changed`: nothing was stored.
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
    const { batch, resend, logger } = this.#options;
    const bounds = [batch.rowsMax, batch.bytesMax, batch.ageMsMax];
    const telling = logger.isLevelEnabled('debug') ? 1 : 0;
    const { signal, generation, requests } = items;
    const head = [this.#nextIdBase(), signal, rows, ...bounds, generation, resend.requestsMax, telling];
    const memos = [
      requests.length === 0 ? '' : Buffer.concat(requests.map(({ mark }) => mark)),
      listOf(requests.map(({ seconds }) => seconds)),
      listOf(requests.map(({ generation: of }) => of)),
    ];
    const args = [...head, ...memos, ...parts];
    const reply = await SCRIPTS.append.runDurably(this.#redis, [keyPrefix(shard)], args);
    return this.#appended(shard, generation, reply);
  }

  /** Seals the open batches that reached the age bound. */
  async sealDue(shard: number): Promise<AppendResult> {
    const args = [this.#nextIdBase(), this.#options.batch.ageMsMax];
    return this.#sealing(shard, await this.#run('sealDue', shard, args));
  }

  /**
   * Removes a batch whose insert has returned and books it as written.
   * Resolves with false when that had happened before (or it was buried): then nothing has changed.
   */
  async finish(batch: SealedBatch, { replica, insertMs }: InsertFacts = UNKNOWN_INSERT): Promise<boolean> {
    const figures = [batch.rows, batch.bytes, batch.newestAtMs];
    const trail = [this.#options.queue.trailBatchesMax, Math.round(insertMs), replica];
    const args = [batch.id, signalOf(batch.table), ...figures, ...trail];
    return (await this.#run('finish', batch.shard, args)) === 1;
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
    return this.#described(shard, await this.sealedIds(shard, limit));
  }

  async #described(shard: number, ids: readonly string[]): Promise<SealedBatch[]> {
    if (ids.length === 0) return [];
    const descriptions = await this.#ask(shard, ['HMGET', `${keyPrefix(shard)}meta`, ...ids]);
    assert(Array.isArray(descriptions), 'HMGET answers with an array');
    // A batch that is finished between the two questions has no description any more.
    const flat = ids.flatMap((id, i) => (typeof descriptions[i] === 'string' ? [id, descriptions[i]] : []));
    return this.#describe(shard, flat);
  }

  /** The sealed batches that have waited shortest, the newest first. */
  async newest(shard: number, limit: number): Promise<SealedBatch[]> {
    const key = `${keyPrefix(shard)}sealed`;
    return this.#described(shard, texts(await this.#ask(shard, ['ZREVRANGE', key, 0, limit - 1])));
  }

  /** From now on the shard refuses rows that were placed by an older routing. */
  async fence(shard: number, generation: number): Promise<void> {
    await this.#run('fence', shard, [generation]);
  }

  /**
   * By which routing the rows of a request were placed, as `remainderOf` its generation; undefined for one
   * that the shard doesn't remember. One that has just expired may still be told.
   */
  async placement(shard: number, mark: Uint8Array): Promise<number | undefined> {
    const score = await this.#ask(shard, ['ZSCORE', `${keyPrefix(shard)}requests`, mark]);
    return score === null ? undefined : remainderOf(Number(score));
  }

  /** What is known of a batch, by its id, or by the name that it had while it was open. */
  trace(shard: number, idOrName: string): Promise<BatchTrace | undefined> {
    return traceBatch(this.#redis, shard, idOrName);
  }

  /** Whether the batch still waits to be written: false once it was finished or buried. */
  async isSealed(batch: SealedBatch): Promise<boolean> {
    return (await this.#ask(batch.shard, ['ZSCORE', `${keyPrefix(batch.shard)}sealed`, batch.id])) !== null;
  }

  /**
   * One page of the sealed batches, oldest first, that are older than `ageMsMin`: how many there were, and
   * those of them that have no job, without those that another version has to read.
   */
  async orphans(
    shard: number,
    ageMsMin: number,
    offset: number,
    limit: number,
    delayMsMax = Number.MAX_SAFE_INTEGER,
  ): Promise<Orphans> {
    const args = [jobKeyPrefix(shard), ageMsMin, offset, limit, delayMsMax];
    const reply = await this.#run('orphans', shard, args);
    assert(Array.isArray(reply) && typeof reply[0] === 'number', 'orphans answers with an array');
    const [seen, putOff = [], ...flat] = reply;
    return { seen, putOff: texts(putOff), batches: this.#describe(shard, texts(flat)) };
  }

  /**
   * The bytes of a batch in the order of its fragments, as views that the reader owns; none at all for a
   * batch that was finished or buried meanwhile. Reads at the pace of the reader (well under 1 MiB lies in
   * between) over a connection of its own, which breaks when the reader leaves early.
   * @throws Fault `batch_incomplete` before the first byte (never) when Redis does not have every fragment of
   * a batch that waits, and at the end when they have other bytes than they should (here if another writer
   * has just ended it). An insert must not be completed then. Under `replicated` also `replicas_missing`
   * (here): a batch that only the master knows as sealed might be sealed otherwise by the replica that takes
   * over.
   */
  async *fragments(batch: SealedBatch): AsyncGenerator<Uint8Array, void, undefined> {
    if (!(await this.#isReadable(batch))) return;
    const key = batchKey(batch.shard, batch.id);
    const reader = await this.#redis.takeReader(key);
    try {
      const stored = await reader.command(['LLEN', key]);
      if (stored !== batch.fragments) {
        if (!(await this.isSealed(batch))) return;
        throw incomplete(batch, 'never', `${stored} of ${batch.fragments} fragments`);
      }
      let bytes = 0;
      for await (const view of payload(reader, key, batch)) {
        bytes += view.byteLength;
        yield view;
      }
      if (bytes === batch.bytes) return;
      const retry = (await this.isSealed(batch)) ? 'never' : 'here';
      throw incomplete(batch, retry, `${bytes} of ${batch.bytes} bytes`);
    } finally {
      this.#redis.giveReader(reader);
    }
  }

  /**
   * The same bytes at once, each fragment by itself: newly allocated, the caller's. None of a batch that was
   * finished or set aside meanwhile.
   * @throws Fault `batch_incomplete` (never) when Redis does not have every fragment as it was
   */
  async fragmentList(batch: SealedBatch): Promise<readonly Uint8Array[]> {
    if (!(await this.#isReadable(batch))) return [];
    const key = batchKey(batch.shard, batch.id);
    const reader = await this.#redis.takeReader(key);
    try {
      const fragments: Uint8Array[] = [];
      let bytes = 0;
      for (let position = 0; position < batch.fragments; position++) {
        const views: Uint8Array[] = [];
        for await (const view of reader.stream(['LRANGE', key, position, position])) views.push(view);
        const fragment = Buffer.concat(views);
        bytes += fragment.length;
        if (views.length > 0) fragments.push(fragment);
      }
      if (fragments.length === batch.fragments && bytes === batch.bytes) return fragments;
      if (!(await this.isSealed(batch))) return [];
      const found = `${fragments.length} of ${batch.fragments} fragments, ${bytes} of ${batch.bytes} bytes`;
      throw incomplete(batch, 'never', found);
    } finally {
      this.#redis.giveReader(reader);
    }
  }

  #run(script: keyof typeof SCRIPTS, shard: number, args: readonly CommandPart[]): Promise<Reply> {
    return SCRIPTS[script].run(this.#redis, [keyPrefix(shard)], args);
  }

  /**
   * Whether the batch is to be inserted: a dead letter's bytes lie there too, and the job of its batch may
   * outlive it. Under `replicated` resolves when replicas know that it is sealed.
   */
  async #isReadable(batch: SealedBatch): Promise<boolean> {
    if (this.#options.redis.durability === 'replicated') {
      await SCRIPTS.confirm.runDurably(this.#redis, [keyPrefix(batch.shard)], [batch.id]);
    }
    return this.isSealed(batch);
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

  #appended(shard: number, generation: number, reply: Reply): AppendResult {
    assert(Array.isArray(reply), 'append answers with an array');
    const [word, ...positions] = reply;
    if (word === 'known') return { ...NOTHING_APPENDED, known: positions.map(Number) };
    if (word !== 'overtaken') return this.#sealing(shard, reply);
    const message = `rows were placed by routing ${generation}, but shard ${shard} knows a newer one`;
    throw new Fault('routing_changed', 'here', message);
  }

  #sealing(shard: number, reply: Reply): AppendResult {
    assert(Array.isArray(reply), 'append and sealDue answer with an array');
    const [queueBytes, openAgeMs, forgotten, batches, ...sealed] = reply;
    assert(typeof queueBytes === 'number' && typeof openAgeMs === 'number', 'the answer begins with figures');
    this.#noteBytes(shard, queueBytes);
    return {
      known: [],
      forgotten: Number(forgotten),
      batches: texts(batches ?? []),
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
        this.#options.logger.warn({ reason: error.message }, 'a batch is left to another version');
      }
    }
    return batches;
  }
}

export interface Orphans {
  /** Batches on the page, with a job or without. Less than the limit: it was the last page. */
  readonly seen: number;
  readonly batches: readonly SealedBatch[];
  /** Ids of those whose job is put off, or overdue, for longer than jobs are. */
  readonly putOff: readonly string[];
}

/** As append.lua reads it: one number for all where they are the same. */
function listOf(numbers: readonly number[]): string | number {
  const [first = 0] = numbers;
  return numbers.every((number) => number === first) ? first : numbers.join(' ');
}

function incomplete(batch: SealedBatch, retry: Retry, found: string): Fault {
  const name = `batch ${batch.id} of ${batch.table}, shard ${batch.shard}`;
  return new Fault('batch_incomplete', retry, `${name}: Redis has ${found}`);
}
