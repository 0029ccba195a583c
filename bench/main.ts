/**
 * `npm run bench -- --help`: sends OTLP to an installation of Sluice, says how fast it was and what it cost,
 * and proves that everything acknowledged is in ClickHouse exactly once. Exit codes: 0 all there once; 1
 * items missing or doubled, or it couldn't be run; 2 wrong arguments.
 */
import { runBench } from './bench.ts';
import { runCommand, watcherOf } from './command.ts';
import { benchCommand, optionsOf } from './options.ts';
import { complaintsOf, reportText } from './report.ts';

const command = benchCommand(
  'npm run bench --',
  'Sends telemetry to Sluice and counts what arrives in ClickHouse.',
);

await runCommand(command, async () => {
  const options = optionsOf(command);
  const report = await runBench(options, watcherOf(process.stderr));
  console.log(options.json ? JSON.stringify(report, null, 2) : reportText(report));
  const complaints = complaintsOf(report);
  for (const complaint of complaints) console.error(`bench: ${complaint}`);
  return complaints.length === 0;
});
