/**
 * Storms against the real program: faults drawn from a seed while clients send, and every record counted at
 * the end. docs/chaos.md. Exit code 0 when every promise was kept, 1 when one was broken, 2 for wrong
 * arguments.
 */
import { Command, InvalidArgumentError, Option } from 'commander';
import { runCommand } from '../bench/command.ts';
import { VARIANTS, type Variant } from '../test/chaos/storm/redis.ts';
import { summaryLine, textOf } from '../test/chaos/storm/report.ts';
import { runStorm } from '../test/chaos/storm/storm.ts';

interface Given {
  readonly seed?: number;
  readonly seeds?: readonly [number, number];
  readonly seconds: number;
  readonly faults: number;
  readonly records: number;
  readonly clients: number;
  readonly variant: Variant;
  readonly keep: boolean;
  readonly quiet: boolean;
  readonly json: boolean;
}

const SEEDS_BELOW = 1_000_000;

function wholeNumber(text: string): number {
  const number = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(number)) throw new InvalidArgumentError('a whole number');
  return number;
}

function range(text: string): [number, number] {
  const [from = '', to = ''] = text.split('-');
  const seeds: [number, number] = [wholeNumber(from), wholeNumber(to)];
  if (seeds[0] > seeds[1]) throw new InvalidArgumentError('two numbers, such as 1-20');
  return seeds;
}

const command = new Command('chaos')
  .description('Faults of every kind under load, and a count of every record at the end.')
  .option('--seed <n>', 'the storm to make; drawn and printed when not given', wholeNumber)
  .option('--seeds <a-b>', 'several storms, one after the other', range)
  .option('--seconds <n>', 'length of the load', wholeNumber, 60)
  .option('--faults <n>', 'faults in that time', wholeNumber, 50)
  .option('--records <n>', 'records that are acknowledged at the least', wholeNumber, 200_000)
  .option('--clients <n>', 'clients at once', wholeNumber, 12)
  .addOption(new Option('--variant <redis>', 'topology of Redis').choices(VARIANTS).default('standalone'))
  .option('--keep', 'keep data and logs also when all is well', false)
  .option('--quiet', 'no lines while it goes on', false)
  .option('--json', 'the report as JSON, on standard output alone', false)
  .exitOverride();

function seedsOf({ seed, seeds }: Given): number[] {
  if (seeds !== undefined) return Array.from({ length: seeds[1] - seeds[0] + 1 }, (_, n) => seeds[0] + n);
  return [seed ?? Math.floor(Math.random() * SEEDS_BELOW)];
}

async function storms(): Promise<boolean> {
  const given = command.opts<Given>();
  const log = (text: string) => {
    if (!given.quiet) process.stderr.write(`${text}\n`);
  };
  let kept = true;
  for (const seed of seedsOf(given)) {
    process.stderr.write(`seed ${seed}\n`);
    const report = await runStorm({ ...given, seed, log });
    if (report.wrong.length > 0) kept = false;
    if (given.json) console.log(JSON.stringify(report));
    else if (given.seeds === undefined || report.wrong.length > 0) console.log(textOf(report));
    else console.log(summaryLine(report));
  }
  return kept;
}

// So that the processes that were started are ended too.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
await runCommand(command, storms);
// What still holds the event loop must not keep a finished program alive.
setTimeout(() => process.exit(), 1_000).unref();
