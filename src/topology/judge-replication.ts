/** What is wrong with the ground of replication: Keeper, macros, internal_replication. Pure. */
import type { Settings } from '../config/settings.ts';
import { type Definition, shardsOf } from './definition.ts';
import { type TopologyFault, fault, listOf } from './faults.ts';
import type { HostFacts, ReachableHost } from './host-report.ts';
import { groupBy } from './judge-hosts.ts';

export interface Replication {
  /** Tables get Replicated engines. */
  readonly replicated: boolean;
  readonly faults: readonly TopologyFault[];
}

const MACROS_EXAMPLE = '<macros><shard>01</shard><replica>ch-1</replica></macros>';

/** @param members that answer; `several`: a shard has more than one replica */
export function judgeReplication(
  { cluster, replication }: Pick<Settings['clickhouse'], 'cluster' | 'replication'>,
  several: boolean,
  members: readonly ReachableHost[],
): Replication {
  if (replication === 'off') return { replicated: false, faults: several ? [switchedOff(members)] : [] };
  const withKeeper = members.filter(({ keeper }) => keeper.state !== 'none');
  const complete = members.filter((host) => lackingMacros(host).length === 0);
  const begun = withKeeper.length > 0 && complete.length > 0;
  if (replication === 'auto' && (cluster === '' || !(several || begun)))
    return { replicated: false, faults: [] };
  if (replication === 'auto' && withKeeper.length === 0 && members.length > 0) {
    return {
      replicated: false,
      faults: [
        fault(
          'not_replicated',
          names(members),
          'a shard has several replicas, but no host has Keeper, so rows that one gets never reach the ' +
            'others: ' +
            'configure <zookeeper> and <macros> on every host, or set SLUICE_CLICKHOUSE_REPLICATION=off ' +
            'if the ' +
            'replicas share their data in another way',
        ),
      ],
    };
  }
  const faults: TopologyFault[] = [];
  const lacking = members.filter((host) => !withKeeper.includes(host));
  if (lacking.length > 0) {
    faults.push(
      fault(
        'keeper_missing',
        names(lacking),
        `${listOf(names(lacking))} ${lacking.length === 1 ? 'has' : 'have'} no Keeper, which replicated ` +
          'tables ' +
          'need: configure the same <zookeeper> as on the other hosts',
      ),
    );
  }
  for (const host of members) {
    const macros = lackingMacros(host);
    if (macros.length === 0) continue;
    faults.push(
      fault(
        'macro_missing',
        [host.host],
        `${host.host} has no macro ${listOf(macros.map((macro) => `{${macro}}`))}, which the paths of ` +
          'replicated ' +
          `tables are made of: add it to its configuration, as in ${MACROS_EXAMPLE}`,
      ),
    );
  }
  faults.push(...judgeFingerprints(members));
  return { replicated: replication === 'on' || (members.length > 0 && faults.length === 0), faults };
}

function switchedOff(members: readonly ReachableHost[]): TopologyFault {
  return fault(
    'replication_off',
    names(members),
    'a shard has several replicas, but SLUICE_CLICKHOUSE_REPLICATION is off: rows are written to one of ' +
      'them ' +
      'and reach the others only if they share their data; set it to auto or on if they do not',
  );
}

function judgeFingerprints(members: readonly ReachableHost[]): TopologyFault[] {
  const known = members.filter(({ keeper }) => keeper.fingerprint !== undefined);
  const groups = [...groupBy(known, ({ keeper }) => keeper.fingerprint).values()];
  if (groups.length < 2) return [];
  return [
    fault(
      'keeper_differs',
      names(known),
      `hosts use different Keepers, so their tables never hear of each other: ` +
        `${groups.map((group) => listOf(names(group))).join(' one, ')} another; give all of them the same ` +
        '<zookeeper>',
    ),
  ];
}

/** {shard} and {replica} of all members that answer: pairs are unique, a shard has one name of its own. */
export function judgeMacros(members: readonly ReachableHost[]): TopologyFault[] {
  const faults: TopologyFault[] = [];
  const full = members.filter((host) => lackingMacros(host).length === 0);
  for (const [pair, group] of groupBy(
    full,
    ({ macros }) => `{shard} ${macros.shard}, {replica} ${macros.replica}`,
  )) {
    if (group.length < 2) continue;
    faults.push(
      fault(
        'macro_doubled',
        names(group),
        `${listOf(names(group))} have the same macros (${pair}): their tables would claim one path in ` +
          'Keeper. ' +
          'Give each replica of a shard a {replica} of its own',
      ),
    );
  }
  const named = members.filter(({ macros }) => macros.shard !== undefined);
  const shards = groupBy(named, ({ member }) => member?.shard ?? 0);
  const single = new Map<string, number>();
  for (const [shard, group] of shards) {
    const values = [...new Set(group.map(({ macros }) => macros.shard ?? ''))];
    if (values.length > 1) {
      faults.push(
        fault(
          'macro_disagrees',
          names(group),
          `replicas of shard_num ${shard + 1} have different macros {shard}: ` +
            `${listOf(group.map(({ host, macros }) => `${host} has ${macros.shard}`))}; they would not ` +
            'replicate ' +
            'each other. Give all replicas of a shard the same',
        ),
      );
      continue;
    }
    const [value = ''] = values;
    const other = single.get(value);
    single.set(value, shard);
    if (other === undefined) continue;
    const both = [...(shards.get(other) ?? []), ...group];
    faults.push(
      fault(
        'macro_disagrees',
        names(both),
        `the hosts of shard_num ${other + 1} and ${shard + 1} have the same macro {shard} ${value} ` +
          `(${listOf(names(both))}): they would replicate each other's rows. Give each shard its own`,
      ),
    );
  }
  return faults;
}

export function judgeInternalReplication(
  cluster: string,
  definition: Definition,
  replicated: boolean,
): TopologyFault[] {
  const wrong = shardsOf(definition).flatMap(([first, ...others], shard) =>
    replicated && others.length > 0 && first?.internalReplication === false ? [shard + 1] : [],
  );
  if (wrong.length === 0) return [];
  return [
    fault(
      'internal_replication_off',
      [],
      `internal_replication is false for shard_num ${listOf(wrong.map(String))} of the cluster ` +
        `"${cluster}", but its ` +
        'tables are replicated: an INSERT into a Distributed table would store its rows several times. Set ' +
        '<internal_replication>true</internal_replication> on every host',
    ),
  ];
}

function lackingMacros({ macros }: Pick<HostFacts, 'macros'>): string[] {
  return ['shard', 'replica'].filter((macro) => (macros[macro] ?? '') === '');
}

function names(hosts: readonly ReachableHost[]): string[] {
  return hosts.map(({ host }) => host);
}
