/**
 * What a host believes a cluster to be: its rows of system.clusters, as data, and how two beliefs differ.
 * Pure. Numbers of shards and replicas count from 1 here, as in system.clusters.
 */
import { showAddress } from '../config/kinds.ts';

/** A replica as a cluster's definition names it. */
export interface Member {
  readonly shardNum: number;
  readonly replicaNum: number;
  readonly host: string;
  /** Of the native protocol. */
  readonly port: number;
  /** Of the shard. */
  readonly weight: number;
  /** Of the shard; undefined where the version doesn't tell. */
  readonly internalReplication: boolean | undefined;
  /**
   * The host that was asked takes this member for itself. Versions before 20 say so of every replica of the
   * own shard.
   */
  readonly isLocal: boolean;
}

/** Sorted by shard, then by replica; never empty. */
export type Definition = readonly Member[];

/** A row of `SELECT * FROM system.clusters`, as far as it is read here. */
export interface ClusterRow {
  readonly cluster: string;
  readonly shard_num: number;
  readonly shard_weight: number;
  readonly replica_num: number;
  readonly host_name: string;
  readonly port: number;
  readonly is_local: number;
  readonly internal_replication?: number | boolean;
}

/** @returns undefined where no row is of that cluster */
export function definitionOf(rows: readonly ClusterRow[], cluster: string): Definition | undefined {
  const members = rows
    .filter((row) => row.cluster === cluster)
    .map(
      (row): Member => ({
        shardNum: row.shard_num,
        replicaNum: row.replica_num,
        host: row.host_name,
        port: row.port,
        weight: row.shard_weight,
        internalReplication:
          row.internal_replication === undefined ? undefined : Boolean(row.internal_replication),
        isLocal: row.is_local === 1,
      }),
    )
    .sort((a, b) => a.shardNum - b.shardNum || a.replicaNum - b.replicaNum);
  return members.length === 0 ? undefined : members;
}

/** `host:port` as SLUICE_CLICKHOUSE_ADDRESSES wants it. */
export function nameOf({ host, port }: Pick<Member, 'host' | 'port'>): string {
  return showAddress({ host, port });
}

/** The members of each shard, by position. */
export function shardsOf(definition: Definition): Member[][] {
  const numbers = [...new Set(definition.map((member) => member.shardNum))];
  return numbers.map((number) => definition.filter((member) => member.shardNum === number));
}

/** `2 shards x 2 replicas`, or the replicas of each shard where they differ in number. */
export function shapeOf(definition: Definition): string {
  const counts = shardsOf(definition).map((members) => members.length);
  const shards = plural(counts.length, 'shard');
  if (new Set(counts).size === 1) return `${shards} x ${plural(counts[0] ?? 0, 'replica')}`;
  return `${shards} with ${counts.join(', ')} replicas`;
}

export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** Where two definitions differ, in words; none where they mean the same. */
export function differencesOf(one: Definition, other: Definition): string[] {
  const differences: string[] = [];
  const places = new Map<string, [Member | undefined, Member | undefined]>();
  for (const member of one) places.set(placeOf(member), [member, undefined]);
  for (const member of other) {
    const place = placeOf(member);
    places.set(place, [places.get(place)?.[0], member]);
  }
  for (const [place, [a, b]] of places) {
    if (a === undefined || b === undefined) {
      const [there, here] = a === undefined ? ['missing', nameOf(b as Member)] : [nameOf(a), 'missing'];
      differences.push(`${place} is ${there} or ${here}`);
      continue;
    }
    if (nameOf(a) !== nameOf(b)) differences.push(`${place} is ${nameOf(a)} or ${nameOf(b)}`);
    if (a.weight !== b.weight)
      differences.push(`shard_num ${a.shardNum} has weight ${a.weight} or ${b.weight}`);
    if (differ(a.internalReplication, b.internalReplication)) {
      const [yes, no] = [a.internalReplication, b.internalReplication];
      differences.push(`internal_replication of shard_num ${a.shardNum} is ${yes} or ${no}`);
    }
  }
  return [...new Set(differences)];
}

/** Not one `host:port` is in both: another set of hosts under the same name. */
export function disjoint(one: Definition, other: Definition): boolean {
  const names = new Set(one.map(nameOf));
  return other.every((member) => !names.has(nameOf(member)));
}

/** In the words of system.clusters, which counts from 1. */
export function placeOf({ shardNum, replicaNum }: Member): string {
  return `shard_num ${shardNum}, replica_num ${replicaNum}`;
}

/** What one version doesn't tell is no difference. */
export function differ<T>(one: T | undefined, other: T | undefined): boolean {
  return one !== undefined && other !== undefined && one !== other;
}
