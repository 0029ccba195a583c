/**
 * Goal: what a job gets back. A batch leaves the queue only after its insert has returned; what may pass
 * later is thrown back and said once, what never will is set aside, and a server that dies midway costs nothing
 * and doubles nothing.
 */
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { pino } from 'pino';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Fault } from '../../src/base/errors.ts';
import { createClickHouse } from '../../src/clickhouse/client.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import { type Topology, oneShard } from '../../src/topology/topology.ts';
import { Writer } from '../../src/write/writer.ts';
import {
  eventually, freePort, silent, startClickHouse, useClickHouse, withTempDir,
} from '../support/services.ts';
import { DATABASE, INSERT_OPTIONS, MemorySource, createTable, makeBatch, sealed } from './batches.ts';

const clickhouse = useClickHouse();
const SETTINGS = {
  ...INSERT_OPTIONS, queryTimeoutMs: 10_000, replicaStrategy: 'least_loaded', loadRatioMax: 2, healthCheckMs: 1_000,
  replicaReturnMs: 1_000,
} as const;

interface Line {
  readonly level: number;
  readonly msg: string;
  readonly code?: string;
}

function makeWriter(urls = [clickhouse.url]) {
  const topology = oneShard(urls);
  return makeWriterFor(() => topology);
}

function makeWriterFor(topology: () => Topology | undefined) {
  const lines: Line[] = [];
  const logger = pino({ level: 'info' }, { write: (line: string) => lines.push(JSON.parse(line) as Line) });
  const source = new MemorySource();
  const instruments = createInstruments();
  const writer = new Writer({
    ...SETTINGS, topology, source, deadLetters: source, instruments, logger,
    connect: (url, connectionsMax) => createClickHouse(url, SETTINGS, silent, connectionsMax),
  });
  stops.push(() => writer.stop(0));
  const outcomes = async () => {
    const { values } = await instruments.inserts.get();
    return Object.fromEntries(values.map(({ labels, value }) => [labels.outcome, value]));
  };
  return { writer, source, instruments, lines, outcomes };
}

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

beforeAll(async () => {
  await clickhouse.query(`CREATE DATABASE ${DATABASE}`);
});
beforeEach(async () => {
  await clickhouse.query(`DROP DATABASE ${DATABASE}`);
  await clickhouse.query(`CREATE DATABASE ${DATABASE}`);
  await clickhouse.query(createTable());
});

async function rowsOf(query: typeof clickhouse.query): Promise<string> {
  return (await query(`SELECT count(), uniqExact(Id) FROM ${DATABASE}.otel_logs`)).trim();
}

async function insertsRunning(): Promise<number> {
  return Number(await clickhouse.query("SELECT count() FROM system.processes WHERE query LIKE 'INSERT INTO%'"));
}

/** By replica, and outcome where there is one. */
async function valuesOf(
  metric: { get(): Promise<{ values: { labels: Record<string, unknown>; value: number }[] }> },
): Promise<Record<string, number>> {
  const { values } = await metric.get();
  const key = ({ replica, outcome }: Record<string, unknown>) =>
    outcome === undefined ? `${replica}` : `${replica} ${outcome}`;
  return Object.fromEntries(values.map(({ labels, value }) => [key(labels), value]));
}

async function total(counter: { get(): Promise<{ values: { value: number }[] }> }): Promise<number> {
  return (await counter.get()).values.reduce((sum, { value }) => sum + value, 0);
}

