/** What `sluice deadletters` says to people. */
import type { Row } from '../clickhouse/native-block.ts';
import type { LetterGroup } from '../queue/letters.ts';
import { plural } from '../topology/definition.ts';
import type { Acted, ShownLetter } from './deadletters.ts';
import { printTable } from './print.ts';

export function printLetters(found: {
  readonly groups: readonly LetterGroup[];
  readonly letters: readonly ShownLetter[];
}): void {
  const { groups, letters } = found;
  if (groups.length === 0) {
    console.log('no dead letters');
    return;
  }
  printGroups(groups);
  console.log('');
  printTable(
    ['id', 'shard', 'table', 'rows', 'bytes', 'reason', 'set aside', 'replays'],
    letters.map(({ id, shard, table, rows, bytes, reason, buriedAt, replays }) => [
      id,
      String(shard),
      table,
      String(rows),
      String(bytes),
      reason,
      buriedAt,
      String(replays),
    ]),
  );
  const all = groups.reduce((sum, group) => sum + group.letters, 0);
  if (all > letters.length) console.log(`the oldest ${letters.length} of ${all}: --limit shows more`);
}

export function printLetter(
  letter: ShownLetter & { readonly firstRows: readonly Row[]; readonly unreadable?: string },
): void {
  const { id, shard, table, layout, rows, bytes, fragments, batch, range, reason, message, replica } = letter;
  const times = letter.replays === 0 ? '' : `, first ${letter.firstBuriedAt}`;
  printTable(
    ['letter', id],
    [
      ['table', `${table}, shard ${shard}`],
      ['holds', `${plural(rows, 'row')}, ${bytes} bytes in ${plural(fragments, 'fragment')} (${layout})`],
      ['came from', range === 'all' ? `batch ${batch}, all of it` : `batch ${batch}, part ${range}`],
      ['acknowledged', `until ${letter.acknowledgedUntil}`],
      ['sealed', letter.sealedAt],
      ['set aside', `${letter.buriedAt}${times}`],
      ['replays', String(letter.replays)],
      ['reason', reason],
      ['refused by', replica === '' ? 'nobody was asked' : replica],
      ['in its words', message],
    ],
  );
  if (letter.firstRows.length > 0) console.log(`\nthe first ${plural(letter.firstRows.length, 'row')}:`);
  for (const row of letter.firstRows) console.log(JSON.stringify(row));
  if (letter.unreadable !== undefined) console.log(`\nits rows can't be read: ${letter.unreadable}`);
}

const PLACES = {
  replayed: 'tried again by the writers within seconds',
  exported: 'exported; they are still dead letters',
  dropped: 'dropped',
} as const;

export function printActed({ done, dryRun, letters, rows, bytes, groups }: Acted): void {
  if (letters === 0) {
    console.log('no dead letters match');
    return;
  }
  printGroups(groups);
  const what = `${plural(letters, 'letter')} with ${plural(rows, 'row')}, ${bytes} bytes`;
  console.log(dryRun ? `would be ${done}: ${what}` : `${what}: ${PLACES[done]}`);
}

function printGroups(groups: readonly LetterGroup[]): void {
  printTable(
    ['signal', 'table', 'reason', 'letters', 'rows', 'bytes'],
    groups.map(({ signal, table, reason, letters, rows, bytes }) => [
      signal,
      table,
      reason,
      String(letters),
      String(rows),
      String(bytes),
    ]),
  );
}
