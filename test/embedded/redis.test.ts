// Goal: the embedded Redis keeps what it acknowledged, never evicts, and says in a sentence why it can't
// start.
import { execFileSync } from 'node:child_process';
import { Redis } from 'ioredis';
import { afterEach, expect, test, vi } from 'vitest';
import { ConfigurationError } from '../../src/base/errors.ts';
import { startRedis, withRedis, withTempDir } from '../support/services.ts';

afterEach(() => {
  vi.unstubAllEnvs();
});

async function withConnection<T>(port: number, body: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = new Redis(port, '127.0.0.1');
  try {
    return await body(redis);
  } finally {
    redis.disconnect();
  }
}

test('durability, eviction and bounds are what an acknowledgement relies on', () =>
  withRedis(({ port }) =>
    withConnection(port, async (redis) => {
      const setting = async (name: string) => ((await redis.config('GET', name)) as string[])[1];
      expect(await setting('appendonly')).toBe('yes');
      expect(await setting('appendfsync')).toBe('everysec');
      expect(await setting('maxmemory-policy')).toBe('noeviction');
      expect(await setting('maxmemory')).toBe(String(1280 * 1024 * 1024));
      expect(await setting('save')).toBe('');
      expect(await setting('bind')).toBe('127.0.0.1');
    }),
  ));

test('appendfsync always and another bound of memory can be asked for', () =>
  withRedis(
    ({ port }) =>
      withConnection(port, async (redis) => {
        expect(await redis.config('GET', 'appendfsync')).toEqual(['appendfsync', 'always']);
        expect(await redis.config('GET', 'maxmemory')).toEqual(['maxmemory', '104857600']);
      }),
    { appendfsync: 'always', memoryBytesMax: 104_857_600 },
  ));

test('keys written before a stop or a kill -9 are there afterwards', () =>
  withTempDir(async (dataDir) => {
    const first = await startRedis({ dataDir });
    await withConnection(first.port, (redis) => redis.set('a', '1'));
    await first.stop();
    const second = await startRedis({ dataDir });
    await withConnection(second.port, async (redis) => {
      expect(await redis.get('a')).toBe('1');
      await redis.set('b', '2');
    });
    process.kill(second.pid, 'SIGKILL');
    await expect(second.ended).resolves.toBe('signal SIGKILL');
    const third = await startRedis({ dataDir });
    await withConnection(third.port, async (redis) => {
      expect(await redis.mget('a', 'b')).toEqual(['1', '2']);
    });
    await third.stop();
  }));

test('starts ready: not before its append-only file is loaded', () =>
  withTempDir(async (dataDir) => {
    const first = await startRedis({ dataDir });
    await withConnection(first.port, (redis) =>
      redis.eval("for i = 1, 200000 do redis.call('SET', i, i) end", 0),
    );
    await first.stop();
    const second = await startRedis({ dataDir });
    await withConnection(second.port, async (redis) => expect(await redis.dbsize()).toBe(200_000));
    await second.stop();
  }));

test('a port that is taken is refused by port and setting', () =>
  withRedis(({ port }) =>
    withTempDir(async (dataDir) => {
      const second = startRedis({ dataDir, port });
      await expect(second).rejects.toThrow(ConfigurationError);
      await expect(second).rejects.toThrow(
        new RegExp(`port ${port} for the embedded Redis .*SLUICE_EMBEDDED_REDIS_PORT`),
      );
    }),
  ));

test('without redis-server on the PATH the message says what to install or to set', () =>
  withTempDir(async (dataDir) => {
    vi.stubEnv('PATH', dataDir);
    await expect(startRedis({ dataDir })).rejects.toThrow(
      /redis-server is not on the PATH: install it .*SLUICE_REDIS_URL/,
    );
  }));

test('without setpriv it starts as well, and a leftover of an earlier run is ended by the next', () =>
  withTempDir(async (dataDir) => {
    const server = execFileSync('sh', ['-c', 'command -v redis-server'], { encoding: 'utf8' }).trim();
    execFileSync('ln', ['-s', server, `${dataDir}/redis-server`]);
    vi.stubEnv('PATH', dataDir);
    const first = await startRedis({ dataDir });
    await withConnection(first.port, (redis) => redis.set('a', '1'));
    // As after a kill -9 of the parent: nobody has stopped the first one.
    const second = await startRedis({ dataDir, port: first.port });
    await expect(first.ended).resolves.toBe('exit code 0');
    await withConnection(second.port, async (redis) => expect(await redis.get('a')).toBe('1'));
    await second.stop();
  }));
