/**
 * The one list of what ClickHouse says when it refuses: server code -> Fault, and what is done about it.
 * In: whatever @clickhouse/client throws. Out: a Fault whose code is ClickHouse's own name of the error (as
 * in system.errors), or the system's name of a broken connection, so that both can be looked up as they are.
 *
 * What an operator or a migration mends (unknown table, wrong password, missing grant) is `here`: the batches
 * wait for it. So is every code that isn't listed: waiting is safe, giving up isn't. The page
 * docs/clickhouse-answers.md has the same list for operators.
 */
import { ClickHouseError } from '@clickhouse/client';
import { Fault, type Retry, messageOf } from '../base/errors.ts';

/**
 * What is done with the batch.
 *
 * `here`      it comes again, to the same server too: time, an operator or a migration mends it
 * `elsewhere` it goes to the next replica of the shard at once, and waits when there is none
 * `wait`      the server is short of something that every replica and every batch needs: it comes again after
 *             a pause, more batches wait behind it, and in the end clients are pushed back
 * `split`     some of its rows are at fault, or it is too much at once: it is divided, down to records
 * `never`     the bytes of a fragment are at fault: it is divided, down to fragments
 * `whole`     it is refused for good, but perhaps stored in part: it isn't divided
 */
export const ACTIONS = ['here', 'elsewhere', 'wait', 'split', 'never', 'whole'] as const;
export type Action = (typeof ACTIONS)[number];

/** Whether the same bytes are tried again: parts of them are other bytes. */
const RETRIES: Readonly<Record<Action, Retry>> = {
  here: 'here',
  elsewhere: 'elsewhere',
  wait: 'here',
  split: 'never',
  never: 'never',
  whole: 'never',
};

export interface ServerCode {
  readonly name: string;
  readonly action: Action;
  /** In words for the operator, without a full stop. */
  readonly meaning: string;
}

type Row = readonly [code: number, name: string, action: Action, meaning: string];

