/**
 * Claim: one of several tenants offers twenty times its share. What the others send is acknowledged as fast as
 * without it (their p99 rises by less than 20 %), and all of it is taken.
 *
 * `--by rate`: each tenant has a rate of --share items/s, and the others use half of theirs. `--by share`:
 * nobody has one; a proxy makes ClickHouse so slow that it can take --share items/s of each tenant, the queue
 * in Redis is small, and under pressure each one gets its fair part. Starts everything itself; -d is for how
 * long without the greedy one, and again with it; --tenants how many there are beside it.
 */
import { Option } from 'commander';
import { Latency } from '../measure/latency.ts';
import type { BenchOptions } from '../options.ts';
import type { Target } from '../send/sender.ts';
import { Brake } from './parts/brake.ts';
import { type Figure, type Measure, runClaim } from './claim.ts';
import { numberOf } from './parts/numbers.ts';
import { Offered, type OfferedCounts } from './parts/offered.ts';
import { type Own, owning } from './parts/own.ts';

const REDIS_BYTES_MAX = 512 * 2 ** 20;
const HEADER = 'x-tenant';
const GREEDY = 'greedy';
const GREED = 20;
/** Each of the others uses this part of its share. */
const MODEST = 0.5;
const REQUEST_ITEMS = 100;
const CONNECTIONS = 8;
const GREEDY_CONNECTIONS = 64;
const SETTLE_SECONDS = 5;
/** Under pressure: until the queue is as full as it gets. */
const PRESS_SECONDS = 30;
/** So long ClickHouse takes to empty the queue: more than SLUICE_PRESSURE_HORIZON_SECONDS. */
const QUEUE_SECONDS = 60;
/** To find out how many bytes an item is on its way to ClickHouse. */
const TRIAL_ITEMS = 200_000;
const TRIAL_SECONDS = 10;
const P99_PERCENT_MAX = 20;
/** What comes and goes by itself. */
const RATE_PERCENT_MAX = 1;
const NONE = { better: 'less', must: undefined, aim: undefined } as const;

interface Wanted {
  readonly by: 'rate' | 'share';
  readonly tenants: number;
  readonly share: number;
}

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
      .addOption(new Option('--by <what>', 'that keeps it back').choices(['rate', 'share']).default('rate'))
      .option('--tenants <n>', 'beside the greedy one', numberOf, 4)
      .option('--share <items/s>', 'that each of them may send', numberOf, 5_000),
  body: async (options, measure, command) => {
    const wanted = command.opts<Wanted>();
    return wanted.by === 'rate' ? byRate(options, wanted) : byShare(options, wanted, measure);
  },
});

function byRate(options: BenchOptions, wanted: Wanted): Promise<Figure[]> {
  const listed = namesOf(wanted).map((name) => ({ name, itemsPerSecond: wanted.share }));
  const settings = { SLUICE_TENANTS: JSON.stringify(listed), SLUICE_TENANTS_HEADER: HEADER };
  return owning({ redisBytesMax: REDIS_BYTES_MAX, settings }, (own) => {
    return compared(own, options, wanted, SETTLE_SECONDS);
  });
}

async function byShare(options: BenchOptions, wanted: Wanted, measure: Measure): Promise<Figure[]> {
  const { share } = wanted;
  const names = namesOf(wanted);
  const brake = new Brake();
  const between = (port: number) => brake.before(port);
  const sizes = { redisBytesMax: REDIS_BYTES_MAX, between };
  try {
    const bytesPerItem = await owning(sizes, (own) => itemBytes(own, options, brake, measure));
    const bytesPerSecond = names.length * share * bytesPerItem;
    const settings = {
      // Listed without a rate: known by name, and of one weight.
      SLUICE_TENANTS: JSON.stringify(names.map((name) => ({ name }))),
      SLUICE_TENANTS_HEADER: HEADER,
      SLUICE_QUEUE_BYTES_MAX: String(Math.round(bytesPerSecond * QUEUE_SECONDS)),
    };
    return await owning({ ...sizes, settings }, (own) => {
      brake.slow(bytesPerSecond, 0);
      return compared(own, options, wanted, PRESS_SECONDS);
    });
  } finally {
    brake.close();
  }
}

/** Of one span in a request as they are sent here, through the proxy. */
async function itemBytes({ gateway, server }: Own, options: BenchOptions, brake: Brake, measure: Measure) {
  const fromBytes = brake.bytes;
  const { acknowledged } = await measure({
    signals: ['traces'],
    protocol: 'http-protobuf',
    targets: [gateway.target],
    requestItems: options.requestItems ?? REQUEST_ITEMS,
    itemsMax: TRIAL_ITEMS,
    seconds: TRIAL_SECONDS,
    clickhouse: server.url,
    pids: [],
    freshnessMs: 0,
  });
  return (brake.bytes - fromBytes) / acknowledged.items;
}

/** First without the greedy one, then with it. @param pressSeconds until it counts what it does */
async function compared(
  { gateway }: Own, options: BenchOptions, wanted: Wanted, pressSeconds: number,
): Promise<Figure[]> {
  const { share } = wanted;
  const others = namesOf(wanted)
    .filter((name) => name !== GREEDY)
    .map((name) => client(gateway.target, options, name, CONNECTIONS));
  const greedy = client(gateway.target, options, GREEDY, GREEDY_CONNECTIONS);
  const round = async (seconds: number): Promise<Others> => {
    await Promise.all(others.map((one) => one.run(share * MODEST, seconds)));
    return summed(others.map((one) => one.take()));
  };
  try {
    await round(SETTLE_SECONDS);
    const alone = await round(options.seconds);
    const greed = greedy.run(share * GREED, pressSeconds + options.seconds);
    await round(pressSeconds);
    const pressing = greedy.take();
    const beside = await round(options.seconds);
    await greed;
    return figuresOf(alone, beside, greedy.take(), pressing, options.seconds);
  } finally {
    for (const one of [...others, greedy]) one.close();
  }
}

function namesOf({ tenants }: Wanted): string[] {
  return [...Array.from({ length: tenants }, (_, i) => `modest-${i}`), GREEDY];
}

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

function figuresOf(
  alone: Others, beside: Others, greedy: OfferedCounts, pressing: OfferedCounts, seconds: number,
): Figure[] {
  const taken = ({ accepted, offered }: Others) => (accepted / offered) * 100;
  const refused = greedy.delayed + greedy.undelayed + greedy.final;
  return [
    { ...NONE, name: 'the greedy one: offered', value: greedy.offered / seconds, unit: 'requests/s' },
    { ...NONE, name: 'the greedy one: accepted', value: greedy.acceptedItems / seconds, unit: 'items/s' },
    // Nobody is kept back: the claim would mean nothing.
    { ...NONE, name: 'the greedy one: refused', value: refused / seconds, unit: 'requests/s', better: 'more', must: 1 },
    { ...NONE, name: 'the greedy one: refused before', value: pressing.delayed, unit: 'requests' },
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
