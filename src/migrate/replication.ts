/** Whether replicas of a shard share one place in Keeper, and shards don't. Pure. */
import type { Declared } from './declared.ts';
import type { Difference } from './difference.ts';
import type { RealState } from './real.ts';
import type { HostView } from './survey.ts';

interface Seen {
  readonly view: HostView;
  readonly real: RealState;
}

/** What a host's tables show when they are held against the same tables of the other hosts. */
export function replicationDifferences(host: Seen, all: readonly Seen[], declared: Declared): Difference[] {
  return [...declared.tables.keys()].flatMap((table) => {
    const own = host.real.tables.get(table)?.replica;
    if (own === undefined) return [];
    const notes: string[] = [];
    for (const { view, real } of all) {
      const other = real.tables.get(table)?.replica;
      if (other === undefined || view === host.view) continue;
      if (view.shard === host.view.shard && other.path !== own.path) {
        notes.push(
          `its place in Keeper is ${own.path}, that of ${view.name}, a replica of the same shard, is ` +
            `${other.path}: neither gets the rows of the other, and readers would see half of the rows`,
        );
      }
      if (view.shard !== host.view.shard && other.path === own.path) {
        notes.push(
          `it shares its place in Keeper (${own.path}) with ${view.name}, which is of another shard: both ` +
            'hold the same rows, which readers see twice. The macro {shard} must differ',
        );
      }
    }
    if (own.readOnly) notes.push('it is read-only: its Keeper is away, or its metadata there are lost');
    return notes.map((note): Difference => {
      const about = { table, item: '', declared: '', real: '', remedy: undefined };
      return { kind: 'replication', severity: 'error', note, ...about };
    });
  });
}
