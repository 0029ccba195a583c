/** Rows of one host's ledger for another one that lacks them: a host that was made like its neighbour. */
import type { ClickHouse } from '../clickhouse/client.ts';
import { type HostLedger, LEDGER_TABLE, type LedgerEntry, createLedger } from './ledger.ts';
import type { Run } from './replica.ts';
import { literal } from '../clickhouse/quote.ts';
import { quote } from './sql.ts';

/** What the first ledger has and the second one hasn't. Pure. */
export function missingEntries(from: HostLedger, to: HostLedger): readonly LedgerEntry[] {
  return from.entries.filter(
    ({ origin, number }) => !to.entries.some((entry) => entry.origin === origin && entry.number === number),
  );
}

/** With the times of when they were applied. Resolves once the server has the rows. @throws Fault */
export async function copyLedger(
  server: ClickHouse,
  database: string,
  entries: readonly LedgerEntry[],
  run: Run,
): Promise<void> {
  await createLedger(server, database);
  const rows = entries.map(({ origin, number, name, checksum, appliedAt, durationMs, version }) => {
    const seconds = Math.floor(Date.parse(appliedAt) / 1000);
    const values = [literal(origin), number, literal(name), literal(checksum), seconds, durationMs];
    return `(${[...values, literal(version)].join(', ')})`;
  });
  await run(
    server,
    `INSERT INTO ${quote(database)}.${quote(LEDGER_TABLE)}
    (origin, number, name, checksum, applied_at, duration_ms, version) VALUES ${rows.join(', ')}`,
  );
}
