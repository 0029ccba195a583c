/**
 * Whose data a request is, by what its client shows: a token or API key, the names in its certificate, or,
 * where the settings allow that, the name alone.
 *
 * What is shown is either known or refused, and all of it has to agree: a client with one tenant's token
 * can't write for another, and a wrong token never makes anybody the tenant `default`.
 *
 * About time: a token is looked up by its SHA-256 in a Map. How long that takes tells at most something of
 * the digest of what was sent, against those that are known. Nobody can choose a digest to get nearer to a
 * known one step by step, and from a digest, even a whole one, no token follows. The comparison that decides
 * is of two digests of one length, in constant time.
 */
import { timingSafeEqual } from 'node:crypto';
import { digestIn, digestOf } from '../base/token-hash.ts';
import type { Settings } from '../config/settings.ts';
import { type Verdict, never } from '../model/outcome.ts';
import { type Credentials, DEFAULT_TENANT } from '../model/tenant.ts';
import { TOKEN_LENGTH_MAX } from './tokens.ts';

/** What was wrong with a client's credentials. Closed: each is a label of a metric. */
export const AUTH_FAILURES = [
  'missing',
  'malformed',
  'unknown_token',
  'unlisted',
  'unproven',
  'disagreeing',
] as const;
export type AuthFailure = (typeof AUTH_FAILURES)[number];

export interface Identified {
  readonly kind: 'tenant';
  readonly name: string;
}

/** As receive/ingest.ts has it. */
interface CredentialHeaders {
  readonly authorization: string;
  readonly apiKey: string;
  readonly tenant: string;
}

interface TokenOwner {
  readonly digest: Buffer;
  readonly owner: Known;
}

/** A tenant of the list. */
interface Known extends Identified {
  /** Whether it has tokens or certificates, so that its name alone proves nothing. */
  readonly isProven: boolean;
}

const DEFAULT: Known = { kind: 'tenant', name: DEFAULT_TENANT, isProven: false };
const AUTHORIZATION = 'authorization';
const API_KEY = 'x-api-key';
const BEARER_PREFIX = 'bearer ';

/** Never with anything that the client has shown. */
const ANSWERS: Readonly<Record<AuthFailure, Verdict>> = {
  missing: never(
    'unauthenticated',
    'nothing was shown that says whose data this is; wanted: authorization: Bearer <token>, or x-api-key',
  ),
  malformed: never(
    'unauthenticated',
    'the header authorization is not understood; wanted: Bearer and a token',
  ),
  unknown_token: never('unauthenticated', 'the token is not known here, or not any more'),
  unlisted: never('forbidden', 'the tenant that was named is not known here (SLUICE_TENANTS_UNLISTED)'),
  unproven: never('forbidden', 'a name alone is not enough for this tenant: it has tokens or certificates'),
  disagreeing: never('forbidden', 'what was shown belongs to several tenants; wanted: one of them'),
};

/** Who has to show what, as of the last `update`. */
export class Tenants {
  readonly #failed: (reason: AuthFailure) => void;
  #byName: ReadonlyMap<string, Known> = new Map();
  #byToken: ReadonlyMap<string, TokenOwner> = new Map();
  #byCertificate: ReadonlyMap<string, Known> = new Map();
  #headers: CredentialHeaders | undefined;
  #anonymous: Identified | undefined;
  #unlisted: Identified | undefined;

  /** @param failed told of each request that is turned away here */
  constructor(settings: Settings['tenants'], failed: (reason: AuthFailure) => void) {
    this.#failed = failed;
    this.update(settings);
  }

