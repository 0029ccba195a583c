/** A program of its own for the tests: takes the data folder given as argument, says so, and keeps it. */
import { openDataDir } from '../../src/embedded/data-dir.ts';

openDataDir(process.argv[2] ?? '', 0);
process.stdout.write('held\n');
setInterval(() => undefined, 60_000);
