/**
 * The command line. Exit codes: 0 done, 1 failed, 2 wrong arguments or configuration, 3 differences found.
 */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { ConfigurationError, messageOf } from '../base/errors.ts';
import { loadSettings } from '../config/load.ts';
import { printSettings } from '../config/print.ts';
import { DEFAULT_TENANT } from '../model/tenant.ts';
import { addDeadLetters } from './deadletters-command.ts';
import type { MigrateFlags } from './migrate.ts';
import { printTable } from './print.ts';
import type { Role } from './roles.ts';
import { addTokens } from './tokens-command.ts';

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
  addMigrate(sluice.command('migrate').description('the tables in ClickHouse'), version, exit);
  const topology = sluice.command('topology').description('the ClickHouse cluster as it is');
  for (const [step, description] of [
    ['show', 'shards, replicas and how each of them is'],
    ['check', 'what is wrong with it and what to do; exit code 3 when anything is'],
  ] as const) {
    topology
      .command(step)
      .description(description)
      .option('--json', 'as JSON')
      .action(async (options: JsonOption) => {
        const { runTopology } = await import('./topology.ts');
        exit(await runTopology(step, options.json === true));
      });
  }
  addDeadLetters(sluice.command('deadletters').description('what could not be stored'), exit);
  addTokens(sluice.command('tokens').description('what clients show to prove who they are'));
  const config = sluice.command('config').description('the settings');
  config
    .command('check')
    .description('proves the settings and starts nothing')
    .option('--json', 'as JSON')
    .option('--request <file>', 'also tries limits and rules on a captured request, protobuf or JSON')
    .option('--signal <signal>', 'of that request')
    .option('--tenant <name>', 'whose request it is', DEFAULT_TENANT)
    .action(async (options: JsonOption & { request?: string; signal?: string; tenant: string }) => {
      const { settings, warnings } = loadSettings();
      const { request } = options;
      if (request !== undefined) {
        const { checkRequest } = await import('./config-check.ts');
        exit(await checkRequest(settings, { ...options, request, json: options.json === true }));
        return;
      }
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

/** Each step, what it does, and which of the options below it takes. */
const MIGRATE_STEPS = [
  ['plan', 'what apply would do; changes nothing; exit code 3 when there is something to do', []],
  ['apply', 'brings the tables to the state of this version', ['allowDrops', 'lock', 'wait']],
  ['status', 'which migrations were applied to which host, and when', []],
  ['verify', "each host's real tables against the declared ones; exit code 3 when they differ", []],
  ['repair', 'brings new, emptied or drifted hosts to the declared state', ['dryRun', 'lock', 'wait']],
  ['adopt', 'takes over tables made for one server or by another program', ['dryRun', 'lock', 'wait']],
  ['grants', 'the least rights that writers, migrators and readers need, as SQL', []],
] as const;

const MIGRATE_OPTIONS = {
  allowDrops: ['--allow-drops', 'also run steps that lose data'],
  dryRun: ['--dry-run', 'say what would be done and change nothing'],
  lock: ['--no-lock', 'without the lock in Redis: only when nobody else migrates'],
  wait: ['--wait', 'wait for another migrator instead of leaving'],
} as const;

function addMigrate(migrate: Command, version: string, exit: (code: number) => void): void {
  for (const [step, description, options] of MIGRATE_STEPS) {
    const command = migrate.command(step).description(description).option('--json', 'as JSON');
    for (const option of options) {
      const [flag, meaning] = MIGRATE_OPTIONS[option];
      command.option(flag, meaning);
    }
    command.action(async (given: MigrateFlags) => {
      const { runMigrate } = await import('./migrate.ts');
      exit(await runMigrate(step, version, given));
    });
  }
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

// Our own mistakes end the program, as without this; but Node would print all that hangs on an error, and on
// those of Redis' client hangs the command that failed, with its password.
process.on('uncaughtException', (error) => {
  console.error(error instanceof Error ? error.stack : String(error));
  process.exit(1);
});

process.exitCode = await main();
// Whatever still holds the event loop (a socket that is closing) must not keep a finished program alive.
setTimeout(() => process.exit(), 1_000).unref();
