/**
 * The placeholders of migrations: `{name}` or `{name:argument}`, each replaced by what a topology and a
 * server make of it. Pure. The list here is the list in docs/migrations.md.
 */
import { SIGNALS, type Signal } from '../model/signal.ts';
import { IDENTIFIER, literal, quote } from './sql.ts';

/** All that the rendering of a statement depends on. */
export interface RenderContext {
  readonly database: string;
  /** The name in system.clusters; undefined is a single server: a table is then its own face. */
  readonly cluster: string | undefined;
  /** Replicated engines. */
  readonly replicated: boolean;
  /** Statements go through the cluster's DDL queue (ON CLUSTER) instead of to each host. */
  readonly onCluster: boolean;
  readonly server: {
    readonly version: { readonly major: number; readonly minor: number };
    hasMergeTreeSetting(name: string): boolean;
  };
  /** 0 keeps rows for ever. */
  readonly retentionDays: Readonly<Record<Signal, number>>;
}

type Expand = (argument: string, context: RenderContext, text: string) => string;

interface Placeholder {
  readonly argument: RegExp | undefined;
  readonly wanted: string;
  readonly expand: Expand;
}

/**
 * A retry is recognised as long as fewer than this many other blocks were inserted meanwhile; at one insert
 * a second that is nearly three hours of them, and a retry follows within minutes of the attempt.
 */
const DEDUPLICATION_BLOCKS = 10_000;
/**
 * The same by time, which only replicated tables have: longer than any outage that an operator sleeps
 * through.
 */
const DEDUPLICATION_SECONDS = 7 * 86_400;

export const PLACEHOLDERS: Readonly<Record<string, Placeholder>> = {
  database: { argument: undefined, wanted: '{database}', expand: (_, context) => quote(context.database) },
  on_cluster: {
    argument: undefined,
    wanted: '{on_cluster}',
    expand: (_, context) =>
      context.onCluster && context.cluster !== undefined ? `ON CLUSTER ${literal(context.cluster)}` : '',
  },
  local: {
    argument: IDENTIFIER,
    wanted: '{local:otel_traces}',
    expand: (table, context) => `${quote(context.database)}.${quote(localName(table, context))}`,
  },
  table: {
    argument: IDENTIFIER,
    wanted: '{table:otel_traces}',
    expand: (table, context) => `${quote(context.database)}.${quote(table)}`,
  },
  engine: { argument: /^[A-Za-z]*MergeTree(\(.*\))?$/, wanted: '{engine:MergeTree}', expand: engine },
  distributed: {
    argument: /^[A-Za-z_][A-Za-z0-9_]*:.+$/,
    wanted: '{distributed:otel_traces:cityHash64(TraceId)}',
    expand: distributed,
  },
  ttl: {
    argument: /^(traces|metrics|logs):.+$/,
    wanted: '{ttl:traces:toDateTime(Timestamp)}',
    expand: ttlClause,
  },
  deduplication: {
    argument: undefined,
    wanted: '{deduplication}',
    expand: (_, context) => deduplication(context),
  },
  setting: {
    argument: /^[a-z0-9_]+ = \S.*$/,
    wanted: '{setting:min_level_for_wide_part = 1}',
    expand: (assignment, { server }) =>
      server.hasMergeTreeSetting(assignment.slice(0, assignment.indexOf(' '))) ? `, ${assignment}` : '',
  },
};

/** Macros of the server's own, which it replaces itself in the paths of replicated tables. */
const SERVER_MACROS = ['shard', 'replica', 'uuid', 'layer'];
/** With the blank before it, unless that is indentation: an empty value takes it away. */
const IN_BRACES = /((?:(?<=\S) )?)(\{([A-Za-z_][A-Za-z0-9_]*)(?::([^{}]*))?\})/g;

