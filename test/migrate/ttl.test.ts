// Goal: how long rows are kept follows the settings, on new tables and on those that exist, and reaches the
// rows that are there already; a TTL that an operator wrote by hand is left alone.
import { describe, expect, test } from 'vitest';
import { hasDifferences, migrateApply, migratePlan } from '../../src/migrate/run.ts';
import { eventually, useClickHouse } from '../support/services.ts';
import { KEPT_FOR_EVER, useContext } from './fixture.ts';

const clickhouse = useClickHouse();
const contextFor = useContext(clickhouse);

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
  const retention = { tracesDays: 3, logsDays: 0, metricsDays: 400 };
  await migrateApply(contextFor({ database: 'created', retention }));
  const expected = {
    otel_traces: 'toDateTime(Timestamp) + toIntervalDay(3)',
    otel_traces_trace_id_ts: 'toDateTime(Start) + toIntervalDay(3)',
    ...metricsTtl(400),
  };
  expect(await ttls('created')).toEqual(expected);

  const context = contextFor({ database: 'changed', retention: { ...KEPT_FOR_EVER, logsDays: 5 } });
  await migrateApply(context);
  const [report] = await migrateApply({ ...context, retention });
  expect(await ttls('changed')).toEqual(expected);
  expect(report?.ttlChanged.map(({ table, cost }) => [table, cost])).toEqual([
    ['otel_traces', 'drops'],
    ['otel_traces_trace_id_ts', 'drops'],
    ['otel_logs', 'instant'],
    ...METRICS.map((table) => [table, 'drops']),
  ]);
});

test('a plan shows the difference and changes nothing; longer is no loss', async () => {
  const context = contextFor({ database: 'planned', retention: { ...KEPT_FOR_EVER, logsDays: 5 } });
  await migrateApply(context);
  const longer = { ...context, retention: { ...KEPT_FOR_EVER, logsDays: 6 } };
  const plans = await migratePlan(longer);
  expect(hasDifferences(plans)).toBe(true);
  expect(plans[0]?.ttlChanges).toEqual([
    {
      table: 'otel_logs',
      cost: 'instant',
      from: 'toDateTime(Timestamp) + toIntervalDay(5)',
      to: 'toDateTime(Timestamp) + toIntervalDay(6)',
      sql: 'ALTER TABLE planned.otel_logs MODIFY TTL toDateTime(Timestamp) + toIntervalDay(6)',
    },
  ]);
  expect(await ttls('planned')).toEqual({ otel_logs: 'toDateTime(Timestamp) + toIntervalDay(5)' });
});

test('rows that are older than a new TTL go, newer ones stay', async () => {
  const context = contextFor({ database: 'shortened' });
  await migrateApply(context);
  await clickhouse.query(`INSERT INTO shortened.otel_logs (Timestamp, Body)
    SELECT now64(9) - toIntervalDay(number), toString(number) FROM numbers(6)`);
  await migrateApply({ ...context, retention: { ...KEPT_FOR_EVER, logsDays: 3 } });
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
    const context = contextFor({ database: `foreign_${what.replace(' ', '_')}` });
    await migrateApply(context);
    await clickhouse.query(`ALTER TABLE ${context.database}.otel_logs MODIFY TTL ${ttl}`);
    const changed = { ...context, retention: { ...KEPT_FOR_EVER, logsDays: 9 } };
    const before = await ttls(context.database);
    await migrateApply(changed);
    expect(await ttls(context.database)).toEqual(before);
    expect((await migratePlan(changed))[0]).toMatchObject({ ttlChanges: [], ttlForeign: ['otel_logs'] });
  });

  test('with hours, as the exporter writes it, is ours to change', async () => {
    const context = contextFor({ database: 'hours' });
    await migrateApply(context);
    await clickhouse.query(
      'ALTER TABLE hours.otel_logs MODIFY TTL toDateTime(Timestamp) + toIntervalHour(72)',
    );
    await migrateApply({ ...context, retention: { ...KEPT_FOR_EVER, logsDays: 9 } });
    expect(await ttls('hours')).toEqual({ otel_logs: 'toDateTime(Timestamp) + toIntervalDay(9)' });
  });
});
