/**
 * Shards are known by their position, in batches that wait in Redis as in the sharding of Distributed tables:
 * a definition that gives other hosts the position of a shard would send those batches to the wrong ones.
 * Pure.
 */
import { type TopologyFault, fault, listOf } from './faults.ts';
import type { Topology } from './topology.ts';

/**
 * Names by position; an empty one is unknown and fits any. A shard at the end may go, and new ones may
 * come.
 */
export function shardNamesMoved(
  before: readonly string[],
  now: readonly string[],
): TopologyFault | undefined {
  const moved = now.flatMap((name, position) => {
    const old = before[position] ?? '';
    const other = before.indexOf(name);
    const elsewhere = name !== '' && other >= 0 && other !== position && !(before[position] === name);
    return elsewhere || (name !== '' && old !== '' && name !== old) ? [{ name, old, position }] : [];
  });
  if (moved.length === 0) return undefined;
  const words = moved.map(
    ({ name, old, position }) =>
      `shard_num ${position + 1} was ${old === '' ? 'another' : `"${old}"`} and is now "${name}"`,
  );
  return refusal(listOf(words));
}

/** The same for topologies: where a shard has no name, its hosts tell. */
export function shardsMoved(before: Topology, now: Topology): TopologyFault | undefined {
  const named = shardNamesMoved(
    before.shards.map(({ name }) => name),
    now.shards.map(({ name }) => name),
  );
  if (named !== undefined) return named;
  const places = new Map(
    before.shards.flatMap(({ shard, name, replicas }) =>
      replicas.map(({ host }) => [host, { shard, name }] as const),
    ),
  );
  const moved = now.shards.flatMap(({ shard, name, replicas }) =>
    replicas.flatMap(({ host }) => {
      const old = places.get(host);
      const known = name !== '' && old?.name !== '';
      return old === undefined || old.shard === shard || known ? [] : [{ host, from: old.shard, to: shard }];
    }),
  );
  if (moved.length === 0) return undefined;
  const words = moved.map(
    ({ host, from, to }) => `${host} was in shard_num ${from + 1} and is now in ${to + 1}`,
  );
  return refusal(listOf(words));
}

function refusal(what: string): TopologyFault {
  return fault(
    'shard_names_moved',
    [],
    `${what}: rows that wait for a shard would be written to another one. Keep the order of the shards in ` +
      '<remote_servers>; new ones come last, and one that has to go gets <weight>0</weight>',
  );
}
