/**
 * Goal: what a job gets back. A batch leaves the queue only after its insert has returned; what may pass
 * later is thrown back and said once, what never will is buried, and a server that dies midway costs nothing
 * and doubles nothing.
 */
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { pino } from 'pino';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Fault } from '../../src/base/errors.ts';
import { createClickHouse } from '../../src/clickhouse/client.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import { oneShard } from '../../src/topology/topology.ts';
import { Writer } from '../../src/write/writer.ts';
import {
  eventually, freePort, silent, startClickHouse, useClickHouse, withTempDir,
} from '../support/services.ts';
import { COLUMNS, DATABASE, MemorySource, createTable, makeBatch, sealed } from './batches.ts';

const clickhouse = useClickHouse();
const SETTINGS = { insertTimeoutMs: 20_000, queryTimeoutMs: 10_000, partitionsPerInsertMax: 10 };

interface Line {
  readonly level: number;
  readonly msg: string;
  readonly code?: string;
}

function makeWriter(urls = [clickhouse.url]) {
  const lines: Line[] = [];
  const logger = pino({ level: 'info' }, { write: (line: string) => lines.push(JSON.parse(line) as Line) });
  const source = new MemorySource();
  const instruments = createInstruments();
  const writer = new Writer({
    ...SETTINGS, columns: COLUMNS, topology: oneShard(urls), source, instruments, logger,
    connect: ({ url }) => createClickHouse(url, SETTINGS, silent),
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
    expect(source.buried).toEqual([]);
  });

  test('a server that is away; the next one takes over, and keeps it', async () => {
    const away = `http://127.0.0.1:${await freePort()}`;
    const { writer, source, instruments } = makeWriter([away, clickhouse.url]);
    const batch = source.add(makeBatch());
    await expect(writer.write(batch)).rejects.toMatchObject({ code: 'ECONNREFUSED', retry: 'elsewhere' });
    expect(await writer.write(batch)).toBe('written');
    expect(await writer.write(source.add(makeBatch()))).toBe('written');
    const { values } = await instruments.inserts.get();
    expect(values.map(({ labels, value }) => [labels.replica, value])).toEqual([[new URL(away).host, 1], [new URL(clickhouse.url).host, 2]]);
  });

  test('a wrong password waits for the operator, whose log says what is wrong', async () => {
    const { writer, source, lines } = makeWriter([clickhouse.url.replace('//', '//nobody:secret@')]);
    const batch = source.add(makeBatch());
    await expect(writer.write(batch)).rejects.toMatchObject({ code: 'AUTHENTICATION_FAILED', retry: 'here' });
    expect(source.buried).toEqual([]);
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
    expect(source.buried).toEqual([]);
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

describe('never', () => {
  test('malformed bytes are buried with the words of the server, counted and said', async () => {
    const { writer, source, instruments, lines, outcomes } = makeWriter();
    const batch = source.add(sealed([Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])], 7));
    expect(await writer.write(batch)).toBe('buried');
    expect(source.finished).toEqual([]);
    expect(source.buried).toMatchObject([{ id: batch.id, reason: 'ZSTD_DECODER_FAILED' }]);
    expect(source.buried[0]?.message).toMatch(/ZSTD.*decoding failed/);
    expect(await outcomes()).toEqual({ never: 1 });
    expect(await total(instruments.itemsDeadlettered)).toBe(7);
    expect(lines.at(-1)).toMatchObject({ level: 50, batch: batch.id, code: 'ZSTD_DECODER_FAILED', rows: 7 });
  });

  test('a batch of which the queue has lost bytes is kept as it is', async () => {
    const { writer, source, outcomes } = makeWriter();
    const batch = source.add(makeBatch());
    source.before = () => { throw new Fault('batch_incomplete', 'never', '3 of 4 fragments'); };
    expect(await writer.write(batch)).toBe('buried');
    expect(source.buried).toEqual([{ id: batch.id, reason: 'batch_incomplete', message: '3 of 4 fragments' }]);
    expect(await outcomes()).toEqual({ never: 1 });
  });

  test('a batch that reaches into too many partitions is kept', async () => {
    await clickhouse.query(`DROP TABLE ${DATABASE}.otel_logs`);
    await clickhouse.query(createTable('otel_logs', 'PARTITION BY Id'));
    const { writer, source } = makeWriter();
    expect(await writer.write(source.add(makeBatch()))).toBe('buried');
    expect(source.buried).toMatchObject([{ reason: 'too_many_partitions' }]);
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
