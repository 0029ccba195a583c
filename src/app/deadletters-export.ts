/**
 * A dead letter as a pair of files: its bytes as they are, and what is known of it with the statement that
 * would insert them. Nothing is overwritten; a pair that isn't complete doesn't stay.
 */
import { type FileHandle, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Fault, messageOf } from '../base/errors.ts';
import { literal, quoteName } from '../clickhouse/quote.ts';
import type { Settings } from '../config/settings.ts';
import type { DeadLetters } from '../queue/dead-letters.ts';
import type { KeptLetter } from '../queue/letters.ts';
import { COLUMNS } from '../transcode/tables.ts';
import type { ShownLetter } from './deadletters.ts';
import { localTable } from './routing.ts';

export interface ExportOptions {
  readonly folder: string;
  readonly clickhouse: Pick<Settings['clickhouse'], 'database' | 'cluster'>;
  readonly description: ShownLetter;
}

/** What stands behind an id in the name of the file with the bytes. */
const ENDINGS = { z1: '.native.zst', r1: '.native' } as const;
/** An id comes from Redis, where anybody may have written it. */
const SAFE_ID = /^[A-Za-z0-9][A-Za-z0-9.-]*$/;

/**
 * Resolves with false, and leaves no files, when the letter ended meanwhile.
 * @throws Fault `export_failed` where a file is there already or can't be written
 */
export async function exportLetter(
  letters: DeadLetters,
  letter: KeptLetter,
  { folder, clickhouse, description }: ExportOptions,
): Promise<boolean> {
  if (!SAFE_ID.test(letter.id)) throw failed(`'${letter.id}' is no name for a file`);
  const file = `${letter.id}${ENDINGS[letter.layout]}`;
  const made: string[] = [];
  const opened: FileHandle[] = [];
  const create = async (name: string) => {
    const path = join(folder, name);
    const handle = await open(path, 'wx');
    opened.push(handle);
    made.push(path);
    return handle;
  };
  let complete = false;
  try {
    const about = await create(`${letter.id}.json`);
    const payload = await create(file);
    await payload.writeFile(letters.payload(letter));
    const { size } = await payload.stat();
    // One that has lost bytes is a letter because of that: what is left of it is worth keeping.
    if (size !== letter.bytes && (await letters.read(letter.id)) === undefined) return false;
    const insert = insertStatement(letter, clickhouse);
    const text = JSON.stringify({ ...description, file, whole: size === letter.bytes, insert }, null, 2);
    await about.writeFile(`${text}\n`);
    // The next step may be to drop the letter.
    await Promise.all(opened.map((handle) => handle.sync()));
    complete = true;
    return true;
  } catch (error) {
    if (error instanceof Fault) throw error;
    throw failed(messageOf(error), error);
  } finally {
    await Promise.all(opened.map((handle) => handle.close()));
    if (!complete) await Promise.all(made.map((path) => rm(path, { force: true })));
  }
}

/** For the bytes without their compression. The token is that of a replay. */
function insertStatement(
  { id, table }: KeptLetter,
  { database, cluster }: ExportOptions['clickhouse'],
): string {
  const into = `${quoteName(database)}.${quoteName(localTable(table, cluster))}`;
  const names = COLUMNS[table].map(({ name }) => quoteName(name)).join(', ');
  const settings = `async_insert = 0, insert_deduplicate = 1, insert_deduplication_token = ${literal(id)}`;
  return `INSERT INTO ${into} (${names}) SETTINGS ${settings} FORMAT Native`;
}

function failed(why: string, cause?: unknown): Fault {
  return new Fault('export_failed', 'never', `the export ended: ${why}; choose an empty folder`, { cause });
}
