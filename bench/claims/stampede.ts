/**
 * Claim: a thousand clients come back after an outage, each with what it had to keep: they are spread over
 * time, and nobody is pushed back any more (level 0) within twice the time that the backlog takes at full
 * rate. The clients are collectors (test/support/collector-client.ts): half of them over gRPC, half over HTTP.
 * ClickHouse is away for --outage seconds, while Redis has room for a part of what comes in that time: after
 * that the collectors are refused. Starts everything itself.
 */
import { sleep, tickMs } from '../../src/base/clock.ts';
import type { BenchOptions } from '../options.ts';
import { auditFigures, auditOf } from './parts/audit.ts';
import { type Figure, type Measure, runClaim } from './claim.ts';
import { Fleet, REQUEST_ITEMS } from './parts/fleet.ts';
import { numberOf } from './parts/numbers.ts';
import { type Own, owning, until, within } from './parts/own.ts';

const CLIENTS = 1000;
const REDIS_BYTES_MAX = 2 ** 30;
const BEST_SECONDS = 10;
const BEST_CONNECTIONS = 32;
const BEFORE_SECONDS = 10;
/** Of the best rate: there has to be room for a backlog to become less. */
const LOAD = 0.3;
/** Of the outage: afterwards the queue is full. It is approached ever slower. */
const FILL_PART = 0.3;
/** What an item takes in the queue: a span of the corpus, compressed. */
const QUEUE_ITEM_BYTES = 80;
const QUEUE_BYTES_MIN = 4 * 2 ** 20;
const TIMES_MAX = 2;
const START_MS_MAX = 60_000;
const METRICS_MS_MAX = 10_000;
const LOOK_MS = 250;
const TELL_MS = 5_000;
/** For so long nobody is pushed back, and it counts as over. */
const CALM_MS = 5_000;
/** Of the outage: nobody waits for longer, whatever the figures are. */
const RETURN_TIMES_MAX = 10;
const RETURN_SECONDS_MIN = 120;
/** Collectors wait for 45 s at most between two tries. */
const FLUSH_MS_MAX = 180_000;
const NONE = { better: 'less', must: undefined, aim: undefined } as const;

interface Return {
  /** Of the outage's end: items that wait in the queue and in the clients. */
  readonly backlog: number;
  /** The queue then, of what it may be. */
  readonly queuePercent: number;
  /** Tries that were refused while ClickHouse was away. */
  readonly refused: number;
  /** Until nobody was pushed back any more. */
  readonly seconds: number;
  /** Until the clients kept no more than usual. */
  readonly calmSeconds: number;
}

await runClaim({
  name: 'stampede',
  description: 'A thousand collectors after an outage; starts everything itself.',
  extend: (command) =>
    command
      .option('--outage <s>', 'how long ClickHouse is away', numberOf, 120)
      .option('--clients <n>', 'collectors', numberOf, CLIENTS),
  body: async (options, measure, command) => {
    const { outage, clients } = command.opts<{ outage: number; clients: number }>();
    const sizes = { redisBytesMax: REDIS_BYTES_MAX };
    const best = await owning(sizes, (own) => bestRate(own, measure));
    const queueBytes = Math.max(QUEUE_BYTES_MIN, Math.round(best * LOAD * outage * FILL_PART * QUEUE_ITEM_BYTES));
    const settings = { SLUICE_QUEUE_BYTES_MAX: String(queueBytes) };
    return owning({ ...sizes, settings }, async (own) => {
      const fleet = new Fleet(own.gateway, clients, options.seed, options.timeoutMs);
      try {
        return await stampede(own, fleet, options, { best, outage, queueBytes });
      } finally {
        fleet.close();
      }
    });
  },
});

/** What is taken in and written, all of it, items a second. */
async function bestRate({ gateway, server }: Own, measure: Measure): Promise<number> {
  const report = await measure({
    signals: ['traces'],
    protocol: 'http-protobuf',
    targets: [gateway.target],
    connections: BEST_CONNECTIONS,
    requestItems: REQUEST_ITEMS,
    seconds: BEST_SECONDS,
    clickhouse: server.url,
    pids: [],
    freshnessMs: 0,
  });
  return report.storage?.itemsPerSecond ?? report.itemsPerSecond;
}

