/**
 * The migrations of a folder: `NNNN_name.sql`, numbered without a hole. Other files are left alone. What
 * can fail: the folder isn't there, a name, a number or the text of a file is wrong; always a
 * ConfigurationError.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ConfigurationError } from '../base/errors.ts';
import { type Migration, type Origin, parseMigration } from './migration.ts';

const FILE_NAME = /^(\d{4})_[a-z0-9][a-z0-9_-]*\.sql$/;
/**
 * The default of SLUICE_MIGRATIONS_DIR. It means the program's own folder, whatever folder it is started
 * in.
 */
const DEFAULT_DIR = 'sql';

/** The program's own migrations, and after them those of the operator's folder when one is set. */
export function readHistories(migrationsDir: string): readonly Migration[] {
  const builtIn = builtInDir();
  const own = resolve(migrationsDir);
  const further = migrationsDir === DEFAULT_DIR || own === builtIn ? [] : readHistory(own, 'own');
  return [...readHistory(builtIn, 'sluice'), ...further];
}

/**
 * A migration that a setting switches on and off. It has no number and is in no ledger: whether it was run is
 * seen on the tables, and what it made stays when it is switched off.
 */
export interface OptionalMigration {
  readonly migration: Migration;
  readonly isOn: boolean;
}

/** The columns `Tenant`. @throws ConfigurationError as readHistory */
export function readTenantColumn(isOn: boolean): OptionalMigration {
  const name = 'tenant_column.sql';
  const text = readFileSync(join(builtInDir(), 'optional', name), 'utf8');
  return { migration: parseMigration('sluice', 0, name, text), isOn };
}

/** sluice's own tables need types and settings that came with this version. */
const OWN_TABLES_SINCE = { major: 23, minor: 8 } as const;

export interface Histories {
  readonly migrations: readonly Migration[];
  /** What was left out and why, in words. */
  readonly warning: string | undefined;
}

/**
 * The histories for servers of which the oldest has this version: on one that is too old for sluice's own
 * tables they are left out where the operator has a folder of their own.
 * @throws ConfigurationError as readHistory; also for a server that is too old where there is no such folder
 */
export function historiesFor(
  migrationsDir: string,
  oldest: { readonly major: number; readonly minor: number },
): Histories {
  const migrations = readHistories(migrationsDir);
  const { major, minor } = OWN_TABLES_SINCE;
  const newEnough = oldest.major > major || (oldest.major === major && oldest.minor >= minor);
  if (newEnough) return { migrations, warning: undefined };
  const own = migrations.filter(({ origin }) => origin === 'own');
  const found = `${oldest.major}.${oldest.minor}`;
  const since = `sluice's own tables need ClickHouse ${major}.${minor}, the oldest server has ${found}`;
  if (own.length === 0) {
    throw new ConfigurationError(
      `${since}: upgrade it, or set SLUICE_MIGRATIONS_DIR to a folder of migrations of your own`,
    );
  }
  return {
    migrations: own,
    warning: `${since}: they are left out, only those of ${migrationsDir} are applied`,
  };
}

/** `sql/` of the package that this file belongs to. */
function builtInDir(): string {
  let dir = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(dir, 'package.json'))) dir = dirname(dir);
  return join(dir, DEFAULT_DIR);
}

/**
 * Reads all migrations of a folder, in the order of their numbers. They may begin at any number.
 * @throws ConfigurationError
 */
export function readHistory(dir: string, origin: Origin): readonly Migration[] {
  const migrations = listFiles(dir).map((name) => {
    const [, number] = FILE_NAME.exec(name) ?? [];
    if (number === undefined) {
      throw new ConfigurationError(
        `${join(dir, name)}: the name of a migration is four digits, "_", then lower-case ` +
          'letters, digits, "_" or "-", for example 0004_team_column.sql',
      );
    }
    return parseMigration(origin, Number(number), name, readFileSync(join(dir, name), 'utf8'));
  });
  for (const [index, migration] of migrations.entries()) {
    const before = migrations[index - 1];
    if (before === undefined) continue;
    if (before.number === migration.number) {
      throw new ConfigurationError(`${dir}: ${before.name} and ${migration.name} have the same number`);
    }
    if (before.number + 1 !== migration.number) {
      throw new ConfigurationError(
        `${dir}: number ${String(before.number + 1).padStart(4, '0')} is missing between ` +
          `${before.name} and ${migration.name}: put the file back, or renumber what was never applied`,
      );
    }
  }
  return migrations;
}

function listFiles(dir: string): string[] {
  try {
    return readdirSync(dir)
      .filter((name) => name.endsWith('.sql'))
      .sort();
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new ConfigurationError(
      `the folder of migrations ${dir} can't be read (${code}): set SLUICE_MIGRATIONS_DIR to one that can`,
    );
  }
}
