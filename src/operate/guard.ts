/**
 * Who may change something through the admin port: whoever shows a token whose hash stands in the settings
 * (admin.tokens). In: the header Authorization and the hashes. Out: a status, and why it isn't 200.
 */
import { timingSafeEqual } from 'node:crypto';
import { digestIn, digestOf } from '../base/token-hash.ts';

export type Admitted = { readonly status: 200 } | { readonly status: 401 | 403; readonly why: string };

const BEARER = /^Bearer +(\S+) *$/i;
/** Longer ones aren't hashed. */
const TOKEN_LENGTH_MAX = 1024;

/** @param hashes `sha256:` and the hash of the token in hexadecimal digits, each */
export function mayChange(authorization: string, hashes: readonly string[]): Admitted {
  if (hashes.length === 0) {
    return { status: 403, why: 'nobody may do this here: SLUICE_ADMIN_TOKENS is empty (docs/security.md)' };
  }
  const token = BEARER.exec(authorization)?.[1] ?? '';
  if (token === '') return { status: 401, why: 'show a token: Authorization: Bearer <token>' };
  if (token.length > TOKEN_LENGTH_MAX || !isKnown(token, hashes)) {
    return { status: 401, why: 'no such token is in SLUICE_ADMIN_TOKENS' };
  }
  return { status: 200 };
}

/** All are compared, each in constant time: how long it takes says nothing of which one is near. */
function isKnown(token: string, hashes: readonly string[]): boolean {
  const digest = Buffer.from(digestOf(token), 'hex');
  let known = false;
  for (const hash of hashes) {
    const wanted = Buffer.from(digestIn(hash), 'hex');
    if (wanted.length === digest.length && timingSafeEqual(wanted, digest)) known = true;
  }
  return known;
}
