/**
 * Goal: what Redis is set to is read from a real one, and each setting that endangers an acknowledgement is
 * found.
 */
import { afterAll, describe, expect, it } from 'vitest';
import { inspectRedis, judgeRedis, type RedisFacts } from '../../src/redis/check.ts';
import { RedisServer } from './server.ts';

const GOOD: RedisFacts = {
  version: '7.0.15',
  maxmemoryBytes: 0,
  maxmemoryPolicy: 'noeviction',
  appendonly: true,
  appendfsync: 'everysec',
  replicas: 0,
};

describe('judgeRedis', () => {
  it.each([
    ['a good one', {}, 'everysec', []],
    ['a good one, always', { appendfsync: 'always' }, 'always', []],
    ['a newer one', { version: '8.2.1' }, 'everysec', []],
    ['an old one', { version: '6.2.14' }, 'everysec', [['warn', '6.2.14']]],
    ['eviction', { maxmemoryPolicy: 'allkeys-lru' }, 'everysec', [['refuse', 'allkeys-lru']]],
    ['a hidden policy', { maxmemoryPolicy: undefined }, 'everysec', [['warn', 'maxmemory-policy']]],
    ['no AOF', { appendonly: false }, 'everysec', [['warn', 'appendonly']]],
    [
      'no AOF where always is promised',
      { appendonly: false, appendfsync: 'always' },
      'always',
      [['refuse', 'appendonly']],
    ],
    ['everysec where always is promised', {}, 'always', [['refuse', 'appendfsync is everysec']]],
    [
      'an unknown fsync where always is promised',
      { appendfsync: undefined },
      'always',
      [['refuse', 'unknown']],
    ],
    ['no fsync', { appendfsync: 'no' }, 'everysec', [['warn', 'appendfsync is no']]],
    ['replicated', { replicas: 2 }, 'replicated', [['refuse', 'replicated']]],
  ] as const)('%s', (_, facts, durability, findings) => {
    const found = judgeRedis({ ...GOOD, ...facts }, durability);
    expect(found.map(({ level }) => level)).toEqual(findings.map(([level]) => level));
    for (const [i, [, text]] of findings.entries()) expect(found[i]?.message).toContain(text);
  });
});

describe('inspectRedis', () => {
  const servers: RedisServer[] = [];
  const started = async (...args: string[]) => {
    const server = await RedisServer.start(...args);
    servers.push(server);
    return server;
  };
  afterAll(() => Promise.all(servers.map((server) => server.remove())));

  it('reads a real Redis', async () => {
    const server = await started('--maxmemory', '100mb', '--appendfsync', 'always');
    const connection = await server.connect();
    const facts = await inspectRedis(connection);
    expect(facts).toEqual({
      version: expect.stringMatching(/^\d+\.\d+\.\d+$/),
      maxmemoryBytes: 104_857_600,
      maxmemoryPolicy: 'noeviction',
      appendonly: true,
      appendfsync: 'always',
      replicas: 0,
    });
    connection.close();
  });

  it('does without CONFIG where that is forbidden', async () => {
    const server = await started(
      '--rename-command',
      'CONFIG',
      '',
      '--appendonly',
      'no',
      '--maxmemory-policy',
      'allkeys-lru',
    );
    const connection = await server.connect();
    const facts = await inspectRedis(connection);
    expect(facts).toMatchObject({
      appendonly: false,
      maxmemoryPolicy: 'allkeys-lru',
      appendfsync: undefined,
    });
    expect(judgeRedis(facts, 'everysec').map(({ level }) => level)).toEqual(['refuse', 'warn']);
    connection.close();
  });
});
