/**
 * A batch that ClickHouse refuses for what is in it: narrowed down to the fragments, and where possible to
 * the records, that can't be stored. The rest passes, in parts, each under a token of its own.
 *
 * Exactly once: a part is noted as `split` before its halves are tried, and never again inserted as a whole,
 * since it might pass by then (an operator has mended the table) and double what its halves have stored. So
 * whoever goes on after a crash finds in the notes where, tries what has no note, and gets to the same end.
 *
 * First all fragments, then the records of those that fail alone: what is wrong with everything shows before
 * much was tried. Memory: the batch's bytes once, and one fragment inflated.
 */
import { sleep } from '../base/clock.ts';
import { type Fault, assert } from '../base/errors.ts';
import { dividedTo } from '../clickhouse/codes.ts';
import type { Blocks } from '../clickhouse/native-block.ts';
import type { SealedBatch } from '../model/batch.ts';
import type { DeadLetterDraft, PartState } from '../model/dead-letter.ts';
import { type FragmentFacts, fragmentOf, lookInto, openFragment } from './fragment.ts';
import { ALL, type Part, halvesOf, isSingle, partId, rangeOf, wholeOf } from './parts.ts';
import { exceedsOneBlock, settleRows } from './reckon.ts';

/** Why a batch or a part of it was not stored, for good. */
export interface Refusal {
  readonly fault: Fault;
  /** Empty where none was asked. */
  readonly replica: string;
  /** An earlier try had no answer, so it may be stored all the same: it is only safe under its own token. */
  readonly open: boolean;
}

export interface DivisionOptions {
  /** Resolves when Redis has it. */
  readonly note: (range: string, state: PartState) => Promise<void>;
  /**
   * One insert of a part of the batch, which is described like a batch: its id is the token.
   * @returns why it was refused for good, or nothing when it is stored
   * @throws Fault to be tried again later
   */
  readonly insert: (part: SealedBatch, bytes: readonly Uint8Array[]) => Promise<Refusal | undefined>;
  /** Called once, when a batch begins to be divided. */
  readonly begun: (refusal: Refusal) => void;
}

/** So many rows are in ClickHouse, the rest becomes these. */
export interface Divided {
  readonly rowsStored: number;
  readonly letters: readonly DeadLetterDraft[];
}

/** So many single parts that fail alike, while nothing passes, say that all the others would too. */
const ALIKE_MAX = 16;
/** Notes of one batch; about half of them are inserts that stored something. What is left stays undivided. */
const NOTES_MAX = 500;

/** A letter that is the whole batch, as it lies there. */
export function wholeLetter(batch: SealedBatch, refusal: Refusal, why = ''): DeadLetterDraft {
  const { fault, replica } = refusal;
  const message = why === '' ? fault.message : `${why}: ${fault.message}`;
  const { id, rows } = batch;
  return { id, rows, fragments: undefined, reason: fault.code, message, replica, batch: id, range: ALL };
}

/** Parts that have a parent in common, and how they fared. */
interface Family {
  /** Of the single parts that failed. */
  readonly codes: string[];
  stored: boolean;
  /** Some part may be stored all the same. */
  open: boolean;
  first: Refusal | undefined;
}

function family(stored: boolean): Family {
  return { codes: [], stored, open: false, first: undefined };
}

function isHopeless({ codes, stored, open }: Family): boolean {
  if (stored || open) return false;
  return codes.length >= ALIKE_MAX && codes.every((code) => code === codes[0]);
}

export class Division {
  readonly #batch: SealedBatch;
  readonly #options: DivisionOptions;
  readonly #notes: Map<string, PartState>;
  readonly #fragments: readonly Uint8Array[];
  #facts: readonly FragmentFacts[] = [];
  /** Of each fragment; together those of the batch. */
  #rows: readonly number[] = [];
  readonly #letters: DeadLetterDraft[] = [];
  #rowsStored = 0;
  readonly #all: Family;
  /** Fragments that fail alone, to be narrowed down. */
  readonly #suspects: Part[] = [];
  #probed = false;

  /** @param notes what was noted before; the fragments are only read, and stay in letters */
  constructor(
    batch: SealedBatch,
    fragments: readonly Uint8Array[],
    notes: ReadonlyMap<string, PartState>,
    options: DivisionOptions,
  ) {
    this.#batch = batch;
    this.#fragments = fragments;
    this.#notes = new Map(notes);
    this.#all = family([...notes.values()].includes('stored'));
    this.#options = options;
  }

