/**
 * Goal: `sluice topology show | check` from outside: a table for people and JSON for programs, a sentence for
 * each fault, exit codes 0 and 3, and no password anywhere.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadSettings } from '../../src/config/load.ts';
import { withTopology } from '../../src/app/topology.ts';
import { run } from '../support/program.ts';
import { silent } from '../support/services.ts';
import { type Shards, startShards } from '../support/shards.ts';

let shards: Shards;
beforeAll(async () => {
  shards = await startShards(2);
});
afterAll(() => shards?.stop());

const environment = (extra: Record<string, string> = {}) => ({
  NODE_OPTIONS: '', SLUICE_CLICKHOUSE_URL: shards.urls, SLUICE_CLICKHOUSE_CLUSTER: 'main', ...extra,
});

test('a good cluster: 0, one line; the table has a row for each host', async () => {
  const [check, show] = await Promise.all([
    run(['topology', 'check'], environment()), run(['topology', 'show'], environment()),
  ]);
  expect([check.code, check.stdout]).toEqual([
    0, 'no faults: cluster "main", 2 shards x 1 replica, tables without replication, 2 of 2 hosts answer\n',
  ]);
  const [summary, head, ...rows] = show.stdout.trimEnd().split('\n');
  expect(show.code).toBe(0);
  expect(summary).toContain('2 shards x 1 replica');
  expect(head).toMatch(/^shard +replica +weight +in system\.clusters +URL +version +state +macros +Keeper +clock +free$/);
  expect(rows).toHaveLength(2);
  for (const [index, row] of rows.entries()) {
    const { tcpPort, url } = shards.servers[index] ?? { tcpPort: 0, url: '' };
    expect(row).toMatch(new RegExp(`^${index} +0 +1 +127.0.0.1:${tcpPort} +${url} +26\\S+ +up +replica=r1 shard=0`));
  }
});

test('faults: 3, a sentence for each, the same as JSON, without passwords', async () => {
  const [first, second] = shards.servers;
  const wrong = second?.url.replace('http://', 'http://default:secret-word@');
  const bad = environment({
    SLUICE_CLICKHOUSE_URL: `${first?.url},${wrong}`, SLUICE_CLICKHOUSE_EXPECT_SHARDS: '3',
  });
  const [check, json, show] = await Promise.all([
    run(['topology', 'check'], bad), run(['topology', 'check', '--json'], bad), run(['topology', 'show'], bad),
  ]);
  const lines = check.stdout.trimEnd().split('\n');
  expect([check.code, lines.length]).toEqual([3, 3]);
  expect(lines[0]).toMatch(/^error {2}shards_unexpected {2}the cluster "main" has 2 shards, but SLUICE_CLICKHOUSE_EXPECT/);
  expect(lines[1]).toMatch(/^warning {2}credentials_refused {2}.*: mend them for this host/);
  expect(lines[2]).toBe('2 faults: cluster "main" can\'t be used as it is, 1 of 2 hosts answer');
  const data = JSON.parse(json.stdout) as { usable: boolean; faults: { code: string }[]; hosts: { url: string }[] };
  expect([json.code, data.usable, data.faults.map(({ code }) => code)]).toEqual([
    3, false, ['shards_unexpected', 'credentials_refused'],
  ]);
  expect(data.hosts.map(({ url }) => url)).toEqual([first?.url, wrong?.replace('secret-word', '***')]);
  expect(show.code).toBe(0);
  expect(show.stdout).toMatch(/ - +(AUTHENTICATION_FAILED|REQUIRED_PASSWORD) +- /);
  for (const { stdout, stderr } of [check, json, show]) expect(stdout + stderr).not.toContain('secret-word');
});

test('what a body throws goes through, and the connections are closed', async () => {
  const { settings } = loadSettings(environment());
  const shape = await withTopology(settings, silent, async ({ topology }) => topology?.shards.length);
  expect(shape).toBe(2);
  await expect(withTopology(settings, silent, () => Promise.reject(new Error('mine')))).rejects.toThrow('mine');
});
