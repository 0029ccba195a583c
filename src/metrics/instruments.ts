/**
 * The one list of instruments. Counted per request or per batch, never per record. docs/metrics.md describes
 * each, and a test compares the two both ways. Base units: seconds, bytes, items.
 */
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

export type Instruments = ReturnType<typeof createInstruments>;

export function createInstruments() {
  const registry = new Registry();
  const registers = [registry];
  const counter = <L extends string>(name: string, help: string, ...labelNames: L[]) =>
    new Counter<L>({ name: `sluice_${name}`, help, labelNames, registers });
  const gauge = <L extends string>(name: string, help: string, ...labelNames: L[]) =>
    new Gauge<L>({ name: `sluice_${name}`, help, labelNames, registers });
  const histogram = <L extends string>(name: string, help: string, ...labelNames: L[]) =>
    new Histogram<L>({ name: `sluice_${name}`, help, labelNames, buckets: SECONDS, registers });
  collectDefaultMetrics({ register: registry });
  return {
    registry,
    // receive
    requests: counter('requests_total', 'Requests answered', 'signal', 'transport', 'encoding', 'code'),
    requestSeconds: histogram('request_duration_seconds', 'From the first byte to the answer', 'signal', 'transport'),
    requestBytes: counter('request_bytes_total', 'Bodies as they came over the wire', 'signal', 'transport'),
    connections: gauge('connections', 'Open client connections', 'transport'),
    requestsInFlight: gauge('requests_in_flight', 'Requests being read, transcoded or committed'),
    bytesInFlight: gauge('bytes_in_flight', 'Bytes of the requests in flight'),
    requestsRefused: counter('requests_refused_total', 'Requests refused whole, by reason', 'signal', 'reason'),
    // items
    itemsAccepted: counter('items_accepted_total', 'Items acknowledged', 'signal'),
    itemsRejected: counter('items_rejected_total', 'Items refused one by one', 'signal', 'reason'),
    itemsWritten: counter('items_written_total', 'Items whose insert has returned', 'signal', 'table', 'shard'),
    itemsDeadlettered: counter('items_deadlettered_total', 'Items of batches that can never be stored', 'signal', 'reason'),
    itemsDuplicate: counter('items_duplicate_total', 'Items acknowledged that were stored before', 'signal'),
    itemsDropped: counter('items_dropped_total', 'Acknowledged items that were discarded, by reason', 'signal', 'reason'),
    ledgerItems: gauge('ledger_items', 'The books in Redis: accepted = written + waiting + dead + dropped', 'signal', 'state'),
    itemsPerSecond: gauge('ingest_items_per_second', 'Items acknowledged, mean of the last 10 s', 'signal'),
    // queue
    commitSeconds: histogram('commit_duration_seconds', 'One group commit to Redis'),
    commits: counter('commits_total', 'Group commits to Redis', 'outcome'),
    fragmentBytes: counter('fragment_bytes_total', 'Bytes of the fragments committed', 'signal'),
    queueItems: gauge('queue_items', 'Items acknowledged and not yet written', 'signal'),
    queueBytes: gauge('queue_bytes', 'Bytes waiting in Redis', 'shard'),
    queueOldestAge: gauge('queue_oldest_age_seconds', 'Age of the oldest sealed batch', 'shard'),
    backpressureLevel: gauge('backpressure_level', '0 open, 1 slowing, 2 refusing'),
    backpressureReason: gauge('backpressure_reason', '1 while clients are pushed back for this reason', 'reason'),
    pressure: gauge('pressure_ratio', 'Each input against its limit: 1 is there', 'reason'),
    limitInSeconds: gauge('queue_limit_in_seconds', 'When the queue is full, as it goes now; -1: never'),
    drainItemsPerSecond: gauge('drain_items_per_second', 'Items written by all writers, mean of the last 10 s'),
    admittedShare: gauge('admitted_share', 'Part of what is offered that is let in now, 0 to 1'),
    // tenants
    tenantItems: counter('tenant_items_accepted_total', 'Items acknowledged, by tenant', 'tenant', 'signal'),
    tenantBytes: counter('tenant_bytes_total', 'Bytes of requests taken, after decompression', 'tenant', 'signal'),
    tenantRefused: counter('tenant_requests_refused_total', 'Requests refused for what their tenant may send', 'tenant', 'reason'),
    tenantQuotaUsed: gauge('tenant_quota_used_ratio', 'Part of the daily quota that is used', 'tenant', 'unit'),
    authFailures: counter('auth_failures_total', 'Requests without valid credentials, by what was wrong', 'reason'),
    // limits and rules
    itemsTrimmed: counter('items_trimmed_total', 'Items stored with something cut off', 'signal', 'limit'),
    itemsOverLimit: counter('items_over_limit_total', 'Items beyond a limit in a dry run', 'signal', 'limit'),
    itemsFiltered: counter('items_filtered_total', 'Items that a rule dropped or did not sample', 'signal', 'rule'),
    itemsRedacted: counter('items_redacted_total', 'Items in which a rule replaced something', 'signal', 'rule'),
    seriesMetrics: gauge('series_metrics', 'Metrics whose time series are counted'),
    seriesOverflow: counter('series_overflow_total', 'Points of time series beyond the limit', 'tenant'),
    batchesSealed: counter('batches_sealed_total', 'Batches sealed by this process', 'table'),
    redisUp: gauge('redis_up', '1 while Redis can be reached'),
    redisReconnects: counter('redis_reconnects_total', 'Times that Redis was found again, there or elsewhere'),
    replicasMissing: counter('redis_replicas_missing_total', 'Appends that too few replicas had in time', 'outcome'),
    // resend
    repeats: counter('requests_repeated_total', 'Requests recognised as repeated, by where', 'signal', 'found'),
    resendWindow: gauge('resend_window_seconds', 'How long a request is remembered from now on'),
    resendCacheEntries: gauge('resend_cache_entries', 'Requests that this gateway remembers by itself'),
    resendCacheEntriesMax: gauge('resend_cache_entries_max', 'How many it may remember now'),
    resendLookups: counter('resend_cache_lookups_total', 'Requests looked up in the cache', 'result'),
    resendSeconds: counter('resend_seconds_total', 'Time spent on recognising requests, on the main thread'),
    resendRemembered: gauge('resend_remembered', 'Requests that Redis remembers', 'shard'),
    resendForgotten: counter('resend_forgotten_total', 'Requests that Redis had no room to remember'),
    resendRebuilds: counter('resend_rebuilds_total', 'Groups made anew without the requests that were stored before'),
    // dead letters
    deadLetters: gauge('dead_letters', 'Dead letters in Redis', 'shard'),
    deadLetterBytes: gauge('dead_letter_bytes', 'Bytes that they take', 'shard'),
    batchesDivided: counter('batches_divided_total', 'Batches that had to be divided to be stored', 'table', 'reason'),
    // write
    writesPaused: gauge('writes_paused', '1 while no replica of the shard takes inserts', 'shard'),
    inserts: counter('inserts_total', 'Inserts tried', 'table', 'shard', 'replica', 'outcome'),
    insertSeconds: histogram('insert_duration_seconds', 'One insert into ClickHouse', 'table', 'shard'),
    freshness: gauge('freshness_seconds', 'Now minus the acknowledgement of the newest item in ClickHouse', 'signal'),
    batchesSwept: counter('batches_swept_total', 'Sealed batches that the sweep found without a job'),
    // cluster
    replicaUp: gauge('replica_up', '1 while the replica takes inserts', 'shard', 'replica'),
    replicaShare: gauge('replica_share', "The replica's share of its shard's inserts, 0 to 1", 'shard', 'replica'),
    replicaInFlight: gauge('replica_inserts_in_flight', 'Inserts under way, of this process', 'shard', 'replica'),
    topologyShards: gauge('topology_shards', 'Shards of the topology in use'),
    topologyFaults: gauge('topology_faults', 'Faults that topology check would name'),
    topologyChanges: counter('topology_changes_total', 'Times that the topology in use has changed'),
    schemaDrift: gauge('schema_drift', 'Differences between declared and real tables', 'host'),
    // security
    certificateExpiry: gauge('certificate_not_after_seconds', 'When the certificate of a port ends, since 1970', 'port'),
    connectionsRefused: counter('connections_refused_total', 'Connections that were ended before a request, by why', 'transport', 'reason'),
    // operate
    configReloads: counter('config_reloads_total', 'Times that the settings were read again', 'outcome'),
    configValid: gauge('config_valid', '1 while the file in SLUICE_CONFIG is the one in use'),
    configRestart: gauge('config_restart_pending', 'Settings that have changed and need a restart'),
    buildInfo: gauge('build_info', 'Always 1', 'version', 'engine'),
  };
}
