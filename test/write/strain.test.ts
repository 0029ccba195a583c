/**
 * Goal: what real servers run short of becomes readings at the right edges: parts against the table's own bound, disk,
 * replication; and a server that is away, old, or may not be asked gives none and is never a reason.
 */
import { afterEach, describe, expect, test } from 'vitest';
import { createClickHouse } from '../../src/clickhouse/client.ts';
import { oneShard } from '../../src/topology/topology.ts';
import { type HostStrain, Strain, type StrainReading, judgeStrain } from '../../src/write/strain.ts';
import { useFarm } from '../support/farm.ts';
import { eventually, freePort, silent, useClickHouse } from '../support/services.ts';
import { settingsOf } from '../support/settings.ts';

const USERS_XML = `<some><password>some</password><networks><ip>127.0.0.1</ip></networks><profile>default</profile>
  <quota>default</quota><grants><query>GRANT SELECT ON default.*</query><query>GRANT SELECT ON system.parts</query>
  <query>GRANT SELECT ON system.disks</query></grants></some>`;
const clickhouse = useClickHouse({ usersXml: USERS_XML });
const { clickhouse: CLICKHOUSE, pressure: BOUNDS } = settingsOf();
const running: Strain[] = [];

interface Asked {
  readonly bounds?: Partial<typeof BOUNDS>;
  readonly tables?: readonly string[];
}

function ask(urls: readonly string[], { bounds, tables = ['spans'] }: Asked = {}): Strain {
  const topology = urls.length === 0 ? undefined : oneShard(urls);
  const strain = new Strain({
    topology: () => topology,
    connect: (url, max) => createClickHouse(url, CLICKHOUSE, silent, max),
    database: 'default',
    tables,
    bounds: () => ({ ...BOUNDS, ...bounds }),
    logger: silent,
    everyMs: 50,
  });
  running.push(strain);
  strain.start();
  return strain;
}

afterEach(async () => {
  for (const strain of running.splice(0)) await strain.stop();
});

const of = (strain: Strain, reason: StrainReading['reason']) =>
  strain.readings.find((reading) => reading.reason === reason);

async function makeTable(name: string, settings = ''): Promise<void> {
  await clickhouse.query(`CREATE OR REPLACE TABLE ${name} (Day UInt8, Id UInt64) ENGINE = MergeTree
    PARTITION BY Day ORDER BY Id ${settings}`);
  await clickhouse.query(`SYSTEM STOP MERGES ${name}`);
}

async function insert(table: string, day: number, times: number): Promise<void> {
  for (let i = 0; i < times; i++) await clickhouse.query(`INSERT INTO ${table} VALUES (${day}, ${i})`);
}

describe('parts', () => {
  test('of the fullest partition, against what the server allows; merged, they are fewer', async () => {
    await makeTable('spans');
    await insert('spans', 1, 3);
    await insert('spans', 2, 5);
    const [row] = await clickhouse.rows<{ value: string }>(
      `SELECT value FROM system.merge_tree_settings WHERE name = 'parts_to_delay_insert'`,
    );
    const limit = (Number(row?.value) * BOUNDS.partsPercentMax) / 100;
    const strain = ask([clickhouse.url]);
    await eventually('a reading', () => of(strain, 'clickhouse_parts')?.value === 5);
    expect(of(strain, 'clickhouse_parts')).toEqual({
      reason: 'clickhouse_parts', value: 5, limit, ratio: 5 / limit,
    });
    await clickhouse.query('SYSTEM START MERGES spans');
    await clickhouse.query('OPTIMIZE TABLE spans FINAL');
    await eventually('fewer', () => of(strain, 'clickhouse_parts')?.value === 1);
  });

  test('the table\'s own bound, and the table that is closest to its own', async () => {
    await makeTable('spans');
    await insert('spans', 1, 8);
    await makeTable('logs', 'SETTINGS parts_to_delay_insert = 10, old_parts_lifetime = 7');
    await insert('logs', 1, 4);
    const strain = ask([clickhouse.url], { tables: ['spans', 'logs'], bounds: { partsPercentMax: 50 } });
    await eventually('a reading', () => of(strain, 'clickhouse_parts')?.value === 4);
    expect(of(strain, 'clickhouse_parts')).toMatchObject({ limit: 5, ratio: 0.8 });
    await insert('logs', 1, 1);
    await eventually('at the limit', () => of(strain, 'clickhouse_parts')?.ratio === 1);
  });

  test('other tables are none of ours', async () => {
    await makeTable('spans');
    await makeTable('others', 'SETTINGS parts_to_delay_insert = 2');
    await insert('others', 1, 2);
    const strain = ask([clickhouse.url]);
    await eventually('a round', () => of(strain, 'clickhouse_disk'));
    expect(of(strain, 'clickhouse_parts')).toBeUndefined();
  });
});

