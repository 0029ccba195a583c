/**
 * The one list of what can be wrong with a cluster. docs/topology.md has the same list with cause and remedy,
 * and a test compares the two both ways.
 */

/**
 * error    the topology is not used: who runs keeps the one it has, who starts waits, migrations are refused
 * warning  it works on, but somebody has to look after it
 * note     worth knowing; `sluice topology check` doesn't count it
 */
export type Severity = 'error' | 'warning' | 'note';

export const FAULTS = {
  // what the cluster is
  no_host_answers: 'error',
  cluster_unknown: 'error',
  definition_differs: 'error',
  definition_unreadable: 'error',
  two_sets_of_hosts: 'error',
  member_twice: 'error',
  several_servers_without_cluster: 'error',
  shards_unexpected: 'error',
  replicas_unexpected: 'error',
  weights_all_zero: 'error',
  too_large: 'error',
  shard_names_moved: 'error',
  // replication
  macro_missing: 'error',
  macro_doubled: 'error',
  macro_disagrees: 'error',
  keeper_missing: 'error',
  keeper_differs: 'error',
  not_replicated: 'error',
  replication_off: 'warning',
  internal_replication_off: 'warning',
  keeper_away: 'warning',
  replica_read_only: 'warning',
  // where the hosts are
  host_unreachable: 'warning',
  name_unresolved: 'warning',
  credentials_refused: 'warning',
  grant_missing: 'warning',
  address_missing: 'warning',
  address_wrong: 'warning',
  host_twice: 'warning',
  host_foreign: 'warning',
  // how the hosts are
  version_mix: 'warning',
  clock_skew: 'warning',
  disk_full: 'warning',
  // A mapping may be there before its host is; one that is misspelt shows as address_missing too.
  address_unused: 'note',
  version_old: 'note',
  url_balanced: 'note',
} as const satisfies Record<string, Severity>;

export type FaultCode = keyof typeof FAULTS;

export interface TopologyFault {
  readonly code: FaultCode;
  readonly severity: Severity;
  /** `host:port` as in the reports; empty where it is about the cluster as a whole. */
  readonly hosts: readonly string[];
  /** What was found, the values, and what to do. */
  readonly message: string;
}

/** One line, although servers say some things in several. */
export function fault(code: FaultCode, hosts: readonly string[], message: string): TopologyFault {
  return { code, severity: FAULTS[code], hosts, message: message.replace(/\s*\n\s*/g, ' ') };
}

/** The topology can't be used. */
export function isError({ severity }: TopologyFault): boolean {
  return severity === 'error';
}

/** What `sluice topology check` and the metric count. */
export function counts({ severity }: TopologyFault): boolean {
  return severity !== 'note';
}

/** One and the same fault, however its words (a skew, a free space) change from look to look. */
export function keyOf({ code, hosts }: TopologyFault): string {
  return [code, ...hosts].join(' ');
}

/** `a`, `a and b`, `a, b and c`. */
export function listOf(names: readonly string[]): string {
  if (names.length < 2) return names.join('');
  return `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}
