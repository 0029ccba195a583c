/** Goal: the command line makes tokens that the settings take, and hashes those of others without ever repeating them. */
import { spawnSync } from 'node:child_process';
import { describe, expect, test, vi } from 'vitest';
import { hashToken } from '../../src/admit/tokens.ts';
import { loadSettings } from '../../src/config/load.ts';
import { SLUICE, run } from '../support/program.ts';

/** A test runs up to four programs one after another. */
vi.setConfig({ testTimeout: 90_000 });

function hash(input: string, ...flags: string[]) {
  const { status, stdout, stderr } = spawnSync(SLUICE, ['tokens', 'hash', ...flags], { input, encoding: 'utf8' });
  return { code: status, stdout, stderr };
}

test('a new token, and the hash under which the settings know it', async () => {
  const [table, json] = await Promise.all([run(['tokens', 'new']), run(['tokens', 'new', '--json'])]);
  const shown = /^token {2}(slc_\S{43}) .*\nhash {3}(sha256:[0-9a-f]{64})\n$/.exec(table.stdout);
  const parsed = JSON.parse(json.stdout) as { token: string; hash: string };
  expect([table.code, json.code]).toEqual([0, 0]);
  expect(shown?.[2]).toBe(hashToken(shown?.[1] ?? ''));
  expect(parsed).toEqual({ token: parsed.token, hash: hashToken(parsed.token) });
  expect(parsed.token).not.toBe(shown?.[1]);
  const { settings } = loadSettings({ SLUICE_ADMIN_TOKENS: `${shown?.[2]},${parsed.hash}` });
  expect(settings.admin.tokens.length).toBe(2);
});

describe('hash', () => {
  const token = 'correct-horse-battery-staple';
  test('of what stands on standard input, with and without an end of line', () => {
    for (const input of [token, `${token}\n`, `${token}\r\n`]) {
      expect(hash(input)).toEqual({ code: 0, stdout: `${hashToken(token)}\n`, stderr: '' });
    }
    expect(JSON.parse(hash(token, '--json').stdout)).toEqual({ hash: hashToken(token) });
  });
  test.each([
    ['nothing', '', /no token on standard input/],
    ['an empty line', '\n', /no token on standard input/],
    ['a short one', 'hunter2\n', /has 7 characters; wanted: 20 to 512/],
    ['a file', 'hunter2'.repeat(20_000), /wanted: 20 to 512/],
    ['two words', `hunter2 ${token}`, /blanks/],
    ['two lines', `hunter2${token}\nhunter2${token}`, /blanks/],
  ])('refuses %s', (_, input, words) => {
    const { code, stdout, stderr } = hash(input);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(words);
    expect(stderr).not.toContain('hunter2');
  });
});
