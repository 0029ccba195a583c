/** Goal: the queue's own bound is what Redis has room for, also where shards lie on several masters. */
import { expect, it } from 'vitest';
import { queueBytesMax } from '../../src/app/redis.ts';
import type { RedisFacts } from '../../src/redis/check.ts';

const master = (node: string, maxmemoryBytes: number): RedisFacts => ({
  node,
  version: '7.0.15',
  role: 'master',
  maxmemoryBytes,
  usedMemoryBytes: 0,
  maxmemoryPolicy: 'noeviction',
  appendonly: true,
  appendfsync: 'everysec',
  replicas: 0,
  clusterState: undefined,
});
const THREE = [master('a', 1_000), master('b', 2_000), master('c', 3_000)];

it.each([
  ['what is set, whatever Redis has', 77, THREE, ['a'], 77],
  ['80 % of its memory', 'auto', [master('a', 1_000)], [], 800],
  ['1 GiB where no bound is set', 'auto', [master('a', 0)], [], 2 ** 30],
  ['1 GiB where none is set in a cluster', 'auto', [master('a', 0), master('b', 0)], ['a', 'b'], 2 ** 30],
  ['the smallest master, while homes are unknown', 'auto', THREE, [], 800],
  ['the smallest master, after a failover to one that was not looked at', 'auto', THREE, ['a', 'd'], 800],
  ['the smallest master, while a home is unknown', 'auto', THREE, ['a', undefined], 800],
  ['the master of the only shard', 'auto', THREE, ['c'], 2_400],
  ['as much as the shards take until the first master is full', 'auto', THREE, ['a', 'b', 'c'], 2_400],
  ['the same with two shards on one of them', 'auto', THREE, ['b', 'c', 'c'], 3_600],
  ['masters with a bound, where some have none', 'auto', [master('a', 0), master('b', 10)], ['a', 'b'], 16],
] as const)('%s', (_, setting, masters, homes, bytes) => {
  expect(queueBytesMax(setting, masters, homes)).toBe(bytes);
});
