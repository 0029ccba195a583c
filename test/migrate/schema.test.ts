// Goal: the tables that apply makes are the ones that readers know, column by column and in order, and
// behave: defaults, aliases, the view beside the spans, deduplication by token in table and view,
// partitions by day.
import { beforeAll, describe, expect, test } from 'vitest';
import { migrateApply } from '../../src/migrate/run.ts';
import { useClickHouse } from '../support/services.ts';
import { useContext } from './fixture.ts';

const clickhouse = useClickHouse();
const contextFor = useContext(clickhouse);

beforeAll(async () => {
  await migrateApply(contextFor({}));
});

const MAP = 'Map(LowCardinality(String), String)';
const LC = 'LowCardinality(String)';
const DT9 = 'DateTime64(9)';

const METRIC_COLUMNS = [
  ['ResourceAttributes', MAP],
  ['ResourceSchemaUrl', 'String'],
  ['ScopeName', 'String'],
  ['ScopeVersion', 'String'],
  ['ScopeAttributes', MAP],
  ['ScopeDroppedAttrCount', 'UInt32'],
  ['ScopeSchemaUrl', 'String'],
  ['ServiceName', LC],
  ['MetricName', LC],
  ['MetricDescription', 'String'],
  ['MetricUnit', 'String'],
  ['Attributes', MAP],
  ['StartTimeUnix', DT9],
  ['TimeUnix', DT9],
  ['Flags', 'UInt32'],
];
const EXEMPLARS = [
  ['Exemplars.FilteredAttributes', `Array(${MAP})`],
  ['Exemplars.TimeUnix', `Array(${DT9})`],
  ['Exemplars.Value', 'Array(Float64)'],
  ['Exemplars.SpanId', 'Array(String)'],
  ['Exemplars.TraceId', 'Array(String)'],
];
const COUNTS = 'Array(UInt64)';

/** Columns that are inserted, then what readers get beside them: name, type, kind of default. */
const TABLES: Readonly<Record<string, readonly (readonly string[])[]>> = {
  otel_traces: [
    ['Timestamp', DT9],
    ['TraceId', 'String'],
    ['SpanId', 'String'],
    ['ParentSpanId', 'String'],
    ['TraceState', 'String'],
    ['SpanName', LC],
    ['SpanKind', LC],
    ['ServiceName', LC],
    ['ResourceAttributes', MAP],
    ['ScopeName', 'String'],
    ['ScopeVersion', 'String'],
    ['SpanAttributes', MAP],
    ['Duration', 'UInt64'],
    ['StatusCode', LC],
    ['StatusMessage', 'String'],
    ['Events.Timestamp', `Array(${DT9})`],
    ['Events.Name', `Array(${LC})`],
    ['Events.Attributes', `Array(${MAP})`],
    ['Links.TraceId', 'Array(String)'],
    ['Links.SpanId', 'Array(String)'],
    ['Links.TraceState', 'Array(String)'],
    ['Links.Attributes', `Array(${MAP})`],
    ['SampleRate', 'UInt64', 'MATERIALIZED'],
    ['ResourceAttributeItems', 'Array(String)', 'ALIAS'],
    ['SpanAttributeItems', 'Array(String)', 'ALIAS'],
  ],
  otel_traces_trace_id_ts: [
    ['TraceId', 'String'],
    ['Start', 'DateTime'],
    ['End', 'DateTime'],
  ],
  otel_logs: [
    ['Timestamp', DT9],
    ['TraceId', 'String'],
    ['SpanId', 'String'],
    ['TraceFlags', 'UInt8'],
    ['SeverityText', LC],
    ['SeverityNumber', 'UInt8'],
    ['ServiceName', LC],
    ['Body', 'String'],
    ['ResourceSchemaUrl', LC],
    ['ResourceAttributes', MAP],
    ['ScopeSchemaUrl', LC],
    ['ScopeName', 'String'],
    ['ScopeVersion', LC],
    ['ScopeAttributes', MAP],
    ['LogAttributes', MAP],
    ['EventName', 'String'],
    ...[
      'k8s.cluster.name',
      'k8s.container.name',
      'k8s.deployment.name',
      'k8s.namespace.name',
      'k8s.node.name',
      'k8s.pod.name',
      'k8s.pod.uid',
      'deployment.environment.name',
    ].map((key) => [`__otel_materialized_${key}`, LC, 'MATERIALIZED']),
    ['TimestampTime', 'DateTime', 'ALIAS'],
    ['ResourceAttributeItems', 'Array(String)', 'ALIAS'],
    ['LogAttributeItems', 'Array(String)', 'ALIAS'],
  ],
  otel_metrics_gauge: [...METRIC_COLUMNS, ...EXEMPLARS, ['Value', 'Float64']],
  otel_metrics_sum: [
    ...METRIC_COLUMNS,
    ...EXEMPLARS,
    ['Value', 'Float64'],
    ['AggregationTemporality', 'Int32'],
    ['IsMonotonic', 'Bool'],
  ],
  otel_metrics_histogram: [
    ...METRIC_COLUMNS,
    ...EXEMPLARS,
    ['Count', 'UInt64'],
    ['Sum', 'Float64'],
    ['BucketCounts', COUNTS],
    ['ExplicitBounds', 'Array(Float64)'],
    ['Min', 'Float64'],
    ['Max', 'Float64'],
    ['AggregationTemporality', 'Int32'],
  ],
  otel_metrics_exponential_histogram: [
    ...METRIC_COLUMNS,
    ...EXEMPLARS,
    ['Count', 'UInt64'],
    ['Sum', 'Float64'],
    ['Scale', 'Int32'],
    ['ZeroCount', 'UInt64'],
    ['PositiveOffset', 'Int32'],
    ['PositiveBucketCounts', COUNTS],
    ['NegativeOffset', 'Int32'],
    ['NegativeBucketCounts', COUNTS],
    ['Min', 'Float64'],
    ['Max', 'Float64'],
    ['AggregationTemporality', 'Int32'],
  ],
  otel_metrics_summary: [
    ...METRIC_COLUMNS,
    ['Count', 'UInt64'],
    ['Sum', 'Float64'],
    ['ValueAtQuantiles.Quantile', 'Array(Float64)'],
    ['ValueAtQuantiles.Value', 'Array(Float64)'],
  ],
};

