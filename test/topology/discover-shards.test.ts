/**
 * Goal: on today's version the members of a cluster are found by what they say of themselves: through
 * mappings, behind a load balancer, with a weight of 0, with a shard that is added; and what is wrong with the
 * settings has its sentence.
 */
import { type Server, connect, createServer } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadSettings } from '../../src/config/load.ts';
import { type Discovery, Discoverer } from '../../src/topology/discover.ts';
import { freePort, silent } from '../support/services.ts';
import { type Shards, startShards } from '../support/shards.ts';
import { lookAt } from './look.ts';

let shards: Shards;
beforeAll(async () => {
  shards = await startShards(2, { spare: 1 });
});
afterAll(() => shards?.stop());

async function withDiscoverer<T>(
  environment: Record<string, string>,
  body: (discoverer: Discoverer) => Promise<T>,
): Promise<T> {
  const { settings } = loadSettings({
    SLUICE_CLICKHOUSE_CLUSTER: 'main', SLUICE_CLICKHOUSE_URL: urls(0, 1), ...environment,
  });
  const discoverer = new Discoverer(settings.clickhouse, silent);
  try {
    return await body(discoverer);
  } finally {
    await discoverer.close();
  }
}

const discoverOnce = (environment: Record<string, string> = {}) =>
  withDiscoverer(environment, (discoverer) => lookAt(discoverer));

const server = (index: number) => {
  const found = shards.servers[index];
  if (found === undefined) throw new Error(`there is no server ${index}`);
  return found;
};
const urls = (...indices: number[]) => indices.map((index) => server(index).url).join(',');
const address = (index: number) => `127.0.0.1:${server(index).tcpPort}`;
const host = (index: number) => new URL(server(index).url).host;
const codes = ({ faults }: Discovery) => faults.map(({ code, hosts }) => [code, ...hosts].join(' '));
const found = ({ topology }: Discovery) =>
  topology?.shards.map(({ weight, name, replicas }) => [weight, name, replicas[0]?.url]);
const sentence = ({ faults }: Discovery, code: string) =>
  faults.find((fault) => fault.code === code)?.message ?? `no fault ${code}`;

describe('a good cluster', () => {
  test('two shards, no Keeper, no replicas: nothing is wrong and nothing is replicated', async () => {
    const discovery = await discoverOnce({ SLUICE_CLICKHOUSE_URL: urls(1, 0) });
    expect(codes(discovery)).toEqual([]);
    expect(discovery.replicated).toBe(false);
    expect(found(discovery)).toEqual([[1, '01', server(0).url], [1, '02', server(1).url]]);
    const [first] = discovery.hosts;
    if (first?.reachable !== true) throw new Error('it answers');
    expect(first.definition?.[0]).toMatchObject({ internalReplication: true, isLocal: true });
    expect(first.keeper.state).toBe('none');
    expect(first.disks?.[0]?.totalBytes).toBeGreaterThan(0);
    expect(first.identity.tcpPort).toBe(server(0).tcpPort);
    expect(first.clockErrorMs).toBeLessThan(500 + 5_000);
  });

  test('by a mapping alone, with the user of the first URL', async () => {
    const first = server(0).url.replace('http://', 'http://default:@');
    const discovery = await discoverOnce({
      SLUICE_CLICKHOUSE_URL: first,
      SLUICE_CLICKHOUSE_ADDRESSES: `${address(1)}=http://localhost:${server(1).httpPort}`,
    });
    expect(codes(discovery)).toEqual([]);
    expect(found(discovery)?.map(([, , url]) => url)).toEqual([
      first, `http://default@localhost:${server(1).httpPort}/`,
    ]);
  });

  test('one server without a cluster', async () => {
    const discovery = await discoverOnce({ SLUICE_CLICKHOUSE_CLUSTER: '', SLUICE_CLICKHOUSE_URL: urls(0) });
    expect([codes(discovery), found(discovery), discovery.replicated]).toEqual([[], [[1, '', server(0).url]], false]);
    const away = `http://127.0.0.1:${await freePort()}`;
    const alone = await discoverOnce({ SLUICE_CLICKHOUSE_CLUSTER: '', SLUICE_CLICKHOUSE_URL: away });
    expect(found(alone)).toEqual([[1, '', away]]);
    expect(codes(alone)).toEqual([`host_unreachable ${new URL(away).host}`]);
  });

  test('a load balancer finds the cluster, and is never taken for a member', async () => {
    await withBalancer(async (url) => {
      const addresses = [0, 1].map((index) => `${address(index)}=${server(index).url}`).join(',');
      const discovery = await discoverOnce({ SLUICE_CLICKHOUSE_URL: url, SLUICE_CLICKHOUSE_ADDRESSES: addresses });
      expect(codes(discovery)).toEqual([`url_balanced ${new URL(url).host}`]);
      expect(found(discovery)?.map(([, , at]) => at)).toEqual([server(0).url, server(1).url]);
    });
    await withBalancer(async (url) => {
      const discovery = await discoverOnce({ SLUICE_CLICKHOUSE_URL: url });
      expect(codes(discovery)).toEqual([
        `url_balanced ${new URL(url).host}`, `address_missing ${address(0)}`, `address_missing ${address(1)}`,
      ]);
    });
    await withBalancer(async (url) => {
      const discovery = await discoverOnce({ SLUICE_CLICKHOUSE_URL: url, SLUICE_CLICKHOUSE_CLUSTER: '' });
      expect(sentence(discovery, 'several_servers_without_cluster')).toContain('a load balancer');
      expect(discovery.topology).toBeUndefined();
    });
  });
});

