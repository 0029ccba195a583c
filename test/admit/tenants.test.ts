/**
 * Goal: whatever a client shows makes it one tenant or nobody: what is unknown is refused, what disagrees is refused,
 * a name alone is worth nothing where there are tokens, and changed settings count from the next request on.
 */
import { describe, expect, test } from 'vitest';
import { type AuthFailure, Tenants } from '../../src/admit/tenants.ts';
import { hashToken, newToken } from '../../src/admit/tokens.ts';
import type { Settings } from '../../src/config/settings.ts';
import { type Credentials, NO_CREDENTIALS } from '../../src/model/tenant.ts';
import { settingsOf } from '../support/settings.ts';

const SHOP = newToken();
const SHOP_NEW = newToken();
const BANK = newToken();

type Tenant = Partial<Settings['tenants']['list'][number]> & { readonly name: string };

function tenantsOf(list: readonly Tenant[], changes: Partial<Settings['tenants']> = {}): Settings['tenants'] {
  const { tenants } = settingsOf({ SLUICE_TENANTS: JSON.stringify(list) });
  return { ...tenants, ...changes };
}

const LIST: readonly Tenant[] = [
  { name: 'shop', tokens: [hashToken(SHOP), hashToken(SHOP_NEW)], certificates: ['shop.example'] },
  { name: 'bank', tokens: [hashToken(BANK)], certificates: ['bank.example', 'spiffe://x/bank'] },
  { name: 'open' },
];

