/** Goal: what an operator gets wrong on the command line or in the settings ends with exit code 2 and a sentence that helps. */
import { createServer } from 'node:net';
import { join } from 'node:path';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { describe, expect, test, vi } from 'vitest';
import { environmentFor, run } from '../support/program.ts';
import { withTempDir } from '../support/services.ts';

/** A program takes half a second to end by itself, and many times as long on a machine with other things to do. */
vi.setConfig({ testTimeout: 120_000 });

describe('arguments', () => {
  test.each([
    [['help'], 0, /gateway/],
    [['--help'], 0, /migrate/],
    [['--version'], 0, /^\d+\.\d+\.\d+$/m],
    [['up', '--help'], 0, /embedded/],
    [['migrate', 'plan', '--help'], 0, /exit code 3/],
    [['nonsense'], 2, /unknown command/],
    [['up', '--nonsense'], 2, /unknown option/],
    [['migrate', 'nonsense'], 2, /unknown command|too many arguments/],
  ] as const)('%j ends with %i', async (args, code, words) => {
    const result = await run(args);
    expect(result.code).toBe(code);
    expect(result.stdout + result.stderr).toMatch(words);
  });
});

describe('settings', () => {
  test.each([
    [
      { SLUICE_GRPC_ADDR: 'nowhere' },
      /SLUICE_GRPC_ADDR: the value "nowhere" .* wanted: host:port .* example 0\.0\.0\.0:4317/,
    ],
    [{ SLUICE_BATCH_ROWS_MAX: '0' }, /SLUICE_BATCH_ROWS_MAX: the value "0"/],
    [{ SLUICE_CONFIG: '/nowhere.yaml' }, /SLUICE_CONFIG: \/nowhere\.yaml can't be read/],
    [{ SLUICE_REDIS_URL: 'http://x' }, /SLUICE_REDIS_URL/],
  ])('%j', async (environment, words) => {
    const commands = [['config', 'check'], ['all']];
    for (const result of await Promise.all(commands.map((args) => run(args, environment as Record<string, string>)))) {
      expect(result.code).toBe(2);
      expect(result.stderr).toMatch(words);
    }
  });

  test('config print --json shows each value and where it came from, and no secret', async () => {
    await withTempDir(async (dir) => {
      const file = join(dir, 'sluice.yaml');
      writeFileSync(file, 'batch:\n  ageMsMax: 123\n');
      const { code, stdout } = await run(['config', 'print', '--json'], {
        SLUICE_CONFIG: file,
        SLUICE_REDIS_URL: 'redis://me:hunter2@r:1/0',
      });
      expect(code).toBe(0);
      expect(stdout).not.toContain('hunter2');
      const settings = JSON.parse(stdout) as { key: string; value: string; origin: string }[];
      const find = (key: string) => settings.find((setting) => setting.key === key);
      expect(find('batch.ageMsMax')).toMatchObject({ value: '123', origin: 'file' });
      expect(find('redis.url')).toMatchObject({ origin: 'environment' });
      expect(find('batch.rowsMax')).toMatchObject({ value: '100000', origin: 'default' });
    });
  });
});

describe('up', () => {
  const PORTS = [
    'SLUICE_GRPC_ADDR',
    'SLUICE_HTTP_ADDR',
    'SLUICE_ADMIN_ADDR',
    'SLUICE_EMBEDDED_CLICKHOUSE_HTTP_PORT',
    'SLUICE_EMBEDDED_CLICKHOUSE_TCP_PORT',
    'SLUICE_EMBEDDED_REDIS_PORT',
  ];
  test.each(PORTS)('a port that is taken names %s', async (name) => {
    await withTempDir(async (dir) => {
      const environment = await environmentFor(dir);
      const port = Number(/(\d+)$/.exec(environment[name] ?? '')?.[1]);
      const squatter = createServer();
      await new Promise<void>((resolve) => squatter.listen(port, '127.0.0.1', resolve));
      try {
        const result = await run(['up'], environment);
        expect(result.stderr).toContain(name);
        expect(result.stderr).toContain(String(port));
        expect(result.code).toBe(2);
      } finally {
        squatter.close();
      }
    });
  });

  test('too little disk, and no redis-server on the machine', async () => {
    await withTempDir(async (dir) => {
      const environment = await environmentFor(dir);
      const full = await run(['up'], {
        ...environment,
        SLUICE_EMBEDDED_DISK_FREE_BYTES_MIN: String(2 ** 50),
      });
      expect(full.code).toBe(2);
      expect(full.stderr).toContain('SLUICE_EMBEDDED_DISK_FREE_BYTES_MIN');
      const bin = join(dir, 'bin');
      mkdirSync(bin);
      for (const tool of ['readlink', 'dirname']) symlinkSync(`/usr/bin/${tool}`, join(bin, tool));
      const missing = await run(['up'], { ...environment, PATH: bin });
      expect(missing.code).toBe(2);
      expect(missing.stderr).toMatch(/redis-server.*SLUICE_REDIS_URL/s);
    });
  });
});
