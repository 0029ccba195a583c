/** Dead letters as they are kept in Redis: read, chosen by what an operator asks for, and counted. */
import { z } from 'zod';
import { Fault } from '../base/errors.ts';
import type { SealedBatch } from '../model/batch.ts';
import type { DeadLetter } from '../model/dead-letter.ts';
import { type Signal, type Table, signalOf } from '../model/signal.ts';
import { parseDescription } from './keys.ts';
import { jsonOf } from './read.ts';

/** A letter in Redis, and what was tried of it. Times by Redis' clock, ms since 1970. */
export interface KeptLetter extends DeadLetter {
  /** Earlier than `buriedAtMs` for one that was replayed and refused again. */
  readonly firstBuriedAtMs: number;
  readonly replays: number;
}

/** Which letters; each field that is there narrows the choice down. */
export interface LetterFilter {
  readonly signal?: Signal | undefined;
  readonly table?: Table | undefined;
  /** The whole word; or its beginning, with a `*` at the end. */
  readonly reason?: string | undefined;
  readonly shard?: number | undefined;
  /** The letter's own. */
  readonly id?: string | undefined;
  /** The batch that it was a part of. */
  readonly batch?: string | undefined;
  /** When it became a letter, last; both included. */
  readonly sinceMs?: number | undefined;
  readonly untilMs?: number | undefined;
}

/** How many letters have signal, table and reason in common, and what is in them. */
export interface LetterGroup {
  readonly signal: Signal;
  readonly table: Table;
  readonly reason: string;
  letters: number;
  rows: number;
  bytes: number;
}

const WHY = z.object({
  reason: z.string(),
  message: z.string(),
  replica: z.string(),
  batch: z.string(),
  range: z.string(),
  buriedAtMs: z.int(),
  firstBuriedAtMs: z.int().optional(),
  replays: z.int().default(0),
});
/** As versions without `sluice deadletters` wrote it, always of whole batches. */
const OLDER = z.object({ reason: z.string(), message: z.string(), buriedAt: z.iso.datetime() });

export type Why = z.infer<typeof WHY>;

/** @throws Fault `letter_unreadable` (elsewhere) for what another version wrote */
export function parseWhy(id: string, text: string): Why {
  const json = jsonOf(text);
  const why = WHY.safeParse(json);
  if (why.success) return why.data;
  const older = OLDER.safeParse(json);
  if (!older.success) {
    const message = `dead letter ${id} is explained by '${text.slice(0, 200)}'`;
    throw new Fault('letter_unreadable', 'elsewhere', message);
  }
  const { reason, message, buriedAt } = older.data;
  const buriedAtMs = Date.parse(buriedAt);
  return { reason, message, replica: '', batch: id, range: 'all', buriedAtMs, replays: 0 };
}

/** @throws Fault `letter_unreadable` or `batch_unreadable` (elsewhere) for what another version wrote */
export function parseLetter(shard: number, id: string, description: string, text: string): KeptLetter {
  const batch: SealedBatch = parseDescription(shard, id, description);
  const why = parseWhy(id, text);
  return { ...batch, ...why, firstBuriedAtMs: why.firstBuriedAtMs ?? why.buriedAtMs };
}

export function matches(filter: LetterFilter, letter: KeptLetter): boolean {
  const { signal, table, reason, shard, id, batch, sinceMs, untilMs } = filter;
  return (
    (signal === undefined || signal === signalOf(letter.table)) &&
    (table === undefined || table === letter.table) &&
    (reason === undefined || isReason(reason, letter.reason)) &&
    (shard === undefined || shard === letter.shard) &&
    (id === undefined || id === letter.id) &&
    (batch === undefined || batch === letter.batch) &&
    (sinceMs === undefined || letter.buriedAtMs >= sinceMs) &&
    (untilMs === undefined || letter.buriedAtMs <= untilMs)
  );
}

function isReason(wanted: string, reason: string): boolean {
  return wanted.endsWith('*') ? reason.startsWith(wanted.slice(0, -1)) : reason === wanted;
}

/** Counts letters by signal, table and reason. */
export class LetterTally {
  readonly #groups = new Map<string, LetterGroup>();

  add({ table, reason, rows, bytes }: Pick<KeptLetter, 'table' | 'reason' | 'rows' | 'bytes'>): void {
    const key = `${table} ${reason}`;
    const none = { signal: signalOf(table), table, reason, letters: 0, rows: 0, bytes: 0 };
    const group = this.#groups.get(key) ?? none;
    group.letters += 1;
    group.rows += rows;
    group.bytes += bytes;
    this.#groups.set(key, group);
  }

  /** In the order of their names. */
  get groups(): readonly LetterGroup[] {
    return [...this.#groups].sort(([one], [other]) => (one < other ? -1 : 1)).map(([, group]) => group);
  }
}

/** The oldest so many of what it is given, in order. Holds twice as many at most. */
export class Oldest {
  readonly #limit: number;
  #letters: KeptLetter[] = [];

  constructor(limit: number) {
    this.#limit = limit;
  }

  add(letter: KeptLetter): void {
    this.#letters.push(letter);
    if (this.#letters.length >= 2 * this.#limit) this.#letters = this.letters;
  }

  get letters(): KeptLetter[] {
    return this.#letters.sort((one, other) => one.buriedAtMs - other.buriedAtMs).slice(0, this.#limit);
  }
}
