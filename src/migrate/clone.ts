/**
 * Where a missing table is taken from, and the statement that makes it: from a replica that has it, in its
 * current form, never from old steps. Pure.
 */
import { expandMacros } from './canonical.ts';
import { literal } from '../clickhouse/quote.ts';
import { type TableState, fullName, isReplicated } from './state.ts';
import type { RealTable } from './real.ts';
import type { Verified } from './verify.ts';
import { createText } from './write-ddl.ts';

export interface Clone {
  readonly state: TableState;
  /** `CREATE … IF NOT EXISTS` */
  readonly sql: string;
  /** A healthy replica of the same shard; undefined where the shard has none. */
  readonly peer: Verified | undefined;
  /** In words. */
  readonly source: string;
  /** In Keeper, macros replaced by what they are on the host; undefined where it isn't replicated. */
  readonly replica: { readonly path: string; readonly name: string } | undefined;
}

/** Why a table isn't made, in words. */
export interface Refusal {
  readonly table: string;
  readonly why: string;
}

export function isRefusal(clone: Clone | Refusal): clone is Refusal {
  return 'why' in clone;
}

/** How a missing table is made on a host. */
export function cloneFor(table: string, host: Verified, all: readonly Verified[]): Clone | Refusal {
  const old = all.find((other) => predecessorOf(table, other) !== undefined);
  if (old !== undefined) {
    const where = `${predecessorOf(table, old)} on ${old.view.name}`;
    return { table, why: `its rows are in ${where}, from before the cluster: sluice migrate adopt` };
  }
  const healthy = all.filter((other) => other !== host && isHealthy(table, other));
  const peer = healthy.find(({ view }) => view.shard === host.view.shard);
  const source = peer ?? healthy[0];
  const real = source?.real.tables.get(table);
  if (source === undefined || real === undefined) return declaredClone(table, host, all);
  const text = ownText(real, peer !== undefined);
  const { name } = source.view;
  if (text === undefined) {
    const why = `its place in Keeper on ${name} has no {shard}, so another shard can't have one like it`;
    return { table, why };
  }
  const sql = text.replace(/^CREATE (TABLE|MATERIALIZED VIEW|VIEW) /, 'CREATE $1 IF NOT EXISTS ');
  return finished(host, all, { state: real, sql, peer, source: `as on ${name}` });
}

/** A table with rows under the name of the Distributed one that is declared over the table. */
function predecessorOf(table: string, { declared, real }: Verified): string | undefined {
  for (const [key, state] of declared.tables) {
    const [, database = '', local = ''] =
      state.engine?.args.map((arg) => arg.replace(/^'(.*)'$/, '$1')) ?? [];
    const isFace = state.kind === 'distributed' && fullName({ database, table: local }) === table;
    if (isFace && real.tables.get(key)?.kind === 'table') return key;
  }
  return undefined;
}

/** Nobody has it. */
function declaredClone(table: string, host: Verified, all: readonly Verified[]): Clone | Refusal {
  const state = host.declared.tables.get(table);
  if (state === undefined) return { table, why: 'it is neither declared nor anywhere to be found' };
  const source = 'as declared, since no other host has it';
  return finished(host, all, { state, sql: createText(state), peer: undefined, source });
}

function isHealthy(table: string, { real, verification }: Verified): boolean {
  if (!real.tables.has(table)) return false;
  const broken = ['engine', 'replication', 'view', 'distributed'];
  return !verification.differences.some(
    (difference) =>
      difference.table === table && difference.severity === 'error' && broken.includes(difference.kind),
  );
}

/**
 * The statement of a table for another host. A place in Keeper by {uuid} is the source's own: a replica of
 * the same shard gets it in words, another shard can't have it.
 */
function ownText(real: RealTable, sameShard: boolean): string | undefined {
  const { text, engine, replica } = real;
  const [path = '', name = ''] = engine?.args ?? [];
  if (!isReplicated(real) || replica === undefined) return text;
  if (path.includes('{uuid}')) {
    return sameShard ? text.replace(path, literal(replica.path)) : undefined;
  }
  if (!sameShard && !path.includes('{shard}')) return undefined;
  // The source's own name would make the new table the same replica.
  return name.includes('{') ? text : text.replace(`${path}, ${name}`, `${path}, '{replica}'`);
}

function finished(host: Verified, all: readonly Verified[], clone: Omit<Clone, 'replica'>): Clone | Refusal {
  if (!isReplicated(clone.state)) return { ...clone, replica: undefined };
  const table = fullName(clone.state);
  const [path = '', name = ''] = replicaArgs(clone.sql).map((arg) => expandMacros(arg, host.real.macros));
  const open = /\{[a-z_]+\}/.exec(path + name)?.[0];
  if (open !== undefined) {
    return {
      table,
      why: `the host has no macro ${open}, which its place in Keeper needs: add it to <macros>`,
    };
  }
  const holder = all.find(({ real }) => {
    const replica = real.tables.get(table)?.replica;
    return replica?.path === path && (replica.name === name || clone.peer === undefined);
  });
  if (holder === undefined) return { ...clone, replica: { path, name } };
  const macro = clone.peer === undefined ? '{shard}' : '{replica}';
  const place = `its place in Keeper (${path}, ${name}) is that of ${holder.view.name}`;
  return { table, why: `${place}: the macro ${macro} must differ` };
}

/** The first two parameters of the engine, without their quotes. */
function replicaArgs(sql: string): string[] {
  const [, path = '', name = ''] = /Replicated\w*MergeTree\('([^']*)', '([^']*)'/.exec(sql) ?? [];
  return [path, name];
}
