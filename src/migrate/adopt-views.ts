/**
 * Materialized views that read or fill a table under the name that its Distributed one has now: each is made
 * anew on the local table. One with a target holds no rows itself, so it can be dropped; nothing is inserted
 * meanwhile.
 */
import { canonicalQuery } from './expression.ts';
import { tokenize } from './lexer.ts';
import type { RealState, RealTable } from './real.ts';
import { quote } from './sql.ts';
import { type TableState, fullName } from './state.ts';
import { createText, tableText } from './write-ddl.ts';

/** What a view of the operator's is kept as while its name is given to the new one. */
const KEPT = '_adopting';

export interface ViewPlan {
  readonly view: string;
  readonly statements: readonly string[];
}

/**
 * @param moved names that tables had, by `database.table`, with the name of the local table
 * @returns also, as notes, views that have to be made anew by hand
 */
export function planViews(
  declared: ReadonlyMap<string, TableState>,
  real: RealState,
  moved: ReadonlyMap<string, string>,
): { readonly plans: ViewPlan[]; readonly notes: string[] } {
  const plans: ViewPlan[] = [];
  const notes: string[] = [];
  for (const [key, view] of real.tables) {
    if (view.kind !== 'view' || !view.materialized) continue;
    const wanted = declared.get(key);
    const text = retold(view.text, moved);
    const moves = text !== view.text || (wanted !== undefined && !sameView(wanted, view));
    const isKept = key.endsWith(KEPT) && real.tables.has(key.slice(0, -KEPT.length));
    if (isKept) continue;
    if (key.endsWith(KEPT)) plans.push({ view: key, statements: renamed(view) });
    else if (moves && view.target === undefined) {
      notes.push(`${key} keeps rows of its own and reads a table that moved: make it anew by hand`);
    } else if (moves && wanted !== undefined) {
      plans.push({ view: key, statements: [`DROP TABLE ${tableText(view)}`, createText(wanted)] });
    } else if (moves) plans.push({ view: key, statements: replaced(view, text) });
  }
  return { plans, notes };
}

function sameView(declared: TableState, real: TableState): boolean {
  const target = ({ target: to, database }: TableState) =>
    to && fullName({ database: to.database ?? database, table: to.table });
  return target(declared) === target(real) && canonicalQuery(declared.select) === canonicalQuery(real.select);
}

/** The new text is made under another name first: after a kill it is still known. */
function replaced(view: RealTable, text: string): string[] {
  const { database, table } = view;
  const kept = { database, table: table + KEPT };
  const keptText = text
    .replace(`${database}.${quote(table)}`, tableText(kept))
    .replace(/ VIEW /, ' VIEW IF NOT EXISTS ');
  return [
    keptText,
    `DROP TABLE IF EXISTS ${tableText(view)}`,
    ...renamed({ ...view, ...kept, text: keptText }),
  ];
}

/** Views can't be renamed on old servers: the kept one is made again under its name, and dropped. */
function renamed(kept: Pick<RealTable, 'database' | 'table' | 'text'>): string[] {
  const { database } = kept;
  const name = tableText({ database, table: kept.table.slice(0, -KEPT.length) });
  const text = kept.text.replace(tableText(kept), name);
  const sql = /IF NOT EXISTS/.test(text) ? text : text.replace(/ VIEW /, ' VIEW IF NOT EXISTS ');
  return [sql, `DROP TABLE IF EXISTS ${tableText(kept)}`];
}

/** The text with every table that moved called by its new name. */
function retold(text: string, moved: ReadonlyMap<string, string>): string {
  let result = '';
  let at = 0;
  const tokens = tokenize(text);
  for (const [index, token] of tokens.entries()) {
    const [dot, table] = [tokens[index + 1], tokens[index + 2]];
    if (dot?.value !== '.' || table === undefined) continue;
    const to = moved.get(`${token.value}.${table.value}`);
    if (to === undefined) continue;
    result += text.slice(at, table.start) + quote(to);
    at = table.end;
  }
  return result + text.slice(at);
}
