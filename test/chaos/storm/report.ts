/** The report of a storm: as data, for --json, and as text. */
import { SIGNALS, type Signal } from '../../../src/model/signal.ts';
import type { Audit, Book, Found } from './audit.ts';
import type { Happened } from './faults.ts';
import { describeFault } from './plan.ts';
import type { Seen } from './tally.ts';

export interface StormReport {
  readonly seed: number;
  readonly variant: string;
  readonly seconds: number;
  /** The command that does the same again. */
  readonly again: string;
  /** By kind and target, without the number of the target. */
  readonly faults: Readonly<Record<string, number>>;
  readonly faultsDone: number;
  readonly faultsMissed: number;
  readonly answers: Readonly<Record<string, Seen>>;
  readonly requests: number;
  readonly acknowledgedRecords: number;
  readonly unknownRecords: number;
  readonly unknownStored: number;
  readonly resends: number;
  readonly repeats: number;
  readonly hedges: number;
  readonly vanished: number;
  readonly gaveUp: number;
  readonly refusedForGood: number;
  /** Counted by the gateways; what one counted shortly before it was killed is lost, so at least so many. */
  readonly duplicateItemsAtLeast: number;
  readonly longestSilenceMs: number;
  readonly longestSilenceFromMs: number;
  /** From the last fault's end until nothing waited any more. */
  readonly drainMs: number;
  /** Of the embedded servers, by themselves: see StormClickHouse. */
  readonly clickhouseCrashes: number;
  readonly missing: number;
  readonly doubled: number;
  readonly invented: number;
  readonly damaged: number;
  readonly tracesWithoutRange: number;
  readonly signals: Audit['signals'];
  readonly books: Readonly<Record<Signal, Book>>;
  /** Everything that is wrong, in words; empty when the promise was kept. */
  readonly wrong: readonly string[];
  /** The first lost or doubled records. */
  readonly examples: readonly string[];
  /** Where data and logs are, if they were kept. */
  readonly kept: string | undefined;
}

const EXAMPLES_MAX = 10;
/** Faults that ended so long before may still be the cause. */
const ECHO_MS = 3_000;

/** One line a finding: which request, whose, when, where its rows are, and what was broken at that time. */
export function describeFound(
  { sent, request, what, records, where }: Found,
  clientName: (client: number) => string,
  happened: readonly Happened[],
): string {
  if (sent === undefined) return `${records} records ${what}: request ${request} was never sent; ${where}`;
  const { beganMs, endedMs } = sent;
  const about =
    `request ${request} (${sent.signal}, ${sent.records} records, ${sent.state}, ` +
    `${sent.attempts} attempts, ${clientName(sent.client)}, from ${beganMs} to ${endedMs} ms)`;
  const during = happened
    .filter(({ fromMs, untilMs }) => fromMs <= endedMs && (untilMs ?? endedMs) >= beganMs - ECHO_MS)
    .map(({ fault, fromMs }) => `${fault.number}. ${describeFault(fault)} at ${fromMs}`);
  const faults = during.join(', ') || 'none';
  return `${records} records ${what}: ${about}; ${where || 'not located'}; faults: ${faults}`;
}

export function examplesOf(
  found: readonly Found[],
  clientName: (client: number) => string,
  happened: readonly Happened[],
): string[] {
  return found.slice(0, EXAMPLES_MAX).map((one) => describeFound(one, clientName, happened));
}

export function countFaults(happened: readonly Happened[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { fault, missed } of happened) {
    const kind = missed === undefined ? fault.kind : `${fault.kind} (missed)`;
    const name = `${kind} ${fault.target.replace(/-\d+/g, '')}`;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return Object.fromEntries(Object.entries(counts).sort(([one], [other]) => (one < other ? -1 : 1)));
}

/** One line, for several seeds after each other. */
export function summaryLine(report: StormReport): string {
  const { seed, acknowledgedRecords, faultsDone, seconds, missing, doubled, wrong } = report;
  const figures =
    `${acknowledgedRecords} records acknowledged, ${faultsDone} faults, ${seconds} s, ` +
    `missing ${missing}, doubled ${doubled}`;
  return `seed ${seed}: ${wrong.length === 0 ? 'kept' : 'BROKEN'}; ${figures}`;
}

export function textOf(report: StormReport): string {
  const lines = [
    '',
    `seed ${report.seed}, Redis ${report.variant}, ${report.seconds} s of load`,
    '',
    `faults: ${report.faultsDone} done, ${report.faultsMissed} missed (what they were to break was just ` +
      `away); embedded ClickHouse crashed by itself ${report.clickhouseCrashes} times`,
    ...Object.entries(report.faults).map(([name, count]) => `  ${String(count).padStart(5)}  ${name}`),
    '',
    'answers:',
    ...Object.entries(report.answers).map(([code, { count, message }]) => {
      return `  ${String(count).padStart(7)}  ${code}${message === '' ? '' : `: ${message.slice(0, 120)}`}`;
    }),
    '',
    `requests ${report.requests}; sent again ${report.resends} times; on purpose after their ` +
      `acknowledgement ${report.repeats}, to two gateways at once ${report.hedges}; left behind ` +
      `${report.vanished}, given up ${report.gaveUp}`,
    `items recognised as repeated: at least ${report.duplicateItemsAtLeast} (a killed gateway takes its ` +
      'latest count with it)',
    `longest time without an acknowledgement: ${report.longestSilenceMs} ms, from ` +
      `${report.longestSilenceFromMs} ms on; nothing waited ${report.drainMs} ms after all was healed`,
    '',
    ...SIGNALS.map((signal) => signalLine(signal, report)),
    `records acknowledged ${report.acknowledgedRecords}; with an unknown end ${report.unknownRecords}, of ` +
      `them stored ${report.unknownStored}`,
    `missing ${report.missing}, doubled ${report.doubled}, invented ${report.invented}, damaged ` +
      `${report.damaged}, traces without their time range ${report.tracesWithoutRange}`,
  ];
  if (report.examples.length > 0) lines.push('', ...report.examples.map((text) => `- ${text}`));
  if (report.wrong.length > 0) lines.push('', ...report.wrong.map((text) => `WRONG: ${text}`));
  if (report.kept !== undefined) lines.push(`data and logs: ${report.kept}`);
  lines.push('', `again: ${report.again}`, summaryLine(report));
  return lines.join('\n');
}

function signalLine(signal: Signal, { signals, books }: StormReport): string {
  const { acknowledged, stored, rows } = signals[signal];
  const { accepted, written, waiting, dead, dropped } = books[signal];
  return (
    `${signal}: acknowledged ${acknowledged}, of them stored ${stored}, rows ${rows}; books: accepted ` +
    `${accepted} = written ${written} + waiting ${waiting} + dead ${dead} + dropped ${dropped}`
  );
}
