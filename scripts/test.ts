/**
 * Runs the tests and ends with one line, `N passed, N failed`. Arguments go to vitest: folders, files, --coverage.
 * Exit code 1 when a test failed, when a file could not be run, or when nothing ran at all.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { relative } from 'node:path';

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
  testResults: {
    name: string;
    status: string;
    message?: string;
    assertionResults: { status: string; fullName: string; failureMessages?: string[] }[];
  }[];
}
const results = JSON.parse(readFileSync(RESULTS, 'utf8')) as Results;
// A file that could not even be loaded has no tests to fail: it counts as one.
const broken = results.testResults.filter((file) => file.status === 'failed' && file.assertionResults.length === 0);
const failed = results.numFailedTests + broken.length;
// Once more and short, next to the count: whoever sees only the end of a log wants to know which.
for (const { name, assertionResults } of results.testResults) {
  for (const { status, fullName, failureMessages } of assertionResults) {
    if (status !== 'failed') continue;
    const why = (failureMessages?.[0] ?? '').split('\n', 3).join(' ');
    console.log(`failed: ${relative(process.cwd(), name)}: ${fullName}: ${why}`);
  }
}
for (const { name, message } of broken) console.log(`failed: ${relative(process.cwd(), name)}: ${message ?? ''}`);
console.log(`${results.numPassedTests} passed, ${failed} failed`);
process.exit(status === 0 && failed === 0 && results.numPassedTests > 0 ? 0 : 1);
