/**
 * Goal: every form of the Redis URL is read, or refused in words that never repeat a password; what is said
 * about it in logs has none either; and TLS files are read or named.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ConfigurationError } from '../../src/base/errors.ts';
import { accessOf, sentinelAccessOf } from '../../src/redis/access.ts';
import { describeRedis, parseRedisUrl } from '../../src/redis/url.ts';
import { withTempDir } from '../support/services.ts';
import { redisSettings } from '../support/settings.ts';

const at = (host: string, port: number) => ({ host, port });
const one = (host: string, port: number, more = {}) => ({
  kind: 'standalone',
  address: at(host, port),
  tls: false,
  db: 0,
  ...more,
});

describe('parseRedisUrl', () => {
  it.each([
    ['redis://127.0.0.1:6379/0', one('127.0.0.1', 6379)],
    ['redis://cache', one('cache', 6379)],
    ['redis://cache/', one('cache', 6379)],
    ['rediss://cache:6380/15', one('cache', 6380, { tls: true, db: 15 })],
    ['redis://[::1]:7000/2', one('::1', 7000, { db: 2 })],
    ['redis://[::1]', one('::1', 6379)],
    ['redis://:secret@cache:65535', one('cache', 65_535, { password: 'secret' })],
    ['redis://ann@cache', one('cache', 6379, { username: 'ann' })],
    ['REDIS://us%40er:p%3A%2Fw@cache:1', one('cache', 1, { username: 'us@er', password: 'p:/w' })],
    ['redis://:a@b@cache', one('cache', 6379, { password: 'a@b' })],
    ['redis://:a:b@cache', one('cache', 6379, { password: 'a:b' })],
    [
      'redis+sentinel://h1,h2:1,[::1]:2/my-master',
      {
        kind: 'sentinel',
        sentinels: [at('h1', 26379), at('h2', 1), at('::1', 2)],
        name: 'my-master',
        tls: false,
        db: 0,
      },
    ],
    ['rediss+sentinel://u:p@h1:26379/name%20/3', { error: "has no master's name" }],
    [
      'rediss+sentinel://u:p@h1:26379/name/3',
      {
        kind: 'sentinel',
        sentinels: [at('h1', 26379)],
        name: 'name',
        tls: true,
        db: 3,
        username: 'u',
        password: 'p',
      },
    ],
    ['redis+cluster://h1', { kind: 'cluster', nodes: [at('h1', 6379)], tls: false }],
    [
      'rediss+cluster://:p@h1:7000,h2:7001/0',
      { kind: 'cluster', nodes: [at('h1', 7000), at('h2', 7001)], tls: true, password: 'p' },
    ],
    ['', { error: 'no known scheme' }],
    ['127.0.0.1:6379', { error: 'no known scheme' }],
    ['http://127.0.0.1:6379', { error: 'no known scheme' }],
    ['redis+proxy://h1', { error: 'no known scheme' }],
    ['redis://:secret@cache:65536', { error: 'a port that is none' }],
    ['redis://:secret@cache:0', { error: 'a port that is none' }],
    ['redis://:secret@cache:port', { error: "can't be read" }],
    ['redis:///0', { error: 'names no host' }],
    ['redis://:6379', { error: 'names no host' }],
    ['redis://h1,h2', { error: 'several hosts' }],
    ['redis://cache/otel', { error: 'is a number' }],
    ['redis://cache/0/1', { error: 'is a number' }],
    ['redis://cache/0?tls=true', { error: 'is a number' }],
    ['redis://cache/10000', { error: 'is a number' }],
    ['redis://:secret%@cache', { error: 'not percent-encoded' }],
    ['redis://:half/secret@cache', { error: 'names no host' }],
    ['redis://half:half/secret@cache', { error: "can't be read" }],
    ['redis://user/secret@cache', { error: 'is a number' }],
    ['redis+sentinel://:secret@h1:26379', { error: "has no master's name" }],
    ['redis+sentinel://:secret@h1:26379/', { error: "has no master's name" }],
    ['redis+sentinel://:secret@h1/name/secret', { error: 'is a number' }],
    ['redis+sentinel://:secret@h1,/name', { error: "can't be read" }],
    ['redis+sentinel:///name', { error: 'names no host' }],
    ['redis+cluster://:secret@h1/1', { error: 'only number 0' }],
    ['redis+cluster://:secret@h1/name', { error: 'is a number' }],
  ])('%s', (url, wanted) => {
    if (!('error' in wanted)) {
      expect(parseRedisUrl(url)).toEqual(wanted);
      return;
    }
    expect(() => parseRedisUrl(url)).toThrow(ConfigurationError);
    expect(() => parseRedisUrl(url)).toThrow(wanted.error);
    expect(() => parseRedisUrl(url)).not.toThrow(/secret/);
  });
});

it.each([
  ['redis://:secret@cache/3', 'cache:6379'],
  ['rediss://u:secret@[::1]', '[::1]:6379'],
  ['redis+sentinel://:secret@h1,h2:7/main/1', 'master main of the sentinels h1:26379, h2:7'],
  ['redis+cluster://:secret@h1,h2:7', 'the cluster of h1:6379, h2:7'],
])('describeRedis(%s)', (url, text) => {
  expect(describeRedis(url)).toBe(text);
});

describe('TLS and credentials', () => {
  const read = (url: string, changes = {}) => {
    const settings = redisSettings(url, changes);
    const target = parseRedisUrl(url);
    return { redis: accessOf(settings, target), sentinels: sentinelAccessOf(settings, target) };
  };

  it('are kept apart for Redis and its sentinels', () => {
    const plain = { sentinelUsername: 'sam', sentinelPassword: 'spw' };
    expect(read('rediss+sentinel://u:p@h/name/2', plain)).toEqual({
      redis: { tls: {}, db: 2, username: 'u', password: 'p' },
      sentinels: { tls: {}, db: 0, username: 'sam', password: 'spw' },
    });
    expect(read('rediss+sentinel://h/name', { sentinelTls: 'off' }).sentinels).toEqual({ tls: false, db: 0 });
    expect(read('redis+sentinel://h/name', { sentinelTls: 'on' })).toEqual({
      redis: { tls: false, db: 0 },
      sentinels: { tls: {}, db: 0 },
    });
  });

  it('come from files, and a file that is missing is named with its setting', async () => {
    await withTempDir((dir) => {
      const file = join(dir, 'some.pem');
      writeFileSync(file, 'PEM');
      const all = { tlsCaFile: file, tlsCertFile: file, tlsKeyFile: file };
      const pem = Buffer.from('PEM');
      expect(read('rediss://h', all).redis.tls).toEqual({ ca: pem, cert: pem, key: pem });
      expect(read('redis://h', { tlsCaFile: '/nowhere' }).redis.tls).toBe(false);
      const missing = join(dir, 'missing.pem');
      for (const [setting, change] of [
        ['SLUICE_REDIS_TLS_CA_FILE', { tlsCaFile: missing }],
        ['SLUICE_REDIS_TLS_CERT_FILE', { ...all, tlsCertFile: missing }],
        ['SLUICE_REDIS_TLS_KEY_FILE', { ...all, tlsKeyFile: missing }],
      ] as const) {
        const attempt = () => read('rediss://h', change);
        expect(attempt).toThrow(ConfigurationError);
        expect(attempt).toThrow(new RegExp(`${setting} is ${missing}, which can't be read`));
      }
      expect(() => read('rediss://h', { tlsKeyFile: file })).toThrow(/belong together/);
      expect(() => read('rediss+cluster://h', { tlsCertFile: file })).toThrow(/belong together/);
    });
  });
});
