/**
 * Goal: on a real cluster of old servers with ZooKeeper each fault gives its sentence, hosts are found by
 * identity although all share one name, and what is merely away stays a member.
 */
import { describe, expect, test } from 'vitest';
import { loadSettings } from '../../src/config/load.ts';
import { type Discovery, Discoverer } from '../../src/topology/discover.ts';
import { counts } from '../../src/topology/faults.ts';
import { type FarmHost, useFarm } from '../support/farm.ts';
import { eventually, freePort, silent } from '../support/services.ts';
import { lookAt } from './look.ts';

const farm = useFarm();

function settingsOf(environment: Record<string, string>) {
  return loadSettings({
    SLUICE_CLICKHOUSE_CLUSTER: 'events', SLUICE_CLICKHOUSE_DATABASE: 'default', ...environment,
  }).settings.clickhouse;
}

async function withDiscoverer<T>(
  environment: Record<string, string>,
  body: (discoverer: Discoverer) => Promise<T>,
): Promise<T> {
  const discoverer = new Discoverer(settingsOf({ SLUICE_CLICKHOUSE_URL: farm.urls, ...environment }), silent);
  try {
    return await body(discoverer);
  } finally {
    await discoverer.close();
  }
}

const discoverOnce = (environment: Record<string, string> = {}) =>
  withDiscoverer(environment, (discoverer) => lookAt(discoverer));

/** Code and hosts of all that counts. */
function faultsOf({ faults }: Discovery): string[] {
  return faults.filter(counts).map(({ code, hosts }) => [code, ...hosts].join(' '));
}

function sentence({ faults }: Discovery, code: string): string {
  return faults.find((fault) => fault.code === code)?.message ?? `no fault ${code}`;
}

function urlsOf({ topology }: Discovery): (string | undefined)[] {
  return (topology?.shards ?? []).flatMap(({ replicas }) => replicas.map(({ url }) => url));
}

const addressOf = ({ tcpPort }: FarmHost) => `127.0.0.1:${tcpPort}`;

/** Gives a host other beliefs for one body, and all of them back afterwards. */
async function believing<T>(host: FarmHost, change: (beliefs: FarmHost['beliefs']) => void, body: () => Promise<T>) {
  const before = structuredClone(host.beliefs);
  change(host.beliefs);
  await restart(host);
  try {
    return await body();
  } finally {
    Object.assign(host.beliefs, before);
    await restart(host);
  }
}

async function restart(host: FarmHost): Promise<void> {
  await host.stop('SIGKILL');
  await host.start();
}

describe('a good cluster', () => {
  test('is found whole, in the order of its definition, whatever the order of the URLs', async () => {
    const reversed = [...farm.hosts].reverse().map(({ url }) => url).join(',');
    const discovery = await discoverOnce({ SLUICE_CLICKHOUSE_URL: reversed });
    expect(faultsOf(discovery)).toEqual([]);
    expect(discovery.replicated).toBe(true);
    expect(urlsOf(discovery)).toEqual(farm.hosts.map(({ url }) => url));
    expect(discovery.topology?.shards.map(({ shard, weight, name }) => [shard, weight, name])).toEqual([
      [0, 1, '01'], [1, 1, '02'],
    ]);
    expect(discovery.hosts.map(({ address }) => address)).toEqual(farm.hosts.map(addressOf));
    expect(discovery.faults.map(({ code, severity }) => [code, severity])).toEqual([['version_old', 'note']]);
  });

  test('each host tells what it is', async () => {
    const [first] = (await discoverOnce()).hosts;
    expect(first).toMatchObject({
      reachable: true, member: { shard: 0, replica: 0 }, weight: 1, version: '18.16.1', macros: { shard: '01', replica: 'r1' },
      keeper: { state: 'reachable' }, disks: undefined, balanced: false, unreadable: [],
    });
    if (first?.reachable !== true) throw new Error('it answers');
    expect(Math.abs(first.clockSkewMs)).toBeLessThan(2_000 + first.clockErrorMs);
    expect(first.databases).toContain('system');
    expect(first.definition).toHaveLength(4);
  });
});