/** Names are ClickHouse's: a test asks a real server for each (`errorCodeToName`). */
const ROWS: readonly Row[] = [
  // The server is busy, going down, or short of something.
  [159, 'TIMEOUT_EXCEEDED', 'here', 'the server gave up after its own time limit'],
  [173, 'CANNOT_ALLOCATE_MEMORY', 'wait', 'the server has no memory left'],
  [201, 'QUOTA_EXCEEDED', 'wait', 'the quota of the user is used up'],
  [202, 'TOO_MANY_SIMULTANEOUS_QUERIES', 'elsewhere', 'the server runs as many queries as it may'],
  [236, 'ABORTED', 'elsewhere', 'the server is stopping'],
  [241, 'MEMORY_LIMIT_EXCEEDED', 'wait', 'the server has no memory left for this insert'],
  [243, 'NOT_ENOUGH_SPACE', 'elsewhere', 'the disk of the server is full'],
  [252, 'TOO_MANY_PARTS', 'wait', 'the table has too many parts, merges have to catch up first'],
  [394, 'QUERY_WAS_CANCELLED', 'here', 'somebody cancelled the insert on the server'],
  [439, 'CANNOT_SCHEDULE_TASK', 'elsewhere', 'the server has no thread left'],
  [745, 'SERVER_OVERLOADED', 'elsewhere', 'the server is overloaded'],
  // Between servers.
  [198, 'DNS_ERROR', 'elsewhere', 'the server could not resolve the name of another'],
  [203, 'NO_FREE_CONNECTION', 'elsewhere', 'the server has no connection left to another'],
  [209, 'SOCKET_TIMEOUT', 'elsewhere', 'the server waited in vain for bytes'],
  [210, 'NETWORK_ERROR', 'elsewhere', 'the server lost a connection'],
  [225, 'NO_ZOOKEEPER', 'elsewhere', 'the server has no Keeper'],
  [242, 'TABLE_IS_READ_ONLY', 'elsewhere', 'the table is read-only on this replica, its Keeper is away'],
  [254, 'NO_ACTIVE_REPLICAS', 'elsewhere', 'no replica is active'],
  [279, 'ALL_CONNECTION_TRIES_FAILED', 'elsewhere', 'the server reached none of the replicas'],
  [285, 'TOO_FEW_LIVE_REPLICAS', 'here', 'fewer replicas live than the insert quorum wants'],
  [286, 'UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE', 'here', 'the insert before still waits for its quorum'],
  // Perhaps stored already. Another replica finds the token in Keeper, and waits for the quorum of that part.
  [319, 'UNKNOWN_STATUS_OF_INSERT', 'elsewhere', 'the server does not know whether the insert was stored'],
  [364, 'RECEIVED_ERROR_TOO_MANY_REQUESTS', 'elsewhere', 'the server was told to slow down'],
  [999, 'KEEPER_EXCEPTION', 'elsewhere', 'Keeper failed the server'],
  // Mended by an operator or a migration.
  [16, 'NO_SUCH_COLUMN_IN_TABLE', 'here', 'the table lacks a column, is the schema migrated?'],
  [60, 'UNKNOWN_TABLE', 'here', 'there is no such table, is the schema migrated?'],
  [81, 'UNKNOWN_DATABASE', 'here', 'there is no such database, is the schema migrated?'],
  [115, 'UNKNOWN_SETTING', 'here', 'the server does not know a setting that deduplication needs'],
  [164, 'READONLY', 'here', 'the user may only read'],
  [192, 'UNKNOWN_USER', 'here', 'there is no such user'],
  [193, 'WRONG_PASSWORD', 'here', 'the password is wrong'],
  [194, 'REQUIRED_PASSWORD', 'here', 'the user needs a password'],
  [195, 'IP_ADDRESS_NOT_ALLOWED', 'here', 'the user may not connect from this address'],
  [291, 'DATABASE_ACCESS_DENIED', 'here', 'the user may not use the database'],
  [452, 'SETTING_CONSTRAINT_VIOLATION', 'here', 'the profile forbids a setting that deduplication needs'],
  [497, 'ACCESS_DENIED', 'here', 'the user lacks a grant'],
  [516, 'AUTHENTICATION_FAILED', 'here', 'user or password is wrong'],
  // The bytes themselves, or some of the rows.
  [3, 'UNEXPECTED_END_OF_FILE', 'never', 'the data ends too early'],
  [6, 'CANNOT_PARSE_TEXT', 'split', 'a value cannot be read'],
  [8, 'THERE_IS_NO_COLUMN', 'never', 'a block has a column that the insert does not name'],
  [26, 'CANNOT_PARSE_QUOTED_STRING', 'split', 'a value cannot be read'],
  [27, 'CANNOT_PARSE_INPUT_ASSERTION_FAILED', 'split', 'a value cannot be read'],
  [32, 'ATTEMPT_TO_READ_AFTER_EOF', 'never', 'the data ends too early'],
  [33, 'CANNOT_READ_ALL_DATA', 'never', 'the data ends too early'],
  [41, 'CANNOT_PARSE_DATETIME', 'split', 'a time cannot be read'],
  [50, 'UNKNOWN_TYPE', 'never', 'a block names a type that does not exist'],
  [53, 'TYPE_MISMATCH', 'never', 'a column has another type than the table'],
  // The statement is a constant that every version reads: what can't be parsed is a type that a block names.
  [62, 'SYNTAX_ERROR', 'never', 'a block names a type that cannot be read'],
  [70, 'CANNOT_CONVERT_TYPE', 'split', 'a value does not fit the type of its column'],
  [72, 'CANNOT_PARSE_NUMBER', 'split', 'a number cannot be read'],
  [117, 'INCORRECT_DATA', 'split', 'the data is malformed'],
  [128, 'TOO_LARGE_ARRAY_SIZE', 'split', 'an array is larger than the server takes'],
  [131, 'TOO_LARGE_STRING_SIZE', 'split', 'a string is larger than the server takes'],
  [190, 'SIZES_OF_ARRAYS_DONT_MATCH', 'split', 'arrays of one nested column differ in length'],
  [271, 'CANNOT_DECOMPRESS', 'never', 'the data cannot be decompressed'],
  [349, 'CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN', 'split', 'a column of the table takes no NULL'],
  [469, 'VIOLATED_CONSTRAINT', 'split', 'a constraint of the table forbids a row'],
  [561, 'ZSTD_DECODER_FAILED', 'never', 'the data cannot be decompressed'],
];

export const SERVER_CODES: ReadonlyMap<number, ServerCode> = new Map(
  ROWS.map(([code, name, action, meaning]) => [code, { name, action, meaning }]),
);

/**
 * Code 252 has two meanings: too many parts wait to be merged (time mends it), or one insert reaches into too
 * many partitions (nothing does, but the rows are good: in parts they pass). Only the text tells them apart.
 * Its beginning is as old as `max_partitions_per_insert_block`, and only this place reads it.
 */
