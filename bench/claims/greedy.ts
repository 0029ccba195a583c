/**
 * Claim: one of several tenants offers twenty times its share. What the others send is acknowledged as fast as
 * without it (their p99 rises by less than 20 %), and all of it is taken. Starts everything itself; -d is for
 * how long without the greedy one, and again with it; --tenants how many there are beside it.
 */
import { Installation } from '../installation.ts';
import type { BenchOptions } from '../options.ts';
import { type Figure, runClaim } from './claim.ts';
import { numberOf } from './numbers.ts';
import { Offered, type OfferedCounts } from './offered.ts';
import { Latency } from '../measure/latency.ts';
import type { Target } from '../send/sender.ts';

const HEADER = 'x-tenant';
const GREED = 20;
/** Each of the others uses this part of its rate. */
const MODEST = 0.5;
const REQUEST_ITEMS = 100;
const CONNECTIONS = 8;
const GREEDY_CONNECTIONS = 64;
const SETTLE_SECONDS = 5;
const P99_PERCENT_MAX = 20;
/** What comes and goes by itself. */
const RATE_PERCENT_MAX = 1;
const NONE = { better: 'less', must: undefined, aim: undefined } as const;

interface Others {
  readonly offered: number;
  readonly accepted: number;
  readonly refused: number;
  readonly p99: number;
}

await runClaim({
  name: 'greedy',
  description: 'One tenant sends twenty times its share; starts everything itself.',
  extend: (command) =>
    command
      .option('--tenants <n>', 'beside the greedy one', numberOf, 4)
      .option('--share <items/s>', 'that each of them may send', numberOf, 5_000),
  body: async (options, _measure, command) => {
    const { tenants, share } = command.opts<{ tenants: number; share: number }>();
    const names = Array.from({ length: tenants }, (_, i) => `modest-${i}`);
    const listed = [...names, 'greedy'].map((name) => ({ name, itemsPerSecond: share }));
    const installation = await Installation.start({
      redisBytesMax: 512 * 2 ** 20,
      clickhouses: 1,
      gateways: 1,
      writers: 1,
      settings: { SLUICE_TENANTS: JSON.stringify(listed), SLUICE_TENANTS_HEADER: HEADER },
    });
    const [gateway] = installation.gateways;
    if (gateway === undefined) throw new Error('there is one');
    const open = (tenant: string, connections: number) => client(gateway.target, options, tenant, connections);
    const others = names.map((name) => open(name, CONNECTIONS));
    const greedy = open('greedy', GREEDY_CONNECTIONS);
    try {
      const round = async (seconds: number): Promise<Others> => {
        await Promise.all(others.map((one) => one.run(share * MODEST, seconds)));
        return summed(others.map((one) => one.take()));
      };
      await round(SETTLE_SECONDS);
      const alone = await round(options.seconds);
      const greed = greedy.run(share * GREED, SETTLE_SECONDS + options.seconds);
      await round(SETTLE_SECONDS);
      const beside = await round(options.seconds);
      await greed;
      return figuresOf(alone, beside, greedy.take(), SETTLE_SECONDS + options.seconds);
    } finally {
      for (const one of [...others, greedy]) one.close();
      await installation.stop();
    }
  },
});

function client(target: Target, options: BenchOptions, tenant: string, connections: number): Offered {
  return new Offered({
    target,
    protocol: 'http-protobuf',
    connections,
    requestItems: options.requestItems ?? REQUEST_ITEMS,
    seed: options.seed,
    timeoutMs: options.timeoutMs,
    honour: false,
    headers: { [HEADER]: tenant },
  });
}

function summed(all: readonly OfferedCounts[]): Others {
  const sum = (of: (counts: OfferedCounts) => number) => all.reduce((total, counts) => total + of(counts), 0);
  return {
    offered: sum(({ offered }) => offered),
    accepted: sum(({ accepted }) => accepted),
    refused: sum(({ delayed, undelayed, final, unanswered }) => delayed + undelayed + final + unanswered),
    p99: Latency.of(all.map(({ latency }) => latency)).summary().p99,
  };
}

function figuresOf(alone: Others, beside: Others, greedy: OfferedCounts, seconds: number): Figure[] {
  const taken = ({ accepted, offered }: Others) => (accepted / offered) * 100;
  const refused = greedy.delayed + greedy.undelayed + greedy.final;
  return [
    { ...NONE, name: 'the greedy one: offered', value: greedy.offered / seconds, unit: 'requests/s' },
    { ...NONE, name: 'the greedy one: accepted', value: greedy.acceptedItems / seconds, unit: 'items/s' },
    { ...NONE, name: 'the greedy one: refused', value: refused / seconds, unit: 'requests/s' },
    { ...NONE, name: 'the others alone: acknowledged after', value: alone.p99, unit: 'ms p99' },
    { ...NONE, name: 'the others beside it: acknowledged after', value: beside.p99, unit: 'ms p99' },
    {
      ...NONE, name: 'the others: acknowledged later', value: (beside.p99 / alone.p99 - 1) * 100, unit: '%',
      must: P99_PERCENT_MAX,
    },
    {
      ...NONE, name: 'the others: less of theirs taken', value: taken(alone) - taken(beside), unit: '%',
      must: RATE_PERCENT_MAX,
    },
    { ...NONE, name: 'the others beside it: refused', value: beside.refused, unit: 'requests', must: 0 },
  ];
}
