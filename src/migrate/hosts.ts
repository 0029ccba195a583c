/**
 * From a look at the cluster to what the migrator works with: who can be asked, who can't and why, what is
 * wrong with the whole, and how the tables are laid out. Pure.
 */
import type { ClickHouse } from '../clickhouse/client.ts';
import type { Settings } from '../config/settings.ts';
import type { Discovery } from '../topology/discover.ts';
import { type FaultCode, type TopologyFault, isError } from '../topology/faults.ts';
import type { HostReport } from '../topology/host-report.ts';
import type { MigrateContext, MigrateHost, MissingHost } from './context.ts';

export type FoundHosts = Required<Pick<MigrateContext, 'hosts' | 'missing' | 'faults' | 'layout'>>;

/** Replicated tables can't be made or changed without their Keeper. */
const KEEPER_FAULTS: readonly FaultCode[] = ['keeper_away'];

/**
 * @param open a connection for a URL, to be closed by the caller; called once for each host that answers
 * @param settings names the cluster and the mode: `auto` is each host directly
 */
export function hostsOf(
  discovery: Discovery,
  open: (url: string) => ClickHouse,
  settings: Pick<Settings, 'clickhouse' | 'migrations'>,
): FoundHosts {
  const { cluster } = settings.clickhouse;
  const hosts: MigrateHost[] = [];
  const missing: MissingHost[] = [];
  for (const report of discovery.hosts) {
    const { member } = report;
    if (member === undefined) continue;
    const host = nameOf(report, discovery);
    if (report.reachable && report.url !== undefined) {
      hosts.push({ ...member, server: { ...open(report.url), host } });
    } else {
      missing.push({ ...member, host, why: report.reachable ? 'its address is not known' : report.why });
    }
  }
  const faults = discovery.faults.filter((fault) => blocks(fault, discovery.replicated));
  return {
    hosts,
    missing,
    faults: faults.map(({ message }) => message),
    layout: {
      cluster: cluster === '' ? undefined : cluster,
      replicated: discovery.replicated,
      onCluster: cluster !== '' && settings.migrations.mode === 'on-cluster',
    },
  };
}

/** The topology's name for it, which differs where two members stand behind one host and port. */
function nameOf({ member, host }: HostReport, { topology }: Discovery): string {
  if (member === undefined) return host;
  return topology?.shards[member.shard]?.replicas[member.replica]?.host ?? host;
}

function blocks(fault: TopologyFault, replicated: boolean): boolean {
  return isError(fault) || (replicated && KEEPER_FAULTS.includes(fault.code));
}
