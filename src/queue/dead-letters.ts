/**
 * What can never be stored, in Redis. Enter: batches that are divided, and what is left of them. Leave:
 * letters, to be looked at, to be tried again, or to be thrown away. Every change is one script (lua/), which
 * moves the rows in the books too. Fails with the Faults of src/redis.
 */
import { assert, Fault } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Settings } from '../config/settings.ts';
import type { Instruments } from '../metrics/instruments.ts';
import type { SealedBatch } from '../model/batch.ts';
import type { DeadLetterDraft, PartState } from '../model/dead-letter.ts';
import { signalOf } from '../model/signal.ts';
import type { RedisClient } from '../redis/client.ts';
import type { Reply } from '../redis/replies.ts';
import type { CommandPart } from '../redis/resp.ts';
import { bytesOf, checkDrafts, draftArgs, fittingBytes, fullFault } from './drafts.ts';
import { batchKey, keyPrefix, partsKey } from './keys.ts';
import {
  type KeptLetter,
  type LetterFilter,
  type LetterGroup,
  LetterTally,
  Oldest,
  type Why,
  matches,
  parseLetter,
  parseWhy,
} from './letters.ts';
import { payload } from './payload.ts';
import { texts } from './read.ts';
import { ONE_SHARD, RoutingStore } from './routing.ts';
import { SCRIPTS } from './scripts.ts';

export interface DeadLettersOptions {
  readonly redis: RedisClient;
  readonly deadLetters: Settings['deadLetters'];
  readonly instruments: Pick<Instruments, 'itemsDropped'>;
  readonly logger: Logger;
}

/** Closed: the reasons of `items_dropped_total`. */
export const DROP_REASONS = ['dead_letters_full', 'operator'] as const;
export type DropReason = (typeof DROP_REASONS)[number];

/** At most so many letters, the oldest ones; with `dryRun` nothing is done to them. */
export interface Extent {
  readonly limit?: number | undefined;
  readonly dryRun?: boolean | undefined;
}

type Discarded = Omit<DeadLetterDraft, 'fragments'> & Pick<KeptLetter, 'shard' | 'table' | 'bytes'>;

/** Letters that one script looks at. */
const PAGE = 200;
/** Letters that are thrown away between two looks at how much room there is. */
const DISCARDS_AT_ONCE = 100;
/** Beside the ranges of a batch's parts: the letter that it was before it was replayed. */
const LETTER_FIELD = 'letter';

export class DeadLetters {
  readonly #options: DeadLettersOptions;

  constructor(options: DeadLettersOptions) {
    this.#options = options;
  }

