/**
 * What was applied to a host, kept on the host itself: the table `sluice_migrations` in the database of the
 * tables. Types are those that every version of ClickHouse knows. A row is written after all statements of
 * a migration; two migrators at once may write it twice, the earlier one counts.
 */
import { type ClickHouse, command, query } from '../clickhouse/client.ts';
import { type Migration, ORIGINS, type Origin } from './migration.ts';
import { literal } from '../clickhouse/quote.ts';
import { quote } from './sql.ts';

export const LEDGER_TABLE = 'sluice_migrations';

export interface LedgerEntry {
  readonly origin: Origin;
  readonly number: number;
  readonly name: string;
  readonly checksum: string;
  /** ISO 8601, UTC, whole seconds. */
  readonly appliedAt: string;
  readonly durationMs: number;
  /** The version of this program that applied it. */
  readonly version: string;
}

interface Row {
  readonly origin: string;
  readonly number: number;
  readonly name: string;
  readonly checksum: string;
  readonly applied_s: number;
  readonly duration_ms: number;
  readonly version: string;
}

/** Creates database and ledger where they are missing. @throws Fault */
export async function createLedger(server: ClickHouse, database: string): Promise<void> {
  await command(server, `CREATE DATABASE IF NOT EXISTS ${quote(database)}`);
  await command(
    server,
    `CREATE TABLE IF NOT EXISTS ${ledgerOf(database)}
(
    origin String, number UInt32, name String, checksum String,
    applied_at DateTime, duration_ms UInt32, version String
)
ENGINE = MergeTree ORDER BY (origin, number)`,
  );
}

export interface HostLedger {
  /** A host that never saw a migrator, or lost its disk, has no ledger; that differs from an empty one. */
  readonly exists: boolean;
  /** In the order of the histories. */
  readonly entries: readonly LedgerEntry[];
}

/** What was applied, in order; empty where there is no ledger yet. Changes nothing. @throws Fault */
export async function readLedger(server: ClickHouse, database: string): Promise<readonly LedgerEntry[]> {
  return (await readHostLedger(server, database)).entries;
}

/** The same, and whether there is a ledger at all. Changes nothing. @throws Fault */
export async function readHostLedger(server: ClickHouse, database: string): Promise<HostLedger> {
  const tables = await query(
    server,
    `SELECT name FROM system.tables
WHERE database = ${literal(database)} AND name = ${literal(LEDGER_TABLE)}`,
  );
  if (tables.length === 0) return { exists: false, entries: [] };
  const rows = await query<Row>(
    server,
    `SELECT origin, number, name, checksum, duration_ms, version,
    toUInt32(applied_at) AS applied_s
FROM ${ledgerOf(database)} ORDER BY origin DESC, number, applied_s`,
  );
  const entries = new Map<string, LedgerEntry>();
  for (const {
    applied_s: appliedS,
    duration_ms: durationMs,
    origin: word,
    number,
    name,
    checksum,
    version,
  } of rows) {
    const origin = ORIGINS.find((known) => known === word) ?? 'own';
    const key = `${origin} ${number}`;
    const appliedAt = new Date(appliedS * 1000).toISOString().replace('.000', '');
    if (!entries.has(key))
      entries.set(key, { origin, number, name, checksum, appliedAt, durationMs, version });
  }
  return { exists: true, entries: [...entries.values()] };
}

/** Resolves once the server has the row. @throws Fault */
export async function recordMigration(
  server: ClickHouse,
  database: string,
  migration: Migration,
  durationMs: number,
  version: string,
): Promise<void> {
  const { origin, number, name, checksum } = migration;
  const values = [
    literal(origin),
    number,
    literal(name),
    literal(checksum),
    'now()',
    durationMs,
    literal(version),
  ];
  await command(
    server,
    `INSERT INTO ${ledgerOf(database)}
    (origin, number, name, checksum, applied_at, duration_ms, version) VALUES (${values.join(', ')})`,
  );
}

function ledgerOf(database: string): string {
  return `${quote(database)}.${quote(LEDGER_TABLE)}`;
}
