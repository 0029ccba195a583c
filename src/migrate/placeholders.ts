/**
 * The placeholders of migrations: `{name}` or `{name:argument}`, each replaced by what a topology and a
 * server make of it. Pure. The list here is the list in docs/migrations.md.
 */
import { SIGNALS, type Signal } from '../model/signal.ts';
import { literal } from '../clickhouse/quote.ts';
import { IDENTIFIER, quote } from './sql.ts';

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
  /** The longest outage after which a repeated insert is still recognised. */
  readonly outageHoursMax: number;
  /** A name of system.storage_policies; empty leaves it to the server. */
  readonly storagePolicy: string;
}

type Expand = (argument: string, context: RenderContext, text: string) => string;

interface Placeholder {
  readonly argument: RegExp | undefined;
  readonly wanted: string;
  readonly expand: Expand;
}

/** Beyond the outage: the delay of the last try, and the backlog that is written before it. */
const WINDOW_MARGIN_SECONDS = 3_600;
/** Blocks that are remembered at least, and at most: docs/migrations.md has the price in Keeper. */
const WINDOW_BLOCKS_MIN = 10_000;
const WINDOW_BLOCKS_MAX = 200_000;
/** The first version that knows TTL of a table; declared ones are left out before. */
const TTL_SINCE = { major: 19, minor: 6 } as const;

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
    argument: /^[A-Za-z_][A-Za-z0-9_]*:\s*\S.*$/s,
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
    expand: (_, context) =>
      configuredSettings(context)
        .map(({ name, value }) => `, ${name} = ${value}`)
        .join(''),
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

/** Whether the server knows TTL of tables at all. */
export function hasTtl({ server: { version } }: Pick<RenderContext, 'server'>): boolean {
  const { major, minor } = TTL_SINCE;
  return version.major > major || (version.major === major && version.minor >= minor);
}

function ttlClause(argument: string, context: RenderContext): string {
  if (!hasTtl(context)) return '';
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
    argument.slice(colon + 1).trim(),
  ];
  return `Distributed(${parts.join(', ')})`;
}

/** What the configuration says about a table, as far as the server knows the settings. */
export interface TableSetting {
  readonly name: string;
  /** As SQL: a number, or text in quotes. */
  readonly value: string;
}

/** The settings that `{deduplication}` stands for: the windows, and the storage policy where one is set. */
export function configuredSettings(context: RenderContext): readonly TableSetting[] {
  const windows = deduplicationWindow(context.outageHoursMax);
  const wanted: (readonly [name: string, value: string])[] = context.replicated
    ? [
        ['replicated_deduplication_window', `${windows.blocks}`],
        ['replicated_deduplication_window_seconds', `${windows.seconds}`],
      ]
    : [['non_replicated_deduplication_window', `${windows.blocks}`]];
  if (context.storagePolicy !== '') wanted.push(['storage_policy', literal(context.storagePolicy)]);
  return wanted
    .filter(([name]) => context.server.hasMergeTreeSetting(name))
    .map(([name, value]) => ({ name, value }));
}

/**
 * How long a server has to remember an insert so that its repetition after an outage is recognised. The count
 * is that of one insert a second for as long, within bounds; plain tables have no window by time.
 */
export function deduplicationWindow(outageHours: number): { blocks: number; seconds: number } {
  const seconds = outageHours * 3_600 + WINDOW_MARGIN_SECONDS;
  return { blocks: Math.min(WINDOW_BLOCKS_MAX, Math.max(WINDOW_BLOCKS_MIN, seconds)), seconds };
}