  /**
   * What was noted of a batch's division, by range; empty for a batch that is whole.
   * @throws Fault `division_unreadable` (elsewhere) for what another version wrote
   */
  async division(batch: SealedBatch): Promise<ReadonlyMap<string, PartState>> {
    const flat = texts(await this.#ask(batch.shard, ['HGETALL', partsKey(batch.shard, batch.id)]));
    const division = new Map<string, PartState>();
    for (let i = 0; i + 1 < flat.length; i += 2) {
      const [range = '', state = ''] = flat.slice(i, i + 2);
      if (range === LETTER_FIELD) continue;
      if (state !== 'split' && state !== 'stored') {
        const message = `batch ${batch.id}: '${state}' is noted of its part ${range}`;
        throw new Fault('division_unreadable', 'elsewhere', message);
      }
      division.set(range, state);
    }
    return division;
  }

  /**
   * Resolves when Redis has it, with what `redis.durability` promises.
   * @throws Fault `batch_gone` (here) when the batch was ended meanwhile, `part_noted` (here) when another
   *   writer noted something else of this part: then nothing has changed, and the next try sees what is so
   */
  async note(batch: SealedBatch, range: string, state: PartState): Promise<void> {
    const args = [batch.id, range, state];
    const noted = await SCRIPTS.notePart.runDurably(this.#options.redis, [keyPrefix(batch.shard)], args);
    if (noted === state) return;
    const name = `part ${range} of batch ${batch.id}`;
    if (noted === null) throw new Fault('batch_gone', 'here', `${name}: the batch was ended meanwhile`);
    throw new Fault('part_noted', 'here', `${name} is "${state}" here, but another writer noted "${noted}"`);
  }

  /**
   * Ends a batch: so many of its rows are in ClickHouse, the rest becomes the letters, or is discarded where
   * the settings say so. All in one step with the books. The letters' bytes must stay as they are until it
   * resolves; with `gone` when the batch was ended before, and then nothing has changed.
   * @throws Fault `dead_letters_full` (here) when there is no room and the settings say to wait
   */
  async setAside(
    batch: SealedBatch,
    rowsStored: number,
    letters: readonly DeadLetterDraft[],
  ): Promise<'aside' | 'gone'> {
    checkDrafts(batch, rowsStored, letters);
    const { bytesMax, whenFull } = this.#options.deadLetters;
    const before = await this.#letterBefore(batch);
    const drafts = letters.map((letter) => draftArgs(batch, letter, before));
    const sizes = letters.map((letter) => bytesOf(batch, letter));
    const fitting = fittingBytes(sizes, bytesMax);
    const all = sizes.reduce((sum, bytes) => sum + bytes, 0);
    let which: 'all' | 'some' = whenFull === 'drop_new' ? 'some' : 'all';
    for (;;) {
      const { id, rows, bytes, table, layout, sealedAtMs, newestAtMs } = batch;
      const head = [id, signalOf(table), rows, bytes, newestAtMs, rowsStored, bytesMax, which];
      const args = [...head, `${table} ${layout}`, sealedAtMs, ...drafts.flat()];
      const reply = await SCRIPTS.setAside.run(this.#options.redis, [keyPrefix(batch.shard)], args);
      assert(Array.isArray(reply), 'set_aside answers with an array');
      const [answer, ...figures] = reply;
      if (answer === 'gone') return answer;
      if (answer === 'aside') {
        for (const position of figures) this.#discardedDraft(batch, letters[Number(position) - 1]);
        return answer;
      }
      const there = Number(figures[0]);
      if (whenFull === 'wait') throw fullFault(batch, there, all, bytesMax);
      const madeRoom = await this.#makeRoom(batch.shard, there + fitting - bytesMax);
      which = madeRoom && fitting === all ? 'all' : 'some';
    }
  }

  /** One letter, wherever it lies; undefined where there is none of this id. */
  async read(id: string): Promise<KeptLetter | undefined> {
    for await (const letter of this.letters({ id })) return letter;
    return undefined;
  }

  /**
   * The bytes of a letter, or of its first fragments, as views that the reader owns; fewer than it should
   * have where it has lost some (it may be a letter because of that), and where it ends meanwhile.
   */
  async *payload(letter: KeptLetter, first = letter.fragments): AsyncGenerator<Uint8Array, void, undefined> {
    const { redis } = this.#options;
    const key = batchKey(letter.shard, letter.id);
    const connection = await redis.takeReader(key);
    try {
      yield* payload(connection, key, letter, first);
    } finally {
      redis.giveReader(connection);
    }
  }

  /**
   * The letters of all shards that match, each once, in no order, page by page: one that comes or goes
   * meanwhile may be among them or not. What another version wrote is left out, with a warning.
   */
  async *letters(filter: LetterFilter): AsyncGenerator<KeptLetter, void, undefined> {
    const routing = (await new RoutingStore(this.#options.redis).read()) ?? ONE_SHARD;
    for (const shard of routing.shards.keys()) {
      if (filter.shard === undefined || filter.shard === shard) yield* this.#lettersOfShard(shard, filter);
    }
  }

  /** The oldest letters that match, at most `limit`, and how many there are of each kind, the others too. */
  async list(
    filter: LetterFilter,
    limit: number,
  ): Promise<{ readonly letters: readonly KeptLetter[]; readonly groups: readonly LetterGroup[] }> {
    const oldest = new Oldest(limit);
    const tally = new LetterTally();
    for await (const letter of this.letters(filter)) {
      oldest.add(letter);
      tally.add(letter);
    }
    return { letters: oldest.letters, groups: tally.groups };
  }

  /**
   * Makes sealed batches of the letters again; the sweep of any writer gives them jobs. Each keeps its id, so
   * that ClickHouse stores it once, however often it is replayed. Resolves with those that this call revived.
   */
  replay(filter: LetterFilter, extent: Extent = {}): Promise<readonly LetterGroup[]> {
    return this.each(filter, extent, async (letter) => {
      if ((await this.#run('revive', letter)) !== 1) return false;
      const { id, shard, table, rows, reason } = letter;
      this.#options.logger.debug({ letter: id, shard, table, rows, reason }, 'a dead letter is tried again');
      return true;
    });
  }

  /** Throws the letters away. Resolves with those that this call dropped. */
  drop(filter: LetterFilter, extent: Extent = {}): Promise<readonly LetterGroup[]> {
    return this.each(filter, extent, (letter) => this.#discard(letter, 'operator'));
  }

  /** Does something to the letters, one after another. Resolves with those of which `act` says true. */
  async each(
    filter: LetterFilter,
    { limit, dryRun = false }: Extent,
    act: (letter: KeptLetter) => Promise<boolean>,
  ): Promise<readonly LetterGroup[]> {
    const tally = new LetterTally();
    for await (const letter of this.#chosen(filter, limit)) {
      if (dryRun || (await act(letter))) tally.add(letter);
    }
    return tally.groups;
  }

  /** All letters that match; with a limit the oldest ones, in order. */
  async *#chosen(filter: LetterFilter, limit?: number): AsyncGenerator<KeptLetter, void, undefined> {
    if (limit === undefined) yield* this.letters(filter);
    else yield* (await this.list(filter, limit)).letters;
  }

  async *#lettersOfShard(shard: number, filter: LetterFilter): AsyncGenerator<KeptLetter, void, undefined> {
    if (filter.id !== undefined) {
      const one = await SCRIPTS.lettersOf.run(this.#options.redis, [keyPrefix(shard)], [0, filter.id]);
      yield* this.#parse(shard, texts(one)).filter((letter) => matches(filter, letter));
      return;
    }
    // A page may repeat what was on one before. Besides, what is replayed and comes back isn't taken again.
    const seen = new Set<string>();
    let cursor = '0';
    do {
      const page = await SCRIPTS.letters.run(this.#options.redis, [keyPrefix(shard)], [cursor, PAGE]);
      const [next = '0', ...flat] = texts(page);
      for (const letter of this.#parse(shard, flat)) {
        if (seen.has(letter.id) || !matches(filter, letter)) continue;
        seen.add(letter.id);
        yield letter;
      }
      cursor = next;
    } while (cursor !== '0');
  }

  /** Letters from a flat list of ids, descriptions and reasons. */
  #parse(shard: number, flat: readonly string[]): KeptLetter[] {
    const letters: KeptLetter[] = [];
    for (let i = 0; i + 2 < flat.length; i += 3) {
      const [id = '', description = '', why = ''] = flat.slice(i, i + 3);
      try {
        letters.push(parseLetter(shard, id, description, why));
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        this.#options.logger.warn({ reason: error.message }, 'a dead letter is left to another version');
      }
    }
    return letters;
  }

  /** Discards the oldest letters until so many bytes are free. Resolves with false where none is left. */
  async #makeRoom(shard: number, bytes: number): Promise<boolean> {
    for (let freed = 0; freed < bytes; ) {
      const args = [DISCARDS_AT_ONCE];
      const reply = await SCRIPTS.lettersOf.run(this.#options.redis, [keyPrefix(shard)], args);
      const oldest = this.#parse(shard, texts(reply));
      if (oldest.length === 0) return false;
      for (const letter of oldest) {
        if (freed >= bytes) break;
        await this.#discard(letter, 'dead_letters_full');
        // If somebody else took it away, its bytes are free all the same.
        freed += letter.bytes;
      }
    }
    return true;
  }

  async #discard(letter: KeptLetter, why: DropReason): Promise<boolean> {
    if ((await this.#run('discard', letter)) !== 1) return false;
    this.#discarded(letter, why);
    return true;
  }

  #discardedDraft(batch: SealedBatch, draft: DeadLetterDraft | undefined): void {
    assert(draft !== undefined, 'what was discarded is one of the letters');
    const { shard, table } = batch;
    this.#discarded({ ...draft, shard, table, bytes: bytesOf(batch, draft) }, 'dead_letters_full');
  }

  /** Nothing is ever thrown away without a counter, a line in the log and a reason. */
  #discarded(letter: Discarded, why: DropReason): void {
    const { id, batch, range, shard, table, rows, bytes, reason, message } = letter;
    const { instruments, logger, deadLetters } = this.#options;
    instruments.itemsDropped.inc({ signal: signalOf(table), reason: why }, rows);
    const what = { letter: id, batch, range, shard, table, rows, bytes, code: reason, reason: message };
    if (why === 'operator') logger.warn(what, 'a dead letter was dropped by an operator');
    else logger.error({ ...what, ...deadLetters }, 'a dead letter was discarded: there is no room for more');
  }

  async #letterBefore(batch: SealedBatch): Promise<Why | undefined> {
    const text = await this.#ask(batch.shard, ['HGET', partsKey(batch.shard, batch.id), LETTER_FIELD]);
    return typeof text === 'string' ? parseWhy(batch.id, text) : undefined;
  }

  #run(script: 'revive' | 'discard', { shard, id, table, rows, bytes }: KeptLetter): Promise<Reply> {
    return SCRIPTS[script].run(this.#options.redis, [keyPrefix(shard)], [id, signalOf(table), rows, bytes]);
  }

  #ask(shard: number, parts: readonly CommandPart[]): Promise<Reply> {
    return this.#options.redis.command(parts, keyPrefix(shard));
  }
}
