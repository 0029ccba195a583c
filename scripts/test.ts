/**
 * Runs the tests and ends with one line, `N passed, N failed`. Arguments go to vitest: folders, files, --coverage.
 * Exit code 1 when a test failed, when a file could not be run, or when nothing ran at all.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';

const RESULTS = 'build/test-results.json';
mkdirSync('build', { recursive: true });
rmSync(RESULTS, { force: true });
const given = process.argv.slice(2);
const { status } = spawnSync(
  'vitest',
  ['run', '--passWithNoTests', '--reporter=default', '--reporter=json', `--outputFile.json=${RESULTS}`, ...given],
  { stdio: 'inherit' },
);

interface Results {
  numPassedTests: number;
  numFailedTests: number;
  testResults: { status: string; assertionResults: unknown[] }[];
}
const results = JSON.parse(readFileSync(RESULTS, 'utf8')) as Results;
// A file that could not even be loaded has no tests to fail: it counts as one.
const broken = results.testResults.filter((file) => file.status === 'failed' && file.assertionResults.length === 0);
const failed = results.numFailedTests + broken.length;
console.log(`${results.numPassedTests} passed, ${failed} failed`);
process.exit(status === 0 && failed === 0 && results.numPassedTests > 0 ? 0 : 1);
