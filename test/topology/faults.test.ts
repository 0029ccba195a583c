/**
 * Goal: every fault of the list is found from what hosts say, with a sentence that has the values and what to
 * do; what is right gives none; the list and docs/topology.md agree, both ways.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { Definition, Member } from '../../src/topology/definition.ts';
import { differencesOf, shapeOf } from '../../src/topology/definition.ts';
import { FAULTS, type FaultCode, type TopologyFault, counts, isError } from '../../src/topology/faults.ts';
import type { HostFacts, ReachableHost, UnreachableHost } from '../../src/topology/host-report.ts';
import { agree, judgeIgnorance, judgeShape } from '../../src/topology/judge-cluster.ts';
import { judgeHosts, judgeReach } from '../../src/topology/judge-hosts.ts';
import { judgeInternalReplication, judgeMacros, judgeReplication } from '../../src/topology/judge-replication.ts';
import { shardNamesMoved, shardsMoved } from '../../src/topology/moves.ts';
import type { Topology } from '../../src/topology/topology.ts';

const GIB = 2 ** 30;

function member(shardNum: number, replicaNum: number, change: Partial<Member> = {}): Member {
  return {
    shardNum, replicaNum, host: `ch${shardNum}${replicaNum}`, port: 9000, weight: 1, internalReplication: true,
    isLocal: false, ...change,
  };
}

const DEFINITION: Definition = [member(1, 1), member(1, 2), member(2, 1), member(2, 2)];

const FACTS: HostFacts = {
  identity: { hostName: 'ch', dataPath: '/data', uuid: undefined, tcpPort: 9000 },
  balanced: false,
  version: '26.7.2.1',
  timezone: 'UTC',
  uptimeSeconds: 100,
  clockSkewMs: 0,
  clockErrorMs: 5,
  macros: {},
  keeper: { state: 'reachable', fingerprint: '2 2026', session: undefined },
  databases: ['default', 'system'],
  tables: [],
  readOnlyTables: [],
  disks: [{ name: 'default', freeBytes: 50 * GIB, totalBytes: 100 * GIB }],
  clusters: ['main'],
  definition: DEFINITION,
  definitionTrouble: undefined,
  unreadable: [],
};

function host(shard: number, replica: number, change: Partial<HostFacts> = {}): ReachableHost {
  const name = `ch${shard + 1}${replica + 1}`;
  return {
    reachable: true, host: `${name}:8123`, url: `http://${name}:8123`, address: `${name}:9000`, weight: 1,
    member: { shard, replica }, ...FACTS, macros: { shard: `0${shard + 1}`, replica: `r${replica + 1}` }, ...change,
  };
}

function away(code: string, why: string): UnreachableHost {
  return {
    reachable: false, host: 'ch11:8123', url: 'http://ch11:8123', address: 'ch11:9000', weight: 1,
    member: { shard: 0, replica: 0 }, code, why,
  };
}

const voice = (name: string, change: Partial<HostFacts> = {}) => ({ host: name, facts: { ...FACTS, ...change } });
const hosts = (change: Partial<HostFacts> = {}, of: Partial<HostFacts> = {}) =>
  [host(0, 0, of), host(0, 1), host(1, 0), host(1, 1, change)];
const replication = (mode: 'auto' | 'on' | 'off', members: ReachableHost[], several = true) =>
  judgeReplication({ cluster: 'main', replication: mode }, several, members);
const expecting = (shards: number, replicas: number) => ({ cluster: 'main', expect: { shards, replicas } });
const without = (table: Definition, ...names: string[]) => table.filter((one) => !names.includes(one.host));
const NO_KEEPER = { keeper: { state: 'none', fingerprint: undefined, session: undefined } } as const;

type Row = readonly [code: FaultCode, what: string, faults: () => readonly TopologyFault[], words: RegExp];

const ROWS: readonly Row[] = [
  ['cluster_unknown', 'another name', () => agree('mian', [voice('a', { definition: undefined })]).faults,
    /no host knows a cluster "mian" .*they know main; did you mean "main"\?/],
  ['cluster_unknown', 'no cluster at all',
    () => agree('main', [voice('a', { definition: undefined, clusters: [] })]).faults, /they know none\. Name one/],
  ['definition_differs', 'another port',
    () => agree('main', [voice('a'), voice('b'), voice('c', { definition: [member(1, 1, { port: 1 }), ...DEFINITION.slice(1)] })]).faults,
    /a and b say 2 shards x 2 replicas; c says 2 .*; shard_num 1, replica_num 1 is ch11:9000 or ch11:1\. Give all/],
  ['definition_differs', 'a replica less',
    () => agree('main', [voice('a'), voice('b', { definition: without(DEFINITION, 'ch22') })]).faults,
    /b says 2 shards with 2, 1 replicas; shard_num 2, replica_num 2 is ch22:9000 or missing/],
  ['definition_differs', 'a member that does not know its cluster',
    () => judgeIgnorance('main', hosts({ definition: undefined })), /^ch22:8123 belongs to the cluster "main"/],
  ['definition_unreadable', 'its own trouble',
    () => agree('main', [voice('a'), voice('b', { definition: undefined, definitionTrouble: { code: 'DNS_ERROR', message: 'no ch9' } })]).faults,
    /^b can't use its <remote_servers>.*a name in it does not resolve there: no ch9\. Mend it, or DNS/],
  ['two_sets_of_hosts', 'not one in both',
    () => agree('main', [voice('a'), voice('b', { definition: [member(1, 1, { host: 'new' })] })]).faults,
    /two sets of hosts go by the name "main": a know ch11:9000, .* and ch22:9000; b know new:9000; not one/],
  ['shards_unexpected', 'fewer', () => judgeShape(expecting(3, 0), [2, 2], [1, 1]),
    /the cluster "main" has 2 shards, but SLUICE_CLICKHOUSE_EXPECT_SHARDS is 3/],
  ['shards_unexpected', 'no cluster', () => judgeShape({ ...expecting(2, 1), cluster: '' }, [1], [1]),
    /SLUICE_CLICKHOUSE_CLUSTER is empty/],
  ['replicas_unexpected', 'one shard', () => judgeShape(expecting(2, 2), [2, 1], [1, 1]),
    /is 1 in shard_num 2, but SLUICE_CLICKHOUSE_EXPECT_REPLICAS is 2/],
  ['too_large', 'shards', () => judgeShape(expecting(0, 0), Array(129).fill(1), Array(129).fill(1)), /has 129 shards .* at most 128 and/],
  ['too_large', 'weights', () => judgeShape(expecting(0, 0), [1, 1], [2 ** 32 - 1, 1]), /add up to 4294967296; at most/],
  ['weights_all_zero', 'all', () => judgeShape(expecting(0, 0), [1, 1], [0, 0]), /every shard of the cluster "main" has weight 0/],
  ['shard_names_moved', 'the first is gone', () => [shardNamesMoved(['01', '02'], ['02'])].flatMap((one) => one ?? []),
    /shard_num 1 was "01" and is now "02".*new ones come last/],
  ['macro_missing', 'one of two', () => replication('auto', hosts({ macros: { replica: 'r2' } })).faults,
    /^ch22:8123 has no macro \{shard\}, .*<macros><shard>01/],
  ['macro_missing', 'both, without replicas', () => replication('on', [host(0, 0, { macros: {} })], false).faults,
    /no macro \{shard\} and \{replica\}/],
  ['macro_doubled', 'two replicas', () => judgeMacros(hosts({ macros: { shard: '02', replica: 'r1' } })),
    /^ch21:8123 and ch22:8123 have the same macros \(\{shard\} 02, \{replica\} r1\)/],
  ['macro_disagrees', 'within a shard', () => judgeMacros(hosts({ macros: { shard: '03', replica: 'r2' } })),
    /replicas of shard_num 2 have different macros \{shard\}: ch21:8123 has 02 and ch22:8123 has 03/],
  ['macro_disagrees', 'between shards', () => judgeMacros([host(0, 0), host(1, 0, { macros: { shard: '01', replica: 'r9' } })]),
    /hosts of shard_num 1 and 2 have the same macro \{shard\} 01 \(ch11:8123 and ch21:8123\)/],
  ['keeper_missing', 'one host', () => replication('auto', hosts(NO_KEEPER)).faults, /^ch22:8123 has no Keeper/],
  ['keeper_missing', 'wanted by the setting', () => replication('on', [host(0, 0, NO_KEEPER)], false).faults, /^ch11:8123 has/],
  ['keeper_differs', 'another one',
    () => replication('auto', hosts({ keeper: { state: 'reachable', fingerprint: '7 2027', session: undefined } })).faults,
    /ch11:8123, ch12:8123 and ch21:8123 one, ch22:8123 another/],
  ['not_replicated', 'nobody has Keeper', () => replication('auto', [host(0, 0, NO_KEEPER), host(0, 1, NO_KEEPER)]).faults,
    /several replicas, but no host has Keeper/],
  ['replication_off', 'by the setting', () => replication('off', hosts()).faults, /SLUICE_CLICKHOUSE_REPLICATION is off/],
  ['internal_replication_off', 'a shard',
    () => judgeInternalReplication('main', DEFINITION.map((one) => ({ ...one, internalReplication: one.shardNum === 1 })), true),
    /is false for shard_num 2 of the cluster "main"/],
  ['host_unreachable', 'refused', () => judgeReach([away('ECONNREFUSED', 'no way to ch11:8123')]),
    /^no way to ch11:8123: start it, .*SLUICE_CLICKHOUSE_ADDRESSES=ch11:9000=http/],
  ['name_unresolved', 'no such name', () => judgeReach([away('ENOTFOUND', 'x')]), /the name of ch11:8123 doesn't resolve \(ENOTFOUND\)/],
  ['credentials_refused', 'password', () => judgeReach([away('AUTHENTICATION_FAILED', 'wrong password')]), /^ch11:8123 refuses user or password \(AUTHENTICATION_FAILED\): mend them/],
  ['keeper_away', 'no session', () => judgeHosts([host(0, 0, { keeper: { ...FACTS.keeper, state: 'away' } })], 'otel'),
    /ch11:8123 doesn't reach its Keeper/],
  ['replica_read_only', 'a table', () => judgeHosts([host(0, 0, { readOnlyTables: ['otel_logs'] })], 'otel'),
    /ch11:8123: otel\.otel_logs can't be written to/],
  ['grant_missing', 'a system table', () => judgeHosts([host(0, 0, { unreadable: ['system.disks'] })], 'otel'),
    /GRANT SELECT ON system\.disks TO/],
  ['version_mix', 'two years', () => judgeHosts(hosts({ version: '24.8.1' }), 'otel'), /ch22:8123 has 24\.8\.1; upgrade/],
  ['version_old', 'just below', () => judgeHosts([host(0, 0, { version: '23.7.9' })], 'otel'), /want 23\.8 or newer/],
  ['clock_skew', 'ahead', () => judgeHosts([host(0, 0, { clockSkewMs: 5_200 })], 'otel'), /is 5\.2 s ahead of this machine's \(limit 2 s\)/],
  ['clock_skew', 'behind', () => judgeHosts([host(0, 0, { clockSkewMs: -2_006 })], 'otel'), /is 2\.0 s behind/],
  ['disk_full', 'by share',
    () => judgeHosts([host(0, 0, { disks: [{ name: 'cold', freeBytes: 4.9 * GIB, totalBytes: 100 * GIB }] })], 'otel'),
    /disk "cold" has 4\.9 GiB of 100\.0 GiB free \(limit 5 % and 1\.0 GiB\)/],
  ['disk_full', 'by size',
    () => judgeHosts([host(0, 0, { disks: [{ name: 'small', freeBytes: 0.9 * GIB, totalBytes: 2 * GIB }] })], 'otel'), /"small"/],
];

/** Made where addresses are looked for: discover*.test.ts has them. */
const FOUND_ELSEWHERE: readonly FaultCode[] = [
  'no_host_answers', 'member_twice', 'several_servers_without_cluster', 'address_missing', 'address_wrong',
  'address_unused', 'host_twice', 'host_foreign', 'url_balanced',
];