describe('what is wrong', () => {
  test.each([
    ['main2', 'they know main; did you mean "main"?'],
    ['something_else', 'they know main. Name one of system.clusters'],
  ])('a cluster of another name: %s', async (cluster, words) => {
    const discovery = await discoverOnce({ SLUICE_CLICKHOUSE_CLUSTER: cluster });
    expect(codes(discovery)).toEqual([`cluster_unknown ${host(0)} ${host(1)}`]);
    expect(sentence(discovery, 'cluster_unknown')).toContain(words);
  });

  test('a password that one host refuses', async () => {
    const wrong = server(1).url.replace('http://', 'http://default:wrong@');
    const discovery = await discoverOnce({ SLUICE_CLICKHOUSE_URL: `${urls(0)},${wrong}` });
    expect(codes(discovery)).toEqual([`credentials_refused ${host(1)}`]);
    expect(sentence(discovery, 'credentials_refused')).not.toContain('wrong@');
    expect(found(discovery)?.map(([, , url]) => url)).toEqual([server(0).url, wrong]);
  });

  test('a name that does not resolve', async () => {
    const discovery = await discoverOnce({
      SLUICE_CLICKHOUSE_ADDRESSES: `${address(1)}=http://no-such-host.invalid:8123`,
    });
    expect(codes(discovery)).toEqual(['name_unresolved no-such-host.invalid:8123', `host_foreign ${host(1)}`].reverse());
    expect(discovery.topology?.shards).toHaveLength(2);
  });

  test('a server that is no member, more shards expected, replication that nobody can have', async () => {
    const discovery = await discoverOnce({
      SLUICE_CLICKHOUSE_URL: urls(0, 1, 2),
      SLUICE_CLICKHOUSE_EXPECT_SHARDS: '3',
      SLUICE_CLICKHOUSE_REPLICATION: 'on',
    });
    expect(codes(discovery)).toEqual([
      `host_foreign ${host(2)}`, 'shards_unexpected', `keeper_missing ${host(0)} ${host(1)}`,
    ]);
    expect([discovery.replicated, discovery.topology]).toEqual([true, undefined]);
  });
});

test('a weight of 0, and a shard that is added, are seen by the next look', async () => {
  await withDiscoverer({ SLUICE_CLICKHOUSE_URL: urls(0, 1, 2) }, async (discoverer) => {
    expect(found(await lookAt(discoverer))).toHaveLength(2);
    await shards.define([1, 0, 3]);
    const discovery = await lookAt(discoverer);
    expect(codes(discovery)).toEqual([]);
    expect(found(discovery)).toEqual([
      [1, '01', server(0).url], [0, '02', server(1).url], [3, '03', server(2).url],
    ]);
  });
  await shards.define([0, 0]);
  // This version refuses to know such a cluster itself; older ones give it as it is (faults.test.ts).
  const nowhere = await discoverOnce();
  expect(codes(nowhere)).toEqual([`definition_unreadable ${host(0)}`, `definition_unreadable ${host(1)}`]);
  expect(sentence(nowhere, 'definition_unreadable')).toContain('Cluster with zero weight on all shards is prohibited');
});

/** The first connection goes to the first server, all others to the second. */
async function withBalancer(body: (url: string) => Promise<void>): Promise<void> {
  const seen = new Set<object>();
  const balancer: Server = createServer((client) => {
    const target = connect(server(seen.size === 0 ? 0 : 1).httpPort, '127.0.0.1');
    seen.add(client);
    for (const [from, to] of [[client, target], [target, client]] as const) {
      from.pipe(to);
      from.on('error', () => to.destroy());
      from.on('close', () => to.destroy());
    }
  });
  const port = await freePort();
  await new Promise<void>((resolve) => balancer.listen(port, '127.0.0.1', resolve));
  try {
    await body(`http://127.0.0.1:${port}`);
  } finally {
    await new Promise((resolve) => balancer.close(resolve));
  }
}