describe('hosts that are away', () => {
  test('a host that goes away stays known, and is found again', async () => {
    await withDiscoverer({}, async (discoverer) => {
      const before = urlsOf(await lookAt(discoverer));
      const host = farm.host(2, 2);
      await host.stop('SIGKILL');
      try {
        const without = await lookAt(discoverer);
        expect(faultsOf(without)).toEqual([`host_unreachable ${host.name}`]);
        expect(sentence(without, 'host_unreachable')).toContain(`SLUICE_CLICKHOUSE_ADDRESSES=${addressOf(host)}=http`);
        expect(urlsOf(without)).toEqual(before);
        expect(without.replicated).toBe(true);
        expect(without.hosts.map(({ reachable }) => reachable)).toEqual([true, true, true, false]);
      } finally {
        await host.start();
      }
      expect(faultsOf(await lookAt(discoverer))).toEqual([]);
    });
  });

  test('one that was away from the start is what is left over, of URLs and of members', async () => {
    const host = farm.host(1, 2);
    await host.stop('SIGKILL');
    try {
      const discovery = await discoverOnce();
      expect(faultsOf(discovery)).toEqual([`host_unreachable ${host.name}`]);
      expect(urlsOf(discovery)).toEqual(farm.hosts.map(({ url }) => url));
    } finally {
      await host.start();
    }
  });

  test('two of them could be either: nobody guesses', async () => {
    const [one, other] = [farm.host(1, 2), farm.host(2, 1)];
    await Promise.all([one.stop('SIGKILL'), other.stop('SIGKILL')]);
    try {
      const discovery = await discoverOnce();
      expect(faultsOf(discovery)).toEqual([
        `address_missing ${addressOf(one)}`, `address_missing ${addressOf(other)}`,
        `host_unreachable ${one.name}`, `host_unreachable ${other.name}`,
      ]);
      expect(urlsOf(discovery)).toEqual([farm.host(1, 1).url, undefined, undefined, farm.host(2, 2).url]);
      expect(discovery.topology?.shards[0]?.replicas[1]?.host).toBe(addressOf(one));
      expect(sentence(discovery, 'address_missing')).toContain('the other hosts do not reach it either');
      const addresses = [one, other].map((host) => `${addressOf(host)}=${host.url}`).join(',');
      const told = await discoverOnce({ SLUICE_CLICKHOUSE_ADDRESSES: addresses });
      expect(faultsOf(told)).toEqual([`host_unreachable ${one.name}`, `host_unreachable ${other.name}`]);
    } finally {
      await Promise.all([one.start(), other.start()]);
    }
  });

  test('an address that nobody tells: the sentence has the setting, ready to be filled in', async () => {
    const [first] = farm.hosts;
    const discovery = await discoverOnce({ SLUICE_CLICKHOUSE_URL: first?.url ?? '' });
    expect(faultsOf(discovery)).toEqual(
      farm.hosts.slice(1).map((host) => `address_missing ${addressOf(host)}`));
    const { message } = discovery.faults.find(({ code }) => code === 'address_missing') ?? { message: '' };
    expect(message).toContain('at 127.0.0.1:');
    expect(message).toContain('answers another server');
    expect(message).toContain('the other hosts do reach it');
    expect(message).toContain(`SLUICE_CLICKHOUSE_ADDRESSES=${addressOf(farm.host(1, 2))}=http://`);
    expect(discovery.topology?.shards).toHaveLength(2);
  });

  test('a mapping that leads to another host, and one of a host that nobody knows', async () => {
    const [one, other] = [farm.host(1, 1), farm.host(2, 1)];
    const addresses = `${addressOf(one)}=${other.url},nobody:9000=http://127.0.0.1:1`;
    const discovery = await discoverOnce({ SLUICE_CLICKHOUSE_ADDRESSES: addresses });
    expect(faultsOf(discovery)).toEqual([`address_wrong ${addressOf(one)}`]);
    expect(sentence(discovery, 'address_unused')).toContain('nobody:9000');
    expect(sentence(discovery, 'address_wrong')).toContain(`${addressOf(one)} (shard_num 1, replica_num 1) to ${other.url}`);
    expect(urlsOf(discovery)).toEqual(farm.hosts.map(({ url }) => url));
  });

  test('nobody at all', async () => {
    const discovery = await discoverOnce({ SLUICE_CLICKHOUSE_URL: `http://127.0.0.1:${await freePort()}` });
    expect(discovery.topology).toBeUndefined();
    expect(discovery.faults.map(({ code }) => code)).toEqual(['no_host_answers', 'host_unreachable']);
  });
});

