/** What every claim shares: it runs the load against a running Sluice, prints its figures and judges them. */
import type { Command } from 'commander';
import type { BenchReport, Watcher } from '../bench.ts';
import { runBench } from '../bench.ts';
import { runCommand, watcherOf } from '../command.ts';
import { benchCommand, type BenchOptions, optionsOf } from '../options.ts';
import { complaintsOf } from '../report.ts';

/** A figure and its bounds; those that are undefined are not judged. */
export interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** Throughput is the better the more, everything else the less. */
  readonly better: 'less' | 'more';
  readonly must: number | undefined;
  readonly aim: number | undefined;
}

/** A run whose items are not all there once proves nothing: it ends the claim. */
export type Measure = (change: Partial<BenchOptions>) => Promise<BenchReport>;

export interface Claim {
  readonly name: string;
  readonly description: string;
  /** Further options of this claim alone. */
  readonly extend?: (command: Command) => void;
  /** @param options as given on the command line, `measure` runs them with changes */
  readonly body: (options: BenchOptions, measure: Measure, command: Command) => Promise<Figure[]>;
}

/** Exit codes: 0 every must is met; 1 one is not, or items were lost or doubled; 2 wrong arguments. */
export async function runClaim(claim: Claim): Promise<void> {
  const command = benchCommand(`node bench/claims/${claim.name}.ts`, claim.description);
  claim.extend?.(command);
  await runCommand(command, async () => {
    const options = optionsOf(command);
    const watcher = watcherOf(process.stderr);
    const figures = await claim.body(
      options,
      (change) => measured({ ...options, ...change }, watcher),
      command,
    );
    console.log(options.json ? JSON.stringify(figures, null, 2) : figureTable(figures));
    return figures.every(meetsMust);
  });
}

async function measured(options: BenchOptions, watcher: Watcher): Promise<BenchReport> {
  const report = await runBench(options, watcher);
  const complaints = complaintsOf(report);
  if (complaints.length > 0) throw new Error(`run ${report.run}: ${complaints.join(', ')}`);
  return report;
}

export function meetsMust({ value, must, better }: Figure): boolean {
  return must === undefined || reaches(value, must, better);
}

function reaches(value: number, bound: number, better: Figure['better']): boolean {
  return better === 'less' ? value <= bound : value >= bound;
}

/** One line a figure: value, must, aim, and which of them it reaches. */
export function figureTable(figures: readonly Figure[]): string {
  const head = ['figure', 'measured', 'must', 'aim', ''];
  const rows = figures.map((figure) => [
    `${figure.name}, ${figure.unit}`,
    numberText(figure.value),
    figure.must === undefined ? '' : numberText(figure.must),
    figure.aim === undefined ? '' : numberText(figure.aim),
    verdict(figure),
  ]);
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map((row) => row[column]?.length ?? 0)));
  return [head, ...rows]
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

function verdict(figure: Figure): string {
  if (!meetsMust(figure)) return 'MISSES THE MUST';
  if (figure.aim !== undefined && reaches(figure.value, figure.aim, figure.better)) return 'reaches the aim';
  return figure.must === undefined ? '' : 'meets the must';
}

function numberText(value: number): string {
  return value.toLocaleString('en-US', { maximumFractionDigits: value < 100 ? 2 : 0 });
}
