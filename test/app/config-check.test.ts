/** Goal: `config check --request` says what limits and rules do to a captured request, in any form it was sent in. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, test } from 'vitest';
import { encode } from '../oracle/encode.ts';
import { requestOf } from '../oracle/samples.ts';

const folder = mkdtempSync(join(tmpdir(), 'sluice-check-'));
afterAll(() => rmSync(folder, { recursive: true }));

const ids = { traceId: Buffer.alloc(16, 1), spanId: Buffer.alloc(8, 2) };
const protobuf = encode('ExportTraceServiceRequest', requestOf('traces', [{ ...ids, name: 'a' }, { ...ids, name: 'b' }]));
const hex = { traceId: '01'.repeat(16), spanId: '02'.repeat(8) };
const json = JSON.stringify({ resourceSpans: [{ scopeSpans: [{ spans: [{ ...hex, name: 'a' }, { ...hex, name: 'b' }] }] }] });
const RULES = JSON.stringify([{ name: 'no-a', action: 'drop', when: [{ field: 'name', equals: 'a' }] }]);

function run(body: string | Uint8Array, ...options: string[]): string {
  const path = join(folder, 'request');
  writeFileSync(path, body);
  const args = ['src/app/main.ts', 'config', 'check', '--request', path, ...options];
  const env = { ...process.env, SLUICE_RULES: RULES };
  try {
    return execFileSync(process.execPath, args, { env, encoding: 'utf8', stdio: 'pipe' });
  } catch (error) {
    const { status, stderr } = error as { status: number; stderr: string };
    return `${status}: ${stderr}`;
  }
}

describe('config check --request', () => {
  test.each([
    ['protobuf', protobuf, ['--signal', 'traces']],
    ['protobuf in gzip', gzipSync(protobuf), ['--signal', 'traces']],
    ['JSON', json, []],
    ['JSON in gzip', gzipSync(json), []],
  ] as const)('%s', (_, body, options) => {
    const report = JSON.parse(run(body, '--json', ...options)) as object;
    expect(report).toMatchObject({ signal: 'traces', sent: 2, stored: 1, filtered: { 'no-a': 1 }, first: ['b'] });
    expect(run(body, ...options)).toContain('2 spans were sent, 1 would be stored');
  });
  test.each([
    ['no signal', protobuf, [], '--signal is needed'],
    ['a signal that there is not', protobuf, ['--signal', 'spans'], 'there is no signal spans'],
    ['bytes that are no request', 'nonsense', ['--signal', 'logs'], 'is no valid request of logs'],
  ] as const)('%s', (_, body, options, message) => {
    expect(run(body, ...options)).toMatch(new RegExp(`^2: .*${message}`));
  });
});
