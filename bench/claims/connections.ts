/**
 * Claim: 10,000 connections that are hardly used and 500 busy ones on one gateway: what the idle ones cost in
 * memory and CPU, and how fast the busy ones are answered beside them. Idle are mostly sessions of gRPC, with
 * a PING now and then, as collectors keep them; and connections of HTTP, which send a span every few seconds,
 * since they are cut after 8 s without a request and opened again. Starts everything itself.
 */
import { sleep } from '../../src/base/clock.ts';
import type { Member } from '../installation.ts';
import { ProcessWatch } from '../measure/processes.ts';
import type { BenchOptions } from '../options.ts';
import { type Figure, runClaim } from './claim.ts';
import { numberOf } from './parts/numbers.ts';
import { Offered } from './parts/offered.ts';
import { owning, within } from './parts/own.ts';
import { Sleepers } from './parts/sleepers.ts';

const REDIS_BYTES_MAX = 2 ** 28;
const BUSY_REQUEST_ITEMS = 50;
/** Of one busy connection. */
const REQUESTS_PER_SECOND = 1;
const SETTLE_MS = 3_000;
const OPEN_MS_MAX = 180_000;
const P99_MS_MAX = 500;
const NONE = { better: 'less', must: undefined, aim: undefined } as const;

await runClaim({
  name: 'connections',
  description: '10,000 idle and 500 busy connections on one gateway; starts everything itself.',
  extend: (command) =>
    command.option('--idle <n>', 'connections', numberOf, 10_000).option('--busy <n>', 'connections', numberOf, 500),
  body: async (options, _measure, command) => {
    const { idle, busy } = command.opts<{ idle: number; busy: number }>();
    const settings = { SLUICE_RECEIVE_CONNECTIONS_MAX: '20000' };
    return owning({ redisBytesMax: REDIS_BYTES_MAX, settings }, async ({ gateway }) => {
      return beside(gateway, options, idle, busy);
    });
  },
});

async function beside(gateway: Member, options: BenchOptions, idle: number, busy: number): Promise<Figure[]> {
  const watch = () => new ProcessWatch([{ role: 'gateway', pid: gateway.pid }]);
  const load = new Offered({
    target: gateway.target,
    protocol: 'http-protobuf',
    connections: busy,
    requestItems: options.requestItems ?? BUSY_REQUEST_ITEMS,
    seed: options.seed,
    timeoutMs: options.timeoutMs,
    honour: true,
  });
  const sleepers = new Sleepers(gateway, options.timeoutMs);
  try {
    const rate = busy * REQUESTS_PER_SECOND * (options.requestItems ?? BUSY_REQUEST_ITEMS);
    await load.run(rate, SETTLE_MS / 1000);
    const few = await measured(load, rate, options.seconds, watch());
    const empty = watch();
    await sleep(options.seconds * 1000);
    empty.sample();
    const [{ cpuSeconds: emptyCpuSeconds } = { cpuSeconds: Number.NaN }] = empty.figures();
    await within(`${idle} connections`, OPEN_MS_MAX, sleepers.open(idle));
    await sleep(SETTLE_MS);
    const quiet = watch();
    await sleep(options.seconds * 1000);
    quiet.sample();
    const [{ cpuSeconds, rssBytesEnd } = { cpuSeconds: Number.NaN, rssBytesEnd: Number.NaN }] = quiet.figures();
    const open = await gateway.metric('connections');
    const many = await measured(load, rate, options.seconds, watch());
    const rssBytes = rssBytesEnd - few.rssBytes;
    const cpuPercent = ((cpuSeconds - emptyCpuSeconds) / options.seconds) * 100;
    return [
      { ...NONE, name: 'connections', value: open, unit: 'open', better: 'more', must: idle * 0.95 },
      { ...NONE, name: 'memory of idle ones', value: rssBytes / idle / 1024, unit: 'KiB each' },
      { ...NONE, name: 'CPU of idle ones', value: cpuPercent, unit: '% of a core' },
      { ...NONE, name: 'idle ones that were cut', value: sleepers.cut, unit: 'connections' },
      { ...NONE, name: 'busy alone: acknowledged after', value: few.p99, unit: 'ms p99' },
      { ...NONE, name: 'busy beside: acknowledged after', value: many.p99, unit: 'ms p99', must: P99_MS_MAX },
      { ...NONE, name: 'busy beside: not accepted', value: many.failed, unit: 'requests', must: 0 },
    ] satisfies Figure[];
  } finally {
    sleepers.close();
    load.close();
  }
}

async function measured(load: Offered, rate: number, seconds: number, watch: ProcessWatch) {
  load.take();
  await load.run(rate, seconds);
  const counts = load.take();
  watch.sample();
  const failed = counts.delayed + counts.undelayed + counts.final + counts.unanswered;
  return { p99: counts.latency.summary().p99, failed, rssBytes: watch.figures()[0]?.rssBytesEnd ?? 0 };
}