function open(settings: Settings['tenants']) {
  const failures: AuthFailure[] = [];
  const tenants = new Tenants(settings, (reason) => failures.push(reason));
  /** The tenant's name, or what the refusal was counted as and which refusal it is. */
  const ask = (shown: Partial<Credentials>): string => {
    const before = failures.length;
    const found = tenants.identify({ ...NO_CREDENTIALS, ...shown });
    if (found.kind === 'tenant') {
      expect(failures.length).toBe(before);
      return found.name;
    }
    if (found.kind !== 'never') throw new Error(`a client is told ${found.kind}`);
    expect(failures.length).toBe(before + 1);
    expect(found.message).not.toMatch(/slc_|sha256|secret|[0-9a-f]{16}/);
    return `${found.reason} ${failures.at(-1)}`;
  };
  return { tenants, ask, failures };
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const key = (token: string) => ({ apiKey: token });
const cert = (commonName: string, ...names: string[]) => ({ certificate: { commonName, names } });
const named = (tenant: string) => ({ tenant });

describe('one thing shown', () => {
  const { ask } = open(tenantsOf(LIST, { header: 'x-tenant' }));
  test.each<[string, Partial<Credentials>, string]>([
    ['nothing', {}, 'default'],
    ['a token', bearer(SHOP), 'shop'],
    ['the second token', bearer(SHOP_NEW), 'shop'],
    ['another scheme of case', { authorization: `bEARER ${BANK}` }, 'bank'],
    ['more blanks', { authorization: `Bearer   ${BANK}` }, 'bank'],
    ['an API key', key(BANK), 'bank'],
    ['a common name', cert('shop.example'), 'shop'],
    ['an alternative name', cert('', 'other.example', 'spiffe://x/bank'), 'bank'],
    ['both names of one tenant', cert('bank.example', 'spiffe://x/bank'), 'bank'],
    ['the name of a tenant without proof', named('open'), 'open'],
    ['the name default', named('default'), 'default'],
    ['an unknown token', bearer(newToken()), 'unauthenticated unknown_token'],
    ['an unknown API key', key(newToken()), 'unauthenticated unknown_token'],
    ['an empty token', { authorization: 'Bearer ' }, 'unauthenticated unknown_token'],
    ['the hash in the place of the token', bearer(hashToken(SHOP)), 'unauthenticated unknown_token'],
    ['the digest in the place of the token', bearer(hashToken(SHOP).slice(7)), 'unauthenticated unknown_token'],
    ['a token and a bit', bearer(`${SHOP}A`), 'unauthenticated unknown_token'],
    ['a token without its end', bearer(SHOP.slice(0, -1)), 'unauthenticated unknown_token'],
    ['a token with a blank behind', bearer(`${SHOP} `), 'unauthenticated unknown_token'],
    ['two tokens', bearer(`${SHOP},${BANK}`), 'unauthenticated unknown_token'],
    ['one of a megabyte', bearer('x'.repeat(2 ** 20)), 'unauthenticated unknown_token'],
    ['a name and password', { authorization: 'Basic c2VjcmV0OnNlY3JldA==' }, 'unauthenticated malformed'],
    ['a bare token', { authorization: SHOP }, 'unauthenticated malformed'],
    ['a scheme alone', { authorization: 'Bearer' }, 'unauthenticated malformed'],
    ['a blank', { authorization: ' ' }, 'unauthenticated malformed'],
    ['a certificate of nobody', cert('nobody.example', 'x'), 'forbidden unlisted'],
    ['a certificate without names', cert(''), 'forbidden unlisted'],
    ['a certificate of two tenants', cert('shop.example', 'bank.example'), 'forbidden disagreeing'],
    ['the name of a tenant with tokens', named('shop'), 'forbidden unproven'],
    ['a name that is not in the list', named('nobody'), 'forbidden unlisted'],
    ['a name in other letters', named('Open'), 'forbidden unlisted'],
    ['two names', named('open,shop'), 'forbidden unlisted'],
    ['a name of every object', named('constructor'), 'forbidden unlisted'],
    ['the same as a token', bearer('constructor'), 'unauthenticated unknown_token'],
  ])('%s', (_, shown, expected) => {
    expect(ask(shown)).toBe(expected);
  });
});

describe('several things shown', () => {
  const { ask } = open(tenantsOf(LIST, { header: 'x-tenant' }));
  const proofs = { shop: [bearer(SHOP), key(SHOP), key(SHOP_NEW), cert('shop.example')], bank: [bearer(BANK), key(BANK)] };
  test('of one tenant they are as good as one, its name included', () => {
    for (const one of proofs.shop) for (const other of proofs.shop) expect(ask({ ...one, ...other })).toBe('shop');
    expect(ask({ ...bearer(SHOP), ...key(SHOP_NEW), ...cert('shop.example'), ...named('shop') })).toBe('shop');
  });
  test('of two they are refused, in whichever place', () => {
    for (const shop of proofs.shop) {
      for (const bank of [...proofs.bank, cert('bank.example'), cert('', 'spiffe://x/bank')]) {
        if (Object.keys(shop)[0] === Object.keys(bank)[0]) continue;
        expect(ask({ ...shop, ...bank })).toBe('forbidden disagreeing');
        expect(ask({ ...bank, ...shop })).toBe('forbidden disagreeing');
      }
      for (const name of ['bank', 'open', 'default', 'nobody']) {
        expect(ask({ ...shop, ...named(name) })).toBe('forbidden disagreeing');
      }
    }
  });
  test('an unknown token spoils everything else', () => {
    expect(ask({ ...bearer(newToken()), ...key(SHOP) })).toBe('unauthenticated unknown_token');
    expect(ask({ ...bearer(SHOP), ...key(newToken()) })).toBe('unauthenticated unknown_token');
    expect(ask({ ...bearer(newToken()), ...cert('shop.example') })).toBe('unauthenticated unknown_token');
    expect(ask({ ...key(newToken()), ...named('open') })).toBe('unauthenticated unknown_token');
    expect(ask({ ...bearer(SHOP), ...cert('shop.example', 'bank.example') })).toBe('forbidden disagreeing');
  });
  test('a certificate of nobody beside a token or a name says nothing', () => {
    expect(ask({ ...bearer(SHOP), ...cert('nobody.example') })).toBe('shop');
    expect(ask({ ...cert('nobody.example'), ...named('open') })).toBe('open');
    expect(ask({ ...cert('nobody.example'), ...named('shop') })).toBe('forbidden unproven');
  });
});

describe('the settings beside the list', () => {
  test('who shows nothing is refused where that is wanted, who says default too', () => {
    const { ask } = open(tenantsOf(LIST, { header: 'x-tenant', anonymous: 'refuse' }));
    expect(ask({})).toBe('unauthenticated missing');
    expect(ask(named('default'))).toBe('forbidden unlisted');
    expect(ask(named('open'))).toBe('open');
    expect(ask(bearer(SHOP))).toBe('shop');
  });
  test('who names what is not in the list may be the default, but never with a wrong token', () => {
    const { ask } = open(tenantsOf(LIST, { header: 'x-tenant', unlisted: 'default', anonymous: 'refuse' }));
    expect(ask(named('nobody'))).toBe('default');
    expect(ask(cert('nobody.example'))).toBe('default');
    expect(ask(named('shop'))).toBe('forbidden unproven');
    expect(ask({ ...bearer(newToken()), ...named('nobody') })).toBe('unauthenticated unknown_token');
  });
  test('certificates that name no tenants are as none', () => {
    const { ask } = open(tenantsOf([{ name: 'shop', tokens: [hashToken(SHOP)] }]));
    expect(ask(cert('anything'))).toBe('default');
    expect(ask({ ...cert('anything'), ...bearer(SHOP) })).toBe('shop');
  });
  test.each<[string, Settings['tenants'], string | undefined]>([
    ['no tenants', tenantsOf([]), undefined],
    ['a tenant that nobody can be', tenantsOf([{ name: 'default' }]), undefined],
    ['a header', tenantsOf([], { header: 'x-tenant' }), 'x-tenant'],
    ['nobody without credentials', tenantsOf([], { anonymous: 'refuse' }), ''],
    ['tokens', tenantsOf([{ name: 'shop', tokens: [hashToken(SHOP)] }]), ''],
    ['certificates', tenantsOf([{ name: 'shop', certificates: ['x'] }]), ''],
  ])('which headers are read: %s', (_, settings, header) => {
    const { tenants, ask } = open(settings);
    expect(tenants.credentialHeaders?.tenant).toBe(header);
    if (header === undefined) expect(ask(bearer('whatever a proxy in front is shown'))).toBe('default');
    else expect(tenants.credentialHeaders).toMatchObject({ authorization: 'authorization', apiKey: 'x-api-key' });
  });
});

test('a rotation: two tokens for a while, then only the new one', () => {
  const [old, fresh] = [newToken(), newToken()];
  const shop = (...tokens: string[]) => tenantsOf([{ name: 'shop', tokens: tokens.map(hashToken) }]);
  const { tenants, ask } = open(shop(old));
  expect([ask(bearer(old)), ask(bearer(fresh))]).toEqual(['shop', 'unauthenticated unknown_token']);
  tenants.update(shop(old, fresh));
  expect([ask(bearer(old)), ask(bearer(fresh))]).toEqual(['shop', 'shop']);
  tenants.update(shop(fresh));
  expect([ask(bearer(old)), ask(bearer(fresh))]).toEqual(['unauthenticated unknown_token', 'shop']);
  tenants.update(tenantsOf([]));
  expect([ask(bearer(old)), tenants.credentialHeaders]).toEqual(['default', undefined]);
});

test('whatever combination is shown: never a tenant of which nothing was proved, never two', () => {
  const seed = Date.now() % 2 ** 31;
  let state = seed;
  const draw = (count: number) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return (state >>> 8) % count;
  };
  const settings = tenantsOf(LIST, { header: 'x-tenant' });
  const { ask } = open(settings);
  const owners = new Map([
    [SHOP, 'shop'], [SHOP_NEW, 'shop'], [BANK, 'bank'], ['shop.example', 'shop'], ['bank.example', 'bank'],
  ]);
  const tokens = ['', SHOP, SHOP_NEW, BANK, 'unknown'];
  for (let i = 0; i < 5_000; i++) {
    const [token, apiKey] = [tokens[draw(5)] ?? '', tokens[draw(5)] ?? ''];
    const certificate = ['', 'shop.example', 'bank.example', 'nobody.example'][draw(4)] ?? '';
    const tenant = ['', 'shop', 'bank', 'open', 'default', 'nobody'][draw(6)] ?? '';
    const answer = ask({
      ...(token === '' ? {} : bearer(token)),
      apiKey,
      tenant,
      ...(certificate === '' ? {} : cert(certificate)),
    });
    const shown = [token, apiKey].filter((one) => one !== '');
    const proven = new Set([...shown, certificate].flatMap((one) => owners.get(one) ?? []));
    const where = `seed ${seed}: ${JSON.stringify({ token, apiKey, certificate, tenant })}`;
    if (shown.some((one) => !owners.has(one))) expect(answer, where).toBe('unauthenticated unknown_token');
    else if (proven.size > 1) expect(answer, where).toBe('forbidden disagreeing');
    else if (proven.size === 1) {
      const [name] = proven;
      expect(answer, where).toBe(tenant === '' || tenant === name ? name : 'forbidden disagreeing');
    } else expect(['shop', 'bank'], where).not.toContain(answer);
  }
});
