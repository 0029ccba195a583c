/**
 * The cluster as it really is: every host is asked directly, what they say is compared, and out of what they
 * agree on comes a topology. In: the settings. Out: a Discovery, always: trouble of hosts is in its faults.
 */
import type { Logger } from '../base/log.ts';
import type { Settings } from '../config/settings.ts';
import { type Definition, type Member, nameOf, shardsOf } from './definition.ts';
import { type Answer, Endpoint } from './endpoint.ts';
import { type TopologyFault, fault, isError, listOf } from './faults.ts';
import type { HostPlace, HostReport } from './host-report.ts';
import type { NativeAnswer } from './identity.ts';
import { agree, judgeIgnorance, judgeShape } from './judge-cluster.ts';
import { judgeHosts, judgeReach, reachable } from './judge-hosts.ts';
import { judgePlaces, missingAddress } from './judge-places.ts';
import { type Evidence, type Placing, type Remembered, isProven, place, unproven } from './placing.ts';
import { judgeInternalReplication, judgeMacros, judgeReplication } from './judge-replication.ts';
import { nobodyAnswers, reportOf } from './reports.ts';
import { discoverServers } from './servers.ts';
import type { Topology } from './topology.ts';
import { derivedUrl, isOwnName, mappedUrls, unusedMappings } from './urls.ts';

export interface Discovery {
  /** Undefined where a fault of severity `error` says why it can't be used. */
  readonly topology: Topology | undefined;
  /** Tables are to get Replicated engines. */
  readonly replicated: boolean;
  /** Every member of the cluster, shard by shard; then URLs that lead to none. */
  readonly hosts: readonly HostReport[];
  readonly faults: readonly TopologyFault[];
}

/** What stays known of a member when it goes away. */
interface Known extends Remembered {
  /** Its macro {shard}. */
  readonly shardName: string;
}

/** A second server is asked where the first could not say who a member is. */
const ASKERS_MAX = 2;

export class Discoverer {
  readonly #settings: Settings['clickhouse'];
  readonly #logger: Logger;
  /** By URL; kept from look to look. */
  readonly #endpoints = new Map<string, Endpoint>();
  /** By the member's `host:port`; without a cluster, the server in use under an empty name. */
  readonly #known = new Map<string, Known>();

  constructor(settings: Settings['clickhouse'], logger: Logger) {
    this.#settings = settings;
    this.#logger = logger;
  }

