// Goal: how long rows are kept follows the settings, on new tables and on those that exist, and reaches the
// rows that are there already; a TTL that an operator wrote by hand is left alone.
import { describe, expect, test } from 'vitest';
import { eventually, useClickHouse } from '../support/services.ts';
import { KEPT, useTables } from './tables.ts';

const clickhouse = useClickHouse();
const tables = useTables(clickhouse);

async function ttls(database: string): Promise<Record<string, string>> {
  const rows = await clickhouse.rows<{ name: string; ttl: string }>(`
    SELECT name, extract(engine_full, ' TTL (.*) SETTINGS') AS ttl
    FROM system.tables WHERE database = '${database}' AND ttl != ''`);
  return Object.fromEntries(rows.map(({ name, ttl }) => [name, ttl]));
}

const METRICS = ['gauge', 'sum', 'histogram', 'exponential_histogram', 'summary'].map(
  (kind) => `otel_metrics_${kind}`,
);
const metricsTtl = (days: number) =>
  Object.fromEntries(METRICS.map((table) => [table, `toDateTime(TimeUnix) + toIntervalDay(${days})`]));

test('each signal has its own, in its tables and in the target of its view; 0 is none', async () => {
  const retentionDays = { traces: 3, logs: 0, metrics: 400 };
  await tables.create(await tables.context({ database: 'created', retentionDays }));
  const expected = {
    otel_traces: 'toDateTime(Timestamp) + toIntervalDay(3)',
    otel_traces_trace_id_ts: 'toDateTime(Start) + toIntervalDay(3)',
    ...metricsTtl(400),
  };
  expect(await ttls('created')).toEqual(expected);

  const context = await tables.context({ database: 'changed', retentionDays: { ...KEPT, logs: 5 } });
  await tables.create(context);
  const { changes } = await tables.reconcile({ ...context, retentionDays });
  expect(await ttls('changed')).toEqual(expected);
  expect(changes.map(({ what, table, cost }) => [what, table, cost])).toEqual([
    ['ttl', 'otel_traces', 'drops'],
    ['ttl', 'otel_traces_trace_id_ts', 'drops'],
    ['ttl', 'otel_logs', 'instant'],
    ...METRICS.map((table) => ['ttl', table, 'drops']),
  ]);
});

test('a plan shows the difference and changes nothing; longer is no loss', async () => {
  const context = await tables.context({ database: 'planned', retentionDays: { ...KEPT, logs: 5 } });
  await tables.create(context);
  const longer = { ...context, retentionDays: { ...KEPT, logs: 6 } };
  expect((await tables.plan(longer)).changes).toEqual([
    {
      what: 'ttl',
      table: 'otel_logs',
      cost: 'instant',
      from: 'toDateTime(Timestamp) + toIntervalDay(5)',
      to: 'toDateTime(Timestamp) + toIntervalDay(6)',
      sql: 'ALTER TABLE planned.otel_logs MODIFY TTL toDateTime(Timestamp) + toIntervalDay(6)',
      settings: { materialize_ttl_after_modify: 1 },
      everyReplica: true,
    },
  ]);
  expect(await ttls('planned')).toEqual({ otel_logs: 'toDateTime(Timestamp) + toIntervalDay(5)' });
});

test('rows that are older than a new TTL go, newer ones stay', async () => {
  const context = await tables.context({ database: 'shortened' });
  await tables.create(context);
  await clickhouse.query(`INSERT INTO shortened.otel_logs (Timestamp, Body)
    SELECT now64(9) - toIntervalDay(number), toString(number) FROM numbers(6)`);
  await tables.reconcile({ ...context, retentionDays: { ...KEPT, logs: 3 } });
  await eventually('old rows are gone', async () => {
    const left = await clickhouse.rows<{ Body: string }>(
      'SELECT Body FROM shortened.otel_logs ORDER BY Body',
    );
    return left.map(({ Body }) => Body).join(' ') === '0 1 2';
  });
});

describe('a TTL of another form', () => {
  test.each([
    [
      'another column',
      'toDateTime(Timestamp) + toIntervalDay(5), toDateTime(Timestamp) + toIntervalDay(1) ' +
        'RECOMPRESS CODEC(ZSTD(3))',
    ],
    ['a condition', "toDateTime(Timestamp) + toIntervalDay(5) WHERE SeverityText = 'DEBUG'"],
  ])('with %s is left as it is, and reported', async (what, ttl) => {
    const context = await tables.context({ database: `foreign_${what.replace(' ', '_')}` });
    await tables.create(context);
    await clickhouse.query(`ALTER TABLE ${context.database}.otel_logs MODIFY TTL ${ttl}`);
    const changed = { ...context, retentionDays: { ...KEPT, logs: 9 } };
    const before = await ttls(context.database);
    expect(await tables.reconcile(changed)).toEqual({ changes: [], foreign: ['otel_logs'] });
    expect(await ttls(context.database)).toEqual(before);
  });

  test('with hours, as the exporter writes it, is ours to change', async () => {
    const context = await tables.context({ database: 'hours' });
    await tables.create(context);
    await clickhouse.query(
      'ALTER TABLE hours.otel_logs MODIFY TTL toDateTime(Timestamp) + toIntervalHour(72)',
    );
    await tables.reconcile({ ...context, retentionDays: { ...KEPT, logs: 9 } });
    expect(await ttls('hours')).toEqual({ otel_logs: 'toDateTime(Timestamp) + toIntervalDay(9)' });
  });
});
