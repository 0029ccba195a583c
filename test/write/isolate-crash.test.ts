/**
 * Goal: wherever a division stops, before or after any of its steps has reached the notes, somebody else goes on
 * and every row ends once: in the table or in a letter, never in both and never nowhere. Also if the table was
 * mended in between, or broken in another way.
 */
import { describe, expect, test } from 'vitest';
import { Fault } from '../../src/base/errors.ts';
import type { SealedBatch } from '../../src/model/batch.ts';
import type { DeadLetterDraft, PartState } from '../../src/model/dead-letter.ts';
import { MemorySource, type TestBatch, createTable } from './batches.ts';
import {
  TARGET, asideOf, batchWith, clickhouse, constrain, expectStored, idsIn, makeWriter, storedIds, upTo,
} from './poison.ts';

const STOPPED = new Fault('stopped', 'here', 'the process ends here');
type When = 'before' | 'after';

/** Fails once, at one of the steps that it is asked for, before or after having done it. */
class FailingSource extends MemorySource {
  readonly steps: string[] = [];
  #at = -1;
  #when: When = 'before';

  fail(at: number, when: When): void {
    [this.#at, this.#when] = [at, when];
  }

  override async note(batch: SealedBatch, range: string, state: PartState): Promise<void> {
    await this.#step(`note ${range} ${state}`, () => super.note(batch, range, state));
  }

  override async setAside(batch: SealedBatch, rowsStored: number, letters: readonly DeadLetterDraft[]) {
    return this.#step('setAside', () => super.setAside(batch, rowsStored, letters));
  }

  override async division(batch: SealedBatch) {
    return this.#step('division', () => super.division(batch));
  }

  override async fragmentList(batch: SealedBatch) {
    return this.#step('fragmentList', () => super.fragmentList(batch));
  }

  async #step<T>(what: string, act: () => Promise<T>): Promise<T> {
    const fails = this.steps.length === this.#at;
    this.steps.push(what);
    if (fails && this.#when === 'before') throw STOPPED;
    const done = await act();
    if (fails) throw STOPPED;
    return done;
  }
}

/** Row 19 of fragments of 8 rows. Single fragments pass before and after the one that has it. */
const FRAGMENTS = 4;
const ROWS = 8;
const ALL_ROWS = FRAGMENTS * ROWS;
const BAD = 19;
const poisoned = () => batchWith({ fragments: FRAGMENTS, rows: ROWS });

async function emptyTable(): Promise<void> {
  await clickhouse.query(`DROP TABLE IF EXISTS ${TARGET} SYNC`);
  await clickhouse.query(createTable());
}

/** By another process each time, which knows nothing but the notes. @returns how often it was stopped */
async function goOn(source: MemorySource, test: TestBatch, between: () => Promise<unknown>): Promise<number> {
  for (let stopped = 0; stopped < 5; stopped += 1) {
    const { writer } = makeWriter(source);
    try {
      await writer.write(test.batch);
      return stopped;
    } catch (error) {
      if (error !== STOPPED) throw error;
      await between();
    }
  }
  throw new Error('it does not come to an end');
}

async function stepsOf(make: () => TestBatch): Promise<readonly string[]> {
  const source = new FailingSource();
  const test = make();
  source.add(test);
  await emptyTable();
  await constrain(`Id != ${BAD}`);
  expect(await goOn(source, test, async () => {})).toBe(0);
  return source.steps;
}

test('the steps are what they should be: a parent is noted before its parts, a part after it is stored', async () => {
  expect(await stepsOf(poisoned)).toEqual([
    'division', 'fragmentList', 'note all split', 'note 0-1 stored', 'note 2-3 split', 'note 3 stored', 'note 2 split',
    'note 2:0-3 split', 'note 2:0-1 stored', 'note 2:2-3 split', 'note 2:2 stored', 'note 2:4-7 stored', 'setAside',
  ]);
});

const STEPS = Array.from({ length: 13 }, (_, step) => step);
describe.each<When>(['before', 'after'])('stopped %s a step', (when) => {
  test.each(STEPS)('step %i, and another process goes on', async (step) => {
    await emptyTable();
    await constrain(`Id != ${BAD}`);
    const source = new FailingSource();
    const test = poisoned();
    source.add(test);
    source.fail(step, when);
    expect(await goOn(source, test, async () => {})).toBe(1);
    await expectStored(upTo(ALL_ROWS, [BAD]));
    const { rowsStored, letters } = asideOf(source, test.batch);
    expect([rowsStored, letters.map(({ range }) => range), idsIn(letters, test)]).toEqual(
      [ALL_ROWS - 1, ['2:3'], [BAD]]);
  });

  test.each(STEPS)('step %i, and the table is mended meanwhile', async (step) => {
    await emptyTable();
    await constrain(`Id != ${BAD}`);
    const source = new FailingSource();
    const test = poisoned();
    source.add(test);
    source.fail(step, when);
    await goOn(source, test, () => clickhouse.query(`ALTER TABLE ${TARGET} DROP CONSTRAINT poison`));
    const ended = when === 'after' && step === 12;
    await expectStored(upTo(ALL_ROWS, ended ? [BAD] : []));
    const aside = source.aside.filter(({ id }) => id === test.batch.id);
    // Before its division is noted the batch is whole, and passes as a whole.
    expect(aside.length + source.finished.length).toBe(1);
    expect(aside[0]?.letters.length ?? 0).toBe(ended ? 1 : 0);
  });
});

// Not before a step: a part that was stored, not noted and then is refused counts as one that never was stored.
test.each(STEPS)('stopped after step %i, and then nothing passes any more: a replay stores the rest', async (step) => {
  await constrain(`Id != ${BAD}`);
  const source = new FailingSource();
  const test = poisoned();
  source.add(test);
  source.fail(step, 'after');
  await goOn(source, test, () => clickhouse.query(`ALTER TABLE ${TARGET} ADD CONSTRAINT more CHECK Id > 1000`));
  const { rowsStored, letters } = asideOf(source, test.batch);
  const dead = idsIn(letters, test);
  expect([...(await storedIds()), ...dead].sort((a, b) => a - b)).toEqual(upTo(ALL_ROWS));
  expect(rowsStored + dead.length).toBe(ALL_ROWS);
  for (const name of ['more', 'poison']) await clickhouse.query(`ALTER TABLE ${TARGET} DROP CONSTRAINT IF EXISTS ${name}`);
  await replay(source, test, letters);
  await expectStored(upTo(ALL_ROWS));
});

/** As the queue does it: a letter is a batch again, under its own id, and a whole one keeps its notes. */
async function replay(source: MemorySource, test: TestBatch, letters: readonly DeadLetterDraft[]): Promise<void> {
  const { writer } = makeWriter(source);
  for (const { id, rows, fragments = test.fragments } of letters) {
    const bytes = fragments.reduce((sum, { length }) => sum + length, 0);
    const batch = { ...test.batch, id, rows, bytes, fragments: fragments.length };
    await writer.write(source.add({ batch, fragments }));
  }
}

test('two processes divide the same batch at once', async () => {
  await constrain(`Id != ${BAD}`);
  const source = new FailingSource();
  const test = poisoned();
  source.add(test);
  const [one, other] = [makeWriter(source), makeWriter(source)];
  const ends = await Promise.all([one.writer.write(test.batch), other.writer.write(test.batch)]);
  expect(ends.sort()).toEqual(['aside', 'gone']);
  await expectStored(upTo(ALL_ROWS, [BAD]));
  expect(idsIn(asideOf(source, test.batch).letters, test)).toEqual([BAD]);
  expect((await one.counted('itemsWritten')) + (await other.counted('itemsWritten'))).toBe(ALL_ROWS - 1);
});

test('its end got lost: the next try finds it gone and counts it', async () => {
  await constrain(`Id != ${BAD}`);
  const source = new FailingSource();
  const test = poisoned();
  source.add(test);
  source.fail(12, 'after');
  const { writer, counted } = makeWriter(source);
  await expect(writer.write(test.batch)).rejects.toBe(STOPPED);
  expect(await writer.write(test.batch)).toBe('aside');
  expect(await writer.write(test.batch)).toBe('gone');
  expect([await counted('itemsWritten'), await counted('itemsDeadlettered')]).toEqual([ALL_ROWS - 1, 1]);
});

test('ClickHouse is away in the middle: it goes on from the notes, and nothing is given up', async () => {
  await constrain(`Id != ${BAD}`);
  const source = new MemorySource();
  const test = poisoned();
  source.add(test);
  const note = source.note.bind(source);
  source.note = async (batch, range, state) => {
    await note(batch, range, state);
    if (range === '0-1') await clickhouse.query(`RENAME TABLE ${TARGET} TO ${TARGET}_away`);
  };
  const { writer } = makeWriter(source);
  await expect(writer.write(test.batch)).rejects.toMatchObject({ code: 'UNKNOWN_TABLE', retry: 'here' });
  expect(source.aside).toEqual([]);
  await clickhouse.query(`RENAME TABLE ${TARGET}_away TO ${TARGET}`);
  source.note = note;
  expect(await writer.write(test.batch)).toBe('aside');
  await expectStored(upTo(ALL_ROWS, [BAD]));
});
