// Goal: what is pending follows from folder and ledger, and a history that was tampered with is refused by
// name and remedy.
import { describe, expect, test } from 'vitest';
import type { LedgerEntry } from '../../src/migrate/ledger.ts';
import { type Migration, type Origin, parseMigration } from '../../src/migrate/migration.ts';
import { planCluster, planHistory } from '../../src/migrate/plan.ts';
import { createTable } from './fixture.ts';

function file(number: number, table: string, origin: Origin = 'sluice'): Migration {
  return parseMigration(
    origin,
    number,
    `${String(number).padStart(4, '0')}_${table}.sql`,
    createTable(table),
  );
}

function applied({ origin, number, name, checksum }: Migration): LedgerEntry {
  return {
    origin,
    number,
    name,
    checksum,
    appliedAt: '2026-11-20T12:00:00Z',
    durationMs: 5,
    version: '0.1.0',
  };
}

const [a, b, c] = [file(1, 'a'), file(2, 'b'), file(3, 'c')];
const names = (migrations: readonly Migration[]) => migrations.map(({ name }) => name);

test.each([
  ['nothing applied', [], ['0001_a.sql', '0002_b.sql', '0003_c.sql']],
  ['the first applied', [a], ['0002_b.sql', '0003_c.sql']],
  ['all applied', [a, b, c], []],
])('%s', (_, done, pending) => {
  const plan = planHistory([a, b, c], done.map(applied));
  expect(plan.refusals).toEqual([]);
  expect(names(plan.pending)).toEqual(pending);
});

test('each history counts for itself', () => {
  const own = file(1, 'a', 'own');
  const plan = planHistory([a, b, own], [applied(a)]);
  expect(plan.pending).toEqual([b, own]);
  expect(planHistory([a, b, own], [applied(a), applied(own)]).pending).toEqual([b]);
});

test.each([
  [
    'edited',
    [file(1, 'a'), { ...b, checksum: 'f00' }],
    [a, b],
    /^0002_b\.sql was edited after 0002_b\.sql was applied on 2026-11-20T12:00:00Z .*into a new migration$/,
  ],
  [
    'missing',
    [a],
    [a, b],
    /^0002_b\.sql was applied on 2026-11-20T12:00:00Z and is missing in the folder: put it back$/,
  ],
  [
    'renamed',
    [a, { ...b, name: '0002_bee.sql' }],
    [a, b],
    /^0002_b\.sql .* is now called 0002_bee\.sql: .*its old name/,
  ],
  ['late', [a, b, c], [a, c], /^0002_b\.sql was never applied, but number 0003 was: .*the next free number$/],
])('a migration that is %s is refused by name', (_, files, done, message) => {
  const plan = planHistory(files, done.map(applied));
  expect(plan.refusals).toEqual([expect.stringMatching(message)]);
  expect(plan.pending).toEqual([]);
});

test('two that changed places are both named', () => {
  const swapped = [a, { ...c, number: 2, name: '0002_c.sql' }, { ...b, number: 3, name: '0003_b.sql' }];
  expect(planHistory(swapped, [a, b, c].map(applied)).refusals).toEqual([
    expect.stringMatching(/^0002_b\.sql .* is now called 0003_b\.sql: migrations were renamed or reordered/),
    expect.stringMatching(/^0003_c\.sql .* is now called 0002_c\.sql: migrations were renamed or reordered/),
  ]);
});

describe('the ledgers of several hosts', () => {
  const ledger = (host: string, done: readonly Migration[], exists = true) => ({
    host,
    exists,
    entries: done.map(applied),
  });
  const outcome = (...ledgers: ReturnType<typeof ledger>[]) => {
    const { pending, unrecorded, behind, refusals } = planCluster([a, b, c], ledgers);
    return {
      pending: names(pending),
      unrecorded: [...unrecorded].map(([host, missing]) => [host, ...names(missing)]),
      behind: [...behind].map(([host, missing]) => [host, ...missing]),
      refused: [...refusals.keys()],
    };
  };
  const none = { pending: [], unrecorded: [], behind: [], refused: [] };

  test.each([
    [
      'empty everywhere',
      [ledger('x', [], false), ledger('y', [], false)],
      { pending: ['0001_a.sql', '0002_b.sql', '0003_c.sql'] },
    ],
    ['all alike', [ledger('x', [a]), ledger('y', [a])], { pending: ['0002_b.sql', '0003_c.sql'] }],
    ['complete', [ledger('x', [a, b, c]), ledger('y', [a, b, c])], {}],
    [
      'the last row is missing on one',
      [ledger('x', [a, b]), ledger('y', [a])],
      { pending: ['0003_c.sql'], unrecorded: [['y', '0002_b.sql']] },
    ],
    [
      'more than the last row is missing',
      [ledger('x', [a, b, c]), ledger('y', [a])],
      { behind: [['y', '0002_b.sql', '0003_c.sql']] },
    ],
    [
      'one has a ledger without a row',
      [ledger('x', [a]), ledger('y', [])],
      { pending: ['0002_b.sql', '0003_c.sql'], unrecorded: [['y', '0001_a.sql']] },
    ],
    [
      'one has no ledger at all',
      [ledger('x', [a]), ledger('y', [], false)],
      { pending: ['0002_b.sql', '0003_c.sql'], behind: [['y', '0001_a.sql']] },
    ],
    [
      'one was tampered with',
      [ledger('x', [a]), ledger('y', [{ ...a, checksum: 'f00' }])],
      { refused: ['y'] },
    ],
  ])('%s', (_, ledgers, expected) => {
    expect(outcome(...ledgers)).toEqual({ ...none, ...expected });
  });
});