describe('a cluster that is not what it should be', () => {
  test('another number of shards or replicas than expected', async () => {
    const discovery = await discoverOnce({
      SLUICE_CLICKHOUSE_EXPECT_SHARDS: '1', SLUICE_CLICKHOUSE_EXPECT_REPLICAS: '3',
    });
    expect(faultsOf(discovery)).toEqual(['shards_unexpected', 'replicas_unexpected']);
    expect(discovery.topology).toBeUndefined();
    expect(sentence(discovery, 'shards_unexpected')).toContain(
      'the cluster "events" has 2 shards, but SLUICE_CLICKHOUSE_EXPECT_SHARDS is 1');
  });

  test('a name that no host knows', async () => {
    const discovery = await discoverOnce({ SLUICE_CLICKHOUSE_CLUSTER: 'event' });
    expect(discovery.topology).toBeUndefined();
    expect(sentence(discovery, 'cluster_unknown')).toContain('they know events; did you mean "events"?');
  });

  test('several servers without a cluster', async () => {
    const discovery = await discoverOnce({ SLUICE_CLICKHOUSE_CLUSTER: '' });
    expect(discovery.topology).toBeUndefined();
    expect(sentence(discovery, 'several_servers_without_cluster')).toContain('they know events');
  });

  test('one server under two names', async () => {
    const { url, name, httpPort } = farm.host(1, 1);
    const discovery = await discoverOnce({ SLUICE_CLICKHOUSE_URL: `${farm.urls},http://localhost:${httpPort}` });
    expect(faultsOf(discovery)).toEqual([`host_twice ${name} localhost:${httpPort}`]);
    expect(urlsOf(discovery)).toEqual(farm.hosts.map((host) => host.url));
    const alone = await discoverOnce({
      SLUICE_CLICKHOUSE_CLUSTER: '', SLUICE_CLICKHOUSE_URL: `${url},http://localhost:${httpPort}`,
    });
    expect(faultsOf(alone)).toEqual([`host_twice ${name} localhost:${httpPort}`]);
    expect(urlsOf(alone)).toEqual([url]);
  });

  test('a host whose definition differs, and hosts that know another set', async () => {
    const host = farm.host(2, 2);
    const swap = (beliefs: FarmHost['beliefs']) => {
      beliefs.shards[0]?.reverse();
      beliefs.weights = [3, 1];
    };
    await believing(host, swap, async () => {
      const discovery = await discoverOnce();
      expect(discovery.topology).toBeUndefined();
      expect(faultsOf(discovery)).toEqual([`definition_differs ${farm.hosts.map(({ name }) => name).join(' ')}`]);
      expect(sentence(discovery, 'definition_differs')).toContain('shard_num 1 has weight 1 or 3');
    });
    const other = (beliefs: FarmHost['beliefs']) => {
      beliefs.shards = [[{ host: 'localhost', port: host.tcpPort }]];
    };
    await believing(host, other, async () => {
      const discovery = await discoverOnce();
      expect(discovery.topology).toBeUndefined();
      expect(sentence(discovery, 'two_sets_of_hosts')).toContain(`${host.name} know localhost:${host.tcpPort}`);
    });
  });

  test('a name in the definition that a host cannot resolve', async () => {
    const host = farm.host(2, 2);
    const unknown = (beliefs: FarmHost['beliefs']) => {
      beliefs.shards = [[{ host: 'no-such-host.invalid', port: 9000 }]];
    };
    await believing(host, unknown, async () => {
      const discovery = await discoverOnce();
      expect(faultsOf(discovery)).toEqual([`definition_unreadable ${host.name}`]);
      expect(sentence(discovery, 'definition_unreadable')).toMatch(/does not resolve there: .*no-such-host\.invalid/);
      expect(discovery.topology).toBeUndefined();
    });
  });

  test('one server that is two members', async () => {
    const twins = (beliefs: FarmHost['beliefs']) => {
      beliefs.shards = [beliefs.shards[0] ?? [], [
        { host: '127.0.0.1', port: farm.host(2, 1).tcpPort }, { host: 'localhost', port: farm.host(2, 1).tcpPort },
      ]];
    };
    const [one, two, three] = farm.hosts as [FarmHost, FarmHost, FarmHost];
    await believing(one, twins, () => believing(two, twins, () => believing(three, twins, async () => {
      await withDiscoverer({ SLUICE_CLICKHOUSE_URL: `${one.url},${two.url},${three.url}` }, async (discoverer) => {
        for (let look = 0; look < 2; look++) {
          const discovery = await lookAt(discoverer);
          expect(discovery.topology).toBeUndefined();
          expect(sentence(discovery, 'member_twice')).toContain(`${addressOf(three)} (shard_num 2, replica_num 1)`);
        }
      });
    })));
  });
});

