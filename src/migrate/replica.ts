/**
 * A replica whose disk was lost while Keeper still knows it, and how far a replica has caught up. Statements
 * run on the host itself or, where Keeper's memory of it has to go, on a healthy replica of its shard.
 */
import { Fault } from '../base/errors.ts';
import { type ClickHouse, query } from '../clickhouse/client.ts';
import type { Clone } from './clone.ts';
import { literal } from '../clickhouse/quote.ts';
import { fullName } from './state.ts';
import { tableText } from './write-ddl.ts';
import { waitFor } from './wait.ts';

/** How statements are run: after a look at the lock, within a bound. */
export type Run = (server: ClickHouse, sql: string) => Promise<void>;

/** 253: Keeper knows a replica of this name already. */
const ALREADY_EXISTS = ['REPLICA_ALREADY_EXISTS', 'CODE_253'];
/** SYSTEM DROP REPLICA came with 20.5. */
const DROPS_REPLICAS_SINCE_MAJOR = 21;

/** Keeper takes a process that ended for alive until its session has run out: 30 s by default. */
const SESSION_MS_MAX = 60_000;

export function isKnownReplica(error: unknown): boolean {
  return error instanceof Fault && ALREADY_EXISTS.includes(error.code);
}

export interface LostReplica {
  readonly server: ClickHouse;
  readonly major: number;
  readonly clone: Clone;
  readonly waitMsMax: number;
}

/** What brings back a replica that Keeper knows but whose host has lost it: for showing and for running. */
export function revivingStatements({ major, clone }: Pick<LostReplica, 'major' | 'clone'>): string[] {
  const name = literal(clone.replica?.name ?? '');
  if (major >= DROPS_REPLICAS_SINCE_MAJOR) {
    const from = clone.peer
      ? `TABLE ${tableText(clone.state)}`
      : `ZKPATH ${literal(clone.replica?.path ?? '')}`;
    return [`SYSTEM DROP REPLICA ${name} FROM ${from}`, clone.sql];
  }
  // The first ATTACH makes the folder and leaves it empty; only the second one notices what is missing.
  const attach = attachText(clone.sql);
  return [attach, `DETACH TABLE ${tableText(clone.state)}`, attach];
}

function attachText(sql: string): string {
  return sql.replace(/^CREATE TABLE IF NOT EXISTS /, 'ATTACH TABLE ');
}

/**
 * Makes the table of a lost replica again. The host itself has no such table, or it would not be here.
 * @throws Fault also when somebody else is alive under the replica's name
 */
export async function revive(lost: LostReplica, run: Run): Promise<void> {
  await waitUntilGone(lost);
  const statements = revivingStatements(lost);
  for (const sql of statements) {
    const onPeer = sql.startsWith('SYSTEM') && lost.clone.peer !== undefined;
    await run(onPeer ? (lost.clone.peer?.view.server ?? lost.server) : lost.server, sql);
  }
}

/** @throws Fault when Keeper sees the replica alive to the end */
async function waitUntilGone({ server, clone, waitMsMax }: LostReplica): Promise<void> {
  const { path, name } = clone.replica ?? { path: '', name: '' };
  await waitFor(
    Math.min(SESSION_MS_MAX, waitMsMax),
    async () => {
      const nodes = await query<{ name: string }>(
        server,
        `SELECT name FROM system.zookeeper WHERE path = ${literal(`${path}/replicas/${name}`)}`,
      );
      return nodes.some((node) => node.name === 'is_active') ? undefined : true;
    },
    () =>
      `${fullName(clone.state)}: Keeper sees ${path}/replicas/${name} alive although this host has no such ` +
      'table: another host uses the same macros, or its old process still runs',
  );
}

interface PartRow {
  readonly partition_id: string;
  readonly min_block: string;
  readonly max_block: string;
}

/** Active parts as ranges of blocks. */
export async function partsOf(server: ClickHouse, table: string): Promise<readonly PartRow[]> {
  const [database = '', ...name] = table.split('.');
  return query<PartRow>(
    server,
    `SELECT partition_id, toString(min_block_number) AS min_block, toString(max_block_number) AS max_block
FROM system.parts WHERE active AND database = ${literal(database)} AND table = ${literal(name.join('.'))}`,
  );
}

/** Parts of the first list that no part of the second one covers: merges join ranges, never cut them. */
export function uncovered(parts: readonly PartRow[], by: readonly PartRow[]): readonly PartRow[] {
  return parts.filter((part) => !by.some((other) => covers(other, part)));
}

function covers(outer: PartRow, inner: PartRow): boolean {
  return (
    outer.partition_id === inner.partition_id &&
    BigInt(outer.min_block) <= BigInt(inner.min_block) &&
    BigInt(outer.max_block) >= BigInt(inner.max_block)
  );
}

/** Nothing at all is there although the other replica has rows: its ATTACH was interrupted half-way. */
export async function isStuckEmpty(server: ClickHouse, peer: ClickHouse, table: string): Promise<boolean> {
  const [own, wanted] = await Promise.all([partsOf(server, table), partsOf(peer, table)]);
  return own.length === 0 && wanted.length > 0;
}

/**
 * Resolves once the host has every part that the other replica has now; what is inserted meanwhile doesn't
 * count. @throws Fault when that takes longer than `waitMsMax`
 */
export async function waitForParts(
  server: ClickHouse,
  peer: ClickHouse,
  table: string,
  waitMsMax: number,
): Promise<void> {
  let missing = await partsOf(peer, table);
  await waitFor(
    waitMsMax,
    async () => {
      const [own, there] = await Promise.all([partsOf(server, table), partsOf(peer, table)]);
      const left = uncovered(missing, own);
      // What the other one has dropped since, by TTL or by hand, won't come.
      const gone = uncovered(left, there);
      missing = left.filter((part) => !gone.includes(part));
      return missing.length === 0 ? true : undefined;
    },
    () => `${table} on ${server.host} still lacks ${missing.length} parts of those that ${peer.host} has`,
  );
}

/** Reads the definition from the disk again, which makes an empty replica ask for what it lacks. */
export async function reattach(server: ClickHouse, text: string, table: string, run: Run): Promise<void> {
  await run(server, `DETACH TABLE ${table}`);
  await run(server, text.replace(/^CREATE TABLE /, 'ATTACH TABLE '));
}
