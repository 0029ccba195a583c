/**
 * One table as declared beside the same table as it is. Pure. Servers write much of it differently than
 * migrations do, so texts are compared in one form (expression.ts, canonical.ts), and shown as they are.
 */
import { engineArgs, expandMacros, settingOf } from './canonical.ts';
import { diffColumns } from './diff-columns.ts';
import type { Difference, DifferenceKind, Remedy } from './difference.ts';
import { canonicalExpression, canonicalQuery } from './expression.ts';
import type { RealState, RealTable } from './real.ts';
import { type TableState, fullName, isMergeTree, isReplicated } from './state.ts';
import { engineText, indexText, ruleText, tableText } from './write-ddl.ts';

/** Adopted tables carry it in their comment: they keep what they were made with and sluice can live with. */
export const ADOPTED = 'adopted by sluice';
/** What an adopted table may have of its own. Inserts convert types; keys and codecs cost time, not rows. */
const KEPT_WHEN_ADOPTED: readonly DifferenceKind[] = [
  'type',
  'default',
  'codec',
  'column order',
  'order key',
  'primary key',
  'partition key',
  'sampling key',
];

/** What of a host the comparison depends on. */
export interface DiffFacts {
  readonly real: RealState;
  readonly version: { readonly major: number; readonly minor: number };
  /** Tables whose TTL follows the settings: they are compared elsewhere (reconcile.ts). */
  readonly ttlElsewhere: ReadonlySet<string>;
}

/** Everything that one table's comparison needs, with what most differences have in common. */
export class Comparison {
  readonly declared: TableState;
  readonly real: RealTable;
  readonly facts: DiffFacts;
  readonly found: Difference[] = [];

  constructor(declared: TableState, real: RealTable, facts: DiffFacts) {
    this.declared = declared;
    this.real = real;
    this.facts = facts;
  }

  /** Servers from then on know IF NOT EXISTS, FIRST, and most changes as metadata only. */
  get isModern(): boolean {
    return this.facts.version.major >= 20;
  }

  report(
    kind: DifferenceKind,
    item: string,
    declared: string,
    real: string,
    more: Partial<Difference> = {},
  ): void {
    const table = fullName(this.declared);
    this.found.push({
      severity: 'error',
      note: '',
      remedy: undefined,
      ...more,
      kind,
      table,
      item,
      declared,
      real,
    });
  }

  alter(cost: Remedy['cost'], action: string): Remedy {
    return { cost, sql: `ALTER TABLE ${tableText(this.declared)} ${action}`, settings: {} };
  }
}

export function diffTable(declared: TableState, real: RealTable, facts: DiffFacts): Difference[] {
  const comparison = new Comparison(declared, real, facts);
  if (declared.kind !== real.kind || declared.materialized !== real.materialized) {
    comparison.report('engine', '', whatIs(declared), whatIs(real), { note: kindNote(declared, real) });
  } else if (declared.kind === 'view') {
    diffView(comparison);
  } else {
    diffRows(comparison);
  }
  if (!real.comment.includes(ADOPTED)) return comparison.found;
  return comparison.found.map((difference) => (isKept(difference, declared) ? kept(difference) : difference));
}

function diffRows(comparison: Comparison): void {
  const { declared } = comparison;
  const sameEngine = diffEngine(comparison);
  diffColumns(comparison);
  // What follows belongs to the engine.
  if (!sameEngine || !isMergeTree(declared)) return;
  diffIndices(comparison);
  diffRules(comparison);
  diffKeys(comparison);
  diffTtl(comparison);
  diffSettings(comparison);
}

/** Whether the table differs from the declared one in what an adopted one may keep. */
export function keepsItsOwn(declared: TableState, real: RealTable, facts: DiffFacts): boolean {
  return diffTable(declared, real, facts).some((difference) => isKept(difference, declared));
}

/** Whether an adopted table may differ like that: an index of another form, its own place in Keeper too. */
function isKept({ kind, declared, real }: Difference, table: TableState): boolean {
  if (kind === 'index') return declared !== '' && real !== '';
  if (kind === 'engine') return !isReplicated(table) || real.startsWith('Replicated');
  return kind === 'replication' || KEPT_WHEN_ADOPTED.includes(kind);
}

