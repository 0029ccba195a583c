// Goal: on a fresh server verify finds nothing, and every kind of drift that somebody makes by hand is named,
// with what is declared, what is there, and the statement that mends it.
import { describe, expect, test } from 'vitest';
import { close, createClickHouse } from '../../src/clickhouse/client.ts';
import type { MigrateContext } from '../../src/migrate/context.ts';
import { type Difference, driftOf, verificationLines } from '../../src/migrate/difference.ts';
import { migrateApply } from '../../src/migrate/run.ts';
import { verifyHosts } from '../../src/migrate/verify.ts';
import { silent, useClickHouse, withTempDir } from '../support/services.ts';
import { startShards } from '../support/shards.ts';
import { DEFAULTS, KEPT_FOR_EVER, useContext, writeMigrations } from './fixture.ts';

const clickhouse = useClickHouse();
const contextFor = useContext(clickhouse);

async function differences(context: MigrateContext): Promise<readonly Difference[]> {
  const [host] = await verifyHosts(context);
  return host?.differences ?? [];
}

const short = ({ kind, severity, table, item }: Difference) =>
  [severity === 'info' ? 'info' : '', kind, table, item].filter((text) => text !== '').join(' ');

test('the whole schema, freshly applied, is as declared', async () => {
  const context = contextFor({ retention: { tracesDays: 3, logsDays: 0, metricsDays: 30 } });
  expect((await differences(context)).map(short)).toEqual([
    'ledger 0001_traces.sql',
    'ledger 0002_logs.sql',
    'ledger 0003_metrics.sql',
    'ledger 0004_distributed.sql',
  ]);
  await migrateApply(context);
  expect(await differences(context)).toEqual([]);
  const [host] = await verifyHosts(context);
  expect(verificationLines(host!)).toEqual([`${context.hosts[0]?.server.host}: as declared`]);
});

/** Statements that make a drift, and what verify says of it; `t` is otel_traces, `l` is otel_logs. */
const DRIFTS: readonly (readonly [statement: string, expected: string, remedy: string | undefined])[] = [
  ['DROP TABLE d.otel_metrics_sum', 'missing table d.otel_metrics_sum', undefined],
  ['DROP TABLE d.otel_traces_trace_id_ts_mv', 'missing table d.otel_traces_trace_id_ts_mv', undefined],
  [
    'ALTER TABLE d.otel_logs DROP COLUMN EventName',
    'missing column d.otel_logs EventName',
    'ALTER TABLE d.otel_logs ADD COLUMN IF NOT EXISTS `EventName` String CODEC(ZSTD(1)) AFTER LogAttributes',
  ],
  ['ALTER TABLE d.otel_logs ADD COLUMN Extra Int8', 'info extra column d.otel_logs Extra', undefined],
  [
    'ALTER TABLE d.otel_logs MODIFY COLUMN SeverityText String',
    'type d.otel_logs SeverityText',
    'ALTER TABLE d.otel_logs MODIFY COLUMN `SeverityText` LowCardinality(String) CODEC(ZSTD(1))',
  ],
  [
    'ALTER TABLE d.otel_logs MODIFY COLUMN Body CODEC(LZ4)',
    'codec d.otel_logs Body',
    'ALTER TABLE d.otel_logs MODIFY COLUMN Body String CODEC(ZSTD(1))',
  ],
  ['ALTER TABLE d.otel_logs MODIFY COLUMN Timestamp CODEC(Delta(4), ZSTD(1))',
    'codec d.otel_logs Timestamp',
    'ALTER TABLE d.otel_logs MODIFY COLUMN Timestamp DateTime64(9) CODEC(Delta, ZSTD(1))',
  ],
  [
    'ALTER TABLE d.otel_traces MODIFY COLUMN SampleRate UInt64 MATERIALIZED 1',
    'default d.otel_traces SampleRate',
    "ALTER TABLE d.otel_traces MODIFY COLUMN `SampleRate` UInt64 MATERIALIZED greatest(toUInt64OrZero(SpanAttributes['SampleRate']), 1) CODEC(T64, ZSTD(1))",
  ],
  [
    'ALTER TABLE d.otel_traces_trace_id_ts MODIFY COLUMN End DateTime FIRST',
    'column order d.otel_traces_trace_id_ts',
    'ALTER TABLE d.otel_traces_trace_id_ts MODIFY COLUMN TraceId String FIRST, MODIFY COLUMN Start DateTime AFTER TraceId, MODIFY COLUMN End DateTime AFTER Start',
  ],
  [
    'ALTER TABLE d.otel_traces DROP INDEX idx_duration',
    'index d.otel_traces idx_duration',
    'ALTER TABLE d.otel_traces ADD INDEX IF NOT EXISTS idx_duration Duration TYPE minmax GRANULARITY 1',
  ],
  [
    'ALTER TABLE d.otel_traces ADD INDEX mine SpanName TYPE set(100)',
    'info index d.otel_traces mine',
    undefined,
  ],
  [
    'ALTER TABLE d.otel_traces MODIFY TTL toDateTime(Timestamp) + toIntervalDay(9)',
    'ttl d.otel_traces',
    'ALTER TABLE d.otel_traces REMOVE TTL',
  ],
  [
    "ALTER TABLE d.otel_traces MODIFY TTL toDateTime(Timestamp) + toIntervalDay(9) WHERE SpanName = ''",
    'info ttl d.otel_traces',
    undefined,
  ],
  [
    'ALTER TABLE d.otel_traces MODIFY SETTING ttl_only_drop_parts = 0',
    'setting d.otel_traces ttl_only_drop_parts',
    'ALTER TABLE d.otel_traces MODIFY SETTING ttl_only_drop_parts = 1',
  ],
  [
    'ALTER TABLE d.otel_traces RESET SETTING non_replicated_deduplication_window',
    'setting d.otel_traces non_replicated_deduplication_window',
    undefined,
  ],
  [
    'ALTER TABLE d.otel_traces MODIFY SETTING parts_to_delay_insert = 7',
    'info setting d.otel_traces parts_to_delay_insert',
    undefined,
  ],
  [
    'ALTER TABLE d.otel_traces_trace_id_ts_mv MODIFY QUERY SELECT TraceId, min(Timestamp) AS Start, max(Timestamp) AS End FROM d.otel_traces GROUP BY TraceId',
    'view d.otel_traces_trace_id_ts_mv query',
    "ALTER TABLE d.otel_traces_trace_id_ts_mv MODIFY QUERY SELECT TraceId, min(Timestamp) AS Start, max(Timestamp) AS End FROM d.otel_traces WHERE TraceId != '' GROUP BY TraceId",
  ],
];

