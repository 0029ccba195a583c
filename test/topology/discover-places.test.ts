/**
 * Goal: which URL leads to which member is decided by proof before names, by names before what is left over,
 * and never against a proof; where proof and luck both run out, nobody guesses.
 */
import { describe, expect, test } from 'vitest';
import { Fault } from '../../src/base/errors.ts';
import { type Definition, type Member, nameOf } from '../../src/topology/definition.ts';
import type { Answer } from '../../src/topology/endpoint.ts';
import type { NativeAnswer, ServerIdentity } from '../../src/topology/identity.ts';
import { sameServer } from '../../src/topology/identity.ts';
import { type Evidence, place, unproven } from '../../src/topology/placing.ts';
import { derivedUrl, mappedUrls, unusedMappings } from '../../src/topology/urls.ts';

const member = (shardNum: number, host: string, port = 9000): Member =>
  ({ shardNum, replicaNum: 1, host, port, weight: 1, internalReplication: true, isLocal: false });
const ONE = member(1, 'ch1');
const TWO = member(2, 'ch2');
const BOTH: Definition = [ONE, TWO];

const identity = (hostName: string): ServerIdentity =>
  ({ hostName, dataPath: '/data', uuid: undefined, tcpPort: 9000 });

/** A server that answers; `local` are the members that it takes for itself. */
function answer(hostName: string, local: readonly Member[] = [], balanced = false): Answer {
  const definition = BOTH.map((one) => ({ ...one, isLocal: local.includes(one) }));
  return {
    reachable: true,
    facts: {
      identity: identity(hostName), balanced, version: '26.7', timezone: 'UTC', uptimeSeconds: 1, clockSkewMs: 0,
      clockErrorMs: 0, macros: {}, keeper: { state: 'none', fingerprint: undefined, session: undefined },
      databases: [], tables: [], readOnlyTables: [], disks: undefined, clusters: ['main'], definition,
      definitionTrouble: undefined, unreadable: [],
    },
  };
}

const AWAY: Answer = { reachable: false, fault: new Fault('ECONNREFUSED', 'elsewhere', 'no way') };
const up = (hostName: string): NativeAnswer => ({ state: 'up', identity: identity(hostName) });

interface Given {
  readonly members?: Definition;
  readonly mapped?: Record<string, string>;
  readonly remembered?: Record<string, [url: string, hostName: string]>;
  readonly derived?: Record<string, string>;
  readonly natives?: Record<string, NativeAnswer>;
}

/** `urls` are those of the settings, unless they are mapped, remembered or derived. */
function evidence(urls: Record<string, Answer>, about: Given = {}): Evidence {
  const { mapped = {}, derived = {}, natives = {}, remembered = {}, members = BOTH } = about;
  const others = new Set([...Object.values(mapped), ...Object.values(derived)]);
  return {
    members,
    given: Object.keys(urls).filter((url) => !others.has(url)),
    mapped: new Map(Object.entries(mapped)),
    derived: new Map(Object.entries(derived)),
    natives: new Map(Object.entries(natives)),
    remembered: new Map(
      Object.entries(remembered).map(([name, [url, hostName]]) => [name, { url, identity: identity(hostName) }])),
    answers: new Map(Object.entries(urls)),
  };
}

const places = (given: Evidence) => {
  const { urls } = place(given);
  return given.members.map((one) => urls.get(nameOf(one)));
};

describe('which URL is which member', () => {
  const table: [string, Evidence, (string | undefined)[]][] = [
    ['the only row that a server takes for itself', evidence({ a: answer('x', [TWO]), b: answer('y', [ONE]) }), ['b', 'a']],
    ['the identity that others hear', evidence({ a: answer('x'), b: answer('y') },
      { natives: { 'ch1:9000': up('y'), 'ch2:9000': up('x') } }), ['b', 'a']],
    ['rows of the whole shard narrow it down, identity decides', evidence({ a: answer('x', BOTH), b: answer('y', BOTH) },
      { natives: { 'ch1:9000': up('y'), 'ch2:9000': up('x') } }), ['b', 'a']],
    ['a mapping', evidence({ a: answer('x'), b: answer('y') }, { mapped: { 'ch1:9000': 'b', 'ch2:9000': 'a' } }), ['b', 'a']],
    ['a mapping of a host that is away', evidence({ a: answer('x', [ONE]), b: AWAY }, { mapped: { 'ch2:9000': 'b' } }), ['a', 'b']],
    ['what was found before', evidence({ a: answer('x'), b: AWAY },
      { remembered: { 'ch1:9000': ['a', 'x'], 'ch2:9000': ['b', 'y'] } }), ['a', 'b']],
    ['unless that is another server now', evidence({ a: answer('x', [TWO]), b: answer('y', [ONE]) },
      { remembered: { 'ch1:9000': ['a', 'x'], 'ch2:9000': ['b', 'y'] } }), ['b', 'a']],
    ['or turned up elsewhere', evidence({ a: AWAY, b: answer('y', [TWO]), c: answer('x', [ONE]) },
      { remembered: { 'ch1:9000': ['a', 'x'] } }), ['c', 'b']],
    ['a member by its own name rather than through a load balancer', evidence(
      { lb: answer('x', [ONE]), 'http://ch1': answer('x', [ONE]), 'http://ch2': answer('y', [TWO]) },
      { derived: { 'ch1:9000': 'http://ch1', 'ch2:9000': 'http://ch2' } }), ['http://ch1', 'http://ch2']],
    ['its own name where nothing can be proven', evidence({ a: answer('x', [ONE]), 'http://ch2': answer('y') },
      { derived: { 'ch2:9000': 'http://ch2' } }), ['a', 'http://ch2']],
    ['not under its own name if that is another member', evidence({ a: answer('x', [ONE]), 'http://ch2': answer('x', [ONE]) },
      { derived: { 'ch2:9000': 'http://ch2' } }), ['a', undefined]],
    ['not under its own name if nobody answers there', evidence({ a: answer('x', [ONE]), 'http://ch2': AWAY },
      { derived: { 'ch2:9000': 'http://ch2' } }), ['a', undefined]],
    ['the one URL that is left', evidence({ a: answer('x', [ONE]), b: AWAY }), ['a', 'b']],
    ['not if it could be either', evidence({ a: AWAY, b: AWAY }), [undefined, undefined]],
    ['not if it answers and is nobody', evidence({ a: answer('x', [ONE]), b: answer('y') }), ['a', undefined]],
    ['not through a load balancer', evidence({ a: answer('x', [ONE], true) }), [undefined, undefined]],
  ];
  test.each(table)('%s', (_, given, urls) => {
    expect(places(given)).toEqual(urls);
  });
});

