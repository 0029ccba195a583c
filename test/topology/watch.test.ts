/**
 * Goal: the topology in use changes when the hosts agree on another one, and only then; faults are logged once
 * when they begin and once when they end; a host that goes away, comes back, or joins as a new shard is seen.
 */
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import type { Logger } from '../../src/base/log.ts';
import { loadSettings } from '../../src/config/load.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import { Discoverer, type Discovery } from '../../src/topology/discover.ts';
import { type FaultCode, fault } from '../../src/topology/faults.ts';
import type { Topology } from '../../src/topology/topology.ts';
import { TopologyWatch } from '../../src/topology/watch.ts';
import { useFarm } from '../support/farm.ts';
import { eventually, silent } from '../support/services.ts';

interface Line {
  readonly level: string;
  readonly text: string;
}

/** A logger that keeps what is said. */
function listening(): { logger: Logger; lines: Line[] } {
  const lines: Line[] = [];
  const write = (json: string) => {
    const { level, msg } = JSON.parse(json) as { level: number; msg: string };
    lines.push({ level: pino.levels.labels[level] ?? '', text: msg });
  };
  return { logger: pino({ level: 'info' }, { write }), lines };
}

function topologyOf(...names: string[]): Topology {
  return {
    cluster: 'main',
    shards: names.map((name, shard) => ({
      shard, weight: 1, name, replicas: [{ shard, replica: 0, url: `http://${name}`, host: `${name}:80` }],
    })),
  };
}

function found(topology: Topology | undefined, ...codes: FaultCode[]): Discovery {
  const faults = codes.map((code) => fault(code, ['h'], `this is ${code}`));
  return { topology, replicated: false, hosts: [], faults };
}

/** A watch over looks that the test hands out one by one. */
function scripted() {
  const looks: (Discovery | Error)[] = [];
  const told: { topology: Topology; discovery: Discovery }[] = [];
  const { logger, lines } = listening();
  const instruments = createInstruments();
  let asked = 0;
  let refusing = false;
  const watch = new TopologyWatch({
    discover: async () => {
      asked += 1;
      const look = await eventually('the next look', () => looks.shift());
      if (look instanceof Error) throw look;
      return look;
    },
    everyMs: 1,
    instruments,
    logger,
    onChange: (topology, discovery) => {
      if (refusing) throw new Error('not now');
      told.push({ topology, discovery });
    },
  });
  watch.start();
  return {
    watch,
    told,
    lines,
    refuse: (yes: boolean) => {
      refusing = yes;
    },
    /** Resolves when the look after it has begun, so that this one is over. */
    async look(discovery: Discovery | Error) {
      const before = asked;
      looks.push(discovery);
      await eventually('the look is over', () => asked > before);
    },
    async metrics() {
      const read = async (name: 'topologyShards' | 'topologyFaults' | 'topologyChanges') =>
        (await instruments[name].get()).values[0]?.value ?? 0;
      return [await read('topologyShards'), await read('topologyFaults'), await read('topologyChanges')];
    },
  };
}

