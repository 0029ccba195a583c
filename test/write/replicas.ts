/**
 * What the tests of replicas have in common: a shard of two on real replicated tables (ClickHouse 18.16 and
 * ZooKeeper), and writers to it. That version knows no tokens, it recognises a repeated insert by its
 * content; so each batch has its own.
 *
 * Importing this starts the servers before the tests of the file, and ends them after.
 */
import { pino } from 'pino';
import { afterEach, beforeEach, expect } from 'vitest';
import { Fault } from '../../src/base/errors.ts';
import { createClickHouse } from '../../src/clickhouse/client.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import { oneShard } from '../../src/topology/topology.ts';
import { Writer, type WriterOptions } from '../../src/write/writer.ts';
import { type FarmHost, useFarm } from '../support/farm.ts';
import { eventually, silent } from '../support/services.ts';
import { INSERT_OPTIONS, MemorySource, type TestBatch, makeBatch } from './batches.ts';

export const farm = useFarm({ shards: 1, replicas: 2 });

/** Sessions of ZooKeeper end, servers start again, and all of it takes its time on a busy machine. */
export const STORY_MS_MAX = 150_000;
const PERSIST_MS_MAX = 60_000;
const SEEN_MS_MAX = 30_000;

export const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

export let database = '';
let databases = 0;
/** A database of its own for each test, so that none meets what another has left. */
beforeEach(async () => {
  databases += 1;
  database = `written_${databases}`;
  for (const host of farm.hosts) {
    if (!host.running()) await host.start();
    await host.query(`CREATE DATABASE ${database}`);
    await host.query(`CREATE TABLE ${table()} (Id UInt64, Body String) ENGINE =
      ReplicatedMergeTree('/clickhouse/tables/{shard}/${database}', '{replica}') ORDER BY Id`);
  }
});

export function table(): string {
  return `${database}.otel_logs_local`;
}

interface Line {
  readonly level: number;
  readonly msg: string;
  readonly code?: string;
  readonly replica?: string;
}

interface Options extends Partial<WriterOptions> {
  readonly queryTimeoutMs?: number;
}

export function makeWriter(options: Options = {}, urls = farm.hosts.map(({ url }) => url)) {
  const lines: Line[] = [];
  const logger = pino({ level: 'info' }, { write: (line: string) => lines.push(JSON.parse(line) as Line) });
  const source = new MemorySource();
  const instruments = createInstruments();
  const topology = { ...oneShard(urls), cluster: farm.name };
  const settings = {
    ...INSERT_OPTIONS, database, tableName: (name: string) => `${name}_local`, queryTimeoutMs: 10_000,
    replicaStrategy: 'round_robin', loadRatioMax: 2, healthCheckMs: 500, replicaReturnMs: 500, ...options,
  } as const;
  const writer = new Writer({
    ...settings, topology: () => topology, source, deadLetters: source, instruments, logger,
    connect: (url, connectionsMax) => createClickHouse(url, settings, silent, connectionsMax),
  });
  stops.push(() => writer.stop(0));
  const up = async () => {
    const { values } = await instruments.replicaUp.get();
    return urls.map((url) => values.find(({ labels }) => labels.replica === new URL(url).host)?.value);
  };
  /** As the queue would: again and again until it is written. */
  const persist = (test: TestBatch, faults: Fault[] = []) => {
    const batch = source.add(test);
    return eventually('the batch is written', async () => {
      try {
        return await writer.write(batch);
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        faults.push(error);
        return undefined;
      }
    }, PERSIST_MS_MAX);
  };
  return { writer, source, instruments, lines, up, persist };
}

let batches = 0;
/** No two with the same content. */
export function batchOf(fragments = 4, rows = 100): TestBatch {
  batches += 1;
  const mark = batches;
  return makeBatch({ fragments, rows, layout: 'r1', body: (id) => `${mark}-${id}`.padEnd(100, 'x') });
}

export async function countOn(host: FarmHost): Promise<string> {
  return (await host.query(`SELECT count(), uniqExact(Body) FROM ${table()}`)).trim();
}

export async function expectOnEach(rows: number): Promise<void> {
  for (const host of farm.hosts) {
    const isThere = async () => (await countOn(host)) === `${rows}\t${rows}`;
    await eventually(`${host.name} has ${rows} rows`, isThere, SEEN_MS_MAX)
      .catch(async () => expect(await countOn(host)).toBe(`${rows}\t${rows}`));
  }
}

export function host(replica: number): FarmHost {
  return farm.host(1, replica);
}