describe('what else is found', () => {
  test('two servers that take themselves for one member', () => {
    const { rivals } = place(evidence({ a: answer('x', [ONE]), b: answer('y', [ONE]) }));
    expect(rivals).toEqual([{ member: ONE, urls: ['a', 'b'] }]);
  });

  test('two members that are one server', () => {
    const natives = { 'ch1:9000': up('x'), 'ch2:9000': up('x') };
    expect(place(evidence({ a: answer('x') }, { natives })).twins).toEqual([[ONE, TWO]]);
    const later = evidence({ a: answer('x') },
      { remembered: { 'ch1:9000': ['a', 'x'] }, natives: { 'ch2:9000': up('x') } });
    expect(place(later).twins).toEqual([[ONE, TWO]]);
  });

  test('two URLs of one server, a mapping that leads astray, a server that is no member', () => {
    expect(place(evidence({ a: answer('x', [ONE]), b: answer('x', [ONE]) })).aliases).toEqual([{ url: 'b', of: 'a' }]);
    const astray = place(evidence({ a: answer('x', [ONE]), b: answer('y', [TWO]) }, { mapped: { 'ch1:9000': 'b' } }));
    expect(astray.wrong).toEqual([{ member: ONE, url: 'b' }]);
    const all = place(evidence({ a: answer('x', [ONE]), b: answer('y', [TWO]), c: answer('z') }));
    expect([all.strangers, all.open]).toEqual([['c'], []]);
    expect(place(evidence({ a: AWAY, b: AWAY })).open).toEqual(['a', 'b']);
  });

  test('who still has to be asked', () => {
    const asked = (given: Evidence) => unproven(given, place(given)).map(nameOf);
    expect(asked(evidence({ a: answer('x', [ONE]), b: answer('y', [TWO]) }))).toEqual([]);
    expect(asked(evidence({ a: answer('x', [ONE]), b: AWAY }))).toEqual([]);
    expect(asked(evidence({ a: answer('x') }))).toEqual(['ch1:9000', 'ch2:9000']);
    expect(asked(evidence({ a: answer('x') }, { mapped: { 'ch1:9000': 'a' } }))).toEqual(['ch1:9000', 'ch2:9000']);
    expect(asked(evidence({ a: answer('x'), b: AWAY },
      { remembered: { 'ch1:9000': ['a', 'x'], 'ch2:9000': ['b', 'y'] } }))).toEqual([]);
  });
});

test('what two answers know of the same server has to be equal', () => {
  const known = { hostName: 'h', dataPath: '/d', uuid: 'u', tcpPort: 9000 };
  const same = (change: Partial<ServerIdentity>) => sameServer(known, { ...known, ...change });
  expect([same({}), same({ uuid: undefined }), same({ tcpPort: undefined })]).toEqual([true, true, true]);
  expect([same({ hostName: 'i' }), same({ dataPath: '/e' }), same({ uuid: 'v' }), same({ tcpPort: 9001 })])
    .toEqual([false, false, false, false]);
});

describe('addresses from the settings', () => {
  test.each([
    ['http://u:p%40@lb:8123', 'ch1', 'http://u:p%40@ch1:8123/'],
    ['https://u@lb/path', 'ch1', 'https://u@ch1/path'],
    ['http://lb:8123', 'fe80::1', 'http://[fe80::1]:8123/'],
  ])('%s for %s', (url, host, derived) => {
    expect(derivedUrl([url], member(1, host))).toBe(derived);
  });

  test('a URL that names the host is taken as it is', () => {
    expect(derivedUrl(['http://a:1', 'http://ch2:8124'], TWO)).toBe('http://ch2:8124');
    const shared = ['http://ch2:1', 'http://ch2:2'];
    expect(derivedUrl(shared, TWO)).toBe('http://ch2:1');
  });

  test('mappings get the credentials of the first URL where they have none', () => {
    const addresses = new Map([['a:1', 'http://h:1'], ['b:2', 'http://v:q@h:2']]);
    expect([...mappedUrls({ urls: ['http://u:p%40@x'], addresses }).values()]).toEqual([
      'http://u:p%40@h:1/', 'http://v:q@h:2',
    ]);
    expect([...mappedUrls({ urls: ['http://x'], addresses }).values()][0]).toBe('http://h:1');
    expect(unusedMappings({ urls: [], addresses }, [member(1, 'a', 1)])).toEqual(['b:2']);
    expect(nameOf(member(1, '::1'))).toBe('[::1]:9000');
  });
});