test('free disk, unless it is off', async () => {
  const strain = ask([clickhouse.url], { bounds: { diskFreePercentMin: 99 } });
  const reading = await eventually('a reading', () => of(strain, 'clickhouse_disk'));
  expect(reading.limit).toBe(99);
  expect(reading.value).toBeGreaterThan(0);
  expect(reading.ratio).toBeCloseTo(99 / reading.value, 5);
  await makeTable('spans');
  await insert('spans', 1, 1);
  const off = ask([clickhouse.url], { bounds: { diskFreePercentMin: 0 } });
  await eventually('a round', () => of(off, 'clickhouse_parts'));
  expect(of(off, 'clickhouse_disk')).toBeUndefined();
});

test('nobody there, nobody known, nothing found: no reading, and it stops at once', async () => {
  const away = ask([`http://127.0.0.1:${await freePort()}`]);
  const unknown = ask([]);
  const empty = ask([clickhouse.url], { tables: ['nothing_here'] });
  await eventually('a round', () => of(empty, 'clickhouse_disk'));
  expect(away.readings).toEqual([]);
  expect(unknown.readings).toEqual([]);
  expect(empty.readings.map(({ reason }) => reason)).toEqual(['clickhouse_disk']);
});

test('one replica that is away doesn\'t keep the others from answering', async () => {
  await makeTable('spans', 'SETTINGS parts_to_delay_insert = 10');
  await insert('spans', 1, 9);
  const strain = ask([`http://127.0.0.1:${await freePort()}`, clickhouse.url]);
  await eventually('a reading', () => of(strain, 'clickhouse_parts')?.ratio === 1);
});

test('who may ask only some of it gets only some of it', async () => {
  await makeTable('spans', 'SETTINGS parts_to_delay_insert = 10');
  await insert('spans', 1, 3);
  const strain = ask([clickhouse.url.replace('//', '//some:some@')]);
  await eventually('a reading', () => of(strain, 'clickhouse_disk'));
  // Its tables are seen by who may read them; what the server allows otherwise isn't needed then.
  expect(of(strain, 'clickhouse_parts')).toMatchObject({ value: 3, limit: 9 });
});

describe('ClickHouse 18.16', () => {
  const farm = useFarm({ shards: 1, replicas: 1 });
  test('has no disks in its tables, and tells the rest', async () => {
    const [host] = farm.hosts;
    if (host === undefined) throw new Error('the farm has a host');
    await host.query(`CREATE TABLE spans (Day UInt8, Id UInt64) ENGINE = MergeTree PARTITION BY Day ORDER BY Id
      SETTINGS parts_to_delay_insert = 10`);
    for (let i = 0; i < 3; i++) await host.query(`INSERT INTO spans VALUES (1, ${i})`);
    const strain = ask([host.url], { bounds: { replicaDelaySecondsMax: 10 } });
    await eventually('a reading', () => of(strain, 'clickhouse_parts'));
    expect(strain.readings).toMatchObject([{ reason: 'clickhouse_parts', limit: 9 }]);
  });
});

describe('the judgement', () => {
  const host = (changes: Partial<HostStrain> = {}): HostStrain => ({
    parts: undefined, delaySeconds: undefined, diskFree: undefined, ...changes,
  });
  const bounds = { partsPercentMax: 100, replicaDelaySecondsMax: 100, diskFreePercentMin: 10 };
  const behind = (...delays: (number | undefined)[]) => delays.map((delaySeconds) => host({ delaySeconds }));
  const ratio = (shards: readonly (readonly HostStrain[])[]) => judgeStrain(shards, bounds).map((one) => one.ratio);

  test.each<[string, (readonly HostStrain[])[], number[]]>([
    ['no replication', [behind(undefined)], []],
    ['one replica alone', [behind(500)], []],
    ['one of two is behind', [behind(0, 99)], [0.99]],
    ['both are', [behind(100, 300)], [3]],
    ['all of three but one', [behind(0, 150, 100)], [1]],
    ['one of three', [behind(0, 0, 900)], [0]],
    ['the worse of two shards', [behind(0, 10), behind(0, 20)], [0.2]],
  ])('replication: %s', (_, shards, wanted) => {
    expect(ratio(shards)).toEqual(wanted);
  });

  test('disk and parts: a shard is as well off as its best replica, all together as the worst shard', () => {
    const disk = (diskFree: number) => host({ diskFree });
    expect(ratio([[disk(0.01), disk(0.4)], [disk(0.2)]])).toEqual([0.5]);
    expect(ratio([[disk(0)]])).toEqual([1_000]);
    const parts = (count: number) => host({ parts: { count, delayFrom: 100 } });
    expect(ratio([[parts(90), parts(10)], [parts(40)]])).toEqual([0.4]);
    expect(ratio([[], []])).toEqual([]);
  });

  test('0 is off', () => {
    const off = { ...bounds, replicaDelaySecondsMax: 0, diskFreePercentMin: 0 };
    expect(judgeStrain([behind(1e6, 1e6), [host({ diskFree: 0 })]], off)).toEqual([]);
  });
});