describe('columns', () => {
  test.each(Object.keys(TABLES))('%s has exactly those that readers know', async (table) => {
    const rows = await clickhouse.rows<{ name: string; type: string; default_kind: string }>(`
      SELECT name, type, default_kind FROM system.columns WHERE database = 'otel' AND table = '${table}'
      ORDER BY position`);
    expect(
      rows.map(({ name, type, default_kind: kind }) => (kind === '' ? [name, type] : [name, type, kind])),
    ).toEqual(TABLES[table]);
  });
});

describe('keys and partitions', () => {
  test.each([
    ['otel_traces', 'toDate(Timestamp)', 'ServiceName, SpanName, toDateTime(Timestamp)'],
    ['otel_traces_trace_id_ts', 'toDate(Start)', 'TraceId, Start'],
    ['otel_logs', 'toDate(Timestamp)', 'toStartOfFiveMinutes(Timestamp), ServiceName, Timestamp'],
    ...['gauge', 'sum', 'histogram', 'exponential_histogram', 'summary'].map((kind) => [
      `otel_metrics_${kind}`,
      'toDate(TimeUnix)',
      'ServiceName, MetricName, toStartOfHour(TimeUnix), cityHash64(Attributes), TimeUnix',
    ]),
  ])('of %s', async (table, partition_key, sorting_key) => {
    const rows = await clickhouse.rows(`SELECT partition_key, sorting_key, engine FROM system.tables
      WHERE database = 'otel' AND name = '${table}'`);
    expect(rows).toEqual([{ partition_key, sorting_key, engine: 'MergeTree' }]);
  });
});