describe('each fault', () => {
  test.each(ROWS)('%s: %s', (code, _, faults, words) => {
    const found = faults();
    expect(found.map((fault) => fault.code)).toEqual([code]);
    expect(found[0]?.message).toMatch(words);
    expect(found[0]?.severity).toBe(FAULTS[code]);
  });

  test('has a row, here or where addresses are looked for', () => {
    const covered = new Set([...ROWS.map(([code]) => code), ...FOUND_ELSEWHERE]);
    expect([...covered].sort()).toEqual(Object.keys(FAULTS).sort());
  });

  test('is in docs/topology.md with its severity, and nothing else is', () => {
    const page = readFileSync(new URL('../../docs/topology.md', import.meta.url), 'utf8');
    const documented = [...page.matchAll(/^\| `(\w+)` \| (\w+) \| \S.* \| \S.* \|$/gm)];
    expect(documented.map(([, code, severity]) => [code, severity]).sort()).toEqual(Object.entries(FAULTS).sort());
  });
});

describe('what is right gives no fault', () => {
  const table: [string, () => readonly TopologyFault[]][] = [
    ['one definition, said by all', () => agree('main', [voice('a'), voice('b')]).faults],
    ['a version that does not tell internal_replication',
      () => agree('main', [voice('a'), voice('b', { definition: DEFINITION.map((one) => ({ ...one, internalReplication: undefined })) })]).faults],
    ['a host that knows nothing of the cluster, before it is known to be a member',
      () => agree('main', [voice('a'), voice('b', { definition: undefined })]).faults],
    ['any number of shards and replicas', () => judgeShape(expecting(0, 0), [2, 1], [1, 0])],
    ['the expected number', () => judgeShape(expecting(2, 2), [2, 2], [1, 1])],
    ['replicas with Keeper and macros', () => [...replication('auto', hosts()).faults, ...judgeMacros(hosts())]],
    ['shards without replicas, Keeper and macros', () => replication('auto', [host(0, 0, { ...NO_KEEPER, macros: {} })], false).faults],
    ['Keeper, but no macros, without replicas', () => replication('auto', [host(0, 0, { macros: {} })], false).faults],
    ['a Keeper that nobody may look at', () => replication('auto', hosts({ keeper: { ...FACTS.keeper, state: 'unknown' } })).faults],
    ['replication switched off, without replicas', () => replication('off', [host(0, 0)], false).faults],
    ['internal_replication off, without replicated tables',
      () => judgeInternalReplication('main', [member(1, 1, { internalReplication: false }), member(1, 2)], false)],
    ['internal_replication off, one replica',
      () => judgeInternalReplication('main', [member(1, 1, { internalReplication: false })], true)],
    ['the oldest good version', () => judgeHosts([host(0, 0, { version: '23.8.1' })], 'otel')],
    ['neighbouring years', () => judgeHosts(hosts({ version: '25.3.1' }), 'otel')],
    ['a clock as far off as it may be', () => judgeHosts([host(0, 0, { clockSkewMs: 2_000, clockErrorMs: 0 })], 'otel')],
    ['a clock that may be right, for all that the way there took',
      () => judgeHosts([host(0, 0, { clockSkewMs: 2_900, clockErrorMs: 900 })], 'otel')],
    ['a disk at both bounds', () => judgeHosts([host(0, 0, { disks: [{ name: 'd', freeBytes: GIB, totalBytes: 20 * GIB }] })], 'otel')],
    ['object storage without a size', () => judgeHosts([host(0, 0, { disks: [{ name: 's3', freeBytes: 0, totalBytes: 0 }] })], 'otel')],
  ];
  test.each(table)('%s', (_, faults) => {
    expect(faults()).toEqual([]);
  });
});