function kept(difference: Difference): Difference {
  return { ...difference, severity: 'info', note: 'as it was when it was adopted', remedy: undefined };
}

function whatIs(state: TableState): string {
  if (state.kind === 'view') return state.materialized ? 'a materialized view' : 'a view';
  return state.engine === undefined ? 'a table' : engineText(state.engine);
}

function kindNote(declared: TableState, real: TableState): string {
  if (declared.kind === 'distributed' && real.kind === 'table') {
    return 'the table from before the cluster has the name of the Distributed one: sluice migrate adopt';
  }
  return `it has to be dropped or renamed by hand before ${fullName(declared)} can be made`;
}

/** @returns whether it is the same engine, so that its clauses can be compared */
function diffEngine(comparison: Comparison): boolean {
  const { declared, real } = comparison;
  const [wanted, found] = [declared.engine, real.engine];
  if (wanted === undefined || found === undefined) return false;
  const texts = [engineText(wanted), engineText(found)] as const;
  const plainName = (name: string) => name.replace(/^(Replicated|Shared)/, '');
  if (plainName(wanted.name) !== plainName(found.name)) {
    const note = 'another engine treats rows differently: move the rows into a new table';
    comparison.report('engine', '', ...texts, { note });
    return false;
  }
  const isShared = found.name.startsWith('Shared');
  if (isReplicated(declared) && !isReplicated(real) && !isShared) {
    const note =
      'it does not replicate: each replica keeps only the rows that were inserted there, and readers would ' +
      'see half of the rows. sluice migrate adopt makes it a replicated one';
    comparison.report('engine', '', ...texts, { note });
    return true;
  }
  if (!isReplicated(declared) && isReplicated(real)) {
    comparison.report('engine', '', ...texts, {
      severity: 'info',
      note: 'it replicates although nobody asked',
    });
  }
  const { macros } = comparison.facts.real;
  const [a, b] = [engineArgs(wanted, macros), engineArgs(found, macros)];
  if (declared.kind === 'distributed') {
    if (a.args.join() !== b.args.join())
      comparison.report('distributed', '', ...texts, distributedNote(comparison));
  } else if (a.args.join() !== b.args.join()) {
    comparison.report('engine', '', ...texts, { note: 'its parameters differ' });
  } else if (isReplicated(declared) && isReplicated(real) && a.path.join() !== b.path.join()) {
    const note = `in Keeper it is ${expandMacros(found.args.slice(0, 2).join(', '), macros)}`;
    comparison.report('replication', '', ...texts, { note });
  }
  return true;
}

function distributedNote({ declared }: Comparison): Partial<Difference> {
  const sql = `DROP TABLE ${tableText(declared)}`;
  const note = 'readers and sharding go by it; it holds no rows: drop it, and repair makes it anew';
  return { note, remedy: { cost: 'drops', sql, settings: {} } };
}

function diffIndices(comparison: Comparison): void {
  const { declared, real, isModern } = comparison;
  const canonical = (index: TableState['indices'][number]) =>
    [canonicalExpression(index.expression), canonicalExpression(index.type)].join(' ');
  for (const index of declared.indices) {
    const found = real.indices.find(({ name }) => name === index.name);
    if (found === undefined) {
      const exists = isModern ? 'IF NOT EXISTS ' : '';
      const remedy = comparison.alter('instant', `ADD INDEX ${exists}${indexText(index)}`);
      const note = 'is missing; it will cover new rows, MATERIALIZE INDEX brings it to the old ones';
      comparison.report('index', index.name, indexText(index), '', { note, remedy });
      continue;
    }
    const sameRows = index.granularity === undefined || index.granularity === found.granularity;
    if (sameRows && canonical(index) === canonical(found)) continue;
    const action = `DROP INDEX ${index.name}, ADD INDEX ${indexText(index)}`;
    comparison.report('index', index.name, indexText(index), indexText(found), {
      remedy: comparison.alter('rewrites', action),
    });
  }
  for (const index of real.indices) {
    if (declared.indices.some(({ name }) => name === index.name)) continue;
    comparison.report('index', index.name, '', indexText(index), {
      severity: 'info',
      note: 'is not declared',
    });
  }
}