describe('a drift made by hand', () => {
  test.each(DRIFTS)('%s', async (statement, expected, remedy) => {
    const database = `drift_${Math.random().toString(36).slice(2)}`;
    const context = contextFor({ database });
    await migrateApply(context);
    await clickhouse.query(statement.replaceAll('d.otel', `${database}.otel`));
    const found = await differences(context);
    const named = (text: string) => text.replaceAll(`${database}.`, 'd.');
    expect(found.map((difference) => named(short(difference)))).toEqual([expected]);
    if (remedy !== undefined) expect(named(found[0]?.remedy?.sql ?? '')).toBe(remedy);
    const [mend] = found;
    if (mend?.remedy?.cost === 'instant') {
      await clickhouse.query(mend.remedy.sql);
      expect(await differences(context)).toEqual([]);
    }
    await clickhouse.query(`DROP DATABASE ${database}`);
  });
});

test.each([
  ['ReplacingMergeTree ORDER BY n', ['engine d.t']],
  ['MergeTree ORDER BY (n, s)', ['order key d.t', 'primary key d.t']],
  ['MergeTree ORDER BY (n, s) PRIMARY KEY n', ['order key d.t']],
  ['MergeTree PARTITION BY s ORDER BY n', ['partition key d.t']],
  ['MergeTree ORDER BY n SAMPLE BY n', ['sampling key d.t']],
  ["MergeTree ORDER BY n COMMENT 'adopted by sluice'", []],
  ["MergeTree ORDER BY (n, s) PRIMARY KEY n COMMENT 'adopted by sluice'", ['info order key d.t']],
  ['Log', ['engine d.t']],
])('instead of MergeTree ORDER BY n: %s', async (engine, expected) => {
  await withTempDir(async (dir) => {
    writeMigrations(dir, {
      '0001_t.sql': `-- @step local instant
CREATE TABLE IF NOT EXISTS {local:t} {on_cluster} (n UInt64, s String) ENGINE = {engine:MergeTree} ORDER BY n`,
    });
    const context = contextFor({ database: 'engines', migrationsDir: dir });
    await migrateApply(context);
    await clickhouse.query('DROP TABLE engines.t');
    await clickhouse.query(`CREATE TABLE engines.t (n UInt64, s String) ENGINE = ${engine}`);
    const found = (await differences(context)).map((difference) =>
      short(difference).replace('engines.', 'd.'),
    );
    expect(found).toEqual(expected);
    await clickhouse.query('DROP DATABASE engines');
  });
});