describe('written', () => {
  test('a batch is finished after its insert, and counted', async () => {
    const { writer, source, instruments, outcomes } = makeWriter();
    const batch = source.add(makeBatch());
    expect(await writer.write(batch)).toBe('written');
    expect(source.finished).toEqual([batch.id]);
    expect(await rowsOf(clickhouse.query)).toBe('400\t400');
    expect(await outcomes()).toEqual({ stored: 1 });
    const [written] = (await instruments.itemsWritten.get()).values;
    expect(written).toMatchObject({ value: 400, labels: { signal: 'logs', table: 'otel_logs', shard: '0' } });
    expect((await instruments.inserts.get()).values[0]?.labels.replica).toBe(new URL(clickhouse.url).host);
  });

  test('a queue that fails to finish: the next try stores and counts nothing twice', async () => {
    const { writer, source, instruments } = makeWriter();
    const batch = source.add(makeBatch());
    const lost = new Fault('LOST', 'here', 'the queue is away');
    const finish = source.finish.bind(source);
    source.finish = () => Promise.reject(lost);
    await expect(writer.write(batch)).rejects.toBe(lost);
    source.finish = finish;
    expect(await writer.write(batch)).toBe('written');
    expect(await rowsOf(clickhouse.query)).toBe('400\t400');
    expect(await total(instruments.itemsWritten)).toBe(400);
  });

  test('a queue that finished without saying so: the next try finds it gone, and counts it once', async () => {
    const { writer, source, instruments } = makeWriter();
    const batch = source.add(makeBatch());
    const lost = new Fault('LOST', 'here', 'the answer is lost');
    const finish = source.finish.bind(source);
    source.finish = async (done) => {
      await finish(done);
      throw lost;
    };
    await expect(writer.write(batch)).rejects.toBe(lost);
    expect(await total(instruments.itemsWritten)).toBe(0);
    expect(await writer.write(batch)).toBe('written');
    expect(await writer.write(batch)).toBe('gone');
    expect(await total(instruments.itemsWritten)).toBe(400);
    expect(await rowsOf(clickhouse.query)).toBe('400\t400');
  });

  test('two writers with the same batch: one has written it, and only one counts it', async () => {
    const { writer, source, instruments } = makeWriter();
    const batch = source.add(makeBatch());
    const ends = await Promise.all([writer.write(batch), writer.write(batch)]);
    expect(ends.sort()).toEqual(['gone', 'written']);
    expect(await rowsOf(clickhouse.query)).toBe('400\t400');
    expect(await total(instruments.itemsWritten)).toBe(400);
  });

  test('a batch that is gone is nothing to do', async () => {
    const { writer, source, outcomes } = makeWriter();
    expect(await writer.write(makeBatch().batch)).toBe('gone');
    expect(source.finished).toEqual([]);
    expect(await outcomes()).toEqual({ gone: 1 });
  });
});