describe('what readers ask for beside the inserted columns', () => {
  test('spans', async () => {
    await clickhouse.query(`INSERT INTO otel.otel_traces
      (Timestamp, TraceId, ResourceAttributes, SpanAttributes) VALUES
      ('2026-11-20 12:00:00.123456789', 't1', {'host.name':'a'}, {'SampleRate':'20','k':'v=w'}),
      ('2026-11-20 12:00:07', 't1', {}, {'SampleRate':'x'}),
      ('2026-11-21 00:00:00', 't2', {}, {}),
      ('2026-11-20 12:00:00', '', {}, {})`);
    const rows = await clickhouse.rows(`SELECT TraceId, SampleRate, ResourceAttributeItems, SpanAttributeItems
      FROM otel.otel_traces ORDER BY TraceId, Timestamp`);
    expect(rows).toEqual([
      { TraceId: '', SampleRate: '1', ResourceAttributeItems: [], SpanAttributeItems: [] },
      {
        TraceId: 't1',
        SampleRate: '20',
        ResourceAttributeItems: ['host.name=a'],
        SpanAttributeItems: ['SampleRate=20', 'k=v=w'],
      },
      { TraceId: 't1', SampleRate: '1', ResourceAttributeItems: [], SpanAttributeItems: ['SampleRate=x'] },
      { TraceId: 't2', SampleRate: '1', ResourceAttributeItems: [], SpanAttributeItems: [] },
    ]);
    expect(await clickhouse.rows('SELECT * FROM otel.otel_traces_trace_id_ts ORDER BY TraceId')).toEqual([
      { TraceId: 't1', Start: '2026-11-20 12:00:00', End: '2026-11-20 12:00:07' },
      { TraceId: 't2', Start: '2026-11-21 00:00:00', End: '2026-11-21 00:00:00' },
    ]);
    const partitions = await clickhouse.query(`SELECT DISTINCT partition FROM system.parts
      WHERE database = 'otel' AND table = 'otel_traces' AND active ORDER BY partition`);
    expect(partitions).toBe('2026-11-20\n2026-11-21\n');
  });

  test('log records', async () => {
    await clickhouse.query(`INSERT INTO otel.otel_logs (Timestamp, ResourceAttributes, LogAttributes) VALUES
      ('2026-11-20 12:00:00.9', {'k8s.pod.name':'p','deployment.environment.name':'prod'}, {'a':'1'})`);
    expect(
      await clickhouse.rows(`SELECT TimestampTime, \`__otel_materialized_k8s.pod.name\` AS pod,
      \`__otel_materialized_k8s.pod.uid\` AS uid,
      \`__otel_materialized_deployment.environment.name\` AS environment,
      LogAttributeItems, ResourceAttributeItems FROM otel.otel_logs`),
    ).toEqual([
      {
        TimestampTime: '2026-11-20 12:00:00',
        pod: 'p',
        uid: '',
        environment: 'prod',
        LogAttributeItems: ['a=1'],
        ResourceAttributeItems: ['k8s.pod.name=p', 'deployment.environment.name=prod'],
      },
    ]);
  });

  test('a filter on TimestampTime prunes parts by the partition of Timestamp', async () => {
    const plan = await clickhouse.query(`EXPLAIN indexes = 1 SELECT count() FROM otel.otel_logs
      WHERE TimestampTime > '2026-12-01 00:00:00' SETTINGS optimize_use_implicit_projections = 0`);
    expect(plan).toMatch(/Partition|MinMax/);
    expect(plan).toMatch(/Parts: 0\/1/);
  });
});

describe('a token', () => {
  const insert = (table: string, token: string) =>
    clickhouse.query(
      `INSERT INTO otel.${table} (${table === 'otel_traces' ? 'Timestamp, TraceId' : 'TimeUnix'}) VALUES
      (${table === 'otel_traces' ? "'2026-11-20 12:00:00', 'deduplicated'" : "'2026-11-20 12:00:00'"})`,
      {
        insert_deduplication_token: token,
        async_insert: '0',
        insert_deduplicate: '1',
        deduplicate_blocks_in_dependent_materialized_views: '1',
      },
    );

  test("is stored once, in the view's target too, also after other inserts", async () => {
    await insert('otel_traces', 'a');
    for (const token of ['b', 'c', 'a', 'b']) await insert('otel_traces', token);
    expect(
      await clickhouse.query("SELECT count() FROM otel.otel_traces WHERE TraceId = 'deduplicated'"),
    ).toBe('3\n');
    expect(
      await clickhouse.query(
        "SELECT count() FROM otel.otel_traces_trace_id_ts WHERE TraceId = 'deduplicated'",
      ),
    ).toBe('3\n');
  });

  test.each(['gauge', 'sum', 'histogram', 'exponential_histogram', 'summary'])(
    'is known to %s',
    async (kind) => {
      for (const token of ['a', 'a', 'b']) await insert(`otel_metrics_${kind}`, token);
      expect(await clickhouse.query(`SELECT count() FROM otel.otel_metrics_${kind}`)).toBe('2\n');
    },
  );
});