describe('replication', () => {
  test('macros: missing, doubled, of another shard', async () => {
    const [, host, other] = farm.hosts as [FarmHost, FarmHost, FarmHost];
    const first = farm.host(1, 1);
    await believing(host, (beliefs) => {
      beliefs.macros = { shard: '01', replica: 'r1' };
    }, async () => {
      const doubled = await discoverOnce();
      expect(faultsOf(doubled)).toEqual([`macro_doubled ${first.name} ${host.name}`]);
      expect(sentence(doubled, 'macro_doubled')).toContain('{shard} 01, {replica} r1');
      expect(doubled.topology).toBeUndefined();
    });
    await believing(host, (beliefs) => {
      beliefs.macros = { replica: 'r2' };
    }, async () => {
      const missing = await discoverOnce();
      expect(faultsOf(missing)).toEqual([`macro_missing ${host.name}`]);
      expect(sentence(missing, 'macro_missing')).toContain(`${host.name} has no macro {shard}`);
      expect([missing.replicated, missing.topology]).toEqual([false, undefined]);
      const off = await discoverOnce({ SLUICE_CLICKHOUSE_REPLICATION: 'off' });
      expect(faultsOf(off)).toEqual([`replication_off ${farm.hosts.map(({ name }) => name).join(' ')}`]);
      expect([off.replicated, off.topology?.shards.length]).toEqual([false, 2]);
    });
    await believing(other, (beliefs) => {
      beliefs.macros = { shard: '01', replica: 'r9' };
    }, async () => {
      const disagrees = await discoverOnce();
      expect(faultsOf(disagrees)).toEqual([`macro_disagrees ${other.name} ${farm.host(2, 2).name}`]);
    });
  });

  test('ZooKeeper away and back: everything stays in use', async () => {
    const host = farm.host(1, 1);
    const path = "'/tables/{shard}/topology', '{replica}'";
    await host.query(`CREATE TABLE default.topology (d Date, x UInt8) ENGINE = ReplicatedMergeTree(${path}, d, x, 8192)`);
    await withDiscoverer({}, async (discoverer) => {
      const before = await lookAt(discoverer);
      expect(before.hosts[0]).toMatchObject({ tables: ['topology'], readOnlyTables: [] });
      await farm.stopZooKeeper();
      try {
        const away = farm.hosts.map(({ name }) => `keeper_away ${name}`);
        const without = await eventually('the table is read-only', async () => {
          const discovery = await discoverer.discover();
          return faultsOf(discovery).includes(`replica_read_only ${host.name}`) && discovery;
        });
        expect(faultsOf(without).filter((fault) => fault.startsWith('keeper_away'))).toEqual(away);
        expect(sentence(without, 'replica_read_only')).toContain(`${host.name}: default.topology can't be written to`);
        expect(without.topology).toEqual(before.topology);
        expect(without.replicated).toBe(true);
      } finally {
        await farm.startZooKeeper();
      }
      await eventually('no fault is left', async () => faultsOf(await lookAt(discoverer)).length === 0);
    });
  });
});
