/**
 * What the fault of an insert says, and of whom: whether the next replica of the shard may do better, and
 * whether this one is to be doubted.
 */
import type { Fault } from '../base/errors.ts';

/**
 * Only this table, or what the user may do with it. An operator or a migration mends it, but perhaps it is so
 * on this replica alone: one that was just added, or a migration that is under way.
 */
const OF_THE_TABLE: readonly string[] = [
  'NO_SUCH_COLUMN_IN_TABLE',
  'UNKNOWN_TABLE',
  'UNKNOWN_DATABASE',
  'READONLY',
  'DATABASE_ACCESS_DENIED',
  'ACCESS_DENIED',
];
/** This replica doesn't let the user in, another may. */
const OF_THE_USER: readonly string[] = [
  'UNKNOWN_USER',
  'WRONG_PASSWORD',
  'REQUIRED_PASSWORD',
  'IP_ADDRESS_NOT_ALLOWED',
  'AUTHENTICATION_FAILED',
];
/** How many replicas the shard has, or how far they are: the one that says so is well. */
const OF_THE_SHARD: readonly string[] = ['UNKNOWN_STATUS_OF_INSERT', 'NO_ACTIVE_REPLICAS'];
const OF_THE_QUORUM: readonly string[] = [
  'TOO_FEW_LIVE_REPLICAS',
  'UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE',
  'UNKNOWN_STATUS_OF_INSERT',
];
/**
 * Not of a server: no answer in time, or that of a proxy that has lost its server. It may still be at it: the
 * same token elsewhere is stored once all the same.
 */
const UNANSWERED: readonly string[] = ['clickhouse_timeout', 'clickhouse_answer_unknown'];

/** What a server says, or the way to it, before a row is written. */
const BEFORE_WRITING: readonly string[] = [
  ...OF_THE_TABLE,
  ...OF_THE_USER,
  ...['UNKNOWN_SETTING', 'SETTING_CONSTRAINT_VIOLATION', 'QUOTA_EXCEEDED', 'TOO_MANY_SIMULTANEOUS_QUERIES'],
  ...['TOO_MANY_PARTS', 'TABLE_IS_READ_ONLY', 'TOO_FEW_LIVE_REPLICAS'],
  ...['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH'],
];

/** Whether an insert that was sent to its end may be stored, although this is what came back. */
export function leavesOpen({ code, retry }: Fault): boolean {
  return retry !== 'never' && !BEFORE_WRITING.includes(code);
}

/** Whether the same batch should go to the next replica at once. */
export function mayPassElsewhere({ code, retry }: Fault): boolean {
  return retry === 'elsewhere' || [...OF_THE_TABLE, ...OF_THE_USER, ...UNANSWERED].includes(code);
}

/** Whether some replica of the shard doesn't get what another one does, whichever it is. */
export function missesQuorum({ code }: Fault): boolean {
  return OF_THE_QUORUM.includes(code);
}

/** Whether the replica itself is the cause, so that its other inserts would likely fail too. */
export function liesWithReplica(fault: Fault): boolean {
  return mayPassElsewhere(fault) && ![...OF_THE_TABLE, ...OF_THE_SHARD].includes(fault.code);
}
