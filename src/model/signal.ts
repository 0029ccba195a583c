/**
 * The three signals of OTLP that are stored, and the tables that each fills. Names of tables and columns are
 * those of the collector's ClickHouse exporter, so that its readers work unchanged.
 */
export const SIGNALS = ['traces', 'metrics', 'logs'] as const;
export type Signal = (typeof SIGNALS)[number];

export const TABLES = [
  'otel_traces',
  'otel_logs',
  'otel_metrics_gauge',
  'otel_metrics_sum',
  'otel_metrics_histogram',
  'otel_metrics_exponential_histogram',
  'otel_metrics_summary',
] as const;
export type Table = (typeof TABLES)[number];

export function signalOf(table: Table): Signal {
  if (table === 'otel_traces') return 'traces';
  return table === 'otel_logs' ? 'logs' : 'metrics';
}

export function isTable(name: string): name is Table {
  return (TABLES as readonly string[]).includes(name);
}

/** What one item of a signal is called in messages, plural. */
export const ITEM_NAMES: Readonly<Record<Signal, string>> = {
  traces: 'spans',
  metrics: 'data points',
  logs: 'log records',
};