async function stampede(
  own: Own,
  fleet: Fleet,
  options: BenchOptions,
  { best, outage, queueBytes }: Readonly<Record<'best' | 'outage' | 'queueBytes', number>>,
): Promise<Figure[]> {
  const { server } = own;
  fleet.begin((best * LOAD) / REQUEST_ITEMS);
  tell(`${Math.round(best)} items/s are the best; ${Math.round(best * LOAD)} are sent`);
  await sleep(BEFORE_SECONDS * 1000);
  const retriedBefore = fleet.count('retried');
  await within('the end of ClickHouse', START_MS_MAX, server.kill());
  tell(`ClickHouse is away for ${outage} s; the queue may be ${queueBytes} bytes`);
  await sleep(outage * 1000);
  const refused = fleet.count('retried') - retriedBefore;
  await within('the start of ClickHouse', START_MS_MAX, server.start());
  const queueItems = await figure(own, 'queue_items');
  const queuePercent = ((await figure(own, 'queue_bytes')) / queueBytes) * 100;
  const backlog = fleet.waiting * REQUEST_ITEMS + queueItems;
  tell(`ClickHouse is back; ${backlog} items wait, ${queueItems} of them in the queue`);
  fleet.mark();
  const times = await untilCalm(own, fleet, Math.max(RETURN_SECONDS_MIN, RETURN_TIMES_MAX * outage));
  const spread = fleet.spread();
  process.stderr.write(`requests that arrived, in each second after the outage:\n${spread.join(' ')}\n`);
  fleet.stop();
  await until('the collectors to keep nothing', FLUSH_MS_MAX, () => fleet.waiting === 0);
  const audit = await auditOf(fleet, server.url, options.database, Math.max(options.waitMs, FLUSH_MS_MAX));
  return [
    ...figuresOf(fleet, best, spread, { backlog, queuePercent, refused, ...times }),
    ...auditFigures('', audit),
  ];
}

/** Until nobody is pushed back for a while and the clients keep no more than usual, or the time is over. */
async function untilCalm(own: Own, fleet: Fleet, secondsMax: number) {
  const fromMs = tickMs();
  let [levelMs, keptMs, toldMs] = [0, 0, 0];
  for (;;) {
    const level = await figure(own, 'backpressure_level');
    const ms = tickMs() - fromMs;
    if (level > 0) levelMs = ms;
    if (fleet.waiting >= fleet.clients.length) keptMs = ms;
    const isCalm = ms - Math.max(levelMs, keptMs) > CALM_MS;
    if (isCalm || ms > secondsMax * 1000) return { seconds: levelMs / 1000, calmSeconds: keptMs / 1000 };
    if (ms - toldMs > TELL_MS) {
      toldMs = ms;
      tell(`${Math.round(ms / 1000)} s: level ${level}, the clients keep ${fleet.waiting} requests`);
    }
    await sleep(LOOK_MS);
  }
}

function figure({ gateway }: Own, name: string): Promise<number> {
  return within(`the gateway's ${name}`, METRICS_MS_MAX, gateway.metric(name));
}

function tell(text: string): void {
  process.stderr.write(`${text}\n`);
}

function figuresOf(fleet: Fleet, best: number, spread: readonly number[], back: Return): Figure[] {
  const needed = back.backlog / best;
  const mean = spread.reduce((sum, requests) => sum + requests, 0) / Math.max(1, spread.length);
  const lost = fleet.count('droppedForGood') + fleet.count('droppedLate');
  return [
    { ...NONE, name: 'full rate', value: best, unit: 'items/s' },
    { ...NONE, name: 'the queue when ClickHouse is back', value: back.queuePercent, unit: '% of its bound' },
    // Without that nobody would come back: the queue is too large for the outage.
    { ...NONE, name: 'refused during the outage', value: back.refused, unit: 'tries', better: 'more', must: 1 },
    { ...NONE, name: 'backlog', value: back.backlog, unit: 'items' },
    { ...NONE, name: 'at full rate that takes', value: needed, unit: 's' },
    { ...NONE, name: 'until level 0 for good', value: back.seconds, unit: 's', must: TIMES_MAX * needed },
    { ...NONE, name: 'until the clients keep no more than usual', value: back.calmSeconds, unit: 's' },
    { ...NONE, name: 'requests in the busiest second', value: Math.max(...spread) / mean, unit: 'times the mean' },
    { ...NONE, name: 'tries that were refused, all in all', value: fleet.count('retried'), unit: 'tries' },
    { ...NONE, name: 'given up by the clients', value: lost, unit: 'requests', must: 0 },
    { ...NONE, name: 'found no room in the clients', value: fleet.count('refused'), unit: 'requests', must: 0 },
  ];
}
