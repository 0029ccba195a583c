/**
 * Goal: what counts as written is on as many replicas as were asked for, or as are up; a quorum that is
 * missed loses nothing and stores nothing twice; and with a replica away a shard waits, or goes on alone.
 */
import { describe, expect, test } from 'vitest';
import type { Fault } from '../../src/base/errors.ts';
import { eventually } from '../support/services.ts';
import {
  STORY_MS_MAX, batchOf, countOn, database, expectOnEach, farm, host, makeWriter, table,
} from './replicas.ts';

/** That the host is gone is noticed when its session ends. */
async function noticed(): Promise<void> {
  const path = `/clickhouse/tables/01/${database}/leader_election`;
  await eventually('ZooKeeper has noticed it', async () =>
    (await host(1).query(`SELECT count() FROM system.zookeeper WHERE path = '${path}'`)).trim() === '1', 30_000);
}

describe('quorum', { timeout: STORY_MS_MAX }, () => {
  test.each([2, 'auto', 'live'] as const)('%s: what counts as written is on both replicas', async (insertQuorum) => {
    const { persist, up } = makeWriter({ insertQuorum });
    await eventually('both were asked', async () => (await up()).join() === '1,1');
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
    await eventually('one is up', async () => (await up()).join() === '1,0');
    await host(2).start();
    expect(await persist(batch)).toBe('written');
    for (const each of farm.hosts) expect(await countOn(each)).toBe('800\t800');
  });

  test('missed after the rows were written: nobody says written before it is met', async () => {
    const { persist, source, lines } = makeWriter({ insertQuorum: 2, insertTimeoutMs: 4_000 });
    await persist(batchOf());
    // Both are there, so the insert starts; but neither gets what the other has, so it waits in vain.
    const tellBoth = async (what: string) => {
      for (const each of farm.hosts) await each.query(`SYSTEM ${what} FETCHES ${table()}`);
    };
    await tellBoth('STOP');
    const written = persist(batchOf());
    const isUnknown = () => lines.some(({ code }) => code === 'UNKNOWN_STATUS_OF_INSERT');
    await eventually('the status is unknown', isUnknown, 30_000);
    expect((await Promise.all(farm.hosts.map(countOn))).sort()).toEqual(['400\t400', '800\t800']);
    expect(source.finished).toHaveLength(1);
    await tellBoth('START');
    expect(await written).toBe('written');
    for (const each of farm.hosts) expect(await countOn(each)).toBe('800\t800');
  });
});

describe('a quorum of those that are up', { timeout: STORY_MS_MAX }, () => {
  test('one is killed mid-insert: the other goes on alone, and not when the first is back', async () => {
    const { persist, source, up } = makeWriter({ insertQuorum: 'live', insertTimeoutMs: 4_000 });
    await persist(batchOf());
    let killed = false;
    source.before = async (index) => {
      if (index !== 20 || killed) return;
      killed = true;
      await host(1).stop('SIGKILL');
    };
    expect(await persist(batchOf(40))).toBe('written');
    source.before = () => {};
    await eventually('it is left out', async () => (await up()).join() === '0,1');
    const faults: Fault[] = [];
    for (let batch = 0; batch < 5; batch += 1) await persist(batchOf(), faults);
    expect(faults).toEqual([]);
    expect(await countOn(host(2))).toBe('6400\t6400');
    await host(1).start();
    await eventually('it is back', async () => (await up()).join() === '1,1');
    await expectOnEach(6_400);
    let rows = 6_400;
    const onBothAtOnce = async () => {
      await persist(batchOf());
      rows += 400;
      return (await Promise.all(farm.hosts.map(countOn))).every((count) => count === `${rows}\t${rows}`);
    };
    // Back is one that is a few seconds behind, too: it counts for the quorum from the check after that.
    await eventually('inserts wait for both again', onBothAtOnce, 30_000);
    for (let batch = 0; batch < 3; batch += 1) expect(await onBothAtOnce()).toBe(true);
  });

  test('one is killed, and nobody has noticed: the quorum that is missed says it', async () => {
    const healthCheckMs = 3_600_000;
    const { persist, up } = makeWriter({ insertQuorum: 'live', insertTimeoutMs: 4_000, healthCheckMs });
    await persist(batchOf());
    await eventually('both were asked', async () => (await up()).join() === '1,1');
    await host(2).stop('SIGKILL');
    // The first of them learns it, the others know.
    expect(await persist(batchOf())).toBe('written');
    const faults: Fault[] = [];
    for (let batch = 0; batch < 2; batch += 1) expect(await persist(batchOf(), faults)).toBe('written');
    expect(faults).toEqual([]);
    expect(await countOn(host(1))).toBe('1600\t1600');
    await host(2).start();
    await expectOnEach(1_600);
  });

  test('the only one that has the rows is gone: the token in Keeper is not taken for them', async () => {
    const { persist, source, up } = makeWriter({ insertQuorum: 'live', insertTimeoutMs: 4_000 });
    await eventually('both were asked', async () => (await up()).join() === '1,1');
    for (const each of farm.hosts) await each.query(`SYSTEM STOP FETCHES ${table()}`);
    const faults: Fault[] = [];
    const written = persist(batchOf(), faults);
    const first = await eventually('one has the rows', async () => {
      for (const each of farm.hosts) if ((await countOn(each)) === '400\t400') return each;
      return undefined;
    });
    const other = farm.hosts.find((each) => each !== first) ?? first;
    await first.stop('SIGKILL');
    const notBelieved = () => faults.some(({ code }) => code === 'quorum_pending');
    await eventually('the other is asked, and not believed', notBelieved, 30_000);
    expect([await countOn(other), source.finished]).toEqual(['0\t0', []]);
    // It finds that nobody has the part, and gives it up.
    await other.query(`SYSTEM START FETCHES ${table()}`);
    expect(await written).toBe('written');
    expect(await countOn(other)).toBe('400\t400');
    // The part that was given up is dropped by the replica that has it.
    await first.start();
    await expectOnEach(400);
  });
});
