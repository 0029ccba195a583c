/**
 * Goal: the load generator as a program: help, arguments that are wrong (exit code 2, and a sentence that
 * says what is wanted), servers that aren't there (1), and a good run whose report can be read by people and
 * by programs (0).
 */
import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { BenchReport } from '../../bench/bench.ts';
import { freePort, withClickHouse } from '../support/services.ts';
import { createSinkTables, startSink } from './sink.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const SHARED = ['claim.ts', 'programs.ts'];
const CLAIMS = readdirSync(join(ROOT, 'bench/claims')).filter(
  (name) => name.endsWith('.ts') && !SHARED.includes(name),
);

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function bench(args: readonly string[], script = 'main.ts'): Promise<Ended> {
  return new Promise((end) => {
    execFile(process.execPath, [join(ROOT, 'bench', script), ...args], (error, stdout, stderr) => {
      end({ code: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}

test.each(['main.ts', ...CLAIMS.map((name) => `claims/${name}`)])('%s --help', async (script) => {
  const { code, stdout, stderr } = await bench(['--help'], script);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  for (const option of ['--signals', '--rate', '--clickhouse', '--pids', '--json'])
    expect(stdout).toContain(option);
});

describe('wrong arguments', () => {
  test.each([
    [['--signals', 'traces,spans'], 'spans is none of traces, metrics, logs'],
    [['--signals', ''], 'is none of traces, metrics, logs'],
    [['--protocol', 'http'], 'Allowed choices are grpc, http-protobuf, http-json'],
    [['--compression', 'snappy'], 'Allowed choices are none, gzip, zstd'],
    [['--protocol', 'grpc', '--compression', 'zstd'], 'OTLP/gRPC knows only none and gzip'],
    [['--streams', '2'], '--connections'],
    [['--connections', '0'], 'wanted is a whole number from 1 to 10000'],
    [['--connections', '1.5'], 'wanted is a whole number from 1 to 10000'],
    [['--request-items', '65536'], 'wanted is a whole number from 1 to 65535'],
    [['--rate', 'fast'], 'wanted is a number from 0.01'],
    [['--duration', ''], 'wanted is a number from 0.1'],
    [['--target', 'localhost'], 'localhost is not host:port'],
    [['--target', '127.0.0.1:70000'], 'is not host:port'],
    [['--clickhouse', 'somewhere'], 'wanted is http(s)://user:password@host:port, or none'],
    [['--pids', 'gateway'], 'gateway is not role=pid, for example gateway=4711'],
    [['--speed', '1'], "unknown option '--speed'"],
    [['traces'], 'too many arguments'],
  ])('%j', async (args, message) => {
    const { code, stdout, stderr } = await bench(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(message);
  });
});

test('a server that is not there is a failure', async () => {
  const target = ['--target', `127.0.0.1:${await freePort()}`];
  const few = ['--items', '1', '--request-items', '1', '--retries', '1', '--pids', 'none'];
  const { code, stdout, stderr } = await bench([...target, ...few, '--clickhouse', 'none']);
  expect(code).toBe(1);
  expect(stdout).toContain('answer ECONNREFUSED');
  expect(stderr).toContain('nothing was acknowledged');
});

test('a ClickHouse that is not there is a failure, before anything is sent', async () => {
  const sink = await startSink();
  try {
    const clickhouse = ['--clickhouse', `http://127.0.0.1:${await freePort()}`];
    const { code, stderr } = await bench(['--target', `127.0.0.1:${sink.httpPort}`, ...clickhouse]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^bench: .*127\.0\.0\.1/m);
    expect(sink.bodies).toEqual([]);
  } finally {
    await sink.stop();
  }
});

test('a good run, for people and for programs; a bad one ends with 1', async () => {
  await withClickHouse(async (clickhouse) => {
    await createSinkTables(clickhouse);
    let losing = false;
    const sink = await startSink(() => (losing ? { lose: 1 } : {}), clickhouse);
    const target = ['--target', `127.0.0.1:${sink.httpPort}`, '--clickhouse', clickhouse.url];
    const args = [
      ...target,
      '--items',
      '100',
      '--request-items',
      '10',
      '--pids',
      `sink=${process.pid}`,
      '--wait',
      '60',
    ];
    try {
      const people = await bench(args);
      expect(people).toMatchObject({ code: 0 });
      expect(people.stdout).toMatch(/^acknowledged +100 items in 10 of 10 requests/m);
      expect(people.stdout).toMatch(/^stored traces +100 of 100, missing 0, doubled 0$/m);
      expect(people.stdout).toMatch(/^sink \(\d+\) +[\d.]+ CPU s per million items/m);
      expect(people.stdout).toMatch(/^this generator /m);
      const programs = await bench([...args, '--json']);
      const report = JSON.parse(programs.stdout) as BenchReport;
      expect(report).toMatchObject({ acknowledged: { items: 100 }, storage: { missing: 0, doubled: 0 } });
      expect(report.processes).toMatchObject([{ role: 'sink', pid: process.pid }]);
      losing = true;
      const bad = await bench([...args, '--wait', '0', '--freshness', '0']);
      expect(bad.code).toBe(1);
      expect(bad.stderr).toContain('bench: 10 acknowledged items are missing');
    } finally {
      await sink.stop();
    }
  });
});