describe('shards keep their positions', () => {
  test.each<[string, string[], string[], boolean]>([
    ['the same', ['01', '02'], ['01', '02'], false],
    ['one more at the end', ['01'], ['01', '02'], false],
    ['the last one gone', ['01', '02'], ['01'], false],
    ['names that were unknown', ['', '02'], ['01', '02'], false],
    ['names that are unknown now', ['01', '02'], ['', ''], false],
    ['the first one gone', ['01', '02'], ['02'], true],
    ['exchanged', ['01', '02'], ['02', '01'], true],
    ['a new one in front', ['01', '02'], ['00', '01', '02'], true],
    ['another name at the place', ['01', '02'], ['01', '03'], true],
    ['a known name at an unknown place', ['', '02'], ['02'], true],
  ])('%s', (_, before, now, moved) => {
    expect(shardNamesMoved(before, now) !== undefined).toBe(moved);
  });

  const topology = (...names: string[]): Topology => ({
    cluster: 'main',
    shards: names.map((name, shard) => ({
      shard, weight: 1, name: '', replicas: [{ shard, replica: 0, url: `http://${name}`, host: name }],
    })),
  });
  test('without names their hosts tell', () => {
    expect(shardsMoved(topology('a', 'b'), topology('a', 'b', 'c'))).toBeUndefined();
    expect(shardsMoved(topology('a', 'b'), topology('x', 'b'))).toBeUndefined();
    expect(shardsMoved(topology('a', 'b'), topology('b'))?.message).toContain('b was in shard_num 2 and is now in 1');
  });
});

