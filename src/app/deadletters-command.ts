/** How `sluice deadletters …` is written on the command line. What it does: deadletters.ts. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { nowMs } from '../base/clock.ts';
import { SIGNALS, TABLES } from '../model/signal.ts';
import type { LetterFlags } from './deadletters.ts';

const MS_OF_UNIT: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** @param letters `sluice deadletters`. @param exit takes the exit code */
export function addDeadLetters(letters: Command, exit: (code: number) => void): void {
  const run = async (...args: Parameters<typeof import('./deadletters.ts').runDeadLetters>) => {
    const { runDeadLetters } = await import('./deadletters.ts');
    exit(await runDeadLetters(...args));
  };
  withFilters(letters.command('list').description('how many there are of each kind, and the oldest ones'))
    .addOption(limitOption('letters that are listed; all are counted').default(100))
    .action((flags: LetterFlags) => run('list', '', flags));
  letters
    .command('show')
    .description('one letter: where it came from, why it could not be stored, its first rows')
    .argument('<id>')
    .option('--json', 'as JSON')
    .action((id: string, flags: LetterFlags) => run('show', id, flags));
  withFilters(letters.command('replay').description('tries them again; what is stored already stays once'))
    .addOption(limitOption('only so many, the oldest ones'))
    .option('--all', 'without any filter')
    .option('--dry-run', 'only count them')
    .action((flags: LetterFlags, command: Command) => {
      refuseWithoutChoice(flags, command);
      return run('replay', '', flags);
    });
  withFilters(
    letters.command('export').description('writes their bytes and what is known of them into a folder'),
  )
    .argument('<folder>')
    .addOption(limitOption('only so many, the oldest ones'))
    .action((folder: string, flags: LetterFlags) => run('export', folder, flags));
  withFilters(letters.command('drop').description('throws them away for ever'))
    .addOption(limitOption('only so many, the oldest ones'))
    .option('--all', 'without any filter')
    .option('--dry-run', 'only count them')
    .action((flags: LetterFlags, command: Command) => {
      refuseWithoutChoice(flags, command);
      return run('drop', '', flags);
    });
}

function withFilters(command: Command): Command {
  const moment = 'a time (2026-01-02T03:04:05Z) or how long ago (90s, 30m, 2h, 7d)';
  return command
    .addOption(new Option('--signal <signal>', 'of this signal').choices(SIGNALS))
    .addOption(new Option('--table <table>', 'of this table').choices(TABLES))
    .option('--reason <reason>', 'with this reason; TOO_* is any that begins so')
    .addOption(new Option('--shard <number>', 'of this shard, from 0').argParser((text) => whole(text, 0)))
    .option('--id <id>', 'only this letter')
    .option('--batch <id>', 'parts of this batch')
    .addOption(new Option('--since <time>', `set aside since ${moment}`).argParser(momentOf))
    .addOption(new Option('--until <time>', 'set aside until then, the same way').argParser(momentOf))
    .option('--json', 'as JSON');
}

function limitOption(description: string): Option {
  return new Option('--limit <number>', description).argParser((text) => whole(text, 1));
}

/** A slip of the finger must not throw everything away. */
function refuseWithoutChoice({ json, dryRun, limit, all, ...filters }: LetterFlags, command: Command): void {
  if (all === true || Object.keys(filters).length > 0) return;
  command.error(`error: say which letters (--signal, --reason, --id …), or --all of them`);
}

function whole(text: string, min: number): number {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min)) throw new InvalidArgumentError(`Wanted is a whole number from ${min} on.`);
  return value;
}

/** ms since 1970 */
function momentOf(text: string): number {
  const ago = /^(\d{1,9})([smhd])$/.exec(text);
  const unitMs = MS_OF_UNIT[ago?.[2] ?? ''];
  if (ago !== null && unitMs !== undefined) return nowMs() - Number(ago[1]) * unitMs;
  const atMs = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) : Number.NaN;
  if (!Number.isNaN(atMs)) return atMs;
  throw new InvalidArgumentError(
    'Wanted is a time as 2026-01-02T03:04:05Z, or how long ago as 90s, 30m, 2h, 7d.',
  );
}
