/**
 * Goal: what Redis is set to is read from a real one, and each setting that endangers an acknowledgement is
 * found.
 */
import { afterAll, describe, expect, it } from 'vitest';
import { inspectRedis, judgeRedis, type Promised, type RedisFacts } from '../../src/redis/check.ts';
import { redisSettings } from '../support/settings.ts';
import { RedisServer } from './server.ts';

const GOOD: RedisFacts = {
  node: '127.0.0.1:6379',
  version: '7.0.15',
  role: 'master',
  maxmemoryBytes: 1_000,
  usedMemoryBytes: 999,
  maxmemoryPolicy: 'noeviction',
  appendonly: true,
  appendfsync: 'everysec',
  replicas: 0,
  clusterState: undefined,
};
const URL = 'redis://127.0.0.1';
const CLUSTER = 'redis+cluster://127.0.0.1';
type Rows = readonly (readonly [
  string,
  Partial<RedisFacts>,
  Partial<Promised>,
  readonly (readonly ['warn' | 'wait' | 'refuse', string])[],
])[];

const ROWS: Rows = [
  ['a good one', {}, {}, []],
  ['a good one, always', { appendfsync: 'always' }, { durability: 'always' }, []],
  ['a newer one', { version: '8.2.1' }, {}, []],
  ['a replica', { role: 'slave' }, {}, [['refuse', 'is a replica']]],
  ['an old one', { version: '6.2.14' }, {}, [['warn', '6.2.14']]],
  ['one without a version', { version: 'unknown' }, {}, [['warn', 'unknown']]],
  ['eviction', { maxmemoryPolicy: 'allkeys-lru' }, {}, [['refuse', 'allkeys-lru']]],
  ['a hidden policy', { maxmemoryPolicy: undefined }, {}, [['warn', 'maxmemory-policy']]],
  ['no bound of memory', { maxmemoryBytes: 0 }, {}, [['warn', 'maxmemory is 0']]],
  ['a full one', { usedMemoryBytes: 1_000 }, {}, [['warn', 'is full']]],
  ['no AOF', { appendonly: false }, {}, [['warn', 'appendonly']]],
  [
    'no AOF where always is promised',
    { appendonly: false, appendfsync: 'always' },
    { durability: 'always' },
    [['refuse', 'appendonly']],
  ],
  [
    'no AOF where replicas are promised',
    { appendonly: false, replicas: 1 },
    { durability: 'replicated' },
    [['refuse', 'appendonly']],
  ],
  [
    'everysec where always is promised',
    {},
    { durability: 'always' },
    [['refuse', 'appendfsync is everysec']],
  ],
  [
    'an unknown fsync where always is promised',
    { appendfsync: undefined },
    { durability: 'always' },
    [['refuse', 'unknown']],
  ],
  ['no fsync', { appendfsync: 'no' }, {}, [['warn', 'appendfsync is no']]],
  ['replicas', { replicas: 2 }, { durability: 'replicated', replicas: 2 }, []],
  [
    'one replica too few',
    { replicas: 1 },
    { durability: 'replicated', replicas: 2 },
    [['wait', 'SLUICE_REDIS_REPLICAS']],
  ],
  [
    'one replica too few, which is tolerated',
    { replicas: 1 },
    { durability: 'replicated', replicas: 2, whenReplicasMissing: 'warn' },
    [['warn', 'has 1 replicas']],
  ],
  ['no replica where none is promised', {}, { durability: 'everysec', replicas: 2 }, []],
  ['a sound cluster', { clusterState: 'ok' }, { url: CLUSTER }, []],
  ['a cluster that is down', { clusterState: 'fail' }, { url: CLUSTER }, [['warn', 'is fail']]],
  ['a node of a cluster', { clusterState: 'ok' }, {}, [['refuse', 'redis+cluster://']]],
];

describe('judgeRedis', () => {
  const promised = (changes: Partial<Promised>) => redisSettings(URL, changes);

  it.each(ROWS)('%s', (_, facts, changes, findings) => {
    const found = judgeRedis([{ ...GOOD, ...facts }], promised(changes));
    expect(found.map(({ level }) => level)).toEqual(findings.map(([level]) => level));
    for (const [i, [, text]] of findings.entries()) expect(found[i]?.message).toContain(text);
  });

  it('says which master of several it is', () => {
    const masters = [GOOD, { ...GOOD, node: '10.0.0.2:6379', maxmemoryPolicy: 'volatile-ttl' }];
    const found = judgeRedis(masters, promised({}));
    expect(found).toHaveLength(1);
    expect(found[0]?.message).toMatch(/^10\.0\.0\.2:6379: .*volatile-ttl/);
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
      node: `127.0.0.1:${server.port}`,
      version: expect.stringMatching(/^\d+\.\d+\.\d+$/),
      role: 'master',
      maxmemoryBytes: 104_857_600,
      usedMemoryBytes: expect.any(Number),
      maxmemoryPolicy: 'noeviction',
      appendonly: true,
      appendfsync: 'always',
      replicas: 0,
      clusterState: undefined,
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
    const found = judgeRedis([facts], redisSettings(server.url));
    // Eviction, no bound of memory, no append-only file.
    expect(found.map(({ level }) => level)).toEqual(['refuse', 'warn', 'warn']);
    connection.close();
  });
});
