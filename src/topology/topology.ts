/**
 * Which ClickHouse servers there are: shards that share the rows out, replicas that hold the same rows. Plain
 * data. Numbers count from 0 and are positions: `shards[s].replicas[r]`. The shard of a batch, of the keys in
 * Redis (`{s0}`) and of the metrics is this number; `system.clusters` counts its shard_num from 1.
 */
import { ConfigurationError } from '../base/errors.ts';
import { parseClickHouseUrl } from '../clickhouse/client.ts';

/** What the transcoder can share rows out over (codes.ts, shard-key.ts); a test compares the two. */
export const SHARDS_MAX = 128;
/** Sharding keys are numbers of 32 bits. */
export const WEIGHTS_MAX = 2 ** 32 - 1;

export interface Replica {
  readonly shard: number;
  readonly replica: number;
  /**
   * With user and password: never for a log line. Undefined while nobody knows under which address this
   * member of the cluster is reached.
   */
  readonly url: string | undefined;
  /** `host:port` of the HTTP port, or of system.clusters without one: its name in logs and metrics. */
  readonly host: string;
}

export interface Shard {
  readonly shard: number;
  /** The share of the rows that goes here, in relation to the sum of all; 0 takes no new rows. */
  readonly weight: number;
  /** The macro {shard} of its hosts, empty where they have none. Numbers may not move between names. */
  readonly name: string;
  readonly replicas: readonly Replica[];
}

export interface Topology {
  /** A name in system.clusters, or empty for servers that know no cluster. */
  readonly cluster: string;
  readonly shards: readonly Shard[];
}

/** One server, which is all there is. */
export function singleServer(url: string): Topology {
  return oneShard([url]);
}

/**
 * Several URLs without a cluster are replicas of one shard: they are taken to hold the same rows, in
 * replicated tables. (On servers that know nothing of each other a failover would store a batch once on
 * each.)
 * @throws ConfigurationError where a URL can't be used, or the same server is named twice
 */
export function oneShard(urls: readonly string[]): Topology {
  const replicas = urls.map((url, replica) => {
    const { host } = parseClickHouseUrl(url);
    return { shard: 0, replica, url, host };
  });
  return checked({ cluster: '', shards: [{ shard: 0, weight: 1, name: '', replicas }] });
}

/** @returns the same topology. @throws ConfigurationError that lists everything that is wrong with it */
export function checked(topology: Topology): Topology {
  const problems = problemsOf(topology);
  if (problems.length === 0) return topology;
  const name = topology.cluster === '' ? 'the ClickHouse servers' : `the cluster "${topology.cluster}"`;
  throw new ConfigurationError(`${name}: ${problems.join('; ')}`);
}

/** Every rule that a topology breaks, in words; none for a good one. Pure. */
export function problemsOf({ shards }: Topology): string[] {
  const problems: string[] = [];
  if (shards.length === 0) problems.push('there is no shard');
  else if (shards.every((shard) => shard.weight === 0)) problems.push('every shard has weight 0');
  if (shards.length > SHARDS_MAX) problems.push(`${shards.length} shards, at most ${SHARDS_MAX} can be used`);
  const weights = shards.reduce((sum, { weight }) => sum + weight, 0);
  if (weights > WEIGHTS_MAX) problems.push(`the weights add up to ${weights}, at most ${WEIGHTS_MAX} can`);
  const seen = new Map<string, string>();
  for (const [position, shard] of shards.entries()) {
    if (shard.shard !== position) problems.push(`shard ${shard.shard} stands at position ${position}`);
    if (!Number.isSafeInteger(shard.weight) || shard.weight < 0) {
      problems.push(`shard ${position} has weight ${shard.weight}, wanted is a whole number from 0`);
    }
    if (shard.replicas.length === 0) problems.push(`shard ${position} has no replica`);
    for (const [index, replica] of shard.replicas.entries()) {
      const place = `replica ${index} of shard ${position}`;
      if (replica.shard !== position || replica.replica !== index) {
        problems.push(`${place} calls itself replica ${replica.replica} of shard ${replica.shard}`);
      }
      const other = seen.get(replica.host);
      if (other !== undefined) problems.push(`${replica.host} is ${other} and ${place}`);
      seen.set(replica.host, place);
    }
  }
  return problems;
}
