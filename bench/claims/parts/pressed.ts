/**
 * An installation under more load than it can take, and what has to hold then: what overload.ts and
 * slow-clickhouse.ts have in common.
 */
import { sleep, tickMs } from '../../../src/base/clock.ts';
import type { Installation } from '../../installation.ts';
import { ProcessWatch } from '../../measure/processes.ts';
import type { BenchOptions } from '../../options.ts';
import { auditFigures } from './audit.ts';
import type { Figure } from '../claim.ts';
import { Offered, type OfferedCounts } from './offered.ts';

/** Of what can be taken. */
export const OVERLOAD = 3;
const REQUEST_ITEMS = 200;
const CONNECTIONS = 512;
/** Of the best rate: more than that may be missing of it. */
const ACCEPTED_PERCENT_MIN = 90;
const P99_MS_MAX = 500;
/** The last quarter's memory against the second's: the first is for getting there. */
const GROWTH_PERCENT_MAX = 10;
const NONE = { better: 'less', must: undefined, aim: undefined } as const;

export interface Pressed {
  readonly seconds: number;
  /** Items a second that the installation can take for ever. */
  readonly best: number;
  /** Whether refused clients wait as they are told to. */
  readonly honour: boolean;
  /** Of the gateway's resident memory. */
  readonly rssBytesMax: number;
  /** Seconds before the rate counts: what is in reserve (Redis' room) is used up first. */
  readonly settleSeconds: number;
  /** Of the best rate: more can't be accepted, or the load hasn't used up what is in reserve. */
  readonly acceptedPercentMax?: number;
  /** Called when the load is over, before what is stored is counted. */
  readonly relieve?: () => void;
}

/** Three times as much as it can take, and what became of it. */
export async function pressed(installation: Installation, options: BenchOptions, how: Pressed): Promise<Figure[]> {
  const [gateway] = installation.gateways;
  const [server] = installation.clickhouses;
  if (gateway === undefined || server === undefined) throw new Error('there is one of each');
  const offered = new Offered({
    target: options.protocol === 'grpc' ? gateway.grpcTarget : gateway.target,
    protocol: options.protocol === 'grpc' ? 'grpc' : 'http-protobuf',
    connections: CONNECTIONS,
    requestItems: options.requestItems ?? REQUEST_ITEMS,
    seed: options.seed,
    timeoutMs: options.timeoutMs,
    honour: how.honour,
  });
  try {
    const rate = OVERLOAD * how.best;
    await offered.run(rate, how.settleSeconds);
    const settling = offered.take();
    const watch = new ProcessWatch([{ role: 'gateway', pid: gateway.pid }]);
    const rss: number[] = [];
    const fromMs = tickMs();
    let over = false;
    const running = offered.run(rate, how.seconds).finally(() => {
      over = true;
    });
    while (!over) {
      watch.sample();
      rss.push(watch.rssBytes(() => true));
      await Promise.race([sleep(1000), running]);
    }
    await running;
    const seconds = (tickMs() - fromMs) / 1000;
    const counts = offered.take();
    how.relieve?.();
    const audit = await offered.audit(server.url, options.database, Math.max(options.waitMs, 300_000));
    const name = how.honour ? 'delays honoured' : 'delays ignored';
    return [
      ...rateFigures(name, counts, seconds, how),
      ...refusalFigures(name, counts, settling),
      ...memoryFigures(name, rss, how.rssBytesMax),
      ...auditFigures(`${name}: `, audit),
    ];
  } finally {
    offered.close();
  }
}

function rateFigures(name: string, counts: OfferedCounts, seconds: number, how: Pressed): Figure[] {
  const { best, acceptedPercentMax } = how;
  const requestItems = counts.acceptedItems / Math.max(1, counts.accepted);
  const accepted = counts.acceptedItems / seconds;
  const percent = (accepted / best) * 100;
  return [
    { ...NONE, name: `${name}: offered`, value: (counts.offered / seconds) * requestItems, unit: 'items/s' },
    { ...NONE, name: `${name}: sent`, value: (counts.sent / seconds) * requestItems, unit: 'items/s' },
    { ...NONE, name: `${name}: accepted`, value: accepted, unit: 'items/s' },
    {
      ...NONE, name: `${name}: accepted of the best`, value: percent, unit: '%', better: 'more',
      must: ACCEPTED_PERCENT_MIN,
    },
    ...(acceptedPercentMax === undefined
      ? []
      : [{ ...NONE, name: `${name}: no more than that`, value: percent, unit: '%', must: acceptedPercentMax }]),
    {
      ...NONE, name: `${name}: acknowledged after`, value: counts.latency.summary().p99, unit: 'ms p99',
      must: P99_MS_MAX,
    },
  ];
}

function refusalFigures(name: string, ...parts: readonly OfferedCounts[]): Figure[] {
  const sum = (of: (counts: OfferedCounts) => number) => parts.reduce((total, counts) => total + of(counts), 0);
  return [
    { ...NONE, name: `${name}: told when to come back`, value: sum(({ delayed }) => delayed), unit: 'answers' },
    { ...NONE, name: `${name}: not told when`, value: sum(({ undelayed }) => undelayed), unit: 'answers', must: 0 },
    { ...NONE, name: `${name}: refused for good`, value: sum(({ final }) => final), unit: 'answers', must: 0 },
    { ...NONE, name: `${name}: unanswered`, value: sum(({ unanswered }) => unanswered), unit: 'requests', must: 0 },
  ];
}

function memoryFigures(name: string, rss: readonly number[], rssBytesMax: number): Figure[] {
  const quarter = (index: number) => {
    const part = rss.slice(Math.floor((rss.length * index) / 4), Math.ceil((rss.length * (index + 1)) / 4));
    return part.reduce((sum, bytes) => sum + bytes, 0) / Math.max(1, part.length);
  };
  const quarters = [0, 1, 2, 3].map((index) => ({
    ...NONE, name: `${name}: RSS of the gateway, quarter ${index + 1}`, value: quarter(index) / 1e6, unit: 'MB',
  }));
  const growth = (quarter(3) / quarter(1) - 1) * 100;
  return [
    ...quarters,
    { ...NONE, name: `${name}: RSS at most`, value: Math.max(...rss) / 1e6, unit: 'MB', must: rssBytesMax / 1e6 },
    { ...NONE, name: `${name}: RSS grows`, value: growth, unit: '%', must: GROWTH_PERCENT_MAX },
  ];
}