  /** From the next request on. */
  update({ list, anonymous, header, unlisted }: Settings['tenants']): void {
    const byName = new Map<string, Known>();
    const byToken = new Map<string, TokenOwner>();
    const byCertificate = new Map<string, Known>();
    for (const { name, tokens, certificates } of list) {
      const owner: Known = { kind: 'tenant', name, isProven: tokens.length + certificates.length > 0 };
      byName.set(name, owner);
      for (const token of tokens) {
        byToken.set(digestIn(token), { digest: Buffer.from(digestIn(token), 'hex'), owner });
      }
      for (const shown of certificates) byCertificate.set(shown, owner);
    }
    // Whoever says `default` says no more than one who says nothing.
    if (anonymous === 'default' && !byName.has(DEFAULT_TENANT)) byName.set(DEFAULT_TENANT, DEFAULT);
    this.#byName = byName;
    this.#byToken = byToken;
    this.#byCertificate = byCertificate;
    this.#anonymous = anonymous === 'default' ? DEFAULT : undefined;
    this.#unlisted = unlisted === 'default' ? DEFAULT : undefined;
    const isAsked = byToken.size + byCertificate.size > 0 || header !== '' || anonymous === 'refuse';
    this.#headers = isAsked ? { authorization: AUTHORIZATION, apiKey: API_KEY, tenant: header } : undefined;
  }

  /** Undefined while there is only one tenant, and nobody has to show anything. */
  get credentialHeaders(): CredentialHeaders | undefined {
    return this.#headers;
  }

  /** @returns the tenant, or the answer to a client that isn't one */
  identify(credentials: Credentials): Identified | Verdict {
    if (this.#headers === undefined) return DEFAULT;
    const found = this.#find(credentials);
    if (typeof found !== 'string') return found;
    this.#failed(found);
    return ANSWERS[found];
  }

  #find(shown: Credentials): Identified | AuthFailure {
    const bearer = shown.authorization === '' ? undefined : this.#ofAuthorization(shown.authorization);
    if (typeof bearer === 'string') return bearer;
    const key = shown.apiKey === '' ? undefined : this.#ofToken(shown.apiKey);
    if (typeof key === 'string') return key;
    const certificate = this.#ofCertificate(shown);
    if (typeof certificate === 'string') return certificate;
    const proven = bearer ?? key ?? certificate;
    if (proven === undefined) return this.#unproven(shown);
    const isOne = (other: Identified | undefined) => other === undefined || other === proven;
    const isNamed = shown.tenant === '' || shown.tenant === proven.name;
    return isOne(key) && isOne(certificate) && isNamed ? proven : 'disagreeing';
  }

  /** Of one that shows no proof, or a certificate that belongs to nobody. */
  #unproven({ tenant, certificate }: Credentials): Identified | AuthFailure {
    if (tenant !== '') {
      const named = this.#byName.get(tenant);
      if (named === undefined) return this.#unlisted ?? 'unlisted';
      return named.isProven ? 'unproven' : named;
    }
    // Where certificates name tenants, one that names none is as a name that isn't in the list.
    if (certificate !== undefined && this.#byCertificate.size > 0) return this.#unlisted ?? 'unlisted';
    return this.#anonymous ?? 'missing';
  }

  #ofAuthorization(header: string): Known | AuthFailure {
    const scheme = header.slice(0, BEARER_PREFIX.length).toLowerCase();
    return scheme === BEARER_PREFIX
      ? this.#ofToken(header.slice(BEARER_PREFIX.length).trimStart())
      : 'malformed';
  }

  #ofToken(token: string): Known | AuthFailure {
    if (token.length > TOKEN_LENGTH_MAX) return 'unknown_token';
    const digest = digestOf(token);
    const found = this.#byToken.get(digest);
    if (found === undefined || !timingSafeEqual(Buffer.from(digest, 'hex'), found.digest))
      return 'unknown_token';
    return found.owner;
  }

  #ofCertificate({ certificate }: Credentials): Known | AuthFailure | undefined {
    if (certificate === undefined || this.#byCertificate.size === 0) return undefined;
    let owner = certificate.commonName === '' ? undefined : this.#byCertificate.get(certificate.commonName);
    for (const name of certificate.names) {
      const other = this.#byCertificate.get(name);
      if (other !== undefined && owner !== undefined && other !== owner) return 'disagreeing';
      owner ??= other;
    }
    return owner;
  }
}