function diffRules(comparison: Comparison): void {
  const { declared, real } = comparison;
  for (const rule of declared.rules) {
    const found = real.rules.find(({ kind, name }) => kind === rule.kind && name === rule.name);
    if (found !== undefined && ruleForm(found.text) === ruleForm(rule.text)) continue;
    const remedy = found === undefined ? comparison.alter('instant', `ADD ${ruleText(rule)}`) : undefined;
    comparison.report('rule', rule.name, ruleText(rule), found ? ruleText(found) : '', {
      ...(remedy && { remedy }),
    });
  }
}

/** `CHECK (a > 1)` is `CHECK a > 1`; a projection is a query in brackets. */
function ruleForm(text: string): string {
  const [, check] = /^(?:CHECK|ASSUME) (.*)$/s.exec(text) ?? [];
  if (check !== undefined) return canonicalExpression(check);
  return canonicalQuery(text.replace(/^\((.*)\)$/s, '$1'));
}

function diffKeys(comparison: Comparison): void {
  const { declared, real } = comparison;
  const wanted = keysOf(declared);
  const found = keysOf(real);
  for (const [index, key] of wanted.entries()) {
    const other = found[index];
    if (other === undefined || canonicalExpression(key.text) === canonicalExpression(other.text)) continue;
    const note = 'the key of a table with rows stays: move the rows into a new table where it matters';
    comparison.report(key.kind, '', key.text, other.text, { note });
  }
}

function keysOf(state: TableState): { readonly kind: DifferenceKind; readonly text: string }[] {
  return [
    { kind: 'order key', text: state.orderBy },
    { kind: 'primary key', text: state.primaryKey || state.orderBy },
    { kind: 'partition key', text: state.partitionBy },
    { kind: 'sampling key', text: state.sampleBy },
  ];
}

function diffTtl(comparison: Comparison): void {
  const { declared, real, facts } = comparison;
  if (facts.ttlElsewhere.has(fullName(declared))) return;
  if (canonicalExpression(declared.ttl) === canonicalExpression(real.ttl)) return;
  const action = declared.ttl === '' ? undefined : `MODIFY TTL ${declared.ttl}`;
  // One that nobody declared was written by hand, and stays.
  const severity = declared.ttl === '' ? 'info' : 'error';
  const remedy =
    action === undefined ? undefined : comparison.alter(real.ttl === '' ? 'drops' : 'rewrites', action);
  comparison.report('ttl', '', declared.ttl, real.ttl, { severity, remedy });
}

function diffSettings(comparison: Comparison): void {
  const { declared, real, facts, isModern } = comparison;
  for (const [name, value] of declared.settings) {
    const found = real.settings.get(name);
    const inForce = found ?? facts.real.mergeTreeSettings.get(name);
    if (inForce !== undefined && settingOf(inForce) === settingOf(value)) continue;
    const remedy = isModern ? comparison.alter('instant', `MODIFY SETTING ${name} = ${value}`) : undefined;
    const shown = found === undefined ? '' : `${name} = ${found}`;
    comparison.report('setting', name, `${name} = ${value}`, shown, { remedy });
  }
  for (const [name, value] of real.settings) {
    const server = facts.real.mergeTreeSettings.get(name);
    if (declared.settings.has(name) || (server !== undefined && settingOf(server) === settingOf(value)))
      continue;
    const note = 'was set by hand and stays';
    comparison.report('setting', name, '', `${name} = ${value}`, { severity: 'info', note });
  }
}

function diffView(comparison: Comparison): void {
  const { declared, real, facts } = comparison;
  const [wanted, found] = [targetText(declared), targetText(real)];
  if (wanted !== found) {
    const note = 'it writes elsewhere: drop it, and repair makes it anew';
    comparison.report('view', 'target', wanted, found, { note });
  }
  if (canonicalQuery(declared.select) === canonicalQuery(real.select)) return;
  const canModify = facts.version.major >= 24 && declared.materialized && declared.target !== undefined;
  const remedy = canModify ? comparison.alter('instant', `MODIFY QUERY ${declared.select}`) : undefined;
  const note = canModify ? '' : 'drop it, and repair makes it anew';
  comparison.report('view', 'query', declared.select, real.select, { note, remedy });
}

function targetText({ target, database }: TableState): string {
  return target === undefined ? '' : fullName({ database: target.database ?? database, table: target.table });
}
