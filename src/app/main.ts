/**
 * The command line. Exit codes: 0 done, 1 failed, 2 wrong arguments or configuration, 3 differences found.
 */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { ConfigurationError, messageOf } from '../base/errors.ts';
import { loadSettings } from '../config/load.ts';
import { printSettings } from '../config/print.ts';
import { printTable } from './print.ts';
import type { Role } from './roles.ts';

interface JsonOption {
  readonly json?: boolean;
}

const ROLES: readonly (readonly [Role, string])[] = [
  ['up', 'everything for development: embedded ClickHouse and Redis, migrations, gateway and writer'],
  ['all', 'gateway and writer in one process'],
  ['gateway', 'receives OTLP and stores it in Redis'],
  ['writer', 'writes what is in Redis into ClickHouse'],
];

function program(exit: (code: number) => void): Command {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  const sluice = new Command('sluice')
    .description(
      'An OTLP gateway for ClickHouse. Settings come from SLUICE_… variables and the file in SLUICE_CONFIG.',
    )
    .version(version)
    .exitOverride();
  for (const [role, description] of ROLES) {
    // Loaded when they are run, so that help and config answer at once.
    sluice
      .command(role)
      .description(description)
      .action(async () => {
        const { runRole } = await import('./roles.ts');
        exit(await runRole(role, version));
      });
  }
  const migrate = sluice.command('migrate').description('the tables in ClickHouse');
  const steps = [
    ['plan', 'what apply would do; changes nothing; exit code 3 when there is something to do'],
    ['apply', 'brings the tables to the state of this version'],
    ['status', 'which migrations were applied, and when'],
  ] as const;
  for (const [step, description] of steps) {
    migrate
      .command(step)
      .description(description)
      .option('--json', 'as JSON')
      .action(async (options: JsonOption) => {
        const { runMigrate } = await import('./migrate.ts');
        exit(await runMigrate(step, version, options.json === true));
      });
  }
  const config = sluice.command('config').description('the settings');
  config
    .command('check')
    .description('proves the settings and starts nothing')
    .option('--json', 'as JSON')
    .action((options: JsonOption) => {
      const { warnings } = loadSettings();
      if (options.json) console.log(JSON.stringify({ ok: true, warnings }));
      else console.log([...warnings, 'the settings are fine'].join('\n'));
    });
  config
    .command('print')
    .description('every setting, its value and where it came from')
    .option('--json', 'as JSON')
    .action((options: JsonOption) => {
      const settings = printSettings(loadSettings());
      if (options.json) console.log(JSON.stringify(settings, null, 2));
      else
        printTable(
          ['setting', 'environment', 'value', 'from'],
          settings.map(({ key, env, value, origin }) => [key, env, value, origin]),
        );
    });
  return sluice;
}

async function main(): Promise<number> {
  let code = 0;
  try {
    await program((given) => {
      code = given;
    }).parseAsync();
    return code;
  } catch (error) {
    // commander has printed its own message; help and version are no errors.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    console.error(`sluice: ${messageOf(error)}`);
    return error instanceof ConfigurationError ? 2 : 1;
  }
}

process.exitCode = await main();
// Whatever still holds the event loop (a socket that is closing) must not keep a finished program alive.
setTimeout(() => process.exit(), 1_000).unref();