test('errors are what makes a cluster unusable, notes count as nothing', () => {
  const [error] = agree('x', [voice('a', { definition: undefined })]).faults;
  const [note] = judgeHosts([host(0, 0, { version: '18.16.1' })], 'otel');
  expect([error && isError(error), note && isError(note), note && counts(note)]).toEqual([true, false, false]);
});

test('replicated engines need Keeper and both macros on every host that answers', () => {
  expect([
    replication('auto', hosts()), replication('on', [host(0, 0)], false), replication('auto', [host(0, 0)], false),
  ].map(({ replicated }) => replicated)).toEqual([true, true, true]);
  expect([
    replication('off', hosts()), replication('auto', hosts(NO_KEEPER)), replication('auto', hosts({ macros: {} })),
    judgeReplication({ cluster: '', replication: 'auto' }, false, [host(0, 0)]),
  ].map(({ replicated }) => replicated)).toEqual([false, false, false, false]);
});

test('definitions in words', () => {
  expect(shapeOf(DEFINITION)).toBe('2 shards x 2 replicas');
  expect(shapeOf([member(1, 1)])).toBe('1 shard x 1 replica');
  expect(differencesOf(DEFINITION, DEFINITION.map((one) => ({ ...one, isLocal: true })))).toEqual([]);
  const other = DEFINITION.map((one) => ({ ...one, weight: one.shardNum, internalReplication: false }));
  expect(differencesOf(DEFINITION, other)).toEqual([
    'internal_replication of shard_num 1 is true or false', 'shard_num 2 has weight 1 or 2',
    'internal_replication of shard_num 2 is true or false',
  ]);
});
