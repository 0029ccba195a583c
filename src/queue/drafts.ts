/** Letters on their way into Redis: whether they make sense, and how they are told to lua/set_aside.lua. */
import { assert, Fault } from '../base/errors.ts';
import type { SealedBatch } from '../model/batch.ts';
import type { DeadLetterDraft } from '../model/dead-letter.ts';
import type { CommandPart } from '../redis/resp.ts';
import type { Why } from './letters.ts';

/** In a job's id BullMQ refuses ':', and in the name of a file '/' means something. */
const SAFE_ID = /^[A-Za-z0-9.-]+$/;
/** ClickHouse repeats whole statements in its messages. */
const MESSAGE_LENGTH_MAX = 4_096;

type Drafts = readonly DeadLetterDraft[];

/** Every row of the batch is stored or in a letter; a letter is the whole batch or has bytes of its own. */
export function checkDrafts(batch: SealedBatch, rowsStored: number, letters: Drafts): void {
  const rows = letters.reduce((sum, letter) => sum + letter.rows, rowsStored);
  assert(rows === batch.rows, `${rows} rows are stored or in letters, batch ${batch.id} has ${batch.rows}`);
  for (const { id, rows: count, fragments } of letters) {
    assert(SAFE_ID.test(id), `the id of a letter is of letters, digits, '.' and '-', not '${id}'`);
    assert(count > 0, `letter ${id} has rows`);
    if (fragments === undefined) {
      assert(id === batch.id && letters.length === 1, `letter ${id} is all of batch ${batch.id}`);
    } else {
      assert(id !== batch.id && fragments.length > 0, `letter ${id} is a part of batch ${batch.id}`);
    }
  }
}

export function bytesOf(batch: SealedBatch, { fragments }: DeadLetterDraft): number {
  return fragments?.reduce((sum, { byteLength }) => sum + byteLength, 0) ?? batch.bytes;
}

/** Of these sizes, as many as find room one after another, when nothing else is there. */
export function fittingBytes(sizes: readonly number[], bytesMax: number): number {
  return sizes.reduce((sum, bytes) => (sum + bytes <= bytesMax ? sum + bytes : sum), 0);
}

/** The arguments of one letter. @param before what the batch was, if it is a letter that was replayed */
export function draftArgs(batch: SealedBatch, letter: DeadLetterDraft, before?: Why): CommandPart[] {
  const { id, rows, fragments, reason, message, replica } = letter;
  // A letter that failed again is still a part of the batch that it came from.
  const origin = fragments === undefined && before !== undefined ? before : letter;
  const why = {
    reason,
    message: message.slice(0, MESSAGE_LENGTH_MAX),
    replica,
    batch: origin.batch,
    range: origin.range,
    ...(before && { firstBuriedAtMs: before.firstBuriedAtMs ?? before.buriedAtMs }),
    replays: before === undefined ? 0 : before.replays + 1,
  };
  const head = [id, rows, bytesOf(batch, letter), fragments?.length ?? batch.fragments, JSON.stringify(why)];
  return [...head, fragments?.length ?? 0, ...(fragments ?? [])];
}

/** The settings say to wait. */
export function fullFault(batch: SealedBatch, thereBytes: number, bytes: number, bytesMax: number): Fault {
  const message =
    `dead letters of shard ${batch.shard} take ${thereBytes} bytes, ${bytes} more of batch ${batch.id} ` +
    `have no room: the limit is ${bytesMax} (SLUICE_DEAD_LETTERS_BYTES_MAX). The batch waits until ` +
    '`sluice deadletters` replay, export and drop make room';
  return new Fault('dead_letters_full', 'here', message);
}
