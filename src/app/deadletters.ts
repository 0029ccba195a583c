/** `sluice deadletters …`: looks at what could not be stored, tries it again, takes it out, drops it. */
import { mkdir } from 'node:fs/promises';
import { Fault, messageOf } from '../base/errors.ts';
import { type Logger, createLogger } from '../base/log.ts';
import { BlockError, type Row, rowsOf } from '../clickhouse/native-block.ts';
import { inflate } from '../compress/inflate.ts';
import { loadSettings } from '../config/load.ts';
import type { Settings } from '../config/settings.ts';
import { createInstruments } from '../metrics/instruments.ts';
import { type Signal, type Table, signalOf } from '../model/signal.ts';
import { DeadLetters } from '../queue/dead-letters.ts';
import type { KeptLetter, LetterFilter, LetterGroup } from '../queue/letters.ts';
import { RedisClient } from '../redis/client.ts';
import { exportLetter } from './deadletters-export.ts';
import { printActed, printLetter, printLetters } from './deadletters-print.ts';

export type LetterStep = 'list' | 'show' | 'replay' | 'export' | 'drop';

/** As on the command line; times in ms since 1970. */
export interface LetterFlags {
  readonly signal?: Signal;
  readonly table?: Table;
  readonly reason?: string;
  readonly shard?: number;
  readonly id?: string;
  readonly batch?: string;
  readonly since?: number;
  readonly until?: number;
  readonly limit?: number;
  readonly all?: boolean;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

/** A letter as it is shown and exported: times as text. */
export type ShownLetter = ReturnType<typeof shown>;

/** What was done to how many, of each kind and in sum. */
export interface Acted {
  readonly done: 'replayed' | 'exported' | 'dropped';
  readonly dryRun: boolean;
  readonly letters: number;
  readonly rows: number;
  readonly bytes: number;
  readonly groups: readonly LetterGroup[];
}

/** Of a letter, for a first look. */
const ROWS_SHOWN = 3;
/** A fragment that is larger without compression is not unpacked for a look. */
const BLOCK_BYTES_MAX = 268_435_456;

/**
 * @param argument the id of `show`, the folder of `export`
 * @returns the exit code. @throws Fault of Redis, `letter_unknown`, or of writing files
 */
export async function runDeadLetters(
  step: LetterStep,
  argument: string,
  flags: LetterFlags,
): Promise<number> {
  const { settings } = loadSettings();
  const logger = createLogger(settings.log.level, settings.log.format);
  return withDeadLetters(settings, logger, async (letters) => {
    const filter = filterOf(flags);
    const json = flags.json === true;
    switch (step) {
      case 'list': {
        const found = await letters.list(filter, flags.limit ?? 0);
        const data = { groups: found.groups, letters: found.letters.map(shown) };
        return print(data, json, printLetters);
      }
      case 'show':
        return show(letters, argument, json);
      case 'replay':
        return acted('replayed', await letters.replay(filter, flags), flags);
      case 'export':
        return acted('exported', await exportAll(letters, settings, argument, flags), flags);
      case 'drop':
        return acted('dropped', await letters.drop(filter, flags), flags);
    }
  });
}

/** Connected, and closed afterwards. */
async function withDeadLetters<T>(
  settings: Settings,
  logger: Logger,
  body: (letters: DeadLetters) => Promise<T>,
): Promise<T> {
  const redis = new RedisClient({ redis: settings.redis, logger });
  try {
    await redis.connect();
    return await body(new DeadLetters({ ...settings, redis, instruments: createInstruments(), logger }));
  } finally {
    redis.close();
  }
}

function filterOf({ signal, table, reason, shard, id, batch, since, until }: LetterFlags): LetterFilter {
  return { signal, table, reason, shard, id, batch, sinceMs: since, untilMs: until };
}

async function show(letters: DeadLetters, id: string, json: boolean): Promise<number> {
  const letter = await letters.read(id);
  if (letter === undefined) throw new Fault('letter_unknown', 'never', `there is no dead letter ${id}`);
  const first = await firstRows(letters, letter);
  return print({ ...shown(letter), ...first }, json, printLetter);
}

/** As many as are looked at; or, where the bytes are no block, why. */
async function firstRows(
  letters: DeadLetters,
  letter: KeptLetter,
): Promise<{ readonly firstRows: readonly Row[]; readonly unreadable?: string }> {
  const views: Uint8Array[] = [];
  for await (const view of letters.payload(letter, 1)) views.push(view);
  const encoding = letter.layout === 'z1' ? 'zstd' : 'identity';
  const block = inflate(Buffer.concat(views), encoding, BLOCK_BYTES_MAX);
  if (block.kind === 'too_large') return { firstRows: [], unreadable: 'the first fragment is too large' };
  if (block.kind === 'corrupt') return { firstRows: [], unreadable: block.message };
  const rows: Row[] = [];
  try {
    for (const row of rowsOf(block.bytes)) {
      rows.push(row);
      if (rows.length === ROWS_SHOWN) break;
    }
    return { firstRows: rows };
  } catch (error) {
    if (!(error instanceof BlockError)) throw error;
    return { firstRows: rows, unreadable: messageOf(error) };
  }
}

async function exportAll(
  letters: DeadLetters,
  { clickhouse }: Settings,
  folder: string,
  flags: LetterFlags,
): Promise<readonly LetterGroup[]> {
  await mkdir(folder, { recursive: true });
  return letters.each(filterOf(flags), flags, (letter) =>
    exportLetter(letters, letter, { folder, clickhouse, description: shown(letter) }),
  );
}

function acted(done: Acted['done'], groups: readonly LetterGroup[], flags: LetterFlags): number {
  const sum = (of: 'letters' | 'rows' | 'bytes') => groups.reduce((total, group) => total + group[of], 0);
  const { dryRun = false, json = false } = flags;
  const data = { done, dryRun, letters: sum('letters'), rows: sum('rows'), bytes: sum('bytes'), groups };
  return print(data, json, printActed);
}

function print<T>(data: T, json: boolean, forPeople: (data: T) => void): number {
  if (json) console.log(JSON.stringify(data, null, 2));
  else forPeople(data);
  return 0;
}

function shown(letter: KeptLetter) {
  const { sealedAtMs, newestAtMs, buriedAtMs, firstBuriedAtMs, ...rest } = letter;
  return {
    ...rest,
    signal: signalOf(letter.table),
    acknowledgedUntil: iso(newestAtMs),
    sealedAt: iso(sealedAtMs),
    firstBuriedAt: iso(firstBuriedAtMs),
    buriedAt: iso(buriedAtMs),
  };
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
