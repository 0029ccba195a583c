/** Answers as reports. Pure. */
import type { Answer } from './endpoint.ts';
import { type TopologyFault, fault, listOf } from './faults.ts';
import type { HostPlace, HostReport } from './host-report.ts';

export function reportOf(place: HostPlace, answer: Answer | undefined): HostReport {
  if (answer?.reachable) return { ...place, reachable: true, ...answer.facts };
  const { code, message } = answer?.fault ?? { code: 'address_missing', message: 'nobody has asked it' };
  return { ...place, reachable: false, code, why: message };
}

export function nobodyAnswers(hosts: readonly HostReport[]): TopologyFault {
  const names = hosts.map(({ host }) => host);
  const subject = names.length === 1 ? `${names[0]} doesn't answer` : `none of ${listOf(names)} answers`;
  return fault(
    'no_host_answers',
    names,
    `${subject}, so nobody tells what the cluster is made of: start a server, or mend SLUICE_CLICKHOUSE_URL`,
  );
}
