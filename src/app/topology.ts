/** `sluice topology …`: the cluster as it is, for people or as JSON, and what is wrong with it. */
import { type Logger, createLogger } from '../base/log.ts';
import { hidePassword } from '../config/kinds.ts';
import { loadSettings } from '../config/load.ts';
import type { Settings } from '../config/settings.ts';
import { plural } from '../topology/definition.ts';
import { Discoverer, type Discovery } from '../topology/discover.ts';
import { counts } from '../topology/faults.ts';
import type { HostReport, ReachableHost } from '../topology/host-report.ts';
import { gib } from '../topology/judge-hosts.ts';
import { printTable } from './print.ts';

const EXIT_DIFFERENCES = 3;

/**
 * Looks at the cluster once and hands what was found to `body`; connections are closed afterwards.
 * @throws ConfigurationError where a URL can't be used, and what `body` throws
 */
export async function withTopology<T>(
  settings: Settings,
  logger: Logger,
  body: (discovery: Discovery) => Promise<T>,
): Promise<T> {
  const discoverer = new Discoverer(settings.clickhouse, logger);
  try {
    return await body(await discoverer.discover());
  } finally {
    await discoverer.close();
  }
}

/** @returns the exit code */
export async function runTopology(step: 'show' | 'check', json: boolean): Promise<number> {
  const { settings } = loadSettings();
  const logger = createLogger(settings.log.level, settings.log.format);
  return withTopology(settings, logger, async (discovery) => {
    const { cluster } = settings.clickhouse;
    if (json) console.log(JSON.stringify(shown(cluster, discovery), null, 2));
    else if (step === 'show') printHosts(cluster, discovery);
    else printFaults(cluster, discovery);
    return step === 'check' && discovery.faults.some(counts) ? EXIT_DIFFERENCES : 0;
  });
}

/** For JSON: everything, without passwords. */
function shown(cluster: string, { topology, replicated, hosts, faults }: Discovery) {
  const withoutPassword = <T extends { readonly url: string | undefined }>(place: T) => ({
    ...place,
    url: place.url && hidePassword(place.url),
  });
  return {
    cluster,
    usable: topology !== undefined,
    replicated,
    shards: (topology?.shards ?? []).map((shard) => ({
      ...shard,
      replicas: shard.replicas.map(withoutPassword),
    })),
    hosts: hosts.map(withoutPassword),
    faults,
  };
}

function printHosts(cluster: string, discovery: Discovery): void {
  console.log(summary(cluster, discovery));
  printTable(
    [
      'shard',
      'replica',
      'weight',
      'in system.clusters',
      'URL',
      'version',
      'state',
      'macros',
      'Keeper',
      'clock',
      'free',
    ],
    discovery.hosts.map((host) => [
      String(host.member?.shard ?? '-'),
      String(host.member?.replica ?? '-'),
      String(host.weight ?? '-'),
      host.address ?? '-',
      host.url === undefined ? 'unknown' : hidePassword(host.url),
      ...(host.reachable ? cellsOf(host) : ['-', host.code, '-', '-', '-', '-']),
    ]),
  );
  const count = discovery.faults.filter(counts).length;
  if (count > 0) console.log(`${plural(count, 'fault')}: sluice topology check names them`);
}

function cellsOf(host: ReachableHost): string[] {
  const { macros, keeper, clockSkewMs, disks, readOnlyTables } = host;
  const sign = clockSkewMs < 0 ? '' : '+';
  const free = disks?.map(({ name, freeBytes }) => `${name} ${gib(freeBytes)}`).join(', ') ?? 'unknown';
  return [
    host.version,
    readOnlyTables.length === 0 ? 'up' : `${plural(readOnlyTables.length, 'table')} read-only`,
    Object.entries(macros)
      .map(([name, value]) => `${name}=${value}`)
      .join(' ') || 'none',
    keeper.session === undefined ? keeper.state : `${keeper.state} ${keeper.session}`,
    `${sign}${(clockSkewMs / 1000).toFixed(1)} s`,
    free,
  ];
}

function printFaults(cluster: string, discovery: Discovery): void {
  for (const { severity, code, message } of discovery.faults) console.log(`${severity}  ${code}  ${message}`);
  const count = discovery.faults.filter(counts).length;
  const found = count === 0 ? 'no faults' : plural(count, 'fault');
  console.log(`${found}: ${summary(cluster, discovery)}`);
}

function summary(cluster: string, { topology, replicated, hosts }: Discovery): string {
  const name = cluster === '' ? 'no cluster' : `cluster "${cluster}"`;
  const up = hosts.filter((host: HostReport) => host.reachable).length;
  const answering = `${up} of ${plural(hosts.length, 'host')} answer`;
  if (topology === undefined) return `${name} can't be used as it is, ${answering}`;
  const counted = topology.shards.map(({ replicas }) => replicas.length);
  const replicas =
    new Set(counted).size === 1 ? plural(counted[0] ?? 0, 'replica') : `${counted.join(', ')} replicas`;
  const engines = replicated ? 'replicated tables' : 'tables without replication';
  return `${name}, ${plural(counted.length, 'shard')} x ${replicas}, ${engines}, ${answering}`;
}
