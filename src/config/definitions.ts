/**
 * Every setting: its key in the file, its name in the environment, default, bounds and meaning.
 * docs/configuration.md is compared with this list both ways by a test.
 */
import * as kind from './kinds.ts';
import type { Kind } from './kinds.ts';

export interface Definition<T = unknown> {
  /** Path in the YAML file and in Settings. */
  readonly key: string;
  readonly env: string;
  readonly kind: Kind<T>;
  /** As one would write it in the environment. */
  readonly default: string;
  readonly help: string;
}

function define<T>(key: string, env: string, of: Kind<T>, fallback: string, help: string): Definition {
  return { key, env: `SLUICE_${env}`, kind: of as Kind<unknown>, default: fallback, help };
}

const GIB = 2 ** 30;
const ms = (min: number, max: number) => kind.integer(min, max);
const days = kind.integer(0, 36_500);
const port = kind.integer(1, 65_535);
const name = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** pretty only where a person is reading along. */
const logFormatDefault = process.stderr.isTTY ? 'pretty' : 'json';

export const DEFINITIONS: readonly Definition[] = [
  define('receive.grpcAddr', 'GRPC_ADDR', kind.address, '0.0.0.0:4317', 'where OTLP/gRPC is received'),
  define('receive.httpAddr', 'HTTP_ADDR', kind.address, '0.0.0.0:4318', 'where OTLP/HTTP is received, protobuf and JSON'),
  define('receive.requestBytesMax', 'REQUEST_BYTES_MAX', kind.bytes(1024, GIB), '67108864',
    'size of one request, also after decompression; above it 413 / RESOURCE_EXHAUSTED'),
  define('receive.inlineBytesMax', 'RECEIVE_INLINE_BYTES_MAX', kind.bytes(0, GIB), '4194304',
    'larger requests, after decompression, are transcoded on a thread of their own so that others do not wait'),
  define('receive.connectionsMax', 'RECEIVE_CONNECTIONS_MAX', kind.integer(1, 1_000_000), '10000',
    'open connections of each port'),
  define('receive.requestsInFlightMax', 'RECEIVE_REQUESTS_IN_FLIGHT_MAX', kind.integer(1, 1_000_000), '4096',
    'requests being read, transcoded or committed'),
  define('receive.bytesInFlightMax', 'RECEIVE_BYTES_IN_FLIGHT_MAX', kind.bytes(65_536, 64 * GIB), '268435456',
    'bytes of the requests in flight, as they came over the wire; keep it well above requestBytesMax'),
  define('receive.corsOrigins', 'RECEIVE_CORS_ORIGINS', kind.list('origins separated by commas, or *'), '',
    'origins of web pages that may send; none by default'),
  define('receive.keepAliveMs', 'RECEIVE_KEEP_ALIVE_MS', ms(8_000, 900_000), '120000',
    'how long a gRPC connection without a call is kept: longer than load balancers keep theirs'),
  define('receive.nestingMax', 'RECEIVE_NESTING_MAX', kind.integer(1, 256), '64',
    'how deep attribute values may nest; deeper records are refused one by one'),
  define('admin.addr', 'ADMIN_ADDR', kind.address, '0.0.0.0:9090', 'metrics and health'),
  define('redis.url', 'REDIS_URL', kind.redisUrl, 'redis://127.0.0.1:6379/0', 'the Redis that holds what is acknowledged'),
  define('redis.durability', 'REDIS_DURABILITY', kind.durability, 'everysec',
    'what Redis must promise before an acknowledgement'),
  define('redis.timeoutMs', 'REDIS_TIMEOUT_MS', ms(100, 600_000), '5000',
    'how long an answer of Redis is waited for before the connection counts as broken'),
  define('clickhouse.urls', 'CLICKHOUSE_URL', kind.clickhouseUrls, 'http://127.0.0.1:8123', 'the ClickHouse servers'),
  define('clickhouse.cluster', 'CLICKHOUSE_CLUSTER', kind.string('a name of system.clusters, or nothing'), '',
    'name of the cluster in system.clusters; empty for one server'),
  define('clickhouse.addresses', 'CLICKHOUSE_ADDRESSES', kind.addresses, '',
    'where a host of system.clusters is reached by HTTP, if not under its own name and the port of CLICKHOUSE_URL'),
  define('clickhouse.expect.shards', 'CLICKHOUSE_EXPECT_SHARDS', kind.integer(0, 128), '0',
    'how many shards the cluster has to have; 0 is any number'),
  define('clickhouse.expect.replicas', 'CLICKHOUSE_EXPECT_REPLICAS', kind.integer(0, 128), '0',
    'how many replicas each shard has to have; 0 is any number'),
  define('clickhouse.replication', 'CLICKHOUSE_REPLICATION', kind.oneOf('auto', 'on', 'off'), 'auto',
    'Replicated engines; auto uses them on a cluster whose hosts have Keeper and the macros {shard} and {replica}'),
  define('clickhouse.watchMs', 'CLICKHOUSE_WATCH_MS', ms(100, 600_000), '5000',
    'how often the definition of the cluster is looked at'),
  define('clickhouse.database', 'CLICKHOUSE_DATABASE', kind.string('a name of letters, digits and _', name), 'otel',
    'the database of the tables'),
  define('clickhouse.insertTimeoutMs', 'CLICKHOUSE_INSERT_TIMEOUT_MS', ms(1_000, 3_600_000), '120000',
    'how long one insert may take'),
  define('clickhouse.queryTimeoutMs', 'CLICKHOUSE_QUERY_TIMEOUT_MS', ms(1_000, 3_600_000), '30000',
    'how long any other query may take'),
  define('clickhouse.partitionsPerInsertMax', 'CLICKHOUSE_PARTITIONS_PER_INSERT_MAX', kind.integer(1, 100_000), '1000',
    'days of data that one insert may touch'),
  define('clickhouse.replicaStrategy', 'CLICKHOUSE_REPLICA_STRATEGY',
    kind.oneOf('least_loaded', 'round_robin', 'consistent_hash'), 'least_loaded',
    'which replica of a shard an insert goes to'),
  define('clickhouse.healthCheckMs', 'CLICKHOUSE_HEALTH_CHECK_MS', ms(100, 3_600_000), '30000',
    'how often each replica is asked how it is'),
  define('clickhouse.replicaReturnMs', 'CLICKHOUSE_REPLICA_RETURN_MS', ms(0, 3_600_000), '60000',
    'how long a replica that is back takes until it gets its full share again'),
  define('clickhouse.loadRatioMax', 'CLICKHOUSE_LOAD_RATIO_MAX', kind.decimal(1.1, 100), '2',
    'a replica with this many times the load of another one of its shard gets less'),
  define('clickhouse.insertQuorum', 'CLICKHOUSE_INSERT_QUORUM',
    kind.orWord(kind.orWord(kind.integer(0, 128), 'auto'), 'live'), 'live',
    'replicas that must have an insert before it counts as written; auto is the majority, live is the majority but ' +
      'not more than are up, 0 is the one it went to'),
  define('clickhouse.outageHoursMax', 'CLICKHOUSE_OUTAGE_HOURS_MAX', kind.integer(1, 8_760), '24',
    'the longest outage after which a repeated insert is still recognised: sets the deduplication windows of the tables'),
  define('clickhouse.storagePolicy', 'CLICKHOUSE_STORAGE_POLICY', kind.string('a name of system.storage_policies, or nothing'), '',
    "of the tables; empty leaves it to the server"),
  define('fragment.zstdLevel', 'FRAGMENT_ZSTD_LEVEL', kind.orWord(kind.integer(-50, 19), 'off'), '1',
    'compression of what is stored in Redis; lower is faster and larger (-1 is taken as -2), off is none'),
  define('fragment.bytesMax', 'FRAGMENT_BYTES_MAX', kind.bytes(65_536, GIB), '16777216',
    'an open block of about this size is closed although the commit before it is still under way'),
  define('batch.rowsMax', 'BATCH_ROWS_MAX', kind.integer(1, 10_000_000), '100000', 'rows at which a batch is sealed'),
  define('batch.bytesMax', 'BATCH_BYTES_MAX', kind.bytes(1024, 4 * GIB), '67108864', 'bytes at which a batch is sealed'),
  define('batch.ageMsMax', 'BATCH_AGE_MS_MAX', ms(10, 600_000), '1000', 'age at which a batch is sealed'),
  define('queue.bytesMax', 'QUEUE_BYTES_MAX', kind.orWord(kind.bytes(65_536, 4096 * GIB), 'auto'), 'auto',
    'bytes waiting in Redis from which clients are pushed back; auto is 80 % of maxmemory, or 1 GiB where none is set'),
  define('write.insertsInFlightMax', 'WRITE_INSERTS_IN_FLIGHT_MAX', kind.integer(1, 64), '2',
    'inserts at the same time, of each writer and shard; more of them cost the server more CPU a row'),
  define('write.retryMsMin', 'WRITE_RETRY_MS_MIN', ms(10, 600_000), '250', 'first delay before an insert is tried again'),
  define('write.retryMsMax', 'WRITE_RETRY_MS_MAX', ms(10, 3_600_000), '15000', 'longest delay between two tries'),
  define('write.sweepMs', 'WRITE_SWEEP_MS', ms(50, 600_000), '1000', 'how often sealed batches without a job are looked for'),
  define('retention.tracesDays', 'RETENTION_DAYS_TRACES', days, '30', 'days that spans are kept; 0 keeps them for ever'),
  define('retention.logsDays', 'RETENTION_DAYS_LOGS', days, '30', 'days that log records are kept; 0 keeps them for ever'),
  define('retention.metricsDays', 'RETENTION_DAYS_METRICS', days, '30', 'days that points are kept; 0 keeps them for ever'),
  define('migrations.dir', 'MIGRATIONS_DIR', kind.string('a folder'), 'sql', 'further migrations, see migrations.md'),
  define('migrations.mode', 'MIGRATIONS_MODE', kind.oneOf('auto', 'per-host', 'on-cluster'), 'auto',
    'each host directly, or through the DDL queue of the cluster; auto is per-host where every host is reachable'),
  define('migrations.waitMsMax', 'MIGRATIONS_WAIT_MS_MAX', ms(1_000, 86_400_000), '600000',
    'how long a statement, a mutation, a task of the DDL queue or the lock of another migrator is waited for'),
  define('migrations.lockMs', 'MIGRATIONS_LOCK_MS', ms(1_000, 600_000), '30000',
    'how long the lock of a migrator that died still holds; one that lives renews it'),
  define('embedded.dataDir', 'DATA_DIR', kind.string('a folder'), '.sluice', "the embedded services' data (`up` only)"),
  define('embedded.shards', 'EMBEDDED_SHARDS', kind.integer(1, 16), '1',
    'ClickHouse servers that `up` starts; several are the shards of a cluster, on ports one after another'),
  define('embedded.clickhouseHttpPort', 'EMBEDDED_CLICKHOUSE_HTTP_PORT', port, '8123', 'of the embedded ClickHouse'),
  define('embedded.clickhouseTcpPort', 'EMBEDDED_CLICKHOUSE_TCP_PORT', port, '9000', 'of the embedded ClickHouse'),
  define('embedded.redisPort', 'EMBEDDED_REDIS_PORT', port, '6379', 'of the Redis that `up` starts'),
  define('embedded.diskFreeBytesMin', 'EMBEDDED_DISK_FREE_BYTES_MIN', kind.bytes(0, 1024 * GIB), '1073741824',
    '`up` refuses to start with less free space in its data folder'),
  define('drain.msMax', 'DRAIN_MS_MAX', ms(100, 600_000), '25000', 'how long a stop may take before it is forced'),
  define('transcode.engine', 'TRANSCODE_ENGINE', kind.oneOf('wasm', 'plain'), 'wasm',
    'what transcodes: WebAssembly, or the same source as plain JavaScript'),
  define('log.level', 'LOG_LEVEL', kind.logLevel, 'info', 'least level that is logged'),
  define('log.format', 'LOG_FORMAT', kind.logFormat, logFormatDefault, 'json, or pretty; json when not a terminal'),
];
