/**
 * What the tests of poison have in common: batches with something in them that a real ClickHouse refuses, and
 * writers to it, whose queue and dead letters live in memory.
 */
import { zstdCompressSync } from 'node:zlib';
import { pino } from 'pino';
import { afterEach, beforeAll, beforeEach, expect } from 'vitest';
import { createClickHouse } from '../../src/clickhouse/client.ts';
import { countRows, rowsOf } from '../../src/clickhouse/native-block.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import type { Layout, SealedBatch } from '../../src/model/batch.ts';
import type { DeadLetterDraft } from '../../src/model/dead-letter.ts';
import { oneShard } from '../../src/topology/topology.ts';
import { blocksOf } from '../../src/write/fragment.ts';
import { Writer, type WriterOptions } from '../../src/write/writer.ts';
import { silent, useClickHouse } from '../support/services.ts';
import {
  DATABASE, INSERT_OPTIONS, MemorySource, type TestBatch, createTable, nativeBlock, sealed,
} from './batches.ts';

export const clickhouse = useClickHouse();
export const TARGET = `${DATABASE}.otel_logs`;
const SETTINGS = {
  ...INSERT_OPTIONS, queryTimeoutMs: 30_000, replicaStrategy: 'least_loaded', loadRatioMax: 2, healthCheckMs: 1_000,
  replicaReturnMs: 1_000,
} as const;

beforeAll(async () => {
  await clickhouse.query(`CREATE DATABASE ${DATABASE}`);
});
beforeEach(async () => {
  await clickhouse.query(`DROP DATABASE ${DATABASE}`);
  await clickhouse.query(`CREATE DATABASE ${DATABASE}`);
  await clickhouse.query(createTable());
});

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

export interface Line {
  readonly level: number;
  readonly msg: string;
  readonly code?: string;
  readonly range?: string;
}

export function makeWriter(source = new MemorySource(), options: Partial<WriterOptions> = {}, url = clickhouse.url) {
  const lines: Line[] = [];
  const logger = pino({ level: 'info' }, { write: (line: string) => lines.push(JSON.parse(line) as Line) });
  const instruments = createInstruments();
  const topology = oneShard([url]);
  const writer = new Writer({
    ...SETTINGS, topology: () => topology, source, deadLetters: source, instruments, logger,
    connect: (to, connectionsMax) => createClickHouse(to, SETTINGS, silent, connectionsMax), ...options,
  });
  stops.push(() => writer.stop(0));
  const counted = async (name: 'inserts' | 'itemsWritten' | 'itemsDeadlettered' | 'batchesDivided') => {
    const { values } = await instruments[name].get();
    return values.reduce((sum, { value }) => sum + value, 0);
  };
  return { writer, source, instruments, lines, counted };
}

/** Rows, and distinct ones. */
export async function stored(): Promise<string> {
  return (await clickhouse.query(`SELECT count(), uniqExact(Id) FROM ${TARGET}`)).trim();
}

export async function storedIds(): Promise<number[]> {
  const rows = await clickhouse.rows<{ Id: string }>(`SELECT Id FROM ${TARGET} ORDER BY Id`);
  return rows.map(({ Id }) => Number(Id));
}

export async function expectStored(ids: readonly number[]): Promise<void> {
  expect(await storedIds()).toEqual([...ids].sort((one, other) => one - other));
}

export function upTo(rows: number, except: readonly number[] = []): number[] {
  return Array.from({ length: rows }, (_, id) => id).filter((id) => !except.includes(id));
}

/** The ids in the bytes of letters. Those of a whole batch lie in the batch. */
export function idsIn(letters: readonly DeadLetterDraft[], test: TestBatch): number[] {
  return letters.flatMap(({ fragments = test.fragments, rows }) => {
    const blocks = fragments.map((fragment) => blocksOf(test.batch.layout, fragment));
    expect(blocks.reduce((sum, block) => sum + countRows(block), 0)).toBe(rows);
    return blocks.flatMap((block) => [...rowsOf(block)].map(({ Id }) => Number(Id)));
  });
}

export function constrain(expression: string): Promise<string> {
  return clickhouse.query(`ALTER TABLE ${TARGET} ADD CONSTRAINT poison CHECK ${expression}`);
}

/** Fragments of `rows` rows each with ids from 0, of which some are replaced. */
export function batchWith(
  { fragments = 8, rows = 20, layout = 'z1' as Layout } = {}, replaced: Readonly<Record<number, Uint8Array>> = {},
): TestBatch {
  const list = Array.from({ length: fragments }, (_, index) => {
    const block = nativeBlock(index * rows, rows, (id) => `row ${id}`);
    return replaced[index] ?? asFragment(block, layout);
  });
  return sealed(list, fragments * rows, layout);
}

export function asFragment(block: Uint8Array, layout: Layout): Uint8Array {
  return layout === 'z1' ? zstdCompressSync(block) : block;
}

/** What was set aside of a batch, once. */
export function asideOf(source: MemorySource, { id }: SealedBatch) {
  const all = source.aside.filter((aside) => aside.id === id);
  expect(all).toHaveLength(1);
  return all[0] ?? { rowsStored: -1, letters: [] };
}
