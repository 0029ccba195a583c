/**
 * The shape of all settings, as the rest of the program sees them: parsed, proved, complete.
 * Units are last in the names. How each is named outside, its default and its bounds: definitions.ts.
 */
import type { LogFormat, LogLevel } from '../base/log.ts';
import type { Limit } from '../model/outcome.ts';
import type { Signal } from '../model/signal.ts';
import type { Rule } from './rules.ts';
import type { TenantSettings } from './tenants.ts';

export interface Address {
  readonly host: string;
  readonly port: number;
}

export const DURABILITIES = ['everysec', 'always', 'replicated'] as const;
export type Durability = (typeof DURABILITIES)[number];

export type ReplicaStrategy = 'least_loaded' | 'round_robin' | 'consistent_hash';

/** TLS of a port that listens. PEM files; without a certificate there is none. */
export interface PortTls {
  readonly certFile: string;
  readonly keyFile: string;
  /** Authorities that may have signed clients' certificates. */
  readonly clientCaFile: string;
  /** Whether clients may or must show a certificate. */
  readonly clientAuth: 'off' | 'optional' | 'required';
}

export interface Settings {
  readonly receive: {
    readonly grpcAddr: Address;
    readonly httpAddr: Address;
    /** Of one request, also after decompression. */
    readonly requestBytesMax: number;
    /**
     * Larger requests (after decompression) are transcoded on a thread of their own, so that others don't
     * wait.
     */
    readonly inlineBytesMax: number;
    readonly connectionsMax: number;
    readonly requestsInFlightMax: number;
    /** Sum of the bodies that are held in memory, as they came over the wire. */
    readonly bytesInFlightMax: number;
    /** Browsers' origins that may send; `*` is any. Empty: no CORS headers at all. */
    readonly corsOrigins: readonly string[];
    /** A gRPC connection without a call is kept this long. */
    readonly keepAliveMs: number;
    /** How deep AnyValues may nest. */
    readonly nestingMax: number;
    /** Of one address, on each port; 0 is any number. */
    readonly connectionsPerAddressMax: number;
    readonly tls: PortTls;
  };
  readonly admin: {
    readonly addr: Address;
    readonly tls: PortTls;
    /** Hashes of the tokens with which state may be changed; empty: nobody may. */
    readonly tokens: readonly string[];
  };
  readonly config: {
    /** How often the file in SLUICE_CONFIG is looked at; 0 is never (SIGHUP still does). */
    readonly pollMs: number;
  };
  readonly tenants: {
    readonly list: readonly TenantSettings[];
    /** What becomes of a client that shows nothing. */
    readonly anonymous: 'default' | 'refuse';
    /** The header in which clients name their tenant without any proof, in lower case; empty: none. */
    readonly header: string;
    /** What becomes of a client that names a tenant which isn't in the list. */
    readonly unlisted: 'default' | 'refuse';
    /** Tenants with series of their own in the metrics; the others are `other`. */
    readonly metricsMax: number;
    /** Whether the tables have a column `Tenant`. */
    readonly column: boolean;
  };
  readonly shares: {
    /** Signals in the order in which they are slowed; those that aren't in it come last, together. */
    readonly slowFirst: readonly Signal[];
    /** How far ahead a gateway takes from the shares of all gateways. */
    readonly leaseMs: number;
  };
  /** From where on clients are pushed back. */
  readonly pressure: {
    /** Clients are slowed when a limit would be reached within this time. */
    readonly horizonSeconds: number;
    /** Bounds of the delays that clients are given. */
    readonly retryMsMin: number;
    readonly retryMsMax: number;
    /** Age of the oldest sealed batch; 0 is any. */
    readonly queueAgeSecondsMax: number;
    /** Of maxmemory. */
    readonly redisMemoryPercentMax: number;
    readonly commitMsMax: number;
    readonly eventLoopMsMax: number;
    /** RSS of a gateway; `auto` is 85 % of what the process may have, where that is limited. */
    readonly memoryBytesMax: number | 'auto';
    /** Of the table's parts_to_delay_insert, in one partition. */
    readonly partsPercentMax: number;
    /** 0 is any. */
    readonly replicaDelaySecondsMax: number;
    readonly diskFreePercentMin: number;
  };
  /** Of what clients send; 0 is no limit. */
  readonly limits: {
    /** `dry_run` only counts. */
    readonly mode: 'enforce' | 'dry_run';
    readonly itemsPerRequestMax: number;
    /** Of a record, and of its resource and scope each. */
    readonly attributesMax: number;
    /** Of an attribute's value and a log's body. */
    readonly valueBytesMax: number;
    readonly eventsMax: number;
    readonly linksMax: number;
    /** Older, or further ahead of now; by signal where one isn't as the others. */
    readonly timePastMaxHours: number;
    readonly timeFutureMaxHours: number;
    readonly timePastBySignal: ReadonlyMap<Signal, number>;
    readonly timeFutureBySignal: ReadonlyMap<Signal, number>;
    /** Time series of a tenant's metric within the window. */
    readonly seriesMax: number;
    readonly seriesWindowMinutes: number;
    /** Metrics whose series are counted, of all tenants together. */
    readonly seriesMetricsMax: number;
    /** Limits whose records are refused; those of the others are trimmed. */
    readonly refuse: ReadonlySet<Limit>;
  };
  readonly rules: readonly Rule[];
  readonly redis: {
    readonly url: string;
    readonly durability: Durability;
    /** Of `replicated`: replicas that must have an append before it is acknowledged. */
    readonly replicas: number;
    /** How long they are waited for. */
    readonly replicaWaitMs: number;
    /** What becomes of a request that too few replicas have in time. */
    readonly whenReplicasMissing: 'refuse' | 'warn';
    /** Empty: none. */
    readonly sentinelUsername: string;
    readonly sentinelPassword: string;
    /** `auto`: as the scheme of the URL says for Redis itself. */
    readonly sentinelTls: 'auto' | 'on' | 'off';
    /** PEM files; empty: the system's authorities, no certificate of our own. */
    readonly tlsCaFile: string;
    readonly tlsCertFile: string;
    readonly tlsKeyFile: string;
    /** How long an answer of Redis is waited for before the connection counts as broken. */
    readonly timeoutMs: number;
  };
  readonly clickhouse: {
    /** Each with user and password inside, where given. */
    readonly urls: readonly string[];
    /** PEM files; empty: the system's authorities, no certificate of our own. */
    readonly tlsCaFile: string;
    readonly tlsCertFile: string;
    readonly tlsKeyFile: string;
    readonly cluster: string;
    /** `host:port` of system.clusters to the URL under which it is reached. */
    readonly addresses: ReadonlyMap<string, string>;
    /** 0 is any number. */
    readonly expect: { readonly shards: number; readonly replicas: number };
    readonly replication: 'auto' | 'on' | 'off';
    /** How often the definition of the cluster is looked at. */
    readonly watchMs: number;
    readonly replicaStrategy: ReplicaStrategy;
    readonly healthCheckMs: number;
    /** How long a replica that is back takes until it gets its full share again. */
    readonly replicaReturnMs: number;
    /** A replica with this many times the load of another one of its shard gets less. */
    readonly loadRatioMax: number;
    /**
     * Replicas that must have an insert: the majority, of those that are up or of all (`auto`), or so many; 0
     * is the one that it went to.
     */
    readonly insertQuorum: number | 'auto' | 'live';
    /** Repeated inserts are recognised for so long. */
    readonly outageHoursMax: number;
    /** Of the tables; empty leaves it to the server. */
    readonly storagePolicy: string;
    readonly database: string;
    readonly insertTimeoutMs: number;
    readonly queryTimeoutMs: number;
    /** One insert into more partitions than this is refused by the server. */
    readonly partitionsPerInsertMax: number;
  };
  readonly fragment: {
    /** zstd level, or `off`. */
    readonly zstdLevel: number | 'off';
    /** An open block of about this size is closed although the commit before it is still under way. */
    readonly bytesMax: number;
  };
  readonly batch: { readonly rowsMax: number; readonly bytesMax: number; readonly ageMsMax: number };
  readonly queue: {
    /** `auto` is 80 % of Redis' maxmemory, or 1 GiB where none is set. */
    readonly bytesMax: number | 'auto';
    /** Of each shard: written batches that can still be asked for. */
    readonly trailBatchesMax: number;
  };
  /** How repeated requests are recognised. */
  readonly resend: {
    /** How long a request is remembered; `auto` is by traffic, 0 not at all. */
    readonly windowSeconds: number | 'auto';
    readonly quietSeconds: number;
    readonly busySeconds: number;
    readonly fastSeconds: number;
    /** Of all gateways together: from here on the window is `busySeconds`… */
    readonly busyRequestsPerSecond: number;
    /** …and from here on `fastSeconds`. */
    readonly fastRequestsPerSecond: number;
    /** Windows of single sources, seconds by name; 0 is none. */
    readonly sources: ReadonlyMap<string, number>;
    /** The header that names a request's source, in lower case. */
    readonly sourceHeader: string;
    readonly cacheEntriesMin: number;
    readonly cacheEntriesMax: number;
    /** Requests that Redis remembers, of each shard; what comes on top is stored and not remembered. */
    readonly requestsMax: number;
  };
  readonly deadLetters: {
    /** Of each shard. */
    readonly bytesMax: number;
    /** What happens to a further one: its batch waits, or it or the oldest ones are discarded. */
    readonly whenFull: 'wait' | 'drop_new' | 'drop_oldest';
  };
  readonly write: {
    readonly insertsInFlightMax: number;
    readonly retryMsMin: number;
    readonly retryMsMax: number;
    /** Batches that were sealed longer ago are backlog. */
    readonly backlogMs: number;
    /** While there is backlog, every so many inserts the newest batch has its turn; 0 is never. */
    readonly freshEvery: number;
    /** How often sealed batches without a job are looked for. */
    readonly sweepMs: number;
  };
  readonly retention: {
    readonly tracesDays: number;
    readonly logsDays: number;
    readonly metricsDays: number;
  };
  readonly migrations: {
    readonly dir: string;
    readonly mode: 'auto' | 'per-host' | 'on-cluster';
    /** Bound for a statement, a mutation, a task of the DDL queue, the lock of another migrator. */
    readonly waitMsMax: number;
    /** The lease of the lock; it is renewed while its migrator lives. */
    readonly lockMs: number;
  };
  readonly embedded: {
    readonly dataDir: string;
    /** Servers that `up` starts, each a shard; their ports follow the first's. */
    readonly shards: number;
    readonly clickhouseHttpPort: number;
    readonly clickhouseTcpPort: number;
    readonly redisPort: number;
    /** `up` refuses to start with less free space in the data folder. */
    readonly diskFreeBytesMin: number;
  };
  readonly drain: { readonly msMax: number };
  readonly transcode: { readonly engine: 'wasm' | 'plain' };
  readonly log: { readonly level: LogLevel; readonly format: LogFormat };
}
