/**
 * Goal: whatever a retry's recognition depends on is sent to every server that knows it, and to no other.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import { type ServerInfo, close, createClickHouse, probe } from '../../src/clickhouse/client.ts';
import {
  type Quorum, insertSettings, lackingForExactlyOnce, quorumSettings, tokenSetting,
} from '../../src/clickhouse/insert-settings.ts';
import { silent, useClickHouse } from '../support/services.ts';

const clickhouse = useClickHouse();
let info: ServerInfo;

beforeAll(async () => {
  const server = createClickHouse(clickhouse.url, { insertTimeoutMs: 60_000, queryTimeoutMs: 60_000 }, silent);
  info = await probe(server);
  await close(server);
});

/** A server that knows only these. */
function knowing(...names: string[]): ServerInfo {
  return {
    version: { major: 1, minor: 0, patch: 0 }, timezone: 'UTC',
    hasSetting: (name) => names.includes(name), hasMergeTreeSetting: () => false,
  };
}

const everything: ServerInfo = { ...knowing(), hasSetting: () => true };

describe('the current server', () => {
  test('knows every name in the list', () => {
    expect(insertSettings(info, 7)).toEqual(insertSettings(everything, 7));
    expect(lackingForExactlyOnce(info)).toEqual([]);
  });

  test('takes them all, and none is obsolete', async () => {
    const settings = insertSettings(info, 7);
    const params = Object.fromEntries(Object.entries(settings).map(([name, value]) => [name, String(value)]));
    const names = Object.keys(settings).filter((name) => name !== 'wait_end_of_query');
    const rows = await clickhouse.query(
      `SELECT name, value FROM system.settings WHERE name IN ('${names.join("','")}')
       AND NOT is_obsolete FORMAT JSONCompactEachRow`, params);
    const pairs = rows.trim().split('\n').map((line) => JSON.parse(line) as [string, string]);
    const { wait_end_of_query: _, ...sent } = params;
    expect(Object.fromEntries(pairs)).toEqual(sent);
  });

  test('what deduplication stands on', () => {
    expect(insertSettings(info, 7)).toMatchObject({
      insert_deduplicate: 1, deduplicate_insert: 'enable',
      deduplicate_blocks_in_dependent_materialized_views: 1, async_insert: 0, max_insert_threads: 1, max_partitions_per_insert_block: 7, wait_end_of_query: 1,
    });
    expect(tokenSetting(info, 'batch-1')).toEqual({ insert_deduplication_token: 'batch-1' });
  });
});

describe('quorum', () => {
  const timeouts = { insert_quorum_timeout: 60_000, insert_quorum_parallel: 1 };
  const bounded = { ...timeouts, insert_quorum_timeout: 15_000 };
  test.each<[Quorum['insertQuorum'], number, number, object]>([
    [0, 3, 3, {}],
    [1, 3, 3, {}],
    [2, 3, 3, { insert_quorum: 2, ...timeouts }],
    // Fewer are up, or there are fewer: the server says so (285), and the batch waits.
    [2, 2, 1, { insert_quorum: 2, ...timeouts }],
    [3, 2, 2, { insert_quorum: 3, ...timeouts }],
    ['auto', 1, 1, {}],
    ['auto', 2, 2, { insert_quorum: 2, ...timeouts }],
    ['auto', 2, 1, { insert_quorum: 2, ...timeouts }],
    ['auto', 3, 3, { insert_quorum: 2, ...timeouts }],
    ['auto', 4, 4, { insert_quorum: 3, ...timeouts }],
    ['auto', 5, 0, { insert_quorum: 3, ...timeouts }],
    ['live', 1, 1, {}],
    ['live', 2, 2, { insert_quorum: 2, ...bounded }],
    ['live', 2, 1, {}],
    ['live', 2, 0, {}],
    ['live', 3, 3, { insert_quorum: 2, ...bounded }],
    ['live', 3, 2, { insert_quorum: 2, ...bounded }],
    ['live', 3, 1, {}],
    ['live', 4, 4, { insert_quorum: 3, ...bounded }],
    ['live', 4, 2, { insert_quorum: 2, ...bounded }],
    ['live', 5, 4, { insert_quorum: 3, ...bounded }],
  ])('%s of %i replicas, %i of them up', (insertQuorum, replicas, live, sent) => {
    expect(quorumSettings(info, { insertQuorum, insertTimeoutMs: 120_000 }, { replicas, live })).toEqual(sent);
  });

  test('its time is never more than half of what the insert has', () => {
    const quorum = { insertQuorum: 'live', insertTimeoutMs: 6_000 } as const;
    expect(quorumSettings(info, quorum, { replicas: 2, live: 2 })).toMatchObject({ insert_quorum_timeout: 3_000 });
  });

  test('a server that takes one at a time is not asked for parallel ones', () => {
    const old = knowing('insert_quorum', 'insert_quorum_timeout');
    expect(quorumSettings(old, { insertQuorum: 2, insertTimeoutMs: 10_001 }, { replicas: 2, live: 2 })).toEqual(
      { insert_quorum: 2, insert_quorum_timeout: 5_000 });
  });
});

describe('an older server', () => {
  test('is sent what it knows', () => {
    const old = knowing('insert_deduplicate', 'max_insert_block_size');
    expect(insertSettings(old, 7)).toEqual({
      insert_deduplicate: 1, max_insert_block_size: 1_048_449, wait_end_of_query: 1,
    });
    expect(tokenSetting(old, 'batch-1')).toEqual({});
  });

  test('says what it lacks for storing a retry once', () => {
    expect(lackingForExactlyOnce(knowing('insert_deduplicate'))).toEqual([
      'insert_deduplication_token', 'deduplicate_blocks_in_dependent_materialized_views',
    ]);
  });
});