/** What is wrong with the placeholders of a statement, in words, or undefined. */
export function placeholderError(text: string): string | undefined {
  for (const [, , whole, name, argument] of text.matchAll(IN_BRACES)) {
    if (name === undefined || SERVER_MACROS.includes(name)) continue;
    const known = Object.hasOwn(PLACEHOLDERS, name) ? PLACEHOLDERS[name] : undefined;
    if (known === undefined) {
      const names = Object.keys(PLACEHOLDERS).map((key) => `{${key}}`);
      return `${whole} is no placeholder; known are ${names.join(' ')}`;
    }
    const fits = known.argument === undefined ? argument === undefined : known.argument.test(argument ?? '');
    if (!fits) return `${whole} isn't understood: wanted is something like ${known.wanted}`;
    const lacksTable = name === 'engine' && localTableOf(text) === undefined;
    if (lacksTable) return `${whole} needs a {local:…} in its statement`;
  }
  return undefined;
}

/** Replaces every placeholder of a statement that `placeholderError` found nothing wrong with. */
export function fillPlaceholders(text: string, context: RenderContext): string {
  return text.replace(IN_BRACES, (whole, blank: string, _, name: string, argument: string | undefined) => {
    const known = Object.hasOwn(PLACEHOLDERS, name) ? PLACEHOLDERS[name] : undefined;
    if (known === undefined) return whole;
    const value = known.expand(argument ?? '', context, text);
    return value === '' || value.startsWith(',') ? value : blank + value;
  });
}

/** The table that a statement is about, as readers call it: the first {local:…}. */
export function localTableOf(text: string): string | undefined {
  return /\{local:([A-Za-z_][A-Za-z0-9_]*)\}/.exec(text)?.[1];
}

/** On a cluster readers use a Distributed table under the plain name, and the rows lie in `<name>_local`. */
export function localName(table: string, context: Pick<RenderContext, 'cluster'>): string {
  return context.cluster === undefined ? table : `${table}_local`;
}

/** The signal and the expression of `{ttl:…}` in a statement, if it has one. */
export function ttlOf(text: string): { signal: Signal; expression: string } | undefined {
  const [, signalWord, expression] = /\{ttl:([a-z]+):([^{}]+)\}/.exec(text) ?? [];
  const signal = SIGNALS.find((known) => known === signalWord);
  return signal === undefined || expression === undefined ? undefined : { signal, expression };
}

/** The expression after TTL, written as ClickHouse shows it, or undefined where rows are kept for ever. */
export function ttlExpression(expression: string, days: number): string | undefined {
  return days === 0 ? undefined : `${expression} + toIntervalDay(${days})`;
}

function ttlClause(argument: string, context: RenderContext): string {
  const ttl = ttlOf(`{ttl:${argument}}`);
  const full = ttl && ttlExpression(ttl.expression, context.retentionDays[ttl.signal]);
  return full === undefined ? '' : `TTL ${full}`;
}

function engine(argument: string, context: RenderContext, text: string): string {
  if (!context.replicated) return argument;
  const [, name = '', parameters = ''] = /^([A-Za-z]+)(?:\((.*)\))?$/.exec(argument) ?? [];
  const table = localName(localTableOf(text) ?? '', context);
  // Not by {uuid}: hosts that are migrated one by one would each draw their own.
  const path = literal(`/clickhouse/tables/{shard}/${context.database}/${table}`);
  return `Replicated${name}(${path}, '{replica}'${parameters === '' ? '' : `, ${parameters}`})`;
}

function distributed(argument: string, context: RenderContext): string {
  const colon = argument.indexOf(':');
  const table = localName(argument.slice(0, colon), context);
  const parts = [
    literal(context.cluster ?? ''),
    literal(context.database),
    literal(table),
    argument.slice(colon + 1),
  ];
  return `Distributed(${parts.join(', ')})`;
}

function deduplication(context: RenderContext): string {
  const settings: readonly (readonly [string, number])[] = context.replicated
    ? [
        ['replicated_deduplication_window', DEDUPLICATION_BLOCKS],
        ['replicated_deduplication_window_seconds', DEDUPLICATION_SECONDS],
      ]
    : [['non_replicated_deduplication_window', DEDUPLICATION_BLOCKS]];
  const known = settings.filter(([name]) => context.server.hasMergeTreeSetting(name));
  return known.map(([name, value]) => `, ${name} = ${value}`).join('');
}