  /**
   * To its end, from wherever it is.
   * @param refusal of the whole batch; undefined for a division that goes on
   * @throws Fault of an insert or a note, to be tried again later: then it goes on from what was noted
   */
  async run(refusal: Refusal | undefined): Promise<Divided> {
    this.#all.first = refusal;
    await this.#lookAround();
    if (refusal !== undefined) {
      const why = this.#undividable(refusal);
      if (why !== undefined) return this.#whole(refusal, why);
      this.#options.begun(refusal);
      await this.#note(wholeOf(this.#batch), 'split');
    }
    await this.#fragmentsOf(wholeOf(this.#batch));
    if (!isHopeless(this.#all)) {
      for (const part of this.#suspects) await this.#narrow(part);
    }
    const { stored, first } = this.#all;
    if (!stored && first !== undefined) return this.#whole(first);
    return { rowsStored: this.#rowsStored, letters: this.#letters };
  }

  #whole(refusal: Refusal, why?: string): Divided {
    return { rowsStored: 0, letters: [wholeLetter(this.#batch, refusal, why)] };
  }

  async #lookAround(): Promise<void> {
    const facts: FragmentFacts[] = [];
    for (const fragment of this.#fragments) {
      facts.push(lookInto(this.#batch.layout, fragment));
      // Each takes milliseconds, and others wait for this thread.
      await sleep(0);
    }
    this.#facts = facts;
    const claims = facts.map(({ rows }) => rows);
    const rows = settleRows(this.#batch.rows, claims);
    assert(rows !== undefined || this.#notes.size === 0, 'what was divided can be divided');
    this.#rows = rows ?? [];
  }

  /** Why a batch can't be divided; undefined if it can. Empty where that goes without saying. */
  #undividable(refusal: Refusal): string | undefined {
    if (this.#rows.length === 0) return 'its fragments have other rows than it should, so it is kept whole';
    const memoryBytes = this.#facts.reduce((sum, facts) => sum + facts.memoryBytes, 0);
    if (exceedsOneBlock(this.#batch.rows, memoryBytes)) {
      return 'it is larger than one block of ClickHouse, so some of it may be stored, and it is kept whole';
    }
    const whole = wholeOf(this.#batch);
    return isSingle(whole) && !this.#mayNarrow(whole, refusal) ? '' : undefined;
  }

  async #fragmentsOf(part: Part): Promise<void> {
    if (isHopeless(this.#all)) return;
    const state = this.#noted(part);
    if (state === 'stored') this.#stored(part);
    else if (state === 'split') {
      if (isSingle(part)) await this.#suspect(part);
      else await this.#halves(part);
    } else if (!isSingle(part) && !this.#isSound(part)) {
      // The server might take a broken fragment for the end of the insert, and store those before it.
      await this.#split(part);
    } else await this.#tryFragments(part);
  }

  async #tryFragments(part: Part): Promise<void> {
    const bytes = this.#fragments.slice(part.from, part.to + 1);
    const refusal = await this.#insert(part, bytes, this.#all);
    if (refusal === undefined) return;
    if (!isSingle(part) && this.#mayDivide(refusal)) await this.#split(part);
    else if (isSingle(part) && this.#mayNarrow(part, refusal)) await this.#suspect(part);
    else this.#letters.push(this.#letter(part, bytes, refusal));
  }

  /**
   * A fragment that fails alone waits until all of them were tried. Only while nothing has passed the first
   * one doesn't: should none of its records pass either, the others need no closer look.
   */
  async #suspect(part: Part): Promise<void> {
    if (this.#probed || this.#all.stored) {
      this.#suspects.push(part);
      return;
    }
    this.#probed = true;
    await this.#narrow(part);
  }

  async #split(part: Part): Promise<void> {
    await this.#note(part, 'split');
    await this.#halves(part);
  }

  async #halves(part: Part): Promise<void> {
    for (const half of halvesOf(part)) await this.#fragmentsOf(half);
  }

  /** The records of a fragment that was refused. Where none of them passes, it is one letter. */
  async #narrow(part: Part): Promise<void> {
    const { from: fragment } = part;
    const bytes = this.#fragments[fragment];
    assert(bytes !== undefined && this.#facts[fragment]?.state === 'whole', 'only a good block is cut');
    await this.#note(part, 'split');
    const blocks = openFragment(this.#batch.layout, bytes);
    const rows: Part = { kind: 'rows', fragment, from: 0, to: blocks.rows - 1 };
    const known = [...this.#notes].some(
      ([range, state]) => state === 'stored' && range.startsWith(`${fragment}:`),
    );
    const [records, lettersBefore] = [family(known), this.#letters.length];
    for (const half of halvesOf(rows)) await this.#rowsOf(half, blocks, records);
    const { stored, open, first } = records;
    if (stored || open || first === undefined) return;
    this.#letters.splice(lettersBefore, this.#letters.length, this.#letter(part, [bytes], first));
  }

  async #rowsOf(part: Part, blocks: Blocks, records: Family): Promise<void> {
    if (isHopeless(records)) return;
    const state = this.#noted(part);
    if (state === 'stored') {
      records.stored = true;
      this.#stored(part);
    } else if (state === 'split') {
      for (const half of halvesOf(part)) await this.#rowsOf(half, blocks, records);
    } else {
      const bytes = [fragmentOf(this.#batch.layout, blocks.cut(part.from, part.to + 1))];
      const refusal = await this.#insert(part, bytes, records);
      if (refusal === undefined) return;
      if (!isSingle(part) && this.#mayDivide(refusal) && dividedTo(refusal.fault) === 'records') {
        await this.#note(part, 'split');
        for (const half of halvesOf(part)) await this.#rowsOf(half, blocks, records);
      } else this.#letters.push(this.#letter(part, bytes, refusal));
    }
  }

  /** Inserts a part, and notes it when it is stored; else says why not, to its family too. */
  async #insert(part: Part, bytes: readonly Uint8Array[], of: Family): Promise<Refusal | undefined> {
    const counts = { rows: this.#rowsIn(part), bytes: lengthOf(bytes), fragments: bytes.length };
    const batch = { ...this.#batch, ...counts, id: partId(this.#batch, part) };
    const refusal = await this.#options.insert(batch, bytes);
    if (refusal === undefined) {
      await this.#note(part, 'stored');
      of.stored = true;
      this.#stored(part);
      return undefined;
    }
    of.first ??= refusal;
    this.#all.first ??= refusal;
    if (refusal.open) of.open = true;
    if (isSingle(part)) of.codes.push(refusal.fault.code);
    return refusal;
  }

  #stored(part: Part): void {
    this.#all.stored = true;
    this.#rowsStored += this.#rowsIn(part);
  }

  #noted(part: Part): PartState | undefined {
    return this.#notes.get(rangeOf(this.#batch, part));
  }

  async #note(part: Part, state: PartState): Promise<void> {
    const range = rangeOf(this.#batch, part);
    if (this.#notes.get(range) === state) return;
    await this.#options.note(range, state);
    this.#notes.set(range, state);
  }

  #mayDivide({ fault, open }: Refusal): boolean {
    return !open && dividedTo(fault) !== undefined && this.#notes.size < NOTES_MAX;
  }

  #mayNarrow({ from }: Part, refusal: Refusal): boolean {
    const isBlock = this.#facts[from]?.state === 'whole' && (this.#rows[from] ?? 0) > 1;
    return isBlock && this.#mayDivide(refusal) && dividedTo(refusal.fault) === 'records';
  }

  #isSound({ from, to }: Part): boolean {
    return this.#facts.slice(from, to + 1).every(({ state }) => state !== 'broken');
  }

  #rowsIn(part: Part): number {
    if (part.kind === 'rows') return part.to - part.from + 1;
    return this.#rows.slice(part.from, part.to + 1).reduce((sum, rows) => sum + rows, 0);
  }

  #letter(part: Part, fragments: readonly Uint8Array[], { fault, replica }: Refusal): DeadLetterDraft {
    const batch = this.#batch;
    const where = { batch: batch.id, range: rangeOf(batch, part), replica };
    const why = { reason: fault.code, message: fault.message };
    return { id: partId(batch, part), rows: this.#rowsIn(part), fragments, ...why, ...where };
  }
}

function lengthOf(bytes: readonly Uint8Array[]): number {
  return bytes.reduce((sum, { length }) => sum + length, 0);
}
