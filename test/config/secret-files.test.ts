/**
 * Goal: every setting can come from a file of its own, in one way and with errors that name setting and path; and
 * whatever is wrong with a secret, wherever it stands, no message repeats it.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { hashToken, newToken } from '../../src/admit/tokens.ts';
import { ConfigurationError } from '../../src/base/errors.ts';
import { DEFINITIONS } from '../../src/config/definitions.ts';
import { hidePassword } from '../../src/config/kinds.ts';
import { loadSettings } from '../../src/config/load.ts';
import { printSettings } from '../../src/config/print.ts';

const folder = mkdtempSync(join(tmpdir(), 'sluice-secrets-'));
afterAll(() => rmSync(folder, { recursive: true }));

let files = 0;
function file(text: string): string {
  const path = join(folder, `${files++}`);
  writeFileSync(path, text);
  return path;
}

function refusal(environment: Record<string, string>): string {
  try {
    loadSettings(environment);
  } catch (error) {
    if (error instanceof ConfigurationError) return error.message;
    throw error;
  }
  return 'accepted';
}

describe('a setting from a file', () => {
  test('is what stands in it, without the blanks around it', () => {
    const path = file('\n redis://me:hunter2@r:6379/0 \n');
    const { settings, list, texts } = loadSettings({ SLUICE_REDIS_URL_FILE: path });
    expect(settings.redis.url).toBe('redis://me:hunter2@r:6379/0');
    const found = list.find(({ definition }) => definition.key === 'redis.url');
    expect(found?.origin).toBe('secret file');
    expect([...texts.keys()]).toEqual([path]);
  });
  test('every setting can, and each file name belongs to one', () => {
    const names = DEFINITIONS.flatMap(({ env }) => [env, `${env}_FILE`]);
    expect(new Set(names).size).toBe(names.length);
    for (const definition of DEFINITIONS) {
      if (definition.default === '') continue;
      const loaded = loadSettings({ [`${definition.env}_FILE`]: file(definition.default) });
      const setting = loaded.list.find(({ definition: { key } }) => key === definition.key);
      expect(setting?.origin).toBe('secret file');
      expect(loaded.warnings).toEqual([]);
    }
  });
  test('settings that are files themselves stay what they are', () => {
    const path = file('a certificate');
    const { settings } = loadSettings({ SLUICE_REDIS_TLS_CA_FILE: path, SLUICE_REDIS_TLS_KEY_FILE_FILE: file(path) });
    expect([settings.redis.tlsCaFile, settings.redis.tlsKeyFile]).toEqual([path, path]);
  });
  test('tokens and tenants as in the environment', () => {
    const hash = hashToken(newToken());
    const { settings } = loadSettings({
      SLUICE_ADMIN_TOKENS_FILE: file(`${hash}\n${hashToken(newToken())}\n`),
      SLUICE_TENANTS_FILE: file(JSON.stringify([{ name: 'shop', tokens: [hash] }])),
    });
    expect(settings.admin.tokens.length).toBe(2);
    expect(settings.tenants.list).toMatchObject([{ name: 'shop', tokens: [hash] }]);
  });
  test('comes before the YAML file', () => {
    const yaml = file('redis:\n  url: redis://yaml\nbatch:\n  rowsMax: 7\n');
    const { settings } = loadSettings({ SLUICE_CONFIG: yaml, SLUICE_REDIS_URL_FILE: file('redis://file') });
    expect([settings.redis.url, settings.batch.rowsMax]).toEqual(['redis://file', 7]);
  });
  test('an empty variable counts as not set, also beside the other', () => {
    const both = { SLUICE_REDIS_URL: '', SLUICE_REDIS_URL_FILE: file('redis://file') };
    expect(loadSettings(both).settings.redis.url).toBe('redis://file');
    const other = { SLUICE_REDIS_URL: 'redis://env', SLUICE_REDIS_URL_FILE: '' };
    expect(loadSettings(other).settings.redis.url).toBe('redis://env');
  });
});

describe('what is refused names the setting and the path', () => {
  const directory = join(folder, 'directory');
  mkdirSync(directory);
  test.each<[string, Record<string, string>, RegExp]>([
    ['both', { SLUICE_REDIS_URL: 'redis://a', SLUICE_REDIS_URL_FILE: file('redis://b') },
      /^SLUICE_REDIS_URL and SLUICE_REDIS_URL_FILE are both given/],
    ['a file that is not there', { SLUICE_REDIS_URL_FILE: '/nowhere' },
      /^SLUICE_REDIS_URL_FILE: \/nowhere can't be read: ENOENT/],
    ['a folder', { SLUICE_REDIS_URL_FILE: directory }, /SLUICE_REDIS_URL_FILE: .*directory can't be read: it is no/],
    ['a pipe', { SLUICE_CONFIG: '/dev/null' }, /SLUICE_CONFIG: \/dev\/null can't be read: it is no regular file/],
    ['an empty file', { SLUICE_TENANTS_FILE: file(' \n') }, /^SLUICE_TENANTS_FILE: .* is empty/],
    ['a value that is none', { SLUICE_REDIS_URL_FILE: file('http://me:hunter2@r') },
      /^SLUICE_REDIS_URL_FILE \(.*\): the value \(not shown.*wanted: redis:\/\//],
    ['a misspelled name', { SLUICE_REDIS_URI_FILE: 'x' }, /accepted/],
  ])('%s', (_, environment, words) => {
    expect(refusal(environment)).toMatch(words);
  });
  test('the misspelled name is warned about', () => {
    expect(loadSettings({ SLUICE_REDIS_URI_FILE: 'x' }).warnings).toEqual([
      'SLUICE_REDIS_URI_FILE is no setting of this version; did you mean SLUICE_REDIS_URL_FILE?',
    ]);
  });
});

describe('tenants that cannot be told apart', () => {
  const [one, two] = [hashToken(newToken()), hashToken(newToken())];
  const list = (...tenants: object[]) => ({ SLUICE_TENANTS: JSON.stringify(tenants) });
  test.each<[string, Record<string, string>, RegExp]>([
    ['two of one name', list({ name: 'a' }, { name: 'a' }), /SLUICE_TENANTS: a is in the list twice/],
    ['one token for two', list({ name: 'a', tokens: [one] }, { name: 'b', tokens: [two, one] }),
      /a token stands at a and at b/],
    ['one token twice', list({ name: 'a', tokens: [one, one] }), /a token stands twice at a/],
    ['one certificate for two', list({ name: 'a', certificates: ['x'] }, { name: 'b', certificates: ['x'] }),
      /the certificate x stands at a and at b/],
    ['the default, with a token that nobody needs', list({ name: 'default', tokens: [one] }),
      /SLUICE_TENANTS_ANONYMOUS=default gives it to clients without any; wanted: .*SLUICE_TENANTS_ANONYMOUS=refuse/],
    ['the same for names', { ...list({ name: 'default', tokens: [one] }), SLUICE_TENANTS_ANONYMOUS: 'refuse',
      SLUICE_TENANTS_UNLISTED: 'default' }, /SLUICE_TENANTS_UNLISTED=refuse/],
    ['the default with a token that is needed', { ...list({ name: 'default', tokens: [one] }),
      SLUICE_TENANTS_ANONYMOUS: 'refuse' }, /accepted/],
    ['names in the header of tokens', { SLUICE_TENANTS_HEADER: 'authorization' }, /SLUICE_TENANTS_HEADER/],
    ['two that can', list({ name: 'a', tokens: [one] }, { name: 'b', tokens: [two] }), /accepted/],
  ])('%s', (_, environment, words) => {
    expect(refusal(environment)).toMatch(words);
    expect(refusal(environment)).not.toContain(one);
  });
  test('what is wrong in a long list is found', () => {
    const tenants = [{ name: 'a' }, { name: 'b', weight: 0 }];
    expect(refusal(list(...tenants))).toMatch(/can't be used at \[1\]\.weight;/);
    expect(refusal(list({ name: 'a', tokens: ['hunter2'] }))).toMatch(/at \[0\]\.tokens\[0\];/);
  });
});

describe('no message repeats a secret', () => {
  const secret = 'hunter2';
  const holding = DEFINITIONS.filter(({ kind }) => kind.holdsSecret);
  /** As somebody may have put it there: bare, in a URL of another scheme, with characters that were not encoded. */
  const values = [
    secret, `x://${secret}`, `ftp://me:${secret}@h`, `http://me:a/${secret}@h`, `http://me:a@${secret}@ h`, `:${secret}@h`,
    `http://h:x/?password=${secret}`, `[{"name":"a","tokens":["${secret}"]}]`, `["${secret}"]`, `sha256:${secret}`,
    `h:1=http://${secret}`, `"${secret}`,
  ];
  test('they are those with passwords or tokens', () => {
    expect(holding.map(({ key }) => key)).toEqual([
      'admin.tokens', 'tenants.list', 'redis.url', 'redis.sentinelPassword', 'clickhouse.urls', 'clickhouse.addresses',
    ]);
  });
  test.each(holding)('$key', ({ key, env }) => {
    for (const value of values) {
      expect(refusal({ [env]: value }), value).not.toContain(secret);
      expect(refusal({ [`${env}_FILE`]: file(value) }), value).not.toContain(secret);
      const tree = key.split('.').reduceRight<unknown>((node, name) => ({ [name]: node }), value);
      expect(refusal({ SLUICE_CONFIG: file(JSON.stringify(tree)) }), value).not.toContain(secret);
      const list = key.split('.').reduceRight<unknown>((node, name) => ({ [name]: node }), [[value]]);
      expect(refusal({ SLUICE_CONFIG: file(JSON.stringify(list)) }), value).not.toContain(secret);
    }
  });
  test.each([
    'redis: hunter2', 'hunter2', '- hunter2', 'redis:\n  url: "hunter2\n', 'redis:\n  url: *hunter2\n',
    'redis:\n  url: @hunter2\n', 'redis:\n\turl: hunter2\n', 'redis:\n  url: a: hunter2\n', 'redis: {url: hunter2',
    'redis:\n  url: "\\q hunter2"\n', 'redis:\n url: hunter2\n  hunter2\n url: hunter2', 'redis:\n  url: %hunter2\n',
    'redis:\n  url: hunter2\n---\nredis: hunter2\n', 'redis:\n  url: !hunter2 hunter2\n', '&a [*a, hunter2]',
    'redis:\n  - url: hunter2\n',
  ])('a file with %j', (text) => {
    const message = refusal({ SLUICE_CONFIG: file(text) });
    expect(message).not.toBe('accepted');
    expect(message).not.toContain(secret);
  });
  test('the line is named instead', () => {
    const path = file('batch:\n  rowsMax: 1\nredis:\n  url: "hunter2\n');
    expect(refusal({ SLUICE_CONFIG: path })).toMatch(/can't be read: no YAML in line \d+, column \d+ \(.*\)/);
  });
  test('nor does config print', () => {
    const environment = {
      SLUICE_REDIS_URL: `redis://me:${secret}@r:6379/0`,
      SLUICE_REDIS_SENTINEL_PASSWORD: secret,
      SLUICE_CLICKHOUSE_URL: `http://me:${secret}@c:1,http://me:x@${secret}@c:2,http://c:3/?password=${secret}`,
      SLUICE_CLICKHOUSE_ADDRESSES: `a:1=http://me:${secret}@d:1`,
    };
    expect(JSON.stringify(printSettings(loadSettings(environment)))).not.toContain(secret);
  });
});

test.each([
  ['http://a:1', 'http://a:1'],
  ['http://me@a:1', 'http://me@a:1'],
  ['http://me:pw@a:1', 'http://me:***@a:1'],
  ['http://me:p@w@a:1', 'http://me:***@a:1'],
  ['http://me:p/w@a:1', 'http://me:***@a:1'],
  ['redis://:pw@a/0', 'redis://:***@a/0'],
  ['http://me:pw@a:1,http://you:pw@b:2', 'http://me:***@a:1,http://you:***@b:2'],
  ['http://a:1,http://you:pw@b:2', 'http://a:1,http://you:***@b:2'],
  ['http://a:1/?password=pw&x=1,http://b:2', 'http://a:1/?***,http://b:2'],
  ['http://a:1?user=me&password=p,w', 'http://a:1?***'],
  ['at http://me:pw@a:1 and http://me:pw@b:1: gone', 'at http://me:***@a:1 and http://me:***@b:1: gone'],
  ['is it? http://a:1', 'is it? http://a:1'],
])('%s is shown as %s', (text, shown) => {
  expect(hidePassword(text)).toBe(shown);
});
