/** How many bytes on a host's disk a step is about that rewrites or drops data: an upper bound. */
import { type ClickHouse, query } from '../clickhouse/client.ts';
import { literal } from '../clickhouse/quote.ts';
import { parseDdl } from './ddl.ts';
import type { RealName } from './state.ts';

/**
 * The columns where a statement names all that it touches, else the whole table (a mutation writes parts
 * anew, and compact parts as a whole). Changes nothing.
 * @throws Fault
 */
export async function bytesTouched(
  server: ClickHouse,
  sql: string,
  { database, table }: RealName,
): Promise<number> {
  const of = `database = ${literal(database)} AND table = ${literal(table)}`;
  const columns = columnsOf(sql);
  const text =
    columns.length > 0
      ? `SELECT toString(sum(data_compressed_bytes)) AS bytes FROM system.columns
WHERE ${of} AND name IN (${columns.map(literal).join(', ')})`
      : `SELECT toString(sum(bytes_on_disk)) AS bytes FROM system.parts WHERE ${of} AND active`;
  const rows = await query<{ bytes: string }>(server, text);
  return Number(rows[0]?.bytes ?? 0);
}

function columnsOf(sql: string): string[] {
  const ddl = parseDdl(sql);
  if (ddl.kind !== 'alter') return [];
  const names = ddl.commands.map((command) => {
    if (command.kind === 'modify column') return command.column.name;
    return command.kind === 'drop column' ? command.name : undefined;
  });
  return names.every((name) => name !== undefined) ? names : [];
}
