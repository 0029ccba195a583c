/**
 * Goal: a shard of which no replica takes inserts is known as such, and whoever waits for it hears when it is
 * back; nothing is held up for want of knowledge.
 */
import { afterEach, expect, test } from 'vitest';
import { createClickHouse } from '../../src/clickhouse/client.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import { type Topology, oneShard } from '../../src/topology/topology.ts';
import { Writer } from '../../src/write/writer.ts';
import { eventually, freePort, silent, startClickHouse, withTempDir } from '../support/services.ts';
import { DATABASE, INSERT_OPTIONS, MemorySource, createTable } from './batches.ts';

const SETTINGS = {
  ...INSERT_OPTIONS, queryTimeoutMs: 5_000, replicaStrategy: 'least_loaded', loadRatioMax: 2, healthCheckMs: 200,
  replicaReturnMs: 200,
} as const;
const NEVER = new AbortController().signal;

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

function makeWriter(topology: () => Topology | undefined): Writer {
  const source = new MemorySource();
  const writer = new Writer({
    ...SETTINGS, topology, source, deadLetters: source, instruments: createInstruments(), logger: silent,
    connect: (url, connectionsMax) => createClickHouse(url, SETTINGS, silent, connectionsMax),
  });
  stops.push(() => writer.stop(0));
  return writer;
}

test('nothing is known of a shard: it is worth a try', async () => {
  let topology: Topology | undefined;
  const writer = makeWriter(() => topology);
  expect(writer.reachable(0)).toBe(true);
  topology = { cluster: 'main', shards: [] };
  expect(writer.reachable(0)).toBe(true);
  await writer.whenReachable(0, NEVER);
});

test('both replicas are away: the shard is not reachable; one comes, and it is; both go, and it is not', async () => {
  await withTempDir(async (dataDir) => {
    const options = { dataDir, httpPort: await freePort(), tcpPort: await freePort() };
    const away = `http://127.0.0.1:${await freePort()}`;
    const topology = oneShard([`http://127.0.0.1:${options.httpPort}`, away]);
    const writer = makeWriter(() => topology);
    await eventually('it is known as away', () => !writer.reachable(0));
    const given = new AbortController();
    const givenUp = writer.whenReachable(0, given.signal);
    given.abort();
    await givenUp;
    expect(writer.reachable(0)).toBe(false);
    const back = writer.whenReachable(0, NEVER);
    const server = await startClickHouse(options);
    try {
      await server.query(`CREATE DATABASE ${DATABASE}`);
      await server.query(createTable());
      await back;
      expect(writer.reachable(0)).toBe(true);
    } finally {
      await server.stop();
    }
    await eventually('it is away again', () => !writer.reachable(0));
  });
});

test('a writer that stops lets everybody go', async () => {
  const topology = oneShard([`http://127.0.0.1:${await freePort()}`]);
  const writer = makeWriter(() => topology);
  await eventually('it is known as away', () => !writer.reachable(0));
  const waiting = writer.whenReachable(0, NEVER);
  await writer.stop(0);
  await waiting;
});
