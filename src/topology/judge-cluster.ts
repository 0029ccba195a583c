/** What is wrong with the cluster as a whole: its definition and its shape. Pure. */
import { SHARDS_MAX, WEIGHTS_MAX } from './topology.ts';
import { closest, distance } from 'fastest-levenshtein';
import type { Settings } from '../config/settings.ts';
import { type Definition, differencesOf, disjoint, nameOf, plural, shapeOf } from './definition.ts';
import { NAME_CODES } from './endpoint.ts';
import { type TopologyFault, fault, listOf } from './faults.ts';
import type { HostFacts, ReachableHost } from './host-report.ts';

/** A host that answered, before it is known which member it is. */
export interface Voice {
  readonly host: string;
  readonly facts: Pick<HostFacts, 'definition' | 'definitionTrouble' | 'clusters'>;
}

export interface Agreement {
  /** Undefined where hosts disagree, or know no such cluster. */
  readonly definition: Definition | undefined;
  readonly faults: readonly TopologyFault[];
}

/** What the hosts that know the cluster agree on. Those that don't know it are left to `judgeIgnorance`. */
export function agree(cluster: string, voices: readonly Voice[]): Agreement {
  const groups: { definition: Definition; hosts: string[] }[] = [];
  for (const { host, facts } of voices) {
    const { definition } = facts;
    if (definition === undefined) continue;
    const group = groups.find((one) => differencesOf(one.definition, definition).length === 0);
    if (group === undefined) groups.push({ definition, hosts: [host] });
    else group.hosts.push(host);
  }
  const [first, second] = groups;
  const mute = judgeMute(voices);
  if (first === undefined && mute.length > 0) return { definition: undefined, faults: mute };
  if (first === undefined) return { definition: undefined, faults: [unknownCluster(cluster, voices)] };
  if (second === undefined) return { definition: fullest(first.definition, voices), faults: mute };
  const hosts = groups.flatMap((group) => group.hosts);
  const sayings = groups.map(
    ({ hosts: names, definition }) =>
      `${listOf(names)} say${names.length === 1 ? 's' : ''} ${shapeOf(definition)}`,
  );
  if (groups.some((group) => group !== first && disjoint(first.definition, group.definition))) {
    const sets = groups.map((group) => `${listOf(group.hosts)} know ${listOf(group.definition.map(nameOf))}`);
    return {
      definition: undefined,
      faults: [
        fault(
          'two_sets_of_hosts',
          hosts,
          `two sets of hosts go by the name "${cluster}": ${sets.join('; ')}; not one host is in both. ` +
            'Keep the URLs of one set in SLUICE_CLICKHOUSE_URL, or give the clusters different names',
        ),
      ],
    };
  }
  const differences = groups.slice(1).flatMap((group) => differencesOf(first.definition, group.definition));
  return {
    definition: undefined,
    faults: [
      fault(
        'definition_differs',
        hosts,
        `hosts disagree on what the cluster "${cluster}" is: ${sayings.join('; ')}; ` +
          `${[...new Set(differences)].join('; ')}. Give all of them the same <remote_servers>`,
      ),
    ],
  };
}

/** One of the equal definitions that tells all there is to tell. */
function fullest(definition: Definition, voices: readonly Voice[]): Definition {
  const all = voices.flatMap(({ facts }) => (facts.definition === undefined ? [] : [facts.definition]));
  return all.find(([member]) => member?.internalReplication !== undefined) ?? definition;
}

function unknownCluster(cluster: string, voices: readonly Voice[]): TopologyFault {
  const names = [...new Set(voices.flatMap(({ facts }) => facts.clusters))];
  const best = names.length === 0 ? '' : closest(cluster, names);
  const hint =
    best !== '' && distance(cluster, best) <= Math.max(3, cluster.length / 3)
      ? `; did you mean "${best}"?`
      : '';
  const known = names.length === 0 ? 'they know none' : `they know ${listOf(names)}${hint}`;
  return fault(
    'cluster_unknown',
    voices.map(({ host }) => host),
    `no host knows a cluster "${cluster}" (SLUICE_CLICKHOUSE_CLUSTER): ${known}. ` +
      'Name one of system.clusters, or add it to <remote_servers> on every host',
  );
}

