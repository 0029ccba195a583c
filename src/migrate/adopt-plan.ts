/**
 * What adopt has to do on a host: which tables from before the cluster, or from another writer, stand in for
 * declared ones, and how each becomes what is declared. Pure; every state that an interrupted adopt leaves is
 * one of these as well.
 */
import type { RealState, RealTable } from './real.ts';
import { type TableState, fullName, isMergeTree, isReplicated } from './state.ts';
import { createText } from './write-ddl.ts';

/** Where the rows of a replicated table are put together, until it takes its name. */
const ADOPTING = '_adopting';
/** What the old table is called afterwards, until its owner drops it. */
const BEFORE = '_before_adopt';

export interface Takeover {
  /** The local table as it is declared. */
  readonly declared: TableState;
  /**
   * `rename`: the table itself gets the name. `replicate`: its parts are linked into a new replicated table.
   * `finish`: that was done, and the new table only lacks its name. `keep`: it has its name already.
   */
  readonly how: 'rename' | 'replicate' | 'finish' | 'keep';
  /** The table that has the rows; with `finish` the new one. */
  readonly from: RealTable;
  /** An empty table that stands in the way: made by an apply that found the old one later. */
  readonly inTheWay: RealTable | undefined;
  readonly adopting: string;
  readonly before: string;
  /** The old table is there: a run before this one may have left merges stopped. */
  readonly hasBefore: boolean;
}

export interface Obstacle {
  readonly table: string;
  readonly why: string;
}

/**
 * @param names of the tables as readers call them; `localOf` gives their declared local table
 * @param rowsOf how many rows a table of the host has
 */
export function planTakeovers(
  names: readonly string[],
  localOf: (name: string) => TableState | undefined,
  real: RealState,
  rowsOf: (table: string) => number,
): { readonly takeovers: Takeover[]; readonly obstacles: Obstacle[] } {
  const takeovers: Takeover[] = [];
  const obstacles: Obstacle[] = [];
  for (const name of names) {
    const declared = localOf(name);
    const found = declared && takeoverOf(name, declared, real, rowsOf);
    if (found === undefined) continue;
    if ('why' in found) obstacles.push(found);
    else takeovers.push(found);
  }
  return { takeovers, obstacles };
}

function takeoverOf(
  name: string,
  declared: TableState,
  real: RealState,
  rowsOf: (table: string) => number,
): Takeover | Obstacle | undefined {
  const { database } = declared;
  const at = (table: string) => real.tables.get(fullName({ database, table }));
  const local = at(declared.table);
  const plain = name === declared.table ? undefined : at(name);
  const names = { adopting: name + ADOPTING, before: name + BEFORE };
  const hasBefore = at(names.before) !== undefined;
  const base = { declared, inTheWay: undefined, hasBefore, ...names };
  const adopting = at(names.adopting);
  const old = plain?.kind === 'table' ? plain : isOld(local, declared) ? local : undefined;
  if (old === undefined) {
    if (local === undefined && adopting !== undefined) return { ...base, how: 'finish', from: adopting };
    if (local?.kind !== 'table') return undefined;
    return isMergeTree(local) ? { ...base, how: 'keep', from: local } : noParts(local);
  }
  if (!isMergeTree(old)) return noParts(old);
  const table = fullName(old);
  if (old.orderBy === '') return { table, why: 'it was made in the old form of MergeTree, without ORDER BY' };
  const how = isReplicated(declared) && !isReplicated(old) ? 'replicate' : 'rename';
  if (how === 'replicate' && hasBefore) {
    const why = `${database}.${names.before} is there from an earlier time: drop it, or give it another name`;
    return { table, why };
  }
  if (local === undefined || local === old) return { ...base, how, from: old };
  if (rowsOf(fullName(local)) > 0) {
    const why = `${fullName(local)} has rows as well: move them by hand (INSERT … SELECT), and empty one`;
    return { table, why };
  }
  return { ...base, how, from: old, inTheWay: local };
}

function noParts(table: RealTable): Obstacle {
  return {
    table: fullName(table),
    why: `its engine is ${table.engine?.name}, which keeps no parts to take over`,
  };
}

/** A MergeTree where a replicated one is meant. */
function isOld(local: RealTable | undefined, declared: TableState): boolean {
  return local?.kind === 'table' && isMergeTree(local) && isReplicated(declared) && !isReplicated(local);
}

/** Only of tables that don't replicate. */
const PLAIN_WINDOW = 'non_replicated_deduplication_window';

/** A replicated table of the same structure: only then can parts be linked. */
export function adoptingText({ from, declared, adopting }: Takeover, comment: string): string {
  const [path = '', replica = ''] = declared.engine?.args ?? [];
  const args = [path, replica, ...(from.engine?.args ?? [])];
  const settings = new Map([...from.settings].filter(([name]) => name !== PLAIN_WINDOW));
  const engine = { name: `Replicated${from.engine?.name}`, args };
  return createText({ ...from, table: adopting, engine, settings, comment });
}

/** What of a table stays as it is, in words for its owner. */
export function notesOf(declared: TableState, from: RealTable): string[] {
  const table = fullName(from);
  return declared.columns.flatMap((column) => {
    const found = from.columns.find(({ name }) => name === column.name);
    if (found === undefined || column.type === '' || found.type === column.type) return [];
    const cut = /^DateTime64/.test(column.type) && /\bDateTime\b/.test(found.type);
    const loses = cut ? ', which cuts times to whole seconds' : '';
    return [`${table}.${column.name} stays ${found.type}: inserts convert ${column.type} to it${loses}`];
  });
}