describe('later', () => {
  test('a missing table is said once, and once more when it is there', async () => {
    const { writer, source, lines, outcomes } = makeWriter();
    const batch = source.add(makeBatch());
    await clickhouse.query(`DROP TABLE ${DATABASE}.otel_logs`);
    for (let attempt = 0; attempt < 3; attempt += 1) {
      await expect(writer.write(batch)).rejects.toMatchObject({ code: 'UNKNOWN_TABLE', retry: 'here' });
    }
    await clickhouse.query(createTable());
    expect(await writer.write(batch)).toBe('written');
    const said = lines.filter((line) => line.msg.startsWith('inserts'));
    expect(said.map(({ level, msg, code }) => [level, msg, code])).toEqual([
      [40, 'inserts fail and will be tried again', 'UNKNOWN_TABLE'],
      [30, 'inserts work again', undefined],
    ]);
    expect(await outcomes()).toEqual({ later: 3, stored: 1 });
    expect(source.aside).toEqual([]);
  });

  test('a server that is away: the next one takes the batch at once, and those after it', async () => {
    const away = `http://127.0.0.1:${await freePort()}`;
    const { writer, source, instruments } = makeWriter([away, clickhouse.url]);
    for (let batch = 0; batch < 6; batch += 1) {
      expect(await writer.write(source.add(makeBatch()))).toBe('written');
    }
    const inserts = await valuesOf(instruments.inserts);
    expect(inserts[`${new URL(clickhouse.url).host} stored`]).toBe(6);
    expect(inserts[`${new URL(away).host} later`]).toBeLessThanOrEqual(3);
    await eventually('the check has left it out', async () =>
      (await valuesOf(instruments.replicaUp))[new URL(away).host] === 0);
    expect(await valuesOf(instruments.replicaShare)).toEqual(
      { [new URL(away).host]: 0, [new URL(clickhouse.url).host]: 1 });
  });

  test('a batch whose shard nobody knows waits, is said once, and goes on when it is known', async () => {
    let topology: Topology | undefined;
    const { writer, source, lines, outcomes } = makeWriterFor(() => topology);
    const batch = source.add({ ...makeBatch(), batch: { ...makeBatch().batch, shard: 1 } });
    const refused = async (code: string, message: RegExp) => {
      for (let attempt = 0; attempt < 2; attempt += 1) {
        await expect(writer.write(batch)).rejects.toMatchObject({ code, retry: 'here', message: expect.stringMatching(message) });
      }
    };
    await refused('topology_unknown', /isn't known yet/);
    const { shards: [first] } = oneShard([clickhouse.url]);
    if (first === undefined) throw new Error('a shard');
    topology = { cluster: 'main', shards: [first] };
    await refused('shard_unknown', /^shard 1 is not in the definition of the cluster "main", which has 1 shards/);
    const [replica] = first.replicas;
    const away = { shard: 1, replica: 0, url: undefined, host: 'inside:9000' };
    topology = { cluster: 'main', shards: [first, { shard: 1, weight: 0, name: '02', replicas: [away] }] };
    await refused('shard_unreachable', /^no replica of shard 1 \(inside:9000\).*SLUICE_CLICKHOUSE_ADDRESSES/);
    topology = { cluster: 'main', shards: [{ ...first, replicas: [] }, { ...first, shard: 1, replicas: [{ ...away, url: replica?.url }] }] };
    expect(await writer.write(batch)).toBe('written');
    expect(lines.filter(({ level }) => level === 40).map(({ code }) => code)).toEqual(
      ['topology_unknown', 'shard_unknown', 'shard_unreachable']);
    expect(lines.filter(({ msg }) => msg === 'inserts work again')).toHaveLength(1);
    expect(await outcomes()).toEqual({ stored: 1 });
  });

  test('a wrong password waits for the operator, whose log says what is wrong', async () => {
    const { writer, source, lines } = makeWriter([clickhouse.url.replace('//', '//nobody:secret@')]);
    const batch = source.add(makeBatch());
    await expect(writer.write(batch)).rejects.toMatchObject({ code: 'AUTHENTICATION_FAILED', retry: 'here' });
    expect(source.aside).toEqual([]);
    expect(lines.map((line) => line.code)).toContain('AUTHENTICATION_FAILED');
    expect(JSON.stringify(lines)).not.toContain('secret');
  });

  test('a queue that fails midway is not the fault of the server', async () => {
    const { writer, source, lines, outcomes } = makeWriter();
    const batch = source.add(makeBatch());
    const lost = new Fault('LOST', 'elsewhere', 'the connection to the queue broke');
    source.before = (index) => { if (index === 2) throw lost; };
    await expect(writer.write(batch)).rejects.toBe(lost);
    expect(await outcomes()).toEqual({ unread: 1 });
    expect(source.aside).toEqual([]);
    expect(lines.filter((line) => line.level > 30)).toMatchObject([{ what: 'the queue of shard 0', code: 'LOST' }]);
    expect(await rowsOf(clickhouse.query)).toBe('0\t0');
    source.before = () => {};
    expect(await writer.write(batch)).toBe('written');
    expect(lines.at(-1)).toMatchObject({ what: 'the queue of shard 0', msg: 'inserts work again' });
  });

  test('our own mistake is not taken for a fault, and not silent', async () => {
    const { writer, source, lines } = makeWriter();
    source.before = () => { throw new TypeError('a mistake'); };
    await expect(writer.write(source.add(makeBatch()))).rejects.toThrow(TypeError);
    expect(lines.at(-1)).toMatchObject({ level: 50, msg: 'a batch could not be read' });
  });
});

test('a topology that changes: the next batch goes by the new one, and the old server is let go', async () => {
  const [before, after] = [clickhouse.url, clickhouse.url.replace('127.0.0.1', 'localhost')].map((url) => oneShard([url]));
  let topology = before;
  const { writer, source, instruments } = makeWriterFor(() => topology);
  const gate = Promise.withResolvers<void>();
  const reached = Promise.withResolvers<void>();
  source.before = () => {
    reached.resolve();
    return gate.promise;
  };
  const running = writer.write(source.add(makeBatch()));
  await reached.promise;
  topology = after;
  source.before = () => {};
  expect(await writer.write(source.add(makeBatch()))).toBe('written');
  gate.resolve();
  expect(await running).toBe('written');
  const hosts = [before, after].map((each) => each?.shards[0]?.replicas[0]?.host);
  expect(Object.keys(await valuesOf(instruments.inserts))).toEqual(hosts.reverse().map((host) => `${host} stored`));
  await eventually('the old one is forgotten', async () =>
    Object.keys(await valuesOf(instruments.replicaUp)).join() === after?.shards[0]?.replicas[0]?.host);
});

describe('never', () => {
  test('malformed bytes are set aside with the words of the server, counted and said', async () => {
    const { writer, source, instruments, lines, outcomes } = makeWriter();
    const batch = source.add(sealed([Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])], 7));
    expect(await writer.write(batch)).toBe('aside');
    expect(source.finished).toEqual([]);
    const [letter] = source.aside[0]?.letters ?? [];
    expect(letter).toMatchObject({ id: batch.id, range: 'all', rows: 7, fragments: undefined, reason: 'ZSTD_DECODER_FAILED' });
    expect(letter?.message).toMatch(/ZSTD.*decoding failed/);
    expect(letter?.replica).toBe(new URL(clickhouse.url).host);
    expect(await outcomes()).toEqual({ never: 1 });
    expect(await total(instruments.itemsDeadlettered)).toBe(7);
    expect(lines.at(-1)).toMatchObject({ level: 50, batch: batch.id, code: 'ZSTD_DECODER_FAILED', rows: 7 });
  });

  test('a batch of which the queue has lost bytes is kept as it is', async () => {
    const { writer, source, outcomes } = makeWriter();
    const batch = source.add(makeBatch());
    source.before = () => { throw new Fault('batch_incomplete', 'never', '3 of 4 fragments'); };
    expect(await writer.write(batch)).toBe('aside');
    expect(source.aside[0]?.letters).toMatchObject(
      [{ id: batch.id, range: 'all', reason: 'batch_incomplete', message: '3 of 4 fragments' }]);
    expect(await outcomes()).toEqual({ never: 1 });
  });
});

