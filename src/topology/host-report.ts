/**
 * What is known of each host after a look at the cluster: plain data, for people, checks and the
 * migrator.
 */
import type { Fault } from '../base/errors.ts';
import type { Definition } from './definition.ts';
import type { ServerIdentity } from './identity.ts';

export type HostReport = ReachableHost | UnreachableHost;

/** Where a host stands, whether it answers or not. */
export interface HostPlace {
  /** `host:port` of the HTTP port, or of system.clusters where no address is known. */
  readonly host: string;
  /** With user and password: never for a log line. Undefined where no address is known. */
  readonly url: string | undefined;
  /** Positions in the topology, from 0. Undefined for a URL that leads to no member of the cluster. */
  readonly member: { readonly shard: number; readonly replica: number } | undefined;
  /** `host:port` of the member in system.clusters. */
  readonly address: string | undefined;
  /** Of the member's shard. */
  readonly weight: number | undefined;
}

export interface UnreachableHost extends HostPlace {
  readonly reachable: false;
  /** Of the Fault; `address_missing` where nobody knows where to ask. */
  readonly code: string;
  /** The Fault in words. */
  readonly why: string;
}

export interface ReachableHost extends HostPlace, HostFacts {
  readonly reachable: true;
}

export interface Keeper {
  /** `none`: the server is not configured for one; `unknown`: the user may not look. */
  readonly state: 'none' | 'reachable' | 'away' | 'unknown';
  /** Servers with the same Keeper say the same; undefined while nothing of ClickHouse is in it. */
  readonly fingerprint: string | undefined;
  /** `host:port` of the session, where the version tells. */
  readonly session: string | undefined;
}

export interface Disk {
  readonly name: string;
  readonly freeBytes: number;
  readonly totalBytes: number;
}

/** What a host says of itself. */
export interface HostFacts {
  readonly identity: ServerIdentity;
  /** Different servers answered at this URL: a load balancer. What is said here is of any of them. */
  readonly balanced: boolean;
  readonly version: string;
  readonly timezone: string;
  readonly uptimeSeconds: number;
  /** The server's clock minus ours, the way there taken off. */
  readonly clockSkewMs: number;
  /**
   * The skew may be wrong by so much: half of the round trip, and where the clock is read in seconds 500
   * ms.
   */
  readonly clockErrorMs: number;
  readonly macros: Readonly<Record<string, string>>;
  readonly keeper: Keeper;
  readonly databases: readonly string[];
  /** In the database of the settings. */
  readonly tables: readonly string[];
  /** Of these, the replicated ones that take no inserts now. */
  readonly readOnlyTables: readonly string[];
  /** Undefined where the version doesn't tell (before 19.15). */
  readonly disks: readonly Disk[] | undefined;
  /** Every name in its system.clusters. */
  readonly clusters: readonly string[];
  /** The cluster of the settings as this host sees it; undefined where it knows none of that name. */
  readonly definition: Definition | undefined;
  /** Why this host can't tell what clusters there are; old versions can't while a name in one is unknown. */
  readonly definitionTrouble: Pick<Fault, 'code' | 'message'> | undefined;
  /** System tables that the user may not read: what they tell is left out above. */
  readonly unreadable: readonly string[];
}
