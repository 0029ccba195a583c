/**
 * Goal: the house stays tidy. Imports go down only and never sideways on floor 3, every folder has a floor, files and
 * lines stay short, and nothing is left for later.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';

const ROOT = resolve(import.meta.dirname, '..');
const SRC = join(ROOT, 'src');

const FLOORS: Readonly<Record<string, number>> = {
  base: 0,
  config: 1,
  metrics: 1,
  model: 1,
  clickhouse: 2,
  compress: 2,
  redis: 2,
  topology: 2,
  admit: 3,
  embedded: 3,
  migrate: 3,
  operate: 3,
  queue: 3,
  receive: 3,
  screen: 3,
  transcode: 3,
  write: 3,
  app: 4,
};
/** Below floor 3 rooms may lean on a neighbour in this order only. */
const NEIGHBOURS: Readonly<Record<string, readonly string[]>> = { topology: ['clickhouse'], config: ['model'] };
const FILE_LINES_MAX = 400;
const LINE_LENGTH_MAX = 110;
/** Tables of data, a row a line: easier to read long than wrapped. */
const TABLES = ['src/config/definitions.ts', 'src/metrics/instruments.ts'];

function filesBelow(folder: string, ending: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(ending))
    .map((name) => join(folder, name));
}

const sources = filesBelow(SRC, '.ts');
const everything = [
  ...sources,
  ...filesBelow(join(ROOT, 'test'), '.ts'),
  ...filesBelow(join(ROOT, 'bench'), '.ts'),
  ...filesBelow(join(ROOT, 'scripts'), '.ts'),
];
const roomOf = (path: string) => relative(SRC, path).split('/')[0] ?? '';
const textOf = (path: string) => readFileSync(path, 'utf8');

function importsOf(path: string): string[] {
  const found = textOf(path).matchAll(/(?:from|import)\s*\(?\s*'(\.{1,2}\/[^']+)'/g);
  return [...found].map((match) => resolve(dirname(path), match[1] ?? ''));
}

describe('floors', () => {
  test('every folder of src has a floor, and every floor a folder', () => {
    const rooms = readdirSync(SRC, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    expect(rooms.map((entry) => entry.name).sort()).toEqual(Object.keys(FLOORS).sort());
  });
  test('imports go down, never sideways on floor 3 and never up', () => {
    const wrong: string[] = [];
    for (const path of sources) {
      for (const target of importsOf(path)) {
        const from = roomOf(path);
        const to = roomOf(target);
        if (from === to) continue;
        const down = (FLOORS[to] ?? 99) < (FLOORS[from] ?? -1);
        if (!down && !NEIGHBOURS[from]?.includes(to)) wrong.push(`${relative(ROOT, path)} -> ${to}`);
      }
    }
    expect(wrong).toEqual([]);
  });
  test('nothing in src imports from tests or the bench', () => {
    const outside = sources.flatMap((path) => importsOf(path).filter((target) => !target.startsWith(SRC)));
    expect(outside.filter((target) => !target.startsWith(join(ROOT, 'proto')))).toEqual([]);
  });
});

describe('files', () => {
  test(`no file is longer than ${FILE_LINES_MAX} lines`, () => {
    const long = everything.filter((path) => textOf(path).split('\n').length - 1 > FILE_LINES_MAX);
    expect(long.map((path) => relative(ROOT, path))).toEqual([]);
  });
  test(`no line of src is longer than ${LINE_LENGTH_MAX} characters`, () => {
    const long = sources
      .filter((path) => !TABLES.includes(relative(ROOT, path)))
      .flatMap((path) =>
      textOf(path)
        .split('\n')
        .flatMap((line, i) => (line.length > LINE_LENGTH_MAX ? [`${relative(ROOT, path)}:${i + 1}`] : [])),
    );
    expect(long).toEqual([]);
  });
  test('every test file opens with its goal', () => {
    const tests = filesBelow(join(ROOT, 'test'), '.test.ts');
    const silent = tests.filter((path) => !/^(\/\*\*|\/\/)/.test(textOf(path)));
    expect(silent.map((path) => relative(ROOT, path))).toEqual([]);
  });
  test('every file of src says what it is before its first line of code', () => {
    const silent = sources.filter((path) => !/^(\/\*\*|\/\/)/.test(textOf(path)));
    expect(silent.map((path) => relative(ROOT, path))).toEqual([]);
  });
});

describe('nothing is left for later or silenced', () => {
  const banned: readonly (readonly [string, RegExp])[] = [
    ['a note to self', /\b(TODO|FIXME|XXX|HACK)\b/],
    ['a silenced type check', /@ts-(ignore|expect-error|nocheck)|\bas any\b/],
    ['a test that is switched off', /\b(test|it|describe)\.(skip|only|todo|fails)\b/],
    ['a silenced lint', /biome-ignore|eslint-disable/],
    ['an empty catch', /catch\s*(\([^)]*\))?\s*\{\s*\}/],
    ['an error told apart by its text', /message\.(includes|match|startsWith)\(/],
  ];
  const here = import.meta.filename;
  test.each(banned)('%s', (_, pattern) => {
    const found = everything.filter((path) => path !== here && pattern.test(textOf(path)));
    expect(found.map((path) => relative(ROOT, path))).toEqual([]);
  });
});
