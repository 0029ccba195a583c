/**
 * Claim: a thousand clients come back after an outage, each with what it had to keep: they are spread over
 * time, and nobody is pushed back any more (level 0) within twice the time that the backlog takes at full
 * rate. The clients are collectors (test/support/collector-client.ts): half of them over gRPC, half over HTTP.
 * Redis stands still for --outage seconds. Starts everything itself.
 */
import { sleep } from '../../src/base/clock.ts';
import { Installation } from '../installation.ts';
import { type Figure, runClaim } from './claim.ts';
import { Fleet, REQUEST_ITEMS } from './fleet.ts';
import { numberOf } from './numbers.ts';

const CLIENTS = 1000;
const BEST_SECONDS = 10;
const BEFORE_SECONDS = 10;
/** Of the best rate: there has to be room for a backlog to become less. */
const LOAD = 0.3;
const TIMES_MAX = 2;
/** Nobody waits for longer than that, whatever the figures are. */
const RETURN_SECONDS_MAX = 1_800;
const NONE = { better: 'less', must: undefined, aim: undefined } as const;

await runClaim({
  name: 'stampede',
  description: 'A thousand collectors after an outage; starts everything itself.',
  extend: (command) =>
    command
      .option('--outage <s>', 'how long Redis stands still', numberOf, 120)
      .option('--clients <n>', 'collectors', numberOf, CLIENTS),
  body: async (options, measure, command) => {
    const { outage, clients } = command.opts<{ outage: number; clients: number }>();
    const sizes = { redisBytesMax: 2 ** 30, clickhouses: 1, gateways: 1, writers: 1 };
    const installation = await Installation.start(sizes);
    const [gateway] = installation.gateways;
    if (gateway === undefined) throw new Error('there is one');
    const fleet = new Fleet(gateway, clients, options.seed, options.timeoutMs);
    try {
      const { itemsPerSecond: best } = await measure({
        signals: ['traces'],
        protocol: 'http-protobuf',
        targets: [gateway.target],
        seconds: BEST_SECONDS,
        clickhouse: installation.clickhouses[0]?.url,
        pids: [],
        freshnessMs: 0,
      });
      fleet.begin((best * LOAD) / REQUEST_ITEMS);
      await sleep(BEFORE_SECONDS * 1000);
      process.kill(installation.redisPid, 'SIGSTOP');
      await sleep(outage * 1000);
      process.kill(installation.redisPid, 'SIGCONT');
      const backlog = fleet.waiting * REQUEST_ITEMS;
      fleet.mark();
      const seconds = await fleet.untilCalm(gateway, RETURN_SECONDS_MAX);
      fleet.stop();
      process.stderr.write(`requests that arrived, in each second after the outage:\n${fleet.spread().join(' ')}\n`);
      return figuresOf(fleet, { best, backlog, seconds });
    } finally {
      process.kill(installation.redisPid, 'SIGCONT');
      fleet.close();
      await installation.stop();
    }
  },
});

function figuresOf(fleet: Fleet, { best, backlog, seconds }: Record<'best' | 'backlog' | 'seconds', number>) {
  const needed = backlog / best;
  const spread = fleet.spread();
  const mean = spread.reduce((sum, requests) => sum + requests, 0) / spread.length;
  const lost = fleet.count('droppedForGood') + fleet.count('droppedLate');
  return [
    { ...NONE, name: 'full rate', value: best, unit: 'items/s' },
    { ...NONE, name: 'backlog', value: backlog, unit: 'items' },
    { ...NONE, name: 'at full rate that takes', value: needed, unit: 's' },
    { ...NONE, name: 'until level 0', value: seconds, unit: 's', must: TIMES_MAX * needed },
    { ...NONE, name: 'requests in the busiest second', value: Math.max(...spread) / mean, unit: 'times the mean' },
    { ...NONE, name: 'tries that were refused', value: fleet.count('retried'), unit: 'requests' },
    { ...NONE, name: 'given up by the clients', value: lost, unit: 'requests', must: 0 },
    { ...NONE, name: 'found no room in the clients', value: fleet.count('refused'), unit: 'requests', must: 0 },
  ] satisfies Figure[];
}
