/**
 * Settings from the environment, then the YAML file in SLUICE_CONFIG, then defaults. A wrong value or an
 * unknown key of the file stops the start with a ConfigurationError that names it and says what is wanted.
 */
import { readFileSync } from 'node:fs';
import { closest, distance } from 'fastest-levenshtein';
import { parse } from 'yaml';
import { ConfigurationError, messageOf } from '../base/errors.ts';
import { DEFINITIONS, type Definition } from './definitions.ts';
import { hidePassword } from './kinds.ts';
import type { Settings } from './settings.ts';

export type Origin = 'default' | 'file' | 'environment';

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
}

type Environment = Readonly<Record<string, string | undefined>>;
/** Read by others than this list: the file's own name, and what tests and tools hand to child processes. */
const OTHER_ENV = new Set(['SLUICE_CONFIG']);

export function loadSettings(environment: Environment = process.env): Loaded {
  const path = environment.SLUICE_CONFIG;
  const file = path ? readFile(path) : new Map<string, unknown>();
  const list = DEFINITIONS.map((definition) => settle(definition, environment, file, path ?? ''));
  const settings = {};
  for (const { definition, value } of list) assign(settings, definition.key, value);
  checkTogether(settings as Settings);
  return { settings: settings as Settings, list, warnings: unknownEnvironment(environment) };
}

function settle(
  definition: Definition,
  environment: Environment,
  file: ReadonlyMap<string, unknown>,
  path: string,
): Setting {
  const fromEnvironment = environment[definition.env];
  if (fromEnvironment !== undefined && fromEnvironment !== '') {
    return { definition, value: read(definition, fromEnvironment, definition.env), origin: 'environment' };
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
  const { wanted } = definition.kind;
  const example = definition.default === '' ? '' : `, for example ${definition.default}`;
  const shown = hidePassword(JSON.stringify(value));
  throw new ConfigurationError(`${where}: the value ${shown} can't be used; wanted: ${wanted}${example}`);
}

/** The file's leaves as dotted keys. */
function readFile(path: string): Map<string, unknown> {
  let tree: unknown;
  try {
    tree = parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new ConfigurationError(`SLUICE_CONFIG: ${path} can't be read: ${messageOf(error)}`);
  }
  const leaves = new Map<string, unknown>();
  if (tree === null || tree === undefined) return leaves;
  collect(tree, '', leaves, path);
  return leaves;
}

function collect(node: unknown, prefix: string, leaves: Map<string, unknown>, path: string): void {
  if (typeof node !== 'object' || node === null || Array.isArray(node)) {
    const what = prefix === '' ? 'the file' : prefix;
    throw new ConfigurationError(
      `${path}: ${what} must be a mapping of keys, but is ${JSON.stringify(node)}`,
    );
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
  const known = DEFINITIONS.map((definition) => definition.env);
  return Object.keys(environment)
    .filter((name) => name.startsWith('SLUICE_') && !known.includes(name) && !OTHER_ENV.has(name))
    .map((name) => `${name} is no setting of this version${didYouMean(name, known)}`);
}

function didYouMean(wrong: string, known: readonly string[]): string {
  const best = closest(wrong, known);
  return distance(wrong, best) <= Math.max(3, wrong.length / 3) ? `; did you mean ${best}?` : '';
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

/** What stands before each gRPC message. */
const GRPC_PREFIX_BYTES = 5;

/** Rules between settings. */
function checkTogether(settings: Settings): void {
  const { receive, write } = settings;
  if (receive.bytesInFlightMax < receive.requestBytesMax + GRPC_PREFIX_BYTES) {
    throw new ConfigurationError(
      `SLUICE_RECEIVE_BYTES_IN_FLIGHT_MAX: ${receive.bytesInFlightMax} is below SLUICE_REQUEST_BYTES_MAX ` +
        `(${receive.requestBytesMax}), so the largest request could never be taken; ` +
        `wanted: at least ${GRPC_PREFIX_BYTES} bytes more`,
    );
  }
  if (write.retryMsMin > write.retryMsMax) {
    throw new ConfigurationError(
      `SLUICE_WRITE_RETRY_MS_MIN: ${write.retryMsMin} is above ` +
        `SLUICE_WRITE_RETRY_MS_MAX (${write.retryMsMax})`,
    );
  }
}
