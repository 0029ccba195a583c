/** Goal: a token is random, fits into a header, and is known to the settings by its SHA-256 only; weak ones are refused. */
import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { hashToken, newToken } from '../../src/admit/tokens.ts';
import { digestIn, digestOf } from '../../src/base/token-hash.ts';
import { ConfigurationError } from '../../src/base/errors.ts';
import { tokenHashes } from '../../src/config/kinds.ts';

const random = (length: number) => 'aB3-'.repeat(length).slice(0, length);

test('a new one is 32 random bytes with a prefix, in characters that any header takes', () => {
  const tokens = Array.from({ length: 1_000 }, newToken);
  expect(new Set(tokens).size).toBe(1_000);
  for (const token of tokens) {
    expect(token).toMatch(/^slc_[A-Za-z0-9_-]{43}$/);
    expect(Buffer.from(token.slice(4), 'base64url').length).toBe(32);
  }
});

test('the hash is SHA-256 of the whole token, as the settings take it', () => {
  const token = newToken();
  const hash = hashToken(token);
  expect(hash).toBe(`sha256:${createHash('sha256').update(token).digest('hex')}`);
  expect(tokenHashes.schema.safeParse(hash).success).toBe(true);
  expect(digestIn(hash)).toBe(digestOf(token));
  // SHA-256 of "abc", FIPS 180-4.
  expect(digestOf('abc')).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
});

describe('what is refused', () => {
  test.each([
    [19, false],
    [20, true],
    [512, true],
    [513, false],
  ])('%i characters: %s', (length, accepted) => {
    const attempt = () => hashToken(random(length));
    if (accepted) expect(attempt()).toMatch(/^sha256:/);
    else expect(attempt).toThrow(new RegExp(`${length} characters; wanted: 20 to 512`));
  });
  test.each([' ', '\n', '\t', 'ü', '\u0000', '\u007f'])('a token with %j in it', (character) => {
    const token = `${random(20)}${character}${random(20)}`;
    expect(() => hashToken(token)).toThrow(ConfigurationError);
  });
  test('without repeating it', () => {
    for (const token of ['hunter2', `${random(30)} hunter2`, `hunter2${random(600)}`]) {
      expect(() => hashToken(token)).toThrow(/^(?!.*hunter2)/s);
    }
  });
});
