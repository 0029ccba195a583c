/**
 * Goal: a topology that breaks a rule is refused with all that is wrong with it; rows go to the shard that a
 * Distributed table of ClickHouse would take.
 */
import { describe, expect, test } from 'vitest';
import { ConfigurationError } from '../../src/base/errors.ts';
import { shardOf } from '../../src/topology/route.ts';
import {
  SHARDS_MAX, type Topology, checked, oneShard, problemsOf, singleServer,
} from '../../src/topology/topology.ts';
import { SHARDS_MAX as TRANSCODED_MAX } from '../../src/transcode/codes.ts';

/** A cluster of as many shards as weights are given, with `replicas` each. */
function cluster(weights: readonly number[], replicas = 2): Topology {
  const replicasOf = (shard: number) =>
    Array.from({ length: replicas }, (_, replica) => ({
      shard, replica, url: `http://s${shard}r${replica}:8123`, host: `s${shard}r${replica}:8123`,
    }));
  const shards = weights.map((weight, shard) => ({ shard, weight, name: `0${shard + 1}`, replicas: replicasOf(shard) }));
  return { cluster: 'c', shards };
}

describe('topology', () => {
  test('one server', () => {
    const url = 'http://user:secret@host:8123';
    expect(singleServer(url)).toEqual({
      cluster: '',
      shards: [{ shard: 0, weight: 1, name: '', replicas: [{ shard: 0, replica: 0, url, host: 'host:8123' }] }],
    });
  });

  test('several URLs are replicas of one shard, in order', () => {
    const { shards } = oneShard(['http://a', 'https://b', 'http://c:1']);
    expect(shards.map((shard) => shard.replicas.map(({ replica, host }) => [replica, host]))).toEqual([
      [[0, 'a:80'], [1, 'b:443'], [2, 'c:1']],
    ]);
  });

  test('as many shards as the transcoder can share rows out over', () => {
    expect(SHARDS_MAX).toBe(TRANSCODED_MAX);
  });

  test('the same server twice is refused, whatever its users', () => {
    expect(() => oneShard(['http://u:secret@a:1', 'http://a:1'])).toThrow(ConfigurationError);
    expect(() => oneShard(['http://u:secret@a:1', 'http://a:1'])).toThrow(
      'the ClickHouse servers: a:1 is replica 0 of shard 0 and replica 1 of shard 0');
  });

  test('no URL at all is refused', () => {
    expect(() => oneShard([])).toThrow('the ClickHouse servers: shard 0 has no replica');
  });

  const good = cluster([1, 2]);
  const [first, second] = good.shards;
  if (first === undefined || second === undefined) throw new Error('two shards');
  const sameServers = { ...second, replicas: first.replicas.map((replica) => ({ ...replica, shard: 1 })) };
  test.each<[string, Topology['shards'], string[]]>([
    ['good', good.shards, []],
    ['a shard of weight 0 beside another', cluster([0, 1]).shards, []],
    ['nothing', [], ['there is no shard']],
    ['all weights 0', cluster([0, 0]).shards, ['every shard has weight 0']],
    ['as many shards as can be', cluster(Array(SHARDS_MAX).fill(1)).shards, []],
    ['one more', cluster(Array(SHARDS_MAX + 1).fill(1)).shards, ['129 shards, at most 128 can be used']],
    ['the largest weights', cluster([2 ** 32 - 2, 1]).shards, []],
    ['larger ones', cluster([2 ** 32 - 1, 1]).shards,
      ['the weights add up to 4294967296, at most 4294967295 can']],
    ['a weight below 0', cluster([1, -1]).shards, ['shard 1 has weight -1, wanted is a whole number from 0']],
    ['half a weight', cluster([0.5]).shards, ['shard 0 has weight 0.5, wanted is a whole number from 0']],
    ['no replicas', cluster([1], 0).shards, ['shard 0 has no replica']],
    ['a hole in the numbers', [{ ...first, replicas: second.replicas }], [
      'replica 0 of shard 0 calls itself replica 0 of shard 1',
      'replica 1 of shard 0 calls itself replica 1 of shard 1',
    ]],
    ['shards from 1', [{ ...first, shard: 1 }], ['shard 1 stands at position 0']],
    ['two shards on the same servers', [first, sameServers], [
      's0r0:8123 is replica 0 of shard 0 and replica 0 of shard 1',
      's0r1:8123 is replica 1 of shard 0 and replica 1 of shard 1',
    ]],
  ])('%s', (_, shards, problems) => {
    expect(problemsOf({ cluster: 'c', shards })).toEqual(problems);
  });

  test('everything that is wrong is said at once', () => {
    const all = /the cluster "c": .*shard 0.*; .*shard 0.*; .*shard 1/;
    expect(() => checked(cluster([-1, -2], 0))).toThrow(all);
  });
});

describe('route', () => {
  test('one shard takes everything', () => {
    const single = singleServer('http://h');
    for (const hash of [0, 1, 41, Number.MAX_SAFE_INTEGER]) expect(shardOf(single, hash)).toBe(0);
  });

  test('the remainder of the hash falls into the interval of a shard', () => {
    const weighted = cluster([9, 10, 0, 1]);
    const edges: [number, number][] = [[0, 0], [8, 0], [9, 1], [18, 1], [19, 3], [20, 0], [39, 3]];
    for (const [hash, shard] of edges) expect([hash, shardOf(weighted, hash)]).toEqual([hash, shard]);
  });

  test.each([-1, 1.5, NaN, 2 ** 53])('%s is no hash', (hash) => {
    expect(() => shardOf(singleServer('http://h'), hash)).toThrow(/assertion failed/);
  });
});
