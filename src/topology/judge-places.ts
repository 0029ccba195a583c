/** What is wrong with where hosts are looked for: addresses, mappings, names. Pure. */
import { hidePassword } from '../config/kinds.ts';
import { type Member, nameOf, placeOf } from './definition.ts';
import type { Answer } from './endpoint.ts';
import { type TopologyFault, fault, listOf } from './faults.ts';
import type { NativeAnswer, ServerIdentity } from './identity.ts';
import { isUnresolved } from './judge-hosts.ts';
import type { Evidence, Placing } from './placing.ts';

export function judgePlaces(
  cluster: string,
  evidence: Evidence,
  placing: Placing,
  hostOf: (url: string) => string,
): TopologyFault[] {
  const { given, answers, natives } = evidence;
  const answerAt = (url: string) => identityIn(answers.get(url));
  const faults: TopologyFault[] = [];
  for (const { member, urls } of placing.rivals) {
    faults.push(
      fault(
        'two_sets_of_hosts',
        urls.map(hostOf),
        `${listOf(urls.map(hostOf))} are different servers, but each takes itself for ${nameOf(member)}, ` +
          `${placeOf(member)} of the cluster "${cluster}": write names into <remote_servers> that mean ` +
          'the same ' +
          'host everywhere',
      ),
    );
  }
  for (const members of placing.twins) {
    faults.push(
      fault(
        'member_twice',
        members.map(nameOf),
        `${listOf(members.map((member) => `${nameOf(member)} (${placeOf(member)})`))} are one and the ` +
          'same server: ' +
          `take all but one out of the definition of "${cluster}" on every host`,
      ),
    );
  }
  for (const { member, url } of placing.wrong) {
    const native = natives.get(nameOf(member));
    faults.push(
      fault(
        'address_wrong',
        [nameOf(member)],
        `SLUICE_CLICKHOUSE_ADDRESSES leads ${nameOf(member)} (${placeOf(member)}) to ` +
          `${hidePassword(url)}, but there ` +
          `answers another server: ${wordsOf(answerAt(url))} instead of ${wordsOf(identityIn(native))}`,
      ),
    );
  }
  for (const { url, of } of placing.aliases) {
    if (!given.includes(of)) continue;
    faults.push(
      fault('host_twice', [hostOf(of), hostOf(url)], sameServerWords(hostOf(of), hostOf(url), answerAt(of))),
    );
  }
  for (const url of placing.strangers) faults.push(strangerFault(cluster, hostOf(url), answers.get(url)));
  return faults;
}

/** One server that the settings name twice, in words. */
export function sameServerWords(one: string, other: string, identity: ServerIdentity | undefined): string {
  return (
    `${one} and ${other} are one and the same server under two names (${wordsOf(identity)}): ` +
    'keep one of them in SLUICE_CLICKHOUSE_URL'
  );
}

/** A member for which no address is known: where it was looked for, and how to say where it is. */
export function missingAddress(
  member: Member,
  derived: { readonly host: string; readonly answer: Answer } | undefined,
  native: NativeAnswer | undefined,
): TopologyFault {
  const name = nameOf(member);
  const setting = `SLUICE_CLICKHOUSE_ADDRESSES=${name}=http://host:8123`;
  const remedy = `say where it is reached from here with ${setting}`;
  const seen =
    native?.state === 'up'
      ? '; the other hosts do reach it'
      : native?.state === 'down'
        ? '; the other hosts do not reach it either, so it may be down'
        : '';
  const code = derived?.answer.reachable === false ? derived.answer.fault.code : '';
  if (isUnresolved(code)) {
    return fault(
      'name_unresolved',
      [name],
      `${name} (${placeOf(member)}) has a name that doesn't resolve here (${code})${seen}: mend DNS, or ` +
        `${remedy}`,
    );
  }
  return fault(
    'address_missing',
    [name],
    `nobody knows where ${name} (${placeOf(member)}) is reached by HTTP: ${tried(derived)}${seen}; ${remedy}`,
  );
}

function tried(derived: { readonly host: string; readonly answer: Answer } | undefined): string {
  if (derived === undefined) return 'no URL of SLUICE_CLICKHOUSE_URL leads to it';
  if (!derived.answer.reachable) return derived.answer.fault.message;
  return `at ${derived.host} answers another server (${wordsOf(derived.answer.facts.identity)})`;
}

function strangerFault(cluster: string, host: string, answer: Answer | undefined): TopologyFault {
  if (answer?.reachable && answer.facts.balanced) {
    return fault(
      'url_balanced',
      [host],
      `${host} is a load balancer in front of several servers: it is used to find the cluster, and never ` +
        'to ' +
        'write, since nobody knows which server would get the rows',
    );
  }
  const known = answer?.reachable && answer.facts.definition === undefined ? ', and knows nothing of it' : '';
  return fault(
    'host_foreign',
    [host],
    `${host} answers, but is no member of the cluster "${cluster}"${known}: add it to <remote_servers> on ` +
      'every host, or take it out of SLUICE_CLICKHOUSE_URL',
  );
}

function identityIn(answer: Answer | NativeAnswer | undefined): ServerIdentity | undefined {
  if (answer === undefined) return undefined;
  if ('state' in answer) return answer.state === 'up' ? answer.identity : undefined;
  return answer.reachable ? answer.facts.identity : undefined;
}

export function wordsOf(identity: ServerIdentity | undefined): string {
  if (identity === undefined) return 'an unknown one';
  const port = identity.tcpPort === undefined ? '' : `, native port ${identity.tcpPort}`;
  return `${identity.hostName} with ${identity.dataPath}${port}`;
}
