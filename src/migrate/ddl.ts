/**
 * What a statement does, as far as schemas go: `parseDdl` makes data of the DDL that migrations hold and of
 * what servers say about their tables (create_table_query). It reads, it doesn't judge: what it doesn't know
 * is `other`, with the text. Expressions stay text, written the same way whatever their blanks and quotes.
 */
import { Cursor, isName, isWord } from './cursor.ts';
import { type AlterCommand, parseCommands } from './alter.ts';
import { parseColumns, parseSettings } from './columns.ts';
import { type Token, spell, splitAt, tokenize } from './lexer.ts';

export interface TableName {
  /** Undefined: that of the session. */
  readonly database: string | undefined;
  readonly table: string;
}

export type DefaultKind = 'DEFAULT' | 'MATERIALIZED' | 'ALIAS' | 'EPHEMERAL';

export interface ColumnDdl {
  readonly name: string;
  /** Empty where it follows from the default. */
  readonly type: string;
  readonly default: { readonly kind: DefaultKind; readonly expression: string } | undefined;
  /** What is inside CODEC(…). */
  readonly codec: string | undefined;
  readonly comment: string | undefined;
  readonly ttl: string | undefined;
}

export interface IndexDdl {
  readonly name: string;
  readonly expression: string;
  /** `bloom_filter(0.01)` */
  readonly type: string;
  /** Undefined: the server's default. */
  readonly granularity: number | undefined;
}

/** A constraint or a projection. */
export interface RuleDdl {
  readonly kind: 'constraint' | 'projection';
  readonly name: string;
  readonly text: string;
}

export interface EngineDdl {
  readonly name: string;
  readonly args: readonly string[];
}

/** What stands inside the brackets and behind them; empty text where a clause is missing. */
export interface TableBody {
  readonly columns: readonly ColumnDdl[];
  readonly indices: readonly IndexDdl[];
  readonly rules: readonly RuleDdl[];
  readonly engine: EngineDdl | undefined;
  readonly partitionBy: string;
  readonly orderBy: string;
  readonly primaryKey: string;
  readonly sampleBy: string;
  readonly ttl: string;
  /** Values as SQL, in the order of the text. */
  readonly settings: ReadonlyMap<string, string>;
  readonly comment: string;
}

interface Named {
  readonly name: TableName;
  readonly onCluster: string | undefined;
}

export type CreateTable = Named &
  TableBody & {
    readonly kind: 'create table';
    readonly ifNotExists: boolean;
    /** `AS db.other`: its columns. */
    readonly like: TableName | undefined;
    /** `AS SELECT …`, empty where there is none. */
    readonly select: string;
  };

export type CreateView = Named &
  TableBody & {
    readonly kind: 'create view';
    readonly materialized: boolean;
    readonly ifNotExists: boolean;
    /** `TO db.target` */
    readonly target: TableName | undefined;
    readonly select: string;
    /** `EVERY 1 HOUR`, where it is refreshed by time instead of by inserts. */
    readonly refresh: string;
  };

export type Ddl =
  | CreateTable
  | CreateView
  | { readonly kind: 'create database'; readonly database: string }
  | (Named & { readonly kind: 'alter'; readonly commands: readonly AlterCommand[] })
  | (Named & { readonly kind: 'drop'; readonly what: 'table' | 'view'; readonly ifExists: boolean })
  | {
      readonly kind: 'rename';
      readonly pairs: readonly { readonly from: TableName; readonly to: TableName }[];
      readonly onCluster: string | undefined;
      /** `EXCHANGE TABLES a AND b` */
      readonly exchange: boolean;
    }
  | { readonly kind: 'other'; readonly text: string };

export function parseDdl(sql: string): Ddl {
  const tokens = tokenize(sql.replace(/;\s*$/, ''));
  const cursor = new Cursor(tokens);
  const ddl = parseKnown(cursor);
  return ddl ?? { kind: 'other', text: spell(tokens) };
}

function parseKnown(cursor: Cursor): Ddl | undefined {
  if (cursor.skip('CREATE') || cursor.skip('ATTACH')) return parseCreate(cursor);
  if (cursor.skip('ALTER', 'TABLE')) {
    const named = parseNamed(cursor);
    return named && { kind: 'alter', ...named, commands: parseCommands(cursor.rest()) };
  }
  if (cursor.skip('DROP')) {
    const what = cursor.skip('VIEW') ? 'view' : cursor.skip('TABLE') ? 'table' : undefined;
    const ifExists = cursor.skip('IF', 'EXISTS');
    const named = what && parseNamed(cursor);
    return named && { kind: 'drop', what, ifExists, ...named };
  }
  if (cursor.skip('RENAME', 'TABLE')) return parseRename(cursor, 'TO', false);
  if (cursor.skip('EXCHANGE', 'TABLES')) return parseRename(cursor, 'AND', true);
  return undefined;
}

function parseCreate(cursor: Cursor): Ddl | undefined {
  cursor.skip('OR', 'REPLACE');
  if (cursor.skip('DATABASE')) {
    cursor.skip('IF', 'NOT', 'EXISTS');
    const database = cursor.next()?.value;
    return database === undefined ? undefined : { kind: 'create database', database };
  }
  const materialized = cursor.skip('MATERIALIZED');
  const isView = cursor.skip('VIEW');
  cursor.skip('TEMPORARY');
  if (!isView && !cursor.skip('TABLE')) return undefined;
  const ifNotExists = cursor.skip('IF', 'NOT', 'EXISTS');
  const named = parseNamed(cursor);
  if (named === undefined) return undefined;
  if (isView) return parseView(cursor, named, materialized, ifNotExists);
  const columns = cursor.brackets();
  const clauses = parseClauses(cursor);
  const like = clauses.as.length > 0 && !isQuery(clauses.as) ? parseName(new Cursor(clauses.as)) : undefined;
  return {
    kind: 'create table',
    ...named,
    ...bodyOf(columns, clauses),
    ifNotExists,
    like,
    select: isQuery(clauses.as) ? spell(clauses.as) : '',
  };
}