test('expressions are compared by meaning, not by how they are written', async () => {
  await withTempDir(async (dir) => {
    writeMigrations(dir, {
      '0001_forms.sql': `-- @step local instant
CREATE TABLE IF NOT EXISTS {local:forms} {on_cluster} (
  a UInt64 default 7, b Integer, c String codec(Delta(1), ZSTD),
  d Array(String) ALIAS arrayMap(x -> concat(x.1, '='), m :: Array(Tuple(String, String))), m Map(String, String),
  e DateTime, f Bool DEFAULT a <> 1 and not (b == 2 OR c like '%x'), g Int8 DEFAULT case when a = 1 then 1 else 2 end,
  h UInt8 DEFAULT a between 1 AND 2, n Nested (x String, y Int8), o Nullable(String) DEFAULT NULL,
  CONSTRAINT positive CHECK a>0, PROJECTION p (select b order by b), INDEX i (a) TYPE minmax)
ENGINE = {engine:MergeTree()} PARTITION BY (toDate(e)) ORDER BY (a) TTL e + INTERVAL 9 YEAR
SETTINGS index_granularity=1024, ttl_only_drop_parts = true

-- @step local instant
ALTER TABLE {local:forms} {on_cluster} ADD COLUMN IF NOT EXISTS z String AFTER b, ADD COLUMN IF NOT EXISTS y Int8 FIRST,
  MODIFY SETTING parts_to_delay_insert = 3

-- @step local instant
ALTER TABLE {local:forms} {on_cluster} RENAME COLUMN z TO zz

-- @step local rewrites
ALTER TABLE {local:forms} {on_cluster} DELETE WHERE a = 1

-- @step local instant
ALTER TABLE {local:forms} {on_cluster} FREEZE

-- @step view instant
CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.forms_mv {on_cluster} TO {local:forms}
AS select a, toUInt8(count(*)) as h, if(a==1 and (b)<>2, -1, 2)::Int8 g from {local:forms} where a in (1,2) group by a,b
`.replace('DELETE WHERE', "UPDATE zz = '' WHERE"),
    });
    const context = contextFor({ database: 'forms', migrationsDir: dir });
    await migrateApply(context);
    const [host] = await verifyHosts(context);
    expect(host?.differences).toEqual([]);
    expect(host?.unverified).toEqual(['forms.forms: FREEZE']);
  });
});

test('two shards: both are as declared; a wrong Distributed table, and a shard that is away, are named', async () => {
  const shards = await startShards(2);
  const servers = shards.servers.map(({ url }) =>
    createClickHouse(url, { insertTimeoutMs: 60_000, queryTimeoutMs: 60_000 }, silent),
  );
  try {
    const context: MigrateContext = {
      ...DEFAULTS,
      retention: { ...KEPT_FOR_EVER, logsDays: 4 },
      layout: { cluster: shards.name, replicated: false, onCluster: false },
      hosts: servers.map((server, shard) => ({ server, shard, replica: 0 })),
    };
    await migrateApply(context);
    expect((await verifyHosts(context)).map(driftOf)).toEqual([0, 0]);
    await shards.servers[1]?.query('DROP TABLE otel.otel_logs');
    await shards.servers[1]?.query(
      "CREATE TABLE otel.otel_logs AS otel.otel_logs_local ENGINE = Distributed('main', 'otel', 'otel_logs_local', rand())",
    );
    const missing = [{ host: 'ch-3:8123', shard: 2, replica: 0, why: 'connection refused' }];
    const [first, second, third] = await verifyHosts({ ...context, missing });
    expect(first?.differences).toEqual([]);
    expect(second?.differences.map(short)).toEqual(['distributed otel.otel_logs']);
    expect(third?.differences.map(({ kind, note }) => [kind, note])).toEqual([
      ['unreachable', 'it could not be asked: connection refused'],
    ]);
    expect(third && verificationLines(third)).toEqual([
      'ch-3:8123: 1 difference',
      '  unreachable: it could not be asked: connection refused',
    ]);
  } finally {
    await Promise.all(servers.map((server) => close(server)));
    await shards.stop();
  }
});
