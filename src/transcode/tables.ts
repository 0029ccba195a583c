/**
 * The columns of the blocks, by table and in the order of the block. Names and types are those of the
 * collector's ClickHouse exporter; an INSERT names the columns, so the tables may have more of them and in
 * another order.
 */
import type { Signal, Table } from '../model/signal.ts';

export interface ColumnType {
  readonly name: string;
  readonly type: string;
}

const LOW = 'LowCardinality(String)';
const MAP = `Map(${LOW}, String)`;
const TIME = 'DateTime64(9)';

const column = (name: string, type: string): ColumnType => ({ name, type });
const nested = (name: string, type: string): ColumnType => ({ name, type: `Array(${type})` });

/** What every metrics table begins with. */
const METRIC: readonly ColumnType[] = [
  column('ResourceAttributes', MAP),
  column('ResourceSchemaUrl', 'String'),
  column('ScopeName', 'String'),
  column('ScopeVersion', 'String'),
  column('ScopeAttributes', MAP),
  column('ScopeDroppedAttrCount', 'UInt32'),
  column('ScopeSchemaUrl', 'String'),
  column('ServiceName', LOW),
  column('MetricName', LOW),
  column('MetricDescription', 'String'),
  column('MetricUnit', 'String'),
  column('Attributes', MAP),
  column('StartTimeUnix', TIME),
  column('TimeUnix', TIME),
  column('Flags', 'UInt32'),
];

const EXEMPLARS: readonly ColumnType[] = [
  nested('Exemplars.FilteredAttributes', MAP),
  nested('Exemplars.TimeUnix', TIME),
  nested('Exemplars.Value', 'Float64'),
  nested('Exemplars.SpanId', 'String'),
  nested('Exemplars.TraceId', 'String'),
];

const TEMPORALITY = column('AggregationTemporality', 'Int32');
const COUNT_AND_SUM = [column('Count', 'UInt64'), column('Sum', 'Float64')];
const EXTREMES = [column('Min', 'Float64'), column('Max', 'Float64')];

const TRACES: readonly ColumnType[] = [
  column('Timestamp', TIME),
  column('TraceId', 'String'),
  column('SpanId', 'String'),
  column('ParentSpanId', 'String'),
  column('TraceState', 'String'),
  column('SpanName', LOW),
  column('SpanKind', LOW),
  column('ServiceName', LOW),
  column('ResourceAttributes', MAP),
  column('ScopeName', 'String'),
  column('ScopeVersion', 'String'),
  column('SpanAttributes', MAP),
  column('Duration', 'UInt64'),
  column('StatusCode', LOW),
  column('StatusMessage', 'String'),
  nested('Events.Timestamp', TIME),
  nested('Events.Name', LOW),
  nested('Events.Attributes', MAP),
  nested('Links.TraceId', 'String'),
  nested('Links.SpanId', 'String'),
  nested('Links.TraceState', 'String'),
  nested('Links.Attributes', MAP),
];

const LOGS: readonly ColumnType[] = [
  column('Timestamp', TIME),
  column('TraceId', 'String'),
  column('SpanId', 'String'),
  column('TraceFlags', 'UInt8'),
  column('SeverityText', LOW),
  column('SeverityNumber', 'UInt8'),
  column('ServiceName', LOW),
  column('Body', 'String'),
  column('ResourceSchemaUrl', LOW),
  column('ResourceAttributes', MAP),
  column('ScopeSchemaUrl', LOW),
  column('ScopeName', 'String'),
  column('ScopeVersion', LOW),
  column('ScopeAttributes', MAP),
  column('LogAttributes', MAP),
  column('EventName', 'String'),
];

export const COLUMNS: Readonly<Record<Table, readonly ColumnType[]>> = {
  otel_traces: TRACES,
  otel_logs: LOGS,
  otel_metrics_gauge: [...METRIC, ...EXEMPLARS, column('Value', 'Float64')],
  otel_metrics_sum: [
    ...METRIC, ...EXEMPLARS, column('Value', 'Float64'), TEMPORALITY, column('IsMonotonic', 'Bool'),
  ],
  otel_metrics_histogram: [
    ...METRIC, ...EXEMPLARS, ...COUNT_AND_SUM,
    column('BucketCounts', 'Array(UInt64)'), column('ExplicitBounds', 'Array(Float64)'),
    ...EXTREMES, TEMPORALITY,
  ],
  otel_metrics_exponential_histogram: [
    ...METRIC, ...EXEMPLARS, ...COUNT_AND_SUM,
    column('Scale', 'Int32'), column('ZeroCount', 'UInt64'),
    column('PositiveOffset', 'Int32'), column('PositiveBucketCounts', 'Array(UInt64)'),
    column('NegativeOffset', 'Int32'), column('NegativeBucketCounts', 'Array(UInt64)'),
    ...EXTREMES, TEMPORALITY,
  ],
  otel_metrics_summary: [
    ...METRIC, ...COUNT_AND_SUM,
    nested('ValueAtQuantiles.Quantile', 'Float64'), nested('ValueAtQuantiles.Value', 'Float64'),
  ],
};

/** The tables of each signal, in the order in which the engines number and close their blocks. */
export const SIGNAL_TABLES: Readonly<Record<Signal, readonly Table[]>> = {
  traces: ['otel_traces'],
  logs: ['otel_logs'],
  metrics: [
    'otel_metrics_gauge', 'otel_metrics_sum', 'otel_metrics_histogram', 'otel_metrics_exponential_histogram',
    'otel_metrics_summary',
  ],
};
