/**
 * Goal: replicas fail in the middle of inserts, lose their Keeper, and miss a quorum; every batch is stored
 * all the same, once, and nothing is given up. On real replicated tables: ClickHouse 18.16 and ZooKeeper.
 * That version knows no tokens, it recognises a repeated insert by its content; so each batch has its own.
 */
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Fault } from '../../src/base/errors.ts';
import { createClickHouse } from '../../src/clickhouse/client.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import { oneShard } from '../../src/topology/topology.ts';
import { Writer, type WriterOptions } from '../../src/write/writer.ts';
import { type FarmHost, useFarm } from '../support/farm.ts';
import { eventually, silent } from '../support/services.ts';
import { INSERT_OPTIONS, MemorySource, type TestBatch, makeBatch } from './batches.ts';
import { type Link, startLink } from './link.ts';

const farm = useFarm({ shards: 1, replicas: 2 });

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

let database = '';
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
}, 30_000);

function table(): string {
  return `${database}.otel_logs_local`;
}

interface Line {
  readonly level: number;
  readonly msg: string;
  readonly code?: string;
  readonly replica?: string;
}

function makeWriter(options: Partial<WriterOptions> = {}, urls = farm.hosts.map(({ url }) => url)) {
  const lines: Line[] = [];
  const logger = pino({ level: 'info' }, { write: (line: string) => lines.push(JSON.parse(line) as Line) });
  const source = new MemorySource();
  const instruments = createInstruments();
  const topology = { ...oneShard(urls), cluster: farm.name };
  const settings = {
    ...INSERT_OPTIONS, database, tableName: (name: string) => `${name}_local`, queryTimeoutMs: 2_000,
    replicaStrategy: 'round_robin', loadRatioMax: 2, healthCheckMs: 500, replicaReturnMs: 500, ...options,
  } as const;
  const writer = new Writer({
    ...settings, topology: () => topology, source, instruments, logger,
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
    }, 30_000);
  };
  return { writer, source, instruments, lines, up, persist };
}

let batches = 0;
/** No two with the same content. */
function batchOf(fragments = 4, rows = 100): TestBatch {
  batches += 1;
  const mark = batches;
  return makeBatch({ fragments, rows, layout: 'r1', body: (id) => `${mark}-${id}`.padEnd(100, 'x') });
}

async function countOn(host: FarmHost): Promise<string> {
  return (await host.query(`SELECT count(), uniqExact(Body) FROM ${table()}`)).trim();
}

async function expectOnEach(rows: number): Promise<void> {
  for (const host of farm.hosts) {
    await eventually(`${host.name} has ${rows} rows`, async () => (await countOn(host)) === `${rows}\t${rows}`)
      .catch(async () => expect(await countOn(host)).toBe(`${rows}\t${rows}`));
  }
}

function host(replica: number): FarmHost {
  return farm.host(1, replica);
}

