/**
 * Goal: replicas fail in the middle of inserts, and lose their Keeper; every batch is stored all the same,
 * once, and nothing is given up.
 */
import { describe, expect, test } from 'vitest';
import type { Fault } from '../../src/base/errors.ts';
import { eventually } from '../support/services.ts';
import { type Link, startLink } from './link.ts';
import {
  STORY_MS_MAX, batchOf, countOn, database, expectOnEach, farm, host, makeWriter, stops, table,
} from './replicas.ts';

describe('failover', { timeout: STORY_MS_MAX }, () => {
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
    const short = { insertTimeoutMs: 2_500, queryTimeoutMs: 2_000 };
    const { persist, up, lines } = makeWriter(short, [link.url, host(2).url]);
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
    const of = lines.filter(({ msg, replica }) => msg.startsWith('a replica') && replica === new URL(link.url).host);
    expect(of.map(({ msg }) => msg)).toEqual(['a replica is left out of inserts', 'a replica takes inserts again']);
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
      await eventually('both are read-only', async () => (await up()).join() === '0,0', 30_000);
      const waiting = source.add(batchOf());
      for (let attempt = 0; attempt < 3; attempt += 1) {
        await expect(writer.write(waiting)).rejects.toMatchObject(
          { code: expect.stringMatching(/^(TABLE_IS_READ_ONLY|NO_ZOOKEEPER)$/), retry: 'elsewhere' });
      }
      expect(source.aside).toEqual([]);
    } finally {
      await farm.startZooKeeper();
    }
    for (let batch = 0; batch < 3; batch += 1) expect(await persist(batchOf())).toBe('written');
    await eventually('both are back', async () => (await up()).join() === '1,1', 30_000);
    await expectOnEach(4 * 400);
    const causes = lines.filter(({ msg }) => msg === 'a replica is left out of inserts');
    expect(new Set(causes.map(({ replica }) => replica))).toEqual(new Set(farm.hosts.map(({ name }) => name)));
  });

  test('a replica without the table: the other takes the batch, and neither is left out', async () => {
    await host(1).query(`DROP TABLE ${table()}`);
    await host(1).query(`CREATE TABLE ${database}.otel_traces_local (Id UInt64) ENGINE = MergeTree ORDER BY Id`);
    const { persist, up, lines } = makeWriter();
    const faults: Fault[] = [];
    for (let batch = 0; batch < 8; batch += 1) await persist(batchOf(), faults);
    expect(faults).toEqual([]);
    await eventually('both were asked', async () => (await up()).join() === '1,1');
    expect(await countOn(host(2))).toBe('3200\t3200');
    expect(lines.filter(({ code }) => code === 'UNKNOWN_TABLE')).toHaveLength(1);
  });
});
