/** What main.ts and the claims have in common as programs: arguments, exit codes, progress, Ctrl-C. */
import { type Command, CommanderError } from 'commander';
import { ConfigurationError, messageOf } from '../src/base/errors.ts';
import type { Watcher } from './bench.ts';
import { progressLine } from './report.ts';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/**
 * Parses the arguments, runs `body` and sets the exit code: 0 when it gave true, 1 otherwise, 2 for wrong
 * arguments.
 */
export async function runCommand(command: Command, body: () => Promise<boolean>): Promise<void> {
  try {
    command.parse();
    if (!(await body())) process.exitCode = EXIT_FAILED;
  } catch (error) {
    if (error instanceof CommanderError) {
      // commander has said what is wrong, or printed the help, which is no error.
      process.exitCode = error.exitCode === 0 ? 0 : EXIT_USAGE;
      return;
    }
    console.error(`bench: ${messageOf(error)}`);
    process.exitCode = error instanceof ConfigurationError ? EXIT_USAGE : EXIT_FAILED;
  }
}

/** Writes a line a second. The first Ctrl-C ends the sending only: what was sent is still counted. */
export function watcherOf(stream: NodeJS.WritableStream): Watcher {
  return {
    progress: (progress) => stream.write(`${progressLine(progress)}\n`),
    note: (text) => stream.write(`${text}\n`),
    started: (stop) => {
      process.once('SIGINT', stop);
      return () => process.off('SIGINT', stop);
    },
  };
}
