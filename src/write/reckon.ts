/** Figures that decide whether a batch may be divided, and how many rows each of its fragments has. */
import { insertSettings } from '../clickhouse/insert-settings.ts';

/** What every insert is sent with, to a server that knows all of it. */
const SENT = insertSettings(
  {
    version: { major: 0, minor: 0, patch: 0 },
    timezone: 'UTC',
    hasSetting: () => true,
    hasMergeTreeSetting: () => true,
  },
  1,
);
/** Memory is only reckoned, so the bound is kept at a distance. */
const MEMORY_MARGIN = 1.25;

/**
 * Whether the server may cut an insert into several blocks. Those before the one that it refuses are stored
 * by then, under the token of the whole.
 */
export function exceedsOneBlock(rows: number, memoryBytes: number): boolean {
  const rowsMax = Number(SENT.min_insert_block_size_rows);
  const bytesMax = Number(SENT.min_insert_block_size_bytes);
  return rows >= rowsMax || memoryBytes * MEMORY_MARGIN >= bytesMax;
}

/**
 * The rows of each fragment: what they say themselves, and those that don't say share what is left, so that
 * together they are the batch's, and each has one at least. Undefined where that can't be.
 */
export function settleRows(
  total: number,
  claims: readonly (number | undefined)[],
): readonly number[] | undefined {
  const known = claims.reduce<number>((sum, claim) => sum + (claim ?? 0), 0);
  const unknown = claims.filter((claim) => claim === undefined).length;
  const left = total - known;
  if (claims.some((claim) => claim === 0) || (unknown === 0 ? left !== 0 : left < unknown)) return undefined;
  const share = Math.floor(left / Math.max(1, unknown));
  let more = unknown === 0 ? 0 : left - share * unknown;
  return claims.map((claim) => claim ?? share + (more-- > 0 ? 1 : 0));
}