/** Hosts that answer, but not to the question what clusters there are. */
function judgeMute(voices: readonly Voice[]): TopologyFault[] {
  return voices.flatMap(({ host, facts: { definitionTrouble } }) => {
    if (definitionTrouble === undefined) return [];
    const { code, message } = definitionTrouble;
    const why = NAME_CODES.has(code) ? 'a name in it does not resolve there: ' : '';
    return [
      fault(
        'definition_unreadable',
        [host],
        `${host} can't use its <remote_servers>, and so reads from no cluster: ${why}${message}. Mend it` +
          `${why === '' ? '' : ', or DNS of that host'}`,
      ),
    ];
  });
}

/** Members that don't know their own cluster. */
export function judgeIgnorance(cluster: string, members: readonly ReachableHost[]): TopologyFault[] {
  const ignorant = members
    .filter(
      ({ definition, definitionTrouble }) => definition === undefined && definitionTrouble === undefined,
    )
    .map(({ host }) => host);
  if (ignorant.length === 0) return [];
  return [
    fault(
      'definition_differs',
      ignorant,
      `${listOf(ignorant)} belong${ignorant.length === 1 ? 's' : ''} to the cluster "${cluster}" in the ` +
        'eyes of ' +
        'the others, but know nothing of it: give all of them the same <remote_servers>',
    ),
  ];
}

export function judgeShape(
  { cluster, expect }: Pick<Settings['clickhouse'], 'cluster' | 'expect'>,
  replicas: readonly number[],
  weights: readonly number[],
): TopologyFault[] {
  const faults: TopologyFault[] = [];
  const what =
    cluster === ''
      ? 'there is no cluster (SLUICE_CLICKHOUSE_CLUSTER is empty), which is one shard of'
      : `the cluster "${cluster}" has`;
  if (expect.shards !== 0 && expect.shards !== replicas.length) {
    const found = cluster === '' ? `${what} one server` : `${what} ${plural(replicas.length, 'shard')}`;
    faults.push(
      fault(
        'shards_unexpected',
        [],
        `${found}, but SLUICE_CLICKHOUSE_EXPECT_SHARDS is ${expect.shards}: mend <remote_servers> on ` +
          'every host, ' +
          'or the setting',
      ),
    );
  }
  const odd = replicas.flatMap((count, shard) =>
    expect.replicas !== 0 && count !== expect.replicas ? [`${count} in shard_num ${shard + 1}`] : [],
  );
  if (odd.length > 0) {
    faults.push(
      fault(
        'replicas_unexpected',
        [],
        `the number of replicas is ${listOf(odd)}, but SLUICE_CLICKHOUSE_EXPECT_REPLICAS is ` +
          `${expect.replicas}: mend <remote_servers> on every host, or the setting`,
      ),
    );
  }
  if (weights.every((weight) => weight === 0)) {
    faults.push(
      fault(
        'weights_all_zero',
        [],
        `every shard of the cluster "${cluster}" has weight 0, so that no row could go anywhere: give one ` +
          'a <weight> of 1 or more in <remote_servers> on every host',
      ),
    );
  }
  const sum = weights.reduce((total, weight) => total + weight, 0);
  if (weights.length > SHARDS_MAX || sum > WEIGHTS_MAX) {
    faults.push(
      fault(
        'too_large',
        [],
        `the cluster "${cluster}" has ${weights.length} shards whose weights add up to ${sum}; at most ` +
          `${SHARDS_MAX} and ${WEIGHTS_MAX} can be used: give it fewer or smaller ones in <remote_servers>`,
      ),
    );
  }
  return faults;
}
