/**
 * What an insert sets, whatever the defaults of the server, its version or the user's profile are. A token
 * holds for an insert as the server cuts it: several blocks become `<token>_0`, `<token>_1` and so on. A
 * retry is only recognised if the same bytes become the same blocks, so block sizes and threads belong to
 * deduplication as much as the token itself. Logging and priorities are left to the server's profile, and so
 * is the quorum, unless one is asked for.
 */
import type { ServerInfo } from './client.ts';

type Values = Readonly<Record<string, string | number>>;

/** Named as in system.settings of 26.7. Each is sent only to servers that know it. */
const SETTINGS: Values = {
  // A retry is stored once, in the table and in what its views feed.
  insert_deduplicate: 1,
  // 26.2 and newer: overrides insert_deduplicate.
  deduplicate_insert: 'enable',
  deduplicate_blocks_in_dependent_materialized_views: 1,
  // A view that fails must fail the insert: the retry heals it. Ignored, its rows would be lost.
  materialized_views_ignore_errors: 0,
  // 1 by default in 26.x. Its buffer has no log, and its flush no token.
  async_insert: 0,
  // Should the table be a Distributed one: stored on its shard before the answer, not from a queue behind it.
  insert_distributed_sync: 1,

  // The same bytes become the same blocks. A batch within both bounds is one block: all of it or nothing.
  // A larger one is stored in several, in order: so memory is bounded however well a batch compresses.
  min_insert_block_size_rows: 1_048_449,
  min_insert_block_size_bytes: 268_402_944,
  max_insert_block_size: 1_048_449,
  max_insert_block_size_bytes: 0,
  use_strict_insert_block_limits: 0,
  min_insert_block_size_rows_for_materialized_views: 0,
  min_insert_block_size_bytes_for_materialized_views: 0,
  max_insert_threads: 1,
  parallel_view_processing: 0,
  optimize_on_insert: 1,

  // The body.
  input_format_native_allow_types_conversion: 1,
  input_format_native_decode_types_in_binary_format: 0,
  // A column that the insert doesn't name is an error, not dropped in silence.
  input_format_skip_unknown_fields: 0,
  // Never take the first half of a body whose connection broke for the whole.
  input_format_connection_handling: 0,

  // Skip indices are built by the first merge, a minute later at most where there is traffic: building them
  // for the insert too costs a tenth of the server's CPU. Until then a search scans the newest rows.
  materialize_skip_indexes_on_insert: 0,

  // The answer: none before the insert is done, then a status that is true.
  send_progress_in_http_headers: 0,
  http_write_exception_in_output_format: 0,

  throw_on_max_partitions_per_insert_block: 1,
};

/** A parameter of the HTTP interface since ever, and in no list of settings. */
const HTTP_PARAMETERS: Values = { wait_end_of_query: 1 };

/** Without these a retry may be stored twice. */
const NEEDED = ['insert_deduplicate', 'insert_deduplication_token'] as const;
const NEEDED_FOR_VIEWS = 'deduplicate_blocks_in_dependent_materialized_views';

/**
 * Everything but the token, which belongs to the batch.
 * @param partitionsMax how many partitions one insert may reach into before the server refuses it
 */
export function insertSettings(info: ServerInfo, partitionsMax: number): Values {
  const wanted: Values = { ...SETTINGS, max_partitions_per_insert_block: partitionsMax };
  const known = Object.entries(wanted).filter(([name]) => info.hasSetting(name));
  return { ...Object.fromEntries(known), ...HTTP_PARAMETERS };
}

/** The token as a setting, for servers that know it (22.2 and newer); others compare blocks by content. */
export function tokenSetting(info: ServerInfo, token: string): Values {
  return info.hasSetting('insert_deduplication_token') ? { insert_deduplication_token: token } : {};
}

export interface Quorum {
  /**
   * Replicas that must have an insert before it counts; below 2 there is no quorum. `auto` is the majority of
   * the shard's replicas, `live` the same, but no more than are up.
   */
  readonly insertQuorum: number | 'auto' | 'live';
  readonly insertTimeoutMs: number;
}

export interface ReplicaCounts {
  /** That the shard should have, whether they live or not. */
  readonly replicas: number;
  /** Of these, how many are believed to get a new part within seconds. */
  readonly live: number;
}

/** A replica that counts as live has a part long before. It holds inserts up for so long if it dies. */
const LIVE_QUORUM_MS_MAX = 15_000;

/** How many replicas must have an insert before it counts: at least 1, the one that it goes to. */
export function wantedQuorum({ insertQuorum }: Quorum, { replicas, live }: ReplicaCounts): number {
  const majority = Math.floor(replicas / 2) + 1;
  const wanted = insertQuorum === 'auto' ? majority : insertQuorum;
  return Math.max(1, wanted === 'live' ? Math.min(majority, live) : wanted);
}

/**
 * What makes the server wait until so many replicas have an insert; nothing where one is enough. Tables that
 * aren't replicated ignore it.
 *
 * The number is reckoned here for every version, by the replicas that the shard should have: servers before
 * 22.9 don't know `auto`, and 26.2 to 26.6 don't check it before they write (ClickHouse#108800). Servers
 * before 20.10 take one insert with a quorum at a time and refuse the others (286), which come again.
 */
export function quorumSettings(info: ServerInfo, quorum: Quorum, counts: ReplicaCounts): Values {
  const { insertQuorum, insertTimeoutMs } = quorum;
  const wanted = wantedQuorum(quorum, counts);
  if (wanted < 2) return {};
  // The other half is for the way to the first replica: its answer has to come before ours is given up.
  const half = Math.floor(insertTimeoutMs / 2);
  const all: Values = {
    insert_quorum: wanted,
    insert_quorum_timeout: insertQuorum === 'live' ? Math.min(half, LIVE_QUORUM_MS_MAX) : half,
    insert_quorum_parallel: 1,
  };
  return Object.fromEntries(Object.entries(all).filter(([name]) => info.hasSetting(name)));
}

/** Names of what the server lacks for storing a retried insert once. Empty for every supported version. */
export function lackingForExactlyOnce(info: ServerInfo): string[] {
  return [...NEEDED, NEEDED_FOR_VIEWS].filter((name) => !info.hasSetting(name));
}
