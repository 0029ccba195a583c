/**
 * The two configuration files of the embedded ClickHouse: small, quiet, and without anything that grows on its own.
 * Source of the names: the server's settings page and system.server_settings of 26.7.
 */

const MIB = 1024 * 1024;

/**
 * Idle HTTP connections are closed by the server after this long. A client's own limit must be lower, or it sends an
 * insert into a connection that is just being closed.
 */
export const KEEP_ALIVE_SECONDS = 30;

export interface ClickHouseFiles {
  readonly dir: string;
  /** Of the whole server; a query that would exceed it fails with code 241. */
  readonly memoryBytesMax: number;
  /** Further elements inside `<clickhouse>`. */
  readonly configXml: string;
}

export function configXml(files: ClickHouseFiles): string {
  const dir = escapeXml(files.dir);
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
  <keep_alive_timeout>${KEEP_ALIVE_SECONDS}</keep_alive_timeout>
  <max_connections>512</max_connections>
  <max_concurrent_queries>100</max_concurrent_queries>
  <max_server_memory_usage>${files.memoryBytesMax}</max_server_memory_usage>
  <mark_cache_size>${64 * MIB}</mark_cache_size>
  <primary_index_cache_size>${16 * MIB}</primary_index_cache_size>
  <index_mark_cache_size>${16 * MIB}</index_mark_cache_size>
  <uncompressed_cache_size>0</uncompressed_cache_size>
  <index_uncompressed_cache_size>0</index_uncompressed_cache_size>
  <compiled_expression_cache_size>${16 * MIB}</compiled_expression_cache_size>
  <query_condition_cache_size>${16 * MIB}</query_condition_cache_size>
  <background_pool_size>2</background_pool_size>
  <background_merges_mutations_concurrency_ratio>2</background_merges_mutations_concurrency_ratio>
  <background_schedule_pool_size>4</background_schedule_pool_size>
  <background_move_pool_size>1</background_move_pool_size>
  <background_fetches_pool_size>1</background_fetches_pool_size>
  <background_common_pool_size>2</background_common_pool_size>
  <background_buffer_flush_schedule_pool_size>1</background_buffer_flush_schedule_pool_size>
  <background_distributed_schedule_pool_size>2</background_distributed_schedule_pool_size>
  <background_message_broker_schedule_pool_size>1</background_message_broker_schedule_pool_size>
  <max_thread_pool_free_size>8</max_thread_pool_free_size>
  <asynchronous_metrics_update_period_s>10</asynchronous_metrics_update_period_s>
  <merge_tree>
    <number_of_free_entries_in_pool_to_lower_max_size_of_merge>1</number_of_free_entries_in_pool_to_lower_max_size_of_merge>
    <number_of_free_entries_in_pool_to_execute_mutation>1</number_of_free_entries_in_pool_to_execute_mutation>
    <number_of_free_entries_in_pool_to_execute_optimize_entire_partition>1</number_of_free_entries_in_pool_to_execute_optimize_entire_partition>
  </merge_tree>
  ${files.configXml}
</clickhouse>
`;
}

/** A user `default` without a password, from this machine only, allowed to do everything; and further ones. */
export function usersXml(memoryBytesMax: number, furtherUsersXml: string): string {
  return `<clickhouse>
  <profiles><default>
    <max_memory_usage>${memoryBytesMax}</max_memory_usage>
    <log_queries>0</log_queries>
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

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