  /**
   * Asks all hosts, each of them within a bound of time; hosts that were found once are looked for where they
   * were. Never rejects for a host's trouble.
   * @throws ConfigurationError where a URL can't be used
   */
  async discover(): Promise<Discovery> {
    const given = [...new Set(this.#settings.urls)];
    if (this.#settings.cluster !== '') return this.#discoverCluster(given);
    const answers = await this.#ask(given);
    const before = this.#known.get('')?.url;
    const { chosen, discovery } = discoverServers(this.#settings, answers, before, this.#hostOf);
    if (chosen !== undefined) this.#known.set('', { url: chosen, identity: undefined, shardName: '' });
    return discovery;
  }

  /** Ends all connections. Not to be used afterwards. */
  async close(): Promise<void> {
    await Promise.all([...this.#endpoints.values()].map((endpoint) => endpoint.close()));
    this.#endpoints.clear();
  }

  async #discoverCluster(given: readonly string[]): Promise<Discovery> {
    const { cluster } = this.#settings;
    const mapped = mappedUrls(this.#settings);
    const before = [...this.#known.values()].map(({ url }) => url);
    const answers = await this.#ask([...given, ...mapped.values(), ...before]);
    const asked = [...answers.keys()];
    const first = agree(cluster, this.#voices(answers, asked));
    if (first.definition === undefined) return this.#unusable(asked, answers, first.faults);
    const evidence = await this.#evidence(first.definition, given, mapped, answers);
    const placing = place(evidence);
    // Hosts that were found by their own names have a say too; whoever else answers there has none.
    const { definition, faults } = agree(
      cluster,
      this.#voices(answers, [...asked, ...placing.urls.values()]),
    );
    if (definition === undefined) {
      return this.#unusable([...asked, ...placing.urls.values()], answers, faults);
    }
    return this.#judge(definition, evidence, placing, faults);
  }

  /** All that can be found out about which URL is which member. */
  async #evidence(
    members: Definition,
    given: readonly string[],
    mapped: ReadonlyMap<string, string>,
    answers: Map<string, Answer>,
  ): Promise<Evidence> {
    const begin: Evidence = {
      members,
      given,
      mapped,
      remembered: this.#known,
      derived: new Map(),
      natives: new Map(),
      answers,
    };
    const placing = place(begin);
    const suspects = unproven(begin, placing);
    const settled = (member: Member) => {
      const url = placing.urls.get(nameOf(member));
      if (mapped.has(nameOf(member))) return true;
      if (url === undefined || suspects.includes(member)) return false;
      return url === this.#known.get(nameOf(member))?.url || isOwnName(url, member);
    };
    const derived = new Map<string, string>();
    for (const member of members.filter((one) => !settled(one))) {
      const url = derivedUrl(given, member);
      if (url !== undefined) derived.set(nameOf(member), url);
    }
    const questionable = members.filter((member) => suspects.includes(member) || derived.has(nameOf(member)));
    const [natives] = await Promise.all([
      this.#askNatively(questionable, answers),
      this.#ask([...derived.values()], answers),
    ]);
    return { ...begin, derived, natives };
  }

  #judge(
    definition: Definition,
    evidence: Evidence,
    placing: Placing,
    found: readonly TopologyFault[],
  ): Discovery {
    const { cluster, database } = this.#settings;
    const hosts = [
      ...this.#memberReports(definition, evidence, placing),
      ...this.#otherReports(evidence, placing),
    ];
    const members = reachable(hosts).filter(({ member }) => member !== undefined);
    const shards = shardsOf(definition);
    const weights = shards.map(([one]) => one?.weight ?? 0);
    const counts = shards.map((replicas) => replicas.length);
    const replication = judgeReplication(
      this.#settings,
      counts.some((count) => count > 1),
      members,
    );
    const misled = placing.wrong.map(({ member }) => member);
    const lost = definition.filter((member) => !placing.urls.has(nameOf(member)) && !misled.includes(member));
    const unused = unusedMappings(this.#settings, definition);
    const faults = [
      ...found,
      ...judgePlaces(cluster, evidence, placing, this.#hostOf),
      ...judgeShape(this.#settings, counts, weights),
      ...judgeIgnorance(cluster, members),
      ...judgeMacros(members),
      ...replication.faults,
      ...judgeInternalReplication(cluster, definition, replication.replicated),
      ...lost.map((member) => this.#missingAddress(member, evidence)),
      ...(unused.length === 0 ? [] : [unusedFault(cluster, unused, definition)]),
      ...judgeReach(hosts),
      ...judgeHosts(hosts, database),
    ];
    this.#remember(definition, evidence, placing);
    const usable = !faults.some(isError);
    const topology = usable ? this.#topology(definition, placing) : undefined;
    return { topology, replicated: replication.replicated, hosts, faults };
  }

  #topology(definition: Definition, placing: Placing): Topology {
    const names = new Set<string>();
    const nameFor = (member: Member, url: string | undefined) => {
      // Two members behind one host and port (paths of a proxy) are named as in system.clusters.
      const host = url === undefined ? nameOf(member) : this.#hostOf(url);
      const name = names.has(host) ? nameOf(member) : host;
      names.add(name);
      return name;
    };
    const shards = shardsOf(definition).map((members, shard) => ({
      shard,
      weight: members[0]?.weight ?? 0,
      name: members.map((member) => this.#known.get(nameOf(member))?.shardName).find(Boolean) ?? '',
      replicas: members.map((member, replica) => {
        const url = placing.urls.get(nameOf(member));
        return { shard, replica, url, host: nameFor(member, url) };
      }),
    }));
    return { cluster: this.#settings.cluster, shards };
  }

  #memberReports(definition: Definition, evidence: Evidence, placing: Placing): HostReport[] {
    return shardsOf(definition).flatMap((members, shard) =>
      members.map((member, replica) => {
        const address = nameOf(member);
        const url = placing.urls.get(address);
        const at = { member: { shard, replica }, address, weight: member.weight };
        if (url !== undefined) return this.#report(url, evidence.answers, at);
        const { code, message } = this.#missingAddress(member, evidence);
        return { ...at, host: address, url: undefined, reachable: false, code, why: message };
      }),
    );
  }

  #otherReports({ answers }: Evidence, { strangers, open }: Placing): HostReport[] {
    return [...strangers, ...open].map((url) => this.#report(url, answers));
  }

  #report(url: string, answers: ReadonlyMap<string, Answer>, at: Partial<HostPlace> = {}): HostReport {
    const answer = answers.get(url);
    const place: HostPlace = {
      host: this.#hostOf(url),
      url,
      member: at.member,
      address: at.address,
      weight: at.weight,
    };
    return reportOf(place, answer);
  }

  /** Nobody answers, or what they say can't be brought together. */
  #unusable(
    urls: readonly string[],
    answers: ReadonlyMap<string, Answer>,
    why: readonly TopologyFault[],
  ): Discovery {
    const hosts = [...new Set(urls)].map((url) => this.#report(url, answers));
    const silent = reachable(hosts).length === 0;
    const faults = silent ? [nobodyAnswers(hosts)] : why;
    return {
      topology: undefined,
      replicated: false,
      hosts,
      faults: [...faults, ...judgeReach(hosts), ...judgeHosts(hosts, this.#settings.database)],
    };
  }

  #missingAddress(member: Member, { derived, answers, natives }: Evidence): TopologyFault {
    const url = derived.get(nameOf(member));
    const answer = url === undefined ? undefined : answers.get(url);
    const tried = url === undefined || answer === undefined ? undefined : { host: this.#hostOf(url), answer };
    return missingAddress(member, tried, natives.get(nameOf(member)));
  }

  #remember(definition: Definition, evidence: Evidence, placing: Placing): void {
    const names = new Set(definition.map(nameOf));
    for (const name of this.#known.keys()) if (!names.has(name)) this.#known.delete(name);
    for (const member of definition) {
      const name = nameOf(member);
      const url = placing.urls.get(name);
      const before = this.#known.get(name);
      if (url === undefined) {
        this.#known.delete(name);
        continue;
      }
      const answer = evidence.answers.get(url);
      const facts = answer?.reachable ? answer.facts : undefined;
      const proven = isProven(evidence, url, member) ? facts?.identity : undefined;
      const identity = proven ?? (before?.url === url ? before.identity : undefined);
      this.#known.set(name, { url, identity, shardName: facts?.macros['shard'] ?? before?.shardName ?? '' });
    }
  }

  readonly #hostOf = (url: string): string => this.#endpoint(url).host;

  #voices(answers: ReadonlyMap<string, Answer>, urls: readonly string[]) {
    return [...new Set(urls)].flatMap((url) => {
      const answer = answers.get(url);
      return answer?.reachable ? [{ host: this.#hostOf(url), facts: answer.facts }] : [];
    });
  }

  /** Asks those that were not asked yet. @returns the same map */
  async #ask(urls: readonly string[], answers = new Map<string, Answer>()): Promise<Map<string, Answer>> {
    const fresh = [...new Set(urls)].filter((url) => !answers.has(url));
    const endpoints = fresh.map((url) => this.#endpoint(url));
    for (const { url, answer } of await Promise.all(
      endpoints.map(async (endpoint) => ({ url: endpoint.url, answer: await endpoint.ask() })),
    ))
      answers.set(url, answer);
    return answers;
  }

  async #askNatively(
    members: readonly Member[],
    answers: ReadonlyMap<string, Answer>,
  ): Promise<Map<string, NativeAnswer>> {
    const natives = new Map<string, NativeAnswer>();
    const askers = [...answers].flatMap(([url, answer]) =>
      answer.reachable && answer.facts.definition !== undefined ? [{ url, facts: answer.facts }] : [],
    );
    for (const { url, facts } of askers.slice(0, ASKERS_MAX)) {
      const left = members.filter((member) => natives.get(nameOf(member))?.state !== 'up');
      await Promise.all(
        left.map(async (member) => {
          natives.set(nameOf(member), await this.#endpoint(url).askMember(member, facts.identity));
        }),
      );
    }
    return natives;
  }

  #endpoint(url: string): Endpoint {
    const known = this.#endpoints.get(url);
    if (known !== undefined) return known;
    const endpoint = new Endpoint(url, this.#settings, this.#logger);
    this.#endpoints.set(url, endpoint);
    return endpoint;
  }
}

function unusedFault(cluster: string, names: readonly string[], members: Definition): TopologyFault {
  return fault(
    'address_unused',
    names,
    `SLUICE_CLICKHOUSE_ADDRESSES names ${listOf(names)}, which the cluster "${cluster}" doesn't have; its ` +
      `members are ${listOf(members.map(nameOf))}`,
  );
}