function parseView(cursor: Cursor, named: Named, materialized: boolean, ifNotExists: boolean): CreateView {
  const refresh = cursor.skip('REFRESH') ? spell(cursor.until((at) => at.at('TO') || atClause(at))) : '';
  const target = cursor.skip('TO') ? parseName(cursor) : undefined;
  const columns = cursor.brackets();
  const clauses = parseClauses(cursor);
  return {
    kind: 'create view',
    ...named,
    ...bodyOf(columns, clauses),
    materialized,
    ifNotExists,
    target,
    select: spell(clauses.as),
    refresh,
  };
}

function isQuery(tokens: readonly Token[]): boolean {
  const [first] = tokens;
  return (
    isWord(first, 'SELECT') || isWord(first, 'WITH') || (first?.kind === 'operator' && first.value === '(')
  );
}

function parseRename(cursor: Cursor, between: string, exchange: boolean): Ddl | undefined {
  const pairs: { from: TableName; to: TableName }[] = [];
  do {
    const from = parseName(cursor);
    if (!cursor.skip(between)) return undefined;
    const to = parseName(cursor);
    if (from === undefined || to === undefined) return undefined;
    pairs.push({ from, to });
  } while (cursor.skipOperator(','));
  return { kind: 'rename', pairs, onCluster: parseOnCluster(cursor), exchange };
}

/** Name, UUID and ON CLUSTER. */
function parseNamed(cursor: Cursor): Named | undefined {
  const name = parseName(cursor);
  if (name === undefined) return undefined;
  if (cursor.skip('UUID')) cursor.next();
  return { name, onCluster: parseOnCluster(cursor) };
}

function parseName(cursor: Cursor): TableName | undefined {
  if (!isName(cursor.peek())) return undefined;
  const first = cursor.next()?.value ?? '';
  if (!cursor.atOperator('.') || !isName(cursor.peek(1))) return { database: undefined, table: first };
  cursor.next();
  return { database: first, table: cursor.next()?.value ?? '' };
}

function parseOnCluster(cursor: Cursor): string | undefined {
  return cursor.skip('ON', 'CLUSTER') ? cursor.next()?.value : undefined;
}

/** The keywords behind the columns, each with the name of its clause. */
const CLAUSES = {
  engine: ['ENGINE'],
  partitionBy: ['PARTITION', 'BY'],
  primaryKey: ['PRIMARY', 'KEY'],
  orderBy: ['ORDER', 'BY'],
  sampleBy: ['SAMPLE', 'BY'],
  ttl: ['TTL'],
  settings: ['SETTINGS'],
  comment: ['COMMENT'],
  populate: ['POPULATE'],
  empty: ['EMPTY'],
  definer: ['DEFINER'],
  security: ['SQL', 'SECURITY'],
  as: ['AS'],
} as const satisfies Readonly<Record<string, readonly string[]>>;

type Clause = keyof typeof CLAUSES;
const CLAUSE_NAMES = Object.keys(CLAUSES) as Clause[];
const MARKERS: readonly Clause[] = ['populate', 'empty'];

function atClause(cursor: Cursor): boolean {
  return CLAUSE_NAMES.some((clause) => cursor.at(...CLAUSES[clause]));
}

function parseClauses(cursor: Cursor): Record<Clause, readonly Token[]> {
  const clauses = Object.fromEntries(CLAUSE_NAMES.map((clause) => [clause, []])) as unknown as Record<
    Clause,
    readonly Token[]
  >;
  while (!cursor.done) {
    const clause = CLAUSE_NAMES.find((name) => cursor.skip(...CLAUSES[name]));
    if (clause === undefined) cursor.next();
    else if (clause === 'as') clauses.as = takeAs(cursor);
    else if (!MARKERS.includes(clause)) clauses[clause] = cursor.until(atClause);
  }
  return clauses;
}

/** A query reaches to the end, but for the table's comment; another table's name only as far as itself. */
function takeAs(cursor: Cursor): Token[] {
  const first = cursor.peek();
  if (first !== undefined && !isQuery([first])) return cursor.until(atClause);
  const tokens = cursor.rest();
  const [comment, text] = tokens.slice(-2);
  return isWord(comment, 'COMMENT') && text?.kind === 'string' ? tokens.slice(0, -2) : tokens;
}

function bodyOf(columns: readonly Token[] | undefined, clauses: Record<Clause, readonly Token[]>): TableBody {
  const elements = parseColumns(columns ?? []);
  return {
    columns: elements.columns,
    indices: elements.indices,
    rules: elements.rules,
    engine: parseEngine(clauses.engine),
    partitionBy: spell(clauses.partitionBy),
    orderBy: spell(clauses.orderBy),
    primaryKey: clauses.primaryKey.length > 0 ? spell(clauses.primaryKey) : elements.primaryKey,
    sampleBy: spell(clauses.sampleBy),
    ttl: spell(clauses.ttl),
    settings: parseSettings(clauses.settings),
    comment: clauses.comment[0]?.value ?? '',
  };
}

/** `= Name(args)` or `Name`. */
function parseEngine(tokens: readonly Token[]): EngineDdl | undefined {
  const cursor = new Cursor(tokens);
  cursor.skipOperator('=');
  const name = cursor.next()?.value;
  return name === undefined ? undefined : { name, args: splitAt(cursor.brackets() ?? [], ',').map(spell) };
}