describe('what is taken up', () => {
  test('the first, every change, and nothing that is the same', async () => {
    const { watch, told, look, metrics } = scripted();
    await look(found(undefined, 'no_host_answers'));
    expect([watch.topology, watch.discovery?.faults.length, told.length]).toEqual([undefined, 1, 0]);
    await look(found(topologyOf('01')));
    await look(found(topologyOf('01')));
    await look(found(topologyOf('01', '02'), 'version_old', 'clock_skew'));
    await watch.stop();
    expect(told.map(({ topology }) => topology.shards.length)).toEqual([1, 2]);
    expect(watch.topology).toEqual(topologyOf('01', '02'));
    expect(await metrics()).toEqual([2, 1, 1]);
  });

  test('a disagreement, and shards that moved, leave the one in use', async () => {
    const { watch, told, lines, look } = scripted();
    await look(found(topologyOf('01', '02')));
    await look(found(undefined, 'definition_differs'));
    expect(watch.topology).toEqual(topologyOf('01', '02'));
    await look(found(topologyOf('02')));
    expect(watch.topology).toEqual(topologyOf('01', '02'));
    expect(watch.discovery?.topology).toBeUndefined();
    expect(watch.discovery?.faults.map(({ code }) => code)).toEqual(['shard_names_moved']);
    await watch.stop();
    expect(told).toHaveLength(1);
    expect(lines.at(-1)?.text).toBe('over: this is definition_differs');
  });

  test('who answers is told as well; a listener that fails is told again', async () => {
    const { watch, told, look, refuse, metrics } = scripted();
    const place = { host: 'h', url: undefined, member: undefined, address: undefined, weight: undefined };
    const host = { ...place, reachable: false, code: 'x', why: 'y' } as const;
    await look(found(topologyOf('01')));
    refuse(true);
    await look({ ...found(topologyOf('01')), hosts: [host] });
    refuse(false);
    await look({ ...found(topologyOf('01')), hosts: [host] });
    await watch.stop();
    expect(told.map(({ discovery }) => discovery.hosts.length)).toEqual([0, 1]);
    expect(await metrics()).toEqual([1, 0, 0]);
  });

  test('faults are said once when they begin, and once when they end', async () => {
    const { watch, lines, look } = scripted();
    await look(found(topologyOf('01'), 'clock_skew', 'version_old'));
    await look(found(topologyOf('01'), 'clock_skew', 'version_old'));
    await look(found(undefined, 'cluster_unknown', 'version_old'));
    await look(new Error('our own mistake'));
    await watch.stop();
    expect(lines).toEqual([
      { level: 'warn', text: 'this is clock_skew' },
      { level: 'info', text: 'this is version_old' },
      { level: 'error', text: 'this is cluster_unknown' },
      { level: 'info', text: 'over: this is clock_skew' },
      { level: 'error', text: 'a look at the cluster failed: our own mistake' },
    ]);
  });

  test('it ends at once, in the middle of a look', async () => {
    const { watch, told } = scripted();
    await watch.stop();
    expect(told).toEqual([]);
  });
});

describe('a real cluster', () => {
  const farm = useFarm({ shards: 1, replicas: 2 });

  test('a host goes and comes back, a shard joins: without a restart of the watch', async () => {
    const next = await farm.addHost(2, 1);
    const { settings } = loadSettings({
      SLUICE_CLICKHOUSE_URL: farm.urls,
      SLUICE_CLICKHOUSE_CLUSTER: farm.name,
      SLUICE_CLICKHOUSE_ADDRESSES: `127.0.0.1:${next.tcpPort}=${next.url}`,
    });
    const discoverer = new Discoverer(settings.clickhouse, silent);
    const told: [shards: number, up: number][] = [];
    const watch = new TopologyWatch({
      discover: () => discoverer.discover(),
      everyMs: 50,
      instruments: createInstruments(),
      logger: silent,
      onChange: ({ shards }, { hosts }) => {
        told.push([shards.length, hosts.filter(({ reachable }) => reachable).length]);
      },
    });
    const seen = (...last: [number, number]) =>
      eventually(`told ${last}`, () => JSON.stringify(told.at(-1)) === JSON.stringify(last));
    const codes = () => watch.discovery?.faults.map(({ code }) => code) ?? [];
    watch.start();
    try {
      await seen(1, 2);
      expect(codes()).toContain('address_unused');
      await farm.host(1, 2).stop('SIGKILL');
      await seen(1, 1);
      await farm.host(1, 2).start();
      await seen(1, 2);

      const shards = [...farm.host(1, 1).beliefs.shards, [{ host: '127.0.0.1', port: next.tcpPort }]];
      for (const host of farm.hosts) host.beliefs.shards = shards;
      await next.start();
      await eventually('they disagree', () => codes().includes('definition_differs') || codes().includes('two_sets_of_hosts'));
      expect(watch.topology?.shards).toHaveLength(1);
      for (const replica of [1, 2]) {
        await farm.host(1, replica).stop('SIGKILL');
        await farm.host(1, replica).start();
      }
      await seen(2, 3);
      await eventually('no fault is left', () => codes().join() === 'version_old');
      expect(watch.topology?.shards.map(({ name, replicas }) => [name, replicas[0]?.url])).toEqual([
        ['01', farm.host(1, 1).url], ['02', next.url],
      ]);
    } finally {
      await watch.stop();
      await discoverer.close();
    }
  });
});