describe('failover', () => {
  test('a replica that is killed mid-insert: the batch goes to the other at once, and comes back to it', async () => {
    const { persist, source, lines, up, instruments } = makeWriter();
    await persist(batchOf());
    await persist(batchOf());
    let killed = false;
    source.before = async (index) => {
      if (index !== 20 || killed) return;
      killed = true;
      await host(1).stop('SIGKILL');
    };
    const faults: Fault[] = [];
    expect(await persist(batchOf(40, 1000), faults)).toBe('written');
    expect(faults).toEqual([]);
    source.before = () => {};
    await eventually('it is left out', async () => (await up()).join() === '0,1');
    for (let batch = 0; batch < 5; batch += 1) await persist(batchOf(), faults);
    expect(faults).toEqual([]);
    await host(1).start();
    await eventually('it is back', async () => (await up()).join() === '1,1');
    await expectOnEach(40_000 + 7 * 400);
    const said = lines.filter(({ level }) => level === 40).map(({ msg, replica }) => [msg, replica]);
    expect(said).toContainEqual(['a replica is left out of inserts', host(1).name]);
    expect(said.filter(([msg]) => msg === 'inserts fail and will be tried again').length).toBeLessThanOrEqual(2);
    const { values } = await instruments.replicaInFlight.get();
    expect(values.map(({ value }) => value)).toEqual([0, 0]);
  });

  test('a replica that takes no more bytes: after its time is up the other one gets them', async () => {
    const link = await startLink(host(1).httpPort);
    stops.push(() => link.stop());
    const { persist, up, lines } = makeWriter({ insertTimeoutMs: 1_000 }, [link.url, host(2).url]);
    await persist(batchOf());
    await persist(batchOf());
    link.pause();
    const faults: Fault[] = [];
    for (let batch = 0; batch < 4; batch += 1) await persist(batchOf(), faults);
    expect(faults).toEqual([]);
    await eventually('it is left out', async () => (await up()).join() === '0,1');
    link.resume();
    await eventually('it is back', async () => (await up()).join() === '1,1');
    await expectOnEach(6 * 400);
    expect(lines.filter(({ msg }) => msg.startsWith('a replica')).map(({ msg }) => msg)).toEqual(
      ['a replica is left out of inserts', 'a replica takes inserts again']);
  });

  test('an answer that got lost: the other replica finds that it has the rows already', async () => {
    const links: Link[] = [];
    for (const { httpPort } of farm.hosts) links.push(await startLink(httpPort));
    stops.push(async () => {
      await Promise.all(links.map((link) => link.stop()));
    });
    // Checks would eat the answer that has to get lost.
    const { persist, instruments, up } = makeWriter({ healthCheckMs: 3_600_000 }, links.map(({ url }) => url));
    await persist(batchOf());
    await persist(batchOf());
    await eventually('both were asked', async () => (await up()).join() === '1,1');
    links[0]?.loseNextAnswer();
    const faults: Fault[] = [];
    expect(await persist(batchOf(), faults)).toBe('written');
    expect(faults).toEqual([]);
    const { values } = await instruments.inserts.get();
    expect(values.map(({ labels, value }) => [labels.outcome, value]).sort()).toEqual(
      [['later', 1], ['stored', 1], ['stored', 2]]);
    await expectOnEach(1_200);
  });

  test('ZooKeeper away: all wait, none is given up; and when it is back, all are stored once', async () => {
    const { writer, source, persist, up, lines } = makeWriter();
    await persist(batchOf());
    await farm.stopZooKeeper();
    try {
      await eventually('both are read-only', async () => (await up()).join() === '0,0');
      const waiting = source.add(batchOf());
      for (let attempt = 0; attempt < 3; attempt += 1) {
        await expect(writer.write(waiting)).rejects.toMatchObject(
          { code: expect.stringMatching(/^(TABLE_IS_READ_ONLY|NO_ZOOKEEPER)$/), retry: 'elsewhere' });
      }
      expect(source.buried).toEqual([]);
    } finally {
      await farm.startZooKeeper();
    }
    for (let batch = 0; batch < 3; batch += 1) expect(await persist(batchOf())).toBe('written');
    await eventually('both are back', async () => (await up()).join() === '1,1');
    await expectOnEach(4 * 400);
    const causes = lines.filter(({ msg }) => msg === 'a replica is left out of inserts');
    expect(causes.map(({ replica }) => replica).sort()).toEqual(farm.hosts.map(({ name }) => name).sort());
  });

  test('a replica without the table: the other takes the batch, and neither is left out', async () => {
    await host(1).query(`DROP TABLE ${table()}`);
    await host(1).query(`CREATE TABLE ${database}.otel_traces_local (Id UInt64) ENGINE = MergeTree ORDER BY Id`);
    const { persist, up, lines } = makeWriter();
    const faults: Fault[] = [];
    for (let batch = 0; batch < 8; batch += 1) await persist(batchOf(), faults);
    expect(faults).toEqual([]);
    expect(await up()).toEqual([1, 1]);
    expect(await countOn(host(2))).toBe('3200\t3200');
    expect(lines.filter(({ code }) => code === 'UNKNOWN_TABLE')).toHaveLength(1);
  });
});

/** That the host is gone is noticed when its session ends. */
async function noticed(): Promise<void> {
  const path = `/clickhouse/tables/01/${database}/leader_election`;
  await eventually('ZooKeeper has noticed it', async () =>
    (await host(1).query(`SELECT count() FROM system.zookeeper WHERE path = '${path}'`)).trim() === '1');
}

describe('quorum', () => {
  test.each([2, 'auto'] as const)('%s: what counts as written is on both replicas', async (insertQuorum) => {
    const { persist } = makeWriter({ insertQuorum });
    for (let batch = 1; batch <= 3; batch += 1) {
      await persist(batchOf());
      for (const each of farm.hosts) expect(await countOn(each)).toBe(`${batch * 400}\t${batch * 400}`);
    }
  });

  test('one replica away: batches wait for it, and are stored once', async () => {
    const { writer, source, persist, up } = makeWriter({ insertQuorum: 2 });
    await persist(batchOf());
    // Not by SIGTERM: this old version then waits half a minute for its clients to go.
    await host(2).stop('SIGKILL');
    await noticed();
    await eventually('it is left out', async () => (await up()).join() === '1,0');
    const batch = batchOf();
    const waiting = source.add(batch);
    for (let attempt = 0; attempt < 4; attempt += 1) {
      await expect(writer.write(waiting)).rejects.toMatchObject({ code: 'TOO_FEW_LIVE_REPLICAS', retry: 'here' });
    }
    // The shard is short of replicas; the one that says so is well.
    expect(await up()).toEqual([1, 0]);
    await host(2).start();
    expect(await persist(batch)).toBe('written');
    for (const each of farm.hosts) expect(await countOn(each)).toBe('800\t800');
  });

  test('missed after the rows were written: nobody says written before it is met', async () => {
    const { persist, source, lines } = makeWriter({ insertQuorum: 2, insertTimeoutMs: 2_000 });
    await persist(batchOf());
    // Killed, it counts as alive until its session ends: the insert starts, and waits for it in vain.
    source.before = (index) => (index === 0 && host(2).running() ? host(2).stop('SIGKILL') : undefined);
    const written = persist(batchOf());
    await eventually('the status is unknown', () => lines.some(({ code }) => code === 'UNKNOWN_STATUS_OF_INSERT'));
    expect(await countOn(host(1))).toBe('800\t800');
    expect(source.finished).toHaveLength(1);
    source.before = () => {};
    await host(2).start();
    expect(await written).toBe('written');
    for (const each of farm.hosts) expect(await countOn(each)).toBe('800\t800');
  });
});
