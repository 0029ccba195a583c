/**
 * The two configuration files of the embedded ClickHouse: small, quiet, and without anything that grows on
 * its own. Source of the names: the server's settings page and system.server_settings of 26.7.
 */

const MIB = 1024 * 1024;

/**
 * Idle HTTP connections are closed by the server after this long. A client's own limit must be lower, or it
 * sends an insert into a connection that is just being closed.
 */
export const KEEP_ALIVE_SECONDS = 30;

const CACHES = {
  mark_cache_size: 64 * MIB,
  primary_index_cache_size: 16 * MIB,
  index_mark_cache_size: 16 * MIB,
  uncompressed_cache_size: 0,
  index_uncompressed_cache_size: 0,
  compiled_expression_cache_size: 16 * MIB,
};

/** For two cores; each thread of a pool that is never needed still costs its stack. */
const POOLS = {
  background_pool_size: 2,
  background_merges_mutations_concurrency_ratio: 2,
  background_schedule_pool_size: 4,
  background_move_pool_size: 1,
  background_fetches_pool_size: 1,
  background_common_pool_size: 2,
  background_buffer_flush_schedule_pool_size: 1,
  background_distributed_schedule_pool_size: 2,
  background_message_broker_schedule_pool_size: 1,
  max_thread_pool_free_size: 8,
};

/** Free slots of the pool's 4; with the defaults, which are above 4, the server doesn't start. */
const MERGE_TREE = {
  number_of_free_entries_in_pool_to_lower_max_size_of_merge: 1,
  number_of_free_entries_in_pool_to_execute_mutation: 1,
  number_of_free_entries_in_pool_to_execute_optimize_entire_partition: 1,
};

const LIMITS = {
  keep_alive_timeout: KEEP_ALIVE_SECONDS,
  max_connections: 512,
  max_concurrent_queries: 100,
  asynchronous_metrics_update_period_s: 10,
};

export interface ClickHouseFiles {
  readonly dir: string;
  /** Of the whole server; a query that would exceed it fails with code 241. */
  readonly memoryBytesMax: number;
  /** Further elements inside `<clickhouse>`. */
  readonly configXml: string;
}

export function configXml(files: ClickHouseFiles): string {
  const dir = escapeXml(files.dir);
  const settings = { max_server_memory_usage: files.memoryBytesMax, ...LIMITS, ...CACHES, ...POOLS };
  return `<clickhouse>
  <logger>
    <log>${dir}/server.log</log><errorlog>${dir}/error.log</errorlog>
    <size>10M</size><count>2</count><console>0</console>
  </logger>
  <path>${dir}/data/</path>
  <tmp_path>${dir}/tmp/</tmp_path>
  <user_files_path>${dir}/user_files/</user_files_path>
  <users_config>${dir}/users.xml</users_config>
  <user_directories><users_xml><path>${dir}/users.xml</path></users_xml></user_directories>
  ${elements(settings)}
  <merge_tree>
  ${elements(MERGE_TREE)}
  </merge_tree>
  ${files.configXml}
</clickhouse>
`;
}

/** A user `default` without a password, from this machine only, who may do everything; and further ones. */
export function usersXml(memoryBytesMax: number, furtherUsersXml: string): string {
  return `<clickhouse>
  <profiles><default>
  ${elements({ max_memory_usage: memoryBytesMax, log_queries: 0 })}
  </default></profiles>
  <users><default>
    <password></password>
    <networks><ip>127.0.0.1</ip><ip>::1</ip></networks>
    <profile>default</profile>
    <quota>default</quota>
    <access_management>1</access_management>
  </default>${furtherUsersXml}</users>
  <quotas><default/></quotas>
</clickhouse>
`;
}

function elements(values: Readonly<Record<string, number>>): string {
  const lines = Object.entries(values).map(([name, value]) => `<${name}>${value}</${name}>`);
  return lines.join('\n  ');
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