const TOO_MANY_PARTITIONS_TEXT = /too many partitions for (a )?single INSERT/i;
const TOO_MANY_PARTITIONS: ServerCode = {
  name: 'too_many_partitions',
  action: 'split',
  meaning: 'one insert reaches into more partitions than clickhouse.partitionsPerInsertMax allows',
};

/**
 * A view that refuses rows does so when they are in the table already: the server writes that first, and
 * takes nothing back. Under the same token the rest of them follows, when the view was mended. Under any
 * other, as that of a part, they would be in the table twice. Again only the text tells; a value that it
 * quotes may say the same words, which costs no more than a division.
 */
const IN_VIEW_TEXT = /: while pushing to view /i;
const REFUSED_BY_VIEW: ServerCode = {
  name: 'refused_by_view',
  action: 'whole',
  meaning: 'a materialized view refuses rows that are in its table already',
};

const ACTIONS_BY_NAME: ReadonlyMap<string, Action> = new Map(
  [...SERVER_CODES.values(), TOO_MANY_PARTITIONS].map(({ name, action }) => [name, action]),
);

/**
 * Down to what a batch is divided that was refused with this Fault. Undefined for one that isn't divided: it
 * may pass as it is, or is refused for good but perhaps stored in part.
 */
export function dividedTo({ code }: Fault): 'records' | 'fragments' | undefined {
  const action = ACTIONS_BY_NAME.get(code);
  if (action === 'split') return 'records';
  return action === 'never' ? 'fragments' : undefined;
}

/** Old servers (18.16) answer in a form that the client doesn't take apart: their text has the number. */
const CODE_IN_TEXT = /\bCode: (\d{1,5})\b/;
/** The tail that every answer of a server ends with. */
const VERSION_IN_TEXT = /\s*\(version [^()]*(\([^()]*\))?\)\s*$/;
const WORDS_LENGTH_MAX = 600;

/**
 * Makes a Fault of anything that a call of @clickhouse/client throws.
 * @param host which server, for the message (no password inside)
 * @returns a Fault as it is; errors of the server by the table above; broken connections as `elsewhere`; the
 * rest, like the page of a proxy, as `here` with the code `clickhouse_answer_unknown`.
 */
export function classify(error: unknown, host: string): Fault {
  if (error instanceof Fault) return error;
  const text = wordsOf(error);
  const number = serverCodeOf(error, text);
  if (number !== undefined) return serverFault(number, error, host);
  const system = systemCodeOf(error);
  if (system !== undefined) {
    const message = `ClickHouse at ${host} can't be reached: ${text || system}`;
    return new Fault(system, 'elsewhere', message, { cause: error });
  }
  const message = `ClickHouse at ${host} answered with an error but no code: ${text || 'nothing'}`;
  return new Fault('clickhouse_answer_unknown', 'here', message, { cause: error });
}

function serverFault(number: number, error: unknown, host: string): Fault {
  const text = wordsOf(error);
  const known = meantBy(number, messageOf(error));
  const typed = error instanceof ClickHouseError ? error.type : undefined;
  const name = known?.name ?? typed ?? `CODE_${number}`;
  const meaning = known === undefined ? '' : `${known.meaning}: `;
  const message = `ClickHouse at ${host}: ${meaning}${text} (code ${number}, ${name})`;
  return new Fault(name, RETRIES[known?.action ?? 'here'], message, { cause: error });
}

/** @param text all of it: a view is named at its end */
function meantBy(number: number, text: string): ServerCode | undefined {
  const partitions = number === 252 && TOO_MANY_PARTITIONS_TEXT.test(text);
  const known = partitions ? TOO_MANY_PARTITIONS : SERVER_CODES.get(number);
  const refused = known !== undefined && RETRIES[known.action] === 'never';
  return refused && IN_VIEW_TEXT.test(text) ? REFUSED_BY_VIEW : known;
}

function serverCodeOf(error: unknown, text: string): number | undefined {
  const digits = error instanceof ClickHouseError ? error.code : CODE_IN_TEXT.exec(text)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** `ECONNREFUSED` and its kind; a failed connection to a name with several addresses is an AggregateError. */
function systemCodeOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/** The server's own words in a length that a log line bears. */
function wordsOf(error: unknown): string {
  const parts = error instanceof AggregateError ? error.errors.map(messageOf) : [messageOf(error)];
  const words = parts.join('; ').trim().replace(VERSION_IN_TEXT, '');
  return words.length <= WORDS_LENGTH_MAX ? words : `${words.slice(0, WORDS_LENGTH_MAX)}…`;
}
