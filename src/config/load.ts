/**
 * Settings from the environment, then the YAML file in SLUICE_CONFIG, then defaults. Instead of a value the
 * environment may name a file that holds it. A wrong value or an unknown key of the file stops the start with
 * a ConfigurationError that names it and says what is wanted.
 */
import { closest, distance } from 'fastest-levenshtein';
import { ConfigurationError } from '../base/errors.ts';
import { DEFINITIONS, type Definition } from './definitions.ts';
import { type ReadText, type Texts, readSecret, readText, readYaml } from './files.ts';
import type { Settings } from './settings.ts';
import { checkTogether } from './together.ts';

export type Origin = 'default' | 'file' | 'secret file' | 'environment';

export interface Setting {
  readonly definition: Definition;
  readonly value: unknown;
  readonly origin: Origin;
}

export interface Loaded {
  readonly settings: Settings;
  /** In the order of DEFINITIONS. */
  readonly list: readonly Setting[];
  /** Names in the environment that look like settings and are none. */
  readonly warnings: readonly string[];
  /** Of the files that were read. */
  readonly texts: Texts;
}

export type Environment = Readonly<Record<string, string | undefined>>;
/** Read by others than this list: the file's own name, and what tests and tools hand to child processes. */
const OTHER_ENV = new Set(['SLUICE_CONFIG']);
/** Behind the name of a setting: the variable that names a file with its value. */
const FILE_SUFFIX = '_FILE';
/** Of a value that is refused. */
const SHOWN_LENGTH_MAX = 200;

/** @throws ConfigurationError */
export function loadSettings(environment: Environment = process.env, from: ReadText = readText): Loaded {
  const texts = new Map<string, string>();
  const readFile = (name: string) => {
    const text = from(name);
    texts.set(name, text);
    return text;
  };
  const path = environment.SLUICE_CONFIG;
  const file = path ? readLeaves(path, readFile) : new Map<string, unknown>();
  const list = DEFINITIONS.map((definition) => {
    return settle(definition, environment, file, path ?? '', readFile);
  });
  const settings = assemble(list.map(({ definition, value }) => [definition.key, value]));
  checkTogether(settings);
  return { settings, list, warnings: unknownEnvironment(environment), texts };
}

/** The files that the environment names, whether they are there or not. */
export function namedFiles(environment: Environment): string[] {
  const names = ['SLUICE_CONFIG', ...DEFINITIONS.map(({ env }) => env + FILE_SUFFIX)];
  return names.flatMap((name) => environment[name] || []);
}

function settle(
  definition: Definition,
  environment: Environment,
  file: ReadonlyMap<string, unknown>,
  path: string,
  readFile: ReadText,
): Setting {
  const { env } = definition;
  const fileName = env + FILE_SUFFIX;
  // An empty variable counts as not set.
  const [direct, secretPath] = [environment[env] || undefined, environment[fileName] || undefined];
  if (direct !== undefined && secretPath !== undefined) {
    throw new ConfigurationError(`${env} and ${fileName} are both given; wanted: one of them`);
  }
  if (direct !== undefined) {
    return { definition, value: read(definition, direct, env), origin: 'environment' };
  }
  if (secretPath !== undefined) {
    const text = readSecret(fileName, secretPath, readFile);
    return {
      definition,
      value: read(definition, text, `${fileName} (${secretPath})`),
      origin: 'secret file',
    };
  }
  if (file.has(definition.key)) {
    const value = read(definition, file.get(definition.key), `${definition.key} in ${path}`);
    return { definition, value, origin: 'file' };
  }
  return { definition, value: read(definition, definition.default, definition.env), origin: 'default' };
}

function read(definition: Definition, value: unknown, where: string): unknown {
  const result = definition.kind.schema.safeParse(value);
  if (result.success) return result.data;
  const { wanted, holdsSecret } = definition.kind;
  const example = definition.default === '' ? '' : `, for example ${definition.default}`;
  const shown = holdsSecret ? '(not shown: it may hold a secret)' : abridged(JSON.stringify(value));
  const [issue] = result.error.issues;
  const place = placeOf(issue?.path ?? []);
  // Those of the schema's library say less than `wanted`.
  const why = issue?.code === 'custom' ? `: ${issue.message}` : '';
  throw new ConfigurationError(
    `${where}: the value ${shown} can't be used${place}${why}; wanted: ${wanted}${example}`,
  );
}

function abridged(text: string): string {
  return text.length <= SHOWN_LENGTH_MAX ? text : `${text.slice(0, SHOWN_LENGTH_MAX)}…`;
}

/** Where in a list the trouble is: ` at [2].weight`. Names of fields and numbers only, no values. */
function placeOf(path: readonly PropertyKey[]): string {
  if (typeof path[0] !== 'number') return '';
  return ` at ${path.map((step) => (typeof step === 'number' ? `[${step}]` : `.${String(step)}`)).join('')}`;
}

/** The file's leaves as dotted keys. */
function readLeaves(path: string, readFile: ReadText): Map<string, unknown> {
  const tree = readYaml(path, readFile);
  const leaves = new Map<string, unknown>();
  if (tree === null || tree === undefined) return leaves;
  collect(tree, '', leaves, path);
  return leaves;
}

function collect(node: unknown, prefix: string, leaves: Map<string, unknown>, path: string): void {
  if (typeof node !== 'object' || node === null || Array.isArray(node)) {
    const what = prefix === '' ? 'the file' : prefix;
    const is = Array.isArray(node) ? 'a list' : `a single value`;
    throw new ConfigurationError(`${path}: ${what} must be a mapping of keys, but is ${is}`);
  }
  for (const [name, value] of Object.entries(node)) {
    const key = prefix === '' ? name : `${prefix}.${name}`;
    if (DEFINITIONS.some((definition) => definition.key === key)) leaves.set(key, value);
    else if (DEFINITIONS.some((definition) => definition.key.startsWith(`${key}.`)))
      collect(value, key, leaves, path);
    else
      throw new ConfigurationError(
        `${path}: unknown key ${key}${didYouMean(
          key,
          DEFINITIONS.map((d) => d.key),
        )}`,
      );
  }
}

function unknownEnvironment(environment: Environment): string[] {
  const known = DEFINITIONS.flatMap(({ env }) => [env, env + FILE_SUFFIX]);
  return Object.keys(environment)
    .filter((name) => name.startsWith('SLUICE_') && !known.includes(name) && !OTHER_ENV.has(name))
    .map((name) => `${name} is no setting of this version${didYouMean(name, known)}`);
}

function didYouMean(wrong: string, known: readonly string[]): string {
  const best = closest(wrong, known);
  return distance(wrong, best) <= Math.max(3, wrong.length / 3) ? `; did you mean ${best}?` : '';
}

/** Settings from dotted keys and their values. */
export function assemble(values: readonly (readonly [string, unknown])[]): Settings {
  const settings = {};
  for (const [key, value] of values) assign(settings, key, value);
  return settings as Settings;
}

function assign(target: object, key: string, value: unknown): void {
  const path = key.split('.');
  const leaf = path.pop() as string;
  let node = target as Record<string, unknown>;
  for (const part of path) {
    node[part] ??= {};
    node = node[part] as Record<string, unknown>;
  }
  node[leaf] = value;
}
