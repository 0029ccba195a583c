/**
 * Tokens and API keys: what clients show to prove whose data theirs is. The settings hold only SHA-256 of
 * them, so that who reads the settings can't send.
 *
 * A hash that is slow on purpose (scrypt, Argon2) protects passwords, which people choose and others guess.
 * A token is 32 random bytes: nobody tries 2^256 of them, however fast the hash, and a gateway has to hash
 * one for each request. For the same reason a short one, which somebody has thought up, is refused.
 */
import { randomBytes } from 'node:crypto';
import { ConfigurationError } from '../base/errors.ts';
import { hashOf } from '../base/token-hash.ts';

const PREFIX = 'slc_';
const RANDOM_BYTES = 32;
const LENGTH_MIN = 20;
/** Also of what is looked up: a longer one is none. */
export const TOKEN_LENGTH_MAX = 512;

/** `slc_` and 32 random bytes as base64url: 47 characters. Scanners for leaked secrets find the prefix. */
export function newToken(): string {
  return PREFIX + randomBytes(RANDOM_BYTES).toString('base64url');
}

/**
 * As the settings want it.
 * @throws ConfigurationError when it is too short to be random, or can't be sent in a header
 */
export function hashToken(token: string): string {
  const { length } = token;
  if (length < LENGTH_MIN || length > TOKEN_LENGTH_MAX) {
    throw new ConfigurationError(
      `the token has ${length} characters; wanted: ${LENGTH_MIN} to ${TOKEN_LENGTH_MAX}, drawn at random, ` +
        'as `sluice tokens new` makes them',
    );
  }
  if (!/^[\x21-\x7e]+$/.test(token)) {
    throw new ConfigurationError('the token has blanks or characters that no header can carry');
  }
  return hashOf(token);
}
