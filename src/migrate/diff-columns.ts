/** The columns of one table, as declared and as they are. Pure; diff.ts uses it. */
import { defaultOf, sameCodec, typeOf } from './canonical.ts';
import type { ColumnDdl } from './ddl.ts';
import type { Comparison } from './diff.ts';
import { canonicalExpression } from './expression.ts';
import { quote } from './sql.ts';
import { columnText } from './write-ddl.ts';

export function diffColumns(comparison: Comparison): void {
  const { declared, real } = comparison;
  const byName = new Map(real.columns.map((column) => [column.name, column]));
  for (const [index, column] of declared.columns.entries()) {
    const found = byName.get(column.name);
    if (found === undefined) reportMissing(comparison, column, declared.columns.slice(0, index));
    else diffColumn(comparison, column, found);
  }
  const known = new Set(declared.columns.map(({ name }) => name));
  for (const column of real.columns) {
    if (known.has(column.name)) continue;
    const note = 'is not declared and may stay';
    comparison.report('extra column', column.name, '', columnText(column), { severity: 'info', note });
  }
  diffOrder(comparison, known);
}

function reportMissing(comparison: Comparison, column: ColumnDdl, before: readonly ColumnDdl[]): void {
  const { real, isModern } = comparison;
  const exists = isModern ? 'IF NOT EXISTS ' : '';
  const definition = columnText(shown(comparison, column));
  const action = `ADD COLUMN ${exists}${definition}${placeAfter(before, real.columns, isModern)}`;
  const remedy = comparison.alter('instant', action);
  comparison.report('missing column', column.name, definition, '', { remedy });
}

/** Behind the nearest column before it that is there; the ones between will have been added by then. */
function placeAfter(before: readonly ColumnDdl[], real: readonly ColumnDdl[], isModern: boolean): string {
  const last = before.at(-1);
  if (last === undefined) return isModern ? ' FIRST' : '';
  const isLast =
    before.length >= real.length && real.every(({ name }) => before.some((each) => each.name === name));
  return isLast ? '' : ` AFTER ${quote(last.name)}`;
}

/** A Distributed table stores nothing: its columns have no codecs. */
function shown({ declared }: Comparison, column: ColumnDdl): ColumnDdl {
  return declared.kind === 'distributed' ? { ...column, codec: undefined, ttl: undefined } : column;
}

function diffColumn(comparison: Comparison, column: ColumnDdl, found: ColumnDdl): void {
  const stores = comparison.declared.kind === 'table';
  const whole = columnText(shown(comparison, column));
  // An expression without a type has the type of its value.
  if (column.type !== '' && typeOf(column.type) !== typeOf(found.type)) {
    const remedy = comparison.alter(stores ? 'rewrites' : 'instant', `MODIFY COLUMN ${whole}`);
    comparison.report('type', column.name, column.type, found.type, { remedy });
    return;
  }
  const withType = { ...column, type: found.type };
  if (defaultOf(withType) !== defaultOf(found)) {
    const action =
      column.default === undefined && found.default !== undefined
        ? `MODIFY COLUMN ${quote(column.name)} REMOVE ${found.default.kind}`
        : `MODIFY COLUMN ${whole}`;
    const note = stores ? 'rows that are there keep their values' : '';
    const remedy = comparison.isModern ? comparison.alter('instant', action) : undefined;
    comparison.report('default', column.name, defaultText(column), defaultText(found), { note, remedy });
  }
  if (!stores) return;
  if (!sameCodec(column.codec, found.codec, found.type)) {
    const codec = column.codec ?? 'Default';
    const remedy = comparison.alter(
      'instant',
      `MODIFY COLUMN ${quote(column.name)} ${found.type} CODEC(${codec})`,
    );
    const note = 'rows that are there keep theirs until they are merged';
    comparison.report('codec', column.name, column.codec ?? '', found.codec ?? '', { note, remedy });
  }
  if (column.ttl !== undefined && canonicalExpression(column.ttl) !== canonicalExpression(found.ttl ?? '')) {
    const remedy = comparison.alter('rewrites', `MODIFY COLUMN ${whole}`);
    comparison.report('ttl', column.name, column.ttl, found.ttl ?? '', { remedy });
  }
}

function defaultText({ default: value }: ColumnDdl): string {
  return value === undefined ? '' : `${value.kind} ${value.expression}`;
}

/** Of the columns that both have; readers that select `*` see the order, blocks and replicas name columns. */
function diffOrder(comparison: Comparison, known: ReadonlySet<string>): void {
  const { declared, real, isModern } = comparison;
  const there = new Set(real.columns.map(({ name }) => name));
  const wanted = declared.columns.map(({ name }) => name).filter((name) => there.has(name));
  const found = real.columns.map(({ name }) => name).filter((name) => known.has(name));
  const at = wanted.findIndex((name, index) => name !== found[index]);
  if (at < 0) return;
  const actions = wanted.slice(at).flatMap((name, index) => {
    const column = real.columns.find((each) => each.name === name);
    const before = wanted[at + index - 1];
    if (column === undefined) return [];
    const place = before === undefined ? 'FIRST' : `AFTER ${quote(before)}`;
    return [`MODIFY COLUMN ${quote(name)} ${column.type} ${place}`];
  });
  const remedy = isModern ? comparison.alter('instant', actions.join(', ')) : undefined;
  comparison.report('column order', '', wanted.join(', '), found.join(', '), { remedy });
}