describe('stop', () => {
  test('a running insert may end within the bound; nothing new is taken', async () => {
    const { writer, source } = makeWriter();
    const gate = Promise.withResolvers<void>();
    const reached = Promise.withResolvers<void>();
    source.before = (index) => {
      if (index !== 2) return undefined;
      reached.resolve();
      return gate.promise;
    };
    const written = writer.write(source.add(makeBatch()));
    await reached.promise;
    const stopped = writer.stop(20_000);
    const late = writer.write(source.add(makeBatch()));
    await expect(late).rejects.toMatchObject({ code: 'stopping', retry: 'here' });
    gate.resolve();
    expect(await written).toBe('written');
    await stopped;
  });

  test('one that takes longer is broken off, and stores nothing', async () => {
    const { writer, source, lines } = makeWriter();
    const gate = Promise.withResolvers<void>();
    const reached = Promise.withResolvers<void>();
    source.before = (index) => {
      if (index !== 2) return undefined;
      reached.resolve();
      return gate.promise;
    };
    // Large enough for the server to begin with it: it reads 256 KiB ahead.
    const body = (id: number) => `${id}`.padEnd(1000, 'x');
    const written = writer.write(source.add(makeBatch({ layout: 'r1', rows: 1000, body })));
    const refused = expect(written).rejects.toMatchObject({ code: 'stopping', retry: 'here' });
    await reached.promise;
    await eventually('the server has begun', async () => (await insertsRunning()) === 1);
    const stopped = writer.stop(0);
    await eventually('the server has given up', async () => (await insertsRunning()) === 0);
    gate.resolve();
    await refused;
    await stopped;
    expect(await rowsOf(clickhouse.query)).toBe('0\t0');
    expect(lines.filter((line) => line.level > 30)).toEqual([]);
  });

  test('a server that never answers does not hold the stop up', async () => {
    const mute = createServer();
    mute.listen(0, '127.0.0.1');
    await once(mute, 'listening');
    const connected = once(mute, 'connection');
    const { writer, source } = makeWriter([`http://127.0.0.1:${(mute.address() as AddressInfo).port}`]);
    const written = writer.write(source.add(makeBatch()));
    const refused = expect(written).rejects.toMatchObject({ name: 'Fault', retry: 'elsewhere' });
    await connected;
    await writer.stop(0);
    await refused;
    mute.close();
  });
});

test('a server that is killed mid-insert and started again stores every batch once', async () => {
  await withTempDir(async (dataDir) => {
    const options = { dataDir, httpPort: await freePort(), tcpPort: await freePort() };
    let server = await startClickHouse(options);
    try {
      await server.query(`CREATE DATABASE ${DATABASE}`);
      await server.query(createTable());
      const { writer, source } = makeWriter([server.url]);
      expect(await writer.write(source.add(makeBatch({ fragments: 1 })))).toBe('written');
      const batch = source.add(makeBatch({ fragments: 40, rows: 1000, layout: 'r1' }));
      source.before = async (index) => {
        if (index !== 20) return;
        process.kill(server.pid, 'SIGKILL');
        await server.ended;
      };
      await expect(writer.write(batch)).rejects.toMatchObject({ name: 'Fault', retry: 'elsewhere' });
      await expect(writer.write(batch)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
      source.before = () => {};
      server = await startClickHouse(options);
      expect(await writer.write(batch)).toBe('written');
      expect(await writer.write(source.add(makeBatch({ fragments: 1 })))).toBe('written');
      expect(await rowsOf(server.query)).toBe('40200\t40000');
    } finally {
      await server.stop();
    }
  });
});
