/** A report as text for people, and the verdict on it. */
import type { BenchReport, Progress } from './bench.ts';

/** @returns why a run was not good; empty when it was */
export function complaintsOf(report: BenchReport): string[] {
  const complaints: string[] = [];
  const { storage, freshnessMs } = report;
  if (report.acknowledged.items === 0) complaints.push('nothing was acknowledged');
  if (storage !== undefined && storage.missing > 0)
    complaints.push(`${number(storage.missing)} acknowledged items are missing`);
  if (storage !== undefined && storage.doubled > 0)
    complaints.push(`${number(storage.doubled)} items are doubled`);
  if (freshnessMs !== undefined && freshnessMs.lost > 0) {
    complaints.push(`${number(freshnessMs.lost)} acknowledged probes could not be read`);
  }
  return complaints;
}

export function progressLine(progress: Progress): string {
  const { seconds, itemsPerSecond, bytesPerSecond, latencyMs, troubles, retries } = progress;
  const parts = [
    `${seconds.toFixed(0).padStart(5)} s`,
    `${number(itemsPerSecond).padStart(9)} items/s`,
    `${megabytes(bytesPerSecond).padStart(8)}/s`,
    `p50 ${milliseconds(latencyMs.p50)}`,
    `p99 ${milliseconds(latencyMs.p99)}`,
    `max ${milliseconds(latencyMs.max)}`,
  ];
  if (troubles > 0) parts.push(`not acknowledged ${troubles}`, `retries ${retries}`);
  return parts.join('  ');
}

export function reportText(report: BenchReport): string {
  return [...sendingLines(report), ...storageLines(report), ...processLines(report)].join('\n');
}

function sendingLines(report: BenchReport): string[] {
  const { acknowledged, latencyMs, troubles } = report;
  const requests = `${number(acknowledged.requests)} of ${number(report.requests)} requests`;
  const lines = [
    row('run', report.run),
    row('acknowledged', `${number(acknowledged.items)} items in ${requests}, ${report.seconds.toFixed(1)} s`),
    row('rate', `${number(report.itemsPerSecond)} items/s, ${megabytes(report.bytesPerSecond)}/s`),
    row(
      'acknowledgement',
      `p50 ${milliseconds(latencyMs.p50)}, p90 ${milliseconds(latencyMs.p90)},` +
        ` p99 ${milliseconds(latencyMs.p99)}, max ${milliseconds(latencyMs.max)}`,
    ),
  ];
  if (report.rejectedItems > 0)
    lines.push(row('rejected', `${number(report.rejectedItems)} items, one by one`));
  for (const [code, { count, message }] of Object.entries(troubles)) {
    lines.push(row(`answer ${code}`, `${number(count)} times: ${message.slice(0, 200)}`));
  }
  if (report.retries > 0) lines.push(row('retries', number(report.retries)));
  return lines;
}

function storageLines({ storage, freshnessMs }: BenchReport): string[] {
  const lines: string[] = [];
  for (const [signal, audit] of Object.entries(storage?.signals ?? {})) {
    lines.push(
      row(
        `stored ${signal}`,
        `${number(audit.stored)} of ${number(audit.acknowledged)},` +
          ` missing ${number(audit.missing)}, doubled ${number(audit.doubled)}`,
      ),
    );
    if (audit.unacknowledgedStored > 0)
      lines.push(row('', `${number(audit.unacknowledgedStored)} without an answer are stored too`));
    if (audit.refusedStored > 0)
      lines.push(row('', `${number(audit.refusedStored)} of refused requests are stored`));
    for (const example of audit.examples) lines.push(row('', example));
  }
  if (storage !== undefined) {
    lines.push(row('last item', `${storage.lastItemSeconds.toFixed(2)} s after the last answer`));
    lines.push(row('end to end', `${number(storage.itemsPerSecond)} items/s`));
    if (storage.settled === false) lines.push(row('merges', 'had not come to rest'));
  }
  if (freshnessMs !== undefined && freshnessMs.count > 0) {
    lines.push(
      row(
        'readable after',
        `p50 ${milliseconds(freshnessMs.p50)}, p99 ${milliseconds(freshnessMs.p99)},` +
          ` max ${milliseconds(freshnessMs.max)} (${number(freshnessMs.count)} probes)`,
      ),
    );
  }
  return lines;
}

function processLines(report: BenchReport): string[] {
  const millions = report.acknowledged.items / 1e6;
  const perMillion = (seconds: number): string =>
    `${(seconds / millions).toFixed(2)} CPU s per million items`;
  if (millions === 0) return [];
  const lines = report.processes.map(({ role, pid, cpuSeconds, rssBytesMax, rssBytesEnd }) =>
    row(
      `${role} (${pid})`,
      `${perMillion(cpuSeconds)}, memory ${megabytes(rssBytesMax)} at most,` +
        ` ${megabytes(rssBytesEnd)} in the end`,
    ),
  );
  return [...lines, row('this generator', perMillion(report.generatorCpuSeconds))];
}

function row(name: string, text: string): string {
  return `${name.padEnd(22)}${text}`;
}

function number(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

function milliseconds(ms: number): string {
  return ms < 10 ? `${ms.toFixed(2)} ms` : `${ms.toFixed(0)} ms`;
}
