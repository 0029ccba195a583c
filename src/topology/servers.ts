/**
 * Without a cluster there is one server. Several URLs may lead to it (as long as one of them answers, it is
 * reached), but not to several servers: nobody would know how they share the rows. Pure.
 */
import type { Settings } from '../config/settings.ts';
import type { Discovery } from './discover.ts';
import type { Answer } from './endpoint.ts';
import { type TopologyFault, fault, isError, listOf } from './faults.ts';
import type { HostFacts, HostPlace } from './host-report.ts';
import { sameServer } from './identity.ts';
import { judgeShape } from './judge-cluster.ts';
import { judgeHosts, judgeReach, reachable } from './judge-hosts.ts';
import { sameServerWords, wordsOf } from './judge-places.ts';
import { judgeReplication } from './judge-replication.ts';
import { nobodyAnswers, reportOf } from './reports.ts';

interface Server {
  readonly url: string;
  readonly facts: HostFacts;
}

/**
 * @param before the URL that was in use
 * @returns also the URL that is to be used, undefined where there is none
 */
export function discoverServers(
  settings: Settings['clickhouse'],
  answers: ReadonlyMap<string, Answer>,
  before: string | undefined,
  hostOf: (url: string) => string,
): { chosen: string | undefined; discovery: Discovery } {
  const urls = [...answers.keys()];
  const servers = [...answers].flatMap(([url, answer]) =>
    answer.reachable ? [{ url, facts: answer.facts }] : [],
  );
  const chosen =
    servers.find(({ url }) => url === before)?.url ??
    servers[0]?.url ??
    before ??
    (urls.length === 1 ? urls[0] : undefined);
  const hosts = urls
    .filter((url) => url === chosen || answers.get(url)?.reachable === false || isOther(servers, url, chosen))
    .map((url) => {
      const member = url === chosen ? { shard: 0, replica: 0 } : undefined;
      const place: HostPlace = { host: hostOf(url), url, member, address: undefined, weight: member && 1 };
      return reportOf(place, answers.get(url));
    });
  const members = reachable(hosts).filter(({ member }) => member !== undefined);
  const replication = judgeReplication(settings, false, members);
  const faults = [
    ...(chosen === undefined ? [nobodyAnswers(hosts)] : []),
    ...severalServers(servers, hostOf),
    ...judgeShape(settings, [1], [1]),
    ...replication.faults,
    ...judgeReach(hosts),
    ...judgeHosts(hosts, settings.database),
  ];
  const usable = chosen !== undefined && !faults.some(isError);
  const replica = usable && { shard: 0, replica: 0, url: chosen, host: hostOf(chosen) };
  const topology = replica
    ? { cluster: '', shards: [{ shard: 0, weight: 1, name: '', replicas: [replica] }] }
    : undefined;
  return { chosen, discovery: { topology, replicated: replication.replicated, hosts, faults } };
}

/** Answers, and is not the server in use. */
function isOther(servers: readonly Server[], url: string, chosen: string | undefined): boolean {
  const of = (wanted: string | undefined) => servers.find((server) => server.url === wanted)?.facts.identity;
  const [one, other] = [of(url), of(chosen)];
  return one !== undefined && (other === undefined || !sameServer(one, other));
}

function severalServers(servers: readonly Server[], hostOf: (url: string) => string): TopologyFault[] {
  const [first] = servers;
  if (first === undefined) return [];
  const others = servers.filter(({ url }) => isOther(servers, url, first.url));
  const balanced = servers.filter(({ facts }) => facts.balanced);
  if (others.length > 0 || balanced.length > 0) {
    const found = [first, ...others].map(({ url, facts }) => `${hostOf(url)} is ${wordsOf(facts.identity)}`);
    const names = [...new Set(servers.flatMap(({ facts }) => facts.clusters))];
    const known = names.length === 0 ? 'they know no cluster' : `they know ${listOf(names)}`;
    return [
      fault(
        'several_servers_without_cluster',
        servers.map(({ url }) => hostOf(url)),
        `SLUICE_CLICKHOUSE_URL leads to several servers (${balanced.length > 0 ? 'a load balancer; ' : ''}` +
          `${listOf(found)}), but SLUICE_CLICKHOUSE_CLUSTER is empty: name the cluster that they are ` +
          `(${known}), ` +
          'or keep one URL',
      ),
    ];
  }
  return servers
    .slice(1)
    .map(({ url }) =>
      fault(
        'host_twice',
        [hostOf(first.url), hostOf(url)],
        sameServerWords(hostOf(first.url), hostOf(url), first.facts.identity),
      ),
    );
}
